"""Policy classes."""

from sb3_latent.policies.actor_critic import LatentActorCriticPolicy
from sb3_latent.policies.sac import LatentSACPolicy, LatentTD3Policy, LatentTQCPolicy
from sb3_latent.policies.slac import LatentModelPolicy, SLACPolicy, SLACTQCPolicy

__all__ = [
    "LatentActorCriticPolicy",
    "LatentModelPolicy",
    "LatentSACPolicy",
    "LatentTD3Policy",
    "LatentTQCPolicy",
    "SLACPolicy",
    "SLACTQCPolicy",
]
