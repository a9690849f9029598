"""Tell a frame from the others of its batch."""

from typing import ClassVar

import torch as th
from torch import nn

from sb3_latent import losses
from sb3_latent.auxiliary.task import TASKS, AuxiliaryTask
from sb3_latent.nn import Encoder
from sb3_latent.search import Float, SearchSpace
from sb3_latent.types import Latent


@TASKS.register("curl")
class ContrastiveTask(AuxiliaryTask):
    """
    CURL (Laskin et al. 2020, arXiv:2004.04136): from the latent of one view of a frame, find the latent of another view
    of it among those of the batch. Similarity is bilinear, ``anchor^T W positive``; W starts uniform in [0, 1) (authors'
    ``curl_sac.py``).

    :param encoder: the encoder it trains.
    """

    contrasts = True
    search_space: ClassVar[SearchSpace] = {}
    coef_range = Float(0.03, 30.0, log=True)

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.weight = nn.Parameter(th.rand(encoder.latent_dim, encoder.latent_dim))

    def default_coef(self, beta: float) -> float:
        """:return: 1: the loss does not grow with the frame, and the authors' code gives it no weight."""
        del beta
        return 1.0

    def forward(  # type: ignore[override]  # `contrasts` says that there is a positive
        self, latent: Latent, sample: th.Tensor, frames: th.Tensor, positive: th.Tensor
    ) -> th.Tensor:
        """
        :param latent: (B, latent_dim) each part; the mean is the anchor.
        :param sample: not used.
        :param frames: not used.
        :param positive: (B, latent_dim), another view of each frame through a momentum encoder; gets no gradient.
        :return: (B,), in nats.
        """
        del sample, frames
        return losses.info_nce(latent.mean @ self.weight @ positive.detach().T)
