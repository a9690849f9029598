"""Agents from the hyperparameters of an rl-zoo file, without rl_zoo3."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule

from sb3_latent.envs.making import imported, parts_of

MakeModel = Callable[..., BaseAlgorithm]
"""An SB3 algorithm, or a function that takes its arguments."""

OF_ENVIRONMENT = (
    "n_envs",
    "n_timesteps",
    "env_wrapper",
    "vec_env_wrapper",
    "env_kwargs",
    "monitor_kwargs",
    "frame_stack",
    "normalize",
    "callback",
)
"""Keys of an rl-zoo file that are no arguments of the algorithm."""


def make_callbacks(hyperparams: Mapping[str, Any]) -> list[BaseCallback]:
    """
    :param hyperparams: ``callback``: dotted paths, with arguments or without.
    :return: new callbacks.
    :raises ValueError: if a path leads nowhere.
    """
    return [cls(**kwargs) for cls, kwargs in parts_of(hyperparams.get("callback"))]


def algorithm_kwargs(hyperparams: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param hyperparams: as in rl-zoo's files.
    :return: those that the algorithm takes, with classes for dotted paths and schedules for ``"lin_2.5e-4"``.
    :raises ValueError: if a path leads nowhere, or a schedule is none.
    """
    # Copies, for SB3's constructors write into policy_kwargs.
    kwargs = {name: copy.deepcopy(value) for name, value in hyperparams.items() if name not in OF_ENVIRONMENT}
    for name in ("policy", "replay_buffer_class", "rollout_buffer_class"):
        if isinstance(kwargs.get(name), str) and "." in kwargs[name]:
            kwargs[name] = imported(kwargs[name])
    for name in ("learning_rate", "clip_range", "clip_range_vf"):
        if isinstance(kwargs.get(name), str):
            kwargs[name] = _schedule(name, kwargs[name])
    if isinstance(kwargs.get("train_freq"), list):
        kwargs["train_freq"] = tuple(kwargs["train_freq"])
    return kwargs


def _schedule(name: str, text: str) -> LinearSchedule:
    kind, _, value = text.partition("_")
    try:
        if kind != "lin":
            raise ValueError
        return LinearSchedule(float(value), 0.0, 1.0)
    except ValueError:
        raise ValueError(f"{name}={text!r} must be a number, or fall to 0 linearly from one: 'lin_2.5e-4'.") from None
