"""Registered environments: importing this module makes our worlds and the DeepMind Control tasks known to gymnasium."""

from typing import Any

import gymnasium as gym

from sb3_latent.envs.dmc import dmc_env, make_dmc_env
from sb3_latent.envs.dmc_settings import MEDIUM_TASKS, PLANET_ACTION_REPEAT, SLAC_ACTION_REPEAT, DmcSettings
from sb3_latent.envs.fast_atari import FastAtariVecEnv, fast_atari
from sb3_latent.envs.history import HistoryWrapper, VecHistoryWrapper
from sb3_latent.envs.pixel_pendulum import PixelPendulumEnv
from sb3_latent.envs.tiny_ball import TinyBallEnv

TINY_BALL_ID = "sb3_latent/TinyBall-v0"
# A ball of 2.8 % of the pixels, which an autoencoder has reason to keep.
LARGE_BALL_ID = "sb3_latent/TinyBall-large-v0"
PIXEL_PENDULUM_ID = "sb3_latent/PixelPendulum-v0"
# One frame and no stack: for windows. Settings in a YAML file's env_kwargs would not reach rl_zoo3's evaluation.
ONE_FRAME_PENDULUM_ID = "sb3_latent/PixelPendulum-slac-v0"
# "sb3_latent/dmc-cheetah-run-pixels-v0" and so on: the settings of the literature are part of the name. Those of SLAC are one
# frame of 64x64 pixels and its own action repeats.
DMC_IDS: dict[str, dict[str, Any]] = {
    f"sb3_latent/dmc-{task}-{obs_type}-v0": {"task": task, "obs_type": obs_type}
    for task in dict.fromkeys((*PLANET_ACTION_REPEAT, *MEDIUM_TASKS))
    for obs_type in ("pixels", "states")
} | {
    f"sb3_latent/dmc-{task}-slac-v0": {"task": task, "size": 64, "frame_stack": 1, "action_repeat": n_repeats}
    for task, n_repeats in SLAC_ACTION_REPEAT.items()
}

for ball_id, ball_size in {TINY_BALL_ID: 2, LARGE_BALL_ID: 6}.items():
    if ball_id not in gym.registry:
        gym.register(id=ball_id, entry_point="sb3_latent.envs.tiny_ball:TinyBallEnv", kwargs={"ball_size": ball_size})
for pendulum_id, n_frames in {PIXEL_PENDULUM_ID: 3, ONE_FRAME_PENDULUM_ID: 1}.items():
    if pendulum_id not in gym.registry:
        gym.register(
            id=pendulum_id,
            entry_point="sb3_latent.envs.pixel_pendulum:PixelPendulumEnv",
            # 200 steps of the pendulum, as Pendulum-v1 has, two under each action.
            max_episode_steps=100,
            kwargs={"n_frames": n_frames},
        )
for env_id, settings in DMC_IDS.items():
    if env_id not in gym.registry:
        gym.register(id=env_id, entry_point="sb3_latent.envs.dmc:dmc_env", kwargs=settings)

__all__ = [
    "DMC_IDS",
    "LARGE_BALL_ID",
    "ONE_FRAME_PENDULUM_ID",
    "PIXEL_PENDULUM_ID",
    "TINY_BALL_ID",
    "DmcSettings",
    "FastAtariVecEnv",
    "HistoryWrapper",
    "PixelPendulumEnv",
    "TinyBallEnv",
    "VecHistoryWrapper",
    "dmc_env",
    "fast_atari",
    "make_dmc_env",
]
