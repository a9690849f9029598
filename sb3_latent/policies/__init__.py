"""Policy classes."""

from sb3_latent.policies.actor_critic import LatentActorCriticPolicy

__all__ = ["LatentActorCriticPolicy"]
