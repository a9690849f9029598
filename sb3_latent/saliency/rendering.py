"""Saliency maps over the frames they are about, drawn as published."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import LinearSegmentedColormap
from PIL import Image

from sb3_latent.figures import PALETTE, Picture
from sb3_latent.registry import unknown
from sb3_latent.saliency.pictures import to_uint8

Map: TypeAlias = npt.NDArray[np.floating[Any]]

PERCENTILE = 99.0
"""Drawn at full strength: the authors of SmoothGrad cut off at this one (PAIR ``saliency``, ``visualization.py``)."""

_DIM, _GLOW = 0.35, 0.85
"""Shares of the frame and of the colours on top: added, so that strong colours are bright on any ground."""

SEQUENTIAL = colormaps["inferno"]
"""Perceptually uniform, black where nothing is."""

DIVERGING = LinearSegmentedColormap.from_list("sign", [PALETTE[5], "black", PALETTE[4]])
"""Black in the middle, so that both signs glow; the two are told apart with any colour vision."""


class Style(NamedTuple):
    """
    A way to draw a map over a frame.

    :param draw: of a frame, RGB from 0 to 255, and a map of the same size, in shares of what is drawn at full strength;
        returns RGB from 0 to 255, which may exceed that.
    :param legend: what the colours mean, for titles.
    :param is_signed: whether it tells negative values from positive ones; the others draw magnitudes.
    """

    draw: Callable[[Map, Map], Map]
    legend: str
    is_signed: bool = False


def render(frame: npt.NDArray[np.generic], saliency: Map, style: str = "blue", scale: float | None = None) -> Picture:
    """
    Draw a saliency map over its frame.

    - ``"blue"``: magnitudes above the mean of the map are added to the blue channel (seed document 000, figure 4).
    - ``"red"``: the frame in grey in the green and blue channels, magnitudes in the red one (Wang et al. 2016,
      arXiv:1511.06581).
    - ``"heat"``: magnitudes in matplotlib's perceptually uniform "inferno" over the frame in grey.
    - ``"signed"``: values in orange where positive, in blue where negative, over the frame in grey.

    The papers do not say how they scale. A colour frame has one value for each pixel, that of the channel with the largest
    magnitude (Simonyan et al. 2013, arXiv:1312.6034, section 3.1). A map of another size than its frame is interpolated
    bilinearly, and its sides each by their own factor: SB3's ``WarpFrame`` changes the aspect ratio of a game.

    :param frame: (H, W, 1) or (H, W, 3), see :func:`to_uint8`.
    :param saliency: (h, w) or (h, w, C).
    :param style: a name from :data:`STYLES`.
    :param scale: magnitude drawn at full strength; pass :func:`intensity` of a video, so that it does not flicker. None takes
        the largest of this map.
    :return: (H, W, 3), RGB.
    :raises ValueError: if there is no such style.
    """
    if style not in STYLES:
        raise ValueError(unknown("style", style, STYLES))
    strength = one_per_pixel(saliency)
    strength = resized(strength if STYLES[style].is_signed else np.abs(strength), *frame.shape[:2]).astype(np.float64)
    full = float(np.abs(strength).max()) if scale is None else scale
    rgb = np.broadcast_to(to_uint8(frame), (*frame.shape[:2], 3)).astype(np.float64)
    drawn = STYLES[style].draw(rgb, strength / max(full, np.finfo(np.float64).tiny))
    picture: Picture = np.rint(drawn.clip(0, 255)).astype(np.uint8)
    return picture


def intensity(maps: Map, percentile: float = PERCENTILE) -> float:
    """
    :param maps: of one video or sheet, (T, h, w) or (T, h, w, C).
    :param percentile: of the magnitudes of all pixels of all maps.
    :return: that magnitude; the largest one where more than ``percentile`` of them are zero.
    """
    magnitudes = np.abs(one_per_pixel(maps) if maps.ndim == 4 else maps)
    return float(np.percentile(magnitudes, percentile) or magnitudes.max())


def one_per_pixel(saliency: Map) -> Map:
    """
    :param saliency: (..., h, w, C), or one map (h, w), which is returned as it is.
    :return: (..., h, w), the value of the channel with the largest magnitude, with its sign.
    """
    if saliency.ndim == 2:
        return saliency
    largest = np.abs(saliency).argmax(axis=-1, keepdims=True)
    strength: Map = np.take_along_axis(saliency, largest, axis=-1)[..., 0]
    return strength


def resized(saliency: Map, height: int, width: int) -> Map:
    """
    :param saliency: (h, w).
    :param height: of the frame, in pixels.
    :param width: of the frame, in pixels.
    :return: (height, width), interpolated bilinearly between the centres of pixels.
    """
    if saliency.shape == (height, width):
        return saliency
    image = Image.fromarray(saliency.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _blue(rgb: Map, share: Map) -> Map:
    rgb[..., 2] += 255 * np.where(share > share.mean(), share, 0)
    return rgb


def _red(rgb: Map, share: Map) -> Map:
    grey = _grey(rgb)
    return np.stack([255 * share, grey, grey], axis=-1)


def _heat(rgb: Map, share: Map) -> Map:
    return _glowing(rgb, SEQUENTIAL(share))


def _signed(rgb: Map, share: Map) -> Map:
    return _glowing(rgb, DIVERGING((1 + share) / 2))


def _glowing(rgb: Map, colours: Map) -> Map:
    return _DIM * _grey(rgb)[..., None] + _GLOW * 255 * colours[..., :3]


def _grey(rgb: Map) -> Map:
    grey: Map = rgb @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as OpenCV and with it SB3's WarpFrame
    return grey


STYLES: dict[str, Style] = {
    "blue": Style(_blue, "above its mean in blue"),
    "red": Style(_red, "in red"),
    "heat": Style(_heat, "as heat"),
    "signed": Style(_signed, "orange where positive, blue where negative", is_signed=True),
}
"""The styles of :func:`render`, by name."""
