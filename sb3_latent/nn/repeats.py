"""Batches in which some frames occur several times."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th


class Repeats:
    """
    Which frames of a batch are the same. Known on the host, so that no gradient step waits for the device.

    :param numbers: (n,), equal for frames that are the same.
    :param device: of the frames.
    """

    def __init__(self, numbers: npt.NDArray[np.integer[Any]], device: th.device) -> None:
        _, first, which, counts = np.unique(numbers, return_index=True, return_inverse=True, return_counts=True)
        self._first, self._which = (th.as_tensor(index).to(device, non_blocking=True) for index in (first, which))
        self._counts = th.as_tensor(counts, dtype=th.float32).to(device, non_blocking=True)

    @property
    def weights(self) -> th.Tensor:
        """:return: (n_different,), the share of each in the batch."""
        return self._counts / len(self._which)

    def once(self, frames: th.Tensor) -> th.Tensor:
        """
        :param frames: (n, ...).
        :return: (n_different, ...).
        """
        return frames[self._first]

    def everywhere(self, codes: th.Tensor) -> th.Tensor:
        """
        :param codes: (n_different, latent_dim), of the frames of :meth:`once`.
        :return: (n, latent_dim).
        """
        return codes[self._which]

    def mean(self, codes: th.Tensor) -> th.Tensor:
        """
        The inverse of :meth:`everywhere`. A gradient goes to all occurrences in equal parts, as if each had been a loss's own.

        :param codes: (n, latent_dim), equal where the frames are the same.
        :return: (n_different, latent_dim).
        """
        sums = codes.new_zeros(len(self._counts), codes.shape[1]).index_add(0, self._which, codes)
        return sums / self._counts[:, None]
