"""Stacks of frames, of which each frame is held once."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space_channels_first

from sb3_latent.buffers.frame_pool import BLANK, FramePool


class FrameStacks:
    """
    A pool of frames, and how a stack is taken apart and put together. A stack is a row of slots of the pool, newest last.

    A stack that moved on from another by one frame shares its slots but for the newest. In any other repeated frames take one
    slot and frames of zeros none; so both paddings (zeros by SB3's VecFrameStack, the first frame by Gymnasium's
    FrameStackObservation) cost one frame an episode.

    :param name: of the array, for messages.
    :param space: of one stack: uint8, shape (n_frames * C, H, W) or (H, W, n_frames * C), or a window (n_frames, C, H, W).
    :param n_frames: frames of a stack; None takes three channels for a colour frame where 3 divides them, else each for
        a grey frame.
    :param n_envs: environments.
    :param n_steps: of each, for which room is made. An episode takes ``n_frames`` more; what that comes to beyond one episode
        an environment is found in memory.
    :param path: as for :class:`FramePool`.
    :raises ValueError: if ``n_frames`` does not divide the channels.
    """

    def __init__(
        self, name: str, space: spaces.Box, n_frames: int | None, n_envs: int, n_steps: int, path: str | Path | None
    ) -> None:
        self.shape = space.shape
        # Of a window, each frame is a channel.
        self._axis = 0 if len(space.shape) == 4 or is_image_space_channels_first(space) else 2
        self.n_channels = space.shape[self._axis]
        if n_frames is None:
            n_frames = self.n_channels // 3 if self.n_channels % 3 == 0 else self.n_channels
        if self.n_channels % n_frames:
            raise ValueError(
                f"{name!r}: n_frames={n_frames} does not divide the {self.n_channels} stacked channels; pass a divisor."
            )
        self.n_frames = n_frames
        before, after = self.shape[: self._axis], self.shape[self._axis + 1 :]
        self._split_shape = (*before, n_frames, self.n_channels // n_frames, *after)
        frame_shape = tuple(np.delete(self._split_shape, self._axis).tolist())
        # The frame of zeros, and the one that comes before another goes.
        self._pool = FramePool(n_envs * (n_steps + n_frames) + 2, frame_shape, path)

    @property
    def n_bytes(self) -> int:
        """:return: bytes of memory when it is full."""
        return self._pool.n_bytes

    def split(self, stacks: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """
        :param stacks: (n, \\*shape).
        :return: (n, n_frames, \\*frame_shape), a view.
        """
        return np.moveaxis(stacks.reshape(len(stacks), *self._split_shape), 1 + self._axis, 1)

    def join(self, frames: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """
        The inverse of :meth:`split`.

        :param frames: (..., n_frames, \\*frame_shape).
        :return: (..., \\*shape).
        """
        before = frames.shape[: -len(self._split_shape)]
        stacks = np.moveaxis(frames, len(before), len(before) + self._axis)
        return stacks.reshape(*before, *self.shape)

    def put(self, frames: npt.NDArray[np.uint8], after: list[int] | None = None) -> list[int]:
        """
        :param frames: (n_frames, \\*frame_shape); copied.
        :param after: slots of the stack that this one moved on from by one frame; None if there is none.
        :return: its slots.
        """
        if after is not None:
            return [*after[1:], self._pool.put(frames[-1])]
        slots: list[int] = []
        for i, frame in enumerate(frames):
            if i > 0 and np.array_equal(frame, frames[i - 1]):
                slots.append(slots[-1])
            else:
                slots.append(self._pool.put(frame) if frame.any() else BLANK)
        return slots

    def frames(self, slots: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
        """
        :param slots: any shape.
        :return: a copy of their frames, (\\*slots.shape, \\*frame_shape).
        """
        return self._pool[slots]

    def release(self, slots: set[int]) -> None:
        """
        :param slots: that no stack names any longer.
        """
        self._pool.release(slots)

    def clear(self) -> None:
        """Forget every frame."""
        self._pool.clear()


def equal_rows(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """
    :param a: (n, ...).
    :param b: of the same shape.
    :return: whether rows are equal, shape (n,).
    """
    same: npt.NDArray[np.bool_] = (a == b).reshape(len(a), -1).all(axis=1)
    return same
