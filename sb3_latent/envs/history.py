"""The last frames and actions of an episode as one observation, for one environment or a vectorised one."""

from typing import Any, Literal, TypeAlias, get_args

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.env_util import unwrap_wrapper
from stable_baselines3.common.preprocessing import is_image_space_channels_first
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from sb3_latent.registry import unknown
from sb3_latent.windows import ACTIONS, FRAMES, MASK, describe, window_space

Env: TypeAlias = gym.Env[Any, Any]
Array: TypeAlias = npt.NDArray[Any]
Start: TypeAlias = Literal["repeat", "zeros"]
ALL: slice = slice(None)


class HistoryWrapper(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """
    Observe windows: the last frames, the actions between them and a mask, as :func:`~sb3_latent.windows.window_space` says::

        env = HistoryWrapper(make_dmc_env("cheetah-run", size=64, frame_stack=1), length=8)

    The newest frame and action come last. Frames are what the environment observes, images with channels first. Actions are
    what this wrapper is stepped with, so a wrapper that changes them belongs inside: those of a bounded Box scaled to
    [-1, 1] as SB3 scales them (and cut off there), those of another Box as they are, of Discrete as one-hot vectors. Where
    the episode is shorter than the window, ``start`` says what stands before its first frame, and the mask is 0 there.

    :param env: environment with frames as observations, or a vectorised one, which makes this a :class:`VecHistoryWrapper`.
    :param length: T, frames of a window; 8 as in SLAC (Lee et al. 2019, arXiv:1907.00953; ``sequence_length`` in the authors'
        ``slac_agent.py``).
    :param start: ``"repeat"`` repeats the first frame, with actions of zeros, as the authors do; ``"zeros"`` has frames of
        zeros, too, as toshikwa's slac.pytorch does.
    :raises ValueError: if the length is below 2 or no episode can be that long, ``start`` is unknown, the environment is
        wrapped already, its observation is no Box of one or three axes, or its action space neither Box nor Discrete.
    """

    def __new__(cls, env: Env | VecEnv | None = None, *args: Any, **kwargs: Any) -> "HistoryWrapper":
        # Copies and pickles come without arguments.
        if isinstance(env, VecEnv):
            return VecHistoryWrapper(env, *args, **kwargs)  # type: ignore[return-value]  # the class that the docstring says
        return super().__new__(cls)

    def __init__(self, env: Env | VecEnv, length: int = 8, start: Start = "repeat") -> None:
        RecordConstructorArgs.__init__(self, length=length, start=start)
        super().__init__(env)  # type: ignore[arg-type]  # no VecEnv gets here
        limited = unwrap_wrapper(self.env, TimeLimit)
        limits = [] if limited is None else [limited.get_wrapper_attr("_max_episode_steps")]
        self._windows = _Windows(env.observation_space, env.action_space, length, start, 1, limits)
        self.observation_space = self._windows.space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        :param seed: of the episode and all that follow.
        :param options: of the wrapped environment.
        :return: window and info.
        """
        frame, info = self.env.reset(seed=seed, options=options)
        self._windows.begin(ALL, np.asarray(frame)[None])
        return self._window(), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """
        :param action: of the wrapped environment.
        :return: what it returns, with a window in place of the frame.
        """
        # Before the environment can write to it.
        actions = np.array(action)[None]
        frame, reward, terminated, truncated, info = self.env.step(action)
        self._windows.move_on(np.asarray(frame)[None], actions)
        return self._window(), reward, terminated, truncated, info

    def _window(self) -> dict[str, Array]:
        return {name: values[0] for name, values in self._windows.read(ALL).items()}


class VecHistoryWrapper(VecEnvWrapper):
    """
    :class:`HistoryWrapper` for a vectorised environment: one pass over all environments, and frames, not windows, are what
    crosses the pipes of a ``SubprocVecEnv``. ``infos[i]["terminal_observation"]`` is the episode's last window.

    :param venv: vectorised environment.
    :param length: as for :class:`HistoryWrapper`.
    :param start: as there.
    :raises ValueError: as there.
    """

    def __init__(self, venv: VecEnv, length: int = 8, start: Start = "repeat") -> None:
        # By its attribute: rl_zoo3 replaces gymnasium's TimeLimit, and the class cannot be sent to a process any more.
        # Only where there is one: a process of SubprocVecEnv would die of an unknown attribute.
        limited = np.flatnonzero(venv.env_method("has_wrapper_attr", "_max_episode_steps")).tolist()
        limits = venv.get_attr("_max_episode_steps", limited) if limited else []
        windows = _Windows(venv.observation_space, venv.action_space, length, start, venv.num_envs, limits)
        super().__init__(venv, windows.space)
        self._windows = windows
        self._actions: Array = np.zeros(0)

    def reset(self) -> dict[str, Array]:
        """:return: batch of windows."""
        self._windows.begin(ALL, np.asarray(self.venv.reset()))
        return self._windows.read(ALL)

    def step_async(self, actions: Array) -> None:
        """
        :param actions: one for each environment.
        """
        self._actions = np.array(actions)
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """:return: batch of windows, rewards, dones, infos."""
        observations, rewards, dones, infos = self.venv.step_wait()
        frames = np.array(observations)
        ended = np.flatnonzero(dones)
        first_frames = frames[ended]
        # An environment may keep its last observation to itself, and then none is made up here.
        shown = [env for env in ended.tolist() if infos[env].get("terminal_observation") is not None]
        for env in shown:
            frames[env] = infos[env]["terminal_observation"]
        self._windows.move_on(frames, self._actions)
        windows = self._windows.read(ALL)
        for env in shown:
            infos[env]["terminal_observation"] = {name: values[env].copy() for name, values in windows.items()}
        if len(ended):
            self._windows.begin(ended, first_frames)
            for name, values in self._windows.read(ended).items():
                windows[name][ended] = values
        return windows, rewards, dones, infos


class _Windows:
    """
    The windows of n environments in rings of T entries, each written twice, T apart, so that the last T lie side by side.

    :param frame_space: what the environments observe.
    :param action_space: of the environments.
    :param length: T.
    :param start: how an episode begins.
    :param n_envs: n.
    :param limits: steps after which episodes are cut off, where that is known.
    :raises ValueError: as for :class:`HistoryWrapper`.
    """

    def __init__(
        self,
        frame_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        length: int,
        start: Start,
        n_envs: int,
        limits: list[int],
    ) -> None:
        box = _checked(frame_space)
        self._is_channels_last = len(box.shape) == 3 and not is_image_space_channels_first(box)
        low, high = self._channels_first(box.low), self._channels_first(box.high)
        if start not in get_args(Start):
            raise ValueError(unknown("start", start, get_args(Start)))
        if start == "zeros":
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        self.space = window_space(spaces.Box(low, high, dtype=low.dtype.type), action_space, length)
        if limits and length > min(limits) + 1:
            raise ValueError(
                f"length={length}: episodes of at most {min(limits)} steps have {min(limits) + 1} frames; pass a length of at "
                f"most {min(limits) + 1}, or longer episodes."
            )
        self._action_space = action_space
        self._length, self._start = int(length), start
        self._newest = 0
        shapes = {name: space.shape or () for name, space in self.space.items()}
        self._lengths = {name: shape[0] for name, shape in shapes.items()}
        self._rings: dict[str, Array] = {
            name: np.zeros((n_envs, 2 * length, *shape[1:]), self.space[name].dtype) for name, shape in shapes.items()
        }

    def begin(self, envs: Any, frames: Array) -> None:
        """
        :param envs: index of those that start an episode.
        :param frames: their first ones.
        """
        frames = self._channels_first(frames)
        for ring in self._rings.values():
            ring[envs] = 0
        if self._start == "repeat":
            self._rings[FRAMES][envs] = frames[:, None]
        self._write(envs, FRAMES, frames)
        self._write(envs, MASK, 1)

    def move_on(self, frames: Array, actions: Array) -> None:
        """
        :param frames: that followed, of all environments.
        :param actions: that led to them.
        """
        self._newest = (self._newest + 1) % self._length
        self._write(ALL, FRAMES, self._channels_first(frames))
        self._write(ALL, ACTIONS, self._scaled(actions))
        self._write(ALL, MASK, 1)

    def read(self, envs: Any) -> dict[str, Array]:
        """
        :param envs: index of some.
        :return: copies of their windows.
        """
        end = self._newest + self._length + 1
        return {name: ring[:, end - self._lengths[name] : end][envs].copy() for name, ring in self._rings.items()}

    def _write(self, envs: Any, name: str, values: Any) -> None:
        self._rings[name][envs, self._newest] = values
        self._rings[name][envs, self._newest + self._length] = values

    def _channels_first(self, frames: Array) -> Array:
        return np.moveaxis(frames, -1, -3) if self._is_channels_last else frames

    def _scaled(self, actions: Array) -> Array:
        """(n, *action_shape) -> (n, action_dim)"""
        space = self._action_space
        if isinstance(space, spaces.Discrete):
            return np.equal(actions.reshape(-1, 1), np.arange(space.start, space.start + space.n))
        assert isinstance(space, spaces.Box)
        if space.is_bounded():
            actions = np.clip(2.0 * ((actions - space.low) / (space.high - space.low)) - 1.0, -1, 1)
        return actions.reshape(len(actions), -1)


def _checked(frame_space: spaces.Space[Any]) -> spaces.Box:
    if isinstance(frame_space, spaces.Dict) and {FRAMES, ACTIONS, MASK} <= set(frame_space):
        raise ValueError("the environment observes windows already; use HistoryWrapper once.")
    if not isinstance(frame_space, spaces.Box) or len(frame_space.shape) not in (1, 3):
        raise ValueError(
            f"HistoryWrapper(env): {describe(frame_space)} is no frame; let the environment observe one Box, an image of "
            "shape (C, H, W) or (H, W, C) or a vector of shape (n,), e.g. by gymnasium.wrappers.TransformObservation."
        )
    return frame_space
