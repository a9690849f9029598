"""What it costs to look at an agent: training with callbacks, and the Jacobian of a batch, as ratios to going without."""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.logger import configure
from tqdm import tqdm

from benchmarks.machine import write_json
from benchmarks.tiny_ball import NETWORK, PPO_KWARGS
from sb3_latent import latent_kwargs
from sb3_latent.callbacks import JacobianSaliencyCallback, LatentMetricsCallback
from sb3_latent.envs import TINY_BALL_ID
from sb3_latent.saliency import value_jacobian

Tasks: TypeAlias = dict[str, Callable[[], object]]

N_STEPS = 61_440
"""Whole rollouts, in which each callback has many turns at its default frequency."""

HOOKS = ("on_training_start", "on_rollout_start", "on_step", "on_rollout_end", "on_training_end")
N_FRAMES = 64
ALGORITHMS: dict[str, Callable[..., BaseAlgorithm]] = {
    "PPO": PPO,
    "PPO with a VAE": partial(PPO, policy_kwargs=latent_kwargs("vae", trunk="nature")),
    "DQN": partial(DQN, buffer_size=1),
    "SAC": partial(SAC, buffer_size=1),
}
TRAINING = "training with callbacks / without"
LIMITS = {TRAINING: 1.02} | {f"Jacobian of {name} / forward and backward": 1.5 for name in ALGORITHMS}
"""What issue 6 of this project asks for."""


def make_learner(folder: str) -> PPO:
    """:return: PPO with a VAE on TinyBall, as small as any: what looks at it weighs most there; logs to TensorBoard."""
    env = make_vec_env(TINY_BALL_ID, 16, seed=0)
    model = PPO("CnnPolicy", env, policy_kwargs=latent_kwargs("vae", **NETWORK), seed=0, device="cpu", **PPO_KWARGS)
    model.set_logger(configure(folder, ["tensorboard"]))
    return model


class Meter:
    """Counts the processor's seconds within chosen methods: two whole runs differ by more than what looking at one costs."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._is_inside = False

    def watch(self, owner: object, name: str) -> None:
        """Count a method of one object from now on; where one calls another, the outer one counts."""
        method = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._is_inside:
                return method(*args, **kwargs)
            self._is_inside, start = True, time.process_time()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - start
                self._is_inside = False

        setattr(owner, name, timed)


def training_ratio() -> float:
    """:return: seconds of training with both callbacks, and with the writing of what they log, over those of the rest."""
    callbacks: list[BaseCallback] = [JacobianSaliencyCallback(), LatentMetricsCallback()]
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        model = make_learner(folder)
        for callback in callbacks:
            for hook in HOOKS:
                meter.watch(callback, hook)
        meter.watch(model.logger, "dump")
        start = time.process_time()
        model.learn(N_STEPS, callback=callbacks)
        whole = time.process_time() - start
    return whole / (whole - meter.seconds)


def make_batch(name: str) -> tuple[BaseAlgorithm, npt.NDArray[np.uint8]]:
    """:return: a model of stacks of four frames, and a batch of noise."""
    env = FakeImageEnv(screen_height=84, screen_width=84, n_channels=4, channel_first=True, discrete=name != "SAC")
    frames = np.random.default_rng(0).integers(0, 256, (N_FRAMES, 4, 84, 84), dtype=np.uint8)
    return ALGORITHMS[name]("CnnPolicy", env, seed=0, device="cpu"), frames


def forward_and_backward(model: Any, frames: npt.NDArray[np.uint8]) -> None:
    """One pass of the value, with the gradients of all weights."""
    observations, _ = model.policy.obs_to_tensor(frames)
    value: Any
    if isinstance(model, PPO):
        value = model.policy.predict_values(observations)
    elif isinstance(model, DQN):
        value = model.q_net(observations).amax(dim=1)
    else:
        value = th.cat(model.critic(observations, model.actor(observations, deterministic=True)), dim=1).amin(dim=1)
    value.sum().backward()
    model.policy.zero_grad(set_to_none=True)


def interleaved(tasks: Tasks, n_rounds: int, what: str) -> dict[str, list[float]]:
    """:return: the processor's seconds of every call, in turn in each round, after one call each that does not count."""
    for function in tasks.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for round_ in tqdm(range(n_rounds), desc=what):
        for name in list(tasks) if round_ % 2 else list(tasks)[::-1]:
            start = time.process_time()
            tasks[name]()
            times[name].append(time.process_time() - start)
    return times


def ratio(times: dict[str, list[float]]) -> float:
    """:return: the median over rounds of the second task's seconds over the first one's."""
    base, other = times.values()
    return statistics.median(b / a for a, b in zip(base, other, strict=True))


def measure(n_rounds: int) -> dict[str, float]:
    """:return: all ratios."""
    print(f"training for {N_STEPS} steps, a minute or two")
    ratios = {TRAINING: training_ratio()}
    for name in ALGORITHMS:
        model, frames = make_batch(name)
        model.policy.set_training_mode(False)
        passes: Tasks = {
            "pass": partial(forward_and_backward, model, frames),
            "Jacobian": partial(value_jacobian, model, frames),
        }
        ratios[f"Jacobian of {name} / forward and backward"] = ratio(interleaved(passes, n_rounds, name))
    return ratios


def main() -> None:
    """Measure, print, write, and say what falls short."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python -m benchmarks.callbacks_cost --check")
    parser.add_argument("--rounds", type=int, default=25, help="of Jacobians (default: %(default)s)")
    parser.add_argument("--out", default="benchmarks/results/callbacks_cost.json", help="JSON (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is exceeded")
    args = parser.parse_args()
    th.set_num_threads(1)
    ratios = measure(args.rounds)
    for name, value in ratios.items():
        print(f"{name:50s} {value:6.3f} (at most {LIMITS[name]})")
    write_json(args.out, "python -m benchmarks.callbacks_cost", {"ratios": ratios})
    missed = [name for name, limit in LIMITS.items() if ratios[name] > limit]
    print("\n".join(f"too slow: {name} is {ratios[name]:.3f}, at most {LIMITS[name]}" for name in missed))
    sys.exit(1 if args.check and missed else 0)


if __name__ == "__main__":
    main()
