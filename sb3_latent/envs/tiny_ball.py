"""TinyBall: a small world in which an autoencoder trained alone loses the one thing that matters."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
ImageArray = NDArray[np.uint8]

LUMINANCE_MAX = 255
RENDER_SCALE = 10
BALL_COLOR = (255, 140, 0)
PADDLE_COLOR = (70, 150, 255)


@dataclass(frozen=True, kw_only=True)
class TinyBallSettings:
    """
    Sizes, luminances and rewards of :class:`TinyBallEnv`; every field is an argument of the environment.

    Lengths are in pixels, speeds in pixels per step, luminances from 0 to 255.

    :param image_size: height and width of the image
    :param n_falls: falls per episode
    :param bricks: rows and columns of bricks in the wall; 0 rows make a world without a wall
    :param brick_height: height of a brick; its width is ``image_size`` divided by the columns
    :param wall_luminance: least and greatest luminance of the wall, drawn for every fall
    :param sky_luminance: least and greatest luminance of the sky
    :param sky_drift: greatest change of the sky's luminance in one step; 0 keeps it constant within an episode
    :param ball_size: height and width of the ball
    :param ball_luminance: luminance of the ball
    :param ball_speed: how fast the ball falls; with the heights of wall and paddle it determines the steps of a fall
    :param paddle_width: width of the paddle
    :param paddle_height: height of the paddle
    :param paddle_luminance: luminance of the paddle
    :param paddle_step: how far the paddle moves in one step
    :param reward_freq: pay the sum of the rewards after every so many falls; ``n_falls`` pays only when the episode ends
    :param n_distractors: number of squares that drift through the sky behind the ball and bounce off its edges
    :param distractor_size: height and width of a distractor
    :param distractor_luminance: luminance of the distractors
    :param distractor_speed: greatest speed of a distractor along each axis
    :raises ValueError: a setting is out of range, or the geometry makes a ball that no policy can catch
    """

    image_size: int = 36
    n_falls: int = 5
    bricks: tuple[int, int] = (2, 3)
    brick_height: int = 5
    wall_luminance: tuple[int, int] = (120, 229)
    sky_luminance: tuple[int, int] = (0, 60)
    sky_drift: int = 6
    ball_size: int = 2
    ball_luminance: int = LUMINANCE_MAX
    ball_speed: int = 3
    paddle_width: int = 6
    paddle_height: int = 5
    paddle_luminance: int = LUMINANCE_MAX
    paddle_step: int = 5
    arm_height: int = 4
    arm_luminance: int = 230
    reward_freq: int = 1
    n_distractors: int = 0
    distractor_size: int = 3
    distractor_luminance: int = 140
    distractor_speed: int = 2

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_geometry()

    @cached_property
    def wall_height(self) -> int:
        """Height of the wall, which is also the first row of the sky."""
        return self.bricks[0] * self.brick_height

    @cached_property
    def paddle_y(self) -> int:
        """Top row of the paddle."""
        return self.image_size - self.paddle_height

    @cached_property
    def sky_height(self) -> int:
        """Rows between wall and paddle."""
        return self.paddle_y - self.wall_height

    @cached_property
    def fall_steps(self) -> int:
        """Steps from the start of a fall until the ball reaches the paddle's rows."""
        return (self.sky_height - self.ball_size) // self.ball_speed + 1

    @cached_property
    def n_positions(self) -> int:
        """Positions of the paddle."""
        return (self.image_size - self.paddle_width) // self.paddle_step + 1

    @cached_property
    def episode_steps(self) -> int:
        """Steps per episode."""
        return self.n_falls * self.fall_steps

    def _check_ranges(self) -> None:
        """Check every setting by itself."""
        may_be_zero = {"sky_drift", "n_distractors", "distractor_speed"}
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if name.endswith("luminance"):
                low, high = value if isinstance(value, tuple | list) else (value, value)
                if not 0 <= low <= high <= LUMINANCE_MAX:
                    raise ValueError(f"{name} must be within 0 to {LUMINANCE_MAX}, the least value first, got {value}")
            elif name == "bricks":
                if value[0] < 0 or value[1] < 1 or self.image_size % value[1]:
                    raise ValueError(f"bricks must be (rows >= 0, columns that divide {self.image_size}), got {value}")
            elif value < (least := 0 if name in may_be_zero else 1):
                raise ValueError(f"{name} must be at least {least}, got {value}")

    def _check_geometry(self) -> None:
        """Check that everything fits and that every ball can be caught."""
        tallest = max(self.ball_size, self.distractor_size if self.n_distractors else 0)
        if self.sky_height < tallest:
            raise ValueError(
                f"no room to fall: wall ({self.wall_height}), paddle ({self.paddle_height}) and the largest square in the sky "
                f"({tallest}) must fit into image_size={self.image_size} rows"
            )
        if self.paddle_width > self.image_size or (self.image_size - self.paddle_width) % self.paddle_step:
            raise ValueError(
                f"paddle_step must divide image_size - paddle_width = {self.image_size - self.paddle_width}, got {self.paddle_step}"
            )
        if self.paddle_step > (widest_step := self.paddle_width + self.ball_size - 1):
            raise ValueError(
                f"paddle_step must be at most {widest_step}, or balls fall between positions, got {self.paddle_step}"
            )
        if self.fall_steps < self.n_positions - 1:
            raise ValueError(
                f"ball_speed={self.ball_speed} makes a fall of {self.fall_steps} steps, but the paddle needs "
                f"{self.n_positions - 1} to cross the image: lower ball_speed or raise paddle_step"
            )
        if self.n_falls % self.reward_freq:
            raise ValueError(f"reward_freq must divide n_falls={self.n_falls}, got {self.reward_freq}")


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
    :param size: height and width
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

    bricks = rng.random((n_started, *s.bricks)) < 0.5
    wall_luminance = rng.integers(*s.wall_luminance, n_started, endpoint=True)
    ball_x = rng.integers(s.image_size - s.ball_size, size=n_started, endpoint=True)[fall]
    ball_y = s.wall_height + s.ball_speed * (time % s.fall_steps)
    sky_start = rng.integers(*s.sky_luminance, endpoint=True)
    sky_changes = rng.integers(-s.sky_drift, s.sky_drift, len(time), endpoint=True)
    sky_luminance = bounce(sky_start + sky_changes.cumsum(), *s.sky_luminance)
    distractors = _distractor_paths(s, rng)

    frames = np.empty((len(time), s.image_size, s.image_size), np.uint8)
    frames[:] = sky_luminance[:, None, None]
    bricks_in_pixels = bricks.repeat(s.brick_height, axis=1).repeat(s.image_size // s.bricks[1], axis=2)
    wall = frames[:, : s.wall_height]
    np.copyto(wall, wall_luminance[fall, None, None].astype(np.uint8), where=bricks_in_pixels[fall])
    for x, y in distractors.transpose(1, 2, 0):
        draw_squares(frames, x, y, s.distractor_size, s.distractor_luminance)
    draw_squares(frames, ball_x, ball_y, s.ball_size, s.ball_luminance)

    states = [
        {"ball_x": x, "ball_y": y, "sky_luminance": sky, "wall_luminance": luminance, "fall": n}
        | {"bricks": bricks[n], "distractors": positions}
        for x, y, sky, luminance, n, positions in zip(
            ball_x.tolist(),
            ball_y.tolist(),
            sky_luminance.tolist(),
            wall_luminance[fall].tolist(),
            fall.tolist(),
            distractors,
            strict=True,
        )
    ]
    return Episode(frames, states)


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
    A ball drops straight from the wall; the paddle below it moves on a grid. Catching the ball gives +1, missing it -1.

    By default a fall lasts 7 steps and an episode 5 falls; the paddle has 7 positions and catches about 7 of the 35 columns,
    so a policy that does not see the ball returns about -3 and one that does returns 5.
    The last observation of an episode shows the start of a fall that is not played.

    ``info`` holds the true state of the frame on ``reset`` and ``step``: ``ball_x``, ``ball_y`` and ``paddle_x`` (left
    column and top row), ``bricks`` (bool, rows by columns), ``wall_luminance``, ``sky_luminance``, ``distractors`` (left
    column and top row of each, shape (n_distractors, 2)), ``fall`` and ``n_caught`` (counted from the start of the episode).

    Observation: uint8 (1, image_size, image_size). Action: 0 left, 1 stay, 2 right.

    :param render_mode: ``"rgb_array"`` or None
    :param settings: any field of :class:`TinyBallSettings`
    :raises ValueError: an argument is out of range, or the geometry makes a ball that no policy can catch
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  (the type is gymnasium's)

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
        Start an episode at a random position of the paddle.

        :param seed: seed of all randomness that follows
        :param options: none are known
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
        settings = self.settings
        if self._time == settings.episode_steps:
            raise ResetNeeded("no episode is running: call reset() first")
        x = self._paddle_x + (int(action) - 1) * settings.paddle_step
        self._paddle_x = min(max(x, 0), settings.image_size - settings.paddle_width)
        ball_x = self._episode.states[self._time]["ball_x"]
        self._time += 1
        reward = self._finish_fall(ball_x) if self._time % settings.fall_steps == 0 else 0.0
        return self._observation(), reward, self._time == settings.episode_steps, False, self._info()

    def render(self) -> ImageArray | None:  # type: ignore[override]  # gymnasium's return type is a free type variable
        """
        Draw the current frame for people: enlarged, the ball orange and the paddle blue.

        :return: RGB picture, uint8 (10 * image_size, 10 * image_size, 3), or None without a render mode
        :raises gymnasium.error.ResetNeeded: there is no frame yet
        """
        if self.render_mode is None:
            return None
        if not self._episode.states:
            raise ResetNeeded("there is no frame yet: call reset() first")
        info, s = self._info(), self.settings
        picture = np.repeat(self._observation()[0, :, :, None], 3, axis=2)
        picture[s.paddle_y :, info["paddle_x"] : info["paddle_x"] + s.paddle_width] = PADDLE_COLOR
        picture[info["ball_y"] : info["ball_y"] + s.ball_size, info["ball_x"] : info["ball_x"] + s.ball_size] = BALL_COLOR
        return picture.repeat(RENDER_SCALE, axis=0).repeat(RENDER_SCALE, axis=1)

    def oracle_action(self, info: dict[str, Any]) -> int:
        """
        Act on the true state: follow the ball. Catches every ball.

        :param info: returned by the last ``reset`` or ``step`` of an environment with the same settings
        :return: action
        """
        s = self.settings
        doubled_distance = 2 * (info["ball_x"] - info["paddle_x"]) + s.ball_size - s.paddle_width
        return 1 + (doubled_distance > s.paddle_step) - (doubled_distance < -s.paddle_step)

    def _finish_fall(self, ball_x: int) -> float:
        """Score the fall and return the reward that is due."""
        caught = -self.settings.ball_size < ball_x - self._paddle_x < self.settings.paddle_width
        self._n_caught += caught
        self._unpaid += 1 if caught else -1
        if self._time // self.settings.fall_steps % self.settings.reward_freq:
            return 0.0
        due, self._unpaid = self._unpaid, 0
        return float(due)

    def _observation(self) -> ImageArray:
        """Add the paddle to a copy of the current frame, shape (1, image_size, image_size)."""
        s = self.settings
        observation: ImageArray = self._episode.frames[self._time].copy()
        observation[s.image_size - s.arm_height :, : self._paddle_x] = s.arm_luminance
        observation[s.paddle_y :, self._paddle_x : self._paddle_x + s.paddle_width] = s.paddle_luminance
        return observation[None]

    def _info(self) -> dict[str, Any]:
        """True state of the current frame."""
        return self._episode.states[self._time] | {"paddle_x": self._paddle_x, "n_caught": self._n_caught}
