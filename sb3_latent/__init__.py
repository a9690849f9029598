"""Representation learning for Stable-Baselines3 agents, as a plugin."""

from importlib.metadata import version

from sb3_latent.checkpoint import load_encoder, save_encoder
from sb3_latent.envs import TinyBallEnv
from sb3_latent.extractor import LatentExtractor
from sb3_latent.frames import collect_frames
from sb3_latent.models import get_extractor, get_extractors
from sb3_latent.policies import LatentActorCriticPolicy
from sb3_latent.presets import (
    latent_kwargs,
    list_heads,
    list_losses,
    list_presets,
    list_tasks,
    list_trunks,
    ppo_kwargs,
)
from sb3_latent.pretrain import pretrain_encoder
from sb3_latent.types import Latent

__version__ = version("sb3_latent")

__all__ = [
    "Latent",
    "LatentActorCriticPolicy",
    "LatentExtractor",
    "TinyBallEnv",
    "collect_frames",
    "get_extractor",
    "get_extractors",
    "latent_kwargs",
    "list_heads",
    "list_losses",
    "list_presets",
    "list_tasks",
    "list_trunks",
    "load_encoder",
    "ppo_kwargs",
    "pretrain_encoder",
    "save_encoder",
]
