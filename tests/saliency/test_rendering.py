"""Maps over frames, in the colours that the papers say, as strong as asked."""

import numpy as np
import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch.nn import functional as F

from sb3_latent.saliency import STYLES, intensity, render

GREY = npst.arrays(np.uint8, (5, 4, 1))
COLOUR = npst.arrays(np.uint8, (5, 4, 3))
POSITIVE = npst.arrays(np.float32, (5, 4, 1), elements=st.floats(0, 1e6, width=32))
ANY = npst.arrays(np.float32, (5, 4, 1), elements=st.floats(-1e6, 1e6, width=32))
LUMA = np.array([0.299, 0.587, 0.114])


@given(frame=GREY | COLOUR, saliency=POSITIVE)
def test_blue_adds_only_above_mean_values_and_only_to_blue(frame, saliency):
    picture = render(frame, saliency)
    assert picture.dtype == np.uint8 and picture.shape == (5, 4, 3)
    rgb = np.broadcast_to(frame, picture.shape)
    np.testing.assert_array_equal(picture[..., :2], rgb[..., :2])
    exact = saliency.astype(np.float64)
    for row, column in np.ndindex(5, 4):
        value = exact[row, column, 0]
        # At the mean itself rounding decides.
        if not np.isclose(value, exact.mean(), rtol=1e-9):
            added = round(255 * value / exact.max()) if value > exact.mean() else 0
            assert abs(int(picture[row, column, 2]) - min(255, int(rgb[row, column, 2]) + added)) <= 1


@pytest.mark.parametrize("value", [0.0, 0.1, 246724.25])
def test_blue_of_a_map_that_is_the_same_everywhere_is_nothing(value):
    frame = np.full((5, 4, 1), 7, np.uint8)
    np.testing.assert_array_equal(render(frame, np.full((5, 4), value, np.float32)), np.broadcast_to(frame, (5, 4, 3)))


def test_blue_of_a_known_map():
    frame = np.full((2, 2, 1), 100, np.uint8)
    saliency = np.array([[0.0, 1.0], [3.0, 4.0]])  # mean 2
    np.testing.assert_array_equal(render(frame, saliency)[..., 2], [[100, 100], [255, 255]])
    dark = np.zeros((2, 2, 1), np.uint8)
    np.testing.assert_array_equal(render(dark, saliency)[..., 2], [[0, 0], [191, 255]])
    np.testing.assert_array_equal(render(dark, saliency * 1e-30)[..., 2], [[0, 0], [191, 255]])
    np.testing.assert_array_equal(render(dark, saliency, scale=8.0)[..., 2], [[0, 0], [96, 128]])
    np.testing.assert_array_equal(render(dark, saliency, scale=3.5)[..., 2], [[0, 0], [219, 255]])


@pytest.mark.parametrize("style", STYLES)
def test_a_colour_frame_has_the_value_of_the_channel_of_largest_magnitude(style):
    frame = np.full((1, 2, 3), 50, np.uint8)
    saliency = np.array([[[0, 2, 0], [-1, 0.5, 0.5]]], np.float32)
    np.testing.assert_array_equal(render(frame, saliency, style), render(frame, np.array([[2.0, -1.0]]), style))


@pytest.mark.parametrize("style", STYLES)
def test_a_map_of_zeros_is_drawn_as_nothing(style):
    frame = np.full((3, 2, 1), 100, np.uint8)
    picture = render(frame, np.zeros((3, 2)), style)
    expected = {"blue": [100] * 3, "red": [0, 100, 100]}.get(style, [35] * 3)
    assert np.abs(picture.astype(int) - expected).max() <= 3  # the darkest colour of "inferno" is not quite black


@given(frame=GREY | COLOUR, saliency=ANY)
def test_red_over_the_grey_frame(frame, saliency):
    picture = render(frame, saliency, "red").astype(int)
    grey = np.broadcast_to(frame, picture.shape) @ LUMA
    np.testing.assert_allclose(picture[..., 1], grey, atol=0.51)
    np.testing.assert_array_equal(picture[..., 1], picture[..., 2])
    magnitude = np.abs(saliency[..., 0].astype(np.float64))
    np.testing.assert_allclose(picture[..., 0], 255 * magnitude / max(magnitude.max(), 1e-300), atol=0.51)


def luminance(picture):
    """:return: relative luminance as sRGB defines it."""
    linear = np.where(picture / 255 <= 0.04045, picture / 255 / 12.92, ((picture / 255 + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("level", [0, 128, 255])
def test_heat_grows_brighter_with_the_map_on_any_ground(level):
    ramp = np.linspace(0, 1, 32)[None]
    heat = render(np.full((1, 32, 1), level, np.uint8), ramp, "heat")[0]
    assert (np.diff(luminance(heat)) > 0).all()
    np.testing.assert_array_equal(render(np.full((1, 32, 1), level, np.uint8), -ramp, "heat")[0], heat)


def test_signed_tells_signs_apart_and_keeps_the_middle_dark():
    frame = np.full((1, 3, 1), 100, np.uint8)
    minus, zero, plus = render(frame, np.array([[-1.0, 0.0, 1.0]]), "signed")[0].astype(int)
    assert plus[0] > plus[2] + 100 and minus[2] > minus[0] + 80
    assert zero.max() < min(plus.max(), minus.max()) - 100
    assert [name for name, style in STYLES.items() if style.is_signed] == ["signed"]


@pytest.mark.parametrize("native", [(210, 160), (84, 84), (36, 50)])
def test_a_map_is_interpolated_to_the_native_frame(native):
    saliency = np.random.default_rng(0).random((36, 30), np.float32)
    saliency[20, 10] = 5
    picture = render(np.zeros((*native, 1), np.uint8), saliency, "red", scale=5.0)[..., 0] / 51
    expected = F.interpolate(th.as_tensor(saliency)[None, None], native, mode="bilinear", antialias=True)[0, 0]
    np.testing.assert_allclose(picture, expected, atol=0.011)
    row, column = np.unravel_index(picture.argmax(), native)
    assert abs((row + 0.5) / native[0] * 36 - 20.5) < 0.5 and abs((column + 0.5) / native[1] * 30 - 10.5) < 0.5


def test_a_video_is_scaled_by_one_percentile_of_all_its_maps():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(6, 10, 8, 1)) * np.arange(1, 7)[:, None, None, None]
    scale = intensity(maps)
    assert scale == intensity(maps[..., 0]) == pytest.approx(np.quantile(np.abs(maps), 0.99))
    assert scale < np.abs(maps).max()
    frame = np.zeros((10, 8, 1), np.uint8)
    for one in maps:
        reds = render(frame, one, "red", scale)[..., 0]
        np.testing.assert_allclose(reds, (255 * np.abs(one[..., 0]) / scale).clip(max=255), atol=0.51)
    assert intensity(np.eye(40)[None] * 3) == 3  # 97.5 % are zero
    assert intensity(np.zeros((2, 3, 4))) == 0
    lone = np.zeros((4, 40, 40))
    lone[2, 5, 5] = 7
    assert intensity(lone) == 7


def test_magnitudes_are_interpolated_as_such():
    frame = np.zeros((1, 40, 1), np.uint8)
    assert (render(frame, np.array([[-1.0, 1.0, -1.0, 1.0]]), "red")[..., 0] == 255).all()
    assert render(frame, np.array([[-1.0, 1.0, -1.0, 1.0]]), "signed").sum(axis=-1).min() < 40


def test_a_wrong_style_is_refused():
    with pytest.raises(ValueError, match="unknown style 'blu'; did you mean 'blue'"):
        render(np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2)), "blu")
