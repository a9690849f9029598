"""Zeroed arrays in memory or on a disk, and one line with the numbers where there is no room for them."""

import errno
import math
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil


def warn_if_memory_is_short(n_bytes: int) -> None:
    """
    :param n_bytes: what is about to be filled; what is only reserved does not count as taken yet.
    """
    if n_bytes > psutil.virtual_memory().available:
        warnings.warn(_memory_line(n_bytes), stacklevel=2)


def frames_in_memory(n_frames: int, frame_shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """
    :param n_frames: frames to make room for.
    :param frame_shape: shape of each.
    :return: zeros, uint8, shape (n_frames, \\*frame_shape). The system hands out the memory as it is written to.
    :raises MemoryError: if the system refuses, with the numbers.
    """
    try:
        return np.zeros((n_frames, *frame_shape), np.uint8)
    except MemoryError as error:
        raise MemoryError(_memory_line(n_frames * math.prod(frame_shape))) from error


def frames_on_disk(n_frames: int, frame_shape: tuple[int, ...], folder: str | Path) -> npt.NDArray[np.uint8]:
    """
    As :func:`frames_in_memory`, mapped from a nameless file that vanishes with the array, however the process ends.

    The blocks are reserved at once where the system can do that: a disk that fills up later would kill the process.

    :param n_frames: frames to make room for.
    :param frame_shape: shape of each.
    :param folder: where the file lies; made if it is missing.
    :return: zeros, uint8, shape (n_frames, \\*frame_shape).
    :raises ValueError: if ``folder`` is a file.
    :raises MemoryError: if the disk is full, with the numbers.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"path={str(folder)!r} is a file; pass the folder in which the frames are to lie.")
    folder.mkdir(parents=True, exist_ok=True)
    n_bytes = n_frames * math.prod(frame_shape)
    free = shutil.disk_usage(folder).free
    line = (
        f"the replay buffer asks for {n_bytes / 1e9:.2f} GB on the disk of path={str(folder)!r}, where {free / 1e9:.2f} GB "
        "are free: pass a smaller buffer_size or a path on another disk."
    )
    if n_bytes > free:
        warnings.warn(line, stacklevel=2)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            return np.asarray(np.memmap(file, np.uint8, "w+", shape=(n_frames, *frame_shape)))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.ENOMEM):
                raise
            raise MemoryError(line) from error


def resized(array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """
    :param array: shape (n, ...).
    :param length: of the result.
    :return: the first ``length`` rows, or all of them and zeros after them.
    """
    if length <= len(array):
        return array[:length]
    longer = np.zeros((length, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


def _memory_line(n_bytes: int) -> str:
    return (
        f"the replay buffer asks for {n_bytes / 1e9:.2f} GB of memory, of which "
        f"{psutil.virtual_memory().available / 1e9:.2f} GB are free: pass a smaller buffer_size, or "
        "replay_buffer_kwargs=dict(path=<a folder on a disk with room>)."
    )
