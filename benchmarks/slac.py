"""What a gradient step of SLAC costs, as a ratio to a plain implementation, and its memory per transition."""

import argparse
import statistics
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger
from torch import nn

from benchmarks.cost import interleaved, ratios
from benchmarks.machine import write_json
from benchmarks.sac import RandomImageEnv
from benchmarks.slac_reference import BATCH_SIZE, LENGTH, ReferenceSLAC
from sb3_latent import HistoryWrapper, SequenceReplayBuffer, SLACPolicy, latent_kwargs, sac_kwargs

N_STEPS = 600
FRAME_BYTES = 64 * 64 * 3
OURS, PLAIN = "SLACPolicy", "the plain implementation"
LIMITS = {f"update of {OURS} / {PLAIN}": 0.67, "memory of a transition / a frame": 1.1}
"""What issue 4 of this project asks for on two cores."""


def make_model() -> SAC:
    """:return: SLAC with a full replay buffer of noise in episodes of 250 steps, ready for ``train()``."""
    env = HistoryWrapper(gym.wrappers.TimeLimit(RandomImageEnv((3, 64, 64)), 250), length=LENGTH)
    settings = {**sac_kwargs("slac"), "buffer_size": N_STEPS, "learning_starts": N_STEPS}
    model = SAC(
        SLACPolicy, env, replay_buffer_class=SequenceReplayBuffer, policy_kwargs=latent_kwargs("slac"), seed=0, **settings
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    model.learn(N_STEPS)
    return model


def frames_encoded(model: SAC) -> dict[str, int]:
    """:return: frames that the first convolution sees in a gradient step, with and without gradients."""
    counts = {"with_gradients": 0, "without": 0}

    def count(module: nn.Module, inputs: Any, output: th.Tensor) -> None:
        counts["with_gradients" if output.requires_grad else "without"] += len(output)

    first = next(module for module in model.policy.modules() if isinstance(module, nn.Conv2d))
    handle = first.register_forward_hook(count)
    model.train(1, BATCH_SIZE)
    handle.remove()
    return counts


def bytes_per_transition(model: SAC) -> float:
    """:return: of all that the replay buffer holds."""
    buffer: Any = model.replay_buffer
    stock = sum(getattr(buffer, name).nbytes for name in ("actions", "rewards", "dones", "timeouts"))
    columns = sum(column.n_bytes for column in buffer._columns.values())
    return float((stock + columns) / buffer.buffer_size)


def main() -> None:
    """Measure, print, write, and say what falls short."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python -m benchmarks.slac --rounds 10 --check")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of every measurement (default: %(default)s)")
    parser.add_argument("--out", default="benchmarks/results/slac.json", help="JSON to write (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is exceeded")
    args = parser.parse_args()
    model = make_model()
    rng = np.random.default_rng(0)
    plain = ReferenceSLAC(
        rng.integers(0, 256, (N_STEPS + 1, 3, 64, 64), dtype=np.uint8),
        rng.uniform(-1, 1, (N_STEPS, 6)).astype(np.float32),
        rng.normal(size=N_STEPS).astype(np.float32),
    )
    times = interleaved({OURS: lambda: model.train(1, BATCH_SIZE), PLAIN: plain.update}, args.rounds, "updates")
    results = {
        **ratios(times, "update", base=PLAIN),
        "memory of a transition / a frame": bytes_per_transition(model) / FRAME_BYTES,
    }
    for name, value in results.items():
        print(f"{name:60s} {value:6.3f} (at most {LIMITS[name]})")
    frames = frames_encoded(model)
    print(f"frames encoded in a gradient step: {frames} ({BATCH_SIZE} windows of {LENGTH + 1})")
    medians = {name: statistics.median(values) for name, values in times.items()}
    write_json(
        args.out,
        "python -m benchmarks.slac",
        {"ratios": results, "seconds_per_gradient_step": medians, "frames_encoded_per_gradient_step": frames},
    )
    missed = [name for name, limit in LIMITS.items() if results[name] > limit]
    print("\n".join(f"too much: {name} is {results[name]:.3f}, at most {LIMITS[name]}" for name in missed))
    sys.exit(1 if args.check and missed else 0)


if __name__ == "__main__":
    main()
