"""The convolutional trunks of world models: that of SLAC, and that which World Models and Dreamer share."""

import functools
import itertools
from typing import ClassVar

import torch as th
from torch import nn

from sb3_latent.checks import whole_number
from sb3_latent.nn.convolutional import ChannelsLast, ConvLayer, ConvTrunk, crop, margin_to
from sb3_latent.nn.trunk import TRUNKS, require_image
from sb3_latent.search import Choice, SearchSpace


class PointConvTranspose2d(nn.ConvTranspose2d):
    """
    A transposed convolution of a map of one pixel, computed as a product of matrices: the same function of the same
    weights, without a convolution's overhead. There is no padding.
    """

    def forward(self, input: th.Tensor, output_size: list[int] | None = None) -> th.Tensor:
        """
        :param input: (B, C_in, 1, 1).
        :param output_size: not used; the output is as large as the kernel.
        :return: (B, C_out, *kernel_size), as ``nn.ConvTranspose2d``.
        """
        del output_size
        assert self.bias is not None
        channels, height, width = self.weight.shape[1:]
        bias = self.bias.repeat_interleave(height * width)
        return th.addmm(bias, input.flatten(1), self.weight.flatten(1)).view(-1, channels, height, width)


class WorldModelTrunk(ConvTrunk):
    """
    Convolutions for 64x64 pixels whose last map is the features. Images below 64 pixels are zero padded to 64.

    The convolutions hold channels last in memory: forward takes 0.55 to 0.7 of the time on a CPU, forward and backward 0.65
    to 0.75 (288 frames of 3x64x64, one and two threads). The features keep the order (C, H, W).
    """

    search_space: ClassVar[SearchSpace] = {"depth": Choice((16, 32, 48))}

    def forward(self, frames: th.Tensor) -> th.Tensor:
        return super().forward(frames.contiguous(memory_format=th.channels_last))


@TRUNKS.register("slac")
class SlacTrunk(WorldModelTrunk):
    """
    SLAC's compressor and decoder (Lee et al. 2020, arXiv:1907.00953; ``Compressor`` and ``Decoder`` of the authors'
    ``model_distribution_network.py``): Conv 32@5x5 s2, 64@3x3 s2, 128@3x3 s2, 256@3x3 s2, 256@4x4 s1, leaky ReLU (slope 0.2)
    after each; 64x64 pixels become 256 features. The decoder takes the latent as a map of one pixel: transposed
    convolutions 256@4x4 s1, 128@3x3 s2, 64@3x3 s2, 32@3x3 s2, C@5x5 s2, leaky ReLU after each, the last included.

    Deviations: the padding is symmetric, as in toshikwa's ``slac.pytorch``; TensorFlow's "SAME" pads one pixel more at the
    right and the bottom than at the left and the top. Images below 64 pixels are zero padded to 64. Larger images
    leave a last map of several pixels, all of which are features, and the kernel of the decoder's first layer is as large as
    the encoder's map before its last convolution.

    :param frame_shape: (C, H, W), sides of at least 32.
    :param depth: channels of the first convolution, ``base_depth`` in the authors' code; the others have multiples of it.
    :raises ValueError: if the frame is no image of that size, or the depth is no positive integer.
    """

    def __init__(self, frame_shape: tuple[int, ...], depth: int = 32) -> None:
        require_image(frame_shape, "slac")
        depth = whole_number("depth", depth)
        halving = (ConvLayer(depth, 5, 2, 2), *(ConvLayer(multiple * depth, 3, 2, 1) for multiple in (2, 4, 8)))
        activation = functools.partial(nn.LeakyReLU, 0.2, inplace=True)
        super().__init__(frame_shape, (*halving, ConvLayer(8 * depth, 4, 1)), None, smallest=64, activation=activation)

    def make_decoder(self, latent_dim: int) -> nn.Module:
        n_halving = len(self.layers) - 1
        channels, height, width = self.shapes[n_halving]
        return nn.Sequential(
            nn.Unflatten(1, (latent_dim, 1, 1)),
            PointConvTranspose2d(latent_dim, channels, (height, width)),
            ChannelsLast(),
            self.activation(),
            *self.mirrored(n_halving),
            self.activation(),
        )


@TRUNKS.register("dreamer")
class DreamerTrunk(WorldModelTrunk):
    """
    The network of World Models (Ha and Schmidhuber 2018, arXiv:1803.10122; authors' ``vae.py``) and of Dreamer (Hafner et al.
    2020, arXiv:1912.01603; ``ConvEncoder`` and ``ConvDecoder`` of the authors' ``models.py``): Conv 32, 64, 128, 256, all 4x4
    s2 with ReLU; 64x64 pixels become 1024 features. The decoder: a linear layer to 1024, taken as a map of one pixel without
    an activation, then transposed convolutions 128@5x5, 64@5x5, 32@6x6, C@6x6, all s2, ReLU between them. The sigmoid of
    World Models is the likelihood's (``"bernoulli"``).

    Deviations, neither at 64x64: images below 64 pixels are zero padded to 64; for larger ones the decoder's first map has
    one pixel more for each 16 pixels begun, and what its output has too much is cropped.

    :param frame_shape: (C, H, W), sides of at least 32.
    :param depth: channels of the first convolution; the others have multiples of it.
    :raises ValueError: if the frame is no image of that size, or the depth is no positive integer.
    """

    def __init__(self, frame_shape: tuple[int, ...], depth: int = 32) -> None:
        require_image(frame_shape, "dreamer")
        depth = whole_number("depth", depth)
        layers = tuple(ConvLayer(multiple * depth, 4, 2) for multiple in (1, 2, 4, 8))
        super().__init__(frame_shape, layers, None, smallest=64)

    def make_decoder(self, latent_dim: int) -> nn.Module:
        # The four layers turn n pixels into 16 n + 48.
        height, width = (max(1, -((48 - side) // 16)) for side in self.frame_shape[1:])
        depth = self.layers[0].channels
        pixels = (32 * depth, height, width)
        first = PointConvTranspose2d if height == width == 1 else nn.ConvTranspose2d
        widths = [4 * depth, 2 * depth, depth, self.frame_shape[0]]
        modules: list[nn.Module] = [first(pixels[0], widths[0], 5, 2), ChannelsLast()]
        for (a, b), kernel_size in zip(itertools.pairwise(widths), (5, 6, 6), strict=True):
            modules += [self.activation(), nn.ConvTranspose2d(a, b, kernel_size, 2)]
        surplus = margin_to(self.frame_shape, 16 * height + 48, 16 * width + 48)
        n_pixels = pixels[0] * height * width
        return nn.Sequential(nn.Linear(latent_dim, n_pixels), nn.Unflatten(1, pixels), *modules, *crop(surplus))
