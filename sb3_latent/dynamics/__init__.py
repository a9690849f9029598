"""Latent dynamics: models of what frames follow from what actions, in a latent space."""

from sb3_latent.dynamics.beliefs import Categoricals, DiagonalGaussian, Family
from sb3_latent.dynamics.dynamics import DYNAMICS, Dynamics, Step, Trajectory
from sb3_latent.dynamics.latent_model import LatentModel, make_latent_model
from sb3_latent.dynamics.model_losses import OF_WINDOWS, ModelLosses, check_coefs
from sb3_latent.dynamics.rssm import CategoricalRecurrentDynamics, GaussianRecurrentDynamics, RecurrentDynamics
from sb3_latent.dynamics.slac import (
    FilteringDynamics,
    MixedDynamics,
    NontemporalDynamics,
    SlacDynamics,
    Timeless,
    VaeDynamics,
)
from sb3_latent.dynamics.window_encoder import WindowCode, WindowEncoder

__all__ = [
    "DYNAMICS",
    "OF_WINDOWS",
    "CategoricalRecurrentDynamics",
    "Categoricals",
    "DiagonalGaussian",
    "Dynamics",
    "Family",
    "FilteringDynamics",
    "GaussianRecurrentDynamics",
    "LatentModel",
    "MixedDynamics",
    "ModelLosses",
    "NontemporalDynamics",
    "RecurrentDynamics",
    "SlacDynamics",
    "Step",
    "Timeless",
    "Trajectory",
    "VaeDynamics",
    "WindowCode",
    "WindowEncoder",
    "check_coefs",
    "make_latent_model",
]
