"""The contract of every reconstruction loss, and what each makes of a decoder's output."""

import copy
import math
import pickle

import pytest
import torch as th
from torch.distributions import Normal

from sb3_latent import losses
from sb3_latent.nn import LIKELIHOODS, Bernoulli, Gaussian, SquaredError

ALL = LIKELIHOODS.names()
SHAPE = (3, 2, 5, 4)


@pytest.mark.parametrize("name", ALL)
def test_one_finite_value_a_row_which_falls_as_the_output_follows_its_gradient(name):
    likelihood, target = LIKELIHOODS.get(name)(), th.rand(SHAPE)
    output = th.randn(SHAPE, requires_grad=True)
    before = likelihood(output, target)
    assert before.shape == (3,) and before.isfinite().all()
    before.sum().backward()
    after = likelihood(output.detach() - 0.1 * output.grad, target)
    assert (after < before).all()


@pytest.mark.parametrize("name", ALL)
def test_the_reconstruction_is_the_target_that_the_output_fits_best(name):
    likelihood, output = LIKELIHOODS.get(name)(), th.randn(SHAPE, requires_grad=True)
    reconstruction = likelihood.reconstruction(output).detach()
    (gradient,) = th.autograd.grad(likelihood(output, reconstruction).sum(), output)
    assert reconstruction.shape == SHAPE
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_say_the_same(name, copied):
    likelihood, output, target = LIKELIHOODS.get(name)(), th.randn(SHAPE), th.rand(SHAPE)
    assert th.equal(copied(likelihood)(output, target), likelihood(output, target))


def test_each_name_is_its_loss():
    output, target = th.randn(SHAPE), th.rand(SHAPE)
    assert th.equal(SquaredError()(output, target), losses.squared_error(output, target))
    assert th.equal(Bernoulli()(output, target), losses.bernoulli_nll(output, target))
    th.testing.assert_close(
        Gaussian(std=0.3)(output, target), -Normal(output, 0.3).log_prob(target).flatten(1).sum(1), rtol=1e-5, atol=0
    )


def test_a_bernoulli_reconstruction_is_a_probability_and_the_others_are_the_output():
    output = 20 * th.randn(SHAPE)
    th.testing.assert_close(Bernoulli().reconstruction(output), 1 / (1 + th.exp(-output)))
    assert SquaredError().reconstruction(output) is Gaussian().reconstruction(output) is output


def test_a_fixed_std_is_saved_and_never_learned():
    likelihood = Gaussian(std=0.5)
    assert not list(likelihood.parameters())
    other = Gaussian()
    other.load_state_dict(likelihood.state_dict())
    assert other.log_std.exp().item() == pytest.approx(0.5)


def test_a_learned_std_becomes_that_of_the_errors():
    likelihood, errors = Gaussian(std=2.0, learn_std=True), 0.1 * th.randn(64, 30)
    assert likelihood.log_std.item() == pytest.approx(math.log(2.0))
    optimizer = th.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        likelihood(th.zeros_like(errors), errors).mean().backward()
        optimizer.step()
    assert likelihood.log_std.exp().item() == pytest.approx(errors.square().mean().sqrt().item(), rel=0.02)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan")])
def test_a_std_must_be_positive(std):
    with pytest.raises(ValueError, match=f"'gaussian': std={std} must be positive"):
        Gaussian(std=std)
