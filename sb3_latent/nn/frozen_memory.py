"""What a frozen encoder said once need not be asked again."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th


class FrozenMemory:
    """Means of what is numbered, for as long as weights and numbers mean the same."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Encode everything anew."""
        self._is_known = np.zeros(0, np.bool_)
        self._means = th.zeros(0, 1)

    def means(
        self, frames: th.Tensor, encode: Callable[[th.Tensor], th.Tensor], numbers: npt.NDArray[np.integer[Any]]
    ) -> th.Tensor:
        """
        :param frames: (n, *frame_shape).
        :param encode: (m, *frame_shape) to (m, latent_dim).
        :param numbers: (n,), at least 0; equal only for frames that are the same.
        :return: (n, latent_dim).
        """
        different, first = np.unique(numbers, return_index=True)
        self._make_room(int(different[-1]) + 1)
        is_new = ~self._is_known[different]
        if is_new.any():
            self._learn(different[is_new], encode(frames[_index(first[is_new], frames)]))
        return self._means[_index(numbers, frames)]

    def _learn(self, numbers: npt.NDArray[np.integer[Any]], means: th.Tensor) -> None:
        if len(self._means) < len(self._is_known):
            longer = means.new_zeros(len(self._is_known), means.shape[1])
            longer[: len(self._means)] = self._means
            self._means = longer
        self._means[_index(numbers, means)] = means
        self._is_known[numbers] = True

    def _make_room(self, length: int) -> None:
        if length > len(self._is_known):
            n_more = max(length, 2 * len(self._is_known)) - len(self._is_known)
            self._is_known = np.concatenate([self._is_known, np.zeros(n_more, np.bool_)])


def _index(numbers: npt.NDArray[np.integer[Any]], like: th.Tensor) -> th.Tensor:
    return th.as_tensor(numbers, dtype=th.int64).to(like.device, non_blocking=True)
