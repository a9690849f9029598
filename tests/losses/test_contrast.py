"""InfoNCE against torch's cross entropy and the formula typed anew."""

import math

import pytest
import torch as th
from torch.nn import functional as F

from sb3_latent import losses


def test_info_nce_is_the_cross_entropy_of_the_diagonal():
    logits = 3 * th.randn(6, 6)
    expected = F.cross_entropy(logits - logits.max(1, keepdim=True)[0], th.arange(6), reduction="none")
    th.testing.assert_close(losses.info_nce(logits), expected)


def test_info_nce_is_the_formula():
    logits = th.randn(5, 5, dtype=th.float64)
    rows = logits.tolist()
    expected = [-math.log(math.exp(row[i]) / sum(math.exp(x) for x in row)) for i, row in enumerate(rows)]
    th.testing.assert_close(losses.info_nce(logits), th.tensor(expected, dtype=th.float64))


def test_alike_rows_cost_the_log_of_their_number_and_right_ones_nothing():
    th.testing.assert_close(losses.info_nce(th.zeros(7, 7)), th.full((7,), math.log(7)))
    assert th.equal(losses.info_nce(1e4 * th.eye(4)), th.zeros(4))


def test_large_logits_stay_finite():
    logits = (1e5 + 10 * th.randn(6, 6, dtype=th.float64)).float().requires_grad_()
    rows = losses.info_nce(logits)
    rows.sum().backward()
    assert rows.isfinite().all() and logits.grad.isfinite().all()
    th.testing.assert_close(rows.double(), losses.info_nce(logits.double() - 1e5), rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_finite_differences():
    assert th.autograd.gradcheck(losses.info_nce, (th.randn(4, 4, dtype=th.float64, requires_grad=True),))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 3, 3)])
def test_logits_are_square(shape):
    with pytest.raises(ValueError) as raised:
        losses.info_nce(th.zeros(shape))
    assert str(shape) in str(raised.value)
