"""Which rows a probe learns from and which it is judged on, and which variables are worth it."""

from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sb3_latent.probes.dataset import Dataset
from sb3_latent.probes.encoders import RawObservations, n_rows
from sb3_latent.probes.labels import is_category

Indices: TypeAlias = npt.NDArray[np.int64]

TRAIN_TENTHS, VALIDATION_TENTHS = 7, 1
"""Of the episodes; the rest is the test. AtariARI's (Anand et al. 2019, arXiv:1906.08226; its authors' ``episodes.py``)."""

MIN_EPISODES = 10
"""The fewest of which one validates and two test."""

MIN_ENTROPY = 0.6
"""Nats; categories below it are left out, as in AtariARI (``entropy_threshold`` in ``episodes.py``)."""


class Split(NamedTuple):
    """Indices of rows, of different episodes each."""

    train: Indices
    validation: Indices
    test: Indices
    n_duplicates: int


def split_by_episode(dataset: Dataset, seed: int) -> Split:
    """
    :param dataset: of at least ten episodes.
    :param seed: of the order of the episodes.
    :return: the rows of each part; test observations that training or validation hold as well, byte for byte, are left out.
    :raises ValueError: if there are too few episodes, or nothing is left to test.
    """
    episodes = np.unique(dataset.episodes)
    n = len(episodes)
    if n < MIN_EPISODES:
        raise ValueError(
            f"{n} episodes in {len(dataset)} observations: a split by episode needs {MIN_EPISODES}; collect more steps."
        )
    order = np.random.default_rng(seed).permutation(episodes)
    ends = [n * tenths // 10 for tenths in (TRAIN_TENTHS, TRAIN_TENTHS + VALIDATION_TENTHS)]
    train, validation, test = (np.flatnonzero(np.isin(dataset.episodes, part)) for part in np.split(order, ends))
    keys = _keys(dataset.observations)
    is_new = ~np.isin(keys[test], keys[np.concatenate([train, validation])])
    if len(np.unique(dataset.episodes[test[is_new]])) < 2:
        raise ValueError(
            f"of {len(test)} test observations, {int(is_new.sum())} are not in the training episodes too, of fewer than two "
            "episodes: nothing new to test on; collect more steps, or with a policy that sees more."
        )
    return Split(train, validation, test[is_new], int((~is_new).sum()))


def variables_of(dataset: Dataset, split: Split) -> tuple[list[str], dict[str, str]]:
    """
    :param dataset: with labels.
    :param split: of it.
    :return: names of the variables that vary enough to be probed, and why the others are not: name -> reason.
    """
    reasons = {name: _flaw(values, split) for name, values in dataset.labels.items()}
    return [name for name, why in reasons.items() if why is None], {name: why for name, why in reasons.items() if why}


def _flaw(values: npt.NDArray[Any], split: Split) -> str | None:
    for part in ("train", "test"):
        rows = values[getattr(split, part)]
        if (rows == rows[0]).all():
            return f"the same in all {part} rows"
    if is_category(values):
        _, counts = np.unique(values, return_counts=True)
        shares = counts / counts.sum()
        entropy = -float((shares * np.log(shares)).sum())
        if entropy < MIN_ENTROPY:
            return f"its entropy of {entropy:.2g} nats is below {MIN_ENTROPY}"
    return None


def _keys(observations: RawObservations) -> npt.NDArray[Any]:
    """(N,): equal where observations are."""
    parts = list(observations.values()) if isinstance(observations, dict) else [observations]
    digests = [
        blake2b(b"".join(np.ascontiguousarray(part[i]).tobytes() for part in parts), digest_size=16).hexdigest()
        for i in range(n_rows(observations))
    ]
    return np.array(digests)
