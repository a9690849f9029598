"""How a run was set up, read from its model and from rl_zoo3's files without running what they hold."""

import json
import re
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from sb3_latent.report.runs import Run

_CLASS = re.compile(r"^<class '(?:.*\.)?(\w+)'>$")
_CONSTANT = re.compile(r"^ConstantSchedule\(val=(.*)\)$")
_METHOD = re.compile(r"^<function (\w+)\.")
_BOOKKEEPING = {
    "action_noise",
    "ep_info_buffer",
    "ep_success_buffer",
    "lr_schedule",
    "replay_buffer",
    "rollout_buffer",
    "sde_sample_freq",
    "start_time",
    "tensorboard_log",
    "use_sde",
    "verbose",
}
"""Of no account for what was learned, or said elsewhere; so are all names that begin with an underscore."""

_LONGEST = 120


def read_configuration(run: Run) -> tuple[dict[str, str], list[str]]:
    """
    :param run: any.
    :return: settings by name, nested ones as ``policy_kwargs.net_arch``, and a line for each file that could not be read.
    """
    settings: dict[str, str] = {}
    problems: list[str] = []
    try:
        settings |= {name: _written(value) for name, value in _flat(run.zoo.settings).items()}
    except (ValueError, ImportError) as error:
        problems.append(str(error))
    model = run.model
    if model is not None:
        try:
            settings |= _of_model(model)
        except (BadZipFile, OSError, KeyError, ValueError) as error:
            problems.append(f"{model.relative_to(run.folder)} does not say how it was made: {error}")
    return settings, problems


def _of_model(path: Path) -> dict[str, str]:
    """SB3 writes what JSON cannot hold as pickled code, and beside it its type and attributes as text, which is read here."""
    with ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
        info = archive.read("system_info.txt").decode() if "system_info.txt" in archive.namelist() else ""
    known = {name: value for name, value in data.items() if not name.startswith("_") and name not in _BOOKKEEPING}
    plain = {name: _plain(value) for name, value in known.items()}
    settings = {name: _written(value) for name, value in _flat(plain).items()}
    versions = dict(line.removeprefix("- ").split(": ", 1) for line in info.splitlines() if ": " in line)
    return settings | {f"version.{name}": version.split(" #")[0] for name, version in versions.items()}


def _plain(value: Any) -> Any:
    """What stands for a pickled object."""
    if not isinstance(value, dict) or ":type:" not in value:
        return value
    attributes = {key: part for key, part in value.items() if not key.startswith(":")}
    kind = _short(value[":type:"])
    if kind == "dict":
        return {key: _short(part) for key, part in attributes.items()}
    if "value_schedule" in attributes:
        return _short(attributes["value_schedule"])
    if kind.endswith("Schedule"):
        written = ", ".join(f"{name}={part}" for name, part in attributes.items())
        return _short(f"{kind}({written})")
    if "_shape" in attributes:
        return _space(kind, attributes)
    # A class has the type of classes; its name stands in its methods.
    methods = (_METHOD.match(str(part)) for part in attributes.values())
    return next((method[1] for method in methods if method), str(attributes.get("__module__", kind)))


def _space(kind: str, attributes: dict[str, Any]) -> str:
    details = [f"{attributes['n']}"] if "n" in attributes else [str(attributes["_shape"]), str(attributes.get("dtype", ""))]
    return f"{kind}({', '.join(detail for detail in details if detail)})"


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        nested = isinstance(value, dict) and value
        flat |= _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat


def _short(value: Any) -> str:
    """``<class 'a.b.C'>`` -> ``C``, a constant schedule -> its number."""
    text = str(value)
    for pattern in (_CLASS, _CONSTANT):
        text = pattern.sub(r"\1", text)
    return text


def _written(value: Any) -> str:
    text = re.sub(r"\s+", " ", _short(value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
