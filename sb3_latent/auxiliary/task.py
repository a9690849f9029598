"""What an auxiliary task is."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch as th
from torch import nn

from sb3_latent.nn import Encoder
from sb3_latent.registry import Registry
from sb3_latent.search import Float, SearchSpace
from sb3_latent.types import Latent


class AuxiliaryTask(nn.Module, ABC):
    """
    A loss on the latent of one array; owns whatever network it needs beside the encoder.

    :param encoder: the encoder it trains; read for shapes at construction and never kept.
    """

    contrasts: ClassVar[bool] = False
    """Whether :meth:`forward` takes a fourth argument: (B, latent_dim), other views of the frames by a momentum encoder."""

    search_space: ClassVar[SearchSpace] = {}
    """Arguments of the constructor that tuning may vary."""

    coef_range: ClassVar[Float | None] = Float(1e-5, 1e-2, log=True)
    """Coefficients to search: around 1 / number of features of a frame, from 30 to 200 pixels a side. None: ``beta`` is."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.n_features = encoder.spec.n_features

    def default_coef(self, beta: float) -> float:
        """
        Losses sum over features; the default coefficient divides by their number, so that it need not change with the
        size of the image. The RL gradient then leads in the encoder, see docs/method.md, "Scale".

        :param beta: weight of the KL against the reconstruction.
        :return: 1 / number of features of a frame.
        """
        del beta
        return 1.0 / self.n_features

    @abstractmethod
    def forward(self, latent: Latent, sample: th.Tensor, frames: th.Tensor) -> th.Tensor:
        """
        :param latent: (B, latent_dim) each part.
        :param sample: (B, latent_dim), one draw from the latent that all tasks share.
        :param frames: (B, *frame_shape), what was encoded.
        :return: (B,), summed over features; the mean over the batch is taken by the caller.
        """


TASKS: Registry[AuxiliaryTask] = Registry("task", AuxiliaryTask)
