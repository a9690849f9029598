"""SAC from pixels learns: the whole of it at once, policy, autoencoder, replay buffer and world."""

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_latent import FrameReplayBuffer, LatentSACPolicy, get_extractor, latent_kwargs, sac_kwargs
from sb3_latent.envs import PIXEL_PENDULUM_ID

NETWORK = {"trunk": "mlp", "trunk_kwargs": {"net_arch": (128,)}}
SETTINGS = {"batch_size": 64, "buffer_size": 4000, "learning_starts": 250}
"""Small enough for a CPU; the convolutions of the preset would take twice the time."""


def make_env(seed):
    env = Monitor(gym.make(PIXEL_PENDULUM_ID, size=24))
    env.reset(seed=seed)
    return env


def mean_return(model):
    return evaluate_policy(model, make_env(10_000), n_eval_episodes=20)[0]


def train(preset, seed):
    model = SAC(
        LatentSACPolicy,
        make_env(seed),
        replay_buffer_class=FrameReplayBuffer,
        replay_buffer_kwargs={"n_frames": 3},
        policy_kwargs={**latent_kwargs(preset, **NETWORK), "net_arch": [256, 256]},
        seed=seed,
        **{**sac_kwargs(preset), **SETTINGS},
    )
    return model.learn(4000)


def explained_variance(model):
    """Of frames under random actions: 1 for a perfect reconstruction, 0 for the mean frame."""
    env = make_env(20_000)
    env.action_space.seed(0)
    frames = np.stack([env.step(env.action_space.sample())[0] for _ in range(100)])
    images = th.as_tensor(frames).float() / 255
    extractor = get_extractor(model)
    with th.no_grad():
        reconstruction = extractor.decode(extractor.encode(images).mean)
    return float(1 - (reconstruction - images).square().mean() / (images - images.mean(0)).square().mean())


def test_sac_ae_learns_to_swing_up():
    model = train("sac_ae", 0)
    # Random actions return -1213 on average over 300 episodes, and between -1287 and -1127 over 20.
    assert mean_return(model) > -800
    assert explained_variance(model) > 0.5
