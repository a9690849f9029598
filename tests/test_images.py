"""What an observation is, and that folding frames loses and mixes nothing."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, preprocess_obs

from sb3_latent.images import MAX_CHANNELS, ArraySpec, array_specs


def image(*shape):
    return spaces.Box(0, 255, shape, np.uint8)


def vector(n):
    return spaces.Box(-np.inf, np.inf, (n,), np.float32)


def spec_of(space, per_frame=False, n_frames=None):
    return array_specs(space, per_frame, n_frames)["observation"]


sides = st.integers(32, 128)


@given(st.integers(1, MAX_CHANNELS), sides, sides, st.booleans())
def test_channels_are_told_from_sides(channels, height, width, channels_last):
    shape = (height, width, channels) if channels_last else (channels, height, width)
    spec = spec_of(image(*shape))
    assert spec == ArraySpec("observation", (channels, height, width), 1, channels_last)
    assert spec.is_image and spec.n_features == channels * height * width


@pytest.mark.parametrize(
    ("channels", "n_frames", "frame_channels", "count"),
    [(1, None, 1, 1), (4, None, 1, 4), (4, 2, 2, 2), (3, 1, 3, 1), (9, 3, 3, 3), (12, 12, 1, 12), (12, 4, 3, 4)],
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_stack_is_divided_into_frames(channels, n_frames, frame_channels, count, channels_last):
    shape = (40, 50, channels) if channels_last else (channels, 40, 50)
    spec = spec_of(image(*shape), per_frame=True, n_frames=n_frames)
    assert (spec.frame_shape, spec.n_frames) == ((frame_channels, 40, 50), count)


def test_a_stack_of_vectors_is_divided_too():
    assert spec_of(vector(12), per_frame=True, n_frames=3).frame_shape == (4,)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_fold_gives_each_frame_by_itself_and_unfold_takes_it_back(n_frames, channels, batch, channels_last):
    spec = ArraySpec("x", (channels, 5, 4), n_frames, channels_last)
    stacked = th.rand(batch, n_frames * channels, 5, 4)
    array = stacked.permute(0, 2, 3, 1) if channels_last else stacked
    frames = spec.fold(array)
    for row in range(batch):
        for frame in range(n_frames):
            wanted = stacked[row, frame * channels : (frame + 1) * channels]
            assert th.equal(frames[row * n_frames + frame], wanted)
    assert th.equal(spec.unfold(frames), array)


def test_colour_frames_stay_whole():
    red, green = th.tensor([1.0, 0, 0]), th.tensor([0, 1.0, 0])
    stack = th.cat([red, green])[None, :, None, None].expand(1, 6, 2, 2)
    frames = ArraySpec("x", (3, 2, 2), 2).fold(stack)
    assert th.equal(frames[:, :, 0, 0], th.stack([red, green]))


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(5), spaces.MultiDiscrete([3, 4]), spaces.MultiBinary(6), vector(7)],
    ids=lambda space: type(space).__name__,
)
def test_vectors_are_as_long_as_sb3_makes_them(space):
    spec = spec_of(space)
    observation = preprocess_obs(th.as_tensor(np.array([space.sample()])), space)
    assert spec.frame_shape == (get_flattened_obs_dim(space),)
    assert spec.fold(observation).shape == (1, *spec.frame_shape)


def test_a_dict_has_a_spec_for_each_key():
    specs = array_specs(spaces.Dict(camera=image(4, 36, 40), map=image(50, 60, 2), speed=vector(3)), True, None)
    assert {name: (spec.name, spec.frame_shape, spec.n_frames) for name, spec in specs.items()} == {
        "camera": ("camera", (1, 36, 40), 4),
        "map": ("map", (1, 50, 60), 2),
        "speed": ("speed", (3,), 1),
    }


def test_n_frames_divides_every_key_as_a_frame_stack_stacks_every_key():
    specs = array_specs(spaces.Dict(camera=image(12, 36, 36), speed=vector(8)), True, 4)
    assert {name: (spec.frame_shape, spec.n_frames) for name, spec in specs.items()} == {
        "camera": ((3, 36, 36), 4),
        "speed": ((2,), 4),
    }


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0])
def test_pixels_outside_0_and_1_are_refused(value):
    pixels = th.rand(2, 1, 36, 36)
    pixels[1, 0, 3, 4] = value
    with pytest.raises(ValueError, match=r"'camera': pixels reach .* must lie in \[0, 1\].*normalize_images=True"):
        ArraySpec("camera", (1, 36, 36)).check_pixels(pixels)


def test_pixels_of_0_and_1_and_any_vector_pass():
    ArraySpec("camera", (1, 1, 2)).check_pixels(th.tensor([[[[0.0, 1.0]]]]))
    ArraySpec("speed", (2,)).check_pixels(th.tensor([[-300.0, 300.0]]))
