"""Pictures as text that a page holds."""

import io
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

Item = TypeVar("Item")

_QUALITY = 75
_SMALL = 128
"""Pixels: below, a picture shows its pixels enlarged, and what WebP loses would be seen."""


@dataclass(frozen=True)
class Picture:
    """
    :param uri: the picture itself.
    :param width: in its own pixels.
    :param height: in its own pixels.
    """

    uri: str
    width: int
    height: int

    @property
    def is_small(self) -> bool:
        """:return: whether its pixels are to be seen, not smoothed."""
        return max(self.width, self.height) < _SMALL


def encoded(pixels: npt.NDArray[np.uint8] | bytes, max_width: int, max_height: int) -> Picture:
    """
    :param pixels: (H, W), (H, W, 1) or (H, W, 3), or a file of a picture.
    :param max_width: it is made smaller to fit.
    :param max_height: likewise.
    :return: WebP: without loss where it is small, else with what the eye misses.
    :raises OSError: if the file is none of a picture.
    """
    image = Image.open(io.BytesIO(pixels)) if isinstance(pixels, bytes) else Image.fromarray(_squeezed(pixels))
    image = image.convert("RGB")
    image.thumbnail((max_width, max_height), Image.Resampling.LANCZOS)
    is_small = max(image.size) < _SMALL
    stream = io.BytesIO()
    image.save(stream, format="WEBP", lossless=is_small, quality=_QUALITY, method=4)
    return Picture(f"data:image/webp;base64,{b64encode(stream.getvalue()).decode()}", *image.size)


def affordable(
    items: Sequence[Item], draw: Callable[[Item], list[Picture]], n: int, n_bytes: int
) -> dict[Item, list[Picture]]:
    """
    :param items: in order.
    :param draw: from one of them to its pictures.
    :param n: of how many at most.
    :param n_bytes: that all pictures may take in the page; the first and the last item are drawn whatever they take.
    :return: item -> its pictures, of evenly spaced items.
    """
    while True:
        drawn = {item: draw(item) for item in evenly(items, n)}
        size = sum(len(picture.uri) for pictures in drawn.values() for picture in pictures)
        if size <= n_bytes or len(drawn) <= 2:
            return drawn
        n = max(2, len(drawn) * n_bytes // size)


def evenly(items: Sequence[Item], n: int) -> list[Item]:
    """
    :param items: in order.
    :param n: how many at most.
    :return: evenly spaced ones, the first and the last among them.
    """
    indices = np.unique(np.linspace(0, len(items) - 1, min(n, len(items))).round().astype(int))
    return [items[index] for index in indices]


def _squeezed(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
