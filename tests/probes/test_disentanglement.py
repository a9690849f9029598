"""MIG and DCI of planted latents."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from sb3_latent.probes import Dataset, dci, disentanglement, mig

RNG = np.random.default_rng(0)
# Independent, uniform, four values each.
FACTORS = RNG.integers(0, 4, (2000, 2)).astype(float)
EACH_ALONE = np.stack([np.exp(FACTORS[:, 1]), -(FACTORS[:, 0] ** 3)], 1)
STRETCHED = FACTORS[:, ::-1] * np.array([2.0, -5.0]) + 1e-3 * RNG.normal(size=FACTORS.shape)
ROTATED = FACTORS @ np.array([[1.0, 1.0], [-1.0, 1.0]])
NOISE = RNG.normal(size=FACTORS.shape)
TRAIN, TEST = slice(0, 1400), slice(1400, None)


def dci_of(latents, factors=FACTORS):
    return dci(latents[TRAIN], factors[TRAIN], latents[TEST], factors[TEST])


def entropy(counts):
    shares = counts[counts > 0] / counts.sum()
    return -(shares * np.log(shares)).sum()


@given(st.integers(0, 20), st.integers(2, 5), st.integers(1, 3), st.integers(2, 20))
def test_mig_is_the_formula(seed, n_latents, n_factors, n_bins):
    rng = np.random.default_rng(seed)
    factors = rng.integers(0, 2, (60, n_factors)).astype(float)
    factors[0], factors[1] = 0, 1
    latents = rng.normal(size=(60, n_latents)) + 2 * factors[:, :1]
    gaps = []
    for k in range(n_factors):
        information = []
        for j in range(n_latents):
            table, *_ = np.histogram2d(latents[:, j], factors[:, k], bins=[n_bins, 2])
            information.append(entropy(table.sum(0)) + entropy(table.sum(1)) - entropy(table.ravel()))
        second, best = np.sort(information)[-2:]
        gaps.append((best - second) / entropy(np.histogram(factors[:, k], 2)[0]))
    assert mig(latents, factors, n_bins) == pytest.approx(np.mean(gaps))


def test_mig_of_planted_latents():
    assert mig(STRETCHED, FACTORS) > 0.99
    assert mig(ROTATED, FACTORS) < 0.1
    assert mig(NOISE, FACTORS) < 0.02
    # A second copy leaves no gap.
    assert mig(np.c_[STRETCHED, STRETCHED], FACTORS) == pytest.approx(0)


def test_mig_puts_many_values_into_bins():
    factors = RNG.random((5000, 2))
    assert mig(factors, factors) > 0.95
    assert mig(factors @ np.array([[1.0, 1.0], [-1.0, 1.0]]), factors) < 0.1


def test_dci_of_planted_latents():
    alone, rotated, noise = dci_of(EACH_ALONE), dci_of(ROTATED), dci_of(NOISE)
    assert min(alone.disentanglement, alone.completeness) > 0.99
    assert alone.informativeness == 1
    assert max(rotated.disentanglement, rotated.completeness) < 0.2
    assert rotated.informativeness > 0.95
    assert max(noise.disentanglement, noise.completeness) < 0.1
    assert noise.informativeness == pytest.approx(0.25, abs=0.06)
    # Rows are latents: the first is of the second factor.
    np.testing.assert_allclose(alone.importances, [[0, 1], [1, 0]], atol=0.01)


def test_disentangled_is_not_complete_nor_the_other_way_round():
    # Each factor in two latents that are needed both: its low and its high bit.
    bits = np.stack([FACTORS[:, 0] % 2, FACTORS[:, 0] // 2, FACTORS[:, 1] % 2, FACTORS[:, 1] // 2], 1)
    split = dci_of(bits)
    assert split.disentanglement > 0.99
    # Two equal halves of four latents: 1 - log 2 / log 4.
    assert split.completeness == pytest.approx(0.5, abs=0.05)
    both = dci_of(np.c_[FACTORS[:, 0] + 10 * FACTORS[:, 1], np.zeros(len(FACTORS))])
    assert both.completeness > 0.99
    assert both.disentanglement < 0.01


def test_dci_bins_test_rows_as_it_bins_training_rows():
    factors = RNG.random((1200, 2))
    scores = dci(factors[:800], factors[:800], factors[800:], factors[800:], n_bins=5)
    assert scores.informativeness > 0.95
    assert min(scores.disentanglement, scores.completeness) > 0.9
    some = factors[800:][(factors[800:] > 0.5).all(1)]
    assert dci(factors[:800], factors[:800], some, some, n_bins=5).informativeness > 0.9


def test_dci_of_a_value_never_seen_is_a_miss():
    seen = np.where(FACTORS == 3, 0, FACTORS)
    scores = dci(FACTORS[TRAIN], seen[TRAIN], FACTORS[TEST], FACTORS[TEST])
    assert scores.informativeness == pytest.approx(np.mean(FACTORS[TEST] != 3))


def test_what_means_nothing_is_refused():
    with pytest.raises(ValueError, match="1 latents and 2 factors: needs at least 2 and 1"):
        mig(FACTORS[:, :1], FACTORS)
    with pytest.raises(ValueError, match="2 latents and 1 factors: needs at least 2 and 2"):
        dci(FACTORS, FACTORS[:, :1], FACTORS, FACTORS[:, :1])
    with pytest.raises(ValueError, match="factor 1 is constant"):
        mig(FACTORS, FACTORS * np.array([1, 0]))
    with pytest.raises(ValueError, match=r"must be \(N, n\)"):
        mig(FACTORS[1:], FACTORS)


def test_of_a_dataset():
    labels = {"a": FACTORS[:, 0], "b": FACTORS[:, 1] > 1, "same": np.zeros(2000), "text": np.where(NOISE[:, 0] > 0, "x", "y")}
    dataset = Dataset(STRETCHED, labels, np.arange(2000) // 100, spaces.Box(-100, 100, (2,)))
    scores = disentanglement(lambda observations: observations, dataset)
    assert scores.factors == ["a", "b"]
    assert min(scores.mig, scores.dci.disentanglement, scores.dci.informativeness) > 0.98
    again = disentanglement(lambda observations: observations, dataset)
    assert again.mig == scores.mig and (again.dci.importances == scores.dci.importances).all()
    with pytest.raises(ValueError, match=r"at least two factors that vary, and \['a'\] do"):
        disentanglement(lambda observations: observations, Dataset(STRETCHED, {"a": FACTORS[:, 0]}, dataset.episodes, None))
