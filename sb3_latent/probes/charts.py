"""What probes found, as a chart."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sb3_latent.figures import FAINT, INK, PALETTE, Picture, to_picture
from sb3_latent.probes.report import Report, Source

_PROBES = {"linear": (PALETTE[0], "linear probe"), "mlp": (PALETTE[5], "MLP probe")}
# Told apart by shape, not by colour.
_FLOORS: dict[Source, tuple[str, str]] = {
    "random": ("D", "floor: fresh weights"),
    "pca": ("s", "floor: pixels through PCA"),
    "constant": ("|", "floor: constant guess"),
}
_METRICS = {"r2": "R²", "f1": "F1"}

_LOWEST = -0.25
"""R^2 has no lower end, and a probe below this one is as bad as one at it."""


def probe_bars(report: Report, path: str | Path | None = None, *, title: str = "") -> Picture:
    """
    A bar for each variable and probe, R^2 of numbers and F1 of categories, with its 95 % interval and its floors. Bars of
    variables that are at the floor (:meth:`Report.at_floor`) are hatched.

    :param report: of probes.
    :param path: PNG file to write; None writes none.
    :param title: heading; empty draws none.
    :return: the chart, (height, width, 3).
    """
    probes = [name for name in _PROBES if any(score.probe == name for score in report.scores)]
    n_bars = len(report.variables) * len(probes)
    figure = Figure(figsize=(9, 1.4 + 0.3 * n_bars + 0.15 * len(report.variables)), dpi=150, facecolor="white")
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    thickness = 0.8 / len(probes)
    for index, probe in enumerate(probes):
        rows = np.arange(len(report.variables)) - 0.4 + (index + 0.5) * thickness
        _draw(axes, report, probe, rows, 0.8 * thickness)
    names = [f"{name} ({_METRICS[report.score(name, probes[0]).metric]})" for name in report.variables]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    ends = [score.low if score.source == "model" else score.value for score in report.scores]
    axes.set_xlim(min(0.0, max(_LOWEST, np.nanmin(ends))) - 0.02, 1.02)
    axes.set_xlabel("score on episodes never seen (1 is perfect), with its 95 % interval", color=INK)
    axes.set_title(title, loc="left", color=INK, weight="bold")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(color=FAINT, labelcolor=INK, left=False)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    _legend(figure, axes)
    return to_picture(figure, path)


def _draw(axes: Axes, report: Report, probe: str, rows: npt.NDArray[np.floating], thickness: float) -> None:
    color, label = _PROBES[probe]
    scores = [report.score(name, probe) for name in report.variables]
    bars: BarContainer = axes.barh(rows, [score.value for score in scores], thickness, color=color)
    # A handle of its own for the legend, for the first bar may be hatched.
    axes.fill_between([], [], color=color, label=label)
    for bar, score in zip(bars, scores, strict=True):
        if score.variable in report.at_floor(probe=probe):
            bar.set(facecolor="white", edgecolor=color, hatch="////")
    axes.hlines(rows, [score.low for score in scores], [score.high for score in scores], color=INK, linewidth=2)
    for floor, (marker, floor_label) in _FLOORS.items():
        if any(score.source == floor for score in report.scores):
            values = [report.score(name, probe, floor).value for name in report.variables]
            line = axes.plot(values, rows, marker, color=INK, markerfacecolor="white", label=floor_label, markersize=5)[0]
            if floor == "constant":
                line.set(markersize=12, markeredgewidth=2)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    named: dict[str, Artist] = {"at the floor of a constant guess": Patch(facecolor="white", edgecolor=INK, hatch="////")}
    named |= dict(zip(labels, handles, strict=True))
    order = sorted(named, key=lambda label: label.startswith("floor"))
    figure.legend(
        [named[label] for label in order], order, loc="outside lower left", ncols=2, frameon=False, labelcolor=INK, fontsize=9
    )
