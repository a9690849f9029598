"""What may stand under an environment: a JSON schema, with keywords of our own for what depends on classes."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import rl_zoo3.exp_manager
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecNormalize

from sb3_latent.registry import unknown
from sb3_latent.zoo.policy_schema import latent_errors, policy_schema
from sb3_latent.zoo.signatures import OBJECT, RANGES, Schema, schema_of

Errors = Iterator[ValidationError]

_EXPRESSION: Schema = {"expression": True}
_OF_ZOO: dict[str, Schema] = {
    "policy": {"type": "string"},
    "n_timesteps": {"type": "number", **RANGES["n_timesteps"]},
    "n_envs": {"type": "integer", **RANGES["n_envs"]},
    "frame_stack": {"type": "integer", **RANGES["frame_stack"]},
    "env_kwargs": {"type": "object"},
    "monitor_kwargs": {**schema_of(Monitor, skip=("env", "filename")), **_EXPRESSION, "type": ["object", "string"]},
    "normalize": {
        **schema_of(VecNormalize, skip=("venv", "training")),
        **_EXPRESSION,
        "type": ["boolean", "object", "string"],
    },
    "env_wrapper": {"calls": object},
    "vec_env_wrapper": {"calls": object},
    "callback": {"calls": BaseCallback},
}
"""Keys of rl_zoo3's own (exp_manager.py, _preprocess_hyperparams)."""

_NOISE: dict[str, Schema] = {
    "noise_type": {"names": ["normal", "ornstein-uhlenbeck"], "type": "string"},
    "noise_std": {"type": "number", **RANGES["noise_std"]},
}
"""In place of ``action_noise``."""

_FROM_ZOO = ("env", "tensorboard_log", "seed", "verbose", "device", "_init_setup_model", "action_noise")
"""Arguments of algorithms that rl_zoo3 passes."""

_FROM_SB3 = ("buffer_size", "observation_space", "action_space", "device", "n_envs")
_BUFFERS: dict[str, tuple[type[BaseBuffer], tuple[str, ...]]] = {
    "replay_buffer": (ReplayBuffer, (*_FROM_SB3, "optimize_memory_usage")),
    "rollout_buffer": (RolloutBuffer, (*_FROM_SB3, "gae_lambda", "gamma")),
}
"""Their base classes, and the arguments that the algorithm passes."""


def section_errors(algorithm: type[BaseAlgorithm], section: Any) -> Errors:
    """
    :param algorithm: that it is for.
    :param section: what is written under an environment.
    :return: what is wrong with it, each with its path.
    """
    yield from _Validator(_section_schema(algorithm)).iter_errors(section)


def _section_schema(algorithm: type[BaseAlgorithm]) -> Schema:
    own = schema_of(algorithm, skip=_FROM_ZOO)["properties"]
    own["policy_kwargs"] = {**_EXPRESSION, "type": ["object", "string"]}
    for buffer in _BUFFERS:
        if f"{buffer}_class" in own:
            own[f"{buffer}_class"] = {"type": "string"}
            own[f"{buffer}_kwargs"] = {**_EXPRESSION, "type": ["object", "string"]}
    noise = _NOISE if "action_noise" in schema_of(algorithm)["properties"] else {}
    return {
        "type": "object",
        "properties": {**own, **_OF_ZOO, **noise},
        "additionalProperties": False,
        "required": ["policy", "n_timesteps"],
        "policy_of": algorithm,
        "buffers": _BUFFERS,
    }


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Schema) -> Errors:
    known = schema.get("properties", {})
    for key in set(instance) - set(known) if isinstance(instance, Mapping) else ():
        if allowed is False:
            yield ValidationError(unknown("key", key, [name for name, each in known.items() if each != OBJECT]), path=[key])
        elif isinstance(allowed, Mapping):
            yield from validator.descend(instance[key], allowed, path=key)


def _names(validator: Any, names: list[str], instance: Any, schema: Schema) -> Errors:
    del validator, schema
    if isinstance(instance, str) and instance not in names:
        yield ValidationError(unknown("value", instance, names))


def _expression(validator: Any, wanted: bool, instance: Any, schema: Schema) -> Errors:
    """Strings that rl_zoo3 evaluates."""
    del validator, wanted, schema
    try:
        if isinstance(instance, str):
            ast.parse(instance, mode="eval")
    except SyntaxError as error:
        yield ValidationError(f"{instance!r} is no Python expression ({error.msg}); write a mapping.")


def _calls(validator: Any, base: type, instance: Any, schema: Schema) -> Errors:
    """Dotted paths with or without arguments, one or several."""
    del schema
    entries = enumerate(instance) if isinstance(instance, list) else [(None, instance)] if instance is not None else []
    for index, entry in entries:
        at = [] if index is None else [index]
        if not isinstance(entry, str) and not (isinstance(entry, Mapping) and len(entry) == 1):
            yield ValidationError(f"{entry!r} must be a dotted path, or one with its arguments indented below it.", path=at)
            continue
        name, arguments = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
        for error in _call(validator, base, name, arguments):
            error.relative_path.extendleft(reversed(at if isinstance(entry, str) else [*at, name]))
            yield error


def _call(validator: Any, base: type, name: str, arguments: Any) -> Errors:
    try:
        cls = _imported(name, base)
    except ValueError as error:
        yield ValidationError(str(error))
        return
    if base is not BaseCallback:
        yield from validator.descend(arguments, schema_of(cls, skip=1))
        return
    # What comes as **kwargs, the constructor judges.
    is_open = any(each.kind is each.VAR_KEYWORD for each in inspect.signature(cls).parameters.values())
    wrong = list(validator.descend(arguments, {**schema_of(cls), "additionalProperties": is_open}))
    yield from wrong
    if wrong:
        return
    try:
        cls(**arguments)
    except Exception as error:  # of anybody's constructor
        message = " ".join(str(error).split()) or type(error).__name__
        named = [key for key in arguments if re.search(rf"\b{re.escape(key)}\b", message)]
        yield ValidationError(message, path=named[:1])


def _policy_of(validator: Any, algorithm: type[BaseAlgorithm], section: Any, schema: Schema) -> Errors:
    del schema
    if not isinstance(section, Mapping) or not isinstance(section.get("policy"), str):
        return
    try:
        policy = _policy(section["policy"], algorithm)
    except ValueError as error:
        yield ValidationError(str(error), path=["policy"])
        return
    arguments = section.get("policy_kwargs", {})
    if isinstance(arguments, Mapping):
        yield from validator.descend(arguments, policy_schema(policy, arguments), path="policy_kwargs")


def _policy(name: str, algorithm: type[BaseAlgorithm]) -> Any:
    aliases = algorithm.policy_aliases
    if "." not in name:
        if name not in aliases:
            raise ValueError(f"{unknown('policy', name, aliases)} Ours are dotted paths, e.g. sb3_latent.LatentSACPolicy.")
        return aliases[name]
    policy = _imported(name, next(iter(aliases.values()), BasePolicy))
    if not issubclass(algorithm, getattr(policy, "algorithm_class", algorithm)):
        raise ValueError(f"{name!r} is for {policy.algorithm_class.__name__}, not for {algorithm.__name__}.")
    return policy


def _buffers(validator: Any, kinds: Mapping[str, tuple[type, tuple[str, ...]]], section: Any, schema: Schema) -> Errors:
    del schema
    for buffer, (base, from_sb3) in kinds.items():
        name = section.get(f"{buffer}_class") if isinstance(section, Mapping) else None
        if not isinstance(name, str):
            continue
        try:
            given = vars(rl_zoo3.exp_manager).get(name)
            cls = given if isinstance(given, type) and issubclass(given, base) else _imported(name, base)
        except ValueError as error:
            yield ValidationError(str(error), path=[f"{buffer}_class"])
            continue
        arguments = section.get(f"{buffer}_kwargs", {})
        if isinstance(arguments, Mapping):
            yield from validator.descend(arguments, schema_of(cls, skip=from_sb3), path=f"{buffer}_kwargs")


def _imported(name: str, base: type) -> Any:
    """
    :param name: dotted path.
    :param base: what it must extend.
    :return: the class.
    :raises ValueError: if there is none.
    """
    path, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(path)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{name!r} cannot be imported ({error}).") from error
    if not hasattr(module, attribute):
        fitting = [each for each, value in vars(module).items() if isinstance(value, type) and issubclass(value, base)]
        raise ValueError(f"{name!r} cannot be imported: {unknown('name', attribute, fitting)}")
    cls = getattr(module, attribute)
    if not (isinstance(cls, type) and issubclass(cls, base)) and not (base is object and callable(cls)):
        raise ValueError(f"{name!r} is no {base.__name__}.")
    return cls


_Validator: Any = extend(  # type: ignore[no-untyped-call]  # of jsonschema
    Draft202012Validator,
    {
        "additionalProperties": _additional_properties,
        "names": _names,
        "expression": _expression,
        "calls": _calls,
        "policy_of": _policy_of,
        "buffers": _buffers,
        "latent": latent_errors,
    },
    # A float stays one: SB3 does not take 128.0 for 128.
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)
