"""Runs of the command in this process, at sizes that take a second or two."""

import subprocess
import sys
from pathlib import Path

import yaml
from stable_baselines3.common.callbacks import BaseCallback

import sb3_latent.zoo_configs
from sb3_latent.cli import main
from sb3_latent.zoo.algorithms import ALGORITHMS

CONFIGS = {name: Path(sb3_latent.zoo_configs.__file__).with_name(f"{name}.yml") for name in ALGORITHMS}
TINY_BALL = "sb3_latent/TinyBall-v0"
SIZES = {
    "n_envs": 2,
    "n_steps": 32,
    "n_epochs": 1,
    "batch_size": 8,
    "learning_starts": 20,
    "train_freq": 20,
    "buffer_size": 500,
}
CALLBACKS = {
    "sb3_latent.callbacks.EncoderPretrainCallback": {"n_frames": 64, "n_epochs": 1},
    "sb3_latent.callbacks.ModelPretrainCallback": {"n_updates": 2},
}


SEEN = []
"""What :class:`Remember` has seen."""


class Remember(BaseCallback):
    """Keeps every model that it trained with."""

    def _on_training_start(self):
        SEEN.append(self.model)

    def _on_step(self):
        return True


def shrunk(algorithm, folder, **changes):
    """The file of an algorithm with the same keys and small numbers."""
    config = yaml.safe_load(CONFIGS[algorithm].read_text())
    for hyperparams in config.values():
        hyperparams.update({name: size for name, size in SIZES.items() if name in hyperparams}, **changes)
        for callback in hyperparams.get("callback") or []:
            if isinstance(callback, dict):
                ((path, kwargs),) = callback.items()
                kwargs.update(CALLBACKS.get(path, {}))
    path = Path(folder) / f"{algorithm}.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def zoo(*arguments):
    """Exit status of ``sb3-latent zoo ...``."""
    try:
        return main(["zoo", *map(str, arguments)])
    except SystemExit as stop:
        return stop.code


def train(algorithm, env_id, folder, *arguments, config=None):
    given = ("--algo", algorithm, "--env", env_id, "-f", folder, "--seed", 0, "--eval-freq", -1, "--verbose", 0, *arguments)
    return zoo("train", *given, "--conf-file", config or shrunk(algorithm, folder))


def stock(module, *arguments, folder):
    """``python -m rl_zoo3.<module>`` in a process of its own."""
    command = [sys.executable, "-m", f"rl_zoo3.{module}", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
