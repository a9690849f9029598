"""Tune agents and their representations with Optuna, on one machine or many."""

from sb3_latent.tuning.optimize import optimize
from sb3_latent.tuning.spaces import search_space

__all__ = ["optimize", "search_space"]
