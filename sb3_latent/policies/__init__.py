"""Policy classes."""

from sb3_latent.policies.by_preset import (
    LatentActorCriticPolicy,
    LatentCrossQPolicy,
    LatentDQNPolicy,
    LatentMaskableActorCriticPolicy,
    LatentQRDQNPolicy,
    LatentRecurrentActorCriticPolicy,
)
from sb3_latent.policies.sac import LatentSACPolicy, LatentTD3Policy, LatentTQCPolicy
from sb3_latent.policies.slac import LatentModelPolicy, SLACPolicy, SLACTQCPolicy

__all__ = [
    "LatentActorCriticPolicy",
    "LatentCrossQPolicy",
    "LatentDQNPolicy",
    "LatentMaskableActorCriticPolicy",
    "LatentModelPolicy",
    "LatentQRDQNPolicy",
    "LatentRecurrentActorCriticPolicy",
    "LatentSACPolicy",
    "LatentTD3Policy",
    "LatentTQCPolicy",
    "SLACPolicy",
    "SLACTQCPolicy",
]
