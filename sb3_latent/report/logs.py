"""What a run wrote while it learned: numbers and pictures over steps. What cannot be read is said, not raised."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped]  # pandas has no types
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]  # tensorboard has no types

from sb3_latent.figures import read_monitor
from sb3_latent.report.runs import Run

STEPS = "time/total_timesteps"
LAST_EPISODES = 100
"""SB3's ``ep_rew_mean`` is a mean of as many."""
_MAX_LOGGED_PICTURES = 200
_SHEETS = {"reconstruction/images": "reconstruction", "saliency/jacobian": "saliency"}
"""Tag in TensorBoard -> how our callbacks begin the names of their files."""


class Series(NamedTuple):
    """
    :param steps: (n,), ascending.
    :param values: (n,), some of which may be no finite numbers.
    """

    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


class Score(NamedTuple):
    """
    :param value: how good a run was at its end.
    :param n_episodes: that it is a mean of.
    """

    value: float
    n_episodes: int


@dataclass
class Logs:
    """
    :param scalars: tag -> values.
    :param sheets: tag -> steps and encoded pictures, ascending.
    :param scores: ``"evaluations"``, ``"monitor"``, ``"log"`` -> score, those that could be had.
    :param env_id: as SB3's ``Monitor`` wrote it.
    :param problems: a line for each file that could not be used.
    """

    scalars: dict[str, Series] = field(default_factory=dict)
    sheets: dict[str, dict[int, bytes]] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)
    env_id: str | None = None
    problems: list[str] = field(default_factory=list)


def read_logs(run: Run) -> Logs:
    """
    Event files of TensorBoard, ``progress.csv``, monitor files, ``evaluations.npz`` and pictures of our callbacks.

    :param run: any.
    :return: what could be read.
    """
    logs = Logs()
    readers = [
        (_read_events, sorted(run.files("*tfevents*"), key=lambda path: path.stat().st_mtime)),
        (_read_progress, run.files("progress.csv")),
        (_read_monitors, list(dict.fromkeys(path.parent for path in run.files("*monitor.csv")))[:1]),
        (_read_evaluations, run.files("evaluations.npz")),
        (_read_pictures, run.files(*(f"{stem}_*.png" for stem in _SHEETS.values()))),
    ]
    for reader, paths in readers:
        for path in paths:
            try:
                reader(logs, path)
            # Whatever is wrong with a file that was cut off or written by others, the report shows the rest.
            except Exception as error:
                reason = str(error).strip().splitlines()
                where = path.relative_to(run.folder) / ("*monitor.csv" if path.is_dir() else "")
                logs.problems.append(f"{where} cannot be read: {reason[0] if reason else type(error).__name__}")
    logged = logs.scalars.get("rollout/ep_rew_mean")
    if logged is not None and np.isfinite(logged.values).any():
        logs.scores["log"] = Score(float(logged.values[np.isfinite(logged.values)][-1]), LAST_EPISODES)
    for tag, series in logs.scalars.items():
        if n_bad := int((~np.isfinite(series.values)).sum()):
            logs.problems.append(f"{tag}: {n_bad} of {len(series.values)} values are not finite; the curve has gaps there")
    return logs


def _read_events(logs: Logs, path: Path) -> None:
    """A later file replaces what an earlier one says of the same steps: a training that was begun again or resumed."""
    sizes = {event_accumulator.SCALARS: 0, event_accumulator.IMAGES: _MAX_LOGGED_PICTURES}
    events: Any = event_accumulator.EventAccumulator(str(path), size_guidance=sizes)
    events.Reload()
    tags = events.Tags()
    if not tags["scalars"] and not tags["images"]:
        raise ValueError("it holds neither a number nor a picture")
    for tag in tags["scalars"]:
        points = {event.step: event.value for event in events.Scalars(tag)}
        _add(logs, tag, np.array(list(points), np.int64), np.array(list(points.values()), np.float64))
    for tag in set(tags["images"]) & set(_SHEETS):
        sheets = {image.step: image.encoded_image_string for image in events.Images(tag)}
        earlier = {step: png for step, png in logs.sheets.get(tag, {}).items() if step < min(sheets)}
        logs.sheets[tag] = earlier | dict(sorted(sheets.items()))


def _add(logs: Logs, tag: str, steps: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
    order = np.argsort(steps, kind="stable")
    new = Series(steps[order], values[order])
    if tag in logs.scalars:
        old = logs.scalars[tag]
        kept = old.steps < new.steps[0]
        new = Series(np.concatenate([old.steps[kept], new.steps]), np.concatenate([old.values[kept], new.values]))
    logs.scalars[tag] = new


def _read_progress(logs: Logs, path: Path) -> None:
    """Of SB3's logger. The last row, of callbacks alone, may lack the step, which is then that of the row before."""
    table = pd.read_csv(path, on_bad_lines="skip")
    if STEPS not in table:
        raise ValueError(f"it has no column {STEPS}")
    steps = table[STEPS].ffill()
    for tag in table.columns.difference([STEPS]):
        column = pd.to_numeric(table[tag], errors="coerce")
        known = column.notna() & steps.notna()
        if known.any() and tag not in logs.scalars:
            _add(logs, str(tag), steps[known].to_numpy(np.int64), column[known].to_numpy(np.float64))


def _read_monitors(logs: Logs, folder: Path) -> None:
    with min(folder.glob("*monitor.csv")).open(encoding="utf-8") as file:
        logs.env_id = json.loads(file.readline().removeprefix("#")).get("env_id")
    steps, means = read_monitor(folder, LAST_EPISODES)
    if len(means) == 0:
        raise ValueError("the monitor saw no episode end")
    _add(logs, "monitor/return", steps, means)
    logs.scores["monitor"] = Score(float(means[-1]), min(LAST_EPISODES, len(means)))


def _read_evaluations(logs: Logs, path: Path) -> None:
    with np.load(path) as evaluations:
        steps, returns = evaluations["timesteps"], evaluations["results"]
    means = returns.reshape(len(steps), -1).mean(axis=1)
    _add(logs, "evaluations/return", steps.astype(np.int64), means.astype(np.float64))
    logs.scores["evaluations"] = Score(float(means[-1]), returns[-1].size)


def _read_pictures(logs: Logs, path: Path) -> None:
    stem, _, step = path.stem.rpartition("_")
    tag = next(tag for tag, name in _SHEETS.items() if name == stem)
    with Image.open(path) as picture:
        picture.verify()
    sheets = {**logs.sheets.get(tag, {}), int(step): path.read_bytes()}
    logs.sheets[tag] = dict(sorted(sheets.items()))
