"""Observation and label belong together, at the ends of episodes too, through the wrappers of SB3."""

import random

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
)

from sb3_latent.envs import PIXEL_PENDULUM_ID, TINY_BALL_ID, make_dmc_env
from sb3_latent.probes import Dataset, LabelsInInfo, collect
from sb3_latent.probes.labels import KEY


class Clock(gym.Env):
    """The picture is number of the episode and time; so is the state, in info and in the environment."""

    observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self, lengths=(3, 5, 2)):
        self.lengths, self.episode, self.time = lengths, -1, 0

    def look(self):
        picture = np.zeros((36, 36, 1), np.uint8)
        picture[0, 0], picture[0, 1] = self.episode, self.time
        return picture, {"episode_number": self.episode, "time": self.time, "text": "no number"}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.time = self.episode + 1, 0
        return self.look()

    def step(self, action):
        self.time += 1
        picture, info = self.look()
        return picture, 0.0, self.time == self.lengths[self.episode % len(self.lengths)], False, {**info, "only_on_step": 1}


def of_env(env, info):
    return {"episode_number": env.unwrapped.episode, "time": env.unwrapped.time}


@pytest.mark.parametrize("labels", ["info", ["episode_number", "time"], of_env])
@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("n_stack", [1, 3])
def test_labels_are_those_of_their_observation(labels, n_envs, n_stack):
    env = make_vec_env(Clock, n_envs)
    env = VecTransposeImage(VecFrameStack(env, n_stack) if n_stack > 1 else env)
    dataset = collect(None, env, labels, 60)
    newest = dataset.observations[:, -1, 0]
    assert list(dataset.labels) == ["episode_number", "time"]
    np.testing.assert_array_equal(dataset.labels["episode_number"], newest[:, 0])
    np.testing.assert_array_equal(dataset.labels["time"], newest[:, 1])
    assert len(dataset) == 60


class Reusing(VecEnvWrapper):
    """Hands out one array again and again."""

    def reset(self):
        self.array = self.venv.reset()
        return self.array

    def step_wait(self):
        observations, *rest = self.venv.step_wait()
        self.array[:] = observations
        return self.array, *rest


def test_rows_are_copies():
    dataset = collect(None, Reusing(VecTransposeImage(make_vec_env(Clock, 2))), n_steps=30)
    np.testing.assert_array_equal(dataset.labels["time"], dataset.observations[:, 0, 0, 1])


def test_every_episode_is_one_id_with_all_its_observations():
    dataset = collect(None, make_vec_env(Clock, 3), n_episodes=8)
    lengths = {}
    for episode in np.unique(dataset.episodes):
        rows = dataset.episodes == episode
        assert len(set(dataset.labels["episode_number"][rows])) == 1
        assert dataset.labels["time"][rows].tolist() == list(range(rows.sum()))
        lengths[episode] = int(rows.sum())
    # 8 episodes are 2, 3 and 3 of the three environments; one of 3 steps has 4 observations.
    assert sorted(lengths.values()) == sorted([4, 6] + 2 * [4, 6, 3])


def test_fewer_episodes_than_environments():
    dataset = collect(None, make_vec_env(Clock, 3), n_episodes=1)
    assert dataset.labels["time"].tolist() == [0, 1, 2, 3]


def test_environments_are_unwrapped_again_even_after_an_error():
    env = make_vec_env(Clock, 2)
    before = list(env.envs)
    collect(None, env, of_env, 5)
    assert env.envs == before

    def broken(env, info):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        collect(None, env, broken, 5)
    assert env.envs == before


def labelled_clock():
    return LabelsInInfo(Clock(), of_env)


def test_environments_in_processes():
    env = SubprocVecEnv([labelled_clock] * 2, start_method="fork")
    plain = SubprocVecEnv([Clock], start_method="fork")
    try:
        dataset = collect(None, env, of_env, 30)
        np.testing.assert_array_equal(dataset.labels["time"], dataset.observations[:, 0, 0, 1])
        np.testing.assert_array_equal(dataset.labels["episode_number"], dataset.observations[:, 0, 0, 0])
        assert (
            collect(None, plain, "info", 30).labels["time"].tolist()
            == collect(None, Clock(), "info", 30).labels["time"].tolist()
        )
        with pytest.raises(ValueError, match="SubprocVecEnv live elsewhere; wrap each with LabelsInInfo"):
            collect(None, plain, "ram", 5)
    finally:
        env.close()
        plain.close()


def test_states_of_our_worlds():
    ball = collect(None, make_vec_env(TINY_BALL_ID, 2), n_steps=80)
    for image, y, x in zip(ball.observations[:, 0], ball.labels["ball_y"], ball.labels["ball_x"], strict=True):
        assert (image[y : y + 2, x : x + 2] == 255).all()
    assert ball.labels["bricks_5"].dtype == bool
    pendulum = collect(None, make_vec_env(PIXEL_PENDULUM_ID, 1), n_steps=120)
    assert list(pendulum.labels) == ["state_0", "state_1", "state_2"]
    cosine, sine = pendulum.labels["state_0"], pendulum.labels["state_1"]
    np.testing.assert_allclose(cosine**2 + sine**2, 1, atol=1e-5)
    # The rod's brightness lies to the right where the sine is negative.
    weights = pendulum.observations[:, -1].sum(1)
    lean = (weights * (np.arange(32) - 15.5)).sum(1) / weights.sum(1)
    assert np.corrcoef(lean, -sine)[0, 1] > 0.99


def test_the_state_of_deepmind_control():
    pytest.importorskip("dm_control")
    dataset = collect(None, make_dmc_env("cartpole-swingup", 2, obs_type="states"), n_steps=300)
    assert list(dataset.labels) == [f"state_{i}" for i in range(5)]
    np.testing.assert_array_equal(np.stack(list(dataset.labels.values()), 1), dataset.observations)


def model_of(algorithm, env):
    settings = {"n_steps": 8, "batch_size": 8} if algorithm is PPO else {"buffer_size": 10}
    policy = "CnnPolicy"
    return algorithm(policy, env, policy_kwargs={"net_arch": [8]}, **settings)


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_playing_leaves_the_model_and_all_random_states(algorithm):
    model = model_of(algorithm, make_vec_env(TINY_BALL_ID, 1))
    model.policy.set_training_mode(True)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    space, space_state = model.action_space, model.action_space.np_random.bit_generator.state
    # Away from the states that seed 0 gives.
    random.random(), np.random.random(), th.rand(1)
    states = random.getstate(), np.random.get_state()[1].tolist(), th.get_rng_state()
    collect(model, make_vec_env(TINY_BALL_ID, 2), n_steps=40)
    assert model.action_space is space
    assert space.np_random.bit_generator.state == space_state
    assert states[0] == random.getstate() and states[1] == np.random.get_state()[1].tolist()
    assert th.equal(states[2], th.get_rng_state())
    assert all(module.training for module in model.policy.q_net.modules()) if algorithm is DQN else model.policy.training
    for name, value in model.policy.state_dict().items():
        assert th.equal(value, before[name])


@pytest.mark.parametrize("algorithm", [None, PPO, DQN])
def test_the_same_seed_gives_the_same_rows_and_another_others(algorithm):
    model = algorithm and model_of(algorithm, make_vec_env(TINY_BALL_ID, 1))
    one, same, other = (collect(model, make_vec_env(TINY_BALL_ID, 2), n_steps=60, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.observations, same.observations)
    np.testing.assert_array_equal(one.labels["paddle_x"], same.labels["paddle_x"])
    assert (one.observations != other.observations).any()


def test_who_plays_decides():
    model = model_of(PPO, make_vec_env(TINY_BALL_ID, 1))
    with th.no_grad():
        model.policy.action_net.bias[:] = th.tensor([0.0, 0.0, 100.0])
    dataset = collect(model, make_vec_env(TINY_BALL_ID, 2), n_steps=60)
    assert (dataset.labels["paddle_x"][20:] == 30).all()


def test_wrong_environments_are_refused():
    own = make_vec_env(TINY_BALL_ID, 1)
    model = model_of(PPO, own)
    with pytest.raises(ValueError, match="the model trains in"):
        collect(model, own, n_steps=5)
    with pytest.raises(ValueError, match="the model trains in"):
        collect(model, own.envs[0], n_steps=5)
    with pytest.raises(ValueError, match="wrap it as for training"):
        collect(model, make_vec_env(PIXEL_PENDULUM_ID, 1), n_steps=5)
    normalized = PPO("MlpPolicy", VecNormalize(make_vec_env("CartPole-v1", 1)), n_steps=8, batch_size=8)
    with pytest.raises(ValueError, match=r"VecNormalize.load\(path, env\)"):
        collect(normalized, make_vec_env("CartPole-v1", 1), n_steps=5)


def test_labels_that_cannot_be_read_are_one_line():
    env = make_vec_env(Clock, 1)
    with pytest.raises(ValueError, match="unknown labels 'imfo'; did you mean 'info'"):
        collect(None, env, "imfo", 5)
    with pytest.raises(ValueError, match="unknown entry of info: 'tme'; did you mean 'time'"):
        collect(None, env, ["tme"], 5)
    with pytest.raises(ValueError, match="info of reset holds no numbers"):
        collect(None, make_vec_env("CartPole-v1", 1), "info", 5)
    with pytest.raises(ValueError, match="labels='ram' reads the RAM of an Atari game"):
        collect(None, env, "ram", 5)
    with pytest.raises(ValueError, match=r"'no_such.module.state' cannot be imported"):
        collect(None, env, "no_such.module.state", 5)
    with pytest.raises(ValueError, match=r"labels='math.pi' is 3.14.*; name a function of \(env, info\)"):
        collect(None, env, "math.pi", 5)
    with pytest.raises(ValueError, match=r"label 'a' is None; labels are numbers"):
        collect(None, env, lambda env, info: {"a": None}, 5)
    with pytest.raises(ValueError, match="differ from the first ones"):
        collect(None, env, lambda env, info: {f"at_{info['time']}": 1}, 5)
    with pytest.raises(ValueError, match="n_steps=0 must be an integer of at least 1"):
        collect(None, env, "info", 0)
    with pytest.raises(ValueError, match="are in info already"):
        LabelsInInfo(Clock(), "info")


def twice(env, info):
    return {"twice": 2 * info["time"]}


def test_a_dotted_path_stands_for_its_function():
    by_path, by_function = (
        collect(None, make_vec_env(Clock, 2), labels, 9).labels["twice"] for labels in (f"{__name__}.twice", twice)
    )
    assert by_path.tolist() == by_function.tolist() and by_path.any()
    _, info = LabelsInInfo(Clock(), f"{__name__}.twice").reset()
    assert info[KEY] == {"twice": 2 * info["time"]}


def test_dict_observations_are_kept_by_key():
    class Both(Clock):
        observation_space = spaces.Dict({"image": Clock.observation_space, "time": spaces.Box(0, 9, (1,), np.float32)})

        def look(self):
            picture, info = super().look()
            return {"image": picture, "time": np.array([self.time], np.float32)}, info

    dataset = collect(None, DummyVecEnv([Both, Both]), n_steps=25)
    np.testing.assert_array_equal(dataset.observations["time"][:, 0], dataset.labels["time"])
    assert dataset.observations["image"].shape == (25, 1, 36, 36)


def test_a_dataset_that_does_not_fit_is_refused():
    space = spaces.Box(-1, 1, (2,), np.float32)
    with pytest.raises(ValueError, match="x has 3"):
        Dataset(np.zeros((4, 2)), {"x": np.zeros(3)}, np.zeros(4, np.int64), space)
    with pytest.raises(ValueError, match="not finite"):
        Dataset(np.zeros((4, 2)), {"x": np.full(4, np.nan)}, np.zeros(4, np.int64), space)
