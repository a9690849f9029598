"""What tests of saving and resuming share: a run broken off in the middle, and all that a state holds."""

import copy
import random

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback


def rng_states():
    return random.getstate(), np.random.get_state(), th.get_rng_state()


def restore_rng(states):
    random.setstate(states[0])
    np.random.set_state(states[1])
    th.set_rng_state(states[2])


def flat(state, prefix=""):
    """Leaves of a nested state by their path."""
    if isinstance(state, dict):
        return {path: leaf for key, value in state.items() for path, leaf in flat(value, f"{prefix}.{key}").items()}
    if isinstance(state, list | tuple):
        return flat(dict(enumerate(state)), prefix)
    return {prefix: state}


class SnapshotCallback(BaseCallback):
    """Saves everything at the start of the rollout that begins at a step, as a job that is about to be killed would."""

    def __init__(self, num_timesteps, folder):
        super().__init__()
        self.at = num_timesteps
        self.folder = folder

    def _on_rollout_start(self):
        if self.num_timesteps == self.at:
            self.model.save(self.folder / "model")
            if hasattr(self.model, "replay_buffer"):
                self.model.save_replay_buffer(self.folder / "replay")
            self.env, self.rng = copy.deepcopy(self.model.env), rng_states()

    def _on_step(self):
        return True
