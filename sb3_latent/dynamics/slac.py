"""The latent variable model of SLAC and those that its figure 6 compares it with."""

from collections.abc import Sequence
from typing import ClassVar

import torch as th

from sb3_latent.checks import whole_number
from sb3_latent.dynamics.beliefs import DiagonalGaussian, LeakyReLU, Perceptron
from sb3_latent.dynamics.dynamics import DYNAMICS, Dynamics, Step, Trajectory
from sb3_latent.search import Choice, SearchSpace

MIN_STD = 1e-5
"""Authors' ``model_distribution_network.py``, ``MultivariateNormalDiag``."""


_ONE_LATENT: SearchSpace = {"z_dim": Choice((64, 128, 256))}
_TWO_LATENTS: SearchSpace = {"z1_dim": Choice((16, 32, 64)), "z2_dim": Choice((128, 256))}


@DYNAMICS.register("slac")
class SlacDynamics(Dynamics):
    """
    SLAC (Lee et al. 2020, arXiv:1907.00953; authors' ``model_distribution_network.py``): two stochastic latents a step.

    z1 is corrected by the frame: q(z1 | x, z2', a') against p(z1 | z2', a'), where ' is the step before; z2 follows from it,
    p(z2 | z1, z2', a'), in posterior and prior alike, so that the KL is that of z1 alone. The first prior is N(0, I). Every
    distribution is a network of its own; those of the first step are others than those of later ones.

    :param features_dim: length of an encoded frame.
    :param action_dim: length of an action.
    :param z1_dim: length of z1.
    :param z2_dim: length of z2.
    :param hidden: widths of the hidden layers of each network; leaky ReLU of slope 0.2 after each.
    :raises ValueError: if a length is no positive integer.
    """

    is_mixed = False
    search_space: ClassVar[SearchSpace] = _TWO_LATENTS

    def __init__(
        self, features_dim: int, action_dim: int, z1_dim: int = 32, z2_dim: int = 256, hidden: Sequence[int] = (256, 256)
    ) -> None:
        z1_dim, z2_dim = whole_number("z1_dim", z1_dim), whole_number("z2_dim", z2_dim)
        belief = DiagonalGaussian(z1_dim, MIN_STD)
        super().__init__(features_dim, action_dim, z1_dim + z2_dim, belief)
        self.split = [z1_dim, z2_dim]
        self.transition = None if self.is_mixed else DiagonalGaussian(z2_dim, MIN_STD)
        n_z2 = z2_dim if self.transition is None else self.transition.n_outputs
        self.first_posterior = Perceptron(features_dim, hidden, belief.n_outputs, LeakyReLU)
        self.first_z2 = Perceptron(z1_dim, hidden, n_z2, LeakyReLU)
        self.prior = Perceptron(z2_dim + action_dim, hidden, belief.n_outputs, LeakyReLU)
        self.posterior = Perceptron(features_dim + z2_dim + action_dim, hidden, belief.n_outputs, LeakyReLU)
        self.z2 = Perceptron(z1_dim + z2_dim + action_dim, hidden, n_z2, LeakyReLU)

    def begin(self, features: th.Tensor | None, n_rows: int, noisy: bool) -> Step:
        prior = self.standard_prior(n_rows)
        posterior = prior if features is None else self.first_posterior(features)
        z1 = self.family.draw(posterior, noisy)
        return Step(th.cat([z1, self._draw_z2(self.first_z2(z1), noisy)], 1), prior, posterior)

    def move(self, state: th.Tensor, action: th.Tensor, features: th.Tensor | None, noisy: bool) -> Step:
        _, z2 = th.split(state, self.split, 1)
        prior = self.prior(z2, action)
        posterior = prior if features is None else self.posterior(features, z2, action)
        z1 = self.family.draw(posterior, noisy)
        return Step(th.cat([z1, self._draw_z2(self.z2(z1, z2, action), noisy)], 1), prior, posterior)

    def _draw_z2(self, outputs: th.Tensor, noisy: bool) -> th.Tensor:
        return outputs if self.transition is None else self.transition.draw(outputs, noisy)


@DYNAMICS.register("rssm_mixed")
class MixedDynamics(SlacDynamics):
    """
    SLAC's model with a deterministic z2: a state half deterministic and half stochastic, as PlaNet's is, in SLAC's place
    (figure 6; authors' ``slac_ablation_partially_stochastic.gin``). PlaNet's own recurrent model is ``"rssm"``.
    """

    is_mixed = True


@DYNAMICS.register("slac_filtering")
class FilteringDynamics(Dynamics):
    """
    One stochastic latent a step, q(z | x, z', a') against p(z | z', a'): SLAC without its two latents (figure 6; authors'
    ``slac_ablation_simple_filtering.gin``).

    :param features_dim: length of an encoded frame.
    :param action_dim: length of an action.
    :param z_dim: length of the latent.
    :param hidden: as for :class:`SlacDynamics`.
    :param min_std: the smallest standard deviation.
    :raises ValueError: if the length is no positive integer.
    """

    search_space: ClassVar[SearchSpace] = _ONE_LATENT

    def __init__(
        self,
        features_dim: int,
        action_dim: int,
        z_dim: int = 256,
        hidden: Sequence[int] = (256, 256),
        min_std: float = MIN_STD,
    ) -> None:
        belief = DiagonalGaussian(whole_number("z_dim", z_dim), min_std)
        super().__init__(features_dim, action_dim, z_dim, belief)
        self.first_posterior = Perceptron(features_dim, hidden, belief.n_outputs, LeakyReLU)
        self.prior = Perceptron(z_dim + action_dim, hidden, belief.n_outputs, LeakyReLU)
        self.posterior = Perceptron(features_dim + z_dim + action_dim, hidden, belief.n_outputs, LeakyReLU)

    def begin(self, features: th.Tensor | None, n_rows: int, noisy: bool) -> Step:
        prior = self.standard_prior(n_rows)
        posterior = prior if features is None else self.first_posterior(features)
        return self._step(prior, posterior, noisy)

    def move(self, state: th.Tensor, action: th.Tensor, features: th.Tensor | None, noisy: bool) -> Step:
        prior = self.prior(state, action)
        posterior = prior if features is None else self.posterior(features, state, action)
        return self._step(prior, posterior, noisy)

    def _step(self, prior: th.Tensor, posterior: th.Tensor, noisy: bool) -> Step:
        return Step(self.family.draw(posterior, noisy), prior, posterior)


class Timeless(Dynamics):
    """A model in which every step is a first one: frames are explained one at a time, and no action matters."""

    def move(self, state: th.Tensor, action: th.Tensor, features: th.Tensor | None, noisy: bool) -> Step:
        return self.begin(features, len(state), noisy)

    def _observe(self, features: th.Tensor, actions: th.Tensor, mask: th.Tensor, noisy: bool) -> Trajectory:
        """In one go; states before a window's start are those of its padding."""
        n_rows, length = mask.shape
        steps = self.begin(features.flatten(0, 1), n_rows * length, noisy)
        return Trajectory(*(part.reshape(n_rows, length, -1) for part in steps))


@DYNAMICS.register("slac_vae")
class VaeDynamics(Timeless):
    """
    A VAE of single frames, q(z | x) against N(0, I) (figure 6; authors' ``slac_ablation_simple_vae.gin``).

    :param features_dim: length of an encoded frame.
    :param action_dim: length of an action.
    :param z_dim: length of the latent.
    :param hidden: as for :class:`SlacDynamics`.
    :raises ValueError: if the length is no positive integer.
    """

    search_space: ClassVar[SearchSpace] = _ONE_LATENT

    def __init__(self, features_dim: int, action_dim: int, z_dim: int = 256, hidden: Sequence[int] = (256, 256)) -> None:
        belief = DiagonalGaussian(whole_number("z_dim", z_dim), MIN_STD)
        super().__init__(features_dim, action_dim, z_dim, belief)
        self.posterior = Perceptron(features_dim, hidden, belief.n_outputs, LeakyReLU)

    def begin(self, features: th.Tensor | None, n_rows: int, noisy: bool) -> Step:
        prior = self.standard_prior(n_rows)
        posterior = prior if features is None else self.posterior(features)
        return Step(self.family.draw(posterior, noisy), prior, posterior)


@DYNAMICS.register("slac_nontemporal")
class NontemporalDynamics(Timeless):
    """
    SLAC's two latents without time: q(z1 | x) against N(0, I), and p(z2 | z1) (figure 6; authors'
    ``slac_ablation_vae.gin``).

    :param features_dim: length of an encoded frame.
    :param action_dim: length of an action.
    :param z1_dim: length of z1.
    :param z2_dim: length of z2.
    :param hidden: as for :class:`SlacDynamics`.
    :raises ValueError: if a length is no positive integer.
    """

    search_space: ClassVar[SearchSpace] = _TWO_LATENTS

    def __init__(
        self, features_dim: int, action_dim: int, z1_dim: int = 32, z2_dim: int = 256, hidden: Sequence[int] = (256, 256)
    ) -> None:
        z1_dim, z2_dim = whole_number("z1_dim", z1_dim), whole_number("z2_dim", z2_dim)
        belief = DiagonalGaussian(z1_dim, MIN_STD)
        super().__init__(features_dim, action_dim, z1_dim + z2_dim, belief)
        self.second = DiagonalGaussian(z2_dim, MIN_STD)
        self.posterior = Perceptron(features_dim, hidden, belief.n_outputs, LeakyReLU)
        self.z2 = Perceptron(z1_dim, hidden, self.second.n_outputs, LeakyReLU)

    def begin(self, features: th.Tensor | None, n_rows: int, noisy: bool) -> Step:
        prior = self.standard_prior(n_rows)
        posterior = prior if features is None else self.posterior(features)
        z1 = self.family.draw(posterior, noisy)
        return Step(th.cat([z1, self.second.draw(self.z2(z1), noisy)], 1), prior, posterior)
