"""The policies with one encoder."""

from collections.abc import Iterator
from typing import Any

from sb3_contrib import TQC
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3 import SAC, TD3
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from sb3_latent.policies.networks import (
    LatentContinuousCritic,
    LatentSACActor,
    LatentTD3Actor,
    LatentTQCActor,
    LatentTQCCritic,
    SharingNetwork,
)
from sb3_latent.policies.off_policy import SharedEncoderPolicy
from sb3_latent.sharing import Sharing


class LatentSACPolicy(SharedEncoderPolicy, SACPolicy):
    """:class:`SharedEncoderPolicy` for SAC: ``SAC(LatentSACPolicy, env, policy_kwargs=latent_kwargs("sac_ae"))``."""

    algorithm_class = SAC
    actor_class = LatentSACActor
    critic_class = LatentContinuousCritic


class LatentTQCPolicy(SharedEncoderPolicy, TQCPolicy):
    """:class:`SharedEncoderPolicy` for TQC of sb3-contrib."""

    algorithm_class = TQC
    actor_class = LatentTQCActor
    critic_class = LatentTQCCritic

    def _check_sharing(self, sharing: Sharing) -> None:
        if sharing.n_target_views > 1:
            raise ValueError(f"n_target_views={sharing.n_target_views}: TQC has no average over views; use 1, or SAC.")


class LatentTD3Policy(SharedEncoderPolicy, TD3Policy):
    """:class:`SharedEncoderPolicy` for TD3 and DDPG. The target actor reads the target encoder, with heads of its own."""

    algorithm_class = TD3
    actor_class = LatentTD3Actor
    critic_class = LatentContinuousCritic
    actor_target: Any

    def _target_networks(self) -> Iterator[SharingNetwork]:
        yield self.critic_target
        yield self.actor_target

    def _check_sharing(self, sharing: Sharing) -> None:
        if sharing.n_target_views > 1:
            raise ValueError(f"n_target_views={sharing.n_target_views}: TD3 has no average over views; use 1, or SAC.")
        if sharing.actor_update_freq > 1:
            raise ValueError(f"actor_update_freq={sharing.actor_update_freq}: TD3 has policy_delay for it; use 1.")
