"""Open what SB3, sb3-contrib or rl_zoo3 saved, with an environment that fits, to look at it."""

import copy
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import gymnasium as gym
import numpy as np
from sb3_contrib import QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from sb3_latent.buffers import SequenceReplayBuffer
from sb3_latent.checks import in_one_line
from sb3_latent.envs.making import check_env_id, make_env
from sb3_latent.registry import unknown
from sb3_latent.zoo_runs import find_run


class NoReplayBuffer(SequenceReplayBuffer):
    """Holds nothing. Of the class that policies with a model of windows insist on, the others take any."""

    def __init__(self, buffer_size: int, *_: Any, **__: Any) -> None:
        self.buffer_size = buffer_size


NO_REPLAY_BUFFER: dict[str, Any] = {
    "buffer_size": 1,
    "replay_buffer_class": NoReplayBuffer,
    "replay_buffer_kwargs": {},
    "optimize_memory_usage": False,
}
"""For ``load`` of an off-policy algorithm that shall not learn, whose buffer would be as large as that of its training."""

_ALGORITHMS: dict[type[BaseAlgorithm], tuple[type[BasePolicy], str]] = {
    RecurrentPPO: (RecurrentActorCriticPolicy, ""),
    MaskablePPO: (MaskableActorCriticPolicy, ""),
    TRPO: (ActorCriticPolicy, "cg_max_steps"),
    PPO: (ActorCriticPolicy, "clip_range"),
    A2C: (ActorCriticPolicy, ""),
    QRDQN: (QRDQNPolicy, ""),
    DQN: (DQNPolicy, ""),
    TQC: (TQCPolicy, ""),
    CrossQ: (CrossQPolicy, ""),
    SAC: (SACPolicy, ""),
    TD3: (TD3Policy, ""),
}
"""Policy that an algorithm has, and an attribute that those before it in the table lack; the first that fits is it."""

_CLASSES: tuple[type[BaseAlgorithm], ...] = (*_ALGORITHMS, DDPG)
_BY_NAME = {cls.__name__.lower(): cls for cls in _CLASSES}

_UNREADABLE = (
    BadZipFile,
    UnpicklingError,
    KeyError,
    AttributeError,
    ImportError,
    RuntimeError,
    ValueError,
    TypeError,
    EOFError,
)
"""What SB3, torch and pickle raise for files that are none of theirs, or of another version."""

_ATARI_WRAPPER = "stable_baselines3.common.atari_wrappers.AtariWrapper"


def load_agent(path: str | Path, algo: str | None = None, device: str = "auto") -> BaseAlgorithm:
    """
    Load a model to look at it: without its environment, replay buffer and schedules.

    As always with SB3, loading runs what the file says; open no file of strangers.

    :param path: of the zip; its ending may be left out.
    :param algo: SB3's name of the algorithm in lower case; None finds out by the policy that was saved.
    :param device: torch's.
    :return: the model.
    :raises FileNotFoundError: if there is no such file.
    :raises ValueError: if it holds no model, one that this version of SB3 cannot load, or one that diverged; says why.
    """
    path = _zip_of(path)
    if algo is not None and algo.lower() not in _BY_NAME:
        raise ValueError(unknown("algorithm", algo, _BY_NAME))
    # Pickled code of another version of Python, and of no use to one that does not learn.
    learning: dict[str, Any] = {"lr_schedule": _constant, "learning_rate": 0.0, "clip_range": _constant, "clip_range_vf": None}
    try:
        cls = _class_of(path, learning) if algo is None else _BY_NAME[algo.lower()]
        small = NO_REPLAY_BUFFER if issubclass(cls, OffPolicyAlgorithm) else {}
        model = cls.load(path, device=device, custom_objects=learning, **copy.deepcopy(small))
    except _UNREADABLE as error:
        reason = str(error).strip().splitlines()
        raise ValueError(
            f"{path} cannot be loaded ({reason[0] if reason else type(error).__name__}): it is no model of SB3, of another "
            "algorithm (name it by --algo), or of another version (its file system_info.txt says which)."
        ) from error
    broken = [name for name, weights in model.policy.named_parameters() if not weights.isfinite().all()]
    if broken:
        raise ValueError(
            f"{path} holds weights that are not finite ({broken[0]}): its training diverged; take an earlier one."
        )
    return model


def make_env_for(
    model: BaseAlgorithm,
    path: str | Path,
    env_id: str | None = None,
    n_envs: int = 1,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> VecEnv:
    """
    The environment of a model, wrapped as for training.

    Beside a model of rl_zoo3 lies what it was wrapped in. Elsewhere the model's observations tell: a stack of frames, SB3's
    ``AtariWrapper`` for games of Atari. Statistics of ``VecNormalize`` are read from ``vecnormalize.pkl`` or
    ``vec_normalize.pkl`` beside the model.

    :param model: from :func:`load_agent`.
    :param path: where it was loaded from.
    :param env_id: see :func:`env_like`; None takes the one that rl_zoo3 trained in, whose ``--gym-packages`` are imported.
    :param n_envs: copies.
    :param env_kwargs: of the environment, over those of the training.
    :param seed: of the first copy.
    :return: the environment; the model is not bound to it.
    :raises ValueError: if none is known or it does not fit the model.
    """
    path = _zip_of(path)
    run = find_run(path.parent)
    env_id = env_id or run.settings.get("env")
    if env_id is None:
        raise ValueError(f"{path} does not say where it was trained; name the environment by --env, e.g. --env CartPole-v1.")
    for module in run.settings.get("gym_packages") or []:
        _register(module)
    kwargs = {**(run.settings.get("env_kwargs") or {}), **(env_kwargs or {})}
    wrappers = {name: run.settings.get(name) for name in ("env_wrapper", "vec_env_wrapper")}
    return env_like(model, env_id, n_envs, env_kwargs=kwargs, wrappers=wrappers, statistics=run.folder, seed=seed)


def env_like(
    model: BaseAlgorithm,
    env_id: str,
    n_envs: int = 1,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    wrappers: Mapping[str, Any] | None = None,
    statistics: Path | None = None,
    seed: int = 0,
) -> VecEnv:
    """
    :param model: that shall play.
    :param env_id: registered with gymnasium, or ``"module:id"``, as ``gymnasium.make`` has it, where a module is to be
        imported that registers it. Games of Atari get SB3's ``AtariWrapper``, all get the stack of frames that the model
        observes.
    :param n_envs: copies.
    :param env_kwargs: of the environment.
    :param wrappers: ``env_wrapper`` and ``vec_env_wrapper`` as rl-zoo's files have them.
    :param statistics: folder with those of ``VecNormalize``, if there are any.
    :param seed: of the first copy.
    :return: the environment.
    :raises ValueError: if the id is unknown, or does not fit the model.
    :raises OSError: if it cannot be made on this machine, e.g. without a display.
    """
    *modules, env_id = env_id.rsplit(":", 1)
    for module in modules:
        _register(module)
    check_env_id(env_id)
    hyperparams = {**(wrappers or {}), "env_kwargs": dict(env_kwargs or {})}
    if not hyperparams.get("env_wrapper") and "ale_py" in str(gym.spec(env_id).entry_point):
        hyperparams["env_wrapper"] = _ATARI_WRAPPER
    try:
        env = make_env(env_id, hyperparams, n_envs, seed)
    except RuntimeError as error:
        raise OSError(
            f"{env_id} cannot be made here ({in_one_line(error)}); if it draws what the agent sees, it needs a display: for "
            "MuJoCo set MUJOCO_GL=egl, else start under xvfb-run."
        ) from error
    if statistics is not None:
        env = _normalized(env, statistics)
    n_stack = _n_stack(env, model)
    env = BaseAlgorithm._wrap_env(VecFrameStack(env, n_stack) if n_stack > 1 else env, verbose=0, monitor_wrapper=False)
    own, wanted = ([one.observation_space, one.action_space] for one in (env, model))
    if own != wanted:
        env.close()
        raise ValueError(
            f"the model observes and acts in {in_one_line(wanted)}, {env_id} has {in_one_line(own)}; name the one it was "
            "trained in, with its env_kwargs."
        )
    return env


def _register(module: str) -> None:
    try:
        import_module(module)
    except ImportError as error:
        raise ValueError(f"{module!r}, which is to register an environment, cannot be imported: {error}.") from error


def _zip_of(path: str | Path) -> Path:
    path = Path(path)
    found = path if path.is_file() else path.with_name(f"{path.name}.zip")
    if not found.is_file():
        raise FileNotFoundError(f"no model {path}; give the zip that SB3's save() wrote.")
    return found


def _constant(_: float) -> float:
    return 0.0


def _class_of(path: Path, learning: dict[str, Any]) -> type[BaseAlgorithm]:
    data, _, _ = load_from_zip_file(path, device="cpu", custom_objects=learning)
    if data is None or not isinstance(data.get("policy_class"), type):
        raise ValueError("it names no policy")
    for cls, (policy, attribute) in _ALGORITHMS.items():
        if issubclass(data["policy_class"], policy) and (not attribute or attribute in data):
            return cls
    raise ValueError(f"nobody knows the algorithm of {data['policy_class'].__name__}")


def _n_stack(env: VecEnv, model: BaseAlgorithm) -> int:
    """How many frames the model observes at once; rl_zoo3's ``frame_stack`` says the same, where there is one."""
    own, stacked = env.observation_space.shape or (), model.observation_space.shape or ()
    if len(own) != len(stacked) or not own:
        return 1
    n_stack, rest = divmod(int(np.prod(stacked)), int(np.prod(own)))
    return n_stack if n_stack and not rest else 1


def _normalized(env: VecEnv, folder: Path) -> VecEnv:
    for name in ("vecnormalize.pkl", "vec_normalize.pkl"):
        if (folder / name).is_file():
            try:
                normalized = VecNormalize.load(str(folder / name), env)
            except (*_UNREADABLE, AssertionError) as error:
                raise ValueError(f"{folder / name} holds no statistics for this environment: {in_one_line(error)}.") from error
            normalized.training = normalized.norm_reward = False
            return normalized
    return env
