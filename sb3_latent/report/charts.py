"""Figures of Plotly, in the look of the report. Colours of text, lines and background are the page's, which sets them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly has no types

from sb3_latent.figures import PALETTE

Floats = npt.NDArray[np.float64]

MAX_POINTS = 400
"""Of a curve: more than a chart of a page's width has pixels for. Evenly spaced, the last one among them."""

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
MARGIN = {"l": 44, "r": 8, "t": 8, "b": 24}
_HEIGHT = 190


@dataclass(frozen=True)
class Chart:
    """
    :param title: above it.
    :param figure: Plotly's JSON.
    :param summary: what a reader who sees no picture is told.
    :param note: small print below the title, e.g. the tag in TensorBoard.
    :param size: ``"small"``, beside others; ``"square"``; ``"wide"``, as the page.
    """

    title: str
    figure: dict[str, Any]
    summary: str
    note: str = ""
    size: str = "small"


@dataclass(frozen=True)
class Look:
    """
    How all that belongs to one label is drawn.

    :param colour: of the palette, told apart with any colour vision.
    :param dash: Plotly's name of a pattern, and what tells lines apart in grey.
    """

    colour: str
    dash: str

    @property
    def pattern(self) -> str:
        """:return: the same dash for SVG, in pixels."""
        return {"solid": "none", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "11 4"}[self.dash]


@dataclass(frozen=True)
class Line:
    """
    :param label: the method it belongs to.
    :param name: of the run.
    :param steps: (n,).
    :param values: (n,); those that are not finite are gaps.
    """

    label: str
    name: str
    steps: npt.NDArray[Any]
    values: Floats


def looks_of(labels: Sequence[str]) -> dict[str, Look]:
    """
    :param labels: methods, each once.
    :return: the look of each.
    """
    return {label: Look(PALETTE[index % len(PALETTE)], _DASHES[index % len(_DASHES)]) for index, label in enumerate(labels)}


def curves(title: str, lines: Sequence[Line], looks: dict[str, Look], note: str = "", xlabel: str = "") -> Chart:
    """
    :param title: what is drawn.
    :param lines: of one or several runs; runs of one label are drawn thin below the mean of them.
    :param looks: by label.
    :param note: small print.
    :param xlabel: what is counted, where it is not environment steps.
    :return: the chart.
    """
    traces, summaries = [], []
    for label in dict.fromkeys(line.label for line in lines):
        own = [line for line in lines if line.label == label]
        look, mean = looks[label], mean_of(own)
        for line in own:
            thin = {"width": 1, "color": look.colour} if mean else {"width": 2, "color": look.colour, "dash": look.dash}
            traces.append(line_trace(line, thin, 0.4 if mean else 1.0))
        if mean:
            traces.append(line_trace(mean, {"width": 2.4, "color": look.colour, "dash": look.dash}, 1.0))
        ends = [line.values[np.isfinite(line.values)] for line in ([mean] if mean else own)]
        summaries += [f"{label} from {end[0]:.3g} to {end[-1]:.3g}" for end in ends if len(end)]
    layout = {"height": _HEIGHT, "xaxis": {"title": {"text": xlabel}, "tickformat": "~s"}, "yaxis": {"tickformat": "~g"}}
    summary = f"{title} over {xlabel or 'environment steps'}: {'; '.join(summaries) or 'no finite value'}."
    return Chart(title, figure_of(traces, layout), summary, note)


def mean_of(lines: Sequence[Line]) -> Line | None:
    """
    :param lines: seeds of one method.
    :return: their mean on 200 steps that all of them reach, as ``figures.learning_curve`` has it; None of a single one, or
        where they share no step.
    """
    finite = [(line.steps[np.isfinite(line.values)], line.values[np.isfinite(line.values)]) for line in lines]
    if len(lines) < 2 or any(len(steps) == 0 for steps, _ in finite):
        return None
    start, end = max(steps[0] for steps, _ in finite), min(steps[-1] for steps, _ in finite)
    if start >= end:
        return None
    common = np.linspace(start, end, 200)
    values = np.mean([np.interp(common, steps, values) for steps, values in finite], axis=0)
    return Line(lines[0].label, f"{lines[0].label}, mean of {len(lines)}", common, values)


def heatmap(title: str, lines: Sequence[Line], unit: str, note: str = "") -> Chart:
    """
    :param title: what is drawn.
    :param lines: a row each, from the bottom, at the steps of the first.
    :param unit: of the values.
    :param note: small print.
    :return: the chart.
    """
    steps = lines[0].steps[_thinned(len(lines[0].steps))]
    rows = np.stack([np.interp(steps, line.steps, line.values) for line in lines]).astype(np.float32)
    trace = go.Heatmap(
        x=steps,
        y=[line.name for line in lines],
        z=rows,
        colorscale="Cividis",
        colorbar={"title": {"text": unit, "side": "right"}, "thickness": 10, "outlinewidth": 0},
        hovertemplate="%{y}, step %{x}: %{z:.3g}<extra></extra>",
    )
    layout = {
        "height": max(_HEIGHT, 60 + 13 * len(lines)),
        "xaxis": {"tickformat": "~s"},
        "yaxis": {"type": "category", "dtick": max(1, round(len(lines) / 12))},
    }
    largest = lines[int(np.argmax(np.nan_to_num(rows[:, -1])))]
    return Chart(title, figure_of([trace], layout), f"{title}: at the end {largest.name} is the largest.", note)


def line_trace(line: Line, style: dict[str, Any], opacity: float = 1.0) -> Any:
    """
    :param line: any.
    :param style: Plotly's of the line.
    :param opacity: of the line.
    :return: a trace of at most :data:`MAX_POINTS` points, in single precision.
    """
    kept = _thinned(len(line.steps))
    values = np.where(np.isfinite(line.values), line.values, np.nan)[kept].astype(np.float32)
    mode = "lines+markers" if len(kept) == 1 else "lines"
    steps = line.steps[kept]
    whole = steps.astype(np.int32) if np.issubdtype(steps.dtype, np.integer) and steps.max() < 2**31 else steps
    hover = "%{x}: %{y:.4g}<extra>" + line.name + "</extra>"
    return go.Scatter(x=whole, y=values, mode=mode, line=style, opacity=opacity, name=line.name, hovertemplate=hover)


def _thinned(length: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, length - 1, min(length, MAX_POINTS)).round().astype(np.int64))


def figure_of(traces: Sequence[Any], layout: dict[str, Any]) -> dict[str, Any]:
    """
    :param traces: Plotly's.
    :param layout: beside what all charts have.
    :return: Plotly's JSON.
    """
    base = {"template": "none", "margin": MARGIN, "showlegend": False, "dragmode": False}
    figure: dict[str, Any] = json.loads(go.Figure(list(traces), {**base, **layout}).to_json())
    return figure
