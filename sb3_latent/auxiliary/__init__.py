"""Auxiliary tasks: what an encoder learns beside the RL loss."""

from sb3_latent.auxiliary.contrastive import ContrastiveTask
from sb3_latent.auxiliary.reconstruction import ReconstructionTask
from sb3_latent.auxiliary.regularization import KLTask, LatentL2Task
from sb3_latent.auxiliary.task import TASKS, AuxiliaryTask

__all__ = ["TASKS", "AuxiliaryTask", "ContrastiveTask", "KLTask", "LatentL2Task", "ReconstructionTask"]
