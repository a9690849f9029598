"""What a decoder's output means: how far it is from the target, and which picture it stands for."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch as th
from torch import nn

from sb3_latent import losses
from sb3_latent.registry import Registry
from sb3_latent.search import Float, SearchSpace


class Likelihood(nn.Module, ABC):
    """Turns the unbounded output of a decoder into a loss and into a reconstruction."""

    search_space: ClassVar[SearchSpace] = {}
    """Arguments of the constructor that tuning may vary."""

    @abstractmethod
    def forward(self, output: th.Tensor, target: th.Tensor) -> th.Tensor:
        """
        :param output: (B, ...), a decoder's output.
        :param target: the same shape.
        :return: (B,), summed over features.
        """

    def reconstruction(self, output: th.Tensor) -> th.Tensor:
        """
        :param output: (B, ...), a decoder's output.
        :return: the same shape, in units of the target.
        """
        return output


LIKELIHOODS: Registry[Likelihood] = Registry("reconstruction loss", Likelihood)


@LIKELIHOODS.register("squared_error")
class SquaredError(Likelihood):
    """The sum of squared differences."""

    def forward(self, output: th.Tensor, target: th.Tensor) -> th.Tensor:
        return losses.squared_error(output, target)


@LIKELIHOODS.register("bernoulli")
class Bernoulli(Likelihood):
    """Cross entropy with the output as logits; targets must lie in [0, 1]."""

    def forward(self, output: th.Tensor, target: th.Tensor) -> th.Tensor:
        return losses.bernoulli_nll(output, target)

    def reconstruction(self, output: th.Tensor) -> th.Tensor:
        return output.sigmoid()


@LIKELIHOODS.register("gaussian")
class Gaussian(Likelihood):
    """
    An isotropic Gaussian around the output.

    :param std: standard deviation in units of the target (pixels: 1 is white); where it is learned, its first value.
    :param learn_std: learn one standard deviation for all features (sigma-VAE, Rybkin et al. 2021, arXiv:2006.13202,
        section 3.1).
    :raises ValueError: if ``std`` is not positive.
    """

    search_space: ClassVar[SearchSpace] = {"std": Float(0.03, 1.0, log=True)}

    log_std: th.Tensor

    def __init__(self, std: float = 1.0, learn_std: bool = False) -> None:
        super().__init__()
        if not std > 0:
            raise ValueError(f"reconstruction loss 'gaussian': std={std} must be positive.")
        log_std = th.tensor(math.log(std))
        if learn_std:
            self.log_std = nn.Parameter(log_std)
        else:
            self.register_buffer("log_std", log_std)

    def forward(self, output: th.Tensor, target: th.Tensor) -> th.Tensor:
        return losses.gaussian_nll(output, target, self.log_std)
