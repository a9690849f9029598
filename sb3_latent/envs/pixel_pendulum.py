"""Gymnasium's pendulum, seen as pixels: a continuous control task that a CPU renders in microseconds and learns in minutes."""

from collections import deque
from typing import Any, Literal, TypeAlias

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.envs.classic_control import PendulumEnv

from sb3_latent.checks import whole_number

Image: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]

RENDER_SCALE = 8
UPRIGHT = 0.95
"""Cosine of 18 degrees."""


class PixelPendulumEnv(gym.Env[Image, Floats]):
    """
    The pendulum of ``Pendulum-v1`` as a bright rod on black, the last frames stacked; the first is repeated at the start.

    Dynamics, reward and action are gymnasium's. ``info["state"]`` holds cosine, sine and angular velocity.

    :param size: height and width of the image in pixels.
    :param n_frames: frames in a stack.
    :param action_repeat: steps of the pendulum under one action; rewards add up.
    :param sparse_reward: 1 for every step within 18 degrees of upright, else 0, instead of gymnasium's reward.
    :param render_mode: None or ``"rgb_array"``, which are the same.
    :raises ValueError: if a number is too small.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  # gymnasium's

    def __init__(
        self,
        size: int = 32,
        n_frames: int = 3,
        action_repeat: int = 2,
        sparse_reward: bool = False,
        render_mode: Literal["rgb_array"] | None = None,
    ) -> None:
        self._length, self._half_width = 0.45 * whole_number("size", size, 8), 0.06 * size
        self._n_frames = whole_number("n_frames", n_frames)
        self._action_repeat = whole_number("action_repeat", action_repeat)
        self._sparse_reward = sparse_reward
        self._pendulum = PendulumEnv()
        self.render_mode = render_mode
        self.action_space = self._pendulum.action_space
        self.observation_space = spaces.Box(0, 255, (n_frames, size, size), np.uint8)
        self._frames: deque[Image] = deque(maxlen=n_frames)
        center = np.arange(size) - (size - 1) / 2
        self._x, self._y = np.meshgrid(center, -center)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Image, dict[str, Any]]:
        super().reset(seed=seed)
        state, _ = self._pendulum.reset(seed=seed, options=options)
        self._frames.extend([self._picture(state)] * self._n_frames)
        return np.stack(self._frames), {"state": state}

    def step(self, action: Floats) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        total = 0.0
        for _ in range(self._action_repeat):
            state, reward, *_ = self._pendulum.step(action)  # type: ignore[no-untyped-call]  # as gymnasium has it
            total += float(state[0] > UPRIGHT) if self._sparse_reward else float(reward)
        self._frames.append(self._picture(state))
        return np.stack(self._frames), total, False, False, {"state": state}

    def render(self) -> Image:
        """:return: the newest frame, (height, width, 3), enlarged."""
        large = self._frames[-1].repeat(RENDER_SCALE, 0).repeat(RENDER_SCALE, 1)
        return np.repeat(large[..., None], 3, 2)

    def _picture(self, state: Floats) -> Image:
        """(size, size): bright where the rod is nearer than half its width, with soft edges."""
        x, y = -float(state[1]) * self._length, float(state[0]) * self._length
        along = np.clip((self._x * x + self._y * y) / self._length**2, 0, 1)
        distance = np.hypot(self._x - along * x, self._y - along * y)
        picture: Image = (255 * np.clip(self._half_width + 0.5 - distance, 0, 1)).astype(np.uint8)
        return picture
