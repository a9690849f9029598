"""What the latent model dreams, while it learns."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import Image, TensorBoardOutputFormat
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import DummyVecEnv
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]  # tensorboard has no types

from sb3_latent.callbacks.base import TEXT_FORMATS, ObservingCallback
from sb3_latent.checks import whole_number
from sb3_latent.dreams import Dreams, OpenLoopErrors, dream, open_loop_errors, play_episode
from sb3_latent.figures import Picture
from sb3_latent.files import atomic_path
from sb3_latent.models import get_latent_model
from sb3_latent.saliency import newest_frame
from sb3_latent.types import Observations
from sb3_latent.videos import dream_sheet, dream_video, error_curves, gif
from sb3_latent.windows import window_spec

MAX_STEPS = 250
"""Of an episode that is played: an episode of DeepMind Control with four steps under one action."""

_FPS = 10


class DreamCallback(ObservingCallback):
    """
    Plays real episodes between two updates, deterministically, and lets the latent model dream their continuation under the
    same actions, as :func:`~sb3_latent.dreams.dream` says. Every look has the same seeds.

    Logs the mean squared errors of :func:`~sb3_latent.dreams.open_loop_errors` after 1, 4, 16, ... and ``horizon`` steps:
    ``dream/error_<step>``, beside it ``dream/posterior_error_<step>`` and ``dream/repeat_error_<step>``, and, if the model
    learns rewards, ``dream/reward_error_<step>``. To TensorBoard go the curves ``dream/errors``, and from the start of the
    first episode the sheet ``dream/images`` and the video ``dream/video``. The video is written at once, as a GIF, without the
    package moviepy that SB3's ``Video`` asks for.

    :param env: environment of windows to play in, not the one that the model trains in.
    :param every: environment steps between two looks. Own choice, as in ``ReconstructionCallback``.
    :param n_prefix: frames seen, as for :func:`~sb3_latent.dreams.dream`.
    :param horizon: frames dreamt, as for :func:`~sb3_latent.dreams.dream`.
    :param n_episodes: episodes to play, of at most 250 steps each.
    :param folder: where to write ``dream_<steps>.png``, ``dream_<steps>.gif`` and ``dream_errors_<steps>.png``; None writes
        none.
    :param n_channels: channels of one frame of a stack, see :func:`~sb3_latent.saliency.newest_frame`.
    :param verbose: 1 prints the name of each sheet.
    :raises ValueError: if a number is too small or no integer, or prefix and horizon do not fit into such an episode.
    """

    def __init__(
        self,
        env: GymEnv,
        every: int = 10_000,
        n_prefix: int = 8,
        horizon: int = 16,
        n_episodes: int = 2,
        folder: str | Path | None = None,
        n_channels: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(every, 1, verbose)
        self.env = env
        self.n_prefix = whole_number("n_prefix", n_prefix, 2)
        self.horizon = whole_number("horizon", horizon)
        if n_prefix + horizon > MAX_STEPS + 1:
            raise ValueError(
                f"n_prefix={n_prefix} and horizon={horizon} are more than the {MAX_STEPS + 1} frames of the longest episode "
                "that is played; pass less."
            )
        self.n_episodes = whole_number("n_episodes", n_episodes)
        self.folder = None if folder is None else Path(folder)
        self.n_channels = n_channels

    def _init_callback(self) -> None:
        """
        :raises TypeError: if the model has no latent model.
        :raises ValueError: if the environment is the one that is trained in, or has other windows than the model, or frames
            are no images, or ``n_channels`` does not fit them.
        """
        ours, theirs = window_spec(self.env.observation_space), get_latent_model(self.model).encoders.spec
        if ours != theirs:
            raise ValueError(f"DreamCallback(env): the environment observes {ours} and the model {theirs}; wrap both alike.")
        if not ours.is_image:
            raise ValueError(
                f"DreamCallback draws images, but a frame has shape {ours.frame_shape}; use open_loop_errors instead."
            )
        newest_frame(np.zeros(ours.frame_shape), self.n_channels)
        if _unwrapped(self.env) & _unwrapped(self.training_env):
            raise ValueError("DreamCallback(env): this is the environment that the model trains in; make another one.")

    def _observations(self) -> Observations:
        """It plays its own."""
        return {}

    def _look(self, observations: Observations) -> None:
        played = [play_episode(self.env, self.model, MAX_STEPS, seed) for seed in range(self.n_episodes)]
        long = [episode for episode in played if len(episode.frames) >= self.n_prefix + self.horizon]
        if not long:
            warnings.warn(
                f"no dream at step {self.num_timesteps}: every episode played has less than {self.n_prefix} + {self.horizon} "
                "frames; lower n_prefix or horizon.",
                UserWarning,
                stacklevel=2,
            )
            return
        dreams = [dream(self.model, episode, self.n_prefix, self.horizon) for episode in long]
        errors = open_loop_errors(dreams)
        self._record_errors(errors)
        self._draw(dreams[0], errors)

    def _record_errors(self, errors: OpenLoopErrors) -> None:
        powers = (4**exponent for exponent in range(self.horizon.bit_length()))
        for step in sorted({*(power for power in powers if power < self.horizon), self.horizon}):
            self.logger.record(f"dream/error_{step}", errors.frames["dream"][step - 1])
            self.logger.record(f"dream/posterior_error_{step}", errors.frames["posterior"][step - 1])
            self.logger.record(f"dream/repeat_error_{step}", errors.frames["repeat"][step - 1])
            if errors.rewards:
                self.logger.record(f"dream/reward_error_{step}", errors.rewards["dream"][step - 1])

    def _draw(self, dreams: Dreams, errors: OpenLoopErrors) -> None:
        sheet_path = self._path(f"dream_{self.num_timesteps}.png")
        sheet = dream_sheet(dreams, sheet_path, n_channels=self.n_channels)
        curves = error_curves(errors, self._path(f"dream_errors_{self.num_timesteps}.png"))
        self.logger.record("dream/images", Image(sheet, "HWC"), exclude=TEXT_FORMATS)
        self.logger.record("dream/errors", Image(curves, "HWC"), exclude=TEXT_FORMATS)
        video = dream_video(dreams, n_channels=self.n_channels)
        encoded = gif(video, _FPS)
        video_path = self._path(f"dream_{self.num_timesteps}.gif")
        if video_path is not None:
            with atomic_path(video_path) as temporary:
                temporary.write_bytes(encoded)
        self._log_video(video, encoded)
        if self.verbose >= 1 and sheet_path is not None:
            print(f"Dreams written to {sheet_path}")

    def _log_video(self, video: Picture, encoded: bytes) -> None:
        """As SB3 and torch do, but for the GIF, which torch has moviepy make."""
        _, height, width, n_channels = video.shape
        image = Summary.Image(height=height, width=width, colorspace=n_channels, encoded_image_string=encoded)
        for output in self.logger.output_formats:
            if isinstance(output, TensorBoardOutputFormat):
                writer: Any = output.writer
                summary = Summary(value=[Summary.Value(tag="dream/video", image=image)])
                writer.file_writer.add_summary(summary, self.num_timesteps)

    def _path(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / name


def _unwrapped(env: GymEnv) -> set[int]:
    """Identities of what is stepped in the end."""
    bare: Any = env.unwrapped
    inside = bare.envs if isinstance(bare, DummyVecEnv) else []
    return {id(bare), *(id(one.unwrapped) for one in inside)}
