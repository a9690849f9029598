"""What a replay buffer knows of one array of the observations: that of each transition, and the one after it."""

from abc import ABC, abstractmethod
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_obs_shape

from sb3_latent.buffers.frame_stacks import FrameStacks, equal_rows
from sb3_latent.buffers.room import resized

NOW, NEXT = 0, 1
"""The two moments of a transition, as indices."""


class Column(ABC):
    """
    One array of the observations of every transition.

    ``rows`` has shape (buffer_size, 2, n_envs, ...): one row a transition, with its two moments.
    """

    rows: npt.NDArray[Any]

    @property
    @abstractmethod
    def n_bytes(self) -> int:
        """:return: bytes of memory when the buffer is full."""

    @abstractmethod
    def write(self, pos: int, obs: npt.NDArray[Any], next_obs: npt.NDArray[Any], dones: npt.NDArray[np.bool_]) -> None:
        """
        :param pos: the row to overwrite: the oldest, once the buffer is full.
        :param obs: batch of n_envs arrays; copied.
        :param next_obs: what followed.
        :param dones: whether the episodes ended, shape (n_envs,).
        """

    @abstractmethod
    def read(self, moment: int, index: Any) -> npt.NDArray[Any]:
        """
        :param moment: ``NOW`` or ``NEXT``.
        :param index: of numpy's, into (buffer_size, n_envs).
        :return: a copy, as an array of shape (buffer_size, n_envs, \\*shape) would give it.
        """

    @abstractmethod
    def read_on(self, index: Any) -> npt.NDArray[Any]:
        """
        Where the next array is the one before it moved on by one: both in one.

        :param index: as for :meth:`read`, of one axis.
        :return: a copy of the first one with the last entry of the next, shape (n, 1 + length, ...).
        """

    @abstractmethod
    def clear(self) -> None:
        """Forget everything."""

    def resized(self, length: int) -> "Column":
        """
        :param length: rows of the result.
        :return: a column with the first ``length`` rows, or all of them and empty ones; it shares what it can.
        """
        column = copy(self)
        column.rows = resized(self.rows, length)
        return column


class PlainColumn(Column):
    """
    Both moments as they came, as stock buffers hold them.

    :param space: of one array.
    :param buffer_size: rows.
    :param n_envs: environments.
    """

    def __init__(self, space: spaces.Space[Any], buffer_size: int, n_envs: int) -> None:
        shape = get_obs_shape(space)
        assert isinstance(shape, tuple), "SB3 has no nested Dict spaces"
        self.rows = np.zeros((buffer_size, 2, n_envs, *shape), space.dtype)

    @property
    def n_bytes(self) -> int:
        return self.rows.nbytes

    def write(self, pos: int, obs: npt.NDArray[Any], next_obs: npt.NDArray[Any], dones: npt.NDArray[np.bool_]) -> None:
        # SB3 hands out Discrete observations without the axis that it stores them with.
        shape = self.rows.shape[2:]
        self.rows[pos, NOW] = np.reshape(obs, shape)
        self.rows[pos, NEXT] = np.reshape(next_obs, shape)

    def read(self, moment: int, index: Any) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = self.rows[:, moment][index]
        return values

    def read_on(self, index: Any) -> npt.NDArray[Any]:
        return _moved_on(self.rows, index)

    def clear(self) -> None:
        self.rows[:] = 0


class StackColumn(Column):
    """
    Stacks of frames: the frames lie in a pool, a row names their slots.

    What is stored is exact whatever arrives, because sharing goes by content: an observation that equals the one after
    the transition before it takes over that one's slots, and the next observation those of all frames but the newest. Any
    other stack, as after a reset, gets slots of its own, see :class:`FrameStacks`.

    :param name: of the array, for messages.
    :param space: of one stack.
    :param n_frames: frames of a stack; None as for :class:`FrameStacks`.
    :param buffer_size: rows.
    :param n_envs: environments.
    :param path: as for :class:`FramePool`.
    :raises ValueError: if ``n_frames`` does not divide the channels.
    """

    def __init__(
        self, name: str, space: spaces.Box, n_frames: int | None, buffer_size: int, n_envs: int, path: str | Path | None
    ) -> None:
        self.name = name
        self.stacks = FrameStacks(name, space, n_frames, n_envs, buffer_size, path)
        self.rows = np.zeros((buffer_size, 2, n_envs, self.stacks.n_frames), np.int32)

    @property
    def n_bytes(self) -> int:
        return self.rows.nbytes + self.stacks.n_bytes

    def write(self, pos: int, obs: npt.NDArray[Any], next_obs: npt.NDArray[Any], dones: npt.NDArray[np.bool_]) -> None:
        frames, next_frames = self.stacks.split(obs), self.stacks.split(next_obs)
        last = self.rows[pos - 1, NEXT]
        goes_on = equal_rows(self.stacks.frames(last), frames)
        moves_on = equal_rows(frames[:, 1:], next_frames[:, :-1])
        # A vectorised environment that keeps the last observation to itself shows the next episode's first one instead.
        if not np.all(moves_on | dones):
            raise ValueError(self._no_stack(int(np.argmin(moves_on | dones))))
        for env in range(len(frames)):
            slots = last[env].tolist() if goes_on[env] else self.stacks.put(frames[env])
            next_slots = self.stacks.put(next_frames[env], after=slots if moves_on[env] else None)
            overwritten = _slots(self.rows[pos, :, env])
            self.rows[pos, :, env] = slots, next_slots
            # A transition shares slots with the one after it alone, and those are in what that one observed.
            self.stacks.release(overwritten - _slots(self.rows[(pos + 1) % len(self.rows), NOW, env]))

    def read(self, moment: int, index: Any) -> npt.NDArray[Any]:
        return self.stacks.join(self.stacks.frames(self.rows[:, moment][index]))

    def read_on(self, index: Any) -> npt.NDArray[Any]:
        slots = _moved_on(self.rows, index)
        return self.stacks.frames(slots).reshape(*slots.shape, *self.stacks.shape[1:])

    def clear(self) -> None:
        self.rows[:] = 0
        self.stacks.clear()

    def _no_stack(self, env: int) -> str:
        n_channels, n_frames = self.stacks.n_channels, self.stacks.n_frames
        others = sorted({n_channels, 1} - {n_frames}, reverse=True)
        return (
            f"{self.name!r} of environment {env}: next_obs is not obs moved on by one frame, so these {n_channels} "
            f"channels are no stack of {n_frames} frames, newest last; pass replay_buffer_kwargs=dict(n_frames=...), "
            f"e.g. {' or '.join(map(str, others))} (1 holds stacks whole)."
        )


def _moved_on(rows: npt.NDArray[Any], index: Any) -> npt.NDArray[Any]:
    """Rows of the one moment with the last entry of the next, shape (n, 1 + length, ...)."""
    return np.concatenate([rows[:, NOW][index], rows[:, NEXT][index][:, -1:]], axis=1)


def _slots(rows: npt.NDArray[np.int32]) -> set[int]:
    return set(rows.ravel().tolist())
