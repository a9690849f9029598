"""What a trunk is: the body of an encoder, and the decoder that mirrors it."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch as th
from torch import nn

from sb3_latent.registry import Registry
from sb3_latent.search import SearchSpace

SMALLEST_IMAGE = 32


class Trunk(nn.Module, ABC):
    """
    Body of an encoder: frames in, hidden features out; a head turns them into a latent.

    :param frame_shape: (C, H, W) of an image in [0, 1], or (n,) of a vector.
    :param out_dim: length of the hidden features.
    """

    search_space: ClassVar[SearchSpace] = {}
    """Arguments of the constructor that tuning may vary."""

    def __init__(self, frame_shape: tuple[int, ...], out_dim: int) -> None:
        super().__init__()
        self.frame_shape = frame_shape
        self.out_dim = out_dim

    @abstractmethod
    def forward(self, frames: th.Tensor) -> th.Tensor:
        """
        :param frames: (B, *frame_shape).
        :return: (B, out_dim).
        """

    @abstractmethod
    def make_decoder(self, latent_dim: int) -> nn.Module:
        """
        Build the mirror image of this trunk.

        :param latent_dim: length of the latent.
        :return: a module from (B, latent_dim) to (B, *frame_shape), unbounded.
        """


TRUNKS: Registry[Trunk] = Registry("trunk", Trunk)


def list_image_trunks(frame_shape: tuple[int, ...]) -> list[str]:
    """
    :param frame_shape: (C, H, W).
    :return: names of trunks that are made for images and take those of this size.
    """
    return [name for name in TRUNKS.names() if _takes(name, frame_shape) and not _takes(name, (1,))]


def _takes(name: str, frame_shape: tuple[int, ...]) -> bool:
    try:
        with th.device("meta"):
            TRUNKS.make(name, frame_shape, kwargs={})
    except ValueError:
        return False
    return True


def require_image(frame_shape: tuple[int, ...], trunk: str) -> None:
    """
    :param frame_shape: the shape of a frame.
    :param trunk: name of the trunk, for the message.
    :raises ValueError: if the frame is no image that convolutions can take and return.
    """
    if len(frame_shape) != 3:
        raise ValueError(f"trunk {trunk!r} needs an image, not a vector of shape {frame_shape}; use trunk='mlp'.")
    if min(frame_shape[1:]) < SMALLEST_IMAGE:
        raise ValueError(
            f"trunk {trunk!r} cannot take and return a {frame_shape[1]}x{frame_shape[2]} image; resize it to at least "
            f"{SMALLEST_IMAGE}x{SMALLEST_IMAGE}, or use trunk='mlp'."
        )
