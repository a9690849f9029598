"""A replay buffer of windows that holds every frame once."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_latent.buffers.columns import NEXT, Column, StackColumn
from sb3_latent.buffers.frame_replay_buffer import FrameReplayBuffer
from sb3_latent.windows import ACTIONS, FRAMES, MASK, WindowBatch, WindowObservations, describe, window_spec

REWARDS = "rewards"
"""Name of the array that the buffer adds to those of a window: the rewards before the window's last frame, (T - 1,)."""
BEGIN_ANEW = "begin a new episode where training was broken off: model.set_env(model.env) before model.learn(...)"


class SequenceReplayBuffer(FrameReplayBuffer):
    """
    A ``replay_buffer_class`` for the windows of :class:`~sb3_latent.envs.HistoryWrapper`::

        SAC(SLACPolicy, HistoryWrapper(env, length=8), replay_buffer_class=SequenceReplayBuffer, ...)

    A frame of bytes is held once, 64x64x3 with windows of 8 in 1.05 frames a transition, where SB3's ``DictReplayBuffer``
    takes 16. Vectors, frames of other types among them, are held as they come, in both windows of a transition.

    What is sampled is what ``DictReplayBuffer`` samples, bit for bit and draw for draw, and more: the observations are
    :class:`~sb3_latent.windows.WindowObservations`, two views of one :class:`~sb3_latent.windows.WindowBatch` of T + 1 frames,
    which has the rewards of the window as well (0 before its first frame). Its last actions are those that ``samples.actions``
    has, as the wrapper scaled them back: equal up to rounding.

    Episodes that are shorter than the window are there with their padding (toshikwa's slac.pytorch leaves them out).

    :param buffer_size: transitions, of all environments together.
    :param observation_space: of the environment: windows.
    :param action_space: of the environment: Box.
    :param device: where samples go.
    :param n_envs: environments.
    :param optimize_memory_usage: must stay False: SB3's name for another way to save memory.
    :param handle_timeout_termination: bootstrap where an episode ended by a time limit, as in stock buffers.
    :param path: as for :class:`~sb3_latent.buffers.FrameReplayBuffer`.
    :raises ValueError: if the observations are no windows, the actions no Box, another argument is out of its range, or
        ``path`` is given and frames are no images of bytes.
    :raises MemoryError: if there is no room, with the numbers.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        path: str | Path | None = None,
    ) -> None:
        spec = window_spec(observation_space)
        if path is not None and spec.scale == 1:
            raise ValueError(f"path={str(path)!r}: frames of shape {spec.frame_shape} are no images of bytes; drop path.")
        if not isinstance(action_space, spaces.Box):
            raise ValueError(
                f"SequenceReplayBuffer: the action space {describe(action_space)} is no Box; use an algorithm of continuous "
                "actions, or PPO, which needs no replay buffer."
            )
        super().__init__(
            buffer_size,
            observation_space,
            action_space,
            device,
            n_envs=n_envs,
            optimize_memory_usage=optimize_memory_usage,
            handle_timeout_termination=handle_timeout_termination,
            path=path,
        )

    def add(
        self,
        obs: npt.NDArray[Any] | dict[str, npt.NDArray[Any]],
        next_obs: npt.NDArray[Any] | dict[str, npt.NDArray[Any]],
        action: npt.NDArray[Any],
        reward: npt.NDArray[Any],
        done: npt.NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """
        Store one transition of each environment, after those that came before it in its episode; everything is copied.

        :param obs: batch of n_envs windows.
        :param next_obs: what followed, which at the end of an episode is its last window.
        :param action: shape (n_envs, \\*action_shape), scaled to [-1, 1].
        :param reward: shape (n_envs,).
        :param done: shape (n_envs,), whether the episode ended.
        :param infos: ``TimeLimit.truncated`` says that it ended by a time limit.
        :raises ValueError: if a next window is not the window moved on by one frame, or an earlier transition of a window was
            not added.
        """
        if not (isinstance(obs, dict) and isinstance(next_obs, dict)):
            raise ValueError(
                "the observations are no windows; put VecNormalize outside: VecNormalize(HistoryWrapper(env), ...)."
            )
        has_past = np.asarray(obs[MASK])[:, :-1] != 0
        self._check_order(obs, next_obs, has_past)
        past = np.where(has_past, self._columns[REWARDS].rows[self.pos - 1, NEXT], 0)
        past_next = np.concatenate([past[:, 1:], np.reshape(reward, (-1, 1))], axis=1)
        super().add({**obs, REWARDS: past}, {**next_obs, REWARDS: past_next}, action, reward, done, infos)

    def _check_order(
        self, obs: dict[str, npt.NDArray[Any]], next_obs: dict[str, npt.NDArray[Any]], has_past: npt.NDArray[np.bool_]
    ) -> None:
        for name in (FRAMES, ACTIONS, MASK):
            env = _first_difference(obs[name][:, 1:], next_obs[name][:, :-1])
            if env is not None:
                raise ValueError(
                    f"environment {env}: the next {name} are not those of the window moved on by one frame; hand out the last "
                    f"observation of an episode as info['terminal_observation'], and {BEGIN_ANEW}."
                )
        # The rewards of the past are those of the row before. Actions and mask tell whether this one follows on it.
        began = has_past.any(axis=1)
        for name in (ACTIONS, MASK):
            last = self._columns[name].rows[self.pos - 1, NEXT]
            env = _first_difference(obs[name][began], last[began])
            if env is not None:
                raise ValueError(
                    f"environment {np.flatnonzero(began)[env]}: the window has earlier frames, but the transition before this "
                    f"one was not added; add them in their order, and {BEGIN_ANEW}."
                )

    def _get_samples(self, batch_inds: npt.NDArray[np.int64], env: VecNormalize | None = None) -> ReplayBufferSamples:
        if env is not None and env.norm_obs:
            raise ValueError(
                "VecNormalize(norm_obs=True): windows are kept as they are; use VecNormalize(env, norm_obs=False)."
            )
        # The draw of stock buffers.
        index = batch_inds, np.random.randint(0, high=self.n_envs, size=len(batch_inds))
        windows = {name: column.read_on(index) for name, column in self._columns.items()}
        batch = WindowBatch(
            frames=self.to_torch(windows[FRAMES]),
            actions=self.to_torch(windows[ACTIONS]),
            rewards=self.to_torch(self._normalize_reward(windows[REWARDS], env)),
            terminals=self.to_torch(self.dones[index] * (1 - self.timeouts[index])),
            mask=self.to_torch(windows[MASK].view(np.bool_)),
        )
        return ReplayBufferSamples(
            observations=WindowObservations(batch, is_next=False),  # type: ignore[arg-type]  # of Dict spaces, too, in SB3
            actions=self.to_torch(self.actions[index]),
            next_observations=WindowObservations(batch, is_next=True),  # type: ignore[arg-type]  # likewise
            dones=batch.terminals[:, None],
            rewards=batch.rewards[:, -1:],
        )

    def _arrays(self, space: spaces.Space[Any]) -> dict[str, spaces.Space[Any]]:
        arrays = super()._arrays(space)
        mask = arrays[MASK]
        assert isinstance(mask, spaces.Box)
        return {**arrays, REWARDS: spaces.Box(-np.inf, np.inf, (mask.shape[0] - 1,), np.float32)}

    def _column(self, name: str, space: spaces.Space[Any]) -> Column:
        if isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 4:
            return StackColumn(name, space, space.shape[0], self.buffer_size, self.n_envs, self.path)
        return super()._column(name, space)


def _first_difference(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> int | None:
    """Index of the first row in which two arrays differ."""
    if np.array_equal(a, b):
        return None
    return int(np.argmax((a != b).reshape(len(a), -1).any(axis=1)))
