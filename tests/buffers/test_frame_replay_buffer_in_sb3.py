"""FrameReplayBuffer in SB3's algorithms: everything that comes out is what comes out with the stock buffers."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from sb3_latent.buffers import FrameReplayBuffer

SIZE = 36
"""The smallest image that SB3's NatureCNN takes, for Dict observations."""


class Flicker(gym.Env):
    """Images that follow the actions, in episodes of 1 to 9 steps that end by themselves or by a time limit."""

    def __init__(self, n_channels, discrete=False, is_dict=False):
        shape = (SIZE, SIZE + 1, n_channels) if n_channels > 1 else (SIZE, SIZE + 1)
        self.image_space = spaces.Box(0, 255, shape, np.uint8)
        vector_space = spaces.Box(-1, 1, (2,), np.float32)
        self.is_dict = is_dict
        both = spaces.Dict({"image": self.image_space, "vector": vector_space})
        self.observation_space = both if is_dict else self.image_space
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.remaining = self.np_random.integers(1, 10)
        return self.observe(0), {}

    def observe(self, action):
        image = self.np_random.integers(0, 2, self.image_space.shape, dtype=np.uint8) * 50 + np.uint8(
            90 * np.sum(action) % 200
        )
        vector = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return {"image": image, "vector": vector} if self.is_dict else image

    def step(self, action):
        self.remaining -= 1
        over = self.remaining == 0
        by_itself = bool(over and self.np_random.integers(0, 2))
        return self.observe(action), float(np.sum(action)), by_itself, bool(over and not by_itself), {}


def stacked_by_sb3(n_envs=1, **kwargs):
    return VecFrameStack(DummyVecEnv([lambda: Flicker(3, **kwargs)] * n_envs), 3)


def stacked_by_gymnasium(n_envs=1, **kwargs):
    return DummyVecEnv([lambda: FrameStackObservation(Flicker(1, **kwargs), 4)] * n_envs)


def make_model(buffer_class, algorithm, make_env, n_envs=1, n_steps=1, path=None, **env_kwargs):
    is_dict = env_kwargs.get("is_dict", False)
    replay_buffer_kwargs = {} if path is None else {"path": path}
    if n_steps > 1:
        replay_buffer_kwargs.update(n_steps=n_steps, gamma=0.9)
    policy_kwargs = {"net_arch": [8]}
    if is_dict:
        policy_kwargs["features_extractor_kwargs"] = {"cnn_output_dim": 8}
    return algorithm(
        "MultiInputPolicy" if is_dict else "MlpPolicy",
        make_env(n_envs, **env_kwargs),
        buffer_size=24,
        learning_starts=12,
        batch_size=8,
        train_freq=8 if n_envs > 1 else 4,
        replay_buffer_class=buffer_class,
        replay_buffer_kwargs=replay_buffer_kwargs,
        policy_kwargs=policy_kwargs,
        seed=0,
        device="cpu",
    )


def assert_same(ours, stock):
    """Weights, and every transition that the buffers hold."""
    for a, b in zip(ours.policy.state_dict().values(), stock.policy.state_dict().values(), strict=True):
        assert th.equal(a, b)
    a, b = ours.replay_buffer, stock.replay_buffer
    assert a.size() == b.size() > 0
    index = np.ix_(np.arange(a.size()), np.arange(a.n_envs))
    for name in ("observations", "next_observations"):
        stored = getattr(b, name)
        expected = {key: array[index] for key, array in stored.items()} if isinstance(stored, dict) else stored[index]
        np.testing.assert_equal(getattr(a, name)[index], expected)
    for name in ("actions", "rewards", "dones", "timeouts"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize(
    "algorithm, make_env, arguments, stock_class",
    [
        (SAC, stacked_by_sb3, {}, ReplayBuffer),
        (SAC, stacked_by_sb3, {"n_envs": 2, "n_steps": 3}, NStepReplayBuffer),
        (SAC, stacked_by_sb3, {"n_envs": 2, "is_dict": True}, DictReplayBuffer),
        (TD3, stacked_by_gymnasium, {"n_steps": 2}, NStepReplayBuffer),
        (DQN, stacked_by_gymnasium, {"n_envs": 2, "discrete": True}, ReplayBuffer),
    ],
    ids=["SAC", "SAC-n-step-2-envs", "SAC-Dict-2-envs", "TD3-n-step", "DQN-2-envs"],
)
def test_training_twice_gives_the_weights_that_stock_buffers_give(algorithm, make_env, arguments, stock_class):
    """The second ``learn`` resets the environment in the middle of an episode."""
    models = [make_model(cls, algorithm, make_env, **arguments) for cls in (FrameReplayBuffer, stock_class)]
    for total_timesteps in (30, 50):
        for model in models:
            model.set_random_seed(total_timesteps)
            model.learn(total_timesteps)
        assert_same(*models)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("n_before", [16, 40], ids=["not full", "full"])
def test_a_saved_buffer_goes_on_as_if_nothing_had_happened(tmp_path, n_before, on_disk):
    path = tmp_path / "frames" if on_disk else None
    models = []
    for cls in (FrameReplayBuffer, ReplayBuffer):
        model = make_model(cls, SAC, stacked_by_sb3, path=path if cls is FrameReplayBuffer else None)
        model.learn(n_before)
        model.save(tmp_path / "model.zip")
        model.save_replay_buffer(tmp_path / "buffer.pkl")
        model = SAC.load(tmp_path / "model.zip", env=stacked_by_sb3(), device="cpu")
        model.load_replay_buffer(tmp_path / "buffer.pkl")
        assert type(model.replay_buffer) is cls
        model.set_random_seed(1)
        model.learn(30, reset_num_timesteps=False)
        models.append(model)
    assert_same(*models)


def test_a_file_that_is_no_pickle_leaves_the_buffer_alone(tmp_path):
    model = make_model(FrameReplayBuffer, SAC, stacked_by_sb3)
    model.learn(10)
    before = model.replay_buffer
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    whole = (tmp_path / "buffer.pkl").read_bytes()
    (tmp_path / "buffer.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Exception, match="truncated"):
        model.load_replay_buffer(tmp_path / "buffer.pkl")
    assert model.replay_buffer is before
