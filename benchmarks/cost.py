"""What an auxiliary task costs: PPO updates and actions, as ratios to the same model without one."""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from tqdm import tqdm

from benchmarks.machine import write_json
from sb3_latent import latent_kwargs

N_SAMPLES = 1024
BATCH_SIZE = 256
MODELS: dict[str, dict[str, Any]] = {
    "cnn": latent_kwargs("cnn", trunk="nature"),
    "vae": latent_kwargs("vae", trunk="nature"),
    "vae, coefficients 0": latent_kwargs("vae", trunk="nature", coefs={"recon": 0.0, "kl": 0.0}),
    "vae, own_optimizer": latent_kwargs("vae", trunk="nature", gradient_mode="own_optimizer"),
    "SB3 NatureCNN": {"net_arch": [64, 64], "features_extractor_kwargs": {"features_dim": 512}},
}
LIMITS = {"update of vae / cnn": 2.5, "acting of vae / cnn": 1.05, "update of vae, coefficients 0 / cnn": 1.02}
"""What issue 2 of this project asks for on two cores."""


def make_model(policy_kwargs: dict[str, Any]) -> PPO:
    """:return: a PPO with a full rollout buffer of 84x84x4 images, ready for ``train()``."""
    env = DummyVecEnv([lambda: FakeImageEnv(screen_height=84, screen_width=84, n_channels=4, channel_first=True)] * 8)
    model = PPO(
        "CnnPolicy", env, n_steps=N_SAMPLES // 8, batch_size=BATCH_SIZE, n_epochs=1, seed=0, policy_kwargs=policy_kwargs
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    model.learn(N_SAMPLES)
    return model


def act(model: PPO, observations: npt.NDArray[np.uint8]) -> None:
    """Choose actions 20 times, as in a rollout."""
    for _ in range(20):
        model.predict(observations)


def seconds(function: Callable[[], object]) -> float:
    """:return: wall-clock seconds of one call, and of all that it has an accelerator do."""
    start = time.perf_counter()
    function()
    if th.cuda.is_available():
        th.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(tasks: dict[str, Callable[[], object]], n_rounds: int, what: str) -> dict[str, list[float]]:
    """:return: seconds of every call, all tasks in turn in each round, so that drift of the machine hits them alike."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for function in tasks.values():
        function()
    for _ in tqdm(range(n_rounds), desc=what):
        for name, function in tasks.items():
            times[name].append(seconds(function))
    return times


def ratio(values: list[float], base: list[float]) -> float:
    """:return: the median over rounds of a time over that of the base in the same round."""
    return statistics.median(a / b for a, b in zip(values, base, strict=True))


def ratios(times: dict[str, list[float]], what: str, base: str = "cnn") -> dict[str, float]:
    """:return: for each task its :func:`ratio` to ``base``."""
    return {f"{what} of {name} / {base}": ratio(values, times[base]) for name, values in times.items() if name != base}


def main() -> None:
    """Measure, print, write, and say what falls short."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python -m benchmarks.cost --rounds 30 --check")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of every measurement (default: %(default)s)")
    parser.add_argument("--out", default="benchmarks/results/cost.json", help="JSON to write (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is exceeded")
    args = parser.parse_args()
    models = {name: make_model(kwargs) for name, kwargs in MODELS.items()}
    observations = np.random.default_rng(0).integers(0, 256, (8, 4, 84, 84), dtype=np.uint8)
    update = interleaved({name: model.train for name, model in models.items()}, args.rounds, "updates")
    acting = interleaved(
        {name: partial(act, model, observations) for name, model in models.items()}, 5 * args.rounds, "acting"
    )
    results = {**ratios(update, "update"), **ratios(acting, "acting")}
    for name, value in results.items():
        limit = f"(at most {LIMITS[name]})" if name in LIMITS else ""
        print(f"{name:50s} {value:6.3f} {limit}")
    medians = {name: statistics.median(values) / (N_SAMPLES // BATCH_SIZE) for name, values in update.items()}
    write_json(args.out, "python -m benchmarks.cost", {"ratios": results, "seconds_per_gradient_step": medians})
    missed = [name for name, limit in LIMITS.items() if results[name] > limit]
    print("\n".join(f"too slow: {name} is {results[name]:.3f}, at most {LIMITS[name]}" for name in missed))
    sys.exit(1 if args.check and missed else 0)


if __name__ == "__main__":
    main()
