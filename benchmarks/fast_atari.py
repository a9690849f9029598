"""Frames per second of Atari: FastAtariVecEnv against SubprocVecEnv, both under VecFrameStack and in turn in one process."""

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import ale_py  # noqa: F401  # registers the games
import cv2
import gymnasium as gym
import numpy as np
import psutil
from gymnasium import spaces
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecFrameStack
from tqdm import tqdm

from benchmarks.machine import write_json
from sb3_latent.envs import FastAtariVecEnv

GAMES = ("Breakout", "Pong", "SpaceInvaders", "Seaquest")
N_ENVS = 16
"""As in seed document 000."""
N_STEPS = 100
"""Of all copies in a round."""


def make_subproc(env_id: str, n_envs: int, seed: int) -> VecEnv:
    """:return: SB3's copies, whose processes have to register the games as well."""
    return make_atari_env(f"ale_py:{env_id}", n_envs, seed=seed, vec_env_cls=SubprocVecEnv)


ENVS: dict[str, Callable[..., VecEnv]] = {
    "SubprocVecEnv": make_subproc,
    "FastAtariVecEnv": FastAtariVecEnv,
}
BARE = "ale-py and OpenCV alone"
LIMIT = 2.0
"""What issue 7 of this project asks for, of no game in particular: of the geometric mean over these."""


def frames_per_second(env: VecEnv, rng: np.random.Generator) -> float:
    """:return: steps of random play in a second, of all copies together."""
    assert isinstance(env.action_space, spaces.Discrete)
    actions = rng.integers(env.action_space.n, size=(N_STEPS, N_ENVS))
    start = time.perf_counter()
    for action in actions:
        env.step(action)
    return actions.size / (time.perf_counter() - start)


def bare_frames_per_second(game: str, seed: int) -> float:
    """:return: of one process in which ale-py and OpenCV make the same frames, with nothing around them."""
    ale = gym.make(f"{game}NoFrameskip-v4", obs_type="ram").unwrapped.ale  # type: ignore[attr-defined]  # of ale-py's
    actions, last_two = ale.getMinimalActionSet(), np.zeros((2, *ale.getScreenDims(), 3), np.uint8)
    n_steps = 4 * N_STEPS
    start = time.perf_counter()
    for chosen in np.random.default_rng(seed).integers(len(actions), size=n_steps):
        for i in range(4):
            ale.act(actions[chosen])
            if i >= 2:
                ale.getScreenRGB(last_two[i - 2])
        cv2.resize(cv2.cvtColor(np.maximum(*last_two), cv2.COLOR_RGB2GRAY), (84, 84), interpolation=cv2.INTER_AREA)
        if ale.game_over():
            ale.reset_game()
    return n_steps / (time.perf_counter() - start)


def seconds_of_others() -> float:
    """:return: the processor's, in programs that are none of this benchmark's."""
    this, machine = psutil.Process(), psutil.cpu_times()
    own = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return machine.user + machine.system - sum(times.user + times.system for times in own)


def measure(game: str, n_rounds: int) -> dict[str, Any]:
    """
    :return: frames per second in every round, their medians, the median ratio, the ratio that no environment with these frames
        can exceed on this machine, and how many cores others took.
    """
    envs = {name: VecFrameStack(make(f"{game}NoFrameskip-v4", N_ENVS, seed=0), 4) for name, make in ENVS.items()}
    for env in envs.values():
        env.reset()
        frames_per_second(env, np.random.default_rng(0))
    rounds: dict[str, list[float]] = {name: [] for name in [*envs, BARE]}
    start, others = time.perf_counter(), seconds_of_others()
    n_cores = os.cpu_count() or 1
    with ProcessPoolExecutor(n_cores, multiprocessing.get_context("forkserver")) as pool:
        for round_ in tqdm(range(n_rounds), desc=game):
            for name in list(envs) if round_ % 2 else list(envs)[::-1]:
                rounds[name].append(frames_per_second(envs[name], np.random.default_rng(round_)))
            rounds[BARE].append(sum(pool.map(partial(bare_frames_per_second, game), range(n_cores))))
        # While the processes of the pool are there to be told from others.
        busy = (seconds_of_others() - others) / (time.perf_counter() - start)
    for env in envs.values():
        env.close()
    medians = {name: statistics.median(values) for name, values in rounds.items()}
    return {
        "ratio": _median_ratio(rounds["FastAtariVecEnv"], rounds["SubprocVecEnv"]),
        "ceiling": _median_ratio(rounds[BARE], rounds["SubprocVecEnv"]),
        "frames_per_second": medians,
        "cores_of_others": busy,
        "rounds": rounds,
    }


def mean_ratio(results: Mapping[str, Mapping[str, Any]]) -> float:
    """:return: of results by game."""
    return statistics.geometric_mean(row["ratio"] for row in results.values())


def _median_ratio(values: list[float], base: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(values, base, strict=True))


def main() -> None:
    """Measure, print, write, and say what falls short."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python -m benchmarks.fast_atari --check")
    parser.add_argument("--games", nargs="+", default=GAMES, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="of both, in turn (default: %(default)s)")
    parser.add_argument("--out", default="benchmarks/results/fast_atari.json", help="JSON (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if it is not fast enough")
    args = parser.parse_args()
    results = {game: measure(game, args.rounds) for game in args.games}
    for game, row in results.items():
        medians = ", ".join(f"{name} {value:.0f}" for name, value in row["frames_per_second"].items())
        others = row["cores_of_others"]
        print(f"{game:15s} {row['ratio']:.2f} times, at most {row['ceiling']:.2f} with these frames")
        print(f"{'':15s} {medians} frames per second; others took {others:.2f} cores")
    command = f"python -m benchmarks.fast_atari --games {' '.join(args.games)} --rounds {args.rounds}"
    write_json(args.out, command, results)
    mean = mean_ratio(results)
    is_slow = mean < LIMIT
    print(f"{'too slow: ' if is_slow else ''}{mean:.2f} times as fast in the mean, at least {LIMIT}")
    sys.exit(1 if args.check and is_slow else 0)


if __name__ == "__main__":
    main()
