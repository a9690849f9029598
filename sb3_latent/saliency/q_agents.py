"""Agents with a Q-function."""

from typing import Any, TypeAlias

import torch as th
from gymnasium import spaces
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from sb3_latent.saliency.agents import Agent, Output, kept
from sb3_latent.saliency.situation import Situation
from sb3_latent.types import Observations

ContinuousPolicy: TypeAlias = SACPolicy | TD3Policy | TQCPolicy | CrossQPolicy


class DiscreteQAgent(Agent):
    """DQN and QR-DQN."""

    policy: DQNPolicy | QRDQNPolicy

    def value(self, observations: Observations, situation: Situation) -> th.Tensor:
        return self._q_values(observations, situation).max(dim=1).values

    def action_outputs(self) -> dict[str, Output]:
        space = self.policy.action_space
        assert isinstance(space, spaces.Discrete)
        return {"q": Output(self._q_values, int(space.n), is_per_action=True)}

    def greedy(self, observations: Observations, situation: Situation) -> th.Tensor:
        return self._q_values(observations, situation).argmax(dim=1)

    @property
    def features_extractor(self) -> BaseFeaturesExtractor:
        network = self.policy.q_net if isinstance(self.policy, DQNPolicy) else self.policy.quantile_net
        return network.features_extractor

    def _q_values(self, observations: Observations, situation: Situation) -> th.Tensor:
        q_values: th.Tensor
        if isinstance(self.policy, DQNPolicy):
            q_values = self.policy.q_net(observations)
        else:
            q_values = self.policy.quantile_net(observations).mean(dim=1)
        return q_values


class ContinuousQAgent(Agent):
    """SAC, TD3, DDPG, TQC and CrossQ."""

    policy: ContinuousPolicy

    def value(self, observations: Observations, situation: Situation) -> th.Tensor:
        return self._q(observations, self.greedy(observations, situation))

    def action_outputs(self) -> dict[str, Output]:
        outputs = {
            "q": Output(self._q_of_action, reads_action=True),
            "mean": Output(self.greedy, get_action_dim(self.policy.action_space)),
        }
        if not isinstance(self.policy, TD3Policy):
            outputs["log_prob"] = Output(self._log_prob, reads_action=True, is_flat_when_greedy=True)
        return outputs

    def greedy(self, observations: Observations, situation: Situation) -> th.Tensor:
        # A SAC actor's own forward would keep its graph on the module, which breaks `deepcopy`.
        if isinstance(self.policy, TD3Policy):
            actions: th.Tensor = self.policy.actor(observations)
            return actions
        return th.tanh(self.policy.actor.get_action_dist_params(observations)[0])

    @property
    def features_extractor(self) -> BaseFeaturesExtractor:
        return self.policy.critic.features_extractor

    def _features(self, observations: Observations, situation: Situation) -> th.Tensor:
        del situation
        critic = self.policy.critic
        return critic.extract_features(observations, critic.features_extractor)

    def _q_of_action(self, observations: Observations, situation: Situation) -> th.Tensor:
        assert situation.actions is not None
        return self._q(observations, situation.actions)

    def _q(self, observations: Observations, actions: th.Tensor) -> th.Tensor:
        """
        ``critic.forward`` switches gradients off where the extractor is shared with the actor (SB3 2.9.2,
        common/policies.py:974).
        """
        critic_input = th.cat([self._features(observations, Situation()), actions], dim=1)
        outputs = th.stack([network(critic_input) for network in self.policy.critic.q_networks], dim=1)
        return outputs.mean(dim=(1, 2)) if isinstance(self.policy, TQCPolicy) else outputs.min(dim=1).values.squeeze(-1)

    def _log_prob(self, observations: Observations, situation: Situation) -> th.Tensor:
        actor: Any = self.policy.actor
        with kept(actor.action_dist):
            mean, log_std, others = actor.get_action_dist_params(observations)
            log_prob: th.Tensor = actor.action_dist.proba_distribution(mean, log_std, **others).log_prob(situation.actions)
            return log_prob
