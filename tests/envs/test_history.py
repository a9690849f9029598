"""HistoryWrapper against windows made by hand, for one environment and for several."""

import copy
import pickle
import warnings
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import TimeLimit
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from windows_by_hand import BOX, SPACES, Scripted, assert_equal_windows, window

from sb3_latent.envs import PIXEL_PENDULUM_ID, HistoryWrapper, VecHistoryWrapper

ACTION_SPACES = {
    "box": BOX,
    "box of doubles": spaces.Box(-3.0, 5.0, (1,), np.float64),
    "table": spaces.Box(-1, 1, (2, 3), np.float32),
    "no bounds": spaces.Box(-np.inf, np.inf, (2,), np.float32),
    "choice": spaces.Discrete(3),
    "choice from 5": spaces.Discrete(3, start=5),
}


def several(n_envs, **kwargs):
    return DummyVecEnv([lambda i=i: Scripted(i, **kwargs) for i in range(n_envs)])


def row(windows, env):
    return {name: values[env] for name, values in windows.items()}


@settings(max_examples=60)
@given(
    number=st.integers(0, 1000),
    frames=st.sampled_from(sorted(SPACES)),
    actions=st.sampled_from(sorted(ACTION_SPACES)),
    length=st.integers(2, 6),
    start=st.sampled_from(["repeat", "zeros"]),
    resets=st.sets(st.integers(0, 24), max_size=3),
)
def test_one_environment_shows_the_windows_made_by_hand(number, frames, actions, length, start, resets):
    space = ACTION_SPACES[actions]
    space.seed(0)
    scripted = Scripted(number, frames, space)
    env = HistoryWrapper(scripted, length, start)
    over = True
    for i in range(25):
        if over or i in resets:
            observed, _ = env.reset()
            over, t = False, 0
        else:
            observed, reward, terminated, truncated, _ = env.step(space.sample())
            over, t = terminated or truncated, t + 1
            assert reward == scripted.episodes[-1].rewards[-1] and terminated == (scripted.episodes[-1].end == "terminated")
        assert env.observation_space.contains(observed)
        assert_equal_windows(observed, window(scripted.episodes[-1], t, length, start, space))


@settings(max_examples=60)
@given(
    n_envs=st.integers(1, 4),
    frames=st.sampled_from(sorted(SPACES)),
    actions=st.sampled_from(sorted(ACTION_SPACES)),
    length=st.integers(2, 6),
    start=st.sampled_from(["repeat", "zeros"]),
    max_steps=st.integers(1, 9),
    resets=st.sets(st.integers(1, 24), max_size=3),
    is_inside=st.booleans(),
)
def test_several_environments_show_the_windows_made_by_hand(
    n_envs, frames, actions, length, start, max_steps, resets, is_inside
):
    """A wrapper around each of them, or one around all: what comes out is the same."""
    space = ACTION_SPACES[actions]
    space.seed(0)
    scripted = [Scripted(i, frames, space, max_steps) for i in range(n_envs)]
    if is_inside:
        env = DummyVecEnv([lambda one=one: HistoryWrapper(one, length, start) for one in scripted])
    else:
        env = VecHistoryWrapper(DummyVecEnv([lambda one=one: one for one in scripted]), length, start)
    observed = env.reset()
    n_ended = 0
    for i in range(25):
        if i in resets:
            observed, dones, infos = env.reset(), np.zeros(n_envs), [{}] * n_envs
        elif i:
            observed, _, dones, infos = env.step(np.stack([space.sample() for _ in range(n_envs)]))
        for number, one in enumerate(scripted):
            episode = one.episodes[-1]
            if i and dones[number]:
                n_ended += 1
                before = one.episodes[-2]
                last = window(before, len(before.rewards), length, start, space)
                assert_equal_windows(infos[number]["terminal_observation"], last)
            elif i:
                assert "terminal_observation" not in infos[number]
            assert_equal_windows(row(observed, number), window(episode, len(episode.rewards), length, start, space))
    assert n_ended or max_steps > 1


def test_a_vectorised_environment_makes_a_vectorised_wrapper():
    env = HistoryWrapper(several(2), length=3, start="zeros")
    assert type(env) is VecHistoryWrapper
    assert env.observation_space["frames"].shape == (3, 2, 4, 5)
    assert_equal_windows(row(env.reset(), 1), window(env.venv.envs[1].episodes[0], 0, 3, "zeros", BOX))
    assert HistoryWrapper(Scripted()).observation_space["mask"].shape == (8,)


def test_environments_in_other_processes_show_the_same():
    """There infos come as a tuple, and the limit of an episode through a pipe."""
    inner = [lambda i=i: TimeLimit(Scripted(i, max_steps=4), 4) for i in range(2)]
    envs = [HistoryWrapper(cls(inner), length=3) for cls in (DummyVecEnv, lambda fns: SubprocVecEnv(fns, "fork"))]
    actions = np.random.default_rng(0).uniform(BOX.low, BOX.high, (12, 2, 2)).astype(np.float32)
    try:
        a, b = (env.reset() for env in envs)
        assert_equal_windows(a, b)
        for action in actions:
            (a, _, dones, infos), (b, _, _, others) = (env.step(action) for env in envs)
            assert_equal_windows(a, b)
            for number in np.flatnonzero(dones):
                assert_equal_windows(infos[number]["terminal_observation"], others[number]["terminal_observation"])
        with pytest.raises(ValueError, match="length=6: episodes of at most 4 steps have 5 frames"):
            HistoryWrapper(envs[1].venv, length=6)
    finally:
        for env in envs:
            env.close()


def test_actions_are_scaled_as_sb3_scales_them_and_stay_in_their_space():
    env = HistoryWrapper(Scripted(), length=2)
    policy = SimpleNamespace(action_space=BOX)
    for action in [*np.random.default_rng(0).uniform(BOX.low, BOX.high, (20, 2)).astype(np.float32), BOX.low, BOX.high]:
        env.reset()
        np.testing.assert_array_equal(env.step(action)[0]["actions"][0], BasePolicy.scale_action(policy, action))
    env.reset()
    np.testing.assert_array_equal(env.step(np.array([-7, 9], np.float32))[0]["actions"][0], [-1, 1])


@pytest.mark.parametrize("env_id", [PIXEL_PENDULUM_ID, "CartPole-v1", "sb3_latent/TinyBall-v0"])
@pytest.mark.parametrize("start", ["repeat", "zeros"])
def test_the_checkers_of_gymnasium_and_sb3_pass(env_id, start):
    with warnings.catch_warnings():
        # Shapes that SB3's own policies do not take, and bounds that are the environment's.
        warnings.filterwarnings(
            "ignore", message=".*(unconventional shape|symmetric and normalized|different from the unwrapped)"
        )
        warnings.filterwarnings("ignore", message=".*(is -?infinity|probably too (low|high))")
        check_env(HistoryWrapper(gym.make(env_id), 4, start), skip_render_check=env_id == "CartPole-v1")
        check_env_for_sb3(HistoryWrapper(gym.make(env_id), 4, start))


def test_frames_of_zeros_lie_in_the_space_whatever_the_bounds():
    space = HistoryWrapper(Scripted(frames="vector"), 3, "zeros").observation_space["frames"]
    assert (space.low.min(), space.high.max()) == (0, 9)
    space = HistoryWrapper(Scripted(frames="vector"), 3).observation_space["frames"]
    assert (space.low.min(), space.high.max()) == (1, 9)


def test_seeds_and_options_reach_the_environment():
    seen = []

    class Listening(Scripted):
        def reset(self, seed=None, options=None):
            seen.append((seed, options))
            return super().reset(seed, options)

    HistoryWrapper(Listening(), 3).reset(seed=5, options={"a": 1})
    env = HistoryWrapper(DummyVecEnv([Listening] * 2), 3)
    env.seed(7)
    env.set_options({"b": 2})
    env.reset()
    assert seen == [(5, {"a": 1}), (7, {"b": 2}), (8, {"b": 2})]


class Reusing(Scripted):
    """Overwrites the one array that it observes, and the actions."""

    def __init__(self):
        super().__init__(max_steps=50)
        self.array = np.zeros_like(self.frame(0))

    def reset(self, seed=None, options=None):
        self.array[:] = super().reset(seed)[0]
        return self.array, {}

    def step(self, action):
        frame, *rest = super().step(action)
        self.array[:], action[:] = frame, -1
        return self.array, *rest


@pytest.mark.parametrize("is_vectorised", [False, True])
def test_windows_are_copies(is_vectorised):
    """Of what the environment observes, of each other, and of what later windows are made from."""
    scripted = Reusing()
    env = HistoryWrapper(DummyVecEnv([lambda: scripted]) if is_vectorised else scripted, length=3)
    action = np.zeros((1, 2), np.float32)
    observed = [env.reset() if is_vectorised else env.reset()[0]]
    kept = [copy.deepcopy(observed[0])]
    for t in range(1, 8):
        window_ = env.step(action.copy())[0] if is_vectorised else env.step(action[0].copy())[0]
        expected = window(scripted.episodes[0], t, 3, "repeat", BOX)
        assert_equal_windows(row(window_, 0) if is_vectorised else window_, expected)
        for one, copied in zip(observed, kept, strict=True):
            assert_equal_windows(one, copied)
        action += 1 / 16
        if t % 2:
            for values in window_.values():
                values[:] = 0
        observed.append(window_)
        kept.append(copy.deepcopy(window_))


def test_the_last_window_of_an_episode_is_a_copy():
    env = HistoryWrapper(several(1, max_steps=1), length=3)
    env.reset()
    observed, _, _, infos = env.step(np.zeros((1, 2), np.float32))
    assert not any(np.shares_memory(observed[name], infos[0]["terminal_observation"][name]) for name in observed)


def test_an_environment_that_hides_its_last_observation_gets_none():
    class Hiding(DummyVecEnv):
        def step_wait(self):
            *rest, infos = super().step_wait()
            return *rest, [{} for _ in infos]

    env = HistoryWrapper(Hiding([lambda: Scripted(max_steps=1)]), length=3)
    env.reset()
    observed, _, dones, infos = env.step(np.zeros((1, 2), np.float32))
    assert dones.all() and infos == [{}]
    assert_equal_windows(row(observed, 0), window(env.venv.envs[0].episodes[1], 0, 3, "repeat", BOX))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deepcopy", "pickle"])
def test_a_copy_goes_its_own_way(clone):
    env = HistoryWrapper(Scripted(max_steps=50), 3)
    env.reset()
    other = clone(env)
    for _ in range(4):
        mine, *_ = env.step(BOX.low)
    theirs, *_ = other.step(BOX.high)
    assert_equal_windows(theirs, window(other.unwrapped.episodes[0], 1, 3, "repeat", BOX))
    assert_equal_windows(mine, window(env.unwrapped.episodes[0], 4, 3, "repeat", BOX))


def test_gymnasium_builds_it_anew_from_its_spec():
    env = HistoryWrapper(gym.make(PIXEL_PENDULUM_ID), 5, start="zeros")
    assert env.spec.make().observation_space == env.observation_space


class Spaces(gym.Env):
    def __init__(self, observation_space=SPACES["image"], action_space=BOX):
        self.observation_space, self.action_space = observation_space, action_space


DICT = spaces.Dict(camera=SPACES["image"], speed=SPACES["vector"])
UNEVEN = spaces.Box(np.arange(400, dtype=np.float32).reshape(20, 20), np.full((20, 20), 500, np.float32))


@pytest.mark.parametrize(
    "make_env, arguments, message",
    [
        (Spaces, dict(length=1), "length=1 must be an integer of at least 2"),
        (Spaces, dict(length=2.0), r"length=2\.0 must be an integer"),
        (Spaces, dict(start="zero"), "unknown start 'zero'; did you mean 'zeros'.*'repeat', 'zeros'"),
        (lambda: Spaces(DICT), {}, r"Dict\('camera', 'speed'\) is no frame; let the environment observe one Box"),
        (lambda: Spaces(spaces.Discrete(4)), {}, r"Discrete\(shape=\(\)\) is no frame"),
        (lambda: Spaces(UNEVEN), {}, r"Box\(shape=\(20, 20\)\) is no frame.*\(C, H, W\) or \(H, W, C\) or a vector"),
        (lambda: Spaces(action_space=spaces.MultiBinary(3)), {}, r"MultiBinary\(shape=\(3,\)\) is neither Box nor Discrete"),
        (
            lambda: Spaces(action_space=spaces.Box(np.zeros(2, np.float32), np.arange(2, dtype=np.float32))),
            {},
            "low is not below high everywhere",
        ),
        (lambda: HistoryWrapper(Scripted()), {}, "observes windows already; use HistoryWrapper once"),
        (
            lambda: Monitor(TimeLimit(Scripted(), 6)),
            {},
            "length=8: episodes of at most 6 steps have 7 frames; pass a length of at",
        ),
        (lambda: gym.make(PIXEL_PENDULUM_ID), dict(length=102), "length=102: episodes of at most 100 steps have 101 frames"),
    ],
)
@pytest.mark.parametrize("is_vectorised", [False, True])
def test_what_cannot_work_is_refused_in_one_line(make_env, arguments, message, is_vectorised):
    env = DummyVecEnv([make_env]) if is_vectorised else make_env()
    with pytest.raises(ValueError, match=message) as error:
        HistoryWrapper(env, **arguments)
    assert "\n" not in str(error.value)


def test_a_window_may_be_a_whole_episode():
    """Of 7 steps and thus 8 frames; of several environments, the shortest limit counts."""
    HistoryWrapper(TimeLimit(Scripted(), 7))
    envs = [lambda limit=limit: TimeLimit(Scripted(), limit) for limit in (9, 6)]
    HistoryWrapper(DummyVecEnv(envs), length=7)
    with pytest.raises(ValueError, match="at most 6 steps"):
        HistoryWrapper(DummyVecEnv([*envs, Scripted]))
