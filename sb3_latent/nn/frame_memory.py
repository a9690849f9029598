"""Frames that were encoded a step ago need not be encoded again."""

from collections.abc import Callable

import torch as th
from torch import nn


class FrameMemory:
    """
    Means of stacks of which only the newest frame is new, as they come while an agent acts.

    What is remembered is compared, pixel by pixel, with what arrives, so that nobody has to say where an episode ends: a stack
    that does not go on with the last one is encoded whole. So is everything after the weights were changed in a way that torch
    counts; fused optimizers and ``.data`` are none, so that updates call :meth:`forget`. To compare waits for the device, as
    acting does anyhow.

    :param encoder: from frames (n, *frame_shape) to what remembers them; its weights are watched.
    :param n_frames: of a stack.
    """

    def __init__(self, encoder: nn.Module, n_frames: int) -> None:
        self._encoder = encoder
        self._n_frames = n_frames
        self.forget()

    def forget(self) -> None:
        """Encode whatever comes next whole."""
        self._older = th.zeros(0)
        self._means = th.zeros(0)
        self._state: list[tuple[int, int]] = []

    def means(self, frames: th.Tensor, encode: Callable[[th.Tensor], th.Tensor]) -> th.Tensor:
        """
        :param frames: (B * n_frames, *frame_shape), stack after stack, the newest last.
        :param encode: (n, *frame_shape) to (n, latent_dim).
        :return: (B * n_frames, latent_dim).
        """
        stacks = th.unflatten(frames, 0, (-1, self._n_frames))
        return self._means_of(stacks, encode).flatten(0, 1)

    def _means_of(self, stacks: th.Tensor, encode: Callable[[th.Tensor], th.Tensor]) -> th.Tensor:
        state = [(parameter.data_ptr(), parameter._version) for parameter in self._encoder.parameters()]
        if state != self._state or stacks[:, :-1].shape != self._older.shape:
            means = th.unflatten(encode(stacks.flatten(0, 1)), 0, stacks.shape[:2])
        else:
            means = self._continued(stacks, encode)
        # A copy, for an environment may write the next step into the same memory.
        self._older, self._means, self._state = stacks[:, 1:].clone(), means, state
        return means

    def _continued(self, stacks: th.Tensor, encode: Callable[[th.Tensor], th.Tensor]) -> th.Tensor:
        if th.equal(stacks[:, :-1], self._older):
            return th.cat([self._means[:, 1:], encode(stacks[:, -1])[:, None]], 1)
        is_new = th.ones(stacks.shape[:2], dtype=th.bool, device=stacks.device)
        goes_on = (stacks[:, :-1] == self._older).flatten(1).all(1)
        is_new[:, :-1] = ~goes_on[:, None]
        means = th.cat([self._means[:, 1:], self._means[:, :1]], 1)
        means[is_new] = encode(stacks[is_new])
        return means
