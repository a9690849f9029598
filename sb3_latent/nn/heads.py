"""Heads: from the hidden features of a trunk to a latent."""

from abc import ABC, abstractmethod

import torch as th
from torch import nn

from sb3_latent.registry import Registry
from sb3_latent.types import Latent


class Head(nn.Module, ABC):
    """
    Last part of an encoder.

    :param in_dim: length of the trunk's features.
    :param latent_dim: length of the latent asked for.
    """

    stochastic = False

    def __init__(self, in_dim: int, latent_dim: int) -> None:
        super().__init__()
        if not 1 <= latent_dim <= in_dim:
            raise ValueError(f"latent_dim={latent_dim} must lie between 1 and the trunk's {in_dim} features.")
        self.latent_dim = latent_dim

    @abstractmethod
    def forward(self, features: th.Tensor) -> Latent:
        """
        :param features: (B, in_dim).
        :return: the latent, (B, latent_dim) each part.
        """

    def mean_of(self, features: th.Tensor) -> th.Tensor:
        """
        What acting needs, without the rest.

        :param features: (B, in_dim).
        :return: (B, latent_dim), the mean of :meth:`forward`.
        """
        latent: Latent = self(features)
        return latent.mean


HEADS: Registry[Head] = Registry("head", Head)


@HEADS.register("deterministic")
class DeterministicHead(Head):
    """
    A linear bottleneck.

    :param in_dim: length of the trunk's features.
    :param latent_dim: length of the latent.
    :raises ValueError: if the latent is wider than the trunk.
    """

    def __init__(self, in_dim: int, latent_dim: int) -> None:
        super().__init__(in_dim, latent_dim)
        self.linear = nn.Linear(in_dim, latent_dim)

    def forward(self, features: th.Tensor) -> Latent:
        return Latent(self.linear(features), None)


@HEADS.register("layer_norm_tanh")
class LayerNormTanhHead(Head):
    """
    A linear bottleneck, layer normalisation and tanh: the latent of SAC+AE (Yarats et al. 2019, arXiv:1910.01741;
    authors' ``encoder.py``) and DrQ.

    :param in_dim: length of the trunk's features.
    :param latent_dim: length of the latent, at least 2.
    :raises ValueError: if the latent is wider than the trunk, or a single number, which normalisation makes a constant.
    """

    def __init__(self, in_dim: int, latent_dim: int) -> None:
        super().__init__(in_dim, latent_dim)
        if latent_dim == 1:
            raise ValueError("head 'layer_norm_tanh': latent_dim=1 would be normalised to a constant; use at least 2.")
        self.linear = nn.Linear(in_dim, latent_dim)
        self.norm = nn.LayerNorm(latent_dim)

    def forward(self, features: th.Tensor) -> Latent:
        return Latent(self.norm(self.linear(features)).tanh(), None)


@HEADS.register("gaussian")
class GaussianHead(Head):
    """
    A diagonal Gaussian posterior (Kingma & Welling 2013, arXiv:1312.6114).

    :param in_dim: length of the trunk's features.
    :param latent_dim: length of the latent.
    :param log_var_bounds: clamp on the log variance; the default keeps standard deviations between 0.0067 and 7.4,
        far outside what a trained posterior uses and well inside float32 (a choice of this library).
    :raises ValueError: if the latent is wider than the trunk or the bounds are no interval.
    """

    stochastic = True

    def __init__(self, in_dim: int, latent_dim: int, log_var_bounds: tuple[float, float] = (-10.0, 4.0)) -> None:
        super().__init__(in_dim, latent_dim)
        low, high = log_var_bounds
        if not low < high:
            raise ValueError(f"head 'gaussian': log_var_bounds={log_var_bounds} must be (low, high) with low < high.")
        self.log_var_bounds = (low, high)
        self.mean = nn.Linear(in_dim, latent_dim)
        self.log_var = nn.Linear(in_dim, latent_dim)

    def forward(self, features: th.Tensor) -> Latent:
        return Latent(self.mean(features), self.log_var(features).clamp(*self.log_var_bounds))

    def mean_of(self, features: th.Tensor) -> th.Tensor:
        mean: th.Tensor = self.mean(features)
        return mean


@HEADS.register("identity")
class IdentityHead(Head):
    """
    No bottleneck: the trunk's features are the latent, as in SB3's own ``NatureCNN``.

    :param in_dim: length of the trunk's features, and of the latent.
    :param latent_dim: ignored by construction: there is no layer whose width it could set.
    """

    def __init__(self, in_dim: int, latent_dim: int) -> None:
        del latent_dim
        super().__init__(in_dim, in_dim)

    def forward(self, features: th.Tensor) -> Latent:
        return Latent(features, None)
