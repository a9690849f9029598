"""Saliency as charts: of vectors over time, and what is left of a map once layers are drawn anew."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from sb3_latent.figures import FAINT, INK, PALETTE, Picture, to_picture, unclutter
from sb3_latent.saliency.rendering import DIVERGING, SEQUENTIAL, Map, intensity
from sb3_latent.saliency.sanity import LayerSimilarity

_MAX_LABELS = 32
_DPI = 150
_MEASURES = {
    "spearman": ("rank correlation\nof magnitudes", "o-"),
    "spearman_signed": ("rank correlation\nwith signs", "s--"),
    "ssim": ("structural\nsimilarity", "^:"),
}


def vector_chart(
    maps: Map | Mapping[str, Map],
    answers: npt.NDArray[np.floating[Any]] | None = None,
    path: str | Path | None = None,
    *,
    title: str = "saliency",
    signed: bool = False,
) -> Picture:
    """
    A heat map of the saliency of vectors: an entry of the observation in each row, time to the right.

    :param maps: (T, ...), of an episode; a dict has the rows of each key below one another.
    :param answers: (T,), the target itself, drawn below; None draws none.
    :param path: PNG file to write; None writes none.
    :param title: heading.
    :param signed: orange where positive, blue where negative, instead of brighter where the magnitude is larger. Colours end
        at the same percentile as in :func:`intensity`.
    :return: the picture, (height, width, 3).
    """
    labels, rows = _rows(maps)
    height = min(12.0, 1.6 + 0.3 * len(rows))
    heights = [height] if answers is None else [height, 1.6]
    figure = Figure(figsize=(9, sum(heights)), dpi=_DPI, facecolor="white", layout="constrained")
    axes, *below = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    full = intensity(rows[None])
    image = axes.imshow(
        rows if signed else np.abs(rows),
        aspect="auto",
        interpolation="nearest",
        cmap=DIVERGING if signed else SEQUENTIAL,
        vmin=-full if signed else 0,
        vmax=full,
        extent=(-0.5, rows.shape[1] - 0.5, len(rows) - 0.5, -0.5),
    )
    ticks = range(0, len(rows), ceil(len(rows) / _MAX_LABELS))
    axes.set_yticks(list(ticks), [labels[tick] for tick in ticks])
    axes.tick_params(color=FAINT, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.set_title(title, loc="left", color=INK, weight="bold")
    axes.set_ylabel("entry of the observation", color=INK)
    figure.colorbar(image, ax=axes, extend="both" if signed else "max")
    for curve in below:
        curve.plot(np.asarray(answers), color=PALETTE[0], linewidth=1.5)
        curve.set_ylabel("target", color=INK)
        unclutter(curve)
    (below or [axes])[-1].set_xlabel("step", color=INK)
    return to_picture(figure, path)


def similarity_chart(rows: Sequence[LayerSimilarity], path: str | Path | None = None, *, title: str = "") -> Picture:
    """
    What is left of the maps, layer by layer from the target down to the pixels.

    :param rows: from :func:`sanity_check`.
    :param path: PNG file to write; None writes none.
    :param title: heading.
    :return: the picture, (height, width, 3).
    """
    figure = Figure(figsize=(10, 1.8 + 0.35 * len(rows)), dpi=_DPI, facecolor="white", layout="constrained")
    axes = figure.subplots()
    positions = np.arange(len(rows))
    for colour, (name, (label, look)) in zip(PALETTE, _MEASURES.items(), strict=False):
        values = [getattr(row, name) for row in rows]
        if not np.isnan(values).all():
            axes.plot(values, positions, look, color=colour, label=label)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlim(min(-0.1, axes.get_xlim()[0]), 1.05)
    axes.set_xlabel("similarity to the maps of the model", color=INK)
    axes.set_ylabel("layer drawn anew", color=INK)
    axes.set_title(title, loc="left", color=INK, weight="bold")
    unclutter(axes)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_yticks(positions, [row.layer for row in rows], fontsize="small")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.legend(frameon=False, labelcolor=INK, loc="upper left", bbox_to_anchor=(1, 1))
    return to_picture(figure, path)


def _rows(maps: Map | Mapping[str, Map]) -> tuple[list[str], Map]:
    """:return: a label for each entry, and (n, T)."""
    named = maps if isinstance(maps, Mapping) else {"": maps}
    labels, rows = [], []
    for key, array in named.items():
        flat = array.reshape(len(array), -1)
        labels += [f"{key} {entry}".strip() for entry in range(flat.shape[1])]
        rows.append(flat.T)
    return labels, np.concatenate(rows)
