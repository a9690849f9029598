"""What a study searches over: hyperparameters of the algorithm, and of the representation as its parts state them."""

import copy
import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch as th
from gymnasium import spaces

from sb3_latent.auxiliary import TASKS
from sb3_latent.dynamics import DYNAMICS
from sb3_latent.extractor import LatentExtractor
from sb3_latent.images import array_specs
from sb3_latent.nn import LIKELIHOODS, TRUNKS, list_image_trunks
from sb3_latent.presets import POLICY_SETTINGS, SETTINGS, WINDOW_POLICY_SETTINGS, WINDOW_SETTINGS, latent_kwargs
from sb3_latent.recipes import WINDOW_PRESETS
from sb3_latent.registry import unknown
from sb3_latent.search import Choice, Dimension, Float, Int, SearchSpace, Trial, around
from sb3_latent.tuning.algorithms import ALGORITHM_SPACES

Hyperparameters = Mapping[str, Any]
"""As in a file of rl-zoo: arguments of the algorithm by name, with ``policy_kwargs`` and ``n_envs`` among them."""

LEARNING_RATE = Float(1e-5, 3e-3, log=True)
MIN_LATENT_DIM, MAX_LATENT_DIM = 8, 128
"""The literature of pixels lies between 20 (seed document 000) and 64; own choice."""


def search_space(
    algorithm: str,
    hyperparams: Hyperparameters,
    observation_space: spaces.Space[Any],
    n_envs: int = 1,
    longest_rollout: int | None = None,
) -> dict[str, Dimension]:
    """
    All that there is to vary about an agent. What the hyperparameters give beyond that stays.

    :param algorithm: name of the SB3 class, such as ``"PPO"``.
    :param hyperparams: of the agent; with ``policy_kwargs: {preset: ..., ...}`` the representation is varied as well.
    :param observation_space: the agent's; its size decides which trunks there are.
    :param n_envs: parallel environments; a minibatch must divide a rollout.
    :param longest_rollout: steps of all environments together; an agent that is evaluated before its first update is not
        worth a trial.
    :return: dimensions by dotted name, such as ``"policy_kwargs.latent_dim"``.
    :raises ValueError: if there is no space for the algorithm, or the hyperparameters are wrong.
    :raises TypeError: if the representation is given by classes rather than names.
    """
    if algorithm not in ALGORITHM_SPACES:
        raise ValueError(unknown("algorithm to tune", algorithm, ALGORITHM_SPACES))
    space = dict(ALGORITHM_SPACES[algorithm])
    if "n_steps" in space and longest_rollout is not None:
        space["n_steps"] = _no_longer(space["n_steps"], longest_rollout // n_envs)
    if "n_steps" in space and "batch_size" in space:
        space["batch_size"] = _dividing(space["batch_size"], space["n_steps"], n_envs)
    policy_kwargs = hyperparams.get("policy_kwargs") or {}
    if "features_extractor_class" in policy_kwargs:
        raise TypeError(
            "a study knows the representation by names: write policy='sb3_latent.LatentActorCriticPolicy' (or the policy of "
            "your algorithm) and policy_kwargs={'preset': 'vae', ...} in place of features_extractor_class."
        )
    if "preset" in policy_kwargs:
        resolved = settings_of(policy_kwargs)
        find = _of_windows if policy_kwargs["preset"] in WINDOW_PRESETS else _of_extractor
        space |= {f"policy_kwargs.{name}": dimension for name, dimension in find(resolved, observation_space).items()}
    if algorithm == "TRPO":
        # Its steps are as long as the KL allows, whatever the scale of the gradient.
        space.pop("policy_kwargs.kappa", None)
    return space


def restricted(space: SearchSpace, names: Collection[str]) -> dict[str, Dimension]:
    """
    :param space: of :func:`search_space`.
    :param names: dimensions to keep, by full name or by its end: ``"latent_dim"`` is ``"policy_kwargs.latent_dim"``, and
        ``"net_arch"`` all that end so.
    :return: those alone.
    :raises ValueError: if a name is none of them.
    """
    for name in names:
        if not any(_is_end(name, full) for full in space):
            raise ValueError(unknown("hyperparameter to search", name, (full.rpartition(".")[2] for full in space)))
    return {full: dimension for full, dimension in space.items() if any(_is_end(name, full) for name in names)}


def sample(trial: Trial, space: SearchSpace) -> dict[str, Any]:
    """
    :param trial: draws; an ``optuna.trial.FixedTrial`` gives the values of a trial that has been.
    :param space: of :func:`search_space`.
    :return: values by dotted name.
    """
    return {name: dimension.suggest(trial, name) for name, dimension in space.items()}


def merged(hyperparams: Hyperparameters, values: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param hyperparams: as for :func:`search_space`.
    :param values: of :func:`sample`.
    :return: the hyperparameters with these values in their places, and everything else as it was, what the preset gives
        beside them included.
    """
    result = copy.deepcopy(dict(hyperparams))
    resolved = settings_of(result["policy_kwargs"]) if "preset" in (result.get("policy_kwargs") or {}) else {}
    for path, value in values.items():
        *outer, last = path.split(".")
        place = result
        for depth, key in enumerate(outer):
            if place.get(key) is None:
                # A setting that replaces its preset's whole must repeat what is in it.
                place[key] = copy.deepcopy(resolved.get(key)) or {} if depth == 1 else {}
            place = place[key]
        place[last] = value
    return result


def settings_of(policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param policy_kwargs: with a ``preset``.
    :return: all settings of the representation, the preset's included.
    :raises ValueError: if a value is wrong.
    :raises TypeError: if it is of the wrong kind.
    """
    preset = policy_kwargs["preset"]
    of_windows = isinstance(preset, str) and preset in WINDOW_PRESETS
    ours = [*WINDOW_SETTINGS, *WINDOW_POLICY_SETTINGS] if of_windows else [*SETTINGS, *POLICY_SETTINGS]
    kwargs = latent_kwargs(preset, **{name: value for name, value in policy_kwargs.items() if name in ours})
    return {**kwargs.pop("features_extractor_kwargs"), **kwargs}


def _of_extractor(settings: Mapping[str, Any], observation_space: spaces.Space[Any]) -> dict[str, Dimension]:
    space: dict[str, Dimension] = {}
    tasks = settings.get("tasks") or {}
    if not (settings.get("pretrained") or settings.get("frozen")):
        if settings.get("head") != "identity":
            space["latent_dim"] = _latent_dims(settings, observation_space)
        space |= _of_trunk(settings, observation_space)
        for task, kwargs in tasks.items():
            space |= {f"tasks.{task}.{name}": dimension for name, dimension in _of_task(task, kwargs).items()}
    if tasks:
        space |= _of_gradients(settings)
        space |= _of_coefs(tasks, settings.get("coefs") or {})
    if settings.get("encoder_tau") is not None:
        space["encoder_tau"] = Float(0.005, 0.1, log=True)
    return space


def _of_windows(settings: Mapping[str, Any], observation_space: spaces.Space[Any]) -> dict[str, Dimension]:
    del observation_space
    space = _of_gradients(settings)
    if not (settings.get("pretrained") or settings.get("frozen")):
        parts = {
            "dynamics_kwargs": DYNAMICS.get(settings["dynamics"]).search_space,
            "trunk_kwargs": TRUNKS.get(settings.get("trunk") or "slac").search_space,
            "loss_kwargs": LIKELIHOODS.get(settings.get("loss", "gaussian")).search_space,
        }
        for part, found in parts.items():
            space |= {f"{part}.{name}": dimension for name, dimension in found.items()}
    return space


def _latent_dims(settings: Mapping[str, Any], observation_space: spaces.Space[Any]) -> Int:
    """A latent is no longer than the features that it is made of, which a small trunk of the user's may have few of."""
    with th.device("meta"):
        names = ("per_frame", "n_frames", "trunk", "trunk_kwargs")
        chosen = {name: settings[name] for name in names if settings.get(name) is not None}
        encoders = LatentExtractor(observation_space, latent_dim=1, **chosen).encoders
    longest = min([MAX_LATENT_DIM, *(encoder.trunk.out_dim for encoder in encoders.encoders())])
    return Int(min(MIN_LATENT_DIM, longest), longest, log=True)


def _of_trunk(settings: Mapping[str, Any], observation_space: spaces.Space[Any]) -> dict[str, Dimension]:
    frame_shape = _frame_shape(settings, observation_space)
    if frame_shape is None:
        return {}
    if settings.get("trunk") is None:
        return {"trunk": Choice(tuple(list_image_trunks(frame_shape)))}
    return {f"trunk_kwargs.{name}": dimension for name, dimension in TRUNKS.get(settings["trunk"]).search_space.items()}


def _of_task(name: str, kwargs: Mapping[str, Any]) -> SearchSpace:
    task = TASKS.get(name)
    if "loss" not in inspect.signature(task).parameters:
        return task.search_space
    return {**task.search_space, **LIKELIHOODS.get(kwargs.get("loss", "squared_error")).search_space}


def _of_gradients(settings: Mapping[str, Any]) -> dict[str, Dimension]:
    space: dict[str, Dimension] = {}
    kappa = settings.get("kappa", 1.0)
    if isinstance(kappa, int | float) and kappa > 0:
        space["kappa"] = around(kappa)
    if settings.get("gradient_mode") == "own_optimizer":
        space["auxiliary_optimizer_kwargs.lr"] = LEARNING_RATE
    return space


def _of_coefs(tasks: Collection[str], coefs: Mapping[str, Any]) -> dict[str, Dimension]:
    """A coefficient that is given is varied around its value, a schedule stays."""
    space: dict[str, Dimension] = {}
    for task in tasks:
        given, usual = coefs.get(task), TASKS.get(task).coef_range
        if given is not None:
            space |= {f"coefs.{task}": around(given)} if isinstance(given, int | float) and given > 0 else {}
        elif usual is None:
            space["beta"] = Float(0.1, 10.0, log=True)
        else:
            space[f"coefs.{task}"] = usual
    return space


def _frame_shape(settings: Mapping[str, Any], observation_space: spaces.Space[Any]) -> tuple[int, ...] | None:
    """That of the smallest image; None without images."""
    specs = array_specs(observation_space, settings.get("per_frame", False), settings.get("n_frames"))
    shapes = [spec.frame_shape for spec in specs.values() if spec.is_image]
    return min(shapes, key=lambda shape: min(shape[1:]), default=None)


def _no_longer(n_steps: Dimension, longest: int) -> Dimension:
    assert isinstance(n_steps, Choice)
    lengths = [value for value in n_steps.values if isinstance(value, int)]
    return Choice(tuple(value for value in lengths if value <= max(longest, min(lengths))))


def _dividing(batch_size: Dimension, n_steps: Dimension, n_envs: int) -> Dimension:
    """The lengths of rollouts are powers of two, so that what divides the shortest divides them all."""
    assert isinstance(batch_size, Choice) and isinstance(n_steps, Choice)
    shortest = min(value for value in n_steps.values if isinstance(value, int)) * n_envs
    return Choice(tuple(value for value in batch_size.values if isinstance(value, int) and shortest % value == 0))


def _is_end(name: str, full: str) -> bool:
    return full == name or full.endswith(f".{name}")
