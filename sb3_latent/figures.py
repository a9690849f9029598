"""Pictures for people: sheets of images and learning curves, drawn without pyplot and its global state."""

import functools
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import EngFormatter
from PIL import Image
from stable_baselines3.common.monitor import load_results

from sb3_latent.files import atomic_path

Picture = npt.NDArray[np.uint8]
Curve = tuple[npt.ArrayLike, npt.ArrayLike]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart with any colour vision: Okabe & Ito 2008, "Color Universal Design", without yellow, which is faint on white."""

INK, FAINT = "#333333", "#D9D9D9"
"""Of text, and of lines that shall not be noticed."""

_SHEET_DPI = 100
_TILE, _GAP, _MARGIN, _TITLE = 240, 8, 16, 26
_TITLE_FONT = FontProperties(weight="bold", size=10)


def contact_sheet(rows: Mapping[str, Sequence[npt.NDArray[np.uint8]]], path: str | Path | None = None) -> Picture:
    """
    Images in titled rows, e.g. frames, their reconstructions, their saliency. Pixels stay square and sharp: every image is
    enlarged by a whole factor, to about 240 pixels.

    :param rows: title -> images, each (H, W), (H, W, 1) or (H, W, 3), uint8.
    :param path: PNG file to write; None writes none.
    :return: the sheet, (height, width, 3).
    :raises ValueError: if there is nothing to draw, or an image has another shape or type.
    """
    if not any(rows.values()):
        raise ValueError("a contact sheet needs at least one image; got none.")
    tiles = {title: [_tile(title, image) for image in images] for title, images in rows.items()}
    width = 2 * _MARGIN + max(_row_width(title, images) for title, images in tiles.items())
    height = 2 * _MARGIN - _GAP + sum(_TITLE + _row_height(images) + _GAP for images in tiles.values())
    figure = Figure(figsize=(width / _SHEET_DPI, height / _SHEET_DPI), dpi=_SHEET_DPI, facecolor="white")
    top = height - _MARGIN
    for title, images in tiles.items():
        middle = (top - _TITLE / 2) / height
        figure.text(_MARGIN / width, middle, title, va="center", color=INK, font=_TITLE_FONT)
        left, top = _MARGIN, top - _TITLE
        for image in images:
            figure.figimage(image, left, top - image.shape[0])
            left += image.shape[1] + _GAP
        top -= _row_height(images) + _GAP
    return to_picture(figure, path)


def learning_curve(
    curves: Mapping[str, Sequence[Curve]],
    path: str | Path | None = None,
    *,
    title: str = "",
    xlabel: str = "Environment steps",
    ylabel: str = "Return",
) -> Picture:
    """
    A line for each method: the mean over its seeds, in a band from the lowest to the highest seed.

    Seeds are compared where all of them have data: each is interpolated linearly on a grid of 200 steps from the latest start
    to the earliest end.

    :param curves: method -> one (steps, values) for each seed; steps ascend.
    :param path: PNG file to write; None writes none.
    :param title: heading; empty draws none.
    :param xlabel: what the steps count.
    :param ylabel: what the values are.
    :return: the picture, (height, width, 3).
    :raises ValueError: if there is no curve, or the seeds of a method share no step.
    """
    if not curves:
        raise ValueError("a learning curve needs at least one method; got none.")
    figure = Figure(figsize=(8, 4.5), dpi=150, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.set_prop_cycle(cycler(linestyle=["-", "--", ":"]) * cycler(color=PALETTE))
    for name, seeds in curves.items():
        steps, values = _on_common_steps(name, seeds)
        label = f"{name} ({len(seeds)} seeds)" if len(seeds) > 1 else name
        (line,) = axes.plot(steps, values.mean(axis=0), label=label, linewidth=1.8)
        if len(seeds) > 1:
            axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.18, linewidth=0)
    axes.set_title(title, loc="left", color=INK, weight="bold")
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    unclutter(axes)
    axes.legend(frameon=False, labelcolor=INK, loc="upper left", bbox_to_anchor=(1, 1))
    return to_picture(figure, path)


def read_monitor(folder: str | Path, window: int = 100) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """
    The learning curve of one run from the files of SB3's ``Monitor``, the copies of its ``VecEnv`` together.

    :param folder: holds one or more ``*monitor.csv``.
    :param window: episodes that a return is averaged over, fewer at the start (SB3's ``ep_rew_mean``: 100).
    :return: environment steps at the end of each episode and mean returns, both (n_episodes,).
    :raises LoadMonitorResultsError: if the folder has no monitor file.
    """
    episodes = load_results(str(folder))
    returns = episodes["r"].rolling(window, min_periods=1).mean()
    return episodes["l"].cumsum().to_numpy(np.int64), returns.to_numpy(np.float64)


def _tile(title: str, image: npt.NDArray[np.uint8]) -> Picture:
    """One image in RGB, enlarged."""
    if image.ndim == 2:
        image = image[..., None]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(f"row {title!r}: image of {image.dtype}{image.shape}; need uint8 (H, W), (H, W, 1) or (H, W, 3).")
    factor = max(1, round(_TILE / max(image.shape[:2])))
    enlarged = image.repeat(factor, axis=0).repeat(factor, axis=1)
    return np.broadcast_to(enlarged, (*enlarged.shape[:2], 3))


def _row_width(title: str, images: Sequence[Picture]) -> int:
    images_width = sum(int(image.shape[1]) + _GAP for image in images) - _GAP
    return max(images_width, _title_width(title))


@functools.cache
def _title_width(title: str) -> int:
    """Callbacks draw the same titles again and again, and matplotlib lays them out letter by letter."""
    points = float(TextPath((0, 0), title, prop=_TITLE_FONT).get_extents().x1) if title else 0.0
    return ceil(points * _SHEET_DPI / 72)


def _row_height(images: Sequence[Picture]) -> int:
    return max((int(image.shape[0]) for image in images), default=0)


def _on_common_steps(name: str, seeds: Sequence[Curve]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """:return: steps, (n,), and the values of every seed at them, (n_seeds, n)."""
    arrays = [(np.asarray(steps, np.float64), np.asarray(values, np.float64)) for steps, values in seeds]
    if not arrays or any(len(steps) == 0 for steps, _ in arrays):
        raise ValueError(f"{name!r}: every seed needs at least one value; train longer or leave the empty run out.")
    start, end = max(steps[0] for steps, _ in arrays), min(steps[-1] for steps, _ in arrays)
    if start > end:
        raise ValueError(f"{name!r}: its seeds share no step (latest start {start:g}, earliest end {end:g}).")
    common = np.linspace(start, end, 200)
    return common, np.stack([np.interp(common, steps, values) for steps, values in arrays])


def unclutter(axes: Axes) -> None:
    """
    :param axes: whose frame, ticks and grid shall step back behind the data; its x-axis counts steps.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(color=FAINT, labelcolor=INK)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def to_picture(figure: Figure, path: str | Path | None = None) -> Picture:
    """
    :param figure: of matplotlib.
    :param path: PNG file to write; None writes none.
    :return: the figure, (height, width, 3).
    """
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    picture: Picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    if path is not None:
        with atomic_path(path) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
    return picture
