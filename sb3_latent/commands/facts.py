"""What a number in a JSON was measured on."""

from argparse import Namespace
from importlib.metadata import version
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

_PACKAGES = ("sb3_latent", "stable_baselines3", "sb3_contrib", "torch", "gymnasium", "numpy")


def facts_of(model: BaseAlgorithm, env: VecEnv, parsed: Namespace) -> dict[str, Any]:
    """
    :param model: that was looked at.
    :param env: where it played.
    :param parsed: arguments of an :func:`~sb3_latent.commands.arguments.agent_parser`.
    :return: plain data.
    """
    return {
        "model": str(parsed.model),
        "algorithm": type(model).__name__,
        "env": env.get_attr("spec")[0].id,
        "env_kwargs": parsed.env_kwargs,
        "seed": parsed.seed,
        "versions": {name: version(name) for name in _PACKAGES},
    }
