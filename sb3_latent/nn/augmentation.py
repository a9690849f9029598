"""Augmentations: other views of the same images."""

from abc import ABC, abstractmethod

import torch as th
from torch import nn

from sb3_latent.checks import whole_number
from sb3_latent.registry import Registry


class Augmentation(nn.Module, ABC):
    """Changes images at random, each row of a batch in its own way; in training and evaluation mode alike."""

    is_off = False
    """Whether its settings leave every image as it is; nobody then makes a view of its own for it."""

    @abstractmethod
    def forward(self, images: th.Tensor) -> th.Tensor:
        """
        :param images: (B, C, H, W), bytes or floats.
        :return: the same shape and dtype.
        """


AUGMENTATIONS: Registry[Augmentation] = Registry("augmentation", Augmentation)


@AUGMENTATIONS.register("random_shift")
class RandomShift(Augmentation):
    """
    Move each image by whole pixels, along either axis by a number of its own, uniform in [-pad, pad], and repeat the
    pixels of the border: DrQ's ``ReplicationPad2d`` and ``RandomCrop`` (Kostrikov et al. 2020, arXiv:2004.13649;
    authors' ``replay_buffer.py``). All channels of an image move together. The result is contiguous.

    :param pad: the furthest shift in pixels; 4 in DrQ's ``config.yaml``. 0 is off: images pass as they are, and no random
        number is drawn.
    :raises ValueError: if it is no integer of at least 0.
    """

    def __init__(self, pad: int = 4) -> None:
        super().__init__()
        self.pad = whole_number("pad", pad, minimum=0)
        self.is_off = self.pad == 0

    def forward(self, images: th.Tensor) -> th.Tensor:
        if self.is_off:
            return images
        batch, channels, height, width = images.shape
        top, left = th.randint(2 * self.pad + 1, (2, batch, 1, 1), device=images.device)
        y = (th.arange(height, device=images.device) + top - self.pad).clamp(0, height - 1)
        # A line of pixels that is padded on both sides holds every shift of itself, so that lines are copied as a whole:
        # less than half the time of gathering bytes one by one.
        first, last = (edge.expand(-1, -1, -1, self.pad) for edge in (images[..., :1], images[..., -1:]))
        lines = th.cat([first, images, last], dim=3).reshape(-1)
        line = th.arange(batch * channels, device=images.device).view(batch, channels, 1) * height + y
        starts = line * (width + 2 * self.pad) + left
        return lines.unfold(0, width, 1).index_select(0, starts.flatten()).view(images.shape)
