"""The contract of every registered trunk, and of the published networks in particular."""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import example, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.torch_layers import NatureCNN
from torch import nn

from sb3_latent.images import ArraySpec
from sb3_latent.nn import (
    TRUNKS,
    ConvLayer,
    ConvTrunk,
    DmcTrunk,
    DreamerTrunk,
    Encoder,
    FlattenTrunk,
    ImpalaTrunk,
    MlpTrunk,
    NatureTrunk,
    Seed84Trunk,
    SlacTrunk,
)
from sb3_latent.nn.convolutional import SubpixelConvTranspose2d
from sb3_latent.nn.trunk import SMALLEST_IMAGE
from sb3_latent.nn.world_model import PointConvTranspose2d

ALL = TRUNKS.names()
FOR_IMAGES_ALONE = [name for name in ALL if name not in ("flatten", "mlp")]

sides = st.integers(32, 128)


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def modules_of(module, kind):
    return [part for part in module.modules() if isinstance(part, kind)]


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=25)
@given(st.integers(1, 12), sides, sides, st.integers(1, 20))
@example(1, 32, 32, 1)
@example(12, 32, 128, 20)
@example(12, 128, 32, 20)
@example(3, 35, 36, 20)
@example(4, 84, 84, 20)
def test_the_decoder_returns_exactly_the_shape_of_the_frame(name, channels, height, width, latent_dim):
    # The meta device has shapes and no values, so that an example costs next to nothing.
    with th.device("meta"):
        trunk = TRUNKS.get(name)((channels, height, width))
        features = trunk(th.empty(2, channels, height, width))
        assert features.shape == (2, trunk.out_dim)
        assert trunk.make_decoder(latent_dim)(th.empty(2, latent_dim)).shape == (2, channels, height, width)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(1, 32, 32), (12, 33, 47), (3, 36, 35), (2, 61, 32)])
def test_values_are_finite_float32_and_the_same_each_time(name, shape):
    trunk = TRUNKS.get(name)(shape).eval()
    decoder = trunk.make_decoder(8).eval()
    frames, z = th.rand(2, *shape), th.randn(2, 8)
    features, output = trunk(frames), decoder(z)
    assert output.shape == frames.shape and features.dtype == output.dtype == th.float32
    assert features.isfinite().all() and output.isfinite().all()
    assert th.equal(features, trunk(frames)) and th.equal(output, decoder(z))
    th.testing.assert_close(trunk(frames[1:]), features[1:], msg="rows of a batch must not see each other")


@pytest.mark.parametrize("name", ALL)
def test_the_reconstruction_loss_reaches_every_parameter(name):
    trunk = TRUNKS.get(name)((2, 40, 37))
    to_latent, decoder = nn.Linear(trunk.out_dim, 16), trunk.make_decoder(16)
    frames = th.rand(8, 2, 40, 37)
    (decoder(to_latent(trunk(frames))) - frames).square().sum().backward()
    for part in (trunk, decoder):
        silent = [name for name, p in part.named_parameters() if p.grad is None or not p.grad.any()]
        assert not silent


@pytest.mark.parametrize("name", ALL)
def test_the_decoder_is_unbounded(name):
    trunk = TRUNKS.get(name)((1, 32, 32))
    output = trunk.make_decoder(4)(1000 * th.randn(8, 4))
    assert output.min() < 0 and output.max() > 1


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_are_equal_and_share_no_weights(name, copied):
    trunk = TRUNKS.get(name)((1, 32, 40))
    twin, frames = copied(trunk), th.rand(2, 1, 32, 40)
    assert th.equal(twin(frames), trunk(frames))
    assert twin.make_decoder(3)(th.zeros(1, 3)).shape == (1, 1, 32, 40)
    ours, theirs = ({parameter.data_ptr() for parameter in module.parameters()} for module in (trunk, twin))
    assert not ours & theirs


@pytest.mark.parametrize("name", ALL)
def test_what_two_trunks_share_is_in_the_state_dict(name):
    first, second = TRUNKS.get(name)((1, 33, 32)), TRUNKS.get(name)((1, 33, 32))
    second.load_state_dict(first.state_dict())
    frames = th.rand(2, 1, 33, 32)
    assert th.equal(first(frames), second(frames))


@pytest.mark.parametrize("name", FOR_IMAGES_ALONE)
@pytest.mark.parametrize("shape", [(1, 31, 64), (1, 64, 31), (3, 8, 8)])
def test_an_image_below_32_pixels_is_refused_with_a_way_out(name, shape):
    with pytest.raises(ValueError) as raised:
        TRUNKS.get(name)(shape)
    wanted = [repr(name), f"{shape[1]}x{shape[2]}", f"{SMALLEST_IMAGE}x{SMALLEST_IMAGE}", "resize", "trunk='mlp'"]
    assert all(part in str(raised.value) for part in wanted)


@pytest.mark.parametrize("name", FOR_IMAGES_ALONE)
def test_a_vector_is_refused_with_a_way_out(name):
    with pytest.raises(ValueError, match=rf"trunk '{name}' needs an image, not .*\(17,\); use trunk='mlp'"):
        TRUNKS.get(name)((17,))


# ---------------------------------------------------------------------- the published networks


@pytest.mark.parametrize("shape", [(4, 84, 84), (1, 36, 36), (3, 37, 50)])
def test_nature_is_the_network_of_sb3_to_the_bit(shape):
    theirs = NatureCNN(spaces.Box(0, 255, shape, np.uint8), features_dim=512)
    ours = Encoder(ArraySpec("x", shape), 20, "nature", {}, "identity", {})
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    frames = th.rand(3, *shape)
    assert th.equal(ours(frames).mean, theirs(frames))
    assert ours(frames).log_var is None and ours.latent_dim == 512


@pytest.mark.parametrize(("cls", "smallest"), [(NatureTrunk, 36), (SlacTrunk, 64), (DreamerTrunk, 64)])
@pytest.mark.parametrize("shape", [(1, 32, 32), (2, 33, 128), (1, 128, 35)])
def test_small_images_are_padded_with_zeros(cls, smallest, shape):
    trunk, frames = cls(shape), th.rand(2, *shape)
    top, left = (max(0, smallest - side) // 2 for side in shape[1:])
    padded = th.zeros(2, shape[0], *(max(smallest, side) for side in shape[1:]))
    padded[:, :, top : top + shape[1], left : left + shape[2]] = frames
    convolutions = nn.Sequential(*(part for part in trunk.convolutions if not isinstance(part, nn.ZeroPad2d)))
    th.testing.assert_close(trunk(frames), trunk.linear(convolutions(padded)))


def test_seed84_is_table_1():
    trunk = Seed84Trunk((1, 84, 84))
    decoder = trunk.make_decoder(20)
    hidden, sizes = th.rand(1, 1, 84, 84), []
    for module in trunk.convolutions:
        hidden = module(hidden)
        if isinstance(module, nn.Conv2d):
            sizes.append(tuple(hidden.shape[1:]))
    hidden = th.rand(1, 20)
    for module in decoder:
        hidden = module(hidden)
        if isinstance(module, nn.ConvTranspose2d | nn.Unflatten):
            sizes.append(tuple(hidden.shape[1:]))
    assert sizes == [(32, 42, 42), (64, 21, 21), (64, 21, 21), (32, 42, 42), (1, 84, 84)]
    convolutions = modules_of(trunk, nn.Conv2d) + modules_of(decoder, nn.ConvTranspose2d)
    assert {(part.kernel_size, part.stride) for part in convolutions} == {((4, 4), (2, 2))}
    assert trunk.out_dim == 512


def test_seed84_has_as_many_parameters_as_table_1():
    trunk = Seed84Trunk((1, 84, 84))
    encoder = (1 * 32 * 16 + 32) + (32 * 64 * 16 + 64) + (64 * 21 * 21 * 512 + 512)
    decoder = (20 * 512 + 512) + (512 * 64 * 21 * 21 + 64 * 21 * 21) + (64 * 32 * 16 + 32) + (32 * 1 * 16 + 1)
    assert n_parameters(trunk) == encoder == 14_484_576
    assert n_parameters(trunk.make_decoder(20)) == decoder == 14_522_977


def network_of_sac_ae(latent_dim):
    """encoder.py and decoder.py of SAC+AE for 9x84x84, typed anew: convolutions, first linear layer, decoder."""
    convolutions = nn.Sequential(nn.Conv2d(9, 32, 3, stride=2), nn.ReLU())
    for _ in range(3):
        convolutions.extend([nn.Conv2d(32, 32, 3), nn.ReLU()])
    decoder = nn.Sequential(nn.Linear(latent_dim, 32 * 35 * 35), nn.ReLU(), nn.Unflatten(1, (32, 35, 35)))
    for _ in range(3):
        decoder.extend([nn.ConvTranspose2d(32, 32, 3), nn.ReLU()])
    decoder.append(nn.ConvTranspose2d(32, 9, 3, stride=2, output_padding=1))
    return nn.Sequential(convolutions, nn.Flatten()), nn.Linear(32 * 35 * 35, latent_dim), decoder


def test_dmc_is_the_network_of_sac_ae_and_its_gradients():
    convolutions, linear, decoder = network_of_sac_ae(5)
    trunk = DmcTrunk((9, 84, 84))
    mirror = trunk.make_decoder(5)
    for ours, theirs in ((trunk, convolutions), (mirror, decoder)):
        ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    frames, z = th.rand(2, 9, 84, 84), th.randn(2, 5)
    assert trunk.out_dim == 39_200
    for ours, theirs, inputs in ((trunk, convolutions, frames), (mirror, decoder, z)):
        th.testing.assert_close(ours(inputs), theirs(inputs), rtol=1e-5, atol=1e-6)
    losses = [linear(part(frames)).square().sum() for part in (trunk, convolutions)]
    losses[0] += (mirror(z) - frames).square().sum()
    losses[1] += (decoder(z) - frames).square().sum()
    for loss in losses:
        loss.backward()
    for ours, theirs in ((trunk, convolutions), (mirror, decoder)):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            th.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5 * b.grad.abs().max().item())


def test_dmc_has_as_many_parameters_as_sac_ae():
    encoder = Encoder(ArraySpec("x", (9, 84, 84)), 50, "dmc", {}, "layer_norm_tanh", {})
    convolutions = (9 * 32 * 9 + 32) + 3 * (32 * 32 * 9 + 32)
    assert n_parameters(encoder) == convolutions + (39_200 * 50 + 50) + 2 * 50 == 1_990_518
    decoder = (50 * 39_200 + 39_200) + 3 * (32 * 32 * 9 + 32) + (32 * 9 * 9 + 9)
    assert n_parameters(encoder.trunk.make_decoder(50)) == decoder == 2_029_545


def same(trunk):
    return trunk


def reloaded(trunk):
    fresh = type(trunk)(trunk.frame_shape)
    fresh.load_state_dict(trunk.state_dict())
    return fresh


@pytest.mark.parametrize("cls", [DmcTrunk, SlacTrunk, DreamerTrunk])
@pytest.mark.parametrize("copied", [same, copy.deepcopy, lambda trunk: pickle.loads(pickle.dumps(trunk)), reloaded])
def test_convolutions_are_channels_last_and_take_either_layout(cls, copied):
    trunk = copied(cls((4, 40, 36)))
    formats = []
    for convolution in modules_of(trunk, nn.Conv2d):
        assert convolution.weight.is_contiguous()  # as SB3's parameters_to_vector needs it
        convolution.register_forward_hook(
            lambda _, inputs, output: formats.extend(
                x.is_contiguous(memory_format=th.channels_last) for x in (*inputs, output)
            )
        )
    frames = th.rand(2, 4, 40, 36)
    features = trunk(frames)
    assert th.equal(features, trunk(frames.contiguous(memory_format=th.channels_last)))
    assert formats == [True] * 4 * len(modules_of(trunk, nn.Conv2d)) and features.is_contiguous()


@given(sides, sides)
@settings(max_examples=25)
@example(32, 128)
@example(33, 33)
def test_dmc_has_at_most_as_many_layers_as_leave_a_pixel(height, width):
    with th.device("meta"):
        most = 1
        while min(DmcTrunk((1, height, width), n_layers=most).shapes[-1]) > 2:
            most += 1
        with pytest.raises(
            ValueError, match=f"n_layers={most + 1} leave nothing of a {height}x{width} image; use at most {most}"
        ):
            DmcTrunk((1, height, width), n_layers=most + 1)


@pytest.mark.parametrize(
    ("cls", "name"), [(DmcTrunk, "n_layers"), (DmcTrunk, "channels"), (SlacTrunk, "depth"), (DreamerTrunk, "depth")]
)
def test_layers_and_channels_are_whole_numbers(cls, name):
    with pytest.raises(ValueError, match=f"{name}=0 must be an integer of at least 1"):
        cls((1, 40, 40), **{name: 0})


@pytest.mark.parametrize("smallest", [0, 36])
def test_without_a_linear_layer_the_features_are_the_last_feature_map(smallest):
    trunk = ConvTrunk((2, 32, 33), (ConvLayer(3, 4, 2, 1), ConvLayer(5, 3, 1)), None, smallest)
    frames = th.rand(2, 2, 32, 33)
    assert th.equal(trunk(frames), trunk.convolutions(frames)) and not modules_of(trunk, nn.Linear)
    decoder = trunk.make_decoder(7)
    assert [(part.in_features, part.out_features) for part in modules_of(decoder, nn.Linear)] == [(7, trunk.out_dim)]
    assert decoder(th.rand(2, 7)).shape == frames.shape


def network_of_slac(latent_dim, c=32):
    """Compressor and Decoder of SLAC for 3x64x64, typed anew, with symmetric padding."""
    encoder = nn.Sequential(
        *(nn.Conv2d(3, c, 5, 2, 2), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(c, 2 * c, 3, 2, 1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(2 * c, 4 * c, 3, 2, 1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(4 * c, 8 * c, 3, 2, 1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(8 * c, 8 * c, 4), nn.LeakyReLU(0.2), nn.Flatten()),
    )
    decoder = nn.Sequential(
        nn.Unflatten(1, (latent_dim, 1, 1)),
        *(nn.ConvTranspose2d(latent_dim, 8 * c, 4), nn.LeakyReLU(0.2)),
        *(nn.ConvTranspose2d(8 * c, 4 * c, 3, 2, 1, 1), nn.LeakyReLU(0.2)),
        *(nn.ConvTranspose2d(4 * c, 2 * c, 3, 2, 1, 1), nn.LeakyReLU(0.2)),
        *(nn.ConvTranspose2d(2 * c, c, 3, 2, 1, 1), nn.LeakyReLU(0.2)),
        *(nn.ConvTranspose2d(c, 3, 5, 2, 2, 1), nn.LeakyReLU(0.2)),
    )
    return encoder, decoder


def network_of_dreamer(latent_dim, c=32):
    """ConvEncoder and ConvDecoder of Dreamer for 3x64x64, typed anew."""
    encoder = nn.Sequential(
        *(nn.Conv2d(3, c, 4, 2), nn.ReLU()),
        *(nn.Conv2d(c, 2 * c, 4, 2), nn.ReLU()),
        *(nn.Conv2d(2 * c, 4 * c, 4, 2), nn.ReLU()),
        *(nn.Conv2d(4 * c, 8 * c, 4, 2), nn.ReLU(), nn.Flatten()),
    )
    decoder = nn.Sequential(
        *(nn.Linear(latent_dim, 32 * c), nn.Unflatten(1, (32 * c, 1, 1))),
        *(nn.ConvTranspose2d(32 * c, 4 * c, 5, 2), nn.ReLU()),
        *(nn.ConvTranspose2d(4 * c, 2 * c, 5, 2), nn.ReLU()),
        *(nn.ConvTranspose2d(2 * c, c, 6, 2), nn.ReLU()),
        nn.ConvTranspose2d(c, 3, 6, 2),
    )
    return encoder, decoder


@pytest.mark.parametrize("depth", [{}, {"depth": 6}])
@pytest.mark.parametrize(
    ("cls", "network", "n_features"), [(SlacTrunk, network_of_slac, 8), (DreamerTrunk, network_of_dreamer, 32)]
)
def test_world_model_trunks_are_the_published_networks_and_their_gradients(cls, network, n_features, depth):
    trunk = cls((3, 64, 64), **depth)
    published = network(7, *depth.values())
    assert trunk.out_dim == n_features * depth.get("depth", 32)
    for ours, theirs, inputs in zip(
        (trunk, trunk.make_decoder(7)), published, (th.rand(2, 3, 64, 64), th.randn(2, 7)), strict=True
    ):
        ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
        outputs = [module(inputs) for module in (ours, theirs)]
        th.testing.assert_close(*outputs, rtol=1e-5, atol=1e-6)
        for output in outputs:
            output.sin().sum().backward()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            th.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5 * b.grad.abs().max().item())


def test_slac_has_as_many_parameters_as_published():
    convolutions = (3 * 32 * 25 + 32) + (32 * 64 * 9 + 64) + (64 * 128 * 9 + 128) + (128 * 256 * 9 + 256)
    assert n_parameters(SlacTrunk((3, 64, 64))) == convolutions + (256 * 256 * 16 + 256) == 1_438_784
    mirrored = (256 * 128 * 9 + 128) + (128 * 64 * 9 + 64) + (64 * 32 * 9 + 32) + (32 * 3 * 25 + 3)
    assert n_parameters(SlacTrunk((3, 64, 64)).make_decoder(288)) == (288 * 256 * 16 + 256) + mirrored == 1_569_603


def test_dreamer_has_as_many_parameters_as_published():
    convolutions = (3 * 32 * 16 + 32) + (32 * 64 * 16 + 64) + (64 * 128 * 16 + 128) + (128 * 256 * 16 + 256)
    assert n_parameters(DreamerTrunk((3, 64, 64))) == convolutions == 690_144
    mirrored = (1024 * 128 * 25 + 128) + (128 * 64 * 25 + 64) + (64 * 32 * 36 + 32) + (32 * 3 * 36 + 3)
    assert n_parameters(DreamerTrunk((3, 64, 64)).make_decoder(230)) == (230 * 1024 + 1024) + mirrored == 3_795_555


def test_larger_images_give_slac_more_features_and_a_larger_first_kernel():
    trunk = SlacTrunk((1, 128, 70), depth=2)
    assert trunk.out_dim == 16 * 5 * 2
    (first,) = modules_of(trunk.make_decoder(3), PointConvTranspose2d)
    assert first.kernel_size == (8, 5)


@pytest.mark.parametrize(("side", "pixels"), [(32, 1), (64, 1), (65, 2), (80, 2), (81, 3), (128, 5)])
def test_the_decoder_of_dreamer_starts_from_one_pixel_more_for_each_16(side, pixels):
    decoder = DreamerTrunk((2, side, 64), depth=2).make_decoder(3)
    (start,) = modules_of(decoder, nn.Unflatten)
    assert tuple(start.unflattened_size) == (64, pixels, 1)
    whole = decoder[:-1] if isinstance(decoder[-1], nn.ZeroPad2d) else decoder
    z, top = th.randn(2, 3), (16 * pixels + 48 - side) // 2
    assert whole(z).shape == (2, 2, 16 * pixels + 48, 64)
    assert th.equal(decoder(z), whole(z)[:, :, top : top + side])


@pytest.mark.parametrize("cls", [SlacTrunk, DreamerTrunk])
@pytest.mark.parametrize(("height", "width"), [(33, 64), (64, 79), (81, 65), (127, 48)])
def test_every_pixel_of_a_decoded_image_depends_on_the_latent(cls, height, width):
    images = cls((1, height, width), depth=4).make_decoder(3)(th.randn(32, 3))
    assert (images.std(0) > 0).all()


@pytest.mark.parametrize("cls", [SlacTrunk, DreamerTrunk])
@pytest.mark.parametrize("side", [40, 64, 80])
def test_the_decoders_of_world_models_are_channels_last_behind_the_first_layer(cls, side):
    decoder, formats = cls((2, side, 64), depth=2).make_decoder(3), []
    for layer in modules_of(decoder, nn.ConvTranspose2d):
        assert layer.weight.is_contiguous()
        layer.register_forward_pre_hook(
            lambda _, inputs: formats.append(inputs[0].is_contiguous(memory_format=th.channels_last))
        )
    decoder(th.randn(2, 3))
    assert formats[1:] == [True] * (len(formats) - 1)


def test_impala_halves_the_size_three_times():
    trunk, hidden = ImpalaTrunk((3, 64, 64)), th.rand(1, 3, 64, 64)
    sizes = []
    for stage in trunk.stages:
        hidden = stage(hidden)
        sizes.append(tuple(hidden.shape[1:]))
    assert sizes == [(16, 32, 32), (32, 16, 16), (32, 8, 8)]
    linear = modules_of(trunk.linear, nn.Linear)
    assert [(part.in_features, part.out_features) for part in linear] == [(2048, 256)]
    stages = [(3 * 9 * 16 + 16) + 4 * (16 * 9 * 16 + 16), (16 * 9 * 32 + 32) + 4 * (32 * 9 * 32 + 32)]
    last = (32 * 9 * 32 + 32) * 5
    assert n_parameters(trunk) == sum(stages) + last + 2048 * 256 + 256


def test_impala_blocks_add_to_their_input():
    block = ImpalaTrunk((3, 32, 32)).stages[0][2]
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    inputs = th.randn(2, 16, 5, 5)
    assert th.equal(block(inputs), inputs)


@pytest.mark.parametrize("shape", [(7,), (2, 5, 6)])
@pytest.mark.parametrize("net_arch", [(9,), [16, 8]])
def test_mlp_takes_and_mirrors_anything(shape, net_arch):
    trunk = MlpTrunk(shape, net_arch=net_arch)
    widths = [int(np.prod(shape)), *net_arch]
    mirrored = [3, *net_arch[::-1], int(np.prod(shape))]
    decoder = trunk.make_decoder(3)
    for part, expected in ((trunk, widths), (decoder, mirrored)):
        sizes = [(layer.in_features, layer.out_features) for layer in modules_of(part, nn.Linear)]
        assert sizes == list(pairwise(expected))
    assert trunk(th.rand(2, *shape)).shape == (2, net_arch[-1])
    assert decoder(th.rand(2, 3)).shape == (2, *shape)


@pytest.mark.parametrize("shape", [(7,), (2, 5, 6)])
def test_flatten_is_the_frame_itself(shape):
    trunk, frames, z = FlattenTrunk(shape), th.rand(3, *shape), th.randn(3, 4)
    assert th.equal(trunk(frames), frames.reshape(3, -1)) and not list(trunk.parameters())
    decoder = trunk.make_decoder(4)
    (linear,) = modules_of(decoder, nn.Linear)
    th.testing.assert_close(decoder(z), (z @ linear.weight.T + linear.bias).reshape(frames.shape))


def test_mlp_without_layers_is_refused():
    with pytest.raises(ValueError, match="net_arch is empty"):
        MlpTrunk((4,), net_arch=())


@pytest.mark.parametrize("cls", [NatureTrunk, Seed84Trunk, ImpalaTrunk])
def test_the_width_of_the_linear_layer_is_a_setting(cls):
    trunk = cls((1, 36, 36), hidden_dim=24)
    assert trunk(th.rand(1, 1, 36, 36)).shape == (1, 24)
    assert trunk.make_decoder(5)(th.rand(1, 5)).shape == (1, 1, 36, 36)


@pytest.mark.parametrize(("kernel_size", "stride", "output_padding"), [(8, 4, 0), (8, 4, 3), (6, 3, 1), (3, 3, 0), (12, 4, 2)])
def test_a_subpixel_convolution_is_the_transposed_convolution_of_its_weights(kernel_size, stride, output_padding):
    fast = SubpixelConvTranspose2d(3, 2, kernel_size, stride, output_padding=output_padding).double()
    slow = nn.ConvTranspose2d(3, 2, kernel_size, stride, output_padding=output_padding).double()
    slow.load_state_dict(fast.state_dict())
    images = th.randn(4, 3, 5, 7, dtype=th.float64)
    outputs = [layer(images) for layer in (fast, slow)]
    th.testing.assert_close(*outputs)
    gradients = [
        th.autograd.grad(output.sin().sum(), layer.parameters()) for output, layer in zip(outputs, (fast, slow), strict=True)
    ]
    th.testing.assert_close(*gradients)


@pytest.mark.parametrize("kernel_size", [1, 4, (5, 3)])
def test_a_point_convolution_is_the_transposed_convolution_of_its_weights(kernel_size):
    fast, slow = (cls(6, 2, kernel_size, stride=2).double() for cls in (PointConvTranspose2d, nn.ConvTranspose2d))
    slow.load_state_dict(fast.state_dict())
    pixels = th.randn(4, 6, 1, 1, dtype=th.float64, requires_grad=True)
    outputs = [layer(pixels) for layer in (fast, slow)]
    th.testing.assert_close(*outputs)
    gradients = [
        th.autograd.grad(output.sin().sum(), [pixels, *layer.parameters()])
        for output, layer in zip(outputs, (fast, slow), strict=True)
    ]
    th.testing.assert_close(*gradients)
