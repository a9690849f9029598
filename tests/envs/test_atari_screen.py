"""What is made anew in part is what SB3 makes anew whole, to the bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

cv2 = pytest.importorskip("cv2")
Screen = pytest.importorskip("sb3_latent.envs.atari_screen").Screen

WIDTH = 160


class Game:
    """An ALE whose screen is painted, in colors with even numbers as those of an Atari."""

    def __init__(self, rng, height):
        self.palette = rng.integers(0, 256, (256, 3), dtype=np.uint8)
        self.screen = np.full((height, WIDTH), 2 * rng.integers(128), np.uint8)
        self.rng = rng

    def getScreenDims(self):
        return self.screen.shape

    def getScreen(self, into):
        into[:] = self.screen

    def getScreenRGB(self):
        return self.palette[self.screen]

    def paint(self, n_spots):
        """Rectangles of one color, and single pixels of many."""
        for _ in range(n_spots):
            top, left = (self.rng.integers(side) for side in self.screen.shape)
            height, width = self.rng.integers(1, 30, 2)
            self.screen[top : top + height, left : left + width] = 2 * self.rng.integers(128)
        spots = tuple(self.rng.integers(0, side, n_spots) for side in self.screen.shape)
        self.screen[spots] = 2 * self.rng.integers(0, 128, n_spots)


def stock(rgb, size):
    """What SB3's WarpFrame makes of a frame."""
    return cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (size, size), interpolation=cv2.INTER_AREA)


MOVES = st.lists(st.tuples(st.sampled_from([0, 1, "maximum", "single"]), st.integers(0, 12)), min_size=1, max_size=40)


@settings(max_examples=40)
@given(
    moves=MOVES,
    height=st.sampled_from([210, 250]),
    size=st.sampled_from([16, 42, 60, 63, 64, 84, 105, 160, 168, 210]),
    seed=st.integers(0, 2**16),
)
def test_images_are_those_of_the_slow_way(moves, height, size, seed):
    game = Game(np.random.default_rng(seed), height)
    screen, last_two = Screen(game, size), np.zeros((2, height, WIDTH, 3), np.uint8)
    for move, n_spots in moves:
        game.paint(n_spots)
        if move in (0, 1):
            screen.keep(move)
            last_two[move] = game.getScreenRGB()
        else:
            screen.shows_maximum = move == "maximum"
            wanted = np.maximum(*last_two) if screen.shows_maximum else game.getScreenRGB()
            np.testing.assert_array_equal(screen.image(), stock(wanted, size))


def test_images_are_the_callers_to_keep():
    game = Game(np.random.default_rng(0), 210)
    screen = Screen(game, 84)
    screen.shows_maximum = True
    first = screen.image()
    game.paint(9), screen.keep(0)
    assert not first.any() and screen.image().any() and not first.any()


def test_only_rows_that_have_changed_are_resized(monkeypatch):
    game = Game(np.random.default_rng(0), 210)
    screen = Screen(game, 84)
    screen.shows_maximum = True
    screen.keep(0), screen.keep(1), screen.image()
    rows, resize = [], cv2.resize
    monkeypatch.setattr(cv2, "resize", lambda grey, *args, **kwargs: rows.append(len(grey)) or resize(grey, *args, **kwargs))
    screen.keep(0), screen.keep(1), screen.image()
    assert rows == []
    game.screen[[7, 9, 203], 5] += 2
    screen.keep(1), screen.image()
    assert rows == [5, 5]
