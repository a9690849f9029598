"""Numbers about a representation, against closed forms, slow references and planted collapses."""

import math

import numpy as np
import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal, kl_divergence

from sb3_latent.representation import (
    active_units,
    collapse,
    dead_units,
    dormancy,
    dormant_share,
    dormant_units,
    effective_rank,
    kl_per_dimension,
    relu_outputs,
)
from sb3_latent.types import Latent

SIZES = st.integers(2, 12)


def orthonormal(n_rows, n_columns, seed):
    """Columns of length 1, orthogonal to each other and to the constant, so that centring changes nothing."""
    generator = th.Generator().manual_seed(seed)
    noise = th.randn(n_rows, n_columns, generator=generator, dtype=th.float64)
    basis, _ = th.linalg.qr(th.cat([th.ones(n_rows, 1, dtype=th.float64), noise], 1))
    return basis[:, 1:]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 9))
def test_kl_is_that_of_torch(batch_size, n, seed):
    generator = th.Generator().manual_seed(seed)
    latent = Latent(*th.randn(2, batch_size, n, generator=generator))
    oracle = kl_divergence(Normal(latent.mean, (0.5 * latent.log_var).exp()), Normal(0.0, 1.0)).mean(0)
    th.testing.assert_close(kl_per_dimension(latent), oracle)


def test_kl_of_a_deterministic_head_is_refused():
    with pytest.raises(ValueError, match="no posterior and thus no KL; use head='gaussian'"):
        kl_per_dimension(Latent(th.zeros(2, 3), None))


def test_planted_collapse_of_single_dimensions_is_seen_in_each_measure():
    """Two dimensions hold something, one is the prior, one is a constant far from it."""
    generator = th.Generator().manual_seed(0)
    mean, log_var = th.randn(256, 4, generator=generator), th.full((256, 4), 2 * math.log(0.1))
    mean[:, 1], log_var[:, 1] = 0.0, 0.0
    mean[:, 3] = 2.0
    kl = kl_per_dimension(Latent(mean, log_var))
    # -log 0.1 + (0.1^2 + mean^2 - 1) / 2, in the mean over the batch.
    of_variance = math.log(10) + (0.01 - 1) / 2
    held = [0, 2, 3]
    assert kl[held].tolist() == pytest.approx((of_variance + mean[:, held].square().mean(0) / 2).tolist())
    assert kl[1] == 0
    assert active_units(mean) == 2
    assert effective_rank(mean) == pytest.approx(2, abs=0.05)


@given(SIZES, SIZES, st.integers(0, 9))
def test_active_units_are_those_numpy_counts(batch_size, n, seed):
    mean = np.random.default_rng(seed).normal(size=(batch_size, n)) * np.logspace(-2, 0, n)
    assert active_units(th.as_tensor(mean)) == sum(np.var(column) > 0.01 for column in mean.T)


def test_active_units_ignore_where_a_unit_sits_and_take_a_threshold():
    mean = th.tensor([[5.0, 0.0, 1.0], [5.0, 0.3, -1.0]])
    assert active_units(mean) == 2
    assert active_units(mean, threshold=0.5) == 1


@given(st.integers(1, 8), st.integers(0, 9), st.floats(1e-6, 1e6), st.floats(-1e3, 1e3))
def test_effective_rank_of_k_equal_directions_is_k(k, seed, scale, offset):
    latent = scale * orthonormal(20, k, seed)
    assert effective_rank(latent) == pytest.approx(k)
    padded = th.cat([latent, th.zeros(20, 3, dtype=th.float64)], 1)
    assert effective_rank(padded + scale * offset) == pytest.approx(k, rel=1e-4)


def test_effective_rank_of_two_unequal_directions_is_that_of_the_paper():
    latent = orthonormal(10, 2, 0) * th.tensor([3.0, 1.0], dtype=th.float64)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(latent) == pytest.approx(math.exp(entropy))


@given(SIZES, SIZES, st.integers(0, 9))
def test_effective_rank_is_bounded_and_does_not_see_rotations(batch_size, n, seed):
    latent = th.randn(batch_size, n, generator=th.Generator().manual_seed(seed), dtype=th.float64)
    rotation, _ = th.linalg.qr(th.randn(n, n, generator=th.Generator().manual_seed(seed + 100), dtype=th.float64))
    rank = effective_rank(latent)
    assert 1 <= rank <= min(batch_size - 1, n) + 1e-9
    assert effective_rank(latent @ rotation) == pytest.approx(rank)


@given(SIZES, SIZES, st.floats(1e-6, 1e6))
def test_effective_rank_of_equal_rows_is_zero_not_the_rank_of_noise(batch_size, n, value):
    row = value * th.rand(n, generator=th.Generator().manual_seed(0), dtype=th.float64)
    assert effective_rank(row.expand(batch_size, n)) == 0


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3, 2)])
def test_dead_units_are_silent_on_the_whole_batch(shape):
    activations = th.zeros(shape)
    activations[3, 1] = 1.0
    if len(shape) == 4:
        activations[0, 2, 1, 1] = 0.1
    assert dead_units(activations).tolist() == [True, False, len(shape) == 2, True]


def test_relu_outputs_are_named_and_no_longer_watched_afterwards():
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.ReLU(), nn.Linear(3, 1)))
    inputs = th.randn(4, 2)
    with relu_outputs(module) as outputs:
        module(inputs)
    assert set(outputs) == {"1", "2.0"}
    th.testing.assert_close(outputs["1"], module[0](inputs).clamp_min(0).detach())
    assert not outputs["1"].requires_grad
    kept = dict(outputs)
    module(2 * inputs)
    assert all(outputs[name] is kept[name] for name in kept)


def test_planted_dead_layer_is_found():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5), nn.ReLU())
    with th.no_grad():
        module[0].bias[:] = th.tensor([-100.0, 100.0, -100.0, 100.0])
        module[3].bias[2] = -1e6
    with relu_outputs(module) as outputs:
        module(th.rand(6, 1, 8, 8))
    assert dead_units(outputs["1"]).tolist() == [True, False, True, False]
    assert dead_units(outputs["4"])[2]


def gaussian(mean, std=0.1):
    return Latent(mean, th.full_like(mean, 2 * math.log(std)))


HEALTHY = th.randn(64, 4, generator=th.Generator().manual_seed(0))
PLANTED = {
    "posterior is the prior": (gaussian(1e-3 * HEALTHY, std=1.0), "the posterior is the prior, their KL is"),
    "constant mean": (gaussian(3 + 1e-2 * HEALTHY), "no unit is active"),
    "constant code": (Latent(th.ones(64, 4), None), "differ by 0 of their length"),
    "nearly constant code": (Latent(100 + 1e-2 * HEALTHY, None), "of their length"),
    "zero code": (Latent(th.zeros(64, 4), None), "differ by 0 of their length"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_collapse_is_named(name):
    latent, message = PLANTED[name]
    assert message in collapse(latent)


@pytest.mark.parametrize(
    "latent",
    [gaussian(HEALTHY), gaussian(HEALTHY, std=1.0), gaussian(HEALTHY * th.tensor([1.0, 0, 0, 0])), Latent(HEALTHY, None)]
    + [Latent(scale * (1 + HEALTHY), None) for scale in (1e-6, 1e6)],
)
def test_healthy_latents_pass(latent):
    assert collapse(latent) is None


def dormant_by_hand(activations, tau):
    """One unit after the other, as the definition reads."""
    array = np.abs(activations.double().numpy())
    strengths = [array[:, unit].mean() for unit in range(array.shape[1])]
    mean = sum(strengths) / len(strengths)
    return [mean == 0 or strength / mean <= tau for strength in strengths]


@given(SIZES, SIZES, st.integers(0, 9), st.sampled_from([0.0, 0.025, 0.1, 1.0]), st.booleans())
def test_dormant_units_are_those_of_the_definition(batch_size, n, seed, tau, is_conv):
    generator = th.Generator().manual_seed(seed)
    shape = (batch_size, n, 3, 2) if is_conv else (batch_size, n)
    scale = th.logspace(-3, 0, n).view(1, n, *[1] * (len(shape) - 2))
    activations = (th.randn(shape, generator=generator) * scale).relu()
    assert dormant_units(activations, tau).tolist() == dormant_by_hand(activations, tau)
    if tau == 0:
        assert dormant_units(activations, tau).tolist() == dead_units(activations).tolist()


@given(st.floats(1e-6, 1e6))
def test_dormancy_has_mean_one_and_no_scale(scale):
    activations = th.rand(8, 5, generator=th.Generator().manual_seed(0), dtype=th.float64)
    assert dormancy(activations).mean() == pytest.approx(1)
    th.testing.assert_close(dormancy(scale * activations), dormancy(activations))


def test_negative_activations_count_as_activity_and_a_silent_layer_is_all_dormant():
    assert dormant_units(th.tensor([[-1.0, 0.0], [-1.0, 0.0]])).tolist() == [False, True]
    assert dormant_units(th.zeros(4, 3)).all()


def test_planted_dormant_units_are_a_share_of_all_layers():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 12), nn.ReLU(), nn.Linear(12, 2))
    with th.no_grad():
        for layer in (module[0], module[3]):
            layer.weight.zero_()
            layer.bias.fill_(1.0)
        module[0].bias[1] = 0.05
        module[3].bias[:3] = th.tensor([0.01, 0.05, -1.0])
    with relu_outputs(module) as outputs:
        module(th.rand(6, 1, 8, 8))
    # Scores: 0.05 / 0.7625 = 0.066 in the first layer; 0.013, 0.066 and 0 in the second, whose mean is 0.755.
    assert dormant_share(outputs, tau=0.1) == pytest.approx(4 / 16)
    assert dormant_share(outputs, tau=0.025) == pytest.approx(2 / 16)
    assert dormant_share(outputs, tau=0.0) == pytest.approx(1 / 16)
    assert dormant_units(outputs["1"]).tolist() == [False, True, False, False]


def test_dormant_units_refuse_what_means_nothing():
    with pytest.raises(ValueError, match=r"tau=-0.1 must be at least 0"):
        dormant_units(th.ones(2, 2), -0.1)
    with pytest.raises(ValueError, match="no outputs to look at"):
        dormant_share({})
