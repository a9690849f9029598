"""What a model looks at through an episode: maps, and their pictures."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from tqdm.auto import tqdm

from sb3_latent.checks import whole_number
from sb3_latent.episodes import Episode
from sb3_latent.evaluation import evaluating
from sb3_latent.figures import Picture, contact_sheet
from sb3_latent.registry import unknown
from sb3_latent.saliency.inputs import Frames, make_scene
from sb3_latent.saliency.maps import saliency
from sb3_latent.saliency.pictures import frames_of, to_uint8
from sb3_latent.saliency.rendering import STYLES, Map, intensity, render
from sb3_latent.saliency.targets import find_target

Array: TypeAlias = npt.NDArray[Any]
Maps: TypeAlias = Map | dict[str, Map]

_VIDEO_HEIGHT = 320
_N_MOMENTS = 6


def episode_saliency(
    model: BaseAlgorithm,
    episode: Episode,
    target: str = "value",
    method: str = "jacobian",
    *,
    frames: Frames = "all",
    n_channels: int | None = None,
    absolute: bool = True,
    method_kwargs: Mapping[str, Any] | None = None,
    batch_size: int = 64,
    progress_bar: bool = False,
) -> Maps:
    """
    :func:`saliency` of every moment, for the actions that were taken, with what an LSTM remembered and the masks of the time.

    :param model: who played.
    :param episode: from :func:`~sb3_latent.episodes.play_episode`.
    :param target: see :func:`saliency`, as for the others.
    :param method: how.
    :param frames: of a stack.
    :param n_channels: of a frame.
    :param absolute: False keeps signs.
    :param method_kwargs: arguments of the method's class.
    :param batch_size: moments at once; they do not influence each other.
    :param progress_bar: show one.
    :return: (T, ...) float32, in the layout of ``model.observation_space``; a dict for Dict observations.
    :raises ValueError: as :func:`saliency`.
    """
    parts: list[Any] = []
    for part in _parts(episode, batch_size, f"{method} of {target}", progress_bar):
        parts.append(
            saliency(
                model,
                part.observations,
                target,
                method,
                **situation_of(model, part, target),
                frames=frames,
                n_channels=n_channels,
                absolute=absolute,
                method_kwargs=method_kwargs,
            )
        )
    if isinstance(parts[0], dict):
        return {key: th.cat([part[key] for part in parts]).cpu().numpy() for key in parts[0]}
    return th.cat(parts).cpu().numpy()


def episode_target(model: BaseAlgorithm, episode: Episode, target: str = "value", batch_size: int = 64) -> Map:
    """
    :param model: who played.
    :param episode: what it met.
    :param target: see :func:`saliency`.
    :param batch_size: moments at once.
    :return: (T,), what the model answered; (T, n) for a vector.
    :raises ValueError: if the model has no such target.
    """
    answers = []
    for part in _parts(episode, batch_size):
        with evaluating(model.policy), th.no_grad():
            scene = make_scene(model, part.observations, target, **situation_of(model, part, target))
            answers.append(scene.answer(scene.arrays, scene.rows))
    return th.cat(answers).cpu().numpy()


def situation_of(model: BaseAlgorithm, episode: Episode, target: str) -> dict[str, Any]:
    """
    :param model: who played.
    :param episode: what it did, remembered and was allowed.
    :param target: see :func:`saliency`.
    :return: arguments of :func:`saliency`: what the target depends on beside the observations.
    :raises ValueError: if the model has no such target.
    """
    situation: dict[str, Any] = {"actions": episode.actions} if find_target(model, target).reads_action else {}
    memory = episode.critic_memory if target == "value" else episode.actor_memory
    if memory is not None:
        situation |= {"lstm_states": memory, "episode_starts": episode.starts}
    if episode.action_masks is not None:
        situation["action_masks"] = episode.action_masks
    return situation


def saliency_video(
    episode: Episode,
    maps: Maps,
    style: str = "blue",
    *,
    native: bool = True,
    frames: Frames = "newest",
    n_channels: int | None = None,
    key: str | None = None,
) -> Picture:
    """
    Draw the maps of an episode. What is drawn at full strength is the same throughout, see :func:`intensity`.

    :param episode: as for :func:`episode_saliency`.
    :param maps: from :func:`episode_saliency`.
    :param style: see :func:`render`.
    :param native: draw on what the environment renders, where it renders anything, instead of on what the agent sees. Fits
        where both show the same field of view, as with Atari.
    :param frames: ``"newest"``, or ``"all"`` frames of a stack side by side, oldest first, as the agent sees them.
    :param n_channels: of one frame, see :func:`newest_frame`.
    :param key: of an image of a Dict observation; None where there is only one.
    :return: (T, height, width, 3), for :func:`~sb3_latent.videos.write_video`: small pictures enlarged by a whole factor to
        about 320 pixels, and the sides even, for most MP4 have colours at half the resolution.
    :raises ValueError: if there is no such style, no such image, or none at all.
    """
    grounds, drawn = _moments(episode, maps, native, frames, n_channels, key)
    pictures = np.stack([_side_by_side(tiles) for tiles in _rendered(grounds, drawn, style, _scale(drawn))])
    height, width = pictures.shape[1:3]
    factor = max(1, round(_VIDEO_HEIGHT / height))
    even = (slice(None), slice(factor * height // 2 * 2), slice(factor * width // 2 * 2))
    return pictures.repeat(factor, axis=1).repeat(factor, axis=2)[even]


def saliency_sheet(
    episode: Episode,
    maps: Maps,
    style: str = "blue",
    path: str | Path | None = None,
    *,
    title: str = "saliency",
    native: bool = True,
    frames: Frames = "newest",
    n_channels: int | None = None,
    key: str | None = None,
) -> Picture:
    """
    Up to six moments, evenly spaced from the first to the last: what there was to see, over its saliency, drawn as in
    :func:`saliency_video`, which says more about the arguments. With all frames of a stack, a row for each moment.

    :param episode: as there.
    :param maps: as there.
    :param style: as there.
    :param path: PNG file to write; None writes none.
    :param title: what the maps are of.
    :param native: as there.
    :param frames: as there.
    :param n_channels: as there.
    :param key: as there.
    :return: the sheet, (height, width, 3).
    :raises ValueError: as there.
    """
    steps = np.unique(np.linspace(0, len(episode) - 1, _N_MOMENTS).round().astype(int)).tolist()
    grounds, drawn = _moments(episode, maps, native, frames, n_channels, key)
    chosen = [grounds[step] for step in steps]
    tiles = _rendered(chosen, [drawn[step] for step in steps], style, _scale(drawn))
    legend = f"{title}, {STYLES[style].legend}"
    if frames == "all":
        return contact_sheet({f"step {step}: {legend}": row for step, row in zip(steps, tiles, strict=True)}, path)
    newest = {f"step {', '.join(map(str, steps))}": chosen, legend: tiles}
    return contact_sheet({name: [row[-1] for row in rows] for name, rows in newest.items()}, path)


def _parts(episode: Episode, batch_size: int, what: str = "", progress_bar: bool = False) -> Iterator[Episode]:
    size = whole_number("batch_size", batch_size)
    with tqdm(total=len(episode), desc=what, unit="step", disable=not progress_bar) as bar:
        for start in range(0, len(episode), size):
            part = episode.part(slice(start, start + size))
            yield part
            bar.update(len(part))


def _moments(
    episode: Episode, maps: Maps, native: bool, frames: Frames, n_channels: int | None, key: str | None
) -> tuple[list[list[Picture]], list[list[Map]]]:
    """:return: for each moment the frames to draw on, (H, W, 1) or (H, W, 3), and their maps, (h, w, C)."""
    if frames not in get_args(Frames):
        raise ValueError(unknown("frames", frames, get_args(Frames)))
    name = _image_key(episode.observations, key)
    seen: Any = episode.observations[name] if isinstance(episode.observations, dict) else episode.observations
    of_image = maps[name] if isinstance(maps, dict) else maps
    shown = slice(-1 if frames == "newest" else None, None)
    drawn = [frames_of(one, n_channels)[shown] for one in of_image]
    if native and frames == "newest" and episode.pictures is not None:
        return [[picture] for picture in episode.pictures], drawn
    return [frames_of(one, n_channels)[shown] for one in to_uint8(seen)], drawn


def _image_key(observations: Array | Mapping[str, Array], key: str | None) -> str:
    arrays = observations if isinstance(observations, Mapping) else {"observation": observations}
    keys = [name for name, array in arrays.items() if array.ndim in (4, 5)]
    if not keys:
        raise ValueError("the observations are vectors and no images to draw; use vector_chart instead.")
    if key is None and len(keys) > 1:
        raise ValueError(f"the observation has the images {', '.join(map(repr, keys))}; say which one by key.")
    if key is not None and key not in keys:
        raise ValueError(unknown("image", key, keys))
    return key or keys[0]


def _scale(drawn: list[list[Map]]) -> float:
    return intensity(np.array(drawn).reshape(-1, *drawn[0][0].shape))


def _rendered(grounds: list[list[Picture]], drawn: list[list[Map]], style: str, scale: float) -> list[list[Picture]]:
    moments = zip(grounds, drawn, strict=True)
    return [[render(*pair, style, scale) for pair in zip(*moment, strict=True)] for moment in moments]


def _side_by_side(tiles: list[Picture]) -> Picture:
    first = tiles[0]
    gap = np.full((first.shape[0], 1, first.shape[2]), 255, np.uint8)
    return np.concatenate([first, *(part for tile in tiles[1:] for part in (gap, tile))], axis=1)
