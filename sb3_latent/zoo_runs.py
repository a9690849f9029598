"""What rl_zoo3 writes beside a model, read without running any of it."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_GIVEN = ("env", "algo", "seed", "env_kwargs", "gym_packages")


@dataclass(frozen=True)
class ZooRun:
    """
    :param folder: where ``config.yml``, ``args.yml`` and ``vecnormalize.pkl`` lie.
    :param settings: hyperparameters of ``config.yml``; over them ``"env"``, ``"algo"``, ``"seed"``, ``"env_kwargs"``,
        ``"gym_packages"`` of ``args.yml``. Empty where rl_zoo3 was not at work.
    """

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)


def find_run(folder: str | Path) -> ZooRun:
    """
    :param folder: that a model lies in.
    :return: its run.
    :raises ValueError: if a file is no YAML.
    :raises ImportError: if there is one and PyYAML is not installed.
    """
    folder = Path(folder)
    found = [file for file in (folder / "args.yml", *sorted(folder.glob("*/args.yml"))) if file.is_file()]
    if not found:
        return ZooRun(folder)
    arguments, config = _read(found[0]), found[0].with_name("config.yml")
    settings = _read(config) if config.is_file() else {}
    given = {name: arguments[name] for name in _GIVEN if arguments.get(name) is not None}
    return ZooRun(found[0].parent, {**settings, **given})


def _read(path: Path) -> dict[str, Any]:
    if find_spec("yaml") is None:
        raise ImportError(f"{path} needs PyYAML: pip install pyyaml")
    import yaml

    class Loader(yaml.SafeLoader):
        """Knows the few Python types that rl_zoo3 writes, and makes text of all others."""

    def ordered(loader: Any, node: Any) -> dict[str, Any]:
        return dict(loader.construct_sequence(node, deep=True)[0])

    def sequence(loader: Any, node: Any) -> tuple[Any, ...]:
        return tuple(loader.construct_sequence(node, deep=True))

    def text(loader: Any, suffix: str, node: Any) -> str:
        return suffix

    prefix = "tag:yaml.org,2002:python/"
    Loader.add_constructor(f"{prefix}object/apply:collections.OrderedDict", ordered)
    Loader.add_constructor(f"{prefix}tuple", sequence)
    Loader.add_multi_constructor(prefix, text)
    try:
        settings = yaml.load(path.read_text(), Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML of rl_zoo3: {str(error).splitlines()[0]}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is no YAML of rl_zoo3: it holds {type(settings).__name__}, not settings by name.")
    return settings
