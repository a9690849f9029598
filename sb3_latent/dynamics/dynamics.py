"""What a latent dynamics model is: a state that frames correct and actions move."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch as th
from torch import nn

from sb3_latent.dynamics.beliefs import Family
from sb3_latent.registry import Registry
from sb3_latent.search import SearchSpace


class Step(NamedTuple):
    """
    One step of B sequences.

    :param state: (B, state_dim).
    :param prior: (B, n_outputs), the belief before the frame was seen, see :class:`Family`.
    :param posterior: (B, n_outputs), the belief after; the prior itself where no frame was seen.
    """

    state: th.Tensor
    prior: th.Tensor
    posterior: th.Tensor


class Trajectory(NamedTuple):
    """
    T steps of B sequences; before a window's start its first state is repeated.

    :param states: (B, T, state_dim).
    :param priors: (B, T, n_outputs).
    :param posteriors: (B, T, n_outputs).
    """

    states: th.Tensor
    priors: th.Tensor
    posteriors: th.Tensor


class Dynamics(nn.Module, ABC):
    """
    A latent model of a partially observed process. All that is known of a moment is one tensor, its state.

    :param features_dim: length of an encoded frame.
    :param action_dim: length of an action.
    :param state_dim: length of a state.
    :param family: of the beliefs whose divergence is the model's KL.
    """

    search_space: ClassVar[SearchSpace] = {}
    """Arguments of the constructor that tuning may vary."""

    def __init__(self, features_dim: int, action_dim: int, state_dim: int, family: Family) -> None:
        super().__init__()
        self.features_dim = features_dim
        self.action_dim = action_dim
        self.state_dim = state_dim
        self.family = family

    @abstractmethod
    def begin(self, features: th.Tensor | None, n_rows: int, noisy: bool) -> Step:
        """
        The first step of a sequence.

        :param features: (n_rows, features_dim) of its frame; None draws from the prior.
        :param n_rows: sequences.
        :param noisy: draw states; otherwise take the likeliest.
        :return: the step.
        """

    @abstractmethod
    def move(self, state: th.Tensor, action: th.Tensor, features: th.Tensor | None, noisy: bool) -> Step:
        """
        Any further step.

        :param state: (B, state_dim), the one before.
        :param action: (B, action_dim), taken in it.
        :param features: (B, features_dim) of the frame that followed; None draws from the prior.
        :param noisy: as for :meth:`begin`.
        :return: the step.
        """

    def standard_prior(self, n_rows: int) -> th.Tensor:
        """
        :param n_rows: sequences.
        :return: (n_rows, n_outputs), the least informative belief of the family.
        """
        return self.family.standard(next(self.parameters()).new_empty(n_rows, self.family.n_outputs))

    def initial(self, n_rows: int, noisy: bool = True) -> th.Tensor:
        """
        :param n_rows: how many.
        :param noisy: as for :meth:`begin`.
        :return: (n_rows, state_dim), first states as the prior has them.
        """
        return self.begin(None, n_rows, noisy).state

    def observe(self, features: th.Tensor, actions: th.Tensor, mask: th.Tensor, noisy: bool = True) -> Trajectory:
        """
        The posterior over windows, each from its own start.

        :param features: (B, T, features_dim), of the frames.
        :param actions: (B, T - 1, action_dim), between them.
        :param mask: (B, T), False before a window's start and True from there on.
        :param noisy: as for :meth:`begin`.
        :return: the steps.
        :raises ValueError: if there is not one action between two frames.
        """
        length = mask.shape[1]
        if actions.shape[1] != length - 1:
            raise ValueError(f"{length} frames have {length - 1} actions between them, not {actions.shape[1]}; drop the last.")
        return self._observe(features, actions, mask, noisy)

    def _observe(self, features: th.Tensor, actions: th.Tensor, mask: th.Tensor, noisy: bool) -> Trajectory:
        n_rows, length = mask.shape
        # RecurrentPPO pads with windows of nothing at all.
        start = (length - mask.sum(1, dtype=th.long)).clamp_max(length - 1)
        first = self.begin(features[th.arange(n_rows, device=start.device), start], n_rows, noisy)
        steps = [first]
        for t in range(1, length):
            moved = self.move(steps[-1].state, actions[:, t - 1], features[:, t], noisy)
            waits = (start >= t).unsqueeze(1)
            steps.append(Step(*(th.where(waits, a, b) for a, b in zip(first, moved, strict=True))))
        return Trajectory(*(th.stack(parts, 1) for parts in zip(*steps, strict=True)))

    def imagine(self, state: th.Tensor, actions: th.Tensor, noisy: bool = True) -> th.Tensor:
        """
        The prior, rolled out.

        :param state: (B, state_dim).
        :param actions: (B, H, action_dim), the first one taken in it.
        :param noisy: as for :meth:`begin`.
        :return: (B, H, state_dim), the states after each action.
        """
        states = []
        for action in actions.unbind(1):
            state = self.move(state, action, None, noisy).state
            states.append(state)
        return th.stack(states, 1)

    def kl(self, trajectory: Trajectory, mask: th.Tensor) -> th.Tensor:
        """
        :param trajectory: of B windows of T frames.
        :param mask: (B, T), as for :meth:`observe`.
        :return: scalar, KL(posterior || prior) in nats, summed over the steps of a window, mean over the batch.
        """
        steps = self.family.kl(trajectory.posteriors, trajectory.priors)
        return (steps * mask).sum() / len(mask)


DYNAMICS: Registry[Dynamics] = Registry("dynamics", Dynamics)
