"""First weights against the definitions: orthogonal matrices, single taps, and what may not be touched."""

import pytest
import torch as th
from torch import nn

from sb3_latent.nn import INITIALIZATIONS, TRUNKS
from sb3_latent.nn.convolutional import SubpixelConvTranspose2d

ALL = sorted(INITIALIZATIONS)
ORTHOGONAL = [name for name in ALL if "orthogonal" in name]
KERNELS = [
    lambda: nn.Conv2d(4, 6, 3),
    lambda: nn.Conv2d(6, 4, (3, 5), bias=False),
    lambda: nn.Conv2d(5, 5, 4, stride=2),
    lambda: nn.ConvTranspose2d(6, 3, 3),
    lambda: SubpixelConvTranspose2d(6, 4, 8, 4),
]
LAYOUTS = [th.contiguous_format, th.channels_last]


def assert_orthogonal(matrix, gain):
    """Rows, or columns where they are fewer, are orthogonal and as long as the gain."""
    matrix = matrix.detach().double()
    small = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    th.testing.assert_close(small, gain**2 * th.eye(len(small), dtype=th.float64), rtol=0, atol=1e-5)


def initialised(name, module):
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    module.apply(INITIALIZATIONS[name])
    return module


@pytest.mark.parametrize("name", ORTHOGONAL)
@pytest.mark.parametrize("widths", [(7, 3), (3, 7), (4, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_are_orthogonal(name, widths, bias):
    layer = initialised(name, nn.Linear(*widths, bias=bias))
    assert_orthogonal(layer.weight, 1.0)
    assert layer.bias is None or not layer.bias.any()


@pytest.mark.parametrize("make", KERNELS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_delta_orthogonal_kernels_are_one_orthogonal_tap(make, layout):
    layer = initialised("delta_orthogonal", make().to(memory_format=layout))
    height, width = (side // 2 for side in layer.kernel_size)
    assert_orthogonal(layer.weight[:, :, height, width], 2**0.5)
    with th.no_grad():
        layer.weight[:, :, height, width] = 0
    assert not layer.weight.any()
    assert layer.bias is None or not layer.bias.any()
    assert layer.weight.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("make", KERNELS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_orthogonal_kernels_are_orthogonal_over_all_taps(make, layout):
    layer = initialised("orthogonal", make().to(memory_format=layout))
    assert_orthogonal(layer.weight.flatten(1), 2**0.5)
    assert layer.bias is None or not layer.bias.any()
    assert layer.weight.is_contiguous(memory_format=layout)


def test_orthogonal_is_what_torch_does():
    ours, theirs = nn.Conv2d(4, 6, 3), nn.Conv2d(4, 6, 3)
    th.manual_seed(3)
    ours.apply(INITIALIZATIONS["orthogonal"])
    th.manual_seed(3)
    nn.init.orthogonal_(theirs.weight, nn.init.calculate_gain("relu"))
    assert th.equal(ours.weight, theirs.weight)


@pytest.mark.parametrize("name", ALL)
def test_old_weights_leave_no_trace(name):
    layers = []
    for _ in range(2):
        th.manual_seed(4)
        layer = nn.Conv2d(4, 6, 3)
        with th.no_grad():
            layer.weight.fill_(float(len(layers)))
        th.manual_seed(5)
        layers.append(layer.apply(INITIALIZATIONS[name]))
    assert th.equal(layers[0].weight, layers[1].weight)


@pytest.mark.parametrize("name", ALL)
def test_other_layers_and_parameters_stay_as_they_are(name):
    module = nn.Sequential(nn.LayerNorm(3), nn.Embedding(4, 3), nn.BatchNorm2d(3))
    module.register_parameter("scale", nn.Parameter(th.randn(3)))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    module.apply(INITIALIZATIONS[name])
    assert all(th.equal(value, before[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("trunk", TRUNKS.names())
def test_whole_networks_are_initialised(name, trunk):
    trunk = TRUNKS.get(trunk)((1, 36, 36))
    for network in (trunk, trunk.make_decoder(5)):
        network.apply(INITIALIZATIONS[name])
        assert not any(parameter.any() for key, parameter in network.named_parameters() if key.endswith("bias"))
        assert all(parameter.isfinite().all() and parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    "layer", [lambda: nn.Linear(30, 70), lambda: nn.Conv2d(8, 24, 5), lambda: nn.ConvTranspose2d(24, 8, 5)]
)
def test_xavier_weights_fill_their_interval_evenly(layer):
    weight = initialised("xavier_uniform", layer()).weight
    fans = [n * weight[0, 0].numel() for n in weight.shape[:2]]
    bound = (6 / sum(fans)) ** 0.5
    th.testing.assert_close(weight.abs().max(), th.tensor(bound), rtol=0.02, atol=0)
    assert weight.abs().max() <= bound
    th.testing.assert_close(weight.var(), th.tensor(bound**2 / 3), rtol=0.1, atol=0)
