"""Plain convolutional trunks: the network of Mnih et al. and that of seed document 000."""

import math
from typing import NamedTuple

import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_latent.nn.trunk import TRUNKS, Trunk, require_image


class ConvLayer(NamedTuple):
    """One convolution with square kernels; ``padding`` is symmetric zero padding."""

    channels: int
    kernel_size: int
    stride: int
    padding: int = 0


class ConvTrunk(Trunk):
    """
    Convolutions with ReLU, flattened into one linear layer with ReLU. Its decoder runs the same layers backwards; each
    transposed convolution is padded so that it returns exactly the size its counterpart received in a forward pass.

    :param frame_shape: (C, H, W).
    :param layers: the convolutions, first to last.
    :param hidden_dim: width of the linear layer.
    :param smallest: images with a shorter side are zero padded up to it, and cropped again by the decoder.
    """

    def __init__(self, frame_shape: tuple[int, ...], layers: tuple[ConvLayer, ...], hidden_dim: int, smallest: int) -> None:
        super().__init__(frame_shape, hidden_dim)
        self.layers = layers
        self.margin = _margin(frame_shape, smallest)
        channels = [frame_shape[0], *(layer.channels for layer in layers)]
        convolutions: list[nn.Module] = [nn.ZeroPad2d(self.margin)] if any(self.margin) else []
        for in_channels, layer in zip(channels, layers, strict=False):
            convolutions += [nn.Conv2d(in_channels, *layer), nn.ReLU()]
        self.convolutions = nn.Sequential(*convolutions, nn.Flatten())
        self.linear = nn.Sequential(nn.Linear(math.prod(self._shapes()[-1]), hidden_dim), nn.ReLU())

    def forward(self, frames: th.Tensor) -> th.Tensor:
        features: th.Tensor = self.linear(self.convolutions(frames))
        return features

    def _shapes(self) -> list[tuple[int, ...]]:
        """(C, H, W) before each convolution and after the last, from one forward pass."""
        hidden = th.zeros(1, *self.frame_shape)
        shapes = []
        with th.no_grad():
            for module in self.convolutions:
                if isinstance(module, nn.Conv2d):
                    shapes.append(tuple(hidden.shape[1:]))
                    last = hidden = module(hidden)
                else:
                    hidden = module(hidden)
        return [*shapes, tuple(last.shape[1:])]

    def make_decoder(self, latent_dim: int) -> nn.Module:
        shapes = self._shapes()
        modules: list[nn.Module] = [
            nn.Linear(latent_dim, self.out_dim),
            nn.ReLU(),
            nn.Linear(self.out_dim, math.prod(shapes[-1])),
            nn.ReLU(),
            nn.Unflatten(1, shapes[-1]),
        ]
        for layer, wanted, given in zip(reversed(self.layers), shapes[-2::-1], shapes[:0:-1], strict=True):
            modules += [_mirrored(layer, wanted, given), nn.ReLU()]
        del modules[-1]
        left, right, top, bottom = self.margin
        if any(self.margin):
            modules.append(nn.ZeroPad2d((-left, -right, -top, -bottom)))
        # A fifth faster on a CPU (python -m benchmarks.cost); the encoder keeps the layout of SB3's NatureCNN, and its bits.
        decoder = nn.Sequential(*modules)
        return decoder.to(memory_format=th.channels_last)  # type: ignore[call-overload,no-any-return]  # torch leaves it out


def _margin(frame_shape: tuple[int, ...], smallest: int) -> tuple[int, int, int, int]:
    """Zero padding (left, right, top, bottom) that brings both sides up to ``smallest``."""
    height, width = (max(0, smallest - side) for side in frame_shape[1:])
    return width // 2, width - width // 2, height // 2, height - height // 2


class SubpixelConvTranspose2d(nn.ConvTranspose2d):
    """
    A transposed convolution computed as a convolution and a pixel shuffle (Shi et al. 2016, arXiv:1609.07009): the same
    function of the same weights, in half the time on a CPU where the stride is 4. The kernel is a multiple of the stride,
    and there is no padding.
    """

    def forward(self, input: th.Tensor, output_size: list[int] | None = None) -> th.Tensor:
        """
        :param input: (B, C_in, H, W).
        :param output_size: not used; ``output_padding`` is fixed.
        :return: (B, C_out, H_out, W_out), as ``nn.ConvTranspose2d``.
        """
        del output_size
        n_in, n_out, kernel_size, _ = self.weight.shape
        stride = self.stride[0]
        reach = kernel_size // stride
        blocks = self.weight.reshape(n_in, n_out, reach, stride, reach, stride).flip(2, 4)
        weight = blocks.permute(1, 3, 5, 0, 2, 4).reshape(n_out * stride**2, n_in, reach, reach)
        assert self.bias is not None
        if not any(self.output_padding):
            bias = self.bias.repeat_interleave(stride**2)
            return F.pixel_shuffle(F.conv2d(input, weight, bias, padding=reach - 1), stride)
        output = F.pixel_shuffle(F.conv2d(input, weight, padding=reach - 1), stride)
        height, width = self.output_padding
        return F.pad(output, (0, width, 0, height)) + self.bias[:, None, None]


def _mirrored(layer: ConvLayer, wanted: tuple[int, ...], given: tuple[int, ...]) -> nn.ConvTranspose2d:
    """The transposed convolution from ``given`` (C, H, W) back to ``wanted``."""
    _, kernel_size, stride, padding = layer
    height, width = (
        want - ((have - 1) * stride - 2 * padding + kernel_size) for want, have in zip(wanted[1:], given[1:], strict=True)
    )
    is_fast = stride > 2 and kernel_size % stride == 0 and padding == 0
    layer_class = SubpixelConvTranspose2d if is_fast else nn.ConvTranspose2d
    return layer_class(given[0], wanted[0], kernel_size, stride, padding, output_padding=(height, width))


@TRUNKS.register("nature")
class NatureTrunk(ConvTrunk):
    """
    Mnih et al. 2015, the same layers as SB3's ``NatureCNN``: Conv 32@8x8 s4, 64@4x4 s2, 64@3x3 s1, FC 512.
    Deviation: images below 36 pixels, which these layers would reduce to nothing, are zero padded to 36.

    :param frame_shape: (C, H, W), sides of at least 32.
    :param hidden_dim: width of the linear layer.
    :raises ValueError: if the frame is no image of that size.
    """

    def __init__(self, frame_shape: tuple[int, ...], hidden_dim: int = 512) -> None:
        require_image(frame_shape, "nature")
        super().__init__(frame_shape, (ConvLayer(32, 8, 4), ConvLayer(64, 4, 2), ConvLayer(64, 3, 1)), hidden_dim, smallest=36)


@TRUNKS.register("seed84")
class Seed84Trunk(ConvTrunk):
    """
    Seed document 000 (ICLR 2021 submission "Guiding Representation Learning in Deep Generative Models with Policy
    Gradients"), Table 1: Conv 32@4x4 s2, 64@4x4 s2, FC 512. The paper gives no padding; 1 is the one that takes 84
    to 42 to 21 and back to 84.

    :param frame_shape: (C, H, W), sides of at least 32.
    :param channels: of the two convolutions.
    :param hidden_dim: width of the linear layer.
    :raises ValueError: if the frame is no image of that size.
    """

    def __init__(self, frame_shape: tuple[int, ...], channels: tuple[int, int] = (32, 64), hidden_dim: int = 512) -> None:
        require_image(frame_shape, "seed84")
        first, second = channels
        super().__init__(frame_shape, (ConvLayer(first, 4, 2, 1), ConvLayer(second, 4, 2, 1)), hidden_dim, smallest=0)
