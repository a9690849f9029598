"""Recurrent state-space models: PlaNet's and Dreamer's."""

from typing import ClassVar

import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_latent.checks import whole_number
from sb3_latent.dynamics.beliefs import Categoricals, DiagonalGaussian, Family, Perceptron
from sb3_latent.dynamics.dynamics import DYNAMICS, Dynamics, Step, Trajectory
from sb3_latent.search import Choice, SearchSpace


class RecurrentDynamics(Dynamics):
    """
    A deterministic half h, moved by a gated recurrent unit, and a stochastic half z (PlaNet, Hafner et al. 2019,
    arXiv:1811.04551): h = GRU(h', z', a'), p(z | h) and q(z | h, x), where ' is the step before.

    A sequence starts from h = 0, z = 0, a = 0. The KL is the mean of KL(q || p) over steps, not below ``free_nats`` (Dreamer:
    where it is below, it has no gradient), times the steps of a window. ``balance`` is the share of it that moves the prior
    towards the posterior, the rest moves the posterior (DreamerV2, arXiv:2010.02193, section 2.2); None is the plain KL, which
    moves both fully.

    :param features_dim: length of an encoded frame.
    :param action_dim: length of an action.
    :param h_dim: length of h.
    :param family: of z.
    :param hidden: width of the hidden layers.
    :param free_nats: nats.
    :param balance: in [0, 1], or None.
    :raises ValueError: if a value is out of its range.
    """

    def __init__(
        self,
        features_dim: int,
        action_dim: int,
        h_dim: int,
        family: Family,
        hidden: int,
        free_nats: float,
        balance: float | None,
    ) -> None:
        h_dim, hidden = whole_number("h_dim", h_dim), whole_number("hidden", hidden)
        if not free_nats >= 0:
            raise ValueError(f"free_nats={free_nats} must be 0 or more nats.")
        if balance is not None and not 0 <= balance <= 1:
            raise ValueError(f"balance={balance} must lie in [0, 1] (DreamerV2: 0.8), or be None for the plain KL.")
        super().__init__(features_dim, action_dim, h_dim + family.dim, family)
        self.split = [h_dim, family.dim]
        self.free_nats = free_nats
        self.balance = balance
        self.inputs = nn.Linear(family.dim + action_dim, hidden)
        self.recurrence = nn.GRUCell(hidden, h_dim)
        self.prior = Perceptron(h_dim, [hidden], family.n_outputs, nn.ELU)
        self.posterior = Perceptron(h_dim + features_dim, [hidden], family.n_outputs, nn.ELU)

    def begin(self, features: th.Tensor | None, n_rows: int, noisy: bool) -> Step:
        nothing = self.inputs.weight.new_zeros(n_rows, self.state_dim + self.action_dim)
        return self.move(nothing[:, : self.state_dim], nothing[:, self.state_dim :], features, noisy)

    def move(self, state: th.Tensor, action: th.Tensor, features: th.Tensor | None, noisy: bool) -> Step:
        h, z = th.split(state, self.split, 1)
        h = self.recurrence(F.elu(self.inputs(th.cat([z, action], 1))), h)
        prior = self.prior(h)
        posterior = prior if features is None else self.posterior(h, features)
        z = self.family.draw(posterior, noisy)
        return Step(th.cat([h, z], 1), prior, posterior)

    def kl(self, trajectory: Trajectory, mask: th.Tensor) -> th.Tensor:
        """
        :param trajectory: of B windows of T frames.
        :param mask: (B, T), as for :meth:`observe`.
        :return: scalar, in nats: see :class:`RecurrentDynamics`.
        """
        priors, posteriors = trajectory.priors, trajectory.posteriors
        if self.balance is None:
            return self._floored(self.family.kl(posteriors, priors), mask)
        to_prior = self._floored(self.family.kl(posteriors.detach(), priors), mask)
        to_posterior = self._floored(self.family.kl(posteriors, priors.detach()), mask)
        return self.balance * to_prior + (1 - self.balance) * to_posterior

    def _floored(self, steps: th.Tensor, mask: th.Tensor) -> th.Tensor:
        n_steps = mask.sum()
        return ((steps * mask).sum() / n_steps).clamp_min(self.free_nats) * n_steps / len(mask)


@DYNAMICS.register("rssm")
class GaussianRecurrentDynamics(RecurrentDynamics):
    """
    :class:`RecurrentDynamics` with Gaussians (Dreamer, Hafner et al. 2020, arXiv:1912.01603; danijar/dreamer ``models.py``).

    :param features_dim: length of an encoded frame.
    :param action_dim: length of an action.
    :param h_dim: length of h.
    :param z_dim: length of z.
    :param hidden: width of the hidden layers.
    :param free_nats: see :class:`RecurrentDynamics`.
    :param balance: see :class:`RecurrentDynamics`; None in PlaNet and Dreamer, 0.8 in DreamerV2.
    :param min_std: added to standard deviations.
    """

    search_space: ClassVar[SearchSpace] = {
        "h_dim": Choice((100, 200, 400)),
        "z_dim": Choice((16, 30, 64)),
        "free_nats": Choice((0.0, 1.0, 3.0)),
    }

    def __init__(
        self,
        features_dim: int,
        action_dim: int,
        h_dim: int = 200,
        z_dim: int = 30,
        hidden: int = 200,
        free_nats: float = 3.0,
        balance: float | None = None,
        min_std: float = 0.1,
    ) -> None:
        family = DiagonalGaussian(whole_number("z_dim", z_dim), min_std)
        super().__init__(features_dim, action_dim, h_dim, family, hidden, free_nats, balance)


@DYNAMICS.register("rssm_discrete")
class CategoricalRecurrentDynamics(RecurrentDynamics):
    """
    :class:`RecurrentDynamics` with categoricals (DreamerV2, Hafner et al. 2021, arXiv:2010.02193; danijar/dreamerv2
    ``configs.yaml``, those of DeepMind Control).

    :param features_dim: length of an encoded frame.
    :param action_dim: length of an action.
    :param h_dim: length of h.
    :param n_groups: see :class:`Categoricals`.
    :param n_classes: see :class:`Categoricals`.
    :param hidden: width of the hidden layers.
    :param free_nats: see :class:`RecurrentDynamics`.
    :param balance: see :class:`RecurrentDynamics`.
    :param unimix: see :class:`Categoricals`.
    :param relaxation: see :class:`Categoricals`.
    :param temperature: see :class:`Categoricals`.
    """

    search_space: ClassVar[SearchSpace] = {
        "h_dim": Choice((100, 200, 400)),
        "n_groups": Choice((16, 32)),
        "n_classes": Choice((16, 32)),
        "free_nats": Choice((0.0, 1.0)),
        "balance": Choice((0.5, 0.8)),
    }

    def __init__(
        self,
        features_dim: int,
        action_dim: int,
        h_dim: int = 200,
        n_groups: int = 32,
        n_classes: int = 32,
        hidden: int = 200,
        free_nats: float = 1.0,
        balance: float | None = 0.8,
        unimix: float = 0.0,
        relaxation: str = "straight_through",
        temperature: float = 1.0,
    ) -> None:
        n_groups, n_classes = whole_number("n_groups", n_groups), whole_number("n_classes", n_classes, 2)
        family = Categoricals(n_groups, n_classes, unimix, relaxation, temperature)
        super().__init__(features_dim, action_dim, h_dim, family, hidden, free_nats, balance)
