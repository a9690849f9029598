"""Scores against scikit-learn, intervals against an explicit bootstrap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, r2_score

from sb3_latent.probes.scores import N_RESAMPLES, estimates


def sample(seed, n_episodes, is_category):
    rng = np.random.default_rng(seed)
    episodes = rng.permutation(np.repeat(rng.choice(100, n_episodes, replace=False), rng.integers(2, 9, n_episodes)))
    n = len(episodes)
    if is_category:
        true = rng.choice(np.array([7, 30, 200], np.uint8), n)
        return true, np.where(rng.random(n) < 0.6, true, rng.choice(np.array([7, 9], np.uint8), n)), episodes
    true = rng.normal(size=n) + 50
    return true, true + rng.normal(size=n), episodes


@given(st.integers(0, 99), st.integers(2, 7), st.booleans())
def test_values_are_those_of_scikit_learn(seed, n_episodes, is_category):
    true, predicted, episodes = sample(seed, n_episodes, is_category)
    found = estimates(true, predicted, episodes, is_category, seed=0)
    if not is_category:
        assert found["r2"].value == pytest.approx(r2_score(true, predicted))
        return
    assert found["accuracy"].value == pytest.approx(accuracy_score(true, predicted))
    assert found["f1"].value == pytest.approx(f1_score(true, predicted, average="weighted"))


@pytest.mark.parametrize("metric", ["r2", "accuracy", "f1"])
def test_intervals_are_those_of_resampled_episodes(metric):
    true, predicted, episodes = sample(1, 12, metric != "r2")
    found = estimates(true, predicted, episodes, metric != "r2", seed=0)[metric]
    rng = np.random.default_rng(5)
    names = np.unique(episodes)
    values = []
    for _ in range(N_RESAMPLES):
        rows = np.concatenate([np.flatnonzero(episodes == name) for name in rng.choice(names, len(names))])
        pair = true[rows], predicted[rows]
        values.append(
            {"r2": r2_score, "accuracy": accuracy_score, "f1": lambda *a: f1_score(*a, average="weighted")}[metric](*pair)
        )
    low, high = np.percentile(values, [2.5, 97.5])
    tolerance = 0.1 * (high - low)
    assert found.low == pytest.approx(low, abs=tolerance)
    assert found.high == pytest.approx(high, abs=tolerance)


def test_whole_episodes_are_resampled_not_rows():
    episodes = np.repeat([0, 1, 2, 3], 100)
    true = np.tile([0, 1], 200).astype(np.uint8)
    predicted = np.where(episodes < 2, true, 1 - true)
    found = estimates(true, predicted, episodes, True, seed=0)["accuracy"]
    assert found.value == 0.5
    assert (found.low, found.high) == (0, 1)


def test_resamples_without_variation_do_not_count():
    true = np.array([0.0, 0.0, 1.0, 1.0])
    found = estimates(true, true, np.array([0, 0, 1, 1]), False, seed=0)["r2"]
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_r2_of_a_resample_is_about_its_own_mean():
    true = np.array([0.0, 1.0, 10.0, 11.0])
    found = estimates(true, true + 0.1, np.array([0, 0, 1, 1]), False, seed=0)["r2"]
    # One episode twice, half of all draws: errors of 0.01 in a variance of 0.25.
    assert found.low == pytest.approx(1 - 0.01 / 0.25)
    assert found.high == found.value == pytest.approx(1 - 0.01 / 25.25)


def test_the_seed_decides_and_is_the_only_thing_that_does():
    true, predicted, episodes = sample(2, 9, False)
    one = estimates(true, predicted, episodes, False, seed=3)
    assert one == estimates(true, predicted, episodes, False, seed=3)
    assert one != estimates(true, predicted, episodes, False, seed=4)
