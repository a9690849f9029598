"""The hard KL constraint of seed document 000."""

import copy
from typing import Any, NamedTuple

import torch as th
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer
from sb3_contrib.common.maskable.distributions import MaskableMultiCategoricalDistribution
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import Distribution, kl_divergence
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor

from sb3_latent.callbacks.base import Array, Arrays, evenly_spaced, flush, rollout_observations
from sb3_latent.checks import whole_number
from sb3_latent.evaluation import evaluating


class _Before(NamedTuple):
    """The policy before an update, and what it did."""

    observations: Arrays
    action_masks: Array | None
    distribution: Distribution
    policy: dict[str, Any]
    optimizer: dict[str, Any]


class KLConstraintCallback(BaseCallback):
    """
    Undoes an update of PPO, A2C or MaskablePPO that changed the policy too much (seed document 000, algorithm 1): after all
    epochs, if the mean of KL(pi_k || pi_k+1) over observations of the rollout exceeds ``delta_target``, theta_k comes back.

    What comes back is the whole learner, to the bit: where algorithm 1 restores theta alone, theta and the value function
    share the encoder here, and neither a value head nor a decoder fits the encoder of another time. The optimizers' moments
    come back too: kept, the momentum of the rejected update would go on pushing the restored policy the same way.

    Logs ``train/kl_constraint``, the KL of the latest update, and ``train/n_restored``, how many were undone. Put it before
    other callbacks, which then see the policy that goes on.

    :param delta_target: largest KL, in nats. The document gives none; 0.01 is the ``target_kl`` of Spinning Up's PPO, which
        the document builds on.
    :param n_observations: observations of the rollout that the KL is averaged over, evenly spaced.
    :param verbose: 1 prints each update that is undone.
    :raises ValueError: if ``delta_target`` is not positive or ``n_observations`` no positive integer.
    """

    def __init__(self, delta_target: float = 0.01, n_observations: int = 256, verbose: int = 0) -> None:
        super().__init__(verbose)
        if not delta_target > 0:
            raise ValueError(f"delta_target={delta_target} must be positive, e.g. 0.01 nats.")
        self.delta_target = delta_target
        self.n_observations = whole_number("n_observations", n_observations)
        self.n_restored = 0
        self._before: _Before | None = None

    def _init_callback(self) -> None:
        """
        :raises TypeError: if the algorithm keeps no rollout of its policy, or remembers more than the observation.
        """
        name = type(self.model).__name__
        if not isinstance(self.model, OnPolicyAlgorithm):
            raise TypeError(f"KLConstraintCallback bounds on-policy updates (PPO, A2C, MaskablePPO), not those of {name}.")
        if isinstance(self.model, RecurrentPPO):
            raise TypeError(f"KLConstraintCallback cannot rebuild the LSTM states of {name}; use its target_kl.")

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        assert isinstance(self.model, OnPolicyAlgorithm)
        buffer, policy = self.model.rollout_buffer, self.model.policy
        observations = rollout_observations(buffer, self.n_observations)
        masks = None
        if isinstance(buffer, MaskableRolloutBuffer | MaskableDictRolloutBuffer):
            masks = buffer.action_masks[evenly_spaced(buffer, self.n_observations)]
        distribution = self._distribution(observations, masks)
        states = copy.deepcopy((policy.state_dict(), policy.optimizer.state_dict()))
        self._before = _Before(observations, masks, distribution, *states)

    def _on_rollout_start(self) -> None:
        self._check()

    def _on_training_end(self) -> None:
        self._check()
        flush(self)

    def _check(self) -> None:
        before, self._before = self._before, None
        if before is None:
            return
        kl = mean_kl(before.distribution, self._distribution(before.observations, before.action_masks))
        if not kl <= self.delta_target:
            self._restore(before)
            if self.verbose >= 1:
                print(f"Update before step {self.num_timesteps} undone: KL {kl:.3g} > {self.delta_target:g}")
        self.logger.record("train/kl_constraint", kl)
        self.logger.record("train/n_restored", self.n_restored)

    def _restore(self, before: _Before) -> None:
        model = self.model
        assert isinstance(model, OnPolicyAlgorithm)
        model.policy.load_state_dict(before.policy)
        model.policy.optimizer.load_state_dict(before.optimizer)
        if model.use_sde:
            # The exploration matrix of the rollout that starts now was drawn with the rejected standard deviations.
            model.policy.reset_noise(model.n_envs)
        self.n_restored += 1

    def _distribution(self, observations: Arrays, masks: Array | None) -> Distribution:
        policy: Any = self.model.policy
        masking = {} if masks is None else {"action_masks": masks}
        with evaluating(policy), th.no_grad():
            distribution: Distribution = policy.get_distribution(obs_as_tensor(observations, self.model.device), **masking)
        # A policy has one such object and fills it anew.
        return copy.copy(distribution)


def mean_kl(old: Distribution, new: Distribution) -> float:
    """
    :param old: of a batch of observations.
    :param new: of the same observations.
    :return: KL(old || new) in nats, summed over action dimensions, mean over the batch.
    """
    if isinstance(old, MaskableMultiCategoricalDistribution) and isinstance(new, MaskableMultiCategoricalDistribution):
        # SB3's kl_divergence does not know it.
        parts = [th.distributions.kl_divergence(p, q) for p, q in zip(old.distributions, new.distributions, strict=True)]
        rows = th.stack(parts, dim=1)
    else:
        rows = kl_divergence(old, new)
    return float(rows.reshape(len(rows), -1).sum(1).mean())
