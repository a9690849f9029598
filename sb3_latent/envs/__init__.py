"""Registered environments: importing this module makes ``sb3_latent/TinyBall-v0`` known to gymnasium."""

import gymnasium as gym

from sb3_latent.envs.tiny_ball import TinyBallEnv

TINY_BALL_ID = "sb3_latent/TinyBall-v0"

if TINY_BALL_ID not in gym.registry:
    gym.register(id=TINY_BALL_ID, entry_point="sb3_latent.envs.tiny_ball:TinyBallEnv")

__all__ = ["TINY_BALL_ID", "TinyBallEnv"]
