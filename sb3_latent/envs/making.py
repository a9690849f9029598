"""Environments from the hyperparameters of an rl-zoo file, without rl_zoo3."""

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import gymnasium as gym
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize


def make_env(env_id: str, hyperparams: Mapping[str, Any], n_envs: int, seed: int, training: bool = True) -> VecEnv:
    """
    :param env_id: registered with gymnasium.
    :param hyperparams: ``env_wrapper``, ``vec_env_wrapper``, ``env_kwargs``, ``monitor_kwargs``, ``normalize`` and
        ``frame_stack`` as in rl-zoo's files, applied in its order.
    :param n_envs: copies.
    :param seed: of the first; the next has the next one.
    :param training: whether rewards are normalised and statistics gathered, where ``normalize`` asks for it.
    :return: the environment.
    :raises ValueError: if the id is unknown, or a dotted path leads nowhere.
    """
    check_env_id(env_id)
    wrappers = parts_of(hyperparams.get("env_wrapper"))
    env = make_vec_env(
        env_id,
        n_envs,
        seed,
        env_kwargs=hyperparams.get("env_kwargs"),
        monitor_kwargs=hyperparams.get("monitor_kwargs"),
        wrapper_class=lambda env: _wrapped(env, wrappers),
    )
    env = _wrapped(env, parts_of(hyperparams.get("vec_env_wrapper")))
    normalize = hyperparams.get("normalize")
    if normalize:
        given = normalize if isinstance(normalize, Mapping) else {}
        env = VecNormalize(env, **{"gamma": hyperparams.get("gamma", 0.99), **given})
        env.training, env.norm_reward = training, env.norm_reward and training
    n_stack = hyperparams.get("frame_stack")
    return VecFrameStack(env, n_stack) if n_stack else env


def check_env_id(env_id: str) -> None:
    """
    :param env_id: of an environment.
    :raises ValueError: if gymnasium does not know it; names the nearest.
    """
    if importlib.util.find_spec("ale_py"):
        gym.register_envs(importlib.import_module("ale_py"))
    if env_id not in gym.registry:
        nearest = difflib.get_close_matches(env_id, gym.registry, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else "import the package that registers it."
        raise ValueError(f"unknown environment {env_id!r}; {hint}")


def parts_of(listed: Any) -> list[tuple[Callable[..., Any], dict[str, Any]]]:
    """
    :param listed: a dotted path, ``{path: arguments}``, or a list of these; None is nothing.
    :return: what the paths lead to, each with its arguments.
    :raises ValueError: if a path leads nowhere.
    """
    entries = [] if listed is None else listed if isinstance(listed, list) else [listed]
    pairs: Iterable[tuple[str, Any]] = (
        pair for entry in entries for pair in (entry.items() if isinstance(entry, Mapping) else [(entry, {})])
    )
    return [(imported(path), dict(kwargs or {})) for path, kwargs in pairs]


def imported(path: str) -> Any:
    """
    :param path: dotted, of a class or function.
    :return: that.
    :raises ValueError: if it leads nowhere.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path!r} cannot be imported ({error}); write module and name, e.g. 'sb3_latent.HistoryWrapper'."
        ) from error


def _wrapped(env: Any, wrappers: list[tuple[Callable[..., Any], dict[str, Any]]]) -> Any:
    for wrapper, kwargs in wrappers:
        env = wrapper(env, **kwargs)
    return env
