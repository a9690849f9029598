"""The trunks for vectors, and for images too small for convolutions."""

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import torch as th
from torch import nn

from sb3_latent.nn.trunk import TRUNKS, Trunk
from sb3_latent.search import Layers, SearchSpace


@TRUNKS.register("mlp")
class MlpTrunk(Trunk):
    """
    Linear layers with ReLU; images are flattened.

    :param frame_shape: (n,) or (C, H, W).
    :param net_arch: width of each layer; the default is SB3's for off-policy critics.
    :raises ValueError: if there is no layer.
    """

    search_space: ClassVar[SearchSpace] = {"net_arch": Layers(((128, 128), (256, 256), (400, 300)))}

    def __init__(self, frame_shape: tuple[int, ...], net_arch: Sequence[int] = (256, 256)) -> None:
        if not net_arch:
            raise ValueError("trunk 'mlp': net_arch is empty; give at least one width, e.g. (256,).")
        super().__init__(frame_shape, net_arch[-1])
        self.net_arch = tuple(net_arch)
        self.layers = nn.Sequential(nn.Flatten(), *_layers([math.prod(frame_shape), *net_arch]))

    def forward(self, frames: th.Tensor) -> th.Tensor:
        features: th.Tensor = self.layers(frames)
        return features

    def make_decoder(self, latent_dim: int) -> nn.Module:
        hidden = _layers([latent_dim, *reversed(self.net_arch)])
        last = nn.Linear(self.net_arch[0], math.prod(self.frame_shape))
        return nn.Sequential(*hidden, last, nn.Unflatten(1, self.frame_shape))


@TRUNKS.register("flatten")
class FlattenTrunk(Trunk):
    """
    No network at all: the features are the frame, flattened; for states that a policy reads as they are.

    :param frame_shape: (n,) or (C, H, W).
    """

    search_space: ClassVar[SearchSpace] = {}

    def __init__(self, frame_shape: tuple[int, ...]) -> None:
        super().__init__(frame_shape, math.prod(frame_shape))

    def forward(self, frames: th.Tensor) -> th.Tensor:
        return frames.flatten(1)

    def make_decoder(self, latent_dim: int) -> nn.Module:
        return nn.Sequential(nn.Linear(latent_dim, self.out_dim), nn.Unflatten(1, self.frame_shape))


def _layers(widths: Sequence[int]) -> list[nn.Module]:
    pairs = itertools.pairwise(widths)
    return [module for a, b in pairs for module in (nn.Linear(a, b), nn.ReLU())]
