"""Types that everything else speaks."""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import torch as th

Schedule: TypeAlias = Callable[[float], float]
"""SB3's convention: ``progress_remaining`` (1 at the start of ``learn``, 0 at its end) -> value."""

Coefficient: TypeAlias = float | Schedule
Observations: TypeAlias = th.Tensor | dict[str, th.Tensor]
GradientMode: TypeAlias = Literal["joint", "own_optimizer"]


class Latent(NamedTuple):
    """
    What an encoder says about a batch.

    :param mean: shape (B, n), the code itself where the head is deterministic; the only part a policy reads.
    :param log_var: shape (B, n), log variance of the diagonal Gaussian posterior; None where the head is deterministic.
    """

    mean: th.Tensor
    log_var: th.Tensor | None

    def map(self, function: Callable[[th.Tensor], th.Tensor]) -> "Latent":
        """
        :param function: of a tensor, e.g. one that selects rows.
        :return: the latent with each of its parts so changed.
        """
        return Latent(function(self.mean), None if self.log_var is None else function(self.log_var))

    def sample(self) -> th.Tensor:
        """
        Draw with the reparametrisation trick (Kingma & Welling 2013, arXiv:1312.6114), for decoders only.

        :return: shape (B, n); the mean itself for a deterministic head.
        """
        if self.log_var is None:
            return self.mean
        return self.mean + th.exp(0.5 * self.log_var) * th.randn_like(self.mean)
