"""Plain convolutional trunks: the network of Mnih et al., that of seed document 000 and that of SAC+AE."""

import itertools
import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_latent.checks import whole_number
from sb3_latent.nn.large_linear import LargeLinear
from sb3_latent.nn.trunk import TRUNKS, Trunk, require_image
from sb3_latent.search import Choice, Int, SearchSpace


class ConvLayer(NamedTuple):
    """One convolution with square kernels; ``padding`` is symmetric zero padding."""

    channels: int
    kernel_size: int
    stride: int
    padding: int = 0


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


class ConvTrunk(Trunk):
    """
    Convolutions, flattened, and one linear layer where a width is given, with an activation after each. Its decoder runs the
    same layers backwards; each transposed convolution is padded so that it returns exactly the size its counterpart received.

    :param frame_shape: (C, H, W).
    :param layers: the convolutions, first to last.
    :param hidden_dim: width of the linear layer; None for none: the features are the last feature map.
    :param smallest: images with a shorter side are zero padded up to it, and cropped again by the decoder.
    :param activation: makes the module after each layer; ReLU, in place.
    """

    def __init__(
        self,
        frame_shape: tuple[int, ...],
        layers: tuple[ConvLayer, ...],
        hidden_dim: int | None,
        smallest: int,
        activation: Callable[[], nn.Module] = _relu,
    ) -> None:
        margin = margin_to(frame_shape, smallest, smallest)
        shapes = _shapes(frame_shape, layers, margin)
        n_flat = math.prod(shapes[-1])
        super().__init__(frame_shape, n_flat if hidden_dim is None else hidden_dim)
        self.layers = layers
        self.margin = margin
        self.shapes = shapes
        self.hidden_dim = hidden_dim
        self.activation = activation
        convolutions: list[nn.Module] = [nn.ZeroPad2d(margin)] if any(margin) else []
        for (in_channels, *_), layer in zip(shapes, layers, strict=False):
            convolutions += [nn.Conv2d(in_channels, *layer), activation()]
        self.convolutions = nn.Sequential(*convolutions, nn.Flatten())
        self.linear = nn.Sequential() if hidden_dim is None else nn.Sequential(LargeLinear(n_flat, hidden_dim), activation())

    def forward(self, frames: th.Tensor) -> th.Tensor:
        features: th.Tensor = self.linear(self.convolutions(frames))
        return features

    def make_decoder(self, latent_dim: int) -> nn.Module:
        widths = [latent_dim] if self.hidden_dim is None else [latent_dim, self.hidden_dim]
        modules: list[nn.Module] = []
        for a, b in itertools.pairwise([*widths, math.prod(self.shapes[-1])]):
            modules += [nn.Linear(a, b), self.activation()]
        # A fifth faster on a CPU (python -m benchmarks.cost); the encoder keeps the layout of SB3's NatureCNN, and its bits.
        modules += [nn.Unflatten(1, self.shapes[-1]), ChannelsLast()]
        return nn.Sequential(*modules, *self.mirrored(len(self.layers)))

    def mirrored(self, n_layers: int) -> list[nn.Module]:
        """
        :param n_layers: how many of the convolutions, counted from the first.
        :return: from the map (B, C, H, W) after the last of them back to the frames: transposed convolutions with the
            activation between them, and the crop of what was padded.
        """
        layers, shapes = self.layers[:n_layers], self.shapes[: n_layers + 1]
        modules: list[nn.Module] = []
        for layer, wanted, given in zip(reversed(layers), shapes[-2::-1], shapes[:0:-1], strict=True):
            modules += [_transposed(layer, wanted, given), self.activation()]
        return [*modules[:-1], *crop(self.margin)]


class ChannelsLast(nn.Module):
    """
    From here on channels lie last in memory. The weights stay contiguous, which costs nothing and which SB3's
    ``parameters_to_vector`` needs.
    """

    def forward(self, images: th.Tensor) -> th.Tensor:
        """
        :param images: (B, C, H, W).
        :return: the same.
        """
        return images.contiguous(memory_format=th.channels_last)


def margin_to(frame_shape: tuple[int, ...], height: int, width: int) -> tuple[int, int, int, int]:
    """
    :param frame_shape: (C, H, W).
    :param height: height that is wanted at least.
    :param width: width that is wanted at least.
    :return: the pixels (left, right, top, bottom) that bring the frame to that size; the frame lies in the middle.
    """
    missing_rows, missing_columns = max(0, height - frame_shape[1]), max(0, width - frame_shape[2])
    left, top = missing_columns // 2, missing_rows // 2
    return left, missing_columns - left, top, missing_rows - top


def crop(margin: tuple[int, int, int, int]) -> list[nn.Module]:
    """
    :param margin: (left, right, top, bottom).
    :return: what takes the margin off images (B, C, H, W); nothing where it is zero.
    """
    left, right, top, bottom = margin
    return [nn.ZeroPad2d((-left, -right, -top, -bottom))] if any(margin) else []


def _shapes(
    frame_shape: tuple[int, ...], layers: tuple[ConvLayer, ...], margin: tuple[int, int, int, int]
) -> list[tuple[int, ...]]:
    """(C, H, W) before each convolution and after the last."""
    channels, height, width = frame_shape
    left, right, top, bottom = margin
    shapes: list[tuple[int, ...]] = [(channels, height + top + bottom, width + left + right)]
    for layer in layers:
        height, width = ((side + 2 * layer.padding - layer.kernel_size) // layer.stride + 1 for side in shapes[-1][1:])
        shapes.append((layer.channels, height, width))
    return shapes


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


def _transposed(layer: ConvLayer, wanted: tuple[int, ...], given: tuple[int, ...]) -> nn.ConvTranspose2d:
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

    search_space: ClassVar[SearchSpace] = {"hidden_dim": Choice((256, 512, 1024))}

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

    search_space: ClassVar[SearchSpace] = {"hidden_dim": Choice((256, 512, 1024))}

    def __init__(self, frame_shape: tuple[int, ...], channels: tuple[int, int] = (32, 64), hidden_dim: int = 512) -> None:
        require_image(frame_shape, "seed84")
        first, second = channels
        super().__init__(frame_shape, (ConvLayer(first, 4, 2, 1), ConvLayer(second, 4, 2, 1)), hidden_dim, smallest=0)


@TRUNKS.register("dmc")
class DmcTrunk(ConvTrunk):
    """
    The convolutions of SAC+AE (Yarats et al. 2019, arXiv:1910.01741; authors' ``encoder.py``), which DrQ and CURL share:
    Conv 32@3x3 s2, then three times 32@3x3 s1, ReLU after each; 84 pixels become 32x35x35. There is no linear layer:
    the authors' first one is that of the head.

    The convolutions hold channels last in memory: forward and backward take 0.8 to 0.9 of the time on a CPU, forward alone
    up to 1.1 (128 frames of 9x84x84, one and two threads). The features keep the order (C, H, W).

    :param frame_shape: (C, H, W), sides of at least 32.
    :param n_layers: number of convolutions; 4 in ``train.py``.
    :param channels: of each convolution; 32 in ``train.py``.
    :raises ValueError: if the frame is no image of that size, or the layers reduce it to nothing.
    """

    search_space: ClassVar[SearchSpace] = {"n_layers": Int(2, 6), "channels": Choice((16, 32, 64))}

    def __init__(self, frame_shape: tuple[int, ...], n_layers: int = 4, channels: int = 32) -> None:
        require_image(frame_shape, "dmc")
        n_layers, channels = whole_number("n_layers", n_layers), whole_number("channels", channels)
        # The first convolution leaves (side - 1) // 2 pixels of a side, and each further one takes 2.
        most = ((min(frame_shape[1:]) - 1) // 2 + 1) // 2
        if n_layers > most:
            raise ValueError(
                f"trunk 'dmc': n_layers={n_layers} leave nothing of a {frame_shape[1]}x{frame_shape[2]} image; "
                f"use at most {most}."
            )
        layers = (ConvLayer(channels, 3, 2), *[ConvLayer(channels, 3, 1)] * (n_layers - 1))
        super().__init__(frame_shape, layers, hidden_dim=None, smallest=0)

    def forward(self, frames: th.Tensor) -> th.Tensor:
        return super().forward(frames.contiguous(memory_format=th.channels_last))
