"""PixelPendulum against gymnasium's pendulum stepped by hand, and its pictures against a rod that is painted slowly."""

import math

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from sb3_latent.envs import ONE_FRAME_PENDULUM_ID, PIXEL_PENDULUM_ID, PixelPendulumEnv

UPRIGHT = {"x_init": 0.0, "y_init": 0.0}


def random_actions(n_steps=100, seed=0):
    return np.random.default_rng(seed).uniform(-2, 2, (n_steps, 1)).astype(np.float32)


def episode(env, actions, seed=0, options=None):
    """Observations and states, the first ones included."""
    steps = [env.reset(seed=seed, options=options)]
    for action in actions:
        observation, *_, info = env.step(action)
        steps.append((observation, info))
    return [(observation, info["state"]) for observation, info in steps]


def paint_slowly(state, size):
    """
    A capsule from the middle of the picture, 45 % of its size long and 12 % wide, with edges one pixel soft; turned from
    the right by the angle and another 90 degrees, as gymnasium draws it.
    """
    angle = math.atan2(state[1], state[0]) + math.pi / 2
    middle = (size - 1) / 2
    rows, columns = np.mgrid[:size, :size]
    nearest = np.full((size, size), np.inf)
    for distance in np.linspace(0, 0.45 * size, 1000):
        x, y = distance * math.cos(angle), distance * math.sin(angle)
        nearest = np.minimum(nearest, np.hypot(columns - middle - x, middle - rows - y))
    return 255 * (0.06 * size + 0.5 - nearest).clip(0, 1)


@pytest.mark.parametrize("settings", [{}, {"size": 20, "n_frames": 1, "action_repeat": 1}, {"sparse_reward": True}], ids=str)
def test_both_checkers_accept_it(settings, recwarn):
    gymnasium_check_env(PixelPendulumEnv(**settings), skip_render_check=True)
    sb3_check_env(PixelPendulumEnv(**settings))
    # Gymnasium's actions lie in [-2, 2], which SAC scales; stock SB3's NatureCNN needs 36 pixels, our trunks do not.
    texts = [str(warning.message) for warning in recwarn]
    assert [text for text in texts if "action space" not in text and "minimal resolution" not in text] == []


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


def test_two_steps_lie_under_an_action_unless_told():
    theirs = PendulumEnv()
    theirs.reset(seed=0)
    expected = [theirs.step(action)[0] for action in random_actions(5).repeat(2, axis=0)][1::2]
    actual = [state for _, state in episode(PixelPendulumEnv(), random_actions(5))[1:]]
    np.testing.assert_array_equal(actual, expected)


def test_sparse_reward_counts_the_steps_near_upright():
    ours, theirs = PixelPendulumEnv(sparse_reward=True, action_repeat=3), PendulumEnv()
    options = {"x_init": 0.3, "y_init": 0.5}
    for env in (ours, theirs):
        env.reset(seed=1, options=options)
    rewards = []
    for action in random_actions(60):
        cosines = [theirs.step(action)[0][0] for _ in range(3)]
        rewards.append(ours.step(action)[1])
        assert rewards[-1] == sum(math.degrees(math.acos(cosine)) < 18.2 for cosine in cosines)
    assert {0.0, 3.0} < set(rewards)


@pytest.mark.parametrize("size", [8, 15, 32])
def test_picture_is_the_rod_painted_slowly(size):
    env = PixelPendulumEnv(size=size)
    for observation, state in episode(env, random_actions(40)):
        # Pixels are cut off to whole luminances, and the slow painter misses the nearest point by half its step.
        np.testing.assert_allclose(observation[-1], paint_slowly(state, size), atol=1 + 255 * 0.45 * size / 2000)


def test_upright_rod_lights_the_upper_half():
    observation, _ = PixelPendulumEnv().reset(seed=0, options=UPRIGHT)
    upper, lower = (int(half.sum(dtype=int)) for half in np.split(observation[-1], 2))
    # The lower half sees the round end at the pivot.
    assert 0 < lower < 0.1 * upper
    np.testing.assert_array_equal(observation[-1], observation[-1, :, ::-1])


def test_mirrored_motion_mirrors_the_pictures():
    actions = random_actions(50)
    there = episode(PixelPendulumEnv(), actions, options=UPRIGHT)
    mirrored = episode(PixelPendulumEnv(), -actions, options=UPRIGHT)
    for (observation, state), (other, other_state) in zip(there, mirrored, strict=True):
        np.testing.assert_array_equal(state, other_state * [1, -1, -1])
        np.testing.assert_array_equal(observation, other[:, :, ::-1])
    assert min(state[0] for _, state in there) < 0


def test_first_frame_is_repeated_and_frames_move_up():
    env = PixelPendulumEnv(n_frames=4)
    for _ in range(2):
        (observation, _), *steps = episode(env, random_actions(6))
        assert observation.shape == (4, 32, 32) and observation.dtype == np.uint8 and observation.any()
        np.testing.assert_array_equal(observation, observation[[0] * 4])
        for following, _ in steps:
            np.testing.assert_array_equal(following[:3], observation[1:])
            assert (following[3] != observation[3]).any()
            observation = following


def test_observations_are_not_written_again():
    env = PixelPendulumEnv()
    first, _ = env.reset(seed=0)
    copy = first.copy()
    for action in random_actions(5):
        env.step(action)
    np.testing.assert_array_equal(first, copy)


def test_same_seed_same_bits_and_other_seeds_others():
    def two_episodes(seed):
        env = PixelPendulumEnv()
        return [*episode(env, random_actions(10), seed), *episode(env, random_actions(10), None)]

    np.testing.assert_equal(two_episodes(7), two_episodes(7))
    starts = [state for seed in (7, 8) for _, state in two_episodes(seed)[::11]]
    assert len({state.tobytes() for state in starts}) == 4


def test_registered_episodes_have_100_steps():
    env = gym.make(PIXEL_PENDULUM_ID, n_frames=2)
    assert isinstance(env.unwrapped, PixelPendulumEnv) and env.observation_space.shape == (2, 32, 32)
    env.reset(seed=0)
    ends = [env.step(action)[2:4] for action in random_actions(100)]
    assert ends == [(False, False)] * 99 + [(False, True)]


@pytest.mark.parametrize(("env_id", "n_frames"), [(PIXEL_PENDULUM_ID, 3), (ONE_FRAME_PENDULUM_ID, 1)])
def test_ids_say_how_many_frames_are_stacked(env_id, n_frames):
    env = gym.make(env_id)
    assert env.observation_space.shape == (n_frames, 32, 32) and env.spec.max_episode_steps == 100


def test_render_shows_the_newest_frame_enlarged():
    env = gym.make(PIXEL_PENDULUM_ID, render_mode="rgb_array")
    env.reset(seed=0)
    observation = env.step(random_actions(1)[0])[0]
    picture = env.render()
    assert picture.shape == (256, 256, 3) and picture.dtype == np.uint8
    for row, column, channel in ((0, 0, 0), (0, 7, 1), (7, 0, 2)):
        np.testing.assert_array_equal(picture[row::8, column::8, channel], observation[-1])


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
