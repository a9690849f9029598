"""What a gradient step of SLAC costs, as a ratio to a plain implementation, and its memory per transition."""

import argparse
import statistics
import sys
import tracemalloc
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks import sac
from benchmarks.cost import interleaved, ratios
from benchmarks.machine import write_json
from benchmarks.sac import RandomImageEnv
from benchmarks.slac_reference import BATCH_SIZE, LENGTH, ReferenceSLAC
from benchmarks.speed.meters import encoded
from sb3_latent import HistoryWrapper, SequenceReplayBuffer, SLACPolicy, latent_kwargs, sac_kwargs

N_STEPS = 600
FRAME_BYTES = 64 * 64 * 3
OURS, PLAIN = "SLACPolicy", "the plain implementation"
LIMITS = {f"update of {OURS} / {PLAIN}": 0.67, "memory of a transition / a frame": 1.1}
"""What issue 4 of this project asks for on two cores."""


def make_env() -> HistoryWrapper:
    """:return: windows of noise, in episodes of 250 steps."""
    return HistoryWrapper(gym.wrappers.TimeLimit(RandomImageEnv((3, 64, 64)), 250), length=LENGTH)


def make_model(preset: str = "slac", n_envs: int = 1) -> SAC:
    """:return: SAC in the states of a latent model, with a full replay buffer, ready for ``train()``."""
    env = DummyVecEnv([make_env] * n_envs)
    settings = {**sac_kwargs(preset), "buffer_size": N_STEPS, "replay_buffer_class": SequenceReplayBuffer}
    return sac.make_model(SLACPolicy, latent_kwargs(preset), env, **settings)


def bytes_per_transition() -> float:
    """:return: what Python holds more once there is a full replay buffer, over its transitions."""
    env = DummyVecEnv([make_env])
    observation: Any = env.reset()
    tracemalloc.start()
    buffer = SequenceReplayBuffer(N_STEPS, env.observation_space, env.action_space, device="cpu")
    next_observation: Any
    for _ in range(N_STEPS):
        action = env.action_space.sample()[None]
        next_observation, reward, done, infos = env.step(action)
        final = infos[0].get("terminal_observation", {})
        successor = {name: final[name][None] if final else value for name, value in next_observation.items()}
        buffer.add(observation, successor, action, reward, done, infos)
        observation = next_observation
    n_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return n_bytes / N_STEPS


def measure(n_rounds: int) -> dict[str, Any]:
    """:return: ratios, seconds and frames encoded in a gradient step."""
    model = make_model()
    rng = np.random.default_rng(0)
    plain = ReferenceSLAC(
        rng.integers(0, 256, (N_STEPS + 1, 3, 64, 64), dtype=np.uint8),
        rng.uniform(-1, 1, (N_STEPS, 6)).astype(np.float32),
        rng.normal(size=N_STEPS).astype(np.float32),
    )
    update = partial(model.train, 1, BATCH_SIZE)
    times = interleaved({OURS: update, PLAIN: plain.update}, n_rounds, "updates")
    return {
        "ratios": {
            **ratios(times, "update", base=PLAIN),
            "memory of a transition / a frame": bytes_per_transition() / FRAME_BYTES,
        },
        "seconds_per_gradient_step": {name: statistics.median(values) for name, values in times.items()},
        "frames_encoded_per_gradient_step": encoded(model, {3}, update),
    }


def main() -> None:
    """Measure, print, write, and say what falls short."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python -m benchmarks.slac --rounds 10 --check")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of every measurement (default: %(default)s)")
    parser.add_argument("--out", default="benchmarks/results/slac.json", help="JSON to write (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is exceeded")
    args = parser.parse_args()
    measured = measure(args.rounds)
    results = measured["ratios"]
    for name, value in results.items():
        print(f"{name:60s} {value:6.3f} (at most {LIMITS[name]})")
    frames = measured["frames_encoded_per_gradient_step"]
    print(f"frames encoded in a gradient step: {frames} ({BATCH_SIZE} windows of {LENGTH + 1})")
    write_json(args.out, "python -m benchmarks.slac", measured)
    missed = [name for name, limit in LIMITS.items() if results[name] > limit]
    print("\n".join(f"too much: {name} is {results[name]:.3f}, at most {LIMITS[name]}" for name in missed))
    sys.exit(1 if args.check and missed else 0)


if __name__ == "__main__":
    main()
