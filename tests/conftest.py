"""What every test shares: one torch thread, the same seed, no display, reproducible hypothesis examples."""

import os

import pytest
import torch as th
from hypothesis import settings
from stable_baselines3.common.utils import set_random_seed

os.environ["MPLBACKEND"] = "Agg"
os.environ["SDL_VIDEODRIVER"] = "dummy"

# More than one thread changes the order of float sums, and the workers of pytest-xdist would fight over the cores.
th.set_num_threads(1)

# The first example of a test may compile or import for longer than hypothesis' deadline of 200 ms.
settings.register_profile("sb3_latent", deadline=None, derandomize=True)
settings.load_profile("sb3_latent")


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Seed Python, numpy and torch, so that no test depends on those that ran before it."""
    set_random_seed(0)
