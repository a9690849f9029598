"""A large layer is torch's, whichever way it is computed."""

from collections.abc import Iterator

import pytest
import torch as th
from torch import nn

from sb3_latent.nn.large_linear import LargeLinear

IN, OUT = 8_200, 512


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = th.get_num_threads()
    th.set_num_threads(2)
    yield
    th.set_num_threads(before)


def products(layer: nn.Module, rows: th.Tensor) -> list[str]:
    with th.profiler.profile() as profile:
        layer(rows)
    return [event.key for event in profile.key_averages() if event.key in ("aten::bmm", "aten::addmm")]


@pytest.mark.parametrize("n_rows", [1, 2, 16, 256, 257])
def test_it_is_torchs_layer_up_to_the_order_of_sums(n_rows: int) -> None:
    th.manual_seed(0)
    layer, rows = LargeLinear(IN, OUT), th.randn(n_rows, IN)
    with th.no_grad():
        th.testing.assert_close(layer(rows), nn.functional.linear(rows, layer.weight, layer.bias), rtol=1e-4, atol=1e-5)


@th.no_grad()
def test_threads_share_the_weights_of_a_large_layer_for_few_rows() -> None:
    assert products(LargeLinear(IN, OUT), th.zeros(16, IN)) == ["aten::bmm"]
    assert products(LargeLinear(IN, OUT), th.zeros(257, IN)) == ["aten::addmm"]
    assert products(LargeLinear(IN, 511), th.zeros(16, IN)) == ["aten::addmm"]
    assert products(LargeLinear(3_136, 512), th.zeros(16, 3_136)) == ["aten::addmm"]


@th.no_grad()
def test_one_thread_does_as_torch_does() -> None:
    th.set_num_threads(1)
    assert products(LargeLinear(IN, OUT), th.zeros(16, IN)) == ["aten::addmm"]


def test_gradients_are_torchs_to_the_bit() -> None:
    th.manual_seed(0)
    layer, rows = LargeLinear(IN, OUT), th.randn(16, IN, requires_grad=True)
    ours = th.autograd.grad(layer(rows).square().sum(), [rows, *layer.parameters()])
    theirs = th.autograd.grad(nn.functional.linear(rows, layer.weight, layer.bias).square().sum(), [rows, *layer.parameters()])
    assert all(th.equal(a, b) for a, b in zip(ours, theirs, strict=True))
