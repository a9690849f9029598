"""Families of distributions over a latent, and the networks that choose one of a family."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch as th
from torch import nn
from torch.distributions import Distribution, Independent, Normal, OneHotCategorical, kl_divergence
from torch.nn import functional as F

from sb3_latent.checks import whole_number
from sb3_latent.registry import unknown


class Family(ABC):
    """
    Distributions over vectors of one length, each chosen by the raw outputs of a network.

    :param dim: length of a vector.
    :param n_outputs: outputs that choose a distribution.
    """

    def __init__(self, dim: int, n_outputs: int) -> None:
        self.dim = dim
        self.n_outputs = n_outputs

    @abstractmethod
    def distribution(self, outputs: th.Tensor) -> Distribution:
        """
        :param outputs: (..., n_outputs).
        :return: the distributions, of batch shape (...).
        """

    @abstractmethod
    def standard(self, like: th.Tensor) -> th.Tensor:
        """
        :param like: (..., n_outputs).
        :return: the same shape: outputs that stand for the least informative distribution of the family.
        """

    @abstractmethod
    def sample(self, outputs: th.Tensor) -> th.Tensor:
        """
        :param outputs: (..., n_outputs).
        :return: (..., dim), a draw through which gradients pass.
        """

    @abstractmethod
    def mode(self, outputs: th.Tensor) -> th.Tensor:
        """
        :param outputs: (..., n_outputs).
        :return: (..., dim), the likeliest vector; gradients pass.
        """

    def draw(self, outputs: th.Tensor, noisy: bool) -> th.Tensor:
        """
        :param outputs: (..., n_outputs).
        :param noisy: a sample, or else the mode.
        :return: (..., dim).
        """
        return self.sample(outputs) if noisy else self.mode(outputs)

    def kl(self, outputs: th.Tensor, others: th.Tensor) -> th.Tensor:
        """
        :param outputs: (..., n_outputs), of the distributions that are drawn from.
        :param others: the same shape.
        :return: (...), KL(first || second) in nats.
        """
        divergence: th.Tensor = kl_divergence(self.distribution(outputs), self.distribution(others))
        return divergence


class DiagonalGaussian(Family):
    """
    Gaussians with a diagonal covariance; half of the outputs are means, softplus of the others standard deviations.

    :param dim: length of a vector.
    :param min_std: added to the standard deviation: 1e-5 in SLAC (authors' ``model_distribution_network.py``), 0.1 in
        PlaNet and Dreamer.
    :raises ValueError: if ``min_std`` is out of its range.
    """

    def __init__(self, dim: int, min_std: float) -> None:
        if not 0 <= min_std < 1:
            raise ValueError(f"min_std={min_std} must lie in [0, 1), for N(0, I) to be one of the beliefs; SLAC has 1e-5.")
        super().__init__(dim, 2 * dim)
        self.min_std = min_std

    def distribution(self, outputs: th.Tensor) -> Distribution:
        mean, raw_std = outputs.chunk(2, -1)
        normal = Normal(mean, F.softplus(raw_std) + self.min_std, validate_args=False)
        return Independent(normal, 1, validate_args=False)

    def standard(self, like: th.Tensor) -> th.Tensor:
        """
        :param like: (..., n_outputs).
        :return: the same shape; N(0, I).
        """
        raw_std = th.full_like(like[..., self.dim :], 1.0 - self.min_std).expm1().log()
        return th.cat([th.zeros_like(raw_std), raw_std], -1)

    def sample(self, outputs: th.Tensor) -> th.Tensor:
        draws: th.Tensor = self.distribution(outputs).rsample()
        return draws

    def mode(self, outputs: th.Tensor) -> th.Tensor:
        return outputs[..., : self.dim]


class Categoricals(Family):
    """
    ``n_groups`` independent one-hot vectors side by side (DreamerV2, Hafner et al. 2021, arXiv:2010.02193).

    :param n_groups: 32 in DreamerV2.
    :param n_classes: of each, 32 in DreamerV2.
    :param unimix: share of the uniform distribution mixed in; 0.01 in DreamerV3 (arXiv:2301.04104), 0 in DreamerV2.
    :param relaxation: ``"straight_through"``: draws are one-hot and gradients those of the probabilities; ``"gumbel"``: draws
        are of the Gumbel-softmax distribution (Jang et al. 2017, arXiv:1611.01144).
    :param temperature: of the Gumbel-softmax distribution.
    :raises ValueError: if a value is out of its range.
    """

    def __init__(self, n_groups: int, n_classes: int, unimix: float, relaxation: str, temperature: float) -> None:
        super().__init__(n_groups * n_classes, n_groups * n_classes)
        relaxations = ("straight_through", "gumbel")
        if relaxation not in relaxations:
            raise ValueError(unknown("relaxation", relaxation, relaxations))
        if not 0 <= unimix < 1:
            raise ValueError(f"unimix={unimix} must lie in [0, 1); DreamerV3 has 0.01.")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature} must be positive.")
        self.n_groups = n_groups
        self.n_classes = n_classes
        self.unimix = unimix
        self.relaxation = relaxation
        self.temperature = temperature

    def distribution(self, outputs: th.Tensor) -> Distribution:
        groups = OneHotCategorical(logits=self._log_probs(outputs), validate_args=False)
        return Independent(groups, 1, validate_args=False)

    def standard(self, like: th.Tensor) -> th.Tensor:
        """
        :param like: (..., n_outputs).
        :return: the same shape; all classes are equally likely.
        """
        return th.zeros_like(like)

    def sample(self, outputs: th.Tensor) -> th.Tensor:
        log_probs = self._log_probs(outputs)
        if self.relaxation == "gumbel":
            return F.gumbel_softmax(log_probs, self.temperature).flatten(-2)
        classes = th.multinomial(log_probs.detach().exp().flatten(0, -2), 1).reshape(log_probs.shape[:-1])
        one_hot = F.one_hot(classes, self.n_classes)
        return self._straight_through(one_hot, log_probs)

    def mode(self, outputs: th.Tensor) -> th.Tensor:
        log_probs = self._log_probs(outputs)
        return self._straight_through(F.one_hot(log_probs.argmax(-1), self.n_classes), log_probs)

    def kl(self, outputs: th.Tensor, others: th.Tensor) -> th.Tensor:
        # torch calls it infinite where a probability underflows, and its logarithm does not.
        p, q = self._log_probs(outputs), self._log_probs(others)
        return (p.exp() * (p - q)).sum((-2, -1))

    def _log_probs(self, outputs: th.Tensor) -> th.Tensor:
        """(..., n_groups, n_classes)."""
        log_probs = outputs.reshape(*outputs.shape[:-1], self.n_groups, self.n_classes).log_softmax(-1)
        if self.unimix == 0:
            return log_probs
        return th.log((1 - self.unimix) * log_probs.exp() + self.unimix / self.n_classes)

    def _straight_through(self, one_hot: th.Tensor, log_probs: th.Tensor) -> th.Tensor:
        probs = log_probs.exp()
        return (one_hot + (probs - probs.detach())).flatten(-2)


class Perceptron(nn.Sequential):
    """
    Hidden layers with one activation after each, and a linear output.

    :param in_dim: length of the inputs, side by side.
    :param hidden: width of each hidden layer.
    :param out_dim: length of the output.
    :param activation: class of the activation.
    :raises ValueError: if a width is no positive integer.
    """

    def __init__(self, in_dim: int, hidden: Sequence[int], out_dim: int, activation: type[nn.Module]) -> None:
        if not isinstance(hidden, Sequence):
            raise ValueError(f"hidden={hidden!r} must be a sequence of widths, e.g. (256, 256).")
        widths = [in_dim, *(whole_number("hidden", width) for width in hidden)]
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), activation()]
        super().__init__(*layers, nn.Linear(widths[-1], out_dim))

    def forward(self, *inputs: th.Tensor) -> th.Tensor:
        """
        :param inputs: (..., n) each, which lie side by side.
        :return: (..., out_dim).
        """
        x = th.cat(inputs, -1)
        for layer in self:
            x = layer(x)
        return x


class LeakyReLU(nn.LeakyReLU):
    """With slope 0.2: tensorflow's default, and so SLAC's."""

    def __init__(self) -> None:
        super().__init__(0.2)
