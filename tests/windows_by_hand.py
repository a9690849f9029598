"""An environment that writes down in lists what happens, and windows made from those lists, slowly and obviously."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SPACES = {
    "image": spaces.Box(0, 255, (2, 4, 5), np.uint8),
    "channels last": spaces.Box(0, 255, (4, 5, 2), np.uint8),
    "float image": spaces.Box(-1, 1, (2, 4, 5), np.float32),
    "vector": spaces.Box(1, 9, (3,), np.float32),
    "double": spaces.Box(-np.inf, np.inf, (3,), np.float64),
}
BOX = spaces.Box(np.array([-2, 0], np.float32), np.array([1, 8], np.float32))


class Episode:
    """Frames as the environment shows them, one more than actions and rewards once it is over; ``end`` says how."""

    def __init__(self, frame):
        self.frames, self.actions, self.rewards, self.end = [frame], [], [], None


class Scripted(gym.Env):
    """
    Episodes of 1 to ``max_steps`` steps that end by themselves or are cut off.

    A frame starts with the numbers of its environment, episode and step, unless it is ``dull``: then it often is black or
    the one before, so that content says little about where it belongs.
    """

    def __init__(self, number=0, frames="image", actions=BOX, max_steps=12, dull=False):
        self.number, self.max_steps, self.dull = number, max_steps, dull
        self.observation_space, self.action_space = SPACES[frames], actions
        self.rng = np.random.default_rng(number)
        self.episodes = []

    def frame(self, step):
        space = self.observation_space
        kind = self.rng.choice(["black", "still", "any"]) if self.dull else "any"
        if kind == "still" and step:
            return self.episodes[-1].frames[-1]
        low, high = max(space.low.min(), -9), min(space.high.max(), 99)
        frame = self.rng.uniform(low, high, space.shape) * (kind != "black")
        frame = np.clip(frame, space.low, space.high).astype(space.dtype)
        if not self.dull and space.dtype == np.uint8:
            frame.ravel()[:3] = self.number % 256, (len(self.episodes) - (step > 0)) % 256, step
        return frame

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        first = self.frame(0)
        self.episodes.append(Episode(first))
        self.last_step = self.rng.integers(1, self.max_steps + 1)
        return np.copy(first), {}

    def step(self, action):
        episode = self.episodes[-1]
        frame, reward = self.frame(len(episode.frames)), float(np.float32(self.rng.normal()))
        episode.actions.append(np.copy(action))
        episode.rewards.append(reward)
        episode.frames.append(frame)
        if len(episode.rewards) == self.last_step:
            episode.end = self.rng.choice(["terminated", "truncated"])
        return np.copy(frame), reward, episode.end == "terminated", episode.end == "truncated", {}


def channels_first(frame):
    return frame.transpose(2, 0, 1) if frame.shape == SPACES["channels last"].shape else frame


def vector(action, space):
    """What a window has for an action: SB3's ``scale_action``, typed anew, or a one for the choice."""
    if isinstance(space, spaces.Discrete):
        return np.array([float(action == choice) for choice in range(space.start, space.start + space.n)], np.float32)
    if np.isfinite(space.low).all() and np.isfinite(space.high).all():
        action = 2.0 * ((action - space.low) / (space.high - space.low)) - 1.0
    return np.ravel(action).astype(np.float32)


def window(episode, t, length, start, space):
    """The observation in the t-th frame of an episode."""
    frames = [channels_first(frame) for frame in episode.frames[: t + 1]]
    actions = [vector(action, space) for action in episode.actions[:t]]
    missing = max(0, length - len(frames))
    before = frames[0] if start == "repeat" else np.zeros_like(frames[0])
    no_action = np.zeros_like(vector(space.sample(), space))
    return {
        "frames": np.stack(([before] * missing + frames)[-length:]),
        "actions": np.stack(([no_action] * missing + actions)[1 - length :]),
        "mask": np.array(([0] * missing + [1] * len(frames))[-length:], np.uint8),
    }


def rewards(episode, t, length):
    """Of the actions in the window's frames, the t-th frame being the last."""
    return np.array(([0.0] * length + episode.rewards[: t + 1])[-length:], np.float32)


def assert_equal_windows(ours, expected):
    assert ours.keys() == expected.keys()
    for name, values in expected.items():
        assert (ours[name].dtype, ours[name].shape) == (values.dtype, values.shape), name
        np.testing.assert_array_equal(ours[name], values, err_msg=name)
