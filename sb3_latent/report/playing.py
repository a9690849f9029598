"""One episode of a run's agent: its film, the traversal of its latents, its way through them."""

from contextlib import closing
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_latent.episodes import Episode, play_episode
from sb3_latent.latents import Trajectory, informative_dimensions, reconstruction, trajectory, traversal
from sb3_latent.report.blocks import Missing
from sb3_latent.report.runs import Run
from sb3_latent.saliency import episode_saliency, episode_target, newest_frame, saliency_video, to_uint8
from sb3_latent.saved_agents import load_agent, make_env_for

Frames: TypeAlias = list[npt.NDArray[np.uint8]]

MAX_FRAMES = 200
"""Of a film; a longer episode is shown every second step, or third, and so on."""

VALUES = tuple(np.linspace(-3, 3, 13).tolist())
"""That a dimension of the latent takes: standard deviations of its prior, as in ``latents.traversal``."""

STYLE = "heat"


@dataclass(frozen=True)
class Play:
    """
    :param env_id: of the environment; None takes what rl_zoo3 or the monitor wrote.
    :param model: zip; None takes the newest of the run.
    :param max_steps: of the episode.
    """

    env_id: str | None = None
    model: Path | None = None
    max_steps: int = 300


@dataclass(frozen=True)
class Film:
    """
    :param steps: (n,) of the episode, those shown.
    :param frames: what there was to see, one a step.
    :param maps: the same with what the value looks at; or why there is none.
    """

    steps: npt.NDArray[np.int64]
    frames: Frames
    maps: Frames | Missing


@dataclass(frozen=True)
class Traversal:
    """
    :param frame: the observation that is varied, its newest frame.
    :param reconstruction: what the decoder makes of it.
    :param dimensions: those varied.
    :param pictures: (n_dimensions, n_values, H, W, C).
    """

    frame: npt.NDArray[np.uint8]
    reconstruction: npt.NDArray[np.uint8]
    dimensions: list[int]
    pictures: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Played:
    """
    :param env_id: where.
    :param episode: whole.
    :param values: (T,), or why there are none.
    :param film: or why there is none, as for the others.
    :param traversal: of the moment in the middle.
    :param way: through the latent space.
    """

    env_id: str
    episode: Episode
    values: npt.NDArray[Any] | Missing
    film: Film | Missing
    traversal: Traversal | Missing
    way: Trajectory | Missing


def play_run(run: Run, play: Play, known_env: str | None) -> Played | Missing:
    """
    :param run: any.
    :param play: what the user asked for.
    :param known_env: environment that the run's monitor names.
    :return: what there was to see, or why nothing.
    """
    path = play.model or run.model
    if path is None:
        return Missing(f"{run.name} holds no model: save one with model.save(folder / 'model') or name it by --model.")
    try:
        env_id = play.env_id or run.zoo.settings.get("env") or known_env
        if env_id is None:
            return Missing(f"{run.name} does not say where it was trained: name the environment by --env.")
        model = load_agent(path, device="cpu")
        episode = _play(model, path, env_id, play.max_steps)
    # What can be wrong with a file or an environment of others has no end, and the report shows the rest.
    except Exception as error:
        return _because(f"{path.name} of {run.name} could not be played", error)
    return Played(
        env_id,
        episode,
        _or_why("no value", lambda: episode_target(model, episode)),
        _or_why("no film", lambda: _film(model, episode)),
        _or_why("No traversal", lambda: _traversal(model, episode)),
        _or_why("No trajectory", lambda: trajectory(model, episode)),
    )


def _play(model: BaseAlgorithm, path: Path, env_id: str, max_steps: int) -> Episode:
    with closing(make_env_for(model, path, env_id)) as env:
        try:
            return play_episode(model, env, max_steps)
        except OSError:
            # Without a display there is still what the agent sees.
            return play_episode(model, env, max_steps, render=False)


def _film(model: BaseAlgorithm, episode: Episode) -> Film:
    """Of a Dict observation the first image is drawn."""
    steps = np.arange(0, len(episode), ceil(len(episode) / MAX_FRAMES))
    shown = episode.part(steps)
    seen: Any = shown.observations if isinstance(shown.observations, dict) else {None: shown.observations}
    images = {key: array for key, array in seen.items() if array.ndim in (4, 5)}
    if not images:
        if shown.pictures is None:
            raise ValueError("the observation is a vector and the environment draws no pictures")
        missing = Missing("The observation is a vector, so there is no map of it to draw over the picture.")
        return Film(steps, list(shown.pictures), missing)
    key, stacks = next(iter(images.items()))
    frames = [newest_frame(stack) for stack in to_uint8(stacks)] if shown.pictures is None else list(shown.pictures)

    def maps() -> Frames:
        return list(saliency_video(shown, episode_saliency(model, shown), STYLE, key=key))

    return Film(steps, frames, _or_why("No saliency", maps))


def _traversal(model: BaseAlgorithm, episode: Episode) -> Traversal:
    middle = len(episode) // 2
    order = np.roll(np.arange(len(episode)), -middle)
    observations = episode.part(order).observations
    dimensions = informative_dimensions(model, observations)
    pictures = traversal(model, observations, dimensions, VALUES)
    reconstructed: Any = reconstruction(model, episode.part(order[:1]).observations)
    seen: Any = observations
    if isinstance(pictures, dict):
        key = next(iter(pictures))
        pictures, reconstructed, seen = pictures[key], reconstructed[key], observations[key]
    return Traversal(to_uint8(newest_frame(seen[0])), reconstructed[0], dimensions, pictures)


def _or_why(what: str, make: Any) -> Any:
    try:
        return make()
    except Exception as error:
        return _because(what, error)


def _because(what: str, error: Exception) -> Missing:
    reason = str(error).strip().splitlines()
    return Missing(f"{what}: {(reason[0] if reason else type(error).__name__).rstrip('.')}.")
