"""The algorithms the package must work under, with settings so small that a gradient step costs a few milliseconds."""

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_latent import latent_kwargs

BATCH_SIZE = 8
N_GRADIENT_STEPS = 4
"""Of each optimizer in ``learn(n_timesteps)``."""

TINY_ENCODER: dict[str, Any] = {"latent_dim": 4, "trunk": "mlp", "trunk_kwargs": {"net_arch": (16,)}}


class NoiseImageEnv(gym.Env):
    """
    Episodes of 5 random images, none of them black; the reward is the action's size, or its negative on dark images.

    :param discrete: three actions, the last of them masked for MaskablePPO; else a Box of one.
    :param size: height and width in pixels.
    """

    def __init__(self, discrete: bool = True, size: int = 12) -> None:
        self.observation_space = spaces.Box(0, 255, (1, size, size), np.uint8)
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._n_steps = 0
        return self._draw(), {}

    def step(self, action):
        self._n_steps += 1
        reward = float(np.sum(action)) * (1.0 if self._image.mean() > 127 else -1.0)
        return self._draw(), reward, self._n_steps == 5, False, {}

    def action_masks(self):
        return np.array([True, True, False])

    def _draw(self):
        self._image = self.np_random.integers(1, 256, self.observation_space.shape, dtype=np.uint8)
        return self._image


@dataclass(frozen=True)
class Algorithm:
    """
    :param cls: the stock class.
    :param kwargs: its arguments.
    :param policy: its image policy.
    :param policy_kwargs: beside those of the extractor.
    :param discrete: whether its actions are.
    :param optimizers: those that step an extractor, each its own.
    :param n_timesteps: environment steps of a short run: two calls of ``train()`` or more.
    """

    cls: type[BaseAlgorithm]
    kwargs: dict[str, Any]
    n_timesteps: int
    policy: str = "CnnPolicy"
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    discrete: bool = True
    optimizers: tuple[str, ...] = ("policy.optimizer",)


_ROLLOUTS = {"n_steps": 16, "batch_size": BATCH_SIZE, "n_epochs": 1}
_REPLAY = {"buffer_size": 50, "learning_starts": 10, "batch_size": BATCH_SIZE, "train_freq": 1}
_ACTOR_CRITIC = {"discrete": False, "optimizers": ("critic.optimizer", "actor.optimizer")}

ALGORITHMS: dict[str, Algorithm] = {
    "PPO": Algorithm(PPO, _ROLLOUTS, 32),
    "A2C": Algorithm(A2C, {"n_steps": 8}, 32),
    "MaskablePPO": Algorithm(MaskablePPO, _ROLLOUTS, 32),
    "RecurrentPPO": Algorithm(RecurrentPPO, _ROLLOUTS, 32, policy="CnnLstmPolicy", policy_kwargs={"lstm_hidden_size": 8}),
    "TRPO": Algorithm(TRPO, {"n_steps": 16, "batch_size": BATCH_SIZE, "n_critic_updates": 1}, 32),
    "DQN": Algorithm(DQN, {**_REPLAY, "target_update_interval": 2}, 14),
    "QRDQN": Algorithm(QRDQN, {**_REPLAY, "target_update_interval": 2}, 14, policy_kwargs={"n_quantiles": 5}),
    "SAC": Algorithm(SAC, _REPLAY, 14, **_ACTOR_CRITIC),
    "TD3": Algorithm(TD3, {**_REPLAY, "policy_delay": 1}, 14, **_ACTOR_CRITIC),
    "TQC": Algorithm(TQC, _REPLAY, 14, policy_kwargs={"n_quantiles": 5}, **_ACTOR_CRITIC),
    "CrossQ": Algorithm(CrossQ, {**_REPLAY, "policy_delay": 1}, 14, policy="MlpPolicy", **_ACTOR_CRITIC),
}
"""By name."""


def make_model(name: str, policy_kwargs: dict[str, Any], policy: Any = None, **kwargs: Any) -> BaseAlgorithm:
    """
    A tiny model on noise images.

    :param name: key of :data:`ALGORITHMS`.
    :param policy_kwargs: those of the extractor and whatever else.
    :param policy: class or name instead of the table's.
    :param kwargs: replace arguments of the table.
    """
    entry = ALGORITHMS[name]
    everything = {"net_arch": [8], **entry.policy_kwargs, **policy_kwargs}
    settings = {"seed": 0, "device": "cpu", **entry.kwargs, **kwargs}
    env = settings.pop("env", None) or NoiseImageEnv(entry.discrete)
    return entry.cls(policy or entry.policy, env, policy_kwargs=everything, **settings)


def tiny(preset: str, **settings: Any) -> dict[str, Any]:
    """``latent_kwargs`` with a tiny encoder."""
    return latent_kwargs(preset, **{**TINY_ENCODER, **settings})


def control(preset: str, **settings: Any) -> dict[str, Any]:
    """The same encoder as ``tiny(preset)``, without tasks."""
    return tiny(preset, tasks={}, **settings)
