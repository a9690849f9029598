"""Agents with a value function and a policy gradient."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_latent.saliency.agents import Agent, Output, kept
from sb3_latent.saliency.situation import Situation
from sb3_latent.types import Observations

AnyActorCritic: TypeAlias = ActorCriticPolicy | MaskableActorCriticPolicy


class ActorCriticAgent(Agent):
    """PPO, A2C, TRPO and MaskablePPO."""

    policy: AnyActorCritic

    def value(self, observations: Observations, situation: Situation) -> th.Tensor:
        return self.policy.predict_values(observations).squeeze(-1)

    def action_outputs(self) -> dict[str, Output]:
        space = self.policy.action_space
        is_box = isinstance(space, spaces.Box)
        log_prob = Output(self._log_prob, reads_action=True, is_flat_when_greedy=is_box)
        if is_box:
            return {"mean": Output(self._mean, get_action_dim(space)), "log_prob": log_prob}
        n_logits: Any = self.policy.action_net.out_features
        logit = Output(self._logits, n_logits, is_per_action=isinstance(space, spaces.Discrete))
        return {"logit": logit, "log_prob": log_prob}

    def greedy(self, observations: Observations, situation: Situation) -> th.Tensor:
        with self._distribution(observations, situation) as distribution:
            actions: th.Tensor = distribution.mode()
            return actions

    @property
    def features_extractor(self) -> BaseFeaturesExtractor:
        return self.policy.vf_features_extractor

    def actor_latent(self, observations: Observations, situation: Situation) -> th.Tensor:
        """:return: (B, latent_dim_pi), what the last layer of the actor reads."""
        features = BasePolicy.extract_features(self.policy, observations, self.policy.pi_features_extractor)
        return self.policy.mlp_extractor.forward_actor(features)

    def _logits(self, observations: Observations, situation: Situation) -> th.Tensor:
        logits: th.Tensor = self.policy.action_net(self.actor_latent(observations, situation))
        return logits

    def _mean(self, observations: Observations, situation: Situation) -> th.Tensor:
        return self.greedy(observations, situation)

    def _log_prob(self, observations: Observations, situation: Situation) -> th.Tensor:
        assert situation.actions is not None
        with self._distribution(observations, situation) as distribution:
            log_prob: th.Tensor = distribution.log_prob(situation.actions)
            return log_prob

    @contextmanager
    def _distribution(self, observations: Observations, situation: Situation) -> Iterator[Any]:
        with kept(self.policy.action_dist):
            distribution: Any = self.policy._get_action_dist_from_latent(self.actor_latent(observations, situation))
            if situation.action_masks is not None:
                distribution.apply_masking(situation.action_masks)
            yield distribution


class RecurrentAgent(ActorCriticAgent):
    """RecurrentPPO; every row is a sequence of one step."""

    policy: RecurrentActorCriticPolicy

    def value(self, observations: Observations, situation: Situation) -> th.Tensor:
        states, starts = self._memory(situation)
        with _differentiable_lstm():
            if not self.policy.shared_lstm:
                return self.policy.predict_values(observations, states, starts).squeeze(-1)  # type: ignore[arg-type]  # recurrent ones
            # There `predict_values` detaches the output of the LSTM (sb3-contrib 2.9.2, common/recurrent/policies.py:303).
            latent, _ = self.policy._process_sequence(
                self._features(observations, situation), states, starts, self.policy.lstm_actor
            )
            value: th.Tensor = self.policy.value_net(self.policy.mlp_extractor.forward_critic(latent))
            return value.squeeze(-1)

    def actor_latent(self, observations: Observations, situation: Situation) -> th.Tensor:
        features = BasePolicy.extract_features(self.policy, observations, self.policy.pi_features_extractor)
        with _differentiable_lstm():
            latent, _ = self.policy._process_sequence(features, *self._memory(situation), self.policy.lstm_actor)
        return self.policy.mlp_extractor.forward_actor(latent)

    def _memory(self, situation: Situation) -> tuple[Any, th.Tensor]:
        assert situation.lstm_states is not None and situation.episode_starts is not None
        hidden, cell = situation.lstm_states
        return (hidden.contiguous(), cell.contiguous()), situation.episode_starts


def _differentiable_lstm() -> Any:
    """cuDNN has no backward through an LSTM in evaluation mode."""
    return th.backends.cudnn.flags(enabled=False)
