"""What one array of an observation is: an image or a vector, of how many frames, and whether its pixels can be trusted."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space_channels_first

from sb3_latent.checks import whole_number

MAX_CHANNELS = 12


@dataclass(frozen=True)
class ArraySpec:
    """
    One array of an observation as the encoder sees it: ``n_frames`` frames of ``frame_shape``, after SB3's preprocessing.

    :param name: key in a Dict observation; ``"observation"`` where the observation is a single array.
    :param frame_shape: (C, H, W) of an image frame in [0, 1], or (n,) of a vector.
    :param n_frames: how many frames are encoded one at a time; 1 encodes the array as a whole.
    :param channels_last: the array arrives as (B, H, W, C).
    """

    name: str
    frame_shape: tuple[int, ...]
    n_frames: int = 1
    channels_last: bool = False

    @property
    def is_image(self) -> bool:
        """:return: whether a frame is (C, H, W)."""
        return len(self.frame_shape) == 3

    @property
    def shape(self) -> tuple[int, ...]:
        """:return: shape of the array of one observation."""
        first, *rest = self.frame_shape
        stacked = self.n_frames * first
        return (*rest, stacked) if self.channels_last else (stacked, *rest)

    @property
    def n_features(self) -> int:
        """:return: number of values in one frame: pixels times channels, or the length of the vector."""
        return int(np.prod(self.frame_shape))

    def fold(self, array: th.Tensor) -> th.Tensor:
        """
        :param array: (B, n_frames * C, H, W), (B, H, W, n_frames * C) or (B, n_frames * n).
        :return: (B * n_frames, *frame_shape), the frames of one observation side by side.
        :raises ValueError: if it is no batch of such observations.
        """
        if not self.is_image:
            array = array.flatten(1)
        if tuple(array.shape[1:]) != self.shape:
            raise ValueError(f"{self.name!r}: got {tuple(array.shape)}, not a batch of arrays of shape {self.shape}.")
        if self.channels_last:
            array = array.movedim(-1, 1)
        return array.reshape(-1, *self.frame_shape)

    def unfold(self, frames: th.Tensor) -> th.Tensor:
        """
        The inverse of :meth:`fold`.

        :param frames: (B * n_frames, *frame_shape).
        :return: an array in the shape of the observation.
        """
        first, *rest = self.frame_shape
        array = frames.reshape(-1, self.n_frames * first, *rest)
        return array.movedim(1, -1) if self.channels_last else array

    def check_pixels(self, array: th.Tensor) -> None:
        """
        Reject pixels that SB3 did not scale; it divides by 255 only where the Box says 0 and 255.

        :param array: a batch of observations.
        :raises ValueError: if an image leaves [0, 1].
        """
        if not self.is_image:
            return
        low, high = array.min().item(), array.max().item()
        if not (low >= -1e-6 and high <= 1 + 1e-6):
            raise ValueError(
                f"{self.name!r}: pixels reach [{low:g}, {high:g}] but must lie in [0, 1]: use uint8 images with bounds "
                "0 and 255 and leave normalize_images=True, or scale float images yourself."
            )


def array_specs(space: spaces.Space[Any], per_frame: bool, n_frames: int | None) -> dict[str, ArraySpec]:
    """
    Look at an observation space and say what there is to encode.

    :param space: the observation space of the policy, as SB3 hands it to a features extractor.
    :param per_frame: encode every frame of a stack on its own (seed document 000, figure 2).
    :param n_frames: frames in a stack; None takes every channel of an image for one grey frame.
    :return: a spec for each key; the one key is ``"observation"`` where the space is no Dict.
    :raises ValueError: if an image cannot be encoded or a stack is not divided by ``n_frames``.
    """
    if not per_frame and n_frames is not None:
        raise ValueError(f"n_frames={n_frames} means nothing with per_frame=False; drop it or pass per_frame=True.")
    if n_frames is not None:
        n_frames = whole_number("n_frames", n_frames)
    arrays = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
    specs = {name: _array_spec(name, array, per_frame, n_frames) for name, array in arrays.items()}
    if per_frame and n_frames is None and not any(spec.is_image for spec in specs.values()):
        raise ValueError("per_frame=True cannot tell the frames of a vector apart; pass n_frames.")
    return specs


def _array_spec(name: str, space: spaces.Space[Any], per_frame: bool, n_frames: int | None) -> ArraySpec:
    if isinstance(space, spaces.Box) and len(space.shape) == 3:
        _check_bounds(name, space)
        channels_last = not is_image_space_channels_first(space)
        height_width_channels = space.shape if channels_last else (*space.shape[1:], space.shape[0])
        height, width, channels = height_width_channels
        if channels > MAX_CHANNELS:
            raise ValueError(f"{name!r}: shape {space.shape} has no axis of 1 to {MAX_CHANNELS} channels; stack fewer frames.")
        count = _stack_length(name, channels, n_frames) if per_frame else 1
        return ArraySpec(name, (channels // count, height, width), count, channels_last)
    if isinstance(space, spaces.Box) and len(space.shape) != 1:
        raise ValueError(
            f"{name!r}: shape {space.shape} is neither an image (3 axes) nor a vector (1 axis); "
            "stack frames along the channels (VecFrameStack), or flatten."
        )
    length = int(get_flattened_obs_dim(space))
    count = 1
    if per_frame and n_frames is not None and isinstance(space, spaces.Box):
        count = _divided(name, length, n_frames)
    return ArraySpec(name, (length // count,), count)


def _stack_length(name: str, channels: int, n_frames: int | None) -> int:
    if n_frames is not None:
        return _divided(name, channels, n_frames)
    if channels % 3 == 0:
        raise ValueError(
            f"{name!r}: {channels} channels may be {channels // 3} colour or {channels} grey frames; "
            f"pass n_frames={channels // 3} or n_frames={channels}."
        )
    return channels


def _divided(name: str, length: int, n_frames: int) -> int:
    if length % n_frames:
        raise ValueError(f"{name!r}: n_frames={n_frames} does not divide the {length} stacked channels; pass a divisor.")
    return n_frames


def _check_bounds(name: str, space: spaces.Box) -> None:
    low, high = float(space.low.min()), float(space.high.max())
    if space.dtype == np.uint8:
        if not (np.all(space.low == 0) and np.all(space.high == 255)):
            raise ValueError(
                f"{name!r}: uint8 image with bounds [{low:g}, {high:g}]; SB3 scales images only where every bound is "
                "exactly 0 and 255: declare Box(0, 255, shape, np.uint8)."
            )
    elif not np.issubdtype(space.dtype, np.floating):
        raise ValueError(f"{name!r}: image of dtype {space.dtype}; use uint8 with bounds 0 and 255.")
    elif low < 0 or high > 1:
        raise ValueError(
            f"{name!r}: float image with bounds [{low:g}, {high:g}]; SB3 passes it on as it is: use uint8 with bounds "
            "0 and 255, or scale it and declare Box(0, 1, shape, np.float32) (VecNormalize: norm_obs=False)."
        )
