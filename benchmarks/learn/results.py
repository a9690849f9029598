"""The JSON files of finished runs."""

import json
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmarks.learn.runs import KEY, Run
from sb3_latent.files import write_json

RESULTS = Path("benchmarks/results")
Row = dict[str, Any]


def path_of(suite_name: str, folder: Path = RESULTS) -> Path:
    """:return: of the suite's results."""
    return folder / f"learn_{suite_name}.json"


def read(path: Path) -> list[Row]:
    """:return: finished runs; none if there is no file."""
    rows: list[Row] = json.loads(path.read_text())["results"] if path.exists() else []
    return rows


def append(path: Path, row: Row) -> None:
    """
    Add a run, once, whoever else writes to the file at the time.

    :param path: of :func:`path_of`.
    :param row: with the keys ``KEY`` and plain data.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        rows = read(path)
        if key_of(row) not in map(key_of, rows):
            write_json(path, {"results": sorted([*rows, row], key=lambda one: [str(one["task"]), *map(str, key_of(one))])})


def key_of(row: Row) -> tuple[Any, ...]:
    """:return: as that of :class:`~benchmarks.learn.runs.Run`."""
    return tuple(row[name] for name in KEY)


def find(rows: list[Row], run: Run) -> Row | None:
    """:return: what came out of a run; None if it was not run."""
    return next((row for row in rows if key_of(row) == run.key), None)
