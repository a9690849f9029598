"""Callbacks for SB3's ``learn``: they trigger and log, the mathematics lies in :mod:`sb3_latent`."""

from sb3_latent.callbacks.catch_up import CatchUpCallback
from sb3_latent.callbacks.checkpoint import CrashSafeCheckpointCallback
from sb3_latent.callbacks.dream import DreamCallback
from sb3_latent.callbacks.encoder_pretrain import EncoderPretrainCallback
from sb3_latent.callbacks.encoder_schedule import EncoderScheduleCallback
from sb3_latent.callbacks.kl_constraint import KLConstraintCallback
from sb3_latent.callbacks.metrics import LatentMetricsCallback
from sb3_latent.callbacks.model_pretrain import ModelPretrainCallback
from sb3_latent.callbacks.probe import ProbeCallback
from sb3_latent.callbacks.reconstruction import ReconstructionCallback
from sb3_latent.callbacks.saliency import JacobianSaliencyCallback

__all__ = [
    "CatchUpCallback",
    "CrashSafeCheckpointCallback",
    "DreamCallback",
    "EncoderPretrainCallback",
    "EncoderScheduleCallback",
    "JacobianSaliencyCallback",
    "KLConstraintCallback",
    "LatentMetricsCallback",
    "ModelPretrainCallback",
    "ProbeCallback",
    "ReconstructionCallback",
]
