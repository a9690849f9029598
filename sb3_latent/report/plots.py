"""Charts of one thing each: an episode, its latents, probes, final returns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly has no types

from sb3_latent.report.charts import MARGIN, Chart, Floats, Line, Look, figure_of, line_trace

_GREY = "#8a8f94"
_SYMBOLS = ("diamond-open", "x-thin-open", "line-ns-open")


def trajectory(title: str, points: Floats, explained: Floats, note: str = "") -> Chart:
    """
    :param title: what is drawn.
    :param points: (T, 2), in the order of time.
    :param explained: (2,), shares of the variance.
    :param note: small print.
    :return: the chart: a way, coloured by time, with its start and its end marked.
    """
    points = points.astype(np.float32)
    time = np.arange(len(points), dtype=np.int32)
    way = go.Scatter(
        x=points[:, 0],
        y=points[:, 1],
        mode="lines+markers",
        line={"color": _GREY, "width": 0.6},
        marker={
            "color": time,
            "colorscale": "Cividis",
            "size": 6,
            "colorbar": {"title": {"text": "step", "side": "right"}, "thickness": 10, "outlinewidth": 0},
        },
        customdata=time,
        hovertemplate="step %{customdata}<extra></extra>",
    )
    ends = go.Scatter(
        x=points[[0, -1], 0],
        y=points[[0, -1], 1],
        mode="text",
        text=["start", "end"],
        textposition="top center",
        hoverinfo="skip",
    )
    axes = [{"title": {"text": f"component {i + 1}, {100 * explained[i]:.0f} % of the variance"}} for i in range(2)]
    layout = {"height": 380, "xaxis": axes[0], "yaxis": axes[1]}
    summary = f"{title}: {len(points)} moments on two components that hold {100 * explained.sum():.0f} % of the variance."
    return Chart(title, figure_of([way, ends], layout), summary, note, size="square")


def episode_chart(title: str, steps: npt.NDArray[np.int64], values: Floats | None, rewards: Floats, look: Look) -> Chart:
    """
    :param title: what is drawn.
    :param steps: (T,) of the episode.
    :param values: (T,), what the agent expected; None where it learns no value.
    :param rewards: (T,).
    :param look: of the run.
    :return: value as a line and rewards as bars below it, with a mark that the page moves.
    """
    traces = [go.Bar(x=steps, y=rewards.astype(np.float32), marker={"color": _GREY}, name="reward", yaxis="y2")]
    if values is not None:
        traces.append(line_trace(Line("value", "value", steps, values), {"width": 2, "color": look.colour}, 1.0))
    mark = {
        "type": "line",
        "x0": int(steps[0]),
        "x1": int(steps[0]),
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"width": 1.5},
    }
    layout = {
        "height": 240,
        "xaxis": {"title": {"text": "step of the episode"}, "anchor": "y2"},
        "yaxis": {"title": {"text": "value"}, "domain": [0.42, 1], "visible": values is not None},
        "yaxis2": {"title": {"text": "reward"}, "domain": [0, 0.3], "range": _with_zero(rewards), "nticks": 4},
        "shapes": [mark],
        "bargap": 0,
    }
    known = "" if values is None else f"value from {values.min():.3g} to {values.max():.3g}; "
    return Chart(title, figure_of(traces, layout), f"{title}: {known}rewards sum to {rewards.sum():.4g}.", size="wide")


def bars(
    title: str,
    rows: Sequence[tuple[str, str, float, float, float]],
    floors: dict[str, dict[str, float]],
    looks: dict[str, Look],
    xlabel: str,
    note: str = "",
) -> Chart:
    """
    :param title: what is drawn.
    :param rows: variable, label, value, lower and upper end of its interval (nan where there is none).
    :param floors: name -> variable -> what a representation that knows nothing gets.
    :param looks: by label.
    :param xlabel: what the values are.
    :param note: small print.
    :return: a bar for each variable and label, with its interval and the floors as marks.
    """
    variables = list(dict.fromkeys(row[0] for row in rows))[::-1]
    labels = list(dict.fromkeys(row[1] for row in rows))
    traces: list[Any] = []
    # Plotly stacks the bars of a group from below.
    for rank, label in reversed(list(enumerate(labels))):
        own = [row for row in rows if row[1] == label]
        value, low, high = (np.array([row[i] for row in own], np.float64) for i in (2, 3, 4))
        traces.append(
            go.Bar(
                y=[row[0] for row in own],
                x=value,
                orientation="h",
                name=label,
                legendrank=rank,
                marker={"color": looks[label].colour, "opacity": 0.8},
                error_x={"type": "data", "array": high - value, "arrayminus": value - low, "width": 4, "thickness": 1.5},
                hovertemplate="%{y}: %{x:.3f}<extra>" + label + "</extra>",
            )
        )
    for (name, known), symbol in zip(floors.items(), _SYMBOLS, strict=False):
        traces.append(
            go.Scatter(
                y=list(known),
                x=list(known.values()),
                mode="markers",
                name=name,
                legendrank=1000,
                marker={"symbol": symbol, "size": 11, "color": _GREY, "line": {"width": 2}},
                hovertemplate="%{y}: %{x:.3f}<extra>" + name + "</extra>",
            )
        )
    layout = {
        "height": 90 + len(variables) * (14 + 22 * len(labels)),
        "xaxis": {"title": {"text": xlabel}, "range": [min(0.0, *(row[2] for row in rows)), 1.02]},
        "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": variables, "automargin": True},
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
        "margin": {**MARGIN, "t": 36, "b": 40},
    }
    said = "; ".join(f"{variable}, {label}: {value:.2f}" for variable, label, value, *_ in rows)
    return Chart(title, figure_of(traces, layout), f"{title}: {said}.", note, size="wide")


def intervals(
    title: str, rows: Sequence[tuple[str, float, float, float]], scores: dict[str, list[float]], looks: dict[str, Look]
) -> Chart:
    """
    :param title: what is drawn.
    :param rows: label, aggregate, lower and upper end of its interval (nan where there is none).
    :param scores: label -> one of each run.
    :param looks: by label.
    :return: intervals below each other, the runs as small circles.
    """
    traces = []
    for label, value, low, high in rows:
        marker = {"color": looks[label].colour, "size": 12, "symbol": "line-ns-open", "line": {"width": 3}}
        if np.isfinite(low):
            traces.append(
                go.Scatter(
                    x=[low, high], y=[label, label], mode="lines", line={"color": looks[label].colour, "width": 9}, opacity=0.3
                )
            )
        circle = {"symbol": "circle-open", "color": looks[label].colour, "size": 7}
        own = scores[label]
        traces.append(go.Scatter(x=own, y=[label] * len(own), mode="markers", marker=circle, name="runs"))
        traces.append(go.Scatter(x=[value], y=[label], mode="markers", marker=marker, name="interquartile mean"))
    labels = [row[0] for row in rows][::-1]
    layout = {
        "height": 90 + 34 * len(rows),
        "xaxis": {"title": {"text": "return"}},
        "yaxis": {
            "type": "category",
            "categoryarray": labels,
            "categoryorder": "array",
            "range": [-0.6, len(rows) - 0.4],
        },
    }
    said = "; ".join(f"{label}: {value:.3g}" for label, value, *_ in rows)
    return Chart(title, figure_of(traces, layout), f"{title}: {said}.", size="wide")


def _with_zero(rewards: Floats) -> list[float]:
    low, high = min(0.0, float(rewards.min())), max(0.0, float(rewards.max()))
    return [low, high] if high > low else [0.0, 1.0]
