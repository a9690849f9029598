"""Check a file of hyperparameters: every key, type and range, with the line on which it is written."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import parse_env_id
from jsonschema import ValidationError
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_latent.registry import unknown
from sb3_latent.zoo import yaml_lines
from sb3_latent.zoo.algorithms import ALGORITHMS
from sb3_latent.zoo.keywords import section_errors

_FALLBACKS = ("atari", "default")


@dataclass(frozen=True, order=True)
class Problem:
    """
    Something in a file that would not work, or would not do what it seems to.

    :param file: as it was named.
    :param line: counted from 1.
    :param key: dotted path of the key, e.g. ``"atari.policy_kwargs.latent_dim"``; empty for the file as a whole.
    :param message: one line: what is wrong, what is allowed.
    """

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {f'{self.key}: ' if self.key else ''}{self.message}"


def check_config(path: str | Path, algorithm: str | None = None) -> list[Problem]:
    """
    Every key, type and range of a YAML file in rl_zoo3's layout; classes that it names are imported, callbacks are built.

    What a merge key brings is reported on the line on which it is written. Of strings that rl_zoo3 evaluates as Python the
    syntax alone is checked. An environment that is not registered is taken to be of a package that is not imported here,
    unless its name is nearly that of one that is.

    :param path: of the file.
    :param algorithm: name of ``--algo``; None takes the file's own name.
    :return: what is wrong, by line; empty if nothing is.
    :raises ValueError: if the algorithm is unknown.
    :raises OSError: if the file cannot be read.
    """
    path = Path(path)
    name = path.stem if algorithm is None else algorithm
    algorithms = {**ALGOS, **ALGORITHMS}
    if name not in algorithms:
        hint = "" if algorithm else f" The file {path.name} is named after none, so say which one it is for."
        raise ValueError(unknown("algorithm", name, algorithms) + hint)
    document, faults = yaml_lines.read(path.read_text(encoding="utf-8"))
    found = [(fault.line, fault.path, fault.message) for fault in faults]
    if not faults or document.value is not None:
        found += [(document.line_of(where), where, message) for where, message in _errors(document.value, algorithms[name])]
    problems: dict[tuple[int, object], Problem] = {}
    for line, where, message in found:
        # What several environments inherit is wrong once, and one message for a key is enough.
        problems.setdefault((line, where[-1:]), Problem(str(path), line, _dotted(where), message))
    return sorted(problems.values())


def _errors(document: Any, algorithm: type[BaseAlgorithm]) -> Iterator[tuple[yaml_lines.Path, str]]:
    if not isinstance(document, Mapping) or not document:
        yield (), "holds no hyperparameters; write 'atari', 'default' or the id of an environment, and below it its settings."
        return
    for env_id, section in document.items():
        if (message := _wrong_env_id(env_id)) is not None:
            yield (env_id,), message
        for error in section_errors(algorithm, section):
            yield (env_id, *error.absolute_path), message_of(error)


def message_of(error: ValidationError) -> str:
    """
    :param error: of jsonschema.
    :return: one line, which says what to do where the library's does not.
    """
    if error.validator == "required":
        return f"{error.message}."
    value = error.instance
    if error.validator == "not":
        return f"{value!r}: this takes a Python object, which YAML cannot name; leave it out."
    if error.validator in ("type", "pattern") and isinstance(value, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value):
        return f"{value!r} is text to YAML, which wants a point in such numbers: {float(value):.1e}."
    if error.validator == "type":
        types: Any = error.validator_value
        return f"{value!r} must be of type {types if isinstance(types, str) else ' or '.join(types)}."
    if error.validator == "pattern":
        return f"{value!r} is none of the texts allowed, which match {error.validator_value}."
    return f"{error.message.rstrip('.')}."


def _dotted(path: yaml_lines.Path) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def _wrong_env_id(env_id: str) -> str | None:
    if env_id in _FALLBACKS or env_id in gym.registry:
        return None
    try:
        namespace, _, version = parse_env_id(env_id)
    except gym.error.Error as error:
        return " ".join(str(error).split())
    # Ours are all there. A name of another package is not to be blamed for the likeness of two names.
    cutoff = 0.0 if namespace == "sb3_latent" else 0.9 if version is not None else 0.6
    nearest = difflib.get_close_matches(env_id, [*gym.registry, *_FALLBACKS], n=1, cutoff=cutoff)
    return f"unknown environment {env_id!r}; did you mean {nearest[0]!r}?" if nearest else None
