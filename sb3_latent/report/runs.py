"""The folders that a report is about: whose runs they are, and which files lie in them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from sb3_latent.zoo_runs import ZooRun, find_run

_NUMBER = re.compile(r"[_-](seed[_-]?)?\d+$", re.IGNORECASE)
_CHECKPOINT = re.compile(r"_\d+_steps$")


@dataclass(frozen=True)
class Run:
    """
    One training.

    :param label: the method; runs of one label are its seeds.
    :param name: tells it from the others of the report.
    :param folder: where its files lie, at any depth.
    """

    label: str
    name: str
    folder: Path

    def files(self, *patterns: str) -> list[Path]:
        """
        :param patterns: of names, as for ``Path.rglob``.
        :return: files of the run, those of the outermost folders first.
        """
        found = {path for pattern in patterns for path in self.folder.rglob(pattern) if path.is_file()}
        return sorted(found, key=lambda path: (len(path.parts), path))

    @property
    def model(self) -> Path | None:
        """:return: the newest model that SB3 saved, before any that is named as a checkpoint; None without one."""
        models = [path for path in self.files("*.zip") if _is_model(path)]
        return max(models, key=lambda path: (not _CHECKPOINT.search(path.stem), path.stat().st_mtime), default=None)

    @property
    def zoo(self) -> ZooRun:
        """
        :return: what rl_zoo3 wrote; no settings where it was not at work.
        :raises ValueError: if a file of it is no YAML.
        :raises ImportError: if there is one and PyYAML is not installed.
        """
        arguments = self.files("args.yml")
        return find_run(arguments[0].parent) if arguments else ZooRun(self.folder)


def find_runs(arguments: Iterable[str | Path]) -> list[Run]:
    """
    The label of a run is, in this order: what stands before ``=``; the algorithm's name that rl_zoo3 wrote; the name of the
    folder without a number at its end (``ppo_vae_1`` and ``ppo_vae-seed2`` are ``ppo_vae``).

    :param arguments: ``PATH`` or ``LABEL=PATH``.
    :return: a run for each.
    :raises FileNotFoundError: if a path is no folder.
    :raises ValueError: if a folder is named twice.
    """
    named = [_split(str(argument)) for argument in arguments]
    folders = [folder.resolve() for _, folder in named]
    for (_, folder), resolved in zip(named, folders, strict=True):
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}; give the folder of a run: PATH or LABEL=PATH.")
        if folders.count(resolved) > 1:
            raise ValueError(f"{folder} is given twice; name each run once.")
    names = _shortest_names(folders)
    runs = [Run(label, names[folder], folder) for (label, _), folder in zip(named, folders, strict=True)]
    return [run if run.label else replace(run, label=_label(run)) for run in runs]


def _label(run: Run) -> str:
    try:
        algorithm = run.zoo.settings.get("algo")
    except (ValueError, ImportError):
        # The configuration says so.
        algorithm = None
    return str(algorithm or _NUMBER.sub("", run.folder.name))


def _split(argument: str) -> tuple[str, Path]:
    label, equals, path = argument.partition("=")
    if not equals or Path(argument).exists():
        return "", Path(argument)
    return label, Path(path)


def _shortest_names(folders: list[Path]) -> dict[Path, str]:
    """As many of the last parts of the paths as tell them apart."""
    longest = max((len(folder.parts) for folder in folders), default=1)
    for n_parts in range(1, longest + 1):
        names = ["/".join(folder.parts[-n_parts:]) for folder in folders]
        if len(set(names)) == len(names):
            break
    return dict(zip(folders, names, strict=True))


def _is_model(path: Path) -> bool:
    try:
        with ZipFile(path) as archive:
            return "data" in archive.namelist()
    except (BadZipFile, OSError):
        return False
