"""What a replay buffer knows of one array of the observations: that of each transition, and the one after it."""

from abc import ABC, abstractmethod
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_obs_shape, is_image_space_channels_first

from sb3_latent.buffers.frame_pool import BLANK, FramePool
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
    other stack, as after a reset, gets slots of its own, repeated frames one and frames of zeros none; so both paddings
    (zeros by SB3's VecFrameStack, the first frame by Gymnasium's FrameStackObservation) cost one frame an episode.

    :param name: of the array, for messages.
    :param space: of one stack: uint8, shape (n_frames * C, H, W) or (H, W, n_frames * C), or a window (n_frames, C, H, W).
    :param n_frames: frames of a stack; None takes three channels for a colour frame where 3 divides them, else each for
        a grey frame.
    :param buffer_size: rows.
    :param n_envs: environments.
    :param path: as for :class:`FramePool`.
    :raises ValueError: if ``n_frames`` does not divide the channels.
    """

    def __init__(
        self, name: str, space: spaces.Box, n_frames: int | None, buffer_size: int, n_envs: int, path: str | Path | None
    ) -> None:
        self.name = name
        self.shape = space.shape
        # Of a window, each frame is a channel.
        self.axis = 0 if len(space.shape) == 4 or is_image_space_channels_first(space) else 2
        self.n_channels = space.shape[self.axis]
        if n_frames is None:
            n_frames = self.n_channels // 3 if self.n_channels % 3 == 0 else self.n_channels
        if self.n_channels % n_frames:
            raise ValueError(
                f"{name!r}: n_frames={n_frames} does not divide the {self.n_channels} stacked channels; pass a divisor."
            )
        self.n_frames = n_frames
        self.split_shape = (
            *self.shape[: self.axis],
            n_frames,
            self.n_channels // n_frames,
            *self.shape[self.axis + 1 :],
        )
        frame_shape = tuple(np.delete(self.split_shape, self.axis).tolist())
        self.rows = np.zeros((buffer_size, 2, n_envs, n_frames), np.int32)
        # Each environment's one episode without an end, the frame of zeros, and the frame that comes before one goes.
        self.pool = FramePool(n_envs * (buffer_size + n_frames) + 2, frame_shape, path)

    @property
    def n_bytes(self) -> int:
        return self.rows.nbytes + self.pool.n_bytes

    def write(self, pos: int, obs: npt.NDArray[Any], next_obs: npt.NDArray[Any], dones: npt.NDArray[np.bool_]) -> None:
        frames, next_frames = self._split(obs), self._split(next_obs)
        last = self.rows[pos - 1, NEXT]
        goes_on = _equal(self.pool[last], frames)
        moves_on = _equal(frames[:, 1:], next_frames[:, :-1])
        # A vectorised environment that keeps the last observation to itself shows the next episode's first one instead.
        if not np.all(moves_on | dones):
            raise ValueError(self._no_stack(int(np.argmin(moves_on | dones))))
        for env in range(len(frames)):
            slots = last[env].tolist() if goes_on[env] else self._put(frames[env])
            next_slots = [*slots[1:], self.pool.put(next_frames[env, -1])] if moves_on[env] else self._put(next_frames[env])
            overwritten = _slots(self.rows[pos, :, env])
            self.rows[pos, :, env] = slots, next_slots
            # A transition shares slots with the one after it alone, and those are in what that one observed.
            self.pool.release(overwritten - _slots(self.rows[(pos + 1) % len(self.rows), NOW, env]))

    def read(self, moment: int, index: Any) -> npt.NDArray[Any]:
        slots = self.rows[:, moment][index]
        stacks = np.moveaxis(self.pool[slots], slots.ndim - 1, slots.ndim - 1 + self.axis)
        return stacks.reshape(*slots.shape[:-1], *self.shape)

    def read_on(self, index: Any) -> npt.NDArray[Any]:
        slots = _moved_on(self.rows, index)
        return self.pool[slots].reshape(*slots.shape, *self.shape[1:])

    def clear(self) -> None:
        self.rows[:] = 0
        self.pool.clear()

    def _split(self, stacks: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(n_envs, *shape) -> (n_envs, n_frames, *frame_shape), a view."""
        return np.moveaxis(stacks.reshape(len(stacks), *self.split_shape), 1 + self.axis, 1)

    def _put(self, frames: npt.NDArray[np.uint8]) -> list[int]:
        """(n_frames, *frame_shape) -> slots."""
        slots: list[int] = []
        for i, frame in enumerate(frames):
            if i > 0 and np.array_equal(frame, frames[i - 1]):
                slots.append(slots[-1])
            else:
                slots.append(self.pool.put(frame) if frame.any() else BLANK)
        return slots

    def _no_stack(self, env: int) -> str:
        others = sorted({self.n_channels, 1} - {self.n_frames}, reverse=True)
        return (
            f"{self.name!r} of environment {env}: next_obs is not obs moved on by one frame, so these {self.n_channels} "
            f"channels are no stack of {self.n_frames} frames, newest last; pass replay_buffer_kwargs=dict(n_frames=...), "
            f"e.g. {' or '.join(map(str, others))} (1 holds stacks whole)."
        )


def _equal(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Whether rows are equal, shape (n,)."""
    same: npt.NDArray[np.bool_] = (a == b).reshape(len(a), -1).all(axis=1)
    return same


def _moved_on(rows: npt.NDArray[Any], index: Any) -> npt.NDArray[Any]:
    """Rows of the one moment with the last entry of the next, shape (n, 1 + length, ...)."""
    return np.concatenate([rows[:, NOW][index], rows[:, NEXT][index][:, -1:]], axis=1)


def _slots(rows: npt.NDArray[np.int32]) -> set[int]:
    return set(rows.ravel().tolist())
