"""Registered environments: importing this module makes our worlds and the DeepMind Control tasks known to gymnasium."""

import gymnasium as gym

from sb3_latent.envs.dmc import dmc_env, make_dmc_env
from sb3_latent.envs.dmc_settings import MEDIUM_TASKS, PLANET_ACTION_REPEAT, DmcSettings
from sb3_latent.envs.history import HistoryWrapper, VecHistoryWrapper
from sb3_latent.envs.pixel_pendulum import PixelPendulumEnv
from sb3_latent.envs.tiny_ball import TinyBallEnv

TINY_BALL_ID = "sb3_latent/TinyBall-v0"
PIXEL_PENDULUM_ID = "sb3_latent/PixelPendulum-v0"
# "sb3_latent/dmc-cheetah-run-pixels-v0" and so on: the settings of the literature are part of the name.
DMC_IDS = {
    f"sb3_latent/dmc-{task}-{obs_type}-v0": {"task": task, "obs_type": obs_type}
    for task in dict.fromkeys((*PLANET_ACTION_REPEAT, *MEDIUM_TASKS))
    for obs_type in ("pixels", "states")
}

if TINY_BALL_ID not in gym.registry:
    gym.register(id=TINY_BALL_ID, entry_point="sb3_latent.envs.tiny_ball:TinyBallEnv")
if PIXEL_PENDULUM_ID not in gym.registry:
    # 200 steps of the pendulum, as Pendulum-v1 has, two under each action.
    gym.register(id=PIXEL_PENDULUM_ID, entry_point="sb3_latent.envs.pixel_pendulum:PixelPendulumEnv", max_episode_steps=100)
for env_id, settings in DMC_IDS.items():
    if env_id not in gym.registry:
        gym.register(id=env_id, entry_point="sb3_latent.envs.dmc:dmc_env", kwargs=settings)

__all__ = [
    "DMC_IDS",
    "PIXEL_PENDULUM_ID",
    "TINY_BALL_ID",
    "DmcSettings",
    "HistoryWrapper",
    "PixelPendulumEnv",
    "TinyBallEnv",
    "VecHistoryWrapper",
    "dmc_env",
    "make_dmc_env",
]
