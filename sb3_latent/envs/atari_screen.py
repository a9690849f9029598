"""Screens of Atari as SB3's ``MaxAndSkipEnv`` and ``WarpFrame`` show them, of which only what has changed is made anew."""

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


class Screen:
    """
    The maximum of two frames, in grey, smaller. A game changes few pixels of a frame and a game has few colors, so that grey
    values come from a table of pairs of colors, and rows that are as before are not resized again.

    ``shows_maximum`` says whether the two frames that were kept are shown, or, as after a reset, the one that the game shows.

    :param ale: the game's ``ALEInterface``.
    :param size: height and width of what is shown.
    """

    def __init__(self, ale: Any, size: int) -> None:
        height, width = ale.getScreenDims()
        self._ale, self.size = ale, size
        self.shows_maximum = False
        self._colors = _Colors(ale)
        self._frame, self._grey = np.zeros((2, height, width), np.uint8)
        self._shown = np.zeros((size, size), np.uint8)
        self._n_bands = _n_bands(height, width, size)
        # The same memory, eight pixels a word.
        self._words, self._grey_words = self._frame.reshape(-1).view(np.uint64), self._grey.reshape(-1).view(np.uint64)
        # Of a color that no game has, and which is therefore black, as the frames are with which SB3 begins.
        self._kept = np.full((2, height * width // 8), np.iinfo(np.uint64).max)
        self._is_changed = np.ones(height * width // 8, np.bool_)

    def keep(self, which: int) -> None:
        """
        :param which: in whose place the frame is kept that the game shows: 0 for the last but one, 1 for the last.
        """
        self._ale.getScreen(self._frame)
        kept = self._kept[which]
        changed = (self._words != kept).nonzero()[0]
        words = self._words[changed]
        self._colors.learn(words, self._frame)
        kept[changed] = words
        self._is_changed[changed] = True

    def image(self) -> Pixels:
        """:return: (size, size), of the two frames that were kept, or of the one that the game shows."""
        return self._maximum() if self.shows_maximum else self._single()

    def _maximum(self) -> Pixels:
        changed = self._is_changed.nonzero()[0]
        self._is_changed[changed] = False
        before, last = self._kept.take(changed, 1).view(np.uint8)
        self._grey_words[changed] = self._colors.grey_of_maximum(before, last).view(np.uint64)
        self._resize(changed // (len(self._words) // self._n_bands))
        return self._shown.copy()

    def _single(self) -> Pixels:
        self._ale.getScreen(self._frame)
        self._colors.learn(self._words, self._frame)
        return _resized(self._colors.grey_of_maximum(self._frame, self._frame), self.size, np.empty_like(self._shown))

    def _resize(self, bands: npt.NDArray[np.intp]) -> None:
        is_changed = np.zeros(self._n_bands + 2, np.bool_)
        is_changed[1 + bands] = True
        rows, wanted = len(self._grey) // self._n_bands, self.size // self._n_bands
        for start, end in (is_changed[1:] != is_changed[:-1]).nonzero()[0].reshape(-1, 2).tolist():
            _resized(self._grey[start * rows : end * rows], self.size, self._shown[start * wanted : end * wanted])


class _Colors:
    """
    The palette of a game, as far as it has been seen.

    :param ale: the game's ``ALEInterface``.
    """

    def __init__(self, ale: Any) -> None:
        self._ale = ale
        self._rgb = np.zeros((256, 3), np.uint8)
        self._known = b""
        self._greys = np.zeros((256, 256), np.uint8)

    def learn(self, words: npt.NDArray[np.uint64], frame: Pixels) -> None:
        """
        :param words: (n,), eight numbers of colors each.
        :param frame: (H, W), what the game shows, in which they occur.
        """
        if not words.tobytes().translate(None, self._known):
            return
        numbers, first = np.unique(frame, return_index=True)
        self._rgb[numbers] = self._ale.getScreenRGB().reshape(-1, 3)[first]
        self._known = bytes({*self._known, *numbers.tolist()})
        cv2.cvtColor(np.maximum(self._rgb[:, None], self._rgb), cv2.COLOR_RGB2GRAY, self._greys)

    def grey_of_maximum(self, before: Pixels, last: Pixels) -> Pixels:
        """
        :param before: numbers of colors.
        :param last: as many.
        :return: as many, what OpenCV makes of the maximum of red, green and blue.
        """
        return self._greys.take(np.left_shift(before, 8, dtype=np.intp) | last)


def _resized(grey: Pixels, width: int, into: Pixels) -> Pixels:
    cv2.resize(grey, (width, len(into)), into, interpolation=cv2.INTER_AREA)
    return into


def _n_bands(height: int, width: int, size: int) -> int:
    """
    How many bands of rows can be resized apart to the same bits. OpenCV averages areas only where an image becomes smaller,
    and finds the areas' borders at multiples of height / size, which is exact if that is a whole number over a power of two.
    """
    n_bands = math.gcd(height, size)
    is_exact = (size // n_bands).bit_count() == 1
    return n_bands if is_exact and size <= width else 1
