"""Keep the latent in shape."""

from typing import ClassVar

import torch as th

from sb3_latent import losses
from sb3_latent.auxiliary.task import TASKS, AuxiliaryTask
from sb3_latent.nn import Encoder
from sb3_latent.search import Choice, Float, SearchSpace
from sb3_latent.types import Latent


@TASKS.register("kl")
class KLTask(AuxiliaryTask):
    """
    KL of the posterior from N(0, I). Its default coefficient is ``beta`` times that of the reconstruction
    (beta-VAE, Higgins et al. 2017).

    :param encoder: the encoder it trains; its head must be stochastic.
    :param free_bits: floor in nats under each dimension's KL (Kingma et al. 2016, arXiv:1606.04934); 0 is off.
    :raises ValueError: if the head is deterministic or the floor negative.
    """

    search_space: ClassVar[SearchSpace] = {"free_bits": Choice((0.0, 0.05, 0.2))}
    coef_range = None

    def __init__(self, encoder: Encoder, free_bits: float = 0.0) -> None:
        super().__init__(encoder)
        if not encoder.head.stochastic:
            raise ValueError("task 'kl' needs a stochastic head, e.g. head='gaussian'; or drop it for an autoencoder.")
        if not free_bits >= 0:
            raise ValueError(f"task 'kl': free_bits={free_bits} must be 0 or more nats per dimension.")
        self.free_bits = free_bits

    def default_coef(self, beta: float) -> float:
        return beta / self.n_features

    def forward(self, latent: Latent, sample: th.Tensor, frames: th.Tensor) -> th.Tensor:
        del sample, frames
        assert latent.log_var is not None
        return losses.free_bits_kl(latent.mean, latent.log_var, self.free_bits)


@TASKS.register("latent_l2")
class LatentL2Task(AuxiliaryTask):
    """
    Half the squared norm of the mean: the latent half of a regularised autoencoder (RAE, Ghosh et al. 2020,
    arXiv:1903.12436), as used by SAC+AE with weight 1e-6 per pixel-averaged reconstruction.

    :param encoder: the encoder it trains.
    """

    search_space: ClassVar[SearchSpace] = {}
    coef_range = Float(1e-8, 1e-4, log=True)

    def default_coef(self, beta: float) -> float:
        """:return: 1e-6, the ``decoder_latent_lambda`` of SAC+AE's ``train.py``."""
        del beta
        return 1e-6

    def forward(self, latent: Latent, sample: th.Tensor, frames: th.Tensor) -> th.Tensor:
        del sample, frames
        return losses.latent_l2(latent.mean)
