"""A large layer is torch's, whichever way it is computed."""

import pytest
import torch as th
from torch import nn

from sb3_latent.nn.large_linear import LargeLinear

IN, OUT = 8_200, 512


def products(layer: nn.Module, rows: th.Tensor) -> list[str]:
    with th.profiler.profile() as profile:
        layer(rows)
    return [event.key for event in profile.key_averages() if event.key in ("aten::bmm", "aten::addmm")]


@pytest.mark.parametrize("n_rows", [1, 2, 16, 17])
def test_it_is_torchs_layer_up_to_the_order_of_sums(n_rows: int) -> None:
    th.manual_seed(0)
    layer, rows = LargeLinear(IN, OUT), th.randn(n_rows, IN)
    with th.no_grad():
        th.testing.assert_close(layer(rows), nn.functional.linear(rows, layer.weight, layer.bias), rtol=1e-4, atol=1e-5)


@th.no_grad()
def test_a_large_layer_is_divided_for_few_rows() -> None:
    assert products(LargeLinear(IN, OUT), th.zeros(16, IN)) == ["aten::bmm"]
    assert products(LargeLinear(IN, OUT), th.zeros(17, IN)) == ["aten::addmm"]
    assert products(LargeLinear(IN, 520), th.zeros(16, IN)) == ["aten::addmm"]
    assert products(LargeLinear(3_136, 512), th.zeros(16, 3_136)) == ["aten::addmm"]


def test_gradients_are_torchs_to_the_bit() -> None:
    th.manual_seed(0)
    layer, rows = LargeLinear(IN, OUT), th.randn(16, IN, requires_grad=True)
    ours = th.autograd.grad(layer(rows).square().sum(), [rows, *layer.parameters()])
    theirs = th.autograd.grad(nn.functional.linear(rows, layer.weight, layer.bias).square().sum(), [rows, *layer.parameters()])
    assert all(th.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@th.no_grad()
def test_it_is_exported_for_any_number_of_rows() -> None:
    layer, rows = LargeLinear(IN, OUT), th.randn(20, IN)
    exported = th.export.export(layer, (rows[:3],), dynamic_shapes=({0: th.export.Dim("rows", min=2)},)).module()
    th.testing.assert_close(exported(rows), layer(rows))
