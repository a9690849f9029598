"""Reconstruct the frame."""

from typing import Any

import torch as th

from sb3_latent.auxiliary.task import TASKS, AuxiliaryTask
from sb3_latent.nn import LIKELIHOODS, Bernoulli, Encoder
from sb3_latent.types import Latent


@TASKS.register("recon")
class ReconstructionTask(AuxiliaryTask):
    """
    Decode a sample of the latent and compare it with the frame. The decoder mirrors the encoder's trunk.

    :param encoder: the encoder it trains.
    :param loss: name or dotted path of the reconstruction loss: ``"squared_error"``, ``"bernoulli"`` (pixels), ``"gaussian"``.
    :param loss_kwargs: further arguments of the loss, e.g. ``std`` of ``"gaussian"``.
    :raises ValueError: if the loss is unknown, or is Bernoulli on something other than an image.
    """

    def __init__(self, encoder: Encoder, loss: str = "squared_error", **loss_kwargs: Any) -> None:
        super().__init__(encoder)
        self.likelihood = LIKELIHOODS.make(loss, kwargs=loss_kwargs)
        if isinstance(self.likelihood, Bernoulli) and not encoder.spec.is_image:
            raise ValueError(
                f"loss 'bernoulli' needs pixels, but {encoder.spec.name!r} is a vector; use 'gaussian' or exclude it."
            )
        self.decoder = encoder.trunk.make_decoder(encoder.latent_dim)

    def forward(self, latent: Latent, sample: th.Tensor, frames: th.Tensor) -> th.Tensor:
        del latent
        rows: th.Tensor = self.likelihood(self.decoder(sample), frames)
        return rows

    def decode(self, z: th.Tensor) -> th.Tensor:
        """
        :param z: (B, latent_dim).
        :return: (B, *frame_shape), in units of the frames.
        """
        return self.likelihood.reconstruction(self.decoder(z))
