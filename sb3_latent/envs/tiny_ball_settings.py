"""Settings of TinyBall: sizes, luminances and rewards, checked once, and what follows from them."""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

LUMINANCE_MAX = 255

_MAY_BE_ZERO = ("sky_drift", "arm_height", "n_distractors", "distractor_speed")


@dataclass(frozen=True, kw_only=True)
class TinyBallSettings:
    """
    Sizes, luminances and rewards of :class:`~sb3_latent.envs.TinyBallEnv`; every field is an argument of the environment.

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
    :param arm_height: height of the arm that holds the paddle, from the image's left edge along its bottom; 0 for no arm
    :param arm_luminance: luminance of the arm
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
        self._check_numbers()
        self._check_scene()
        self._check_falls()

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

    def _check_numbers(self) -> None:
        """Check every setting by itself."""
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            is_pair = isinstance(field.default, tuple)
            numbers = value if is_pair and isinstance(value, tuple | list) else [value]
            if len(numbers) != 1 + is_pair or not all(isinstance(number, int | np.integer) for number in numbers):
                raise ValueError(f"{name} must be {'a pair of integers' if is_pair else 'an integer'}, got {value!r}")
            if name.endswith("luminance") and not 0 <= numbers[0] <= numbers[-1] <= LUMINANCE_MAX:
                raise ValueError(f"{name} must be within 0 and {LUMINANCE_MAX}, the lesser value first, got {value}")
            least = 0 if is_pair or name in _MAY_BE_ZERO or name.endswith("luminance") else 1
            if min(numbers) < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")

    def _check_scene(self) -> None:
        """Check that wall, sky and paddle fit into the image."""
        if self.bricks[1] < 1 or self.image_size % self.bricks[1]:
            raise ValueError(f"bricks needs a number of columns that divides image_size={self.image_size}, got {self.bricks}")
        largest = max(self.ball_size, self.distractor_size)
        if self.sky_height < largest:
            raise ValueError(
                f"image_size={self.image_size} leaves {self.sky_height} rows between the wall ({self.wall_height}) and the "
                f"paddle ({self.paddle_height}), but ball and distractors need {largest}: enlarge the image or shrink them"
            )
        if self.arm_height > self.paddle_height:
            raise ValueError(f"arm_height must be at most paddle_height={self.paddle_height}, got {self.arm_height}")

    def _check_falls(self) -> None:
        """Check that a policy can catch every ball and that every reward is paid."""
        track = self.image_size - self.paddle_width
        if track < 0:
            raise ValueError(f"paddle_width must be at most image_size={self.image_size}, got {self.paddle_width}")
        if track % self.paddle_step:
            raise ValueError(f"paddle_step must divide image_size - paddle_width = {track}, got {self.paddle_step}")
        widest_step = self.paddle_width + self.ball_size - 1
        if self.paddle_step > widest_step:
            raise ValueError(
                f"paddle_step must be at most paddle_width + ball_size - 1 = {widest_step}, got {self.paddle_step}: "
                f"balls would fall between two positions"
            )
        if self.fall_steps < self.n_positions - 1:
            raise ValueError(
                f"ball_speed={self.ball_speed} makes falls of {self.fall_steps} steps, but the paddle needs "
                f"{self.n_positions - 1} to cross the image: lower ball_speed or raise paddle_step"
            )
        if self.n_falls % self.reward_freq:
            raise ValueError(f"reward_freq must divide n_falls={self.n_falls}, got {self.reward_freq}")
