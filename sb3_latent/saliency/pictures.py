"""Frames as pictures."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space_channels_first

Scalar = TypeVar("Scalar", bound=np.generic)


def newest_frame(image: npt.NDArray[Scalar], n_channels: int | None = None) -> npt.NDArray[Scalar]:
    """
    Cut the newest frame out of a stack.

    :param image: see :func:`frames_of`.
    :param n_channels: see :func:`frames_of`.
    :return: (H, W, n_channels).
    :raises ValueError: if ``n_channels`` is neither 1 nor 3 or does not divide the channels.
    """
    return frames_of(image, n_channels)[-1]


def frames_of(image: npt.NDArray[Scalar], n_channels: int | None = None) -> list[npt.NDArray[Scalar]]:
    """
    Cut a stack into its frames, oldest first; ``VecFrameStack`` puts the newest last.

    :param image: (C, H, W) or (H, W, C), pixels or their saliency; the smallest axis is the channel, as in SB3. A window
        (T, C, H, W) has T frames.
    :param n_channels: channels of one frame, 1 or 3. Default: 3 where the channels are a multiple of three, else 1. A window
        says them itself.
    :return: (H, W, n_channels) each.
    :raises ValueError: if ``n_channels`` is neither 1 nor 3 or does not divide the channels.
    """
    if image.ndim == 4:
        return list(np.moveaxis(image, 1, -1))
    channels_first = is_image_space_channels_first(spaces.Box(-np.inf, np.inf, image.shape))
    channels_last = np.moveaxis(image, 0, -1) if channels_first else image
    total = channels_last.shape[-1]
    return np.split(channels_last, total // frame_channels(total, n_channels), axis=-1)


def frame_channels(total: int, n_channels: int | None = None) -> int:
    """
    :param total: channels of a stack of frames.
    :param n_channels: see :func:`newest_frame`.
    :return: channels of one frame.
    :raises ValueError: if ``n_channels`` is neither 1 nor 3 or does not divide the channels.
    """
    if n_channels is None:
        return 3 if total % 3 == 0 else 1
    if n_channels not in (1, 3) or total % n_channels:
        raise ValueError(f"n_channels={n_channels} must be 1 (grey) or 3 (RGB) and divide the {total} channels of the stack.")
    return n_channels


def to_uint8(frame: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """
    Make a frame drawable.

    :param frame: uint8 pixels, or floats: those within [0, 1] are multiplied by 255, others (``VecNormalize``) stretched
        from their smallest to their largest value.
    :return: the same shape, 0 to 255.
    """
    if frame.dtype == np.uint8:
        return frame.astype(np.uint8)
    pixels = frame.astype(np.float64)
    low, high = pixels.min(), pixels.max()
    if low < 0 or high > 1:
        pixels = (pixels - low) / max(high - low, np.finfo(np.float64).tiny)
    return np.rint(255 * pixels).astype(np.uint8)


def newest_pictures(images: th.Tensor, n_channels: int | None = None) -> list[npt.NDArray[np.uint8]]:
    """
    :param images: (B, C, H, W) or (B, H, W, C), preprocessed or reconstructed; values beyond [0, 1] are cut off.
    :param n_channels: see :func:`newest_frame`.
    :return: the newest frame of each.
    """
    arrays = images.detach().clamp(0, 1).cpu().numpy()
    return [to_uint8(newest_frame(image, n_channels)) for image in arrays]
