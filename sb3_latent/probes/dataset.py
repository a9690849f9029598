"""Observations with the true state behind each of them."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from tqdm.auto import tqdm

from sb3_latent.checks import in_one_line, whole_number
from sb3_latent.evaluation import evaluating, own_actions
from sb3_latent.playing import Actor, make_actor
from sb3_latent.probes.encoders import Array, RawObservations, n_rows, policy_of
from sb3_latent.probes.labels import Info, Labels, Row, is_category, labelled

N_STEPS = 10_000
"""Observations. Own choice: AtariARI's 50,000 (its README) take hours of scikit-learn on a CPU."""


@dataclass(frozen=True)
class Dataset:
    """
    What probes learn from, in any order of rows.

    :param observations: (N, ...), raw; a dict of arrays for Dict observations. Latents may stand here, with
        ``lambda latents: latents`` as the encoder.
    :param labels: name -> (N,); booleans, strings and unsigned integers are categories, other numbers are regressed.
    :param episodes: (N,), integers; rows of one episode never stand on both sides of a split.
    :param observation_space: of the observations.
    :raises ValueError: if lengths differ, there are no rows or labels, or a number is not finite.
    """

    observations: RawObservations
    labels: dict[str, Array]
    episodes: npt.NDArray[np.int64]
    observation_space: spaces.Space[Any]

    def __post_init__(self) -> None:
        lengths = {"episodes": len(self.episodes), **{name: len(values) for name, values in self.labels.items()}}
        wrong = [f"{name} has {length}" for name, length in lengths.items() if length != len(self)]
        if wrong or not len(self) or not self.labels:
            raise ValueError(
                f"dataset of {len(self)} observations with {len(self.labels)} labels: {', '.join(wrong) or 'empty'}."
            )
        for name, values in self.labels.items():
            if not is_category(values) and not np.isfinite(values).all():
                raise ValueError(f"label {name!r} holds values that are not finite; drop it or these rows.")

    def __len__(self) -> int:
        return n_rows(self.observations)


def collect(
    model: BaseAlgorithm | None,
    env: GymEnv,
    labels: Labels = "info",
    n_steps: int = N_STEPS,
    *,
    n_episodes: int | None = None,
    deterministic: bool = False,
    seed: int = 0,
    progress_bar: bool = False,
) -> Dataset:
    """
    Play episodes and keep every observation, the last one of an episode included, with the state behind it.

    Labels are read at the moment of their observation: ``"info"`` takes every number and array of numbers that ``info`` holds
    on reset, such as the state of TinyBall, PixelPendulum and DeepMind Control; a list takes those entries of ``info``;
    ``"ram"`` reads the variables of :func:`ram_indices` from Atari's emulator; a function of (env, info) returns them by
    name, env being the environment in all its wrappers. Arrays are taken apart: ``"state_0"`` and so on.

    :param model: who plays; None for random actions.
    :param env: environment of its own, wrapped as for training, e.g. in ``AtariWrapper`` and ``VecFrameStack``; it is left
        open, amid an episode.
    :param labels: where they come from.
    :param n_steps: observations in all, from all environments together; not used with ``n_episodes``.
    :param n_episodes: whole episodes, as many from each environment, so that short ones are no more frequent than they are.
    :param deterministic: passed to ``predict``.
    :param seed: of the environment and of all actions.
    :param progress_bar: show one.
    :return: rows in the order of time.
    :raises ValueError: if it is the environment that the model trains in or another kind, or labels cannot be read.
    """
    venv = BaseAlgorithm._wrap_env(env, monitor_wrapper=False)
    if n_episodes is None:
        recorder = _Recorder(whole_number("n_steps", n_steps), np.full(venv.num_envs, np.inf))
    else:
        # From each environment, as SB3's `evaluate_policy` has it: those that end first would be the short ones.
        shares = (whole_number("n_episodes", n_episodes) + np.arange(venv.num_envs)) // venv.num_envs
        recorder = _Recorder(np.inf, shares)
    if model is not None:
        check_env_for(model, venv)
    policy = None if model is None else policy_of(model)
    total = None if n_episodes is not None else n_steps
    bar = tqdm(total=total, unit="observation", desc="playing", disable=not progress_bar)
    with bar, evaluating(policy, seed), th.no_grad(), own_actions(model, seed), labelled(venv, labels) as label_of:
        act = make_actor(model, venv, deterministic)
        venv.seed(seed)
        venv.action_space.seed(seed)
        for observation, info, i, is_first in _play(venv, act):
            recorder.add(i, observation, label_of(info), is_first)
            bar.update()
            if recorder.is_full:
                break
    return recorder.dataset(venv.observation_space)


def check_env_for(model: BaseAlgorithm, env: VecEnv) -> None:
    """
    :param model: that must stay as it is.
    :param env: to be played in.
    :raises ValueError: if the model trains in it, its observations are of another kind, or their normalisation is missing.
    """
    own = model.get_env()
    if own is not None and _identities(own) & _identities(env):
        raise ValueError("this is the environment that the model trains in; make another one like it.")
    if env.observation_space != model.observation_space:
        given, wanted = (in_one_line(one.observation_space) for one in (env, model))
        raise ValueError(f"the model observes {wanted}, the environment {given}; wrap it as for training.")
    normalize = model.get_vec_normalize_env()
    if normalize is not None and normalize.norm_obs and unwrap_vec_normalize(env) is None:
        raise ValueError("the model observes through VecNormalize; wrap the environment with VecNormalize.load(path, env).")


def _identities(env: VecEnv) -> set[int]:
    base = env.unwrapped
    return {id(base)} | {id(one.unwrapped) for one in getattr(base, "envs", [])}


def _play(env: VecEnv, act: Actor) -> Iterator[tuple[Any, Info, int, bool]]:
    """
    One observation after the other, with the info of its moment, the index of its environment, and whether it is the first of
    an episode. A ``VecEnv`` has begun the next episode when it returns from the last step of one: that step's info and
    ``terminal_observation`` are the end, the observation belongs to the info of the reset.
    """
    observations = env.reset()
    starts = np.ones(env.num_envs, dtype=np.bool_)
    infos = list(env.unwrapped.reset_infos)
    while True:
        for i in range(env.num_envs):
            yield _row(observations, i), infos[i], i, bool(starts[i])
        observations, _, starts, infos = env.step(act(observations, starts))
        for i in np.flatnonzero(starts).tolist():
            if infos[i].get("terminal_observation") is not None:
                yield infos[i]["terminal_observation"], infos[i], i, False
        resets = env.unwrapped.reset_infos
        infos = [resets[i] if starts[i] else infos[i] for i in range(env.num_envs)]


def _row(observations: Any, i: int) -> Any:
    if isinstance(observations, dict):
        return {key: values[i] for key, values in observations.items()}
    return observations[i]


class _Recorder:
    """
    Rows until there are enough.

    :param n_steps: rows in all.
    :param n_episodes: (n_envs,), episodes of each environment that are kept.
    """

    def __init__(self, n_steps: float, n_episodes: Array) -> None:
        self._n_steps, self._n_episodes = n_steps, n_episodes
        self._rows: list[Row] = []
        self._observations: list[Any] = []
        self._episodes: list[int] = []
        self._n_begun = np.zeros(len(n_episodes), dtype=np.int64)
        self._episode = np.zeros(len(n_episodes), dtype=np.int64)

    @property
    def is_full(self) -> bool:
        return len(self._rows) >= self._n_steps or bool((self._n_begun > self._n_episodes).all())

    def add(self, env: int, observation: Any, row: Row, is_first: bool) -> None:
        if is_first:
            self._episode[env] = self._n_begun.sum()
            self._n_begun[env] += 1
        if self._n_begun[env] > self._n_episodes[env]:
            return
        if self._rows and row.keys() != self._rows[0].keys():
            raise ValueError(
                f"labels {sorted(row)} differ from the first ones, {sorted(self._rows[0])}; name the same each time."
            )
        self._rows.append(row)
        self._observations.append(copy.deepcopy(observation))
        self._episodes.append(int(self._episode[env]))

    def dataset(self, space: spaces.Space[Any]) -> Dataset:
        labels = {name: np.array([row[name] for row in self._rows]) for name in self._rows[0]}
        first = self._observations[0]
        stacked: RawObservations = (
            {key: np.stack([observation[key] for observation in self._observations]) for key in first}
            if isinstance(first, dict)
            else np.stack(self._observations)
        )
        return Dataset(stacked, labels, np.array(self._episodes), space)
