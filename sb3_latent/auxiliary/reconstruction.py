"""Reconstruct the frame."""

from typing import Any, ClassVar

import torch as th

from sb3_latent import losses
from sb3_latent.auxiliary.task import TASKS, AuxiliaryTask
from sb3_latent.checks import whole_number
from sb3_latent.nn import LIKELIHOODS, Bernoulli, Encoder
from sb3_latent.search import SearchSpace
from sb3_latent.types import Latent


@TASKS.register("recon")
class ReconstructionTask(AuxiliaryTask):
    """
    Decode a sample of the latent and compare it with the frame. The decoder mirrors the encoder's trunk.

    :param encoder: the encoder it trains.
    :param loss: name or dotted path of the reconstruction loss: ``"squared_error"``, ``"bernoulli"`` (pixels), ``"gaussian"``.
    :param bits: compare with an image of so many bits, with noise in place of the others, as SAC+AE does with 5 (Yarats
        et al. 2019, arXiv:1910.01741; authors' ``sac_ae.py``, ``update_decoder``); None with the frame as it is.
    :param loss_kwargs: further arguments of the loss, e.g. ``std`` of ``"gaussian"``.
    :raises ValueError: if the loss is unknown, or is Bernoulli on something other than an image in [0, 1], or the bits are
        not between 1 and 8 or asked of a vector.
    """

    search_space: ClassVar[SearchSpace] = {}

    def __init__(self, encoder: Encoder, loss: str = "squared_error", bits: int | None = None, **loss_kwargs: Any) -> None:
        super().__init__(encoder)
        self.bits = bits
        self.likelihood = LIKELIHOODS.make(loss, kwargs=loss_kwargs)
        if isinstance(self.likelihood, Bernoulli) and not encoder.spec.is_image:
            raise ValueError(
                f"loss 'bernoulli' needs pixels, but {encoder.spec.name!r} is a vector; use 'gaussian' or exclude it."
            )
        if bits is not None:
            self._check_bits(bits, encoder)
        self.decoder = encoder.trunk.make_decoder(encoder.latent_dim)

    def forward(self, latent: Latent, sample: th.Tensor, frames: th.Tensor) -> th.Tensor:
        del latent
        target = frames if self.bits is None else losses.quantize(frames, self.bits, losses.dequantization_noise(frames))
        rows: th.Tensor = self.likelihood(self.decoder(sample), target)
        return rows

    def decode(self, z: th.Tensor) -> th.Tensor:
        """
        :param z: (B, latent_dim).
        :return: (B, *frame_shape), in units of the frames.
        """
        reconstruction = self.likelihood.reconstruction(self.decoder(z))
        return reconstruction if self.bits is None else reconstruction + 0.5

    def _check_bits(self, bits: int, encoder: Encoder) -> None:
        if whole_number("bits", bits) > 8:
            raise ValueError(f"bits={bits} must lie between 1 and 8; drop it to reconstruct frames as they are.")
        if not encoder.spec.is_image:
            raise ValueError(f"bits={bits} needs pixels, but {encoder.spec.name!r} is a vector; drop bits or exclude it.")
        if isinstance(self.likelihood, Bernoulli):
            raise ValueError(f"bits={bits} centres pixels on 0, outside loss 'bernoulli'; use 'squared_error' or 'gaussian'.")
