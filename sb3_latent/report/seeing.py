"""Pictures: reconstructions and saliency over training, an episode as a film, traversals, the way through the latent space."""

from bisect import bisect_right
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sb3_latent.report.blocks import Charts, Gallery, Missing, Part, Section, Track, Viewer
from sb3_latent.report.charts import Floats
from sb3_latent.report.material import Material
from sb3_latent.report.pictures import Picture, affordable, encoded, evenly
from sb3_latent.report.playing import MAX_FRAMES, STYLE, VALUES, Film, Played, Traversal
from sb3_latent.report.plots import episode_chart, trajectory
from sb3_latent.saliency import STYLES

MAX_SHEETS = 24
"""Over training; evenly spaced, the first and the last among them."""

Pixels: TypeAlias = npt.NDArray[np.uint8]

MAX_BYTES = {"sheets": 800_000, "film": 2_000_000}
"""Of the pictures of one method: Plotly takes 4.8 MB of the page, and all of it shall stay below 10 MB."""

_SHEET_SIZE = (900, 675)
_FILM_SIZE = (320, 240)
_TILE_SIZE = (256, 256)
_SHEETS = {
    "reconstruction/images": (
        "Reconstructions",
        "Rows: newest frames, and what the decoder makes of them.",
        "No reconstruction was logged: switch on callback=ReconstructionCallback() with an encoder that has a decoder.",
    ),
    "saliency/jacobian": (
        "Saliency",
        "Rows: newest frames, and where a change of a pixel would change the value, above its mean in blue.",
        "No saliency was logged: switch on callback=JacobianSaliencyCallback() on a model that sees images.",
    ),
}


def sheets_section(material: Material) -> Section:
    """
    :param material: of all runs.
    :return: what callbacks drew, with a slider over steps that all methods share.
    """
    parts = []
    for tag, (title, text, missing) in _SHEETS.items():
        sheets = {}
        for label in material.labels:
            logged = next((one.logs.sheets[tag] for one in material.of(label) if one.logs.sheets.get(tag)), None)
            if logged:
                sheets[label] = logged
        if sheets:
            parts.append(Part(title, text, [_sheets(material, title, sheets)]))
        else:
            parts.append(Part(title, "", [Missing(missing)]))
    return Section("pictures", "Pictures over training", parts)


def film_section(material: Material, played: Mapping[str, Played | Missing]) -> Section:
    """
    :param material: of all runs.
    :param played: label -> its episode.
    :return: a film of each.
    """
    parts, data = [], {}
    for label, one in played.items():
        if isinstance(one, Missing):
            parts.append(Part(_heading(material, label), "", [one]))
            continue
        values = None if isinstance(one.values, Missing) else np.asarray(one.values, np.float64)
        data[label] = {
            "env": one.env_id,
            "rewards": one.episode.rewards.tolist(),
            "values": None if values is None else values.tolist(),
        }
        if isinstance(one.film, Missing):
            look = material.looks[label]
            chart = episode_chart("Value and reward", np.arange(len(one.episode)), values, _rewards(one), look)
            parts.append(Part(_heading(material, label), "", [one.film, Charts([chart])]))
        else:
            parts.append(_film(label, one, one.film, values, material))
    return Section("episode", "One episode", parts, data)


def latents_section(material: Material, played: Mapping[str, Played | Missing]) -> Section:
    """
    :param material: of all runs.
    :param played: label -> its episode.
    :return: a slider for each dimension that is varied, and the way through the latent space.
    """
    parts = []
    for label, one in played.items():
        if isinstance(one, Missing):
            parts.append(Part(_heading(material, label), "", [one]))
            continue
        blocks: list[object] = [one.traversal if isinstance(one.traversal, Missing) else _traversal(one.traversal)]
        if isinstance(one.way, Missing):
            blocks.append(one.way)
        else:
            points, explained = (np.asarray(array, np.float64) for array in (one.way.coordinates, one.way.explained))
            title = "The way of the episode through the latent space"
            note = "Projected on the two principal components of the latents; each point is a step."
            blocks.append(Charts([trajectory(title, points, explained, note)]))
        parts.append(Part(_heading(material, label), "", blocks))
    return Section("latents", "What the latent means", parts)


def _sheets(material: Material, title: str, sheets: Mapping[str, dict[int, bytes]]) -> Viewer:
    """Each method shows its latest sheet up to the slider's step, and before its first one that."""
    drawn = {label: _drawn(logged) for label, logged in sheets.items()}
    positions = evenly(sorted({step for of_step in drawn.values() for step in of_step}), MAX_SHEETS)
    tracks = []
    for label, of_step in drawn.items():
        steps, pictures = list(of_step), [picture for (picture,) in of_step.values()]
        shown = [max(0, bisect_right(steps, position) - 1) for position in positions]
        tracks.append(Track(_heading(material, label), pictures, shown, f"{title} of {label}, rows of frames"))
    written = [f"step {position:,}" for position in positions]
    return Viewer(title, "Environment steps", written, tracks, start=len(positions) - 1)


def _drawn(logged: Mapping[int, bytes]) -> dict[int, list[Picture]]:
    return affordable(list(logged), lambda step: [encoded(logged[step], *_SHEET_SIZE)], MAX_SHEETS, MAX_BYTES["sheets"])


def _film(label: str, one: Played, film: Film, values: Floats | None, material: Material) -> Part:
    episode, look = one.episode, material.looks[label]
    titles = [("what there is to see", f"Frame of {one.env_id}")]
    shots, blocks = [film.frames], []
    if isinstance(film.maps, Missing):
        blocks.append(film.maps)
    else:
        titles.append(("what the value looks at", f"The same frame with its saliency {STYLES[STYLE].legend}"))
        shots.append(film.maps)
    shot_of = dict(zip(film.steps.tolist(), zip(*shots, strict=True), strict=True))
    drawn = affordable(
        list(shot_of), lambda step: [encoded(frame, *_FILM_SIZE) for frame in shot_of[step]], MAX_FRAMES, MAX_BYTES["film"]
    )
    columns = zip(*drawn.values(), strict=True)
    tracks = [Track(title, pictures, range(len(drawn)), alt) for (title, alt), pictures in zip(titles, columns, strict=True)]
    paid = np.cumsum(episode.rewards)
    positions = [
        f"step {step} · reward {_signed(episode.rewards[step], '.3g')} · return so far {paid[step]:.4g}"
        + ("" if values is None else f" · value {values[step]:.3f}")
        for step in drawn
    ]
    chart = episode_chart("Value and reward", np.arange(len(episode)), values, _rewards(one), look)
    viewer = Viewer(
        f"An episode of {label}",
        "Step of the episode",
        positions,
        tracks,
        plays=True,
        chart=chart,
        marks=list(drawn),
        kind="film",
    )
    text = f"{len(episode)} steps in {one.env_id}, played without exploration; they return {paid[-1]:.4g}."
    if not isinstance(film.maps, Missing):
        text += " On the right: how much a change of each pixel would change the value, as heat."
    return Part(_heading(material, label), text, [viewer, *blocks])


def _rewards(one: Played) -> Floats:
    return np.asarray(one.episode.rewards, np.float64)


def _traversal(found: Traversal) -> Gallery:
    middle = len(VALUES) // 2
    viewers = [
        Viewer(
            f"Dimension {dimension}",
            f"Value of dimension {dimension}, in standard deviations",
            [_signed(value, ".1f") for value in VALUES],
            [_decoded(dimension, row)],
            start=middle,
            kind="tile",
        )
        for dimension, row in zip(found.dimensions, found.pictures, strict=True)
    ]
    stills = [("frame", encoded(found.frame, *_TILE_SIZE)), ("reconstruction", encoded(found.reconstruction, *_TILE_SIZE))]
    note = (
        "The frame in the middle of the episode is encoded, one dimension is replaced by the slider's value, and the result "
        "decoded. Shown are the dimensions that tell most."
    )
    return Gallery("Traversal", stills, viewers, note)


def _signed(value: float, form: str) -> str:
    return format(value, f"+{form}") if value else format(0.0, form)


def _heading(material: Material, label: str) -> str:
    """Nothing where there is one method only."""
    return label if len(material.labels) > 1 else ""


def _decoded(dimension: int, row: Pixels) -> Track:
    pictures = [encoded(picture, *_TILE_SIZE) for picture in row]
    return Track("", pictures, range(len(pictures)), f"Decoded frame with dimension {dimension} replaced")
