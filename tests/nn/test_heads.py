"""The contract of every head, and the statistics of the Gaussian one."""

import copy
import pickle

import pytest
import torch as th
from torch import nn
from torch.distributions import Normal

from sb3_latent.nn import HEADS, DeterministicHead, GaussianHead, IdentityHead, LayerNormTanhHead
from sb3_latent.types import Latent

ALL = HEADS.names()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("latent_dim", [2, 5, 12])
def test_a_latent_is_as_wide_as_the_head_says(name, latent_dim):
    head = HEADS.get(name)(12, latent_dim)
    latent = head(th.randn(3, 12))
    assert latent.mean.shape == (3, head.latent_dim)
    assert (latent.log_var is not None) == head.stochastic
    if head.stochastic:
        assert latent.log_var.shape == latent.mean.shape


@pytest.mark.parametrize("name", ALL)
def test_a_head_is_deterministic_and_float32_and_copies(name):
    head, features = HEADS.get(name)(12, 4).eval(), th.randn(3, 12)
    for twin in (head, copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        for ours, theirs in zip(head(features), twin(features), strict=True):
            assert ours is theirs is None or (th.equal(ours, theirs) and ours.dtype == th.float32)


@pytest.mark.parametrize("name", ALL)
def test_gradients_reach_every_parameter_and_the_features(name):
    head, features = HEADS.get(name)(12, 4), th.randn(3, 12, requires_grad=True)
    head(features).sample().square().sum().backward()
    assert features.grad.any()
    assert all(parameter.grad.any() for parameter in head.parameters())


@pytest.mark.parametrize("cls", [DeterministicHead, GaussianHead, LayerNormTanhHead])
@pytest.mark.parametrize("latent_dim", [13, 0, -1])
def test_a_latent_wider_than_the_trunk_is_refused(cls, latent_dim):
    with pytest.raises(ValueError, match=f"latent_dim={latent_dim} must lie between 1 and the trunk's 12 features"):
        cls(12, latent_dim)


@pytest.mark.parametrize("cls", [DeterministicHead, GaussianHead])
def test_a_latent_may_be_a_single_number(cls):
    assert cls(12, 1)(th.randn(3, 12)).mean.std() > 0


def test_layer_norm_of_a_single_number_is_refused():
    with pytest.raises(ValueError, match=r"'layer_norm_tanh': latent_dim=1 .* use at least 2"):
        LayerNormTanhHead(12, 1)


def test_layer_norm_tanh_is_the_formula():
    head, features = LayerNormTanhHead(6, 4).double(), 10 * th.randn(3, 6, dtype=th.float64)
    for parameter in head.norm.parameters():
        nn.init.normal_(parameter)
    h = features @ head.linear.weight.T + head.linear.bias
    mean = h.sum(1, keepdim=True) / 4
    variance = ((h - mean) ** 2).sum(1, keepdim=True) / 4
    expected = th.tanh((h - mean) / (variance + 1e-5) ** 0.5 * head.norm.weight + head.norm.bias)
    th.testing.assert_close(head(features).mean, expected, rtol=1e-9, atol=1e-12)


def test_identity_passes_features_on_as_they_are():
    head, features = IdentityHead(12, 4), th.randn(3, 12)
    assert head.latent_dim == 12 and not list(head.parameters())
    assert head(features).mean is features


def test_deterministic_is_linear():
    head, features = DeterministicHead(6, 2), th.randn(3, 6)
    th.testing.assert_close(head(features).mean, features @ head.linear.weight.T + head.linear.bias)


@pytest.mark.parametrize(("kwargs", "bounds"), [({}, (-10.0, 4.0)), ({"log_var_bounds": [-1, 0.5]}, (-1.0, 0.5))])
def test_gaussian_clamps_the_log_variance_and_not_the_mean(kwargs, bounds):
    head = GaussianHead(6, 3, **kwargs)
    mean, log_var = head(1000 * th.randn(200, 6))
    assert (log_var.min(), log_var.max()) == bounds
    assert mean.abs().max() > 10
    inside = head(th.zeros(1, 6)).log_var
    th.testing.assert_close(inside, head.log_var.bias[None])


@pytest.mark.parametrize("bounds", [(4.0, -10.0), (1.0, 1.0), (float("nan"), 1.0)])
def test_gaussian_bounds_must_be_an_interval(bounds):
    with pytest.raises(ValueError, match=r"log_var_bounds=.* low < high"):
        GaussianHead(6, 3, log_var_bounds=bounds)


def test_samples_are_those_of_the_posterior():
    mean, log_var = th.tensor([[0.5, -2.0]]), th.tensor([[0.0, -2.0]])
    n = 40_000
    samples = Latent(mean.expand(n, 2), log_var.expand(n, 2)).sample()
    std = (0.5 * log_var[0]).exp()
    assert ((samples.mean(0) - mean[0]).abs() < 5 * std / n**0.5).all()
    th.testing.assert_close(samples.std(0), std, rtol=0.02, atol=0)
    assert abs(th.corrcoef(samples.T)[0, 1]) < 0.03


def test_samples_carry_the_reparametrised_gradient():
    mean, log_var = th.randn(4, 3, requires_grad=True), th.randn(4, 3, requires_grad=True)
    sample, weights = Latent(mean, log_var).sample(), th.randn(4, 3)
    (weights * sample).sum().backward()
    noise = (sample - mean) / (0.5 * log_var).exp()
    th.testing.assert_close(mean.grad, weights)
    th.testing.assert_close(log_var.grad, weights * noise * 0.5 * (0.5 * log_var).exp(), rtol=1e-4, atol=1e-6)
    assert Normal(0.0, 1.0).log_prob(noise).isfinite().all() and not th.equal(sample, Latent(mean, log_var).sample())


def test_a_deterministic_latent_samples_its_mean_and_draws_no_random_number():
    mean, state = th.randn(2, 3), th.get_rng_state()
    assert Latent(mean, None).sample() is mean
    assert th.equal(th.get_rng_state(), state)
