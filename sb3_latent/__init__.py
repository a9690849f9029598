"""Representation learning for Stable-Baselines3 agents, as a plugin."""

from importlib.metadata import version

from sb3_latent.buffers import FrameReplayBuffer
from sb3_latent.checkpoint import load_encoder, save_encoder
from sb3_latent.envs import PixelPendulumEnv, TinyBallEnv, make_dmc_env
from sb3_latent.extractor import LatentExtractor
from sb3_latent.frames import collect_frames
from sb3_latent.models import get_extractor, get_extractors
from sb3_latent.policies import LatentActorCriticPolicy, LatentSACPolicy, LatentTD3Policy, LatentTQCPolicy
from sb3_latent.presets import (
    latent_kwargs,
    list_heads,
    list_losses,
    list_presets,
    list_tasks,
    list_trunks,
    ppo_kwargs,
    sac_kwargs,
)
from sb3_latent.pretrain import pretrain_encoder
from sb3_latent.resume import has_checkpoint, load_checkpoint, save_checkpoint
from sb3_latent.types import Latent

__version__ = version("sb3_latent")

__all__ = [
    "FrameReplayBuffer",
    "Latent",
    "LatentActorCriticPolicy",
    "LatentExtractor",
    "LatentSACPolicy",
    "LatentTD3Policy",
    "LatentTQCPolicy",
    "PixelPendulumEnv",
    "TinyBallEnv",
    "collect_frames",
    "get_extractor",
    "get_extractors",
    "has_checkpoint",
    "latent_kwargs",
    "list_heads",
    "list_losses",
    "list_presets",
    "list_tasks",
    "list_trunks",
    "load_checkpoint",
    "load_encoder",
    "make_dmc_env",
    "ppo_kwargs",
    "pretrain_encoder",
    "sac_kwargs",
    "save_checkpoint",
    "save_encoder",
]
