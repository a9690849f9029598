"""TinyBall: a small world in which an autoencoder trained alone loses the one thing that matters."""

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from sb3_latent.envs.tiny_ball_settings import LUMINANCE_MAX, TinyBallSettings

RENDER_SCALE = 10
BALL_COLOR = (255, 140, 0)
PADDLE_COLOR = (70, 150, 255)

ImageArray = NDArray[np.uint8]
IntArray = NDArray[np.int64]


class Episode(NamedTuple):
    """What no action can change in an episode: all but the paddle."""

    frames: ImageArray  # (episode_steps + 1, image_size, image_size)
    states: list[dict[str, Any]]  # the true state behind each frame


def bounce(path: IntArray, low: int, high: int) -> IntArray:
    """
    Fold a path back into an interval, as if it bounced off both ends.

    :param path: unbounded positions, any shape
    :param low: least position
    :param high: greatest position
    :return: positions from ``low`` to ``high``, of the same shape
    """
    if low == high:
        return np.full_like(path, low)
    phase = (path - low) % (2 * (high - low))
    return low + np.minimum(phase, 2 * (high - low) - phase)


def draw_squares(frames: ImageArray, x: IntArray, y: IntArray, size: int, luminance: int) -> None:
    """
    Draw one square into each frame, in place.

    :param frames: images, shape (n, height, width)
    :param x: left column of each square, shape (n,)
    :param y: top row of each square, shape (n,)
    :param size: height and width in pixels
    :param luminance: 0 to 255
    """
    offsets = np.arange(size)
    rows = (y[:, None] + offsets)[:, :, None]
    columns = (x[:, None] + offsets)[:, None, :]
    frames[np.arange(len(frames))[:, None, None], rows, columns] = luminance


def draw_episode(settings: TinyBallSettings, rng: np.random.Generator) -> Episode:
    """
    Draw everything in an episode that does not depend on the actions, at once.

    :param settings: of the environment
    :param rng: source of all randomness
    :return: frames without the paddle and the state behind each of them
    """
    s = settings
    time = np.arange(s.episode_steps + 1)
    fall = time // s.fall_steps
    n_started = s.n_falls + 1  # the last frame shows the start of one more fall

    bricks = (rng.random((n_started, *s.bricks)) < 0.5)[fall]
    wall_luminance = rng.integers(*s.wall_luminance, n_started, endpoint=True)[fall]
    ball_x = rng.integers(0, s.image_size - s.ball_size, n_started, endpoint=True)[fall]
    ball_y = s.wall_height + s.ball_speed * (time % s.fall_steps)
    sky_start = rng.integers(*s.sky_luminance, endpoint=True)
    sky_changes = rng.integers(-s.sky_drift, s.sky_drift, len(time), endpoint=True)
    sky_luminance = bounce(sky_start + sky_changes.cumsum(), *s.sky_luminance)
    distractors = _distractor_paths(s, rng)

    frames = np.empty((len(time), s.image_size, s.image_size), np.uint8)
    frames[:] = sky_luminance[:, None, None]
    brick_pixels = bricks.repeat(s.brick_height, axis=1).repeat(s.image_size // s.bricks[1], axis=2)
    np.copyto(frames[:, : s.wall_height], wall_luminance.astype(np.uint8)[:, None, None], where=brick_pixels)
    for x, y in distractors.transpose(1, 2, 0):
        draw_squares(frames, x, y, s.distractor_size, s.distractor_luminance)
    draw_squares(frames, ball_x, ball_y, s.ball_size, s.ball_luminance)

    numbers = {
        "ball_x": ball_x,
        "ball_y": ball_y,
        "wall_luminance": wall_luminance,
        "sky_luminance": sky_luminance,
        "fall": fall,
    }
    columns = {name: values.tolist() for name, values in numbers.items()} | {"bricks": bricks, "distractors": distractors}
    return Episode(frames, [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def _distractor_paths(s: TinyBallSettings, rng: np.random.Generator) -> IntArray:
    """Left column and top row of every distractor at every time, shape (episode_steps + 1, n_distractors, 2)."""
    low = np.array([0, s.wall_height])
    high = np.array([s.image_size, s.paddle_y]) - s.distractor_size
    start = rng.integers(low, high, (s.n_distractors, 2), endpoint=True)
    velocity = rng.integers(-s.distractor_speed, s.distractor_speed, (s.n_distractors, 2), endpoint=True)
    path = start + velocity * np.arange(s.episode_steps + 1)[:, None, None]
    return np.stack([bounce(path[..., axis], low[axis], high[axis]) for axis in range(2)], axis=-1)


class TinyBallEnv(gym.Env[ImageArray, np.int64]):
    """
    Catch a small falling ball in front of a busy background, from a single grayscale frame.

    A wall of bricks, each present or absent at random and redrawn at every fall, stands above a sky whose luminance drifts.
    A ball drops straight from the wall; below, a paddle on an arm moves on a grid. A ball caught gives +1, one missed -1.

    By default a fall lasts 7 steps and an episode 5 falls; the paddle has 7 positions and catches about 7 of the 35 columns,
    so a policy that does not see the ball returns about -3 and one that does returns 5.

    What a VAE trained alone keeps: with the loss "sum of squared errors + KL" on images in [0, 1], an object pays only if the
    squared error that it saves exceeds the nats that locate it. The ball (4 of 1296 pixels) saves at most 4 and costs
    log(7 * 35) = 5.5, so it is lost; paddle and arm save far more than log(7) = 1.9, so they are kept. A ball of
    ``ball_size=6`` is kept too. The arm makes images of neighbouring positions overlap, so that the latent holds the paddle
    nearly linearly; without it a linear probe reads it poorly even where a nearest-neighbour probe finds it.

    Observation: uint8 (1, image_size, image_size). Action: 0 left, 1 stay, 2 right. Never truncated.
    The last observation of an episode shows the start of a fall that is not played.

    ``info`` holds the true state of the frame on ``reset`` and ``step``: ``ball_x``, ``ball_y`` and ``paddle_x`` (left
    column and top row), ``bricks`` (bool, rows by columns), ``wall_luminance``, ``sky_luminance``, ``distractors`` (left
    column and top row of each, shape (n_distractors, 2)), ``fall`` and ``n_caught`` (counted from the start of the episode).

    :param render_mode: ``"rgb_array"`` or None
    :param settings: any field of :class:`~sb3_latent.envs.tiny_ball_settings.TinyBallSettings`
    :raises ValueError: an argument is out of range, or the geometry makes a ball that no policy can catch
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  (gymnasium's attribute)

    def __init__(self, *, render_mode: str | None = None, **settings: Any) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None or one of {self.metadata['render_modes']}, got {render_mode!r}")
        self.render_mode = render_mode
        self.settings = TinyBallSettings(**settings)
        size = self.settings.image_size
        self.observation_space = spaces.Box(0, LUMINANCE_MAX, (1, size, size), np.uint8)
        self.action_space = spaces.Discrete(3)
        self._episode = Episode(np.empty((0, size, size), np.uint8), [])
        self._time = self.settings.episode_steps

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[ImageArray, dict[str, Any]]:
        """
        Start an episode, with the paddle at a random position.

        :param seed: seed of all randomness that follows
        :param options: not used
        :return: first observation and its ``info``
        """
        super().reset(seed=seed)
        self._episode = draw_episode(self.settings, self.np_random)
        self._paddle_x = int(self.np_random.integers(self.settings.n_positions)) * self.settings.paddle_step
        self._time = self._n_caught = self._unpaid = 0
        return self._observation(), self._info()

    def step(self, action: np.int64 | int) -> tuple[ImageArray, float, bool, bool, dict[str, Any]]:
        """
        Move the paddle, then let the ball fall.

        :param action: 0 left, 1 stay, 2 right
        :return: observation, reward, whether the last fall is over, False (never truncated) and ``info``
        :raises ValueError: no such action
        :raises gymnasium.error.ResetNeeded: no episode is running
        """
        if action not in (0, 1, 2):
            raise ValueError(f"action must be 0 (left), 1 (stay) or 2 (right), got {action}")
        s = self.settings
        if self._time == s.episode_steps:
            raise ResetNeeded("no episode is running: call reset() first")
        x = self._paddle_x + (int(action) - 1) * s.paddle_step
        self._paddle_x = min(max(x, 0), s.image_size - s.paddle_width)
        ball_x = self._episode.states[self._time]["ball_x"]
        self._time += 1
        reward = self._finish_fall(ball_x) if self._time % s.fall_steps == 0 else 0.0
        return self._observation(), reward, self._time == s.episode_steps, False, self._info()

    def render(self) -> ImageArray | None:
        """
        Draw the current frame for people: enlarged ten times, the ball orange and the paddle blue.

        :return: RGB picture, uint8 (10 * image_size, 10 * image_size, 3), or None without a render mode
        :raises gymnasium.error.ResetNeeded: there is no frame yet
        """
        if self.render_mode is None:
            return None
        if not self._episode.states:
            raise ResetNeeded("there is no frame yet: call reset() first")
        s, state = self.settings, self._info()
        ball_x, ball_y, paddle_x = state["ball_x"], state["ball_y"], state["paddle_x"]
        picture = self._observation().transpose(1, 2, 0).repeat(3, axis=2)
        picture[ball_y : ball_y + s.ball_size, ball_x : ball_x + s.ball_size] = BALL_COLOR
        picture[s.paddle_y :, paddle_x : paddle_x + s.paddle_width] = PADDLE_COLOR
        return picture.repeat(RENDER_SCALE, axis=0).repeat(RENDER_SCALE, axis=1)

    def oracle_action(self, info: dict[str, Any]) -> int:
        """
        Act on the true state: bring the paddle under the ball. Catches every ball.

        :param info: from the last ``reset`` or ``step`` of an environment with the same settings
        :return: action
        """
        s = self.settings
        doubled_distance: int = 2 * (info["ball_x"] - info["paddle_x"]) + s.ball_size - s.paddle_width
        return 1 + (doubled_distance > s.paddle_step) - (doubled_distance < -s.paddle_step)

    def _finish_fall(self, ball_x: int) -> float:
        """Score the fall and return the reward that is due."""
        s = self.settings
        is_caught = -s.ball_size < ball_x - self._paddle_x < s.paddle_width
        self._n_caught += is_caught
        self._unpaid += 1 if is_caught else -1
        if self._time // s.fall_steps % s.reward_freq:
            return 0.0
        due, self._unpaid = self._unpaid, 0
        return float(due)

    def _observation(self) -> ImageArray:
        """Paddle and arm in a copy of the current frame, shape (1, image_size, image_size)."""
        s = self.settings
        observation: ImageArray = self._episode.frames[self._time, None].copy()
        observation[0, s.image_size - s.arm_height :, : self._paddle_x] = s.arm_luminance
        observation[0, s.paddle_y :, self._paddle_x : self._paddle_x + s.paddle_width] = s.paddle_luminance
        return observation

    def _info(self) -> dict[str, Any]:
        """True state of the current frame."""
        return self._episode.states[self._time] | {"paddle_x": self._paddle_x, "n_caught": self._n_caught}
