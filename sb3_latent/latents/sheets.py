"""Latents as pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_latent.episodes import Episode
from sb3_latent.figures import FAINT, INK, Picture, contact_sheet, to_picture
from sb3_latent.latents.decoding import (
    N_VALUES,
    Pictures,
    RawObservations,
    informative_dimensions,
    interpolation,
    latents_of,
    reconstruction,
    traversal,
    traversal_values,
)
from sb3_latent.latents.trajectories import trajectory
from sb3_latent.registry import unknown
from sb3_latent.saliency import episode_target, newest_frame, to_uint8

Colour: TypeAlias = Literal["time", "value"]

_LABELS: dict[Colour, str] = {"time": "Step of the episode", "value": "Value, as the model estimates it"}


def reconstruction_sheet(
    model: BaseAlgorithm, observations: RawObservations, path: str | Path | None = None, n_channels: int | None = None
) -> Picture:
    """
    Newest frames over their :func:`reconstruction`, whose parameters and errors these are.

    :param model: has a decoder of images.
    :param observations: (B, ...), raw; each is a column.
    :param path: PNG to write; None writes none.
    :param n_channels: of one frame.
    :return: the sheet, (height, width, 3).
    """
    rows: dict[str, list[Picture]] = {}
    for key, pictures in _by_key(reconstruction(model, observations, n_channels)).items():
        rows[f"{key}newest frame"] = _frames(observations, key, pictures)
        rows[f"{key}reconstruction"] = list(pictures)
    return contact_sheet(rows, path)


def traversal_sheet(
    model: BaseAlgorithm,
    observations: RawObservations,
    path: str | Path | None = None,
    dimensions: Sequence[int] | None = None,
    values: Sequence[float] | None = None,
    n_values: int = N_VALUES,
    n_channels: int | None = None,
) -> Picture:
    """
    The first observation, its reconstruction, and a row for each dimension of the :func:`traversal`, whose parameters and
    errors these are.

    :param model: has a decoder of images.
    :param observations: a batch, raw.
    :param path: PNG to write; None writes none.
    :param dimensions: which; None takes those that tell most.
    :param values: what replaces each dimension; None takes ``n_values`` from -3 to 3.
    :param n_values: as many.
    :param n_channels: of one frame.
    :return: the sheet, (height, width, 3).
    """
    dimensions = informative_dimensions(model, observations) if dimensions is None else dimensions
    values = traversal_values(values, n_values)
    first = _row(observations, 0)
    reconstructed = _by_key(reconstruction(model, first, n_channels))
    is_gaussian = latents_of(model, first).log_var is not None
    unit = "standard deviations of the prior" if is_gaussian else "standard deviations of the batch"
    written = ", ".join(f"{value:.3g}" for value in values)
    rows: dict[str, list[Picture]] = {}
    for key, pictures in _by_key(traversal(model, observations, dimensions, values, n_channels=n_channels)).items():
        rows[f"{key}newest frame, reconstruction"] = [*_frames(first, key, reconstructed[key]), *reconstructed[key]]
        for dimension, row in zip(dimensions, pictures, strict=True):
            rows[f"{key}dimension {dimension} at {written} {unit}"] = list(row)
    return contact_sheet(rows, path)


def interpolation_sheet(
    model: BaseAlgorithm,
    first: RawObservations,
    second: RawObservations,
    path: str | Path | None = None,
    n: int = N_VALUES,
    n_channels: int | None = None,
) -> Picture:
    """
    Both observations over the :func:`interpolation` between their latents, whose parameters and errors these are.

    :param model: has a decoder of images.
    :param first: one observation, raw.
    :param second: likewise.
    :param path: PNG to write; None writes none.
    :param n: pictures, both ends included.
    :param n_channels: of one frame.
    :return: the sheet, (height, width, 3).
    """
    rows: dict[str, list[Picture]] = {}
    for key, pictures in _by_key(interpolation(model, first, second, n, n_channels)).items():
        ends = [_frames(_batched(model, one), key, pictures[:1])[0] for one in (first, second)]
        rows[f"{key}first and second frame"] = ends
        rows[f"{key}decoded on the straight way from the first latent to the second"] = list(pictures)
    return contact_sheet(rows, path)


def trajectory_plot(
    model: BaseAlgorithm, episode: Episode, path: str | Path | None = None, colour: Colour = "time"
) -> Picture:
    """
    The :func:`trajectory` of an episode, whose errors these are.

    :param model: any of SB3.
    :param episode: played by it.
    :param path: PNG to write; None writes none.
    :param colour: ``"time"``, or ``"value"``: what the model says each moment is worth, see
        :func:`~sb3_latent.saliency.list_targets`.
    :return: the plot, (height, width, 3).
    :raises ValueError: likewise, if ``colour`` is another, or the model learns no value.
    """
    if colour not in get_args(Colour):
        raise ValueError(unknown("colour", colour, get_args(Colour)))
    found = trajectory(model, episode)
    x, y = found.coordinates.T
    shades = np.arange(len(episode)) if colour == "time" else episode_target(model, episode)
    figure = Figure(figsize=(7, 5.5), dpi=150, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.plot(x, y, color=FAINT, linewidth=0.8, zorder=1)
    # viridis is told apart with any colour vision, and in grey.
    points = axes.scatter(x, y, c=shades, cmap="viridis", s=14, zorder=2, linewidths=0)
    for index, marker, label in ((0, "o", "start"), (-1, "s", "end")):
        axes.plot(x[index], y[index], marker, markersize=10, markerfacecolor="none", markeredgecolor=INK, label=label)
    bar = figure.colorbar(points, ax=axes)
    bar.set_label(_LABELS[colour], color=INK)
    bar.outline.set_visible(False)
    first, second = (f"{share:.0%} of the variance" for share in found.explained)
    axes.set_xlabel(f"First principal component ({first})", color=INK)
    axes.set_ylabel(f"Second principal component ({second})", color=INK)
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    for ticks in (axes, bar.ax):
        ticks.tick_params(color=FAINT, labelcolor=INK)
    axes.legend(frameon=False, labelcolor=INK)
    return to_picture(figure, path)


def _by_key(pictures: Pictures) -> dict[str, npt.NDArray[np.uint8]]:
    """With what stands before a title: nothing where there is but one image."""
    return {f"{key}: ": array for key, array in pictures.items()} if isinstance(pictures, dict) else {"": pictures}


def _frames(observations: RawObservations, prefix: str, decoded: npt.NDArray[np.uint8]) -> list[Picture]:
    """What was seen, as large as what was decoded."""
    images = observations[prefix.removesuffix(": ")] if isinstance(observations, dict) else observations
    return [to_uint8(newest_frame(image, decoded.shape[-1])) for image in images]


def _row(observations: RawObservations, index: int) -> RawObservations:
    """A batch of one."""
    if isinstance(observations, dict):
        return {key: array[index : index + 1] for key, array in observations.items()}
    return observations[index : index + 1]


def _batched(model: BaseAlgorithm, observation: RawObservations) -> RawObservations:
    """A batch of one, of an observation with or without an axis of the batch."""
    if isinstance(observation, dict):
        return {key: np.asarray(array).reshape(-1, *array.shape[-3:]) for key, array in observation.items() if array.ndim >= 3}
    return observation.reshape(-1, *observation.shape[-3:])
