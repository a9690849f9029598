"""What a model looks at, while it learns."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Image

from sb3_latent.callbacks.base import TEXT_FORMATS, flush
from sb3_latent.checks import whole_number
from sb3_latent.figures import Picture, contact_sheet
from sb3_latent.registry import unknown
from sb3_latent.saliency import STYLES, black, newest_frame, render, saliency, to_uint8
from sb3_latent.types import Observations


class JacobianSaliencyCallback(BaseCallback):
    """
    Draw what the newest frames mean to a model of SB3: by default |dV/dx| in the blue channel (seed document 000, figure 4).

    Logs the sheet ``saliency/<method>`` to TensorBoard and the scalars ``saliency/mean`` and ``saliency/max`` (target per unit
    of the observation, over the frames drawn). They appear with SB3's next dump, of which the log keeps the latest sheet;
    ``folder`` keeps every one. The trained model is drawn once more when ``learn`` ends.

    :param every: environment steps between two sheets. Own choice: about 1000 sheets in the 10 million steps of document 000.
    :param n_frames: how many parallel environments to draw at most, one frame of each.
    :param folder: where to write ``saliency_<steps>.png``; None writes none.
    :param n_channels: channels of one frame, see :func:`~sb3_latent.saliency.newest_frame`.
    :param target: see :func:`~sb3_latent.saliency.saliency`; actions are the greedy ones.
    :param method: see :func:`~sb3_latent.saliency.saliency`.
    :param style: see :func:`~sb3_latent.saliency.render`.
    :param verbose: 1 prints the name of each file.
    :raises ValueError: if a number is not a positive integer, or there is no such style.
    """

    def __init__(
        self,
        every: int = 10_000,
        n_frames: int = 4,
        folder: str | Path | None = None,
        n_channels: int | None = None,
        target: str = "value",
        method: str = "jacobian",
        style: str = "blue",
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        if style not in STYLES:
            raise ValueError(unknown("style", style, STYLES))
        self.every = whole_number("every", every)
        self.n_frames = whole_number("n_frames", n_frames)
        self.folder = None if folder is None else Path(folder)
        self.n_channels = n_channels
        self.target, self.method, self.style = target, method, style

    def _init_callback(self) -> None:
        """
        Draws a black observation, so that what is wrong is said before the training.

        :raises ValueError: if the observation holds no image, ``n_channels`` does not fit it, or the method cannot explain the
            target of this model.
        :raises ImportError: if the method needs a library that is not installed.
        """
        space = self.model.observation_space
        image_spaces = _images(space, space)
        if not image_spaces:
            raise ValueError(f"JacobianSaliencyCallback draws images, but the observation is {space}; leave the callback out.")
        for image_space in image_spaces.values():
            newest_frame(np.zeros(image_space.shape), self.n_channels)
        self._maps(black(space), {})

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every < self.training_env.num_envs:
            self._draw()
        return True

    def _on_training_end(self) -> None:
        self._draw()
        flush(self)

    def _draw(self) -> None:
        observations, memory = self._current_observations()
        space = self.model.observation_space
        maps = _images(space, self._maps(observations, memory))
        rows, drawn = {}, []
        what = "|dV/dx|" if (self.target, self.method) == ("value", "jacobian") else f"{self.method} of {self.target}"
        for key, stacks in _images(space, observations).items():
            prefix = f"{key}: " if isinstance(space, spaces.Dict) else ""
            frames = [newest_frame(stack, self.n_channels) for stack in stacks]
            saliencies = [newest_frame(one, self.n_channels) for one in maps[key].cpu().numpy()]
            rows[f"{prefix}newest frame"] = [to_uint8(frame) for frame in frames]
            rows[f"{prefix}{what}, {STYLES[self.style].legend}"] = [
                render(*pair, self.style) for pair in zip(frames, saliencies, strict=True)
            ]
            drawn += [np.abs(one).ravel() for one in saliencies]
        self._record(rows, np.concatenate(drawn))

    def _maps(self, observations: Any, memory: dict[str, Any]) -> Observations:
        return saliency(
            self.model,
            observations,
            self.target,
            self.method,
            **memory,
            n_channels=self.n_channels,
            absolute=not STYLES[self.style].is_signed,
        )

    def _record(self, rows: dict[str, list[Picture]], magnitudes: npt.NDArray[np.floating]) -> None:
        path = None if self.folder is None else self.folder / f"saliency_{self.num_timesteps}.png"
        sheet = contact_sheet(rows, path)
        self.logger.record(f"saliency/{self.method}", Image(sheet, "HWC"), exclude=TEXT_FORMATS)
        self.logger.record("saliency/mean", float(magnitudes.mean()))
        self.logger.record("saliency/max", float(magnitudes.max()))
        if self.verbose >= 1 and path is not None:
            print(f"Saliency written to {path}")

    def _current_observations(self) -> tuple[Any, dict[str, Any]]:
        """What the policy reads now in the first environments: observations, and what an LSTM remembers of earlier ones."""
        first = slice(self.n_frames)
        model: Any = self.model
        last = model._last_obs
        observations = {key: array[first] for key, array in last.items()} if isinstance(last, dict) else last[first]
        if not isinstance(self.model, RecurrentPPO):
            return observations, {}
        states = model._last_lstm_states
        lstm_states = tuple(state[:, first].contiguous() for state in (states.vf if self.target == "value" else states.pi))
        return observations, {"lstm_states": lstm_states, "episode_starts": model._last_episode_starts[first]}


def _images(space: spaces.Space[Any], arrays: Any) -> dict[str, Any]:
    """:return: those of ``arrays`` (values or spaces) that ``space`` says are images, i.e. a Box of three axes."""
    if isinstance(space, spaces.Dict):
        return {key: arrays[key] for key, subspace in space.spaces.items() if _is_image(subspace)}
    return {"observation": arrays} if _is_image(space) else {}


def _is_image(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 3
