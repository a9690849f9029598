"""What the commands on a saved model have in common."""

import ast
import os
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv

from sb3_latent.checks import whole_number
from sb3_latent.saliency import black, saliency
from sb3_latent.saliency.targets import find_target
from sb3_latent.saved_agents import load_agent, make_env_for


def agent_parser(prog: str, description: str, examples: str) -> ArgumentParser:
    """
    :param prog: the command.
    :param description: what it does.
    :param examples: lines of it.
    :return: a parser of the model, its environment and the output, for a command to add its own arguments to.
    """
    parser = ArgumentParser(
        prog,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="zip saved by SB3, sb3-contrib or rl_zoo3")
    parser.add_argument("--env", metavar="ID", help="environment, ID or MODULE:ID (default: the one rl_zoo3 trained it in)")
    parser.add_argument("--env-kwargs", nargs="+", default=[], metavar="KEY=VALUE", help="arguments of the environment")
    parser.add_argument("--algo", metavar="NAME", help="algorithm, e.g. ppo (default: found out from the file)")
    parser.add_argument("--seed", type=int, default=0, help="of the environment and all that is drawn (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="torch's (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="picture to write; its JSON lies beside it")
    return parser


def check_output(path: Path) -> None:
    """
    :param path: of the file that is to be written, asked before there is anything to write.
    :raises OSError: if it cannot be.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir():
        raise IsADirectoryError(f"--output {path} is a folder; name a file.")
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise OSError(f"--output {path} cannot be written: {folder} is no folder that you may write to.")


def open_agent(parsed: Namespace, n_envs: int = 1) -> tuple[BaseAlgorithm, VecEnv]:
    """
    :param parsed: arguments of an :func:`agent_parser`.
    :param n_envs: copies of the environment.
    :return: the model, and an environment that fits it.
    :raises FileNotFoundError: if there is no such model.
    :raises ValueError: if an argument is wrong.
    """
    whole_number("--seed", parsed.seed, minimum=0)
    model = load_agent(parsed.model, parsed.algo, _device(parsed.device))
    kwargs = key_values(parsed.env_kwargs)
    return model, make_env_for(model, parsed.model, parsed.env, n_envs, env_kwargs=kwargs, seed=parsed.seed)


def try_method(model: BaseAlgorithm, target: str, method: str) -> None:
    """
    Explain a black observation, so that what cannot be explained is told before the model plays.

    :param model: from :func:`open_agent`.
    :param target: see :func:`~sb3_latent.saliency.saliency`.
    :param method: likewise.
    :raises ValueError: if the model has no such target, or the method cannot explain it.
    :raises ImportError: if the method needs a library that is not installed.
    """
    space, actions = model.action_space, None
    if find_target(model, target).is_flat_when_greedy and isinstance(space, spaces.Box):
        # The likeliest action of a Gaussian has a flat probability.
        actions = np.clip(np.zeros((1, *space.shape)), space.low, space.high)
    saliency(model, black(model.observation_space), target, method, actions=actions)


def key_values(pairs: list[str]) -> dict[str, Any]:
    """
    :param pairs: ``"key=value"``, the value as in Python; what is no Python value is text.
    :return: values by key.
    :raises ValueError: if one has no key.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (equals and key.isidentifier()):
            raise ValueError(f"--env-kwargs {pair!r} must be KEY=VALUE, e.g. frameskip=4.")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return found


def _device(name: str) -> str:
    try:
        device = get_device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from error
    # SB3 takes the CPU where there is no GPU, and says nothing.
    if name != "auto" and device.type != name.partition(":")[0]:
        raise ValueError(f"--device {name}: there is none on this machine; leave it out, or say {device.type}.")
    return str(device)
