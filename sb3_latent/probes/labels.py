"""The true state behind an observation: from Atari's RAM, from ``info``, or from a function of the user's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_latent.envs.making import imported
from sb3_latent.probes.atari_ram import ram_indices
from sb3_latent.registry import unknown

Env: TypeAlias = gym.Env[Any, Any]
Info: TypeAlias = Mapping[str, Any]
Row: TypeAlias = dict[str, Any]
Labels: TypeAlias = Literal["info", "ram"] | Sequence[str] | Callable[[Env, dict[str, Any]], Mapping[str, Any]]
"""Where labels come from; see :func:`sb3_latent.probes.collect`. The dotted path of a function stands for the function."""

KEY = "sb3_latent.labels"
"""Where :class:`LabelsInInfo` leaves them."""

# What ale_py says beside its RAM, and whether a step was shimmy's first or last: not the state of the world.
_NO_STATE = ("lives", "frame_number", "episode_frame_number", "seeds", "timestep.step_type")
_NUMBERS, _CATEGORIES = "fi", "buU"


def is_category(values: npt.NDArray[Any]) -> bool:
    """
    :param values: labels of one variable.
    :return: True for booleans, strings and unsigned integers (bytes of RAM), False for floats and signed integers.
    """
    return values.dtype.kind in _CATEGORIES


def ram_labels(env: Env, info: Info) -> Mapping[str, Any]:
    """
    The variables of :func:`~sb3_latent.probes.atari_ram.ram_indices`, read from the emulator now.

    :param env: an Atari game of ``ale_py``, in any wrappers.
    :param info: not used.
    :return: name -> byte.
    :raises ValueError: if it is no Atari game, or the table does not know it.
    """
    del info
    game = env.unwrapped
    if not hasattr(game, "ale"):
        raise ValueError(f"labels='ram' reads the RAM of an Atari game, and {game} is none; use 'info' or a function.")
    ram = game.ale.getRAM()
    return {name: ram[index] for name, index in ram_indices(game._game).items()}  # type: ignore[attr-defined]  # AtariEnv's


class LabelsInInfo(gym.Wrapper[Any, Any, Any, Any]):
    """
    Leave the labels of every observation in its ``info``. :func:`sb3_latent.probes.collect` does it by itself, except in a
    ``SubprocVecEnv``, whose environments need it as their outermost wrapper.

    :param env: environment to wrap.
    :param labels: ``"ram"`` or a function of (env, info).
    """

    def __init__(self, env: Env, labels: Labels) -> None:
        super().__init__(env)
        self._read = _reader(_resolved(labels))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        :param seed: of the episode and all that follow.
        :param options: of the wrapped environment.
        :return: observation, and info with labels.
        """
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, {**info, KEY: self._read(self.env, info)}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """
        :param action: of the wrapped environment.
        :return: what it returns, with labels in info.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {**info, KEY: self._read(self.env, info)}


@contextmanager
def labelled(env: VecEnv, labels: Labels) -> Iterator[Callable[[Info], Row]]:
    """
    Let an environment tell its labels: what only it can read is read right after its step, before a ``VecEnv`` begins the
    next episode. Its wrappers are as before at the end.

    :param env: vectorised environment.
    :param labels: as for :func:`sb3_latent.probes.collect`.
    :return: a context manager that yields a function from an info to scalars by name.
    :raises ValueError: if the labels cannot be read there.
    """
    labels = _resolved(labels)
    if not callable(labels) and labels != "ram":
        yield _of_info(labels)
        return
    base = env.unwrapped
    if not isinstance(base, DummyVecEnv):
        # Wrapped already, if at all: a process of SubprocVecEnv dies where its environment lacks an attribute.
        if not all(env.env_is_wrapped(LabelsInInfo)):
            raise ValueError(
                f"labels={labels!r}: the environments of {type(base).__name__} live elsewhere; wrap each with LabelsInInfo, "
                "e.g. by make_vec_env(..., wrapper_class=...), or use DummyVecEnv."
            )
        yield lambda info: _scalars(info[KEY])
        return
    wrapped = list(base.envs)
    base.envs[:] = [LabelsInInfo(one, labels) for one in wrapped]
    try:
        yield lambda info: _scalars(info[KEY])
    finally:
        base.envs[:] = wrapped


def _resolved(labels: Labels) -> Labels:
    """A function for its dotted path, as YAML and the command line have it."""
    if not isinstance(labels, str) or "." not in labels:
        return labels
    function = imported(labels)
    if not callable(function):
        raise ValueError(f"labels={labels!r} is {function!r}; name a function of (env, info) that returns the state by name.")
    found: Labels = function
    return found


def _reader(labels: Labels) -> Callable[[Env, dict[str, Any]], Mapping[str, Any]]:
    if labels == "ram":
        return ram_labels
    if not callable(labels):
        raise ValueError(f"labels={labels!r} are in info already; LabelsInInfo takes 'ram' or a function of (env, info).")
    return labels


def _of_info(labels: str | Sequence[str]) -> Callable[[Info], Row]:
    if isinstance(labels, str) and labels != "info":
        raise ValueError(unknown("labels", labels, ("info", "ram")) + " Entries of info come as a list of names.")
    # What reset says first is the state; entries that come and go, such as Monitor's, are about the episode.
    names = [] if labels == "info" else list(labels)

    def read(info: Info) -> Row:
        if not names:
            names.extend(_state_names(info))
        missing = [name for name in names if name not in info]
        if missing:
            raise ValueError(unknown("entry of info:", missing[0], info) + " It must be there on reset and on step.")
        return _scalars({name: info[name] for name in names})

    return read


def _state_names(info: Info) -> list[str]:
    kinds = {name: np.asarray(value).dtype.kind for name, value in info.items() if name not in _NO_STATE}
    names = [name for name, kind in kinds.items() if kind in _NUMBERS + "bu"]
    if not names:
        raise ValueError(
            f"labels='info': info of reset holds no numbers, only {sorted(info)}; use 'ram' for Atari, or a function of "
            "(env, info) that returns the state by name."
        )
    return names


def _scalars(values: Mapping[str, Any]) -> Row:
    row: Row = {}
    for name, value in values.items():
        array = np.asarray(value)
        if array.dtype.kind not in _NUMBERS + _CATEGORIES:
            raise ValueError(f"label {name!r} is {value!r}; labels are numbers, booleans, strings or arrays of them.")
        if array.ndim == 0:
            row[name] = array[()]
        else:
            row.update({f"{name}_{i}": scalar for i, scalar in enumerate(array.ravel())})
    return row
