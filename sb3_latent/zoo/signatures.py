"""JSON schemas from the signatures of classes, and the ranges that no signature states."""

import inspect
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

Schema: TypeAlias = dict[str, Any]

_TYPES: dict[Any, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    Path: "string",
    type(None): "null",
}
OBJECT: Schema = {"not": {}}
"""For arguments that take a Python object, which YAML cannot name."""

_POSITIVE: Schema = {"minimum": 1}
_NOT_NEGATIVE: Schema = {"minimum": 0}
_SHARE: Schema = {"minimum": 0, "maximum": 1}
_NUMBER = r"\d+(\.\d*)?([eE][-+]?\d+)?"
# rl_zoo3 makes schedules of these (exp_manager.py, _preprocess_schedules).
_SCHEDULE: Schema = {"type": ["number", "string", "null"], "pattern": rf"^lin_{_NUMBER}$"}
_WIDTHS: Schema = {"type": "array", "items": {"type": "integer", **_POSITIVE}}

RANGES: dict[str, Schema] = {
    "learning_rate": {**_SCHEDULE, **_NOT_NEGATIVE},
    "clip_range": {**_SCHEDULE, **_NOT_NEGATIVE},
    "clip_range_vf": _SCHEDULE,  # negative numbers switch it off in old files
    "delta_std": {**_SCHEDULE, **_NOT_NEGATIVE},
    "ent_coef": {"pattern": rf"^auto(_{_NUMBER})?$", **_NOT_NEGATIVE},
    "target_entropy": {"pattern": "^auto$"},
    "train_freq": {
        "type": ["integer", "array"],
        "prefixItems": [{"type": "integer", **_POSITIVE}, {"enum": ["step", "episode"]}],
        "items": False,
        "minItems": 2,
        **_POSITIVE,
    },
    "gradient_steps": {"minimum": -1},
    "sde_sample_freq": {"minimum": -1},
    "net_arch": {
        "items": _WIDTHS["items"],
        "properties": {"pi": _WIDTHS, "vf": _WIDTHS, "qf": _WIDTHS},
        "additionalProperties": False,
    },
    "channels": {"items": _WIDTHS["items"]},
    "length": {"minimum": 2},
    "lr": {"exclusiveMinimum": 0},
    "std": {"exclusiveMinimum": 0},
    **dict.fromkeys(("tau", "gamma", "gae_lambda", "encoder_tau", "exploration_fraction", "exploration_initial_eps"), _SHARE),
    **dict.fromkeys(("exploration_final_eps", "action_repeat_probability"), _SHARE),
    **dict.fromkeys(
        ("vf_coef", "max_grad_norm", "learning_starts", "noise_std", "weight_decay", "beta", "noop_max"), _NOT_NEGATIVE
    ),
    **dict.fromkeys(("n_envs", "n_timesteps", "frame_stack", "n_steps", "n_epochs", "batch_size", "buffer_size"), _POSITIVE),
    **dict.fromkeys(("target_update_interval", "policy_delay", "stats_window_size", "frame_skip", "screen_size"), _POSITIVE),
    **dict.fromkeys(
        ("latent_dim", "n_frames", "chunk_length", "hidden", "hidden_dim", "model_batch_size", "n_model_updates"), _POSITIVE
    ),
    **dict.fromkeys(("lstm_hidden_size", "n_lstm_layers", "n_critics", "n_quantiles"), _POSITIVE),
}
"""What an argument of that name may be, beside its type, wherever it stands: a name means one thing in SB3 and here."""


def schema_of(*classes: Any, skip: int | Iterable[str] = ()) -> Schema:
    """
    :param classes: their arguments together.
    :param skip: arguments that others pass: the first so many of each class, or names.
    :return: schema of a mapping of the arguments.
    """
    properties: dict[str, Schema] = {}
    is_open = False
    for cls in classes:
        parameters, more = parameters_of(cls)
        is_open |= more
        names = list(parameters)[:skip] if isinstance(skip, int) else skip
        properties |= {name: schema for name, schema in parameters.items() if name not in names}
    return {"type": "object", "properties": properties, "additionalProperties": is_open}


def parameters_of(cls: Any) -> tuple[dict[str, Schema], bool]:
    """
    The arguments of a class, or of a function, as they can be written: where a constructor hands ``**kwargs`` on, those of the
    class behind it as well.

    :param cls: any class or function.
    :return: schemas by name; whether it takes any other.
    """
    found: dict[str, Schema] = {}
    own = [vars(base).get("__init__") for base in cls.__mro__] if isinstance(cls, type) else [cls]
    for constructor in filter(None, own):
        hints = _hints(constructor)
        parameters = list(inspect.signature(constructor).parameters.values())
        for parameter in parameters[1:] if isinstance(cls, type) else parameters:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                schema = schema_of_type(hints.get(parameter.name, Any))
                found.setdefault(parameter.name, {**schema, **RANGES.get(parameter.name, {})})
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return found, False
    return found, True


def schema_of_type(annotation: Any) -> Schema:
    """
    :param annotation: of an argument.
    :return: schema of what YAML can write for it. Keywords of JSON schemas are for one type each, so those of a union lie
        side by side.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _TYPES:
        return {"type": [_TYPES[annotation]]}
    if origin is Literal:
        return {"type": [_TYPES[kind] for kind in {type(value) for value in arguments}], "names": list(arguments)}
    if origin in (Union, types.UnionType):
        parts = [part for part in map(schema_of_type, arguments) if part != OBJECT]
        if {} in parts:
            return {}
        if not parts:
            return OBJECT
        both = {key: value for part in parts for key, value in part.items()}
        return {**both, "type": [name for part in parts for name in part["type"]]}
    if annotation in (Any, object):
        return {}
    container = origin or annotation
    if isinstance(container, type) and issubclass(container, Mapping):
        return {"type": ["object"], "additionalProperties": schema_of_type(arguments[1]) if arguments else {}}
    if isinstance(container, type) and issubclass(container, Sequence | Iterable) and container is not bytes:
        return {"type": ["array"], **({"items": schema_of_type(arguments[0])} if arguments else {})}
    return OBJECT


def _hints(function: Any) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except (NameError, TypeError):  # names imported for type checkers alone
        annotations = inspect.signature(function).parameters.values()
        return {each.name: Any if isinstance(each.annotation, str) else each.annotation for each in annotations}
