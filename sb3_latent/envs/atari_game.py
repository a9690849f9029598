"""A game of Atari as SB3's ``AtariWrapper`` shows it, without the frames that nobody sees."""

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common import atari_wrappers

from sb3_latent.envs.atari_screen import Screen


class _MaxAndSkipEnv(gym.Wrapper[None, int, Any, int]):
    """
    SB3's, on a game whose screen is read only for the frames that are kept, and shown by :class:`_WarpFrame`: wrappers between
    the two do not look, and step several times where a life is lost.

    :param env: game.
    :param skip: frames of a step.
    :param screen: the game's.
    """

    def __init__(self, env: gym.Env[Any, int], skip: int, screen: Screen) -> None:
        super().__init__(env)
        self._screen, self._skip = screen, skip

    def reset(self, **kwargs: Any) -> tuple[None, dict[str, Any]]:
        _, info = self.env.reset(**kwargs)
        self._screen.shows_maximum = False
        return None, info

    def step(self, action: int) -> tuple[None, float, bool, bool, dict[str, Any]]:
        total = 0.0
        for left in reversed(range(self._skip)):
            _, reward, terminated, truncated, info = self.env.step(action)
            if left < 2:
                self._screen.keep(1 - left)
            total += float(reward)
            if terminated or truncated:
                break
        self._screen.shows_maximum = True
        return None, total, terminated, truncated, info


class _WarpFrame(gym.ObservationWrapper[npt.NDArray[np.uint8], int, None]):
    """
    SB3's, with the channel first.

    :param env: game, with :class:`_MaxAndSkipEnv` somewhere around it.
    :param screen: the game's.
    """

    def __init__(self, env: gym.Env[Any, int], screen: Screen) -> None:
        super().__init__(env)
        self._screen = screen
        self.observation_space = spaces.Box(0, 255, (1, screen.size, screen.size), np.uint8)

    def observation(self, frame: None) -> npt.NDArray[np.uint8]:
        return self._screen.image()[None]


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
    game: Any = env.unwrapped
    screen = Screen(game.ale, screen_size)
    env = _MaxAndSkipEnv(env, frame_skip, screen)
    if terminal_on_life_loss:
        env = atari_wrappers.EpisodicLifeEnv(env)
    if "FIRE" in env.get_wrapper_attr("get_action_meanings")():
        env = atari_wrappers.FireResetEnv(env)
    env = _WarpFrame(env, screen)
    return atari_wrappers.ClipRewardEnv(env) if clip_reward else env
