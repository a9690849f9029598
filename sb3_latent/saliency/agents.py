"""What a policy of SB3 or sb3-contrib computes, under the same names for every algorithm."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch as th
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_latent.losses import gaussian_kl
from sb3_latent.models import get_extractors
from sb3_latent.saliency.situation import Situation
from sb3_latent.types import Observations


class Output(NamedTuple):
    """
    Something that a policy computes.

    :param function: of observations as SB3 hands them to its policies (raw) and their situation; returns (B,) or (B, width).
    :param width: entries a row; None for a single number.
    :param reads_action: whether ``function`` reads the action of the situation.
    :param is_per_action: whether there is one entry for each action of a Discrete space.
    :param is_flat_when_greedy: whether the output is largest at the greedy action, so that its gradient there says little.
    """

    function: Callable[[Observations, Situation], th.Tensor]
    width: int | None = None
    reads_action: bool = False
    is_per_action: bool = False
    is_flat_when_greedy: bool = False


class Agent(ABC):
    """
    :param policy: the policy of a model.
    """

    def __init__(self, policy: BasePolicy) -> None:
        self.policy: Any = policy

    def outputs(self) -> dict[str, Output]:
        """:return: what the policy computes, by name."""
        outputs = {"value": Output(self.value), **self.action_outputs()}
        outputs["latent"] = Output(self._features, self.features_extractor.features_dim)
        try:
            extractor = get_extractors(self.policy)[0]
        except TypeError:
            return outputs
        if all(encoder.head.stochastic for encoder in extractor.encoders.encoders()):
            outputs["kl"] = Output(self._kl, extractor.features_dim)
        return outputs

    @abstractmethod
    def value(self, observations: Observations, situation: Situation) -> th.Tensor:
        """:return: (B,), what the algorithm would bootstrap from."""

    @abstractmethod
    def action_outputs(self) -> dict[str, Output]:
        """:return: what concerns actions, by name."""

    @abstractmethod
    def greedy(self, observations: Observations, situation: Situation) -> th.Tensor:
        """:return: (B,) or (B, action_dim), the actions that the policy takes when it does not explore."""

    @property
    @abstractmethod
    def features_extractor(self) -> BaseFeaturesExtractor:
        """:return: the one that the value reads."""

    def _features(self, observations: Observations, situation: Situation) -> th.Tensor:
        del situation
        return BasePolicy.extract_features(self.policy, observations, self.features_extractor)

    def _kl(self, observations: Observations, situation: Situation) -> th.Tensor:
        del situation
        inputs: Any = preprocess_obs(observations, self.policy.observation_space, self.policy.normalize_images)
        latent = get_extractors(self.policy)[0].encode(inputs)
        assert latent.log_var is not None
        return gaussian_kl(latent.mean, latent.log_var)


@contextmanager
def kept(distribution: Any) -> Iterator[None]:
    """
    SB3's distributions keep the tensors of their last pass; here they forget this one. Those of gSDE cut their noise off from
    the observation unless features learn from it; here they do not.

    :param distribution: of an actor.
    :return: a context manager.
    """
    attributes = dict(vars(distribution))
    try:
        if isinstance(distribution, StateDependentNoiseDistribution):
            distribution.learn_features = True
        yield
    finally:
        vars(distribution).clear()
        vars(distribution).update(attributes)
