"""Figures of several seeds, by rliable (Agarwal et al. 2021, arXiv:2108.13264)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rliable import library, metrics  # type: ignore[import-untyped]  # rliable has no types
from scipy.stats import trim_mean  # type: ignore[import-untyped]  # scipy has no types

from benchmarks.learn.results import Row
from benchmarks.suites import Suite
from sb3_latent.evaluation import evaluating
from sb3_latent.report.comparison import N_RESAMPLES

Array = npt.NDArray[np.float64]
Interval = tuple[float, float, float]

TAUS = np.linspace(0, 1, 51)
"""Normalised returns at which performance profiles are drawn."""


def chosen(rows: Sequence[Row], suite: Suite, preset: str, task: str, budget: int) -> dict[int, Row]:
    """
    :param rows: finished runs.
    :param suite: of the rows.
    :param preset: of the runs.
    :param task: of the runs.
    :param budget: environment steps.
    :return: seed -> a run that says what is learned in this many steps: one of that length, or the start of a longer one
        where that is the same.
    """
    own = [row for row in rows if (row["preset"], row["task"]) == (preset, task) and row["n_steps"] >= budget]
    fitting = [row for row in own if row["n_steps"] == budget or not suite.has_schedules]
    return {int(row["seed"]): row for row in sorted(fitting, key=lambda row: int(row["seed"]))}


def points_of(row: Row, budget: int) -> list[dict[str, Any]]:
    """
    :param row: a finished run.
    :param budget: environment steps.
    :return: its evaluations up to the first that is not before the budget: an update of PPO may end after it.
    """
    before = sum(point["steps"] < budget for point in row["curve"])
    points: list[dict[str, Any]] = row["curve"][: before + 1]
    return points


def returns_at(rows: Sequence[Row], suite: Suite, preset: str, task: str, budget: int) -> dict[int, float]:
    """
    :return: seed -> return after this many environment steps; the arguments are those of :func:`chosen`.
    """
    own = chosen(rows, suite, preset, task, budget)
    return {seed: float(points_of(row, budget)[-1]["return"]) for seed, row in own.items()}


def intervals(samples: Sequence[Sequence[float]]) -> list[Interval]:
    """
    All at once, for a bootstrap of many columns takes no longer than that of one.

    :param samples: each of one or more seeds.
    :return: for each its interquartile mean and the ends of its 95 % bootstrap interval, nan where there is a single seed.
    """
    found = [(float(own[0]), float("nan"), float("nan")) for own in samples]
    for n_seeds in {len(own) for own in samples} - {1}:
        places = [i for i, own in enumerate(samples) if len(own) == n_seeds]
        means, ends = _estimate(np.array([samples[i] for i in places]).T, lambda matrix: trim_mean(matrix, 0.25))
        for i, mean, low, high in zip(places, means, *ends, strict=True):
            found[i] = (float(mean), float(low), float(high))
    return found


def score_matrix(rows: Sequence[Row], suite: Suite, preset: str, budget: int) -> Array | None:
    """:return: normalised returns, (seeds, tasks), of the seeds that every task has; None if there are fewer than two."""
    by_task = [returns_at(rows, suite, preset, task, budget) for task in suite.tasks]
    seeds = sorted(set.intersection(*map(set, by_task)))
    low, high = suite.bounds
    scores = np.array([[(own[seed] - low) / (high - low) for own in by_task] for seed in seeds])
    return scores if len(seeds) > 1 else None


def over_tasks(scores: Array) -> Interval:
    """:return: interquartile mean over seeds and tasks, and its 95 % interval, stratified by task."""
    found, ends = _estimate(scores, lambda matrix: np.array([metrics.aggregate_iqm(matrix)]))
    return float(found[0]), float(ends[0, 0]), float(ends[1, 0])


def profiles(scores: Mapping[str, Array]) -> dict[str, tuple[Array, Array]]:
    """
    :param scores: preset -> normalised, (seeds, tasks).
    :return: preset -> share of runs above each of ``TAUS``, (n,), and the ends of its 95 % intervals, (2, n).
    """
    with evaluating(None, 0):
        shares, ends = library.create_performance_profile(dict(scores), TAUS, reps=N_RESAMPLES)
    return {name: (shares[name], ends[name]) for name in scores}


def _estimate(scores: Array, function: Any) -> tuple[Array, Array]:
    # rliable draws from numpy's global state, whatever generator it is given.
    with evaluating(None, 0):
        found, ends = library.get_interval_estimates({"": scores}, function, reps=N_RESAMPLES)
    return found[""], ends[""]
