import copy
import importlib
import warnings
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import sb3_latent.envs
from sb3_latent.envs import TINY_BALL_ID, TinyBallEnv
from sb3_latent.envs.tiny_ball import BALL_COLOR, PADDLE_COLOR, bounce

VARIANTS: list[dict[str, Any]] = [
    {},
    {"reward_freq": 5},
    {"n_distractors": 3},
    {"ball_size": 5},
    {"ball_speed": 1, "n_falls": 2},
    {"arm_height": 0, "paddle_height": 3, "paddle_luminance": 200, "brick_height": 6},
    {"bricks": (0, 1), "sky_luminance": (10, 10), "sky_drift": 0},
    {"image_size": 64, "bricks": [3, 8], "brick_height": 3, "paddle_width": 10, "paddle_step": 9, "n_distractors": 1},
]


def rollout(env: TinyBallEnv, actions: Any, seed: int | None = 0) -> list[tuple[np.ndarray, float, bool, dict[str, Any]]]:
    """One episode; the first entry is the reset's, with reward 0. ``actions`` maps info to an action."""
    observation, info = env.reset(seed=seed)
    steps = [(observation, 0.0, False, info)]
    while not steps[-1][2]:
        observation, reward, terminated, truncated, info = env.step(actions(steps[-1][3]))
        assert not truncated
        steps.append((observation, reward, terminated, info))
    return steps


def random_actions(seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return lambda info: rng.integers(3)


def mean_return(actions: Any, n_episodes: int, **kwargs: Any) -> float:
    env = TinyBallEnv(**kwargs)
    env.reset(seed=0)
    return sum(reward for _ in range(n_episodes) for _, reward, _, _ in rollout(env, actions, seed=None)) / n_episodes


def draw_slowly(env: TinyBallEnv, info: dict[str, Any]) -> np.ndarray:
    """Reference: paint the frame from ``info`` alone, pixel by pixel."""
    s = env.settings
    image = np.zeros((s.image_size, s.image_size), np.uint8)
    brick_width = s.image_size // s.bricks[1]
    for row in range(s.image_size):
        for column in range(s.image_size):
            value = info["sky_luminance"]
            if row < s.bricks[0] * s.brick_height and info["bricks"][row // s.brick_height, column // brick_width]:
                value = info["wall_luminance"]
            for x, y in info["distractors"]:
                if x <= column < x + s.distractor_size and y <= row < y + s.distractor_size:
                    value = s.distractor_luminance
            if 0 <= column - info["ball_x"] < s.ball_size and 0 <= row - info["ball_y"] < s.ball_size:
                value = s.ball_luminance
            if column < info["paddle_x"] and row >= s.image_size - s.arm_height:
                value = s.arm_luminance
            if 0 <= column - info["paddle_x"] < s.paddle_width and row >= s.image_size - s.paddle_height:
                value = s.paddle_luminance
            image[row, column] = value
    return image[None]


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_both_checkers_accept_it(kwargs: dict[str, Any], recwarn: pytest.WarningsRecorder) -> None:
    gymnasium_check_env(TinyBallEnv(render_mode="rgb_array", **kwargs), skip_render_check=True)
    sb3_check_env(TinyBallEnv(render_mode="rgb_array", **kwargs))
    assert [str(warning.message) for warning in recwarn] == []


def test_registration_survives_another_import() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # gymnasium warns when a registration is overridden
        importlib.reload(sb3_latent.envs)
    env = gym.make(TINY_BALL_ID, ball_size=3)
    assert isinstance(env.unwrapped, TinyBallEnv)
    assert env.unwrapped.settings.ball_size == 3


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_frame_shows_what_info_says(kwargs: dict[str, Any]) -> None:
    env = TinyBallEnv(**kwargs)
    for observation, _, _, info in rollout(env, random_actions())[::5]:
        assert env.observation_space.contains(observation)
        np.testing.assert_array_equal(observation, draw_slowly(env, info))


def test_ball_is_found_by_its_pixels() -> None:
    env = TinyBallEnv(bricks=(0, 1), paddle_luminance=200)
    for observation, _, _, info in rollout(env, random_actions()):
        rows, columns = np.nonzero(observation[0] == 255)
        assert len(rows) == 4
        assert (columns.min(), rows.min()) == (info["ball_x"], info["ball_y"])


def test_same_seed_same_bits() -> None:
    first, second = (rollout(TinyBallEnv(n_distractors=2), random_actions(), seed=7) for _ in range(2))
    for (observation, reward, _, info), (other_observation, other_reward, _, other_info) in zip(first, second, strict=True):
        np.testing.assert_array_equal(observation, other_observation)
        np.testing.assert_equal(info, other_info)
        assert reward == other_reward
    other_seed = rollout(TinyBallEnv(n_distractors=2), random_actions(), seed=8)
    assert any((a[0] != b[0]).any() for a, b in zip(first, other_seed, strict=True))


def test_episodes_differ_and_cover_the_image() -> None:
    env = TinyBallEnv()
    env.reset(seed=0)
    infos = [info for _ in range(150) for _, _, _, info in rollout(env, random_actions(), seed=None)]
    assert {info["ball_x"] for info in infos} == set(range(35))
    assert {info["paddle_x"] for info in infos} == set(range(0, 31, 5))
    assert {info["ball_y"] for info in infos} == set(range(10, 31, 3))
    assert len({info["bricks"].tobytes() for info in infos}) == 2**6
    assert (min(info["sky_luminance"] for info in infos), max(info["sky_luminance"] for info in infos)) == (0, 60)
    assert all(120 <= info["wall_luminance"] <= 229 for info in infos)


def test_background_drifts_and_wall_is_redrawn_only_between_falls() -> None:
    infos = [info for _, _, _, info in rollout(TinyBallEnv(), random_actions())]
    for before, after in pairwise(infos):
        assert abs(after["sky_luminance"] - before["sky_luminance"]) <= 6
        if after["fall"] == before["fall"]:
            np.testing.assert_array_equal(after["bricks"], before["bricks"])
            assert (after["ball_x"], after["ball_y"]) == (before["ball_x"], before["ball_y"] + 3)
    assert len({info["sky_luminance"] for info in infos}) > 5


def test_an_episode_starts_with_the_paddle_anywhere() -> None:
    starts = {TinyBallEnv().reset(seed=seed)[1]["paddle_x"] for seed in range(60)}
    assert starts == set(range(0, 31, 5))


def test_paddle_moves_by_steps_and_stays_in_the_image() -> None:
    env = TinyBallEnv()
    for action, end, change in [(0, 0, -5), (2, 30, 5)]:
        positions = [info["paddle_x"] for _, _, _, info in rollout(env, lambda info, action=action: action)]
        assert positions[6:] == [end] * 30
        for before, after in pairwise(positions):
            assert after == (end if before == end else before + change)
    positions = [info["paddle_x"] for _, _, _, info in rollout(env, lambda info: 1)]
    assert len(set(positions)) == 1


def test_return_of_policies_that_see_nothing_or_everything() -> None:
    # a blind policy catches 7 of 35 balls: 5 * (7 - 28) / 35; 400 episodes have a standard error of 0.09
    assert mean_return(random_actions(), 400) == pytest.approx(-3.0, abs=0.3)
    assert mean_return(lambda info: 1, 400) == pytest.approx(-3.0, abs=0.3)
    assert mean_return(TinyBallEnv().oracle_action, 100) == 5.0


@pytest.mark.parametrize("reward_freq", [1, 2, 3, 6])
def test_reward_is_the_score_of_the_falls_since_the_last_one(reward_freq: int) -> None:
    env = TinyBallEnv(reward_freq=reward_freq, n_falls=6)
    env.reset(seed=0)
    n_caught_in_all = 0
    for _ in range(20):
        steps = rollout(env, random_actions(), seed=None)
        assert len(steps) == 1 + 6 * 7
        period = 7 * reward_freq
        for time, (_, reward, _, info) in enumerate(steps):
            if time == 0 or time % period:
                assert reward == 0
            else:
                n_caught = info["n_caught"] - steps[time - period][3]["n_caught"]
                assert reward == n_caught - (reward_freq - n_caught)
        n_caught_in_all += steps[-1][3]["n_caught"]
    assert n_caught_in_all > 0


def test_a_ball_is_caught_if_it_overlaps_the_paddle() -> None:
    env = TinyBallEnv(n_falls=1)
    caught: set[int] = set()
    missed: set[int] = set()
    for seed in range(300):
        *_, before, after = rollout(env, lambda info: 1, seed=seed)
        distance = before[3]["ball_x"] - after[3]["paddle_x"]
        (caught if after[1] == 1 else missed).add(distance)
    assert caught == set(range(-1, 6))
    assert missed.isdisjoint(caught) and {-2, 6} <= missed


def reflect_slowly(path: np.ndarray, low: int, high: int) -> list[int]:
    """Reference: follow the path in steps of one, turning round at each end."""
    position, sign, folded = int(path[0]), 1, [int(path[0])]
    for change in np.diff(path):
        for _ in range(abs(change)):
            if not low <= position + sign * np.sign(change) <= high:
                sign = -sign
            if low < high:
                position += sign * np.sign(change)
        folded.append(position)
    return folded


@settings(max_examples=60, deadline=None)
@given(
    n_positions=st.integers(1, 8),
    paddle_step=st.integers(1, 9),
    paddle_width=st.integers(1, 9),
    ball_size=st.integers(1, 6),
    ball_speed=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_oracle_catches_every_ball_of_every_accepted_geometry(
    n_positions: int, paddle_step: int, paddle_width: int, ball_size: int, ball_speed: int, seed: int
) -> None:
    image_size = (n_positions - 1) * paddle_step + paddle_width
    try:
        env = TinyBallEnv(
            image_size=image_size,
            paddle_step=paddle_step,
            paddle_width=paddle_width,
            ball_size=ball_size,
            ball_speed=ball_speed,
            bricks=(1, 1),
            brick_height=1,
            paddle_height=2,
            arm_height=1,
            distractor_size=1,
            n_falls=20,
        )
    except ValueError:
        reject()
    steps = rollout(env, env.oracle_action, seed=seed)
    assert sum(reward for _, reward, _, _ in steps) == 20


@given(
    path=st.lists(st.integers(-3, 3), min_size=1, max_size=60), low=st.integers(-5, 5), width=st.integers(0, 9), data=st.data()
)
def test_bounce_reflects_at_both_ends(path: list[int], low: int, width: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(low, low + width))
    straight = start + np.cumsum([0, *path])
    np.testing.assert_array_equal(bounce(straight, low, low + width), reflect_slowly(straight, low, low + width))


def test_distractors_move_within_the_sky_and_never_hide_ball_or_paddle() -> None:
    env = TinyBallEnv(n_distractors=12, distractor_size=4, distractor_speed=3)
    infos = [info for observation, _, _, info in rollout(env, random_actions())]
    paths = np.stack([info["distractors"] for info in infos])
    assert paths.shape == (36, 12, 2)
    assert paths[..., 0].min() >= 0 and paths[..., 0].max() <= 36 - 4
    assert paths[..., 1].min() >= 10 and paths[..., 1].max() <= 31 - 4
    assert np.abs(np.diff(paths, axis=0)).max() == 3
    assert (np.ptp(paths, axis=0).max(axis=1) > 0).mean() > 0.7


def test_render_enlarges_and_tells_ball_and_paddle_apart() -> None:
    env = TinyBallEnv(render_mode="rgb_array")
    _, info = env.reset(seed=0)
    picture = env.render()
    assert picture is not None
    assert picture.shape == (360, 360, 3)
    assert picture.dtype == np.uint8
    for color, n_pixels, x, y in [(BALL_COLOR, 4, info["ball_x"], info["ball_y"]), (PADDLE_COLOR, 30, info["paddle_x"], 31)]:
        rows, columns = np.nonzero((picture == color).all(axis=2))
        assert len(rows) == n_pixels * 100
        assert (columns.min(), rows.min()) == (x * 10, y * 10)
    assert TinyBallEnv().render() is None


def test_no_step_and_no_picture_without_an_episode() -> None:
    env = TinyBallEnv(render_mode="rgb_array")
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(1)
    with pytest.raises(ResetNeeded, match="reset"):
        env.render()
    rollout(env, random_actions())
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(1)
    assert env.render() is not None


@pytest.mark.parametrize("action", [-1, 3, 0.5])
def test_unknown_action_is_refused(action: Any) -> None:
    env = TinyBallEnv()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=rf"action must be 0 \(left\), 1 \(stay\) or 2 \(right\), got {action}"):
        env.step(action)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"render_mode": "human"}, r"None or one of \['rgb_array'\], got 'human'"),
        ({"n_falls": 0}, "n_falls must be at least 1, got 0"),
        ({"n_falls": 2.5}, r"n_falls must be an integer, got 2\.5"),
        ({"n_distractors": -1}, "n_distractors must be at least 0, got -1"),
        ({"ball_luminance": 256}, "ball_luminance must be within 0 and 255, .* got 256"),
        ({"ball_luminance": (1, 2)}, r"ball_luminance must be an integer, got \(1, 2\)"),
        ({"sky_luminance": (60, 0)}, r"sky_luminance must be within 0 and 255, the lesser value first, got \(60, 0\)"),
        ({"sky_luminance": 60}, "sky_luminance must be a pair of integers, got 60"),
        ({"bricks": (2, 5)}, r"columns that divides image_size=36, got \(2, 5\)"),
        ({"bricks": (2, 0)}, r"columns that divides image_size=36, got \(2, 0\)"),
        ({"bricks": (-1, 3)}, r"bricks must be at least 0, got \(-1, 3\)"),
        ({"brick_height": 15}, r"leaves 1 rows between the wall \(30\) and the paddle \(5\), but .* need 3"),
        ({"n_distractors": 1, "distractor_size": 22}, "leaves 21 rows .* need 22"),
        ({"arm_height": 6}, "arm_height must be at most paddle_height=5, got 6"),
        ({"paddle_width": 40}, "paddle_width must be at most image_size=36, got 40"),
        ({"paddle_step": 7}, "paddle_step must divide image_size - paddle_width = 30, got 7"),
        ({"paddle_step": 10}, r"paddle_step must be at most paddle_width \+ ball_size - 1 = 7, got 10"),
        ({"ball_speed": 4}, "ball_speed=4 makes falls of 5 steps, but the paddle needs 6"),
        ({"reward_freq": 2}, "reward_freq must divide n_falls=5, got 2"),
    ],
    ids=str,
)
def test_bad_setting_names_value_and_allowed_values(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TinyBallEnv(**kwargs)


def test_unknown_setting_is_named() -> None:
    with pytest.raises(TypeError, match="ball_sise"):
        TinyBallEnv(ball_sise=3)


def test_what_was_returned_is_not_touched_again() -> None:
    env = TinyBallEnv(n_distractors=1, render_mode="rgb_array")
    observation, info = env.reset(seed=0)
    kept = copy.deepcopy((observation, info))
    picture = env.render()
    for _ in range(35):
        env.step(2)
    np.testing.assert_equal((observation, info), kept)
    env.reset(seed=0)[0].fill(0)
    np.testing.assert_array_equal(env.render(), picture)
