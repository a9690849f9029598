"""What may stand under ``policy_kwargs``: arguments of SB3's policies, and our settings by their presets."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jsonschema import ValidationError
from stable_baselines3.common.policies import BasePolicy
from torch.optim import Adam

from sb3_latent.auxiliary import TASKS
from sb3_latent.dynamics import DYNAMICS
from sb3_latent.dynamics_extractor import DynamicsExtractor
from sb3_latent.extractor import LatentExtractor
from sb3_latent.nn import AUGMENTATIONS, HEADS, LIKELIHOODS, TRUNKS
from sb3_latent.policies import LatentModelPolicy
from sb3_latent.policies.named_classes import with_classes
from sb3_latent.policies.off_policy import SharedEncoderPolicy
from sb3_latent.policies.parts import PARTS
from sb3_latent.presets import POLICY_SETTINGS, SETTINGS, WINDOW_POLICY_SETTINGS, WINDOW_SETTINGS, latent_kwargs
from sb3_latent.recipes import POLICY_PRESETS, PRESETS, WINDOW_PRESETS
from sb3_latent.registry import Registry
from sb3_latent.sharing import Sharing
from sb3_latent.zoo.signatures import Schema, parameters_of, schema_of

_FROM_SB3 = ("observation_space", "action_space", "lr_schedule")
_OURS = ("features_extractor_class", "features_extractor_kwargs", "share_features_extractor")
_CLASSES = ("activation_fn", "optimizer_class")
_LATENT = {*SETTINGS, *POLICY_SETTINGS, *WINDOW_SETTINGS, *WINDOW_POLICY_SETTINGS}

_ADAM = schema_of(Adam, skip=("params",))
_NESTED: dict[str, tuple[str, Registry[Any], int]] = {
    "trunk_kwargs": ("trunk", TRUNKS, 1),
    "head_kwargs": ("head", HEADS, 2),
    "loss_kwargs": ("loss", LIKELIHOODS, 0),
    "dynamics_kwargs": ("dynamics", DYNAMICS, 2),
}
"""Arguments of what another setting names, less the first few, which are not the user's."""

_BY_NAME: dict[str, tuple[Registry[Any], int]] = {"tasks": (TASKS, 1), "augmentation": (AUGMENTATIONS, 0)}
"""Settings that map names to arguments."""


def policy_schema(policy: type[BasePolicy], arguments: Mapping[str, Any]) -> Schema:
    """
    :param policy: any policy class.
    :param arguments: what is written under ``policy_kwargs``; names that depend on others are looked up in it.
    :return: schema of them.
    """
    schema = schema_of(policy, skip=_FROM_SB3)
    if "preset" not in schema["properties"]:
        return schema
    properties = {name: each for name, each in schema["properties"].items() if name not in _OURS}
    properties |= {name: {"type": ["string"]} for name in _CLASSES if name in properties}
    presets = _presets(policy)
    default = inspect.signature(policy).parameters["preset"].default
    preset = arguments.get("preset", default)
    preset = preset if isinstance(preset, str) else default
    extractor = DynamicsExtractor if preset in WINDOW_PRESETS else LatentExtractor
    properties |= schema_of(extractor, skip=("observation_space",))["properties"]
    if issubclass(policy, SharedEncoderPolicy):
        properties |= {field.name: {} for field in dataclasses.fields(Sharing)}
        properties |= parameters_of(Sharing)[0] | {"init": {}, "log_std_bounds": {}}
        parts = {"type": "object", "properties": dict.fromkeys(PARTS, _ADAM), "additionalProperties": False}
        properties["optimizers"] = parts
    properties["auxiliary_optimizer_kwargs"] = {
        **_ADAM,
        "properties": {**_ADAM["properties"], "encoder": _ADAM, "decoder": _ADAM},
    }
    properties["preset"] = {"type": "string", "names": presets}
    latent = {"latent": presets} if arguments.get("preset", default) in presets else {}
    return {"type": "object", "properties": properties, "additionalProperties": False, **latent}


def latent_errors(validator: Any, presets: list[str], arguments: Any, schema: Schema) -> Iterator[ValidationError]:
    """
    A keyword of the schema: what :func:`~sb3_latent.latent_kwargs` says, each at the setting that it is about.

    :param validator: of jsonschema.
    :param presets: names that are allowed.
    :param arguments: what is written under ``policy_kwargs``.
    :param schema: of them.
    :return: errors.
    """
    del presets
    preset = arguments.get("preset", "vae")
    settings = {name: value for name, value in arguments.items() if name in _LATENT and name in schema["properties"]}
    wrong = dict(_at_fault(preset, settings))
    yield from (ValidationError(message, path=[name]) for name, message in wrong.items())
    for name in _CLASSES:
        if (message := _refusal(with_classes, {name: arguments.get(name)})) is not None:
            yield ValidationError(message, path=[name])
    right = {name: value for name, value in settings.items() if name not in wrong}
    resolved = latent_kwargs(preset, **right)["features_extractor_kwargs"]
    for name, (setting, registry, n_given) in _NESTED.items():
        if right.get(name):
            cls = registry.get(resolved.get(setting) or _default(preset, setting))
            yield from validator.descend(right[name], schema_of(cls, skip=n_given), path=name)
    for name, (registry, n_given) in _BY_NAME.items():
        for key, values in (right.get(name) or {}).items():
            errors = validator.descend(values or {}, schema_of(registry.get(key), skip=n_given), path=key)
            for error in errors:
                error.relative_path.appendleft(name)
                yield error


def _presets(policy: type[BasePolicy]) -> list[str]:
    if issubclass(policy, LatentModelPolicy):
        return list(WINDOW_PRESETS)
    if issubclass(policy, SharedEncoderPolicy):
        return list(PRESETS)
    of_sac = [name for name, settings in POLICY_PRESETS.items() if set(settings) & set(POLICY_SETTINGS)]
    return [name for name in (*PRESETS, *WINDOW_PRESETS) if name not in of_sac]


def _default(preset: str, setting: str) -> str:
    """What an extractor takes for images where a setting is None or not given."""
    if setting == "trunk":
        return "slac" if preset in WINDOW_PRESETS else "nature"
    extractor = DynamicsExtractor if preset in WINDOW_PRESETS else LatentExtractor
    default: str = inspect.signature(extractor).parameters[setting].default
    return default


def _at_fault(preset: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The settings that cannot be had, with the reason: the fewest that have to go."""
    if _refusal(latent_kwargs, preset, **settings) is None:
        return
    kept: dict[str, Any] = {}
    left = dict(settings)
    while fitting := [each for each in left if _refusal(latent_kwargs, preset, **kept, **{each: left[each]}) is None]:
        kept[fitting[0]] = left.pop(fitting[0])
    for name, value in left.items():
        yield name, _refusal(latent_kwargs, preset, **kept, **{name: value}) or ""


def _refusal(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str | None:
    try:
        function(*args, **kwargs)
    except (TypeError, ValueError) as error:
        return " ".join(str(error).split())
    return None
