"""The residual trunk of IMPALA."""

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import torch as th
from torch import nn

from sb3_latent.nn.large_linear import LargeLinear
from sb3_latent.nn.trunk import TRUNKS, Trunk, require_image
from sb3_latent.search import Choice, Layers, SearchSpace


class ResidualBlock(nn.Module):
    """
    ReLU, Conv 3x3, ReLU, Conv 3x3, plus the input.

    :param channels: channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        """
        :param inputs: (B, channels, H, W).
        :return: the same shape.
        """
        residual: th.Tensor = self.residual(inputs)
        return inputs + residual


@TRUNKS.register("impala")
class ImpalaTrunk(Trunk):
    """
    The large network of IMPALA (Espeholt et al. 2018, arXiv:1802.01561, figure 3): per stage Conv 3x3, max pooling
    3x3 s2, two residual blocks; then FC 256. Layer order as in CleanRL's ``ppo_procgen.py``.
    Its decoder doubles the size (nearest neighbour) where the encoder halves it.

    :param frame_shape: (C, H, W), sides of at least 32.
    :param channels: channels of each stage.
    :param hidden_dim: width of the linear layer.
    :raises ValueError: if the frame is no image of that size.
    """

    search_space: ClassVar[SearchSpace] = {
        "channels": Layers(((16, 32, 32), (32, 64, 64))),
        "hidden_dim": Choice((256, 512)),
    }

    def __init__(self, frame_shape: tuple[int, ...], channels: Sequence[int] = (16, 32, 32), hidden_dim: int = 256) -> None:
        require_image(frame_shape, "impala")
        super().__init__(frame_shape, hidden_dim)
        widths = [frame_shape[0], *channels]
        self.stages = nn.ModuleList(_down(a, b) for a, b in itertools.pairwise(widths))
        self.linear = nn.Sequential(nn.ReLU(), LargeLinear(math.prod(self._shapes()[-1]), hidden_dim), nn.ReLU())

    def forward(self, frames: th.Tensor) -> th.Tensor:
        for stage in self.stages:
            frames = stage(frames)
        features: th.Tensor = self.linear(frames.flatten(1))
        return features

    def _shapes(self) -> list[tuple[int, ...]]:
        """(C, H, W) before each stage and after the last, from one forward pass."""
        hidden = th.zeros(1, *self.frame_shape)
        shapes = [tuple(hidden.shape[1:])]
        with th.no_grad():
            for stage in self.stages:
                hidden = stage(hidden)
                shapes.append(tuple(hidden.shape[1:]))
        return shapes

    def make_decoder(self, latent_dim: int) -> nn.Module:
        shapes = self._shapes()
        modules: list[nn.Module] = [
            nn.Linear(latent_dim, self.out_dim),
            nn.ReLU(),
            nn.Linear(self.out_dim, math.prod(shapes[-1])),
            nn.Unflatten(1, shapes[-1]),
        ]
        for wanted, given in zip(shapes[-2::-1], shapes[:0:-1], strict=True):
            modules += _up(given[0], wanted)
        return nn.Sequential(*modules)


def _down(in_channels: int, out_channels: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    pooling = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(convolution, pooling, ResidualBlock(out_channels), ResidualBlock(out_channels))


def _up(channels: int, wanted: tuple[int, ...]) -> list[nn.Module]:
    upsampling = nn.Upsample(size=wanted[1:], mode="nearest")
    blocks = [ResidualBlock(channels), ResidualBlock(channels)]
    return [*blocks, nn.ReLU(), upsampling, nn.Conv2d(channels, wanted[0], 3, padding=1)]
