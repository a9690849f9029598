"""Does each dimension of the latent say one thing? MIG and DCI, where the factors of variation are known."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import GradientBoostingClassifier  # type: ignore[import-untyped]  # scikit-learn has no types
from sklearn.metrics import mutual_info_score  # type: ignore[import-untyped]  # no types

from sb3_latent.checks import whole_number
from sb3_latent.probes.dataset import Dataset
from sb3_latent.probes.encoders import Encoder, encode
from sb3_latent.probes.splits import split_by_episode, variables_of

Array: TypeAlias = npt.NDArray[Any]

N_BINS = 20
"""Of the histogram of a latent (Locatello et al. 2019, arXiv:1811.12359; ``mig.gin`` of disentanglement_lib)."""

N_ROWS = 10_000
"""Of MIG, and to train DCI (``mig.num_train`` there); DCI is tested on half as many."""


@dataclass(frozen=True)
class Dci:
    """
    :param disentanglement: 1 where each latent tells of one factor.
    :param completeness: 1 where each factor is told by one latent.
    :param informativeness: accuracy of the trees on test rows, mean over factors.
    :param importances: (n_latents, n_factors), of each latent for each factor.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importances: Array


@dataclass(frozen=True)
class Disentanglement:
    """
    :param mig: mutual information gap, 0 to 1.
    :param dci: of the same latents, on test episodes.
    :param factors: names, in the order of ``dci.importances``.
    """

    mig: float
    dci: Dci
    factors: list[str]


def mig(latents: Array, factors: Array, n_bins: int = N_BINS) -> float:
    """
    Mutual information gap (Chen et al. 2018, arXiv:1802.04942, section 4.1): how much more the best latent tells of a factor
    than the second best, over the factor's entropy, mean over factors. As in disentanglement_lib (Locatello et al. 2019,
    arXiv:1811.12359): both discrete, a latent in 20 bins of equal width. Factors of more than ``n_bins`` values are put in
    bins too; there all are discrete.

    :param latents: (N, at least 2); the paper takes 10,000 rows. Few rows add mutual information to all alike.
    :param factors: (N, K), numbers that vary.
    :param n_bins: of each histogram.
    :return: between 0 and 1.
    :raises ValueError: if there are fewer than two latents, a factor is constant, or lengths differ.
    """
    _check(latents, factors, 1)
    codes = [_binned(column, n_bins) for column in latents.T]
    gaps = []
    for column in factors.T:
        factor = _discrete(column, n_bins)
        *_, second, best = sorted(mutual_info_score(factor, code) for code in codes)
        gaps.append((best - second) / mutual_info_score(factor, factor))
    return float(np.mean(gaps))


def dci(latents: Array, factors: Array, test_latents: Array, test_factors: Array, n_bins: int = N_BINS, seed: int = 0) -> Dci:
    """
    Disentanglement, completeness and informativeness (Eastwood & Williams 2018, "A framework for the quantitative evaluation
    of disentangled representations"): one minus the entropy of a latent's importances over factors, and of a factor's over
    latents, each weighted by its share. Importances are those of scikit-learn's gradient boosted trees with its defaults, as
    in disentanglement_lib (``dci.py``), not the paper's lasso, which is blind to a factor that is told by a curve. Factors of
    more than ``n_bins`` values are put in bins of equal width, by the training rows; there all are discrete.

    :param latents: (N, at least 2), to train; 10,000 rows in disentanglement_lib.
    :param factors: (N, at least 2), numbers that vary.
    :param test_latents: (M, ...); 5,000 rows there.
    :param test_factors: (M, ...).
    :param n_bins: of a factor with more values.
    :param seed: of the trees.
    :return: scores; what is not important at all counts as told by all alike.
    :raises ValueError: if there are fewer than two latents or factors, a factor is constant, or lengths differ.
    """
    _check(latents, factors, 2)
    importances = np.zeros((latents.shape[1], factors.shape[1]))
    accuracies = []
    for k, column in enumerate(factors.T):
        trees = GradientBoostingClassifier(random_state=seed).fit(latents, _discrete(column, n_bins))
        importances[:, k] = trees.feature_importances_
        accuracies.append(trees.score(test_latents, _discrete(test_factors[:, k], n_bins, column)))
    return Dci(_order(importances), _order(importances.T), float(np.mean(accuracies)), importances)


def disentanglement(encoder: Encoder, dataset: Dataset, *, seed: int = 0) -> Disentanglement:
    """
    :param encoder: as for :func:`sb3_latent.probes.probe`.
    :param dataset: whose numbers and booleans are the factors; those that do not vary are left out.
    :param seed: of the choice of at most 10,000 rows, the split by episode and the trees.
    :return: scores.
    :raises ValueError: as for :func:`mig` and :func:`dci`, or if there are too few episodes.
    """
    split = split_by_episode(dataset, seed)
    names = [name for name in variables_of(dataset, split)[0] if dataset.labels[name].dtype.kind != "U"]
    if len(names) < 2:
        raise ValueError(f"disentanglement needs at least two factors that vary, and {names} do.")
    latents = encode(encoder, dataset.observations, dataset.observation_space, seed)
    factors = np.stack([dataset.labels[name].astype(np.float64) for name in names], 1)
    rng = np.random.default_rng(seed)
    known = np.concatenate([split.train, split.validation])
    train, test = (rng.permutation(rows)[:n] for rows, n in ((known, N_ROWS), (split.test, N_ROWS // 2)))
    scores = dci(latents[train], factors[train], latents[test], factors[test], seed=seed)
    return Disentanglement(mig(latents[train], factors[train]), scores, names)


def _check(latents: Array, factors: Array, n_factors: int) -> None:
    if latents.ndim != 2 or factors.ndim != 2 or len(latents) != len(factors):
        raise ValueError(f"latents {latents.shape} and factors {factors.shape} must be (N, n) and (N, K).")
    if latents.shape[1] < 2 or factors.shape[1] < n_factors:
        raise ValueError(f"{latents.shape[1]} latents and {factors.shape[1]} factors: needs at least 2 and {n_factors}.")
    constant = np.flatnonzero((factors == factors[0]).all(0))
    if len(constant):
        raise ValueError(f"factor {int(constant[0])} is constant; drop it.")


def _binned(column: Array, n_bins: int, of: Array | None = None) -> Array:
    edges = np.histogram_bin_edges(column if of is None else of, whole_number("n_bins", n_bins, 2))
    return np.digitize(column, edges[1:-1])


def _discrete(column: Array, n_bins: int, of: Array | None = None) -> Array:
    """Values as integers, or bins where there are many, by the values ``of`` other rows if given."""
    reference = column if of is None else of
    values = np.unique(reference)
    if len(values) > n_bins:
        return _binned(column, n_bins, reference)
    # What the reference does not hold is no class of it.
    return np.where(np.isin(column, values), np.searchsorted(values, column), -1)


def _order(importances: Array) -> float:
    """Of each row: one minus its entropy, to the base of the number of columns; mean weighted by the row's share."""
    total = importances.sum()
    if total == 0:
        return 0.0
    weights = importances.sum(1)
    shares = importances / np.where(weights > 0, weights, 1)[:, None]
    entropies = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(1) / np.log(importances.shape[1])
    return float(((1 - entropies) * weights).sum() / total)
