"""A game of Atari as SB3's ``AtariWrapper`` shows it, without the frames that nobody sees."""

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common import atari_wrappers


class _MaxAndSkipEnv(gym.Wrapper[npt.NDArray[np.uint8], int, Any, int]):
    """
    SB3's, on a game whose screen is read only for the frames that are kept.

    :param env: game.
    :param skip: frames of a step.
    """

    def __init__(self, env: gym.Env[Any, int], skip: int) -> None:
        super().__init__(env)
        game: Any = env.unwrapped
        self._ale = game.ale
        self._last_two = np.zeros((2, *self._ale.getScreenDims(), 3), np.uint8)
        self._skip = skip
        self.observation_space = spaces.Box(0, 255, self._last_two.shape[1:], np.uint8)

    def reset(self, **kwargs: Any) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
        _, info = self.env.reset(**kwargs)
        return self._ale.getScreenRGB(), info

    def step(self, action: int) -> tuple[npt.NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        total = 0.0
        for left in reversed(range(self._skip)):
            _, reward, terminated, truncated, info = self.env.step(action)
            if left < 2:
                self._ale.getScreenRGB(self._last_two[1 - left])
            total += float(reward)
            if terminated or truncated:
                break
        return np.maximum(*self._last_two), total, terminated, truncated, info


class _WarpFrame(atari_wrappers.WarpFrame):
    """SB3's, with the channel first."""

    def __init__(self, env: gym.Env[Any, int], size: int) -> None:
        super().__init__(env, size, size)
        self.observation_space = spaces.Box(0, 255, (1, size, size), np.uint8)

    def observation(self, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return super().observation(frame).transpose(2, 0, 1)


def atari_wrapped(
    env: gym.Env[Any, int],
    noop_max: int,
    frame_skip: int,
    screen_size: int,
    terminal_on_life_loss: bool,
    clip_reward: bool,
    action_repeat_probability: float,
) -> gym.Env[Any, int]:
    """
    SB3's ``AtariWrapper`` around a game whose own observations nobody looks at; its frames have the channel first.

    :param env: game of Atari.
    :param noop_max: as in ``AtariWrapper``, like all that follow.
    :param frame_skip: frames of a step.
    :param screen_size: height and width.
    :param terminal_on_life_loss: whether a lost life ends an episode.
    :param clip_reward: whether rewards become their sign.
    :param action_repeat_probability: of a sticky action.
    :return: the game, with its wrappers in the same order.
    """
    if action_repeat_probability > 0:
        env = atari_wrappers.StickyActionEnv(env, action_repeat_probability)
    if noop_max > 0:
        env = atari_wrappers.NoopResetEnv(env, noop_max)
    env = _MaxAndSkipEnv(env, frame_skip)
    if terminal_on_life_loss:
        env = atari_wrappers.EpisodicLifeEnv(env)
    if "FIRE" in env.get_wrapper_attr("get_action_meanings")():
        env = atari_wrappers.FireResetEnv(env)
    env = _WarpFrame(env, screen_size)
    return atari_wrappers.ClipRewardEnv(env) if clip_reward else env
