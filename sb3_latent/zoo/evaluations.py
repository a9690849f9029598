"""The evaluations of a run that goes on."""

import warnings
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from stable_baselines3.common.callbacks import EvalCallback


def continue_log(callback: EvalCallback, log: Path, n_steps: int) -> None:
    """
    SB3 writes its evaluations anew each time, all that it knows of.

    :param callback: is told those of the run before.
    :param log: ``evaluations.npz`` of that run. One that a crash left unreadable is begun anew, with a warning.
    :param n_steps: of the checkpoint; what was evaluated after it will be again.
    :raises ValueError: if they have another number of episodes.
    """
    try:
        with np.load(log) as saved:
            parts = {name: saved[name] for name in ("timesteps", "results", "ep_lengths")}
    except (KeyError, OSError, ValueError, EOFError, BadZipFile) as error:
        warnings.warn(f"{str(log)!r} cannot be read ({error}) and is begun anew.", stacklevel=2)
        return
    if parts["results"].shape[1] != callback.n_eval_episodes:
        raise ValueError(
            f"--eval-episodes {callback.n_eval_episodes}: the run has evaluations of {parts['results'].shape[1]}, and SB3 "
            "writes all of them into one array; give that number."
        )
    kept = parts["timesteps"] <= n_steps
    callback.evaluations_timesteps = parts["timesteps"][kept].tolist()
    callback.evaluations_results = parts["results"][kept].tolist()
    callback.evaluations_length = parts["ep_lengths"][kept].tolist()
    callback.best_mean_reward = float(parts["results"].mean(1).max())
