"""PixelPendulum against gymnasium's pendulum stepped by hand, and its pictures against a rod that is painted slowly."""

import math

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from sb3_latent.envs import PIXEL_PENDULUM_ID, PixelPendulumEnv

ANGLES = st.floats(-math.pi, math.pi)
"""0 is upright; positive angles lean to the left, as in gymnasium's picture."""


def random_actions(n_steps=100, seed=0):
    return np.random.default_rng(seed).uniform(-2, 2, (n_steps, 1)).astype(np.float32)


def placed(angle, **settings):
    """An environment at rest at an angle, and its first observation."""
    env = PixelPendulumEnv(**settings)
    env.reset(seed=0)
    env._pendulum.state = np.array([angle, 0.0])
    return env, env._picture(env._pendulum._get_obs())


def paint_slowly(angle, size):
    """A capsule from the middle of the picture, 45 % of its size long and 12 % wide, with edges one pixel soft."""
    middle, length, half_width = (size - 1) / 2, 0.45 * size, 0.06 * size
    end_x, end_y = -length * math.sin(angle), length * math.cos(angle)
    picture = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            x, y = column - middle, middle - row
            nearest = min((t / 1000 for t in range(1001)), key=lambda t: math.hypot(x - t * end_x, y - t * end_y))
            distance = math.hypot(x - nearest * end_x, y - nearest * end_y)
            picture[row, column] = 255 * min(max(half_width + 0.5 - distance, 0), 1)
    return picture


@pytest.mark.parametrize("settings", [{}, {"size": 20, "n_frames": 1, "action_repeat": 1}, {"sparse_reward": True}], ids=str)
def test_both_checkers_accept_it(settings, recwarn):
    gymnasium_check_env(PixelPendulumEnv(**settings), skip_render_check=True)
    sb3_check_env(PixelPendulumEnv(**settings))
    # SB3 would like actions in [-1, 1] and larger images; SAC scales the former itself, and our trunks take the latter.
    warnings = [str(warning.message) for warning in recwarn]
    assert [text for text in warnings if "action space" not in text and "minimal resolution" not in text] == []


@pytest.mark.parametrize("action_repeat", [1, 2, 5])
def test_state_and_reward_are_those_of_gymnasiums_pendulum(action_repeat):
    ours, theirs = PixelPendulumEnv(action_repeat=action_repeat), PendulumEnv()
    _, info = ours.reset(seed=3)
    np.testing.assert_array_equal(info["state"], theirs.reset(seed=3)[0])
    for action in random_actions():
        total = 0.0
        for _ in range(action_repeat):
            state, reward, *_ = theirs.step(action)
            total += reward
        _, reward, terminated, truncated, info = ours.step(action)
        np.testing.assert_array_equal(info["state"], state)
        assert reward == total and not terminated and not truncated


def test_options_go_to_gymnasiums_reset():
    options = {"x_init": 0.1, "y_init": 0.0}
    states = [PixelPendulumEnv().reset(seed=seed, options=options)[1]["state"] for seed in range(5)]
    assert all(state[0] > math.cos(0.1) - 1e-6 and state[2] == 0 for state in states)


def test_sparse_reward_counts_the_steps_near_upright():
    ours, theirs = PixelPendulumEnv(sparse_reward=True, action_repeat=3), PendulumEnv()
    options = {"x_init": 0.3, "y_init": 0.5}
    ours.reset(seed=1, options=options), theirs.reset(seed=1, options=options)
    rewards = []
    for action in random_actions(60):
        angles = []
        for _ in range(3):
            theirs.step(action)
            angles.append(math.remainder(theirs.state[0], 2 * math.pi))
        rewards.append(ours.step(action)[1])
        assert rewards[-1] == sum(abs(angle) < math.acos(0.95) for angle in angles)
    assert {0.0, 3.0} < set(rewards)


@given(ANGLES, st.sampled_from([8, 15, 32]))
def test_picture_is_the_rod_painted_slowly(angle, size):
    _, picture = placed(angle, size=size)
    # Both round the distance to a thousandth of the rod, the picture is cut off to whole luminances.
    assert np.abs(picture - paint_slowly(angle, size)).max() < 1 + 255 * 0.45 * size / 2000


@given(ANGLES)
def test_mirrored_angle_mirrors_the_picture(angle):
    env, picture = placed(angle)
    _, mirrored = placed(-angle)
    np.testing.assert_array_equal(mirrored, picture[:, ::-1])
    state = env._pendulum._get_obs()
    np.testing.assert_array_equal(env._picture(np.array([-state[0], state[1], 0.0])), picture[::-1])


@pytest.mark.parametrize(("angle", "half"), [(0, np.s_[:16]), (math.pi, np.s_[16:]), (math.pi / 2, np.s_[:, :16])])
def test_rod_lies_where_the_angle_says(angle, half):
    _, picture = placed(angle)
    total = picture.sum(dtype=int)
    # The other half sees no more than the round end at the pivot.
    assert picture.max() == 255 and 0.8 * total < picture[half].sum(dtype=int) < total


def test_picture_looks_like_gymnasiums():
    pytest.importorskip("pygame")
    theirs = PendulumEnv(render_mode="rgb_array")
    theirs.reset(seed=0)
    for angle in np.linspace(-3, 3, 7):
        theirs.state, theirs.last_u = np.array([angle, 0.0]), None
        rod = (theirs.render() < 200).any(2)
        ours = placed(angle, size=100)[1] > 127
        for picture in (rod, ours):
            assert picture.any()
        # Direction from the middle of the picture to the middle of the rod, up to the axle that gymnasium draws.
        directions = [np.argwhere(picture).mean(0) - (len(picture) - 1) / 2 for picture in (rod, ours)]
        first, second = (direction / np.linalg.norm(direction) for direction in directions)
        assert first @ second > 0.99


def test_first_frame_is_repeated_and_frames_move_up():
    env = PixelPendulumEnv(n_frames=4)
    observation, info = env.reset(seed=0)
    assert observation.shape == (4, 32, 32) and observation.dtype == np.uint8
    np.testing.assert_array_equal(observation, np.stack([env._picture(info["state"])] * 4))
    for action in random_actions(6):
        before = observation
        observation, *_, info = env.step(action)
        np.testing.assert_array_equal(observation[:3], before[1:])
        np.testing.assert_array_equal(observation[3], env._picture(info["state"]))
    observation, info = env.reset()
    np.testing.assert_array_equal(observation, np.stack([env._picture(info["state"])] * 4))


def test_observations_are_not_written_again():
    env = PixelPendulumEnv()
    first, _ = env.reset(seed=0)
    copy = first.copy()
    for action in random_actions(5):
        env.step(action)
    np.testing.assert_array_equal(first, copy)


def test_same_seed_same_bits():
    def episode(seed):
        env = PixelPendulumEnv()
        observation, info = env.reset(seed=seed)
        env.action_space.seed(seed)
        steps = [(observation, info["state"])]
        for _ in range(10):
            observation, reward, *_, info = env.step(env.action_space.sample())
            steps.append((observation, info["state"], reward))
        env.reset()
        return [*steps, env._pendulum.state]

    np.testing.assert_equal(episode(7), episode(7))
    assert (episode(7)[0][1] != episode(8)[0][1]).any()


def test_episodes_after_the_first_differ():
    env = PixelPendulumEnv()
    states = [env.reset(seed=0)[1]["state"], env.reset()[1]["state"], env.reset()[1]["state"]]
    assert len({state.tobytes() for state in states}) == 3


def test_registered_episodes_have_100_steps():
    env = gym.make(PIXEL_PENDULUM_ID, sparse_reward=True)
    assert isinstance(env.unwrapped, PixelPendulumEnv)
    env.reset(seed=0)
    ends = [env.step(action)[2:4] for action in random_actions(100)]
    assert ends == [(False, False)] * 99 + [(False, True)]


def test_render_shows_the_newest_frame_enlarged():
    env = gym.make(PIXEL_PENDULUM_ID, render_mode="rgb_array")
    env.reset(seed=0)
    observation = env.step(random_actions(1)[0])[0]
    picture = env.render()
    assert picture.shape == (256, 256, 3) and picture.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(picture[4::8, 4::8, channel], observation[-1])
        np.testing.assert_array_equal(picture[::8, 7::8, channel], observation[-1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 7}, "size=7 must be an integer of at least 8"),
        ({"size": 32.0}, "size=32.0 must be an integer of at least 8"),
        ({"n_frames": 0}, "n_frames=0 must be an integer of at least 1"),
        ({"action_repeat": 0}, "action_repeat=0 must be an integer of at least 1"),
        ({"action_repeat": True}, "action_repeat=True must be an integer of at least 1"),
    ],
    ids=str,
)
def test_wrong_numbers_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PixelPendulumEnv(**settings)
