"""Families of distributions against torch.distributions: beliefs, draws, divergences and the gradients of all three."""

import math

import pytest
import torch as th
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.distributions import MultivariateNormal, OneHotCategorical, RelaxedOneHotCategorical, kl_divergence

from sb3_latent.dynamics import Categoricals, DiagonalGaussian
from sb3_latent.dynamics.beliefs import LeakyReLU, Perceptron

leading = st.lists(st.integers(1, 4), max_size=3).map(tuple)
min_stds = st.sampled_from([0.0, 1e-5, 0.1, 0.9])
unimixes = st.sampled_from([0.0, 0.01, 0.5])


def doubles(*shape, scale=2.0, seed=0):
    draws = scale * th.randn(shape, dtype=th.float64, generator=th.Generator().manual_seed(seed))
    return draws.requires_grad_()


def categoricals(n_groups=3, n_classes=4, unimix=0.0, relaxation="straight_through", temperature=1.0):
    return Categoricals(n_groups, n_classes, unimix, relaxation, temperature)


def gaussian_by_hand(outputs, dim, min_std):
    """The same belief as a Gaussian with a full covariance."""
    std = th.log1p(th.exp(outputs[..., dim:])) + min_std
    return MultivariateNormal(outputs[..., :dim], th.diag_embed(std.square()))


def probabilities_by_hand(outputs, n_classes, unimix):
    """(..., n_groups, n_classes)"""
    weights = outputs.unflatten(-1, (-1, n_classes)).exp()
    return (1 - unimix) * weights / weights.sum(-1, keepdim=True) + unimix / n_classes


def assert_same_with_gradients(ours, expected, inputs):
    """Both as functions of the inputs: their values, and the gradients of a weighted sum."""
    th.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-12)
    weights = th.randn(ours.shape, dtype=ours.dtype)
    gradients = (th.autograd.grad((weights * value).sum(), inputs, retain_graph=True) for value in (ours, expected))
    for a, b in zip(*gradients, strict=True):
        th.testing.assert_close(a, b, rtol=1e-6, atol=1e-10)


def ks_distance(a, b):
    """The largest distance between the two empirical distribution functions, column by column."""
    distances = []
    for left, right in zip(a.T, b.T, strict=True):
        points = th.cat([left, right])
        below = [th.searchsorted(sample.sort().values, points, right=True) / len(sample) for sample in (left, right)]
        distances.append((below[0] - below[1]).abs().max())
    return th.stack(distances).max()


@given(leading, st.integers(1, 5), min_stds)
def test_a_gaussian_and_its_divergence_are_those_of_torch(shape, dim, min_std):
    family = DiagonalGaussian(dim, min_std)
    outputs, others = doubles(*shape, 2 * dim), doubles(*shape, 2 * dim, seed=1)
    one, other = (gaussian_by_hand(x, dim, min_std) for x in (outputs, others))
    assert family.n_outputs == 2 * dim and family.dim == dim
    assert family.kl(outputs, others).shape == shape
    assert_same_with_gradients(family.kl(outputs, others), kl_divergence(one, other), (outputs, others))
    value = doubles(*shape, dim, seed=2)
    assert_same_with_gradients(family.distribution(outputs).log_prob(value), one.log_prob(value), (outputs, value))
    assert_same_with_gradients(family.mode(outputs), one.mean, (outputs,))


@given(leading, st.integers(1, 5), min_stds)
def test_a_gaussian_draw_moves_with_mean_and_deviation(shape, dim, min_std):
    family, outputs = DiagonalGaussian(dim, min_std), doubles(*shape, 2 * dim)
    th.manual_seed(3)
    draw = family.sample(outputs)
    th.manual_seed(3)
    noise = th.randn(*shape, dim, dtype=th.float64)
    by_hand = outputs[..., :dim] + (th.log1p(th.exp(outputs[..., dim:])) + min_std) * noise
    assert_same_with_gradients(draw, by_hand, (outputs,))


def test_gaussian_draws_are_distributed_as_torch_has_them():
    family, outputs = DiagonalGaussian(3, 0.1), doubles(6)
    draws = family.sample(outputs.expand(20_000, 6)).detach()
    assert ks_distance(draws, gaussian_by_hand(outputs, 3, 0.1).sample((20_000,))) < 1.95 * (2 / 20_000) ** 0.5


@pytest.mark.parametrize("min_std", [0.0, 1e-5, 0.1, 0.9])
def test_the_standard_gaussian_has_mean_0_and_deviation_1(min_std):
    family = DiagonalGaussian(3, min_std)
    standard = family.standard(th.empty(2, 5, 6))
    assert standard.shape == (2, 5, 6) and standard.dtype == th.float32
    normal = family.distribution(standard)
    assert th.equal(normal.mean, th.zeros(2, 5, 3))
    th.testing.assert_close(normal.stddev, th.ones(2, 5, 3), rtol=1e-6, atol=0)
    outputs = doubles(2, 5, 6)
    mean, std = outputs[..., :3], th.log1p(th.exp(outputs[..., 3:])) + min_std
    textbook = 0.5 * (mean.square() + std.square() - 1 - 2 * std.log()).sum(-1)
    th.testing.assert_close(family.kl(outputs, family.standard(outputs)), textbook, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("min_std", [1e-5, 0.1])
def test_a_gaussian_divergence_stays_finite_where_outputs_are_extreme(min_std):
    outputs = th.tensor([[50.0, -90], [-50, 90], [0, -200]], requires_grad=True)
    divergence = DiagonalGaussian(1, min_std).kl(outputs, outputs.flip(0).detach())
    divergence.sum().backward()
    assert divergence.isfinite().all() and outputs.grad.isfinite().all()


@given(leading, st.integers(1, 3), st.integers(2, 5), unimixes)
@example((), 1, 2, 0.0)
def test_categoricals_and_their_divergence_are_those_of_torch(shape, n_groups, n_classes, unimix):
    family, n = categoricals(n_groups, n_classes, unimix), n_groups * n_classes
    outputs, others = doubles(*shape, n), doubles(*shape, n, seed=1)
    p, q = (probabilities_by_hand(x, n_classes, unimix) for x in (outputs, others))
    assert family.dim == family.n_outputs == n
    assert family.kl(outputs, others).shape == shape
    of_torch = kl_divergence(OneHotCategorical(probs=p), OneHotCategorical(probs=q)).sum(-1)
    assert_same_with_gradients(family.kl(outputs, others), of_torch, (outputs, others))
    assert_same_with_gradients(family.kl(outputs, others), (p * (p / q).log()).sum((-2, -1)), (outputs, others))
    value = family.sample(others).detach().unflatten(-1, (n_groups, n_classes))
    log_prob = OneHotCategorical(probs=p).log_prob(value).sum(-1)
    assert_same_with_gradients(family.distribution(outputs).log_prob(value), log_prob, (outputs,))


@given(leading, st.integers(1, 3), st.integers(2, 5), unimixes)
def test_straight_through_draws_are_one_hot_with_the_gradients_of_the_probabilities(shape, n_groups, n_classes, unimix):
    family, outputs = categoricals(n_groups, n_classes, unimix), doubles(*shape, n_groups * n_classes)
    probabilities = probabilities_by_hand(outputs, n_classes, unimix)
    likeliest = nn.functional.one_hot(probabilities.argmax(-1), n_classes)
    assert th.equal(family.mode(outputs), likeliest.flatten(-2).double())
    weights = doubles(*outputs.shape, seed=1).detach()
    (expected,) = th.autograd.grad((probabilities.flatten(-2) * weights).sum(), outputs)
    for draw in (family.mode(outputs), family.sample(outputs)):
        groups = draw.unflatten(-1, (n_groups, n_classes))
        assert ((groups == 0) | (groups == 1)).all() and (groups.sum(-1) == 1).all()
        (gradient,) = th.autograd.grad((draw * weights).sum(), outputs)
        th.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("unimix", [0.0, 0.5])
@pytest.mark.parametrize("relaxation", ["straight_through", "gumbel"])
def test_each_class_comes_as_often_as_its_probability(unimix, relaxation):
    n = 20_000
    family, outputs = categoricals(unimix=unimix, relaxation=relaxation, temperature=0.5), doubles(12)
    draws = family.sample(outputs.detach().expand(n, 12)).unflatten(-1, (3, 4))
    p = probabilities_by_hand(outputs.detach(), 4, unimix)
    # Of a relaxed draw the largest entry is the class: Gumbel's trick.
    rates = nn.functional.one_hot(draws.argmax(-1), 4).double().mean(0)
    assert ((rates - p).abs() < 4.5 * (p * (1 - p) / n).sqrt()).all()
    groups = draws.argmax(-1)
    together = th.histc(4.0 * groups[:, 0] + groups[:, 1], 16, 0, 15).reshape(4, 4) / n
    assert (together - th.outer(p[0], p[1])).abs().max() < 4.5 * (0.25 / n) ** 0.5


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_gumbel_draws_are_distributed_as_torch_has_them(temperature):
    family = categoricals(1, 4, 0.01, "gumbel", temperature)
    outputs, n = doubles(4).detach(), 20_000
    draws = family.sample(outputs.expand(n, 4))
    th.testing.assert_close(draws.sum(-1), th.ones(n, dtype=th.float64))
    of_torch = RelaxedOneHotCategorical(th.tensor(temperature), probs=probabilities_by_hand(outputs, 4, 0.01)[0])
    assert ks_distance(draws, of_torch.sample((n,))) < 1.95 * (2 / n) ** 0.5


@pytest.mark.parametrize(
    "family",
    [DiagonalGaussian(6, 1e-5), *(categoricals(3, 4, unimix, "gumbel", 0.5 + unimix) for unimix in (0.0, 0.1))],
)
def test_gradients_of_continuous_draws_are_their_differences(family):
    def draw(outputs):
        th.manual_seed(0)
        return family.sample(outputs)

    assert gradcheck(draw, doubles(2, 12, scale=1.0))


@pytest.mark.parametrize("unimix", [0.0, 0.01])
def test_in_standard_categoricals_all_classes_are_equally_likely(unimix):
    family = categoricals(unimix=unimix)
    standard = family.standard(th.empty(2, 12))
    assert standard.shape == (2, 12) and standard.dtype == th.float32
    th.testing.assert_close(family.distribution(standard).base_dist.probs, th.full((2, 3, 4), 0.25), rtol=1e-6, atol=0)


def test_a_share_of_the_uniform_distribution_bounds_probabilities_and_divergences():
    outputs = th.tensor([[1e3, 0, 0, 0]], requires_grad=True)
    family = categoricals(1, 4, 0.01)
    assert family.distribution(outputs).base_dist.probs.min().item() == pytest.approx(0.0025)
    divergence = family.kl(outputs, -outputs)
    divergence.sum().backward()
    assert divergence.isfinite().all() and outputs.grad.isfinite().all()
    assert th.equal(family.mode(outputs.detach()), th.tensor([[1.0, 0, 0, 0]]))


@pytest.mark.parametrize("family", [DiagonalGaussian(2, 0.1), categoricals(), categoricals(relaxation="gumbel")])
def test_a_draw_is_a_sample_or_the_mode_and_float32_as_the_outputs_are(family):
    outputs = th.randn(5, family.n_outputs)
    assert th.equal(family.draw(outputs, noisy=False), family.mode(outputs))
    th.manual_seed(0)
    draw = family.draw(outputs, noisy=True)
    th.manual_seed(0)
    assert th.equal(draw, family.sample(outputs))
    assert draw.shape == (5, family.dim) and draw.dtype == family.mode(outputs).dtype == th.float32
    assert not th.equal(draw, family.mode(outputs))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"relaxation": "gumble"}, "unknown relaxation 'gumble'; did you mean 'gumbel'"),
        ({"relaxation": None}, "unknown relaxation None. Allowed: 'gumbel', 'straight_through'"),
        ({"unimix": 1.0}, r"unimix=1.0 must lie in \[0, 1\)"),
        ({"unimix": -0.1}, r"unimix=-0.1 must lie in \[0, 1\)"),
        ({"unimix": float("nan")}, r"unimix=nan must lie in \[0, 1\)"),
        ({"temperature": 0.0}, "temperature=0.0 must be positive"),
        ({"temperature": float("nan")}, "temperature=nan must be positive"),
    ],
)
def test_wrong_categoricals_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        categoricals(**arguments)


@pytest.mark.parametrize("min_std", [-0.1, 1.0, 2.0, float("nan")])
def test_a_family_without_the_standard_gaussian_is_refused(min_std):
    with pytest.raises(ValueError, match=rf"min_std={min_std} must lie in \[0, 1\)"):
        DiagonalGaussian(2, min_std)


def test_a_perceptron_is_linear_layers_with_an_activation_between_them():
    network, (a, b) = Perceptron(5, (4, 3), 2, LeakyReLU), (th.randn(6, 7, 2), th.randn(6, 7, 3))
    x = th.cat([a, b], -1)
    weights = list(network.parameters())
    for i, (weight, bias) in enumerate(zip(weights[::2], weights[1::2], strict=True)):
        x = x @ weight.T + bias
        x = x if i == 2 else th.where(x > 0, x, 0.2 * x)
    th.testing.assert_close(network(a, b), x)
    linear = Perceptron(5, (), 2, nn.ELU)
    assert [type(layer) for layer in linear] == [nn.Linear]


@pytest.mark.parametrize("hidden", [(0,), (8, -1), (2.5,), ("8",), (True,), "88", 8, None])
def test_widths_that_are_no_widths_are_refused_in_one_line(hidden):
    with pytest.raises(ValueError, match=r"^hidden=.* must be ") as error:
        Perceptron(5, hidden, 2, nn.ELU)
    assert "\n" not in str(error.value)


def test_the_divergence_is_finite_where_probabilities_underflow():
    family = Categoricals(2, 3, 0.0, "straight_through", 1.0)
    far = th.tensor([0.0, -120.0, 0, 0, 0, 0])
    expected = sum(1 / 3 * (math.log(1 / 3) - log_q) for log_q in (math.log(0.5), math.log(0.5) - 120, math.log(0.5)))
    th.testing.assert_close(family.kl(th.zeros(6), far), th.tensor(expected), rtol=1e-6, atol=0)
