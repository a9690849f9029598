"""What is kept of an episode is what the model met, and nothing is changed by looking."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from algorithms import ALGORITHMS, NoiseImageEnv, make_model, tiny
from gymnasium import spaces
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv
from unchanged import assert_same, assert_unchanged, snapshot

from sb3_latent.episodes import play_episode
from sb3_latent.playing import make_actor


class CountingEnv(gym.Env):
    """Episodes of 4 steps; observation and picture are the number of the step, the reward is ten times that."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  (gymnasium's attribute)

    def __init__(self, render_mode="rgb_array", broken=False):
        self.observation_space = spaces.Box(0, 100, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.render_mode, self.broken = render_mode, broken

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n = 0
        return np.float32([0]), {}

    def step(self, action):
        self.n += 1
        return np.float32([self.n]), 10.0 * (self.n - 1), self.n == 4, False, {}

    def render(self):
        if self.broken:
            raise RuntimeError("no display\nat all")
        return np.full((3, 5, 3), self.n, np.uint8)


class Life(gym.Wrapper):
    """Ends an episode every second step, as SB3's EpisodicLifeEnv does inside a Monitor's episode."""

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.over = terminated
        return observation, reward, terminated or self.unwrapped.n % 2 == 0, truncated, info

    def reset(self, **kwargs):
        if getattr(self, "over", True):
            self.over = False
            return self.env.reset(**kwargs)
        return np.float32([self.unwrapped.n]), {}


def ppo(env):
    return PPO("MlpPolicy", env, n_steps=8, batch_size=8, policy_kwargs={"net_arch": [4]}, device="cpu")


def test_an_episode_is_what_happened():
    env = make_vec_env(CountingEnv, 2)
    episode = play_episode(ppo(env), make_vec_env(CountingEnv, 2))
    assert len(episode) == 4
    assert episode.observations.ravel().tolist() == [0, 1, 2, 3]
    assert episode.rewards.tolist() == [0, 10, 20, 30]
    assert episode.starts.tolist() == [True, False, False, False]
    assert (episode.pictures == np.arange(4)[:, None, None, None]).all() and episode.pictures.shape == (4, 3, 5, 3)
    assert episode.actions.shape == (4,) and episode.actor_memory is None and episode.action_masks is None


def test_it_ends_with_the_game_and_not_with_a_life():
    model = ppo(CountingEnv())
    episode = play_episode(model, make_vec_env(CountingEnv, wrapper_class=Life))
    assert episode.observations.ravel().tolist() == [0, 1, 2, 3]
    assert episode.starts.tolist() == [True, False, True, False]
    unmonitored = DummyVecEnv([lambda: Life(CountingEnv())])
    assert len(play_episode(model, unmonitored)) == 2


def test_it_ends_after_max_steps():
    assert len(play_episode(ppo(CountingEnv()), make_vec_env(CountingEnv), 3)) == 3
    with pytest.raises(ValueError, match="max_steps=0 must be an integer of at least 1"):
        play_episode(ppo(CountingEnv()), make_vec_env(CountingEnv), 0)


def test_what_renders_nothing_has_no_pictures():
    model = ppo(CountingEnv())
    assert play_episode(model, make_vec_env(CountingEnv), render=False).pictures is None
    assert play_episode(model, DummyVecEnv([lambda: CountingEnv(render_mode=None)])).pictures is None


def test_a_machine_without_a_display_is_told_so_in_one_line():
    env = make_vec_env(CountingEnv, env_kwargs={"broken": True})
    with pytest.raises(OSError, match=r"cannot render here \(no display\); .*MUJOCO_GL=egl") as error:
        play_episode(ppo(CountingEnv()), env)
    assert "\n" not in str(error.value)
    assert len(play_episode(ppo(CountingEnv()), env, render=False)) == 4


@pytest.mark.parametrize("name", ALGORITHMS)
def test_playing_changes_nothing_and_repeats_itself(name):
    discrete = ALGORITHMS[name].discrete
    model = make_model(name, tiny("vae"), env=make_vec_env(lambda: NoiseImageEnv(discrete), 2))
    model.action_space.seed(3)
    envs = [make_vec_env(lambda: NoiseImageEnv(discrete), 2) for _ in range(3)]
    before, noise = snapshot(model), model.action_space.np_random.bit_generator.state
    episodes = [play_episode(model, env, deterministic=False, seed=seed) for env, seed in zip(envs, (0, 0, 1), strict=True)]
    assert_unchanged(model, before)
    assert model.action_space.np_random.bit_generator.state == noise
    assert_same(vars(episodes[0]), vars(episodes[1]), "episode")
    assert (episodes[0].observations != episodes[2].observations).any()


def test_an_action_space_shared_with_the_environment_stays_as_it_was():
    class SharingEnv(NoiseImageEnv):
        space = spaces.Discrete(3, seed=1)

        def __init__(self):
            super().__init__()
            self.action_space = self.space

    model, env = make_model("DQN", tiny("vae"), env=SharingEnv()), make_vec_env(SharingEnv)
    assert model.action_space is env.action_space
    before = str(model.action_space.np_random.bit_generator.state)
    play_episode(model, env, deterministic=False)
    assert str(model.action_space.np_random.bit_generator.state) == before


def test_masked_actions_are_kept_and_not_taken():
    model = make_model("MaskablePPO", tiny("vae"))
    episode = play_episode(model, make_vec_env(NoiseImageEnv), deterministic=False)
    assert (episode.action_masks == [True, True, False]).all() and (episode.actions != 2).all()
    images = np.random.default_rng(0).integers(0, 256, (8, 1, 12, 12), dtype=np.uint8)
    for policy in (model, None):
        act = make_actor(policy, make_vec_env(NoiseImageEnv, 8), deterministic=False)
        taken = np.concatenate([act(images, np.zeros(8, bool)) for _ in range(20)])
        assert set(taken.tolist()) == {0, 1}


ONE_LSTM = {"enable_critic_lstm": False}


@pytest.mark.parametrize("settings", [{}, ONE_LSTM, {**ONE_LSTM, "shared_lstm": True}], ids=["two", "one", "shared"])
def test_memory_is_what_the_lstms_knew(settings):
    model = make_model("RecurrentPPO", {**tiny("vae"), **settings})
    episode = play_episode(model, make_vec_env(NoiseImageEnv))
    policy = model.policy
    zeros = th.zeros(policy.lstm_hidden_state_shape)
    states = RNNStates((zeros, zeros), (zeros, zeros))
    for step in range(len(episode)):
        part = episode.part(slice(step, step + 1))
        for memory, known in ((part.actor_memory, states.pi), (part.critic_memory, states.vf)):
            for kept, state in zip(memory, known, strict=True):
                np.testing.assert_allclose(kept[:, 0], state[:, 0].numpy(), atol=1e-6)
        with th.no_grad():
            actions, _, _, states = policy(
                policy.obs_to_tensor(part.observations)[0], states, th.tensor([float(step == 0)]), deterministic=True
            )
        assert actions.item() == part.actions[0]
    assert np.abs(episode.actor_memory[0][:, 1:]).min() > 0


def test_dict_observations_and_parts():
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,), np.float32), "b": spaces.Discrete(3)})

    class DictEnv(CountingEnv):
        def __init__(self):
            super().__init__(render_mode=None)
            self.observation_space = space

        def reset(self, **kwargs):
            super().reset(**kwargs)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), *super().step(action)[1:]

    env = DummyVecEnv([DictEnv])
    model = PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, device="cpu")
    episode = play_episode(model, DummyVecEnv([DictEnv]))
    part = episode.part([3, 1])
    assert {key: array.shape for key, array in part.observations.items()} == {"a": (2, 2), "b": (2,)}
    assert (part.observations["a"][0] == episode.observations["a"][3]).all() and part.rewards.tolist() == [30, 10]


def test_who_cannot_act_is_refused():
    with pytest.raises(TypeError, match=r"policy=3 cannot act; pass an SB3 model or policy, a function"):
        make_actor(3, make_vec_env(CountingEnv), deterministic=True)
