"""Frames and maps as pictures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sb3_latent.saliency import newest_frame, overlay, to_uint8


def test_newest_frame_is_the_last_of_the_stack():
    grey = np.arange(4 * 36 * 30).reshape(4, 36, 30)
    np.testing.assert_array_equal(newest_frame(grey), grey[3, :, :, None])
    np.testing.assert_array_equal(newest_frame(np.moveaxis(grey, 0, -1)), grey[3, :, :, None])
    colour = np.arange(6 * 36 * 30).reshape(6, 36, 30)
    np.testing.assert_array_equal(newest_frame(colour), np.moveaxis(colour[3:], 0, -1))
    np.testing.assert_array_equal(newest_frame(colour, n_channels=1), colour[5, :, :, None])


@pytest.mark.parametrize("n_channels", [0, 2, 3])
def test_newest_frame_rejects_channels_that_do_not_fit(n_channels):
    with pytest.raises(ValueError, match=f"n_channels={n_channels} must be 1 .* divide the 4 channels"):
        newest_frame(np.zeros((4, 36, 36)), n_channels)


GREY = npst.arrays(np.uint8, (5, 4, 1))
COLOUR = npst.arrays(np.uint8, (5, 4, 3))
POSITIVE = st.floats(0, 1e6, width=32)


@given(frame=GREY | COLOUR, saliency=npst.arrays(np.float32, (5, 4, 1), elements=POSITIVE))
def test_overlay_adds_only_above_mean_values_and_only_to_blue(frame, saliency):
    picture = overlay(frame, saliency)
    assert picture.dtype == np.uint8 and picture.shape == (5, 4, 3)
    rgb = np.broadcast_to(frame, picture.shape)
    np.testing.assert_array_equal(picture[..., :2], rgb[..., :2])
    for row, column in np.ndindex(5, 4):
        value = saliency[row, column, 0]
        added = round(255 * float(value) / float(saliency.max())) if value > saliency.mean() else 0
        assert abs(int(picture[row, column, 2]) - min(255, int(rgb[row, column, 2]) + added)) <= 1


def test_overlay_of_a_known_map():
    frame = np.full((2, 2, 1), 100, np.uint8)
    saliency = np.array([[0.0, 1.0], [3.0, 4.0]])[..., None]  # mean 2
    np.testing.assert_array_equal(overlay(frame, saliency)[..., 2], [[100, 100], [255, 255]])
    dark = np.zeros((2, 2, 1), np.uint8)
    np.testing.assert_array_equal(overlay(dark, saliency)[..., 2], [[0, 0], [191, 255]])
    np.testing.assert_array_equal(overlay(dark, saliency * 1e-30)[..., 2], [[0, 0], [191, 255]])


def test_overlay_takes_the_strongest_colour_and_survives_zeros():
    frame = np.zeros((1, 2, 3), np.uint8)
    saliency = np.array([[[0, 2, 0], [1, 1, 1]]], np.float32)
    np.testing.assert_array_equal(overlay(frame, saliency)[..., 2], [[255, 0]])
    np.testing.assert_array_equal(overlay(frame, np.zeros_like(saliency)), frame)


def test_to_uint8():
    np.testing.assert_array_equal(to_uint8(np.array([0.0, 0.5, 1.0])), [0, 128, 255])
    np.testing.assert_array_equal(to_uint8(np.array([-10.0, 0.0, 10.0], np.float32)), [0, 128, 255])
    np.testing.assert_array_equal(to_uint8(np.full(2, 7.0)), [0, 0])
    pixels = np.array([3, 200], np.uint8)
    np.testing.assert_array_equal(to_uint8(pixels), pixels)
