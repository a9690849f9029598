"""Frames, each held once, in numbered slots."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sb3_latent.buffers.room import frames_in_memory, frames_on_disk, warn_if_memory_is_short

BLANK = 0
"""The slot of the frame of zeros, which is always there: what VecFrameStack pads with."""


class FramePool:
    """
    Frames of one shape. A stack is a row of slots; any number of stacks may name the same slot.

    A pickle holds the frames in use only, wherever they lie; unpickling makes room for all of them again.

    :param capacity: slots for which room is made at once. More are found in memory, as many again each time.
    :param frame_shape: shape of a frame, e.g. (C, H, W).
    :param path: folder of a disk for the ``capacity``; None keeps it in memory.
    :raises ValueError: if ``path`` is a file.
    :raises MemoryError: if there is no room, with the numbers.
    """

    def __init__(self, capacity: int, frame_shape: tuple[int, ...], path: str | Path | None) -> None:
        self.capacity = capacity
        self.frame_shape = frame_shape
        self.path = path
        self._frames = self._room()
        self.clear()

    @property
    def n_bytes(self) -> int:
        """:return: bytes of memory that the slots take when they are full."""
        return self._spilled.nbytes + (self._frames.nbytes if self.path is None else 0)

    def clear(self) -> None:
        """Forget every frame."""
        self._spilled = frames_in_memory(0, self.frame_shape)
        self._n_touched = BLANK + 1
        self._free: list[int] = []

    def put(self, frame: npt.NDArray[np.uint8]) -> int:
        """
        :param frame: shape ``frame_shape``; it is copied.
        :return: its slot.
        """
        slot = self._free.pop() if self._free else self._fresh_slot()
        if slot < self.capacity:
            self._frames[slot] = frame
        else:
            self._spilled[slot - self.capacity] = frame
        return slot

    def release(self, slots: set[int]) -> None:
        """
        :param slots: that no stack names any longer.
        """
        self._free.extend(slots - {BLANK})

    def __getitem__(self, slots: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
        """
        :param slots: any shape.
        :return: a copy of their frames, shape (\\*slots.shape, \\*frame_shape).
        """
        frames = self._frames[np.minimum(slots, self.capacity - 1)]
        spilled = slots >= self.capacity
        if spilled.any():
            frames[spilled] = self._spilled[slots[spilled] - self.capacity]
        return frames

    def __getstate__(self) -> dict[str, Any]:
        n_frames = min(self._n_touched, self.capacity)
        n_spilled = self._n_touched - n_frames
        return {**self.__dict__, "_frames": self._frames[:n_frames], "_spilled": self._spilled[:n_spilled]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.path is not None or len(self._frames) < self.capacity:
            frames, self._frames = self._frames, self._room()
            self._frames[: len(frames)] = frames

    def _room(self) -> npt.NDArray[np.uint8]:
        if self.path is None:
            return frames_in_memory(self.capacity, self.frame_shape)
        return frames_on_disk(self.capacity, self.frame_shape, self.path)

    def _fresh_slot(self) -> int:
        n_spilled = self._n_touched - self.capacity
        if n_spilled == len(self._spilled):
            longer = frames_in_memory(max(64, 2 * n_spilled), self.frame_shape)
            warn_if_memory_is_short(longer.nbytes)
            longer[:n_spilled] = self._spilled
            self._spilled = longer
        self._n_touched += 1
        return self._n_touched - 1
