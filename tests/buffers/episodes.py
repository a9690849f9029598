"""Stacks of frames as environments hand them out, made the slow and obvious way."""

import numpy as np
from gymnasium import spaces

HEIGHT, WIDTH = 13, 14


def image_space(n_channels, channels_last=False):
    shape = (HEIGHT, WIDTH, n_channels) if channels_last else (n_channels, HEIGHT, WIDTH)
    return spaces.Box(0, 255, shape, np.uint8)


class Episodes:
    """
    One environment, slow and obvious: it remembers every frame of its episode and pads the stack anew each time.

    Frames are often black and often stand still, so that content alone says little about where an episode begins.
    """

    def __init__(self, rng, n_frames, n_channels, padding, channels_last):
        self.rng, self.n_frames, self.n_channels = rng, n_frames, n_channels
        self.padding, self.channels_last = padding, channels_last
        self.reset()

    def frame(self):
        kind = self.rng.choice(["black", "still", "few", "any"])
        if kind == "still" and self.frames:
            return self.frames[-1]
        shape = (self.n_channels, HEIGHT, WIDTH)
        if kind == "any":
            return self.rng.integers(0, 256, shape, dtype=np.uint8)
        return np.full(shape, self.rng.integers(0, 3) if kind == "few" else 0, np.uint8)

    def reset(self):
        self.frames, self.history = [], []
        self.history = [self.frame() for _ in range(self.n_frames)]
        self.frames = [self.frame()]

    def stack(self):
        pad = {"zeros": [np.zeros_like(self.frames[0])], "first": self.frames[:1], "history": self.history}[self.padding]
        padded = ([*pad] * self.n_frames + self.frames)[-self.n_frames :]
        stack = np.concatenate(padded)
        return np.moveaxis(stack, 0, -1) if self.channels_last else stack

    def step(self):
        """obs, next_obs, done, truncated; now and then somebody resets, or the last observation is kept back."""
        event = self.rng.choice(["go on", "terminated", "truncated", "reset", "kept back"], p=[0.7, 0.1, 0.1, 0.05, 0.05])
        obs = self.stack()
        self.frames.append(self.frame())
        next_obs = self.stack()
        if event != "go on":
            self.reset()
        if event == "kept back":
            next_obs = self.stack()
        return obs, next_obs, event in ("terminated", "truncated", "kept back"), event == "truncated"


def with_vectors(observation, rng):
    """The same image in a Dict, with what else a Dict may hold."""
    n_envs = len(observation)
    return {
        "image": observation,
        "small": observation[:, :1],
        "vector": rng.normal(size=(n_envs, 3)).astype(np.float32),
        "choice": rng.integers(0, 4, n_envs),
    }


def dict_space(image):
    return spaces.Dict(
        {
            "image": image,
            "small": image_space(1),
            "vector": spaces.Box(-10, 10, (3,), np.float32),
            "choice": spaces.Discrete(4),
        }
    )


def assert_equal_arrays(ours, stock):
    if isinstance(stock, dict):
        assert ours.keys() == stock.keys()
        for key in stock:
            assert_equal_arrays(ours[key], stock[key])
    else:
        assert ours.dtype == stock.dtype and ours.shape == stock.shape
        assert (ours == stock).all()
