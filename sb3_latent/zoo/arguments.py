"""Arguments of ``zoo train`` that rl_zoo3 would find wrong late, or not at all."""

from collections.abc import Collection, Mapping
from typing import Any

from stable_baselines3.common.utils import get_device

from sb3_latent.checks import whole_number


def check_arguments(given: Mapping[str, Any], resume: bool, search: Collection[str]) -> None:
    """
    :param given: arguments of rl_zoo3's experiment manager by name.
    :param resume: whether ``--resume`` was given.
    :param search: names after ``--search``.
    :raises ValueError: if one is wrong, or two do not fit together.
    """
    tunes, n_jobs = given.get("optimize_hyperparameters", False), given.get("n_jobs", 1)
    if n_jobs != 1:
        raise ValueError(
            f"--n-jobs {n_jobs}: threads would share one random state; start {n_jobs} processes with the same --storage and "
            "--study-name instead."
        )
    if resume and (tunes or given.get("trained_agent")):
        raise ValueError(
            "--resume goes on with a run; a study goes on by itself, and -i begins a new run. Drop one of the two."
        )
    if search and not tunes:
        raise ValueError(f"--search {' '.join(search)} chooses what -optimize tunes; add that.")
    for option in ("n_eval_envs", "n_eval_episodes", "n_trials", "max_total_trials", "n_evaluations"):
        if given.get(option) is not None:
            whole_number(f"--{option.replace('_', '-').replace('n-eval-episodes', 'eval-episodes')}", given[option])
    try:
        get_device(given.get("device", "auto"))
    except RuntimeError as error:
        raise ValueError(f"--device {given['device']}: {str(error).splitlines()[0]}") from error
