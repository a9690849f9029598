"""SB3's actors and critics, reading a :class:`SharedEncoder` instead of an encoder of their own."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch as th
from sb3_contrib.tqc.policies import Actor as TQCActor
from sb3_contrib.tqc.policies import Critic as TQCCritic
from stable_baselines3.common.policies import BaseModel, ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.sac.policies import Actor as SACActor
from stable_baselines3.td3.policies import Actor as TD3Actor
from torch import nn

from sb3_latent.nn import ObservationHeads
from sb3_latent.policies.shared_encoder import SharedEncoder
from sb3_latent.policies.views import batch_size_of


class Reader(BaseFeaturesExtractor):
    """
    Stands where SB3 wants a features extractor. Holds the actor's own heads, if it has some, and no encoder.

    :param observation_space: observation space of the policy.
    :param shared: the encoder.
    :param heads: of an actor that reads the trunk.
    """

    def __init__(self, observation_space: Any, shared: SharedEncoder, heads: ObservationHeads | None = None) -> None:
        super().__init__(observation_space, shared.extractor.features_dim)
        self.shared = shared
        self.heads = heads


class TanhSquash(nn.Module):
    """
    tanh onto an interval; SAC+AE's log standard deviation.

    :param low: lower bound.
    :param high: upper bound.
    :raises ValueError: if they are no interval.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        if not low < high:
            raise ValueError(f"log_std_bounds=({low}, {high}) must be (low, high) with low < high.")
        self.low, self.high = low, high

    def forward(self, x: th.Tensor) -> th.Tensor:
        """
        :param x: any shape.
        :return: the same shape, within the bounds.
        """
        return self.low + 0.5 * (self.high - self.low) * (x.tanh() + 1)


class SharingNetwork(BaseModel):
    """A network that reads a shared encoder."""

    is_target = False

    @property
    def reader(self) -> Reader:
        """:return: what SB3 takes for its features extractor."""
        assert isinstance(self.features_extractor, Reader)
        return self.features_extractor


class SharingActor(SharingNetwork):
    """An actor that reads a shared encoder."""

    def extract_features(self, obs: PyTorchObs, features_extractor: BaseFeaturesExtractor) -> th.Tensor:
        """
        :param obs: (B, *observation shape), raw.
        :param features_extractor: not used; SB3 passes its own.
        :return: (B, features_dim), or (n_target_views * B, features_dim) of next observations.
        """
        del features_extractor
        return self.reader.shared.actor_features(obs, self.reader.heads, self.is_target)


class SharingCritic(SharingNetwork):
    """A critic that reads a shared encoder; the features of a loss that is not its own are cut off from the graph."""

    learns = False

    def extract_features(self, obs: PyTorchObs, features_extractor: BaseFeaturesExtractor) -> th.Tensor:
        """
        :param obs: (B, *observation shape), raw.
        :param features_extractor: not used; SB3 passes its own.
        :return: (n_views * B, features_dim).
        """
        del features_extractor
        return self.reader.shared.critic_features(obs, self.is_target, self.learns and th.is_grad_enabled())

    @contextmanager
    def _reading(self, actions: th.Tensor) -> Iterator[int]:
        """
        For one forward pass: whose loss it is, and what of it is recorded. The actor's loss needs a gradient of the actions
        and none of the weights, and nothing at all where the actor does not learn.

        :param actions: SB3 computes the actor's loss from actions that require a gradient, and its own from others.
        :return: how many views the critic is shown.
        """
        shared = self.reader.shared
        for_actor = th.is_grad_enabled() and actions.requires_grad and shared.extractor.training
        self.learns = th.is_grad_enabled() and not actions.requires_grad and not self.is_target
        records = th.is_grad_enabled() and (shared.actor_is_due or not for_actor)
        try:
            with _held(self) if for_actor else nullcontext(), th.set_grad_enabled(records):
                yield shared.n_critic_views(self.learns)
        finally:
            self.learns = False


class StochasticSharingActor(SharingActor):
    """For actors that sample: the next actions of several views travel side by side."""

    def action_log_prob(self, obs: PyTorchObs) -> tuple[th.Tensor, th.Tensor]:
        """
        :param obs: (B, *observation shape), raw.
        :return: actions (B, n_views * action_dim) and the mean over views of their log probabilities (B,).
        """
        shared = self.reader.shared
        is_due = shared.actor_is_due or not shared.extractor.training
        with nullcontext() if is_due else _held(self):
            actions, log_prob = super().action_log_prob(obs)  # type: ignore[misc]  # of SB3's actor
        n_views = len(actions) // batch_size_of(obs)
        actions, log_prob = _side_by_side(actions, n_views), log_prob.reshape(n_views, -1).mean(0)
        return (actions, log_prob) if is_due else (self._with_graph(actions), self._with_graph(log_prob))

    def _with_graph(self, x: th.Tensor) -> th.Tensor:
        """Adds a zero that depends on a weight, for SB3 calls ``backward`` also where the actor does not learn."""
        return x + next(self.parameters()).flatten()[:0].sum()


class LatentSACActor(StochasticSharingActor, SACActor):
    """SB3's actor of SAC."""


class LatentTQCActor(StochasticSharingActor, TQCActor):
    """sb3-contrib's actor of TQC."""


class LatentTD3Actor(SharingActor, TD3Actor):
    """SB3's actor of TD3 and DDPG."""


class LatentContinuousCritic(SharingCritic, ContinuousCritic):
    """SB3's critic of SAC, TD3 and DDPG."""

    def forward(self, obs: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, ...]:
        """
        :param obs: (B, *observation shape), raw.
        :param actions: (B, action_dim); next actions (B, n_target_views * action_dim).
        :return: Q-values (B, 1): of each critic for each view; for next actions of several views the mean over views of
            their minimum, DrQ's target, which is the same number whoever takes a minimum over one value later.
        """
        if self.is_target and actions.shape[1] > self._action_dim:
            n_views = actions.shape[1] // self._action_dim
            smallest = th.cat(super().forward(obs, _one_below_the_other(actions, n_views)), 1).amin(1)
            return (smallest.reshape(n_views, -1).mean(0).unsqueeze(1),)
        with self._reading(actions) as n_views:
            q_values = super().forward(obs, actions.repeat(n_views, 1))
        return tuple(part for q_value in q_values for part in q_value.chunk(n_views))

    @property
    def _action_dim(self) -> int:
        return get_action_dim(self.action_space)


class LatentTQCCritic(SharingCritic, TQCCritic):
    """sb3-contrib's critic of TQC."""

    def forward(self, obs: PyTorchObs, action: th.Tensor) -> th.Tensor:
        """
        :param obs: (B, *observation shape), raw.
        :param action: (B, action_dim).
        :return: quantiles (B, n_views * n_critics, n_quantiles). TQC averages over them, where DrQ sums over views.
        """
        with self._reading(action) as n_views:
            quantiles: th.Tensor = super().forward(obs, action.repeat(n_views, 1))
        return th.cat(quantiles.chunk(n_views), 1)


@contextmanager
def _held(module: nn.Module) -> Iterator[None]:
    """No gradient is recorded for the weights of a module."""
    held = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in held:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


def _side_by_side(actions: th.Tensor, n_views: int) -> th.Tensor:
    """(n_views * B, action_dim) -> (B, n_views * action_dim)."""
    return th.cat(actions.chunk(n_views), 1)


def _one_below_the_other(actions: th.Tensor, n_views: int) -> th.Tensor:
    """The inverse of :func:`_side_by_side`."""
    return th.cat(actions.chunk(n_views, 1))
