"""How well a variable can be predicted on episodes never seen, with an interval over those episodes."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Metric: TypeAlias = Literal["r2", "accuracy", "f1"]

N_RESAMPLES = 1000
"""Of the bootstrap. Own choice."""

INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap: 95 %."""


@dataclass(frozen=True)
class Estimate:
    """
    :param value: on all test rows.
    :param low: of the interval; nan where no resample has two different labels.
    :param high: of the interval.
    """

    value: float
    low: float
    high: float


def estimates(true: Array, predicted: Array, episodes: Array, is_category: bool, seed: int) -> dict[Metric, Estimate]:
    """
    R^2 of numbers; accuracy and F1 of categories, F1 being the mean over classes weighted by their frequency, as in AtariARI
    (Anand et al. 2019, arXiv:1906.08226; ``calculate_multiclass_f1_score`` of its authors). Intervals come from resampling
    whole episodes with replacement, because the frames of one are alike, with the predictions as they are.

    :param true: (N,), labels.
    :param predicted: (N,), predictions.
    :param episodes: (N,), which episode each row is of.
    :param is_category: whether labels are classes.
    :param seed: of the bootstrap; the same one draws the same episodes, so that two encoders are compared on them.
    :return: estimate of each metric.
    """
    _, episode = np.unique(episodes, return_inverse=True)
    n_episodes = int(episode.max()) + 1
    draws = np.random.default_rng(seed).multinomial(n_episodes, np.full(n_episodes, 1 / n_episodes), size=N_RESAMPLES)
    # The first is the sample itself.
    counts = np.concatenate([np.ones((1, n_episodes), dtype=np.int64), draws])
    values: dict[Metric, Array]
    if is_category:
        values = _classified(true, predicted, episode, counts)
    else:
        values = {"r2": _r2(true, predicted, episode, counts)}
    return {metric: _estimate(resampled) for metric, resampled in values.items()}


def _estimate(values: Array) -> Estimate:
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.percentile(drawn, INTERVAL) if len(drawn) else (np.nan, np.nan)
    return Estimate(float(values[0]), float(low), float(high))


def _r2(true: Array, predicted: Array, episode: Array, counts: Array) -> Array:
    """(R,): of each row of ``counts`` (R, n_episodes), from sums over each episode."""
    centred = true - true.mean()
    n, total, squares, errors = (
        counts @ np.bincount(episode, weights)
        for weights in (np.ones(len(true)), centred, centred**2, (true - predicted) ** 2)
    )
    variation = squares - total**2 / n
    # Equal labels have no R^2; what is left of their variation is rounding error.
    is_constant = variation <= 1e-12 * (centred**2).sum()
    return np.where(is_constant, np.nan, 1 - errors / np.where(is_constant, 1, variation))


def _classified(true: Array, predicted: Array, episode: Array, counts: Array) -> dict[Metric, Array]:
    classes, codes = np.unique(np.concatenate([true, predicted]), return_inverse=True)
    true_code, predicted_code = codes[: len(true)], codes[len(true) :]
    hits = true_code == predicted_code

    def per_class(rows: Array, code: Array) -> Array:
        cells = episode[rows] * len(classes) + code[rows]
        size = counts.shape[1] * len(classes)
        return counts @ np.bincount(cells, minlength=size).reshape(-1, len(classes))

    everything = np.ones_like(hits)
    n_hits, n_true = per_class(hits, true_code), per_class(everything, true_code)
    n_predicted = per_class(everything, predicted_code)
    f1 = 2 * n_hits / np.maximum(n_true + n_predicted, 1)
    n = n_true.sum(1)
    return {"accuracy": n_hits.sum(1) / n, "f1": (f1 * n_true).sum(1) / n}
