"""One picture of a result: bars of ratios, and the curves of how cost grows."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FormatStrFormatter, NullFormatter, NullLocator, ScalarFormatter

from benchmarks.speed.limits import LIMITS, figures
from benchmarks.speed.rows import MODEL_RATIOS
from sb3_latent.figures import INK, PALETTE, unclutter

_COLUMNS = 4
"""Of curves; bars, which have long names, are twice as wide."""


def picture(results: dict[str, Any]) -> Figure:
    """
    :param results: of a run, whole or in part.
    :return: the figure.
    """
    rows = [row for row in results.get("rows", []) if row["name"] != row["base"]]
    paths = figures({"paths": results.get("paths", ())})
    curves = results.get("scaling", {})
    bars = {f"{what}, ratio to plain SB3": {row["name"]: row["ratios"][what] for row in rows} for what in MODEL_RATIOS if rows}
    bars |= {"fast paths, ratio to going without": paths} if paths else {}
    n_lines, n_curve_lines = -(-len(bars) // 2), -(-len(curves) // _COLUMNS)
    heights = [n_lines * (0.8 + 0.22 * max(map(len, bars.values()), default=0)), n_curve_lines * 2.7]
    figure = Figure(figsize=(14, sum(heights)), dpi=110, facecolor="white", layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[height + 1e-3 for height in heights]).ravel()
    for i, (title, values) in enumerate(bars.items()):
        _bars(above.add_subplot(n_lines, 2, i + 1), title, values)
    for i, (name, curve) in enumerate(curves.items()):
        _curve(below.add_subplot(n_curve_lines, _COLUMNS, i + 1), name, curve)
    return figure


def _bars(axes: Axes, title: str, values: dict[str, float]) -> None:
    unclutter(axes)
    places = range(len(values))
    axes.barh(places, list(values.values()), color=PALETTE[0], height=0.7)
    for place, (name, value) in enumerate(values.items()):
        right = value
        if name in LIMITS:
            right = max(value, LIMITS[name].at_most)
            axes.plot([LIMITS[name].at_most] * 2, [place - 0.45, place + 0.45], color=PALETTE[1], linewidth=2)
        axes.annotate(f"{value:.2f}", (right, place), (3, 0), textcoords="offset points", va="center", color=INK, fontsize=8)
    axes.axvline(1, color=INK, linewidth=0.8, linestyle=":")
    axes.set_yticks(places, list(values), fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_title(title, loc="left", color=INK, weight="bold", fontsize=10)


def _curve(axes: Axes, name: str, curve: dict[str, Any]) -> None:
    sizes, costs, limit = curve["sizes"], curve["costs"], LIMITS[f"slope over {name}"]
    unclutter(axes)
    axes.set(xscale="log", yscale="log")
    steepest = [costs[0] * (size / sizes[0]) ** limit.at_most for size in sizes]
    axes.plot(sizes, steepest, color=PALETTE[1], linewidth=1, linestyle="--", label=f"slope {limit.at_most:g}")
    axes.plot(sizes, costs, color=PALETTE[0], marker="o", markersize=4, label=f"measured, {curve['slope']:.2f}")
    low, high = min(costs + steepest), max(costs + steepest)
    axes.set_ylim(low / 1.5, max(high * 1.5, 10 * low))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(sizes)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=8)
    axes.set_xlabel(curve["size"], color=INK, fontsize=8)
    axes.set_ylabel(curve["unit"], color=INK, fontsize=8)
    axes.set_title(curve["text"], loc="left", color=INK, weight="bold", fontsize=9)
    axes.legend(frameon=False, labelcolor=INK, fontsize=8, loc="best")
