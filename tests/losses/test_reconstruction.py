"""Each loss is the one in the textbook: one value a row, summed over features."""

import pytest
import torch as th
from torch.distributions import Bernoulli, Normal

from sb3_latent import losses

SHAPES = [(5, 7), (3, 2, 4, 6)]


def gaussian_nll(mean, target):
    return losses.gaussian_nll(mean, target, th.tensor(-0.7))


LOSSES = [losses.squared_error, losses.bernoulli_nll, gaussian_nll]


@pytest.mark.parametrize("shape", SHAPES)
def test_squared_error_sums_over_features(shape):
    prediction, target = th.randn(shape), th.randn(shape)
    by_hand = [
        sum((p - t) ** 2 for p, t in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True))
        for a, b in zip(prediction, target, strict=True)
    ]
    th.testing.assert_close(losses.squared_error(prediction, target), th.tensor(by_hand), rtol=1e-5, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_bernoulli_is_the_log_probability_of_bits(shape):
    logits, target = 3 * th.randn(shape), th.randint(0, 2, shape).float()
    expected = -Bernoulli(logits=logits).log_prob(target).flatten(1).sum(1)
    th.testing.assert_close(losses.bernoulli_nll(logits, target), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_bernoulli_is_the_cross_entropy_of_grey_values(shape):
    logits, target = 3 * th.randn(shape, dtype=th.float64), th.rand(shape, dtype=th.float64)
    p = 1 / (1 + th.exp(-logits))
    expected = -(target * th.log(p) + (1 - target) * th.log(1 - p)).flatten(1).sum(1)
    th.testing.assert_close(losses.bernoulli_nll(logits, target), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_bernoulli_of_certain_logits_is_finite_and_0_where_they_are_right(logit):
    target = th.full((2, 3), float(logit > 0))
    assert th.equal(losses.bernoulli_nll(th.full((2, 3), logit), target), th.zeros(2))
    assert th.equal(losses.bernoulli_nll(th.full((2, 3), -logit), target), th.full((2,), 3e4))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("std", [0.1, 1.0, 3.0])
def test_gaussian_is_the_log_density(shape, std):
    mean, target, log_std = th.randn(shape), th.randn(shape), th.tensor(std).log()
    expected = -Normal(mean, std).log_prob(target).flatten(1).sum(1)
    th.testing.assert_close(losses.gaussian_nll(mean, target, log_std), expected, rtol=1e-4, atol=0)


def test_the_best_learned_std_is_that_of_the_errors():
    errors, log_std = th.randn(50, 20), th.zeros((), requires_grad=True)
    log_std.data = errors.square().mean().sqrt().log()
    losses.gaussian_nll(th.zeros(50, 20), errors, log_std).sum().backward()
    assert abs(log_std.grad.item()) < 1e-2
    log_std.grad = None
    losses.gaussian_nll(th.zeros(50, 20), 2 * errors, log_std).sum().backward()
    assert log_std.grad.item() < -1000, "errors larger than the std must widen it"


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_finite_differences(loss):
    prediction, target = th.randn(2, 3, dtype=th.float64, requires_grad=True), th.rand(2, 3, dtype=th.float64)
    assert th.autograd.gradcheck(lambda p: loss(p, target), (prediction,))


@pytest.mark.parametrize("loss", LOSSES)
def test_rows_do_not_know_of_each_other(loss):
    prediction, target = th.randn(4, 2, 3, 3), th.rand(4, 2, 3, 3)
    rows = loss(prediction, target)
    assert rows.shape == (4,)
    alone = th.cat([loss(prediction[i : i + 1], target[i : i + 1]) for i in range(4)])
    th.testing.assert_close(rows, alone, rtol=1e-6, atol=0)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("shape", "other"), [((2, 3), (2, 4)), ((2, 3), (1, 3)), ((2, 1, 4, 4), (2, 4, 4)), ((2, 3), (3,)), ((3,), (3,))]
)
def test_shapes_are_never_broadcast(loss, shape, other):
    with pytest.raises(ValueError) as raised:
        loss(th.zeros(shape), th.zeros(other))
    assert str(shape) in str(raised.value) and str(other) in str(raised.value)
