"""Losses on the latent against torch.distributions and formulas typed anew."""

import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from sb3_latent import losses


def posterior(batch=6, n=4):
    return th.randn(batch, n), 2 * th.randn(batch, n)


def test_kl_is_that_of_torch_distributions():
    mean, log_var = posterior()
    expected = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0))
    th.testing.assert_close(losses.gaussian_kl(mean, log_var), expected, rtol=1e-4, atol=1e-6)


def test_kl_of_the_prior_is_0_and_nothing_is_below():
    assert th.equal(losses.gaussian_kl(th.zeros(2, 3), th.zeros(2, 3)), th.zeros(2, 3))
    assert (losses.gaussian_kl(*posterior(100)) >= 0).all()


def test_kl_is_its_monte_carlo_estimate():
    mean, log_var = th.tensor([[0.7]]), th.tensor([[-1.0]])
    posterior_ = Normal(mean, (0.5 * log_var).exp())
    z = posterior_.sample((20_000,))
    estimate = (posterior_.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).mean()
    assert losses.gaussian_kl(mean, log_var).item() == pytest.approx(estimate.item(), abs=0.02)


@given(st.floats(0, 3), st.integers(0, 1000))
def test_free_bits_put_a_floor_under_each_dimension(floor, seed):
    mean, log_var = th.randn(2, 5, 4, generator=th.Generator().manual_seed(seed), dtype=th.float64)
    per_dimension = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0)).mean(0).tolist()
    expected = sum(max(floor, kl) for kl in per_dimension)
    rows = losses.free_bits_kl(mean, log_var, floor)
    assert rows.shape == (5,)
    assert rows.mean().item() == pytest.approx(expected, rel=1e-9)


def test_free_bits_stop_the_gradient_of_dimensions_below_the_floor_alone():
    mean, log_var = th.tensor([[0.1, 2.0], [0.1, 2.0]], requires_grad=True), th.zeros(2, 2, requires_grad=True)
    losses.free_bits_kl(mean, log_var, 0.5).mean().backward()
    th.testing.assert_close(mean.grad, th.tensor([[0.0, 1.0], [0.0, 1.0]]))


def test_no_free_bits_is_the_plain_kl_row_by_row():
    mean, log_var = posterior()
    th.testing.assert_close(losses.free_bits_kl(mean, log_var, 0.0), losses.gaussian_kl(mean, log_var).sum(1))


def test_latent_l2_is_half_the_squared_norm():
    th.testing.assert_close(losses.latent_l2(th.tensor([[3.0, 4.0], [0.0, -2.0]])), th.tensor([12.5, 2.0]))


@pytest.mark.parametrize("loss", [losses.gaussian_kl, lambda m, v: losses.free_bits_kl(m, v, 0.3)])
def test_gradients_of_the_kl_are_those_of_finite_differences(loss):
    mean, log_var = (th.randn(3, 2, dtype=th.float64, requires_grad=True) for _ in range(2))
    assert th.autograd.gradcheck(loss, (mean, log_var))


@pytest.mark.parametrize(("shape", "other"), [((2, 3), (2, 4)), ((2, 3), (1, 3)), ((3,), (3,)), ((2, 3, 1), (2, 3, 1))])
def test_wrong_shapes_are_named(shape, other):
    with pytest.raises(ValueError) as raised:
        losses.gaussian_kl(th.zeros(shape), th.zeros(other))
    assert str(shape) in str(raised.value) and str(other) in str(raised.value)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 1)])
def test_latent_l2_wants_a_matrix(shape):
    with pytest.raises(ValueError, match=r"must have shape \(B, n\)"):
        losses.latent_l2(th.zeros(shape))
