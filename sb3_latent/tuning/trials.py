"""From a trial to hyperparameters and back."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from sb3_latent.files import atomic_path
from sb3_latent.search import SearchSpace
from sb3_latent.tuning.spaces import merged, sample

_DRAWN = "drawn"


def draw(trial: optuna.Trial, space: SearchSpace) -> dict[str, Any]:
    """
    :param trial: draws; keeps the values as its attribute ``"drawn"``, for the study itself cannot hold lists.
    :param space: of :func:`~sb3_latent.tuning.spaces.search_space`.
    :return: values by dotted name.
    """
    values = sample(trial, space)
    trial.set_user_attr(_DRAWN, values)
    return values


def is_drawn(trial: FrozenTrial) -> bool:
    """
    :param trial: of any study.
    :return: whether :func:`draw` drew it.
    """
    return _DRAWN in trial.user_attrs


def hyperparams_of(trial: FrozenTrial, hyperparams: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param trial: that has been.
    :param hyperparams: of its study, as in an rl-zoo file.
    :return: those of the trial.
    :raises ValueError: if the trial was drawn by someone else.
    """
    if not is_drawn(trial):
        raise ValueError(f"trial {trial.number} was not drawn by sb3_latent; choose one of a study that was.")
    return merged(hyperparams, trial.user_attrs[_DRAWN])


def outcome_of(error: Exception) -> Exception:
    """
    :param error: of ``learn``.
    :return: ``TrialPruned`` if the trial diverged, which is an outcome; else the error, for a wrong configuration is none.
    """
    # torch's distributions refuse parameters that are NaN with a ValueError, its sampling with a RuntimeError of these words.
    words = ("found invalid values", "probability tensor contains either")
    diverged = isinstance(error, FloatingPointError) or any(part in str(error) for part in words)
    return optuna.TrialPruned(f"diverged: {error}") if diverged else error


def write_best(study: optuna.Study, path: str | Path, env_id: str, hyperparams: Mapping[str, Any]) -> bool:
    """
    Write the best trial as a file that ``sb3-latent zoo train --conf-file`` takes; of several objectives the first decides.

    :param study: with trials.
    :param path: of the file.
    :param env_id: under which the hyperparameters stand.
    :param hyperparams: of the study.
    :return: whether there is a complete trial to write.
    :raises ValueError: if the trial was drawn by someone else.
    """
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state is TrialState.COMPLETE]
    if not complete:
        return False
    best = max(complete, key=lambda trial: trial.values[0])
    values = ", ".join(f"{value:g}" for value in best.values)
    plain = json.loads(json.dumps(hyperparams_of(best, hyperparams), default=_number))
    head = f"# Trial {best.number} of study {study.study_name}, best of {len(complete)}: {values}\n"
    with atomic_path(path) as temporary:
        temporary.write_text(head + yaml.safe_dump({env_id: plain}))
    return True


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} cannot be written to a YAML file; give numbers, names and lists.")
