"""Files that are written whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """
    Write beside ``path``, then rename: a reader, a full disk or an interrupt never leaves half a file under that name.

    Folders that are missing are made. The temporary name ends as ``path`` does, because writers such as ``numpy.save``
    append their suffix to a name that lacks it.

    :param path: the file to write or to replace.
    :return: a context manager that yields a temporary path in the same folder (``os.replace`` is atomic only within one
        file system). Leaving it without an error moves that file onto ``path``; an error removes it and leaves ``path``
        as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid4().hex}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, data: Any) -> None:
    """
    :param path: the file to write or to replace, whole or not at all.
    :param data: plain data.
    :raises ValueError: if a number is not finite, for which JSON has no word.
    """
    text = json.dumps(data, indent=1, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")
