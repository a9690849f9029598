"""What is measured on what: models that take the same steps, each compared with the first of its world."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack

from benchmarks import sac, slac
from benchmarks.acting import N_ACTIONS
from benchmarks.sac import RandomImageEnv
from benchmarks.slac_reference import BATCH_SIZE as WINDOW_BATCH_SIZE
from sb3_latent import LatentSACPolicy, latent_kwargs, sac_kwargs
from sb3_latent.recipes import PRESETS, SAC_PRESETS, WINDOW_PRESETS

N_ENVS = 8
PPO_BATCH_SIZE = 64
"""SB3's default; the 32 of seed document 000 would say more of Python than of arithmetic."""

Maker = Callable[[], BaseAlgorithm]


@dataclass(frozen=True)
class World:
    """
    :param text: what its models have in common.
    :param makers: name -> what makes the model, ready for an update. All are compared with the first.
    :param batch_size: of a gradient step.
    :param n_steps: gradient steps in an update.
    """

    text: str
    makers: Mapping[str, Maker]
    batch_size: int
    n_steps: int = 1

    @property
    def base(self) -> str:
        """:return: name of the model that the others are compared with."""
        return next(iter(self.makers))

    def update(self, model: BaseAlgorithm) -> None:
        """Take the gradient steps of an update."""
        if isinstance(model, OffPolicyAlgorithm):
            model.train(self.n_steps, self.batch_size)
        elif isinstance(model, OnPolicyAlgorithm):
            model.train()


def stacks(n_channels: int, n_frames: int, size: int = 84, n_envs: int = N_ENVS) -> VecEnv:
    """:return: environments of square images of noise, stacked as SB3 does it."""
    env = DummyVecEnv([partial(RandomImageEnv, (n_channels, size, size))] * n_envs)
    return VecFrameStack(env, n_frames, channels_order="first")


def film(model: BaseAlgorithm) -> list[Any]:
    """:return: observations of consecutive steps in the model's environments."""
    env = model.get_env()
    assert env is not None
    observations = [deepcopy(env.reset())]
    while len(observations) < N_ACTIONS:
        observation, *_ = env.step(np.stack([env.action_space.sample() for _ in range(env.num_envs)]))
        observations.append(deepcopy(observation))
    return observations


def make_ppo(policy_kwargs: Mapping[str, Any], env: VecEnv, n_samples: int, **settings: Any) -> PPO:
    """:return: PPO after a first update, with a full rollout buffer."""
    settings = {"batch_size": n_samples, "n_epochs": 1, "n_steps": n_samples // env.num_envs} | settings
    model = PPO("CnnPolicy", env, policy_kwargs={"net_arch": [64, 64], **policy_kwargs}, seed=0, **settings)
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model.learn(n_samples)


def make_preset_ppo(preset: str | None) -> PPO:
    """:return: of four grey frames; without a preset SB3's own."""
    return make_ppo({} if preset is None else latent_kwargs(preset), stacks(1, 4), PPO_BATCH_SIZE)


def make_preset_sac(preset: str | None) -> SAC:
    """:return: of three color frames; without a preset SB3's own, with SAC+AE's encoder."""
    if preset is None:
        return sac.make_model(*sac.MODELS[sac.STOCK], stacks(3, 3))
    return sac.make_model(LatentSACPolicy, latent_kwargs(preset), stacks(3, 3))


def make_state_sac(preset: str | None) -> SAC:
    """:return: of a short vector."""
    env = DummyVecEnv([partial(gym.make, "Pendulum-v1")] * N_ENVS)
    if preset is None:
        return sac.make_model("MlpPolicy", {"net_arch": [1024, 1024]}, env)
    return sac.make_model(LatentSACPolicy, latent_kwargs(preset), env)


def make_window_sac(preset: str | None) -> SAC:
    """:return: of windows of single color frames; without a preset SB3's own, of the frames alone."""
    if preset is not None:
        return slac.make_model(preset, N_ENVS)
    env = DummyVecEnv([partial(RandomImageEnv, (3, 64, 64))] * N_ENVS)
    return sac.make_model("CnnPolicy", {"net_arch": [256, 256]}, env, **sac_kwargs("slac") | {"buffer_size": slac.N_STEPS})


FAMILIES: dict[str, tuple[Callable[[str | None], BaseAlgorithm], World]] = {
    key: (make, World(f"{text}, batch {batch_size}", {base: partial(make, None)}, batch_size, n_steps))
    for key, text, base, make, batch_size, n_steps in (
        ("ppo", "PPO, 84x84, stacks of 4 grey frames", "stock PPO, NatureCNN", make_preset_ppo, PPO_BATCH_SIZE, 1),
        ("sac", "SAC, 84x84, stacks of 3 color frames", sac.STOCK, make_preset_sac, sac.BATCH_SIZE, sac.N_STEPS),
        ("states", "SAC, states", "stock SAC of states", make_state_sac, sac.BATCH_SIZE, sac.N_STEPS),
        ("windows", "SAC, 64x64, windows of 8 color frames", "stock SAC of one frame", make_window_sac, WINDOW_BATCH_SIZE, 1),
    )
}
"""What makes the model of a preset, and the world that it joins, which has the plain model of SB3."""


def family_of(preset: str) -> str:
    """:return: key into ``FAMILIES``; of any preset, so that a new one has a row at once."""
    if preset in WINDOW_PRESETS:
        return "windows"
    if preset not in SAC_PRESETS:
        return "ppo"
    return "states" if PRESETS[preset].get("trunk") == "flatten" else "sac"


def preset_worlds(presets: Sequence[str]) -> list[World]:
    """
    :param presets: names from :func:`~sb3_latent.list_presets`.
    :return: worlds with the rows of these presets.
    """
    worlds = []
    for key, (make, world) in FAMILIES.items():
        own = {preset: partial(make, preset) for preset in presets if family_of(preset) == key}
        worlds += [replace(world, makers={**world.makers, **own})] if own else []
    return worlds
