"""Representation learning for Stable-Baselines3 agents, as a plugin."""

from importlib.metadata import version

from sb3_latent.buffers import FrameReplayBuffer, FrameRolloutBuffer, MaskableFrameRolloutBuffer, SequenceReplayBuffer
from sb3_latent.checkpoint import load_encoder, save_encoder
from sb3_latent.dream_env import DreamVecEnv, VecLatentStateWrapper
from sb3_latent.dynamics import LatentModel, make_latent_model
from sb3_latent.dynamics_extractor import DynamicsExtractor
from sb3_latent.envs import HistoryWrapper, PixelPendulumEnv, TinyBallEnv, VecHistoryWrapper, make_dmc_env
from sb3_latent.extractor import LatentExtractor
from sb3_latent.frames import collect_frames
from sb3_latent.models import get_extractor, get_extractors, get_latent_model
from sb3_latent.policies import (
    LatentActorCriticPolicy,
    LatentCrossQPolicy,
    LatentDQNPolicy,
    LatentMaskableActorCriticPolicy,
    LatentQRDQNPolicy,
    LatentRecurrentActorCriticPolicy,
    LatentSACPolicy,
    LatentTD3Policy,
    LatentTQCPolicy,
    SLACPolicy,
    SLACTQCPolicy,
)
from sb3_latent.presets import (
    latent_kwargs,
    list_dynamics,
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
    "DreamVecEnv",
    "DynamicsExtractor",
    "FrameReplayBuffer",
    "FrameRolloutBuffer",
    "HistoryWrapper",
    "Latent",
    "LatentActorCriticPolicy",
    "LatentCrossQPolicy",
    "LatentDQNPolicy",
    "LatentExtractor",
    "LatentMaskableActorCriticPolicy",
    "LatentModel",
    "LatentQRDQNPolicy",
    "LatentRecurrentActorCriticPolicy",
    "LatentSACPolicy",
    "LatentTD3Policy",
    "LatentTQCPolicy",
    "MaskableFrameRolloutBuffer",
    "PixelPendulumEnv",
    "SLACPolicy",
    "SLACTQCPolicy",
    "SequenceReplayBuffer",
    "TinyBallEnv",
    "VecHistoryWrapper",
    "VecLatentStateWrapper",
    "collect_frames",
    "get_extractor",
    "get_extractors",
    "get_latent_model",
    "has_checkpoint",
    "latent_kwargs",
    "list_dynamics",
    "list_heads",
    "list_losses",
    "list_presets",
    "list_tasks",
    "list_trunks",
    "load_checkpoint",
    "load_encoder",
    "make_dmc_env",
    "make_latent_model",
    "ppo_kwargs",
    "pretrain_encoder",
    "sac_kwargs",
    "save_checkpoint",
    "save_encoder",
]
