"""Policy classes."""

from sb3_latent.policies.actor_critic import LatentActorCriticPolicy
from sb3_latent.policies.sac import LatentSACPolicy, LatentTD3Policy, LatentTQCPolicy

__all__ = ["LatentActorCriticPolicy", "LatentSACPolicy", "LatentTD3Policy", "LatentTQCPolicy"]
