"""Curves and performance profiles of a suite; a picture holds the hash of its data, by which a test knows it is the newest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmarks.learn.aggregate import TAUS, chosen, intervals, points_of, profiles, score_matrix
from benchmarks.learn.results import Row
from benchmarks.suites import Suite
from sb3_latent.figures import INK, PALETTE, to_picture, unclutter
from sb3_latent.files import atomic_path

_COLUMNS = 3
_FINGERPRINT = "results"


def curves(suite: Suite, presets: Sequence[str], rows: Sequence[Row], budget: int) -> Figure:
    """
    Interquartile means of the returns and their 95 % intervals, a panel a task.

    :param suite: of the rows.
    :param presets: a line each.
    :param rows: finished runs.
    :param budget: environment steps at the right end.
    :return: the picture.
    """
    n_columns = min(_COLUMNS, len(suite.tasks))
    n_rows = -(-len(suite.tasks) // n_columns)
    figure = Figure(figsize=(3 + 4.5 * n_columns, 4 * n_rows), dpi=120, facecolor="white", layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, task in zip(panels, suite.tasks, strict=True):
        _style(axes, f"{suite.title}: {task.rpartition('/')[2]}", "environment steps", "return")
        for preset in presets:
            own = chosen(rows, suite, preset, task, budget).values()
            _curve(axes, preset, [points_of(row, budget) for row in own])
    panels[n_columns - 1].legend(frameon=False, labelcolor=INK, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def performance_profiles(suite: Suite, presets: Sequence[str], rows: Sequence[Row], budget: int) -> Figure:
    """
    The share of runs above a normalised return, with 95 % intervals.

    :param suite: of the rows.
    :param presets: a line each, where there are two seeds.
    :param rows: finished runs.
    :param budget: environment steps.
    :return: the picture.
    """
    scores = {preset: score_matrix(rows, suite, preset, budget) for preset in presets}
    figure = Figure(figsize=(8, 4), dpi=120, facecolor="white", layout="constrained")
    axes = figure.subplots()
    title = f"{suite.title}: performance profiles after {budget:,} steps"
    _style(axes, title, f"return, {suite.bounds[0]:g} to {suite.bounds[1]:g} as 0 to 1", "share of runs above")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    drawn = profiles({preset: matrix for preset, matrix in scores.items() if matrix is not None})
    for preset, (share, ends) in drawn.items():
        (line,) = axes.plot(TAUS, share, label=preset, linewidth=1.8)
        axes.fill_between(TAUS, ends[0], ends[1], color=line.get_color(), alpha=0.15, linewidth=0)
    axes.legend(frameon=False, labelcolor=INK, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def save(figure: Figure, path: Path, fingerprint: str) -> None:
    """
    :param figure: to be written.
    :param path: of the PNG.
    :param fingerprint: of the data.
    """
    info = PngInfo()
    info.add_text(_FINGERPRINT, fingerprint)
    with atomic_path(path) as temporary:
        Image.fromarray(to_picture(figure)).save(temporary, format="PNG", pnginfo=info)


def fingerprint_of(path: Path) -> str | None:
    """:return: of the data a picture was drawn from; None without a picture."""
    if not path.exists():
        return None
    with Image.open(path) as picture:
        found = picture.info.get(_FINGERPRINT)
    return None if found is None else str(found)


def _style(axes: Axes, title: str, xlabel: str, ylabel: str) -> None:
    axes.set_prop_cycle(cycler(linestyle=["-", "--", ":"]) * cycler(color=PALETTE))
    axes.set_title(title, loc="left", color=INK, weight="bold")
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    unclutter(axes)


def _curve(axes: Axes, preset: str, seeds: Sequence[list[dict[str, Any]]]) -> None:
    """Runs of a preset are evaluated at the same steps; where there is none, its colour stays with it in all panels."""
    steps = [point["steps"] for point in seeds[0]] if seeds else []
    means = np.array(intervals([[points[i]["return"] for points in seeds] for i in range(len(steps))])).reshape(-1, 3)
    (line,) = axes.plot(steps, means[:, 0], label=preset, linewidth=1.8)
    if len(seeds) > 1:
        axes.fill_between(steps, means[:, 1], means[:, 2], color=line.get_color(), alpha=0.18, linewidth=0)
