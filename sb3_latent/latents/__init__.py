"""Latents as pictures: what a decoder makes of them, and the way that an episode takes through them."""

from sb3_latent.latents.decoding import Pictures, informative_dimensions, interpolation, reconstruction, traversal
from sb3_latent.latents.sheets import interpolation_sheet, reconstruction_sheet, trajectory_plot, traversal_sheet
from sb3_latent.latents.trajectories import Trajectory, trajectory

__all__ = [
    "Pictures",
    "Trajectory",
    "informative_dimensions",
    "interpolation",
    "interpolation_sheet",
    "reconstruction",
    "reconstruction_sheet",
    "trajectory",
    "trajectory_plot",
    "traversal",
    "traversal_sheet",
]
