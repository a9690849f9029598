"""Frames as pictures."""

import numpy as np
import pytest

from sb3_latent.saliency import frames_of, newest_frame, to_uint8


def test_newest_frame_is_the_last_of_the_stack():
    grey = np.arange(4 * 36 * 30).reshape(4, 36, 30)
    np.testing.assert_array_equal(newest_frame(grey), grey[3, :, :, None])
    np.testing.assert_array_equal(newest_frame(np.moveaxis(grey, 0, -1)), grey[3, :, :, None])
    colour = np.arange(6 * 36 * 30).reshape(6, 36, 30)
    np.testing.assert_array_equal(newest_frame(colour), np.moveaxis(colour[3:], 0, -1))
    np.testing.assert_array_equal(newest_frame(colour, n_channels=1), colour[5, :, :, None])


def test_frames_of_a_stack_come_oldest_first():
    grey = np.arange(4 * 36 * 30).reshape(4, 36, 30)
    np.testing.assert_array_equal(np.stack(frames_of(grey)), grey[..., None])
    np.testing.assert_array_equal(np.stack(frames_of(np.moveaxis(grey, 0, -1))), grey[..., None])
    window = np.arange(4 * 3 * 36 * 30).reshape(4, 3, 36, 30)
    for frames in (frames_of(window), frames_of(window.reshape(12, 36, 30)), frames_of(window.reshape(12, 36, 30), 3)):
        np.testing.assert_array_equal(np.stack(frames), window.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("n_channels", [0, 2, 3])
def test_newest_frame_rejects_channels_that_do_not_fit(n_channels):
    with pytest.raises(ValueError, match=f"n_channels={n_channels} must be 1 .* divide the 4 channels"):
        newest_frame(np.zeros((4, 36, 36)), n_channels)


def test_to_uint8():
    np.testing.assert_array_equal(to_uint8(np.array([0.0, 0.5, 1.0])), [0, 128, 255])
    np.testing.assert_array_equal(to_uint8(np.array([-10.0, 0.0, 10.0], np.float32)), [0, 128, 255])
    np.testing.assert_array_equal(to_uint8(np.full(2, 7.0)), [0, 0])
    pixels = np.array([3, 200], np.uint8)
    np.testing.assert_array_equal(to_uint8(pixels), pixels)
