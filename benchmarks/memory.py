"""What a replay buffer of stacked images takes: resident memory, and the time to sample and to add, against SB3's."""

import argparse
import statistics
import sys
from collections.abc import Iterator
from functools import partial
from itertools import chain, count, islice
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from tqdm import tqdm

from benchmarks.cost import interleaved, ratios
from benchmarks.machine import write_json
from benchmarks.speed.meters import in_a_fresh_process
from sb3_latent.buffers import FrameReplayBuffer

SIZE = 84
N_FRAMES = 3
EPISODE_STEPS = 125
"""Of the DeepMind Control Suite: 1,000 at an action repeat of 8."""
BATCH_SIZE = 128
SCALE = 100_000
BUFFERS: dict[str, type[ReplayBuffer]] = {"frames once": FrameReplayBuffer, "SB3": ReplayBuffer}
MEMORY = f"GB for {SCALE:,} transitions, frames once"
LIMITS = {MEMORY: 2.25}
"""What issue 3 of this project asks for."""


def make_buffer(name: str, buffer_size: int) -> ReplayBuffer:
    """:return: an empty buffer for stacks of colour images."""
    space = spaces.Box(0, 255, (3 * N_FRAMES, SIZE, SIZE), np.uint8)
    return BUFFERS[name](buffer_size, space, spaces.Box(-1, 1, (6,), np.float32), device="cpu")


def episode(rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    """:return: arguments of ``add`` for one episode of noise, as VecFrameStack and VecTransposeImage hand it out."""
    stack: npt.NDArray[np.uint8] = np.zeros((1, SIZE, SIZE, 3 * N_FRAMES), np.uint8)
    stack[..., -3:] = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    for step in range(EPISODE_STEPS):
        next_stack = np.roll(stack, -3, axis=-1)
        next_stack[..., -3:] = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        done = np.array([step == EPISODE_STEPS - 1])
        obs, next_obs = stack.transpose(0, 3, 1, 2), next_stack.transpose(0, 3, 1, 2)
        yield obs, next_obs, np.ones((1, 6), np.float32), np.ones(1), done, [{"TimeLimit.truncated": bool(done)}]
        stack = next_stack


def filled(name: str, n_transitions: int) -> ReplayBuffer:
    """:return: a full buffer."""
    buffer = make_buffer(name, n_transitions)
    rng = np.random.default_rng(0)
    transitions = chain.from_iterable(episode(rng) for _ in count())
    for arguments in tqdm(islice(transitions, n_transitions), total=n_transitions, desc=f"filling {name}"):
        buffer.add(*arguments)
    return buffer


def resident_memory(name: str, n_transitions: int) -> dict[str, float]:
    """:return: what the system says of this process before the buffer is made and when it is full."""
    process = psutil.Process()
    # The code that fills a buffer, and what it touches, is none of the buffer's.
    filled(name, EPISODE_STEPS)
    before = process.memory_info().rss
    buffer = filled(name, n_transitions)
    after = process.memory_info().rss
    return {
        "n_transitions": buffer.size(),
        "resident_bytes_before": before,
        "resident_bytes_after": after,
        "GB": (after - before) / 1e9 * SCALE / n_transitions,
    }


def add_all(buffer: ReplayBuffer, recorded: list[tuple[Any, ...]]) -> None:
    """Add an episode to a buffer."""
    for arguments in recorded:
        buffer.add(*arguments)


def times_against_stock(n_transitions: int, n_rounds: int) -> dict[str, dict[str, list[float]]]:
    """:return: seconds of a sample and of an added episode, for both buffers at the same size, in turn."""
    th.set_num_threads(1)
    buffers = {name: filled(name, n_transitions) for name in BUFFERS}
    recorded = list(episode(np.random.default_rng(1)))
    return {
        "sample": interleaved({name: partial(b.sample, BATCH_SIZE) for name, b in buffers.items()}, n_rounds, "samples"),
        "add": interleaved({name: partial(add_all, b, recorded) for name, b in buffers.items()}, n_rounds // 4, "adding"),
    }


def times_over_sizes(sizes: list[int], n_rounds: int) -> dict[str, list[float]]:
    """:return: seconds of a sample for buffers of other sizes, in turn."""
    th.set_num_threads(1)
    buffers = {f"{size:,}": filled("frames once", size) for size in sizes}
    return interleaved({name: partial(b.sample, BATCH_SIZE) for name, b in buffers.items()}, n_rounds, "samples")


def measure(n_transitions: int, n_stock: int, n_rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """:return: the figures by name, and what they were computed from."""
    memory = {
        "frames once": in_a_fresh_process(resident_memory, "frames once", n_transitions),
        "SB3": in_a_fresh_process(resident_memory, "SB3", n_stock),
    }
    times = in_a_fresh_process(times_against_stock, n_stock, n_rounds)
    sizes = [max(n_transitions // 100, 1), max(n_transitions // 10, 1), n_transitions]
    over_sizes = in_a_fresh_process(times_over_sizes, sizes, n_rounds)
    smallest, *_, largest = over_sizes
    medians = {what: {name: statistics.median(values) for name, values in by.items()} for what, by in times.items()}
    figures = {
        MEMORY: memory["frames once"]["GB"],
        f"GB for {SCALE:,} transitions, SB3 (scaled from {n_stock:,})": memory["SB3"]["GB"],
        "memory of SB3 / frames once": memory["SB3"]["GB"] / memory["frames once"]["GB"],
        **ratios(times["sample"], "sample", "SB3"),
        **ratios(times["add"], "add", "SB3"),
        "ms to add a transition, frames once": 1e3 * medians["add"]["frames once"] / EPISODE_STEPS,
        "ms to add a transition, SB3": 1e3 * medians["add"]["SB3"] / EPISODE_STEPS,
        **{f"ms to sample {BATCH_SIZE}, {name}": 1e3 * seconds for name, seconds in medians["sample"].items()},
        **{f"ms to sample {BATCH_SIZE} of {size}": 1e3 * statistics.median(v) for size, v in over_sizes.items()},
        **ratios({smallest: over_sizes[smallest], largest: over_sizes[largest]}, "sample", smallest),
    }
    return figures, memory


def main() -> None:
    """Measure, print, write, and say what falls short."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python -m benchmarks.memory --check")
    parser.add_argument("--transitions", type=int, default=SCALE, help="to fill the buffer with (default: %(default)s)")
    parser.add_argument("--stock", type=int, default=20_000, help="transitions of SB3's buffer (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=200, help="samples to time (default: %(default)s)")
    parser.add_argument("--out", default="benchmarks/results/memory.json", help="JSON to write (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is exceeded")
    args = parser.parse_args()
    figures, memory = measure(args.transitions, args.stock, args.rounds)
    for name, value in figures.items():
        limit = f"(at most {LIMITS[name]})" if name in LIMITS else ""
        print(f"{name:60s} {value:8.3f} {limit}")
    settings = {"size": SIZE, "n_frames": N_FRAMES, "episode_steps": EPISODE_STEPS, "batch_size": BATCH_SIZE}
    write_json(args.out, "python -m benchmarks.memory", {"figures": figures, "settings": settings, "memory": memory})
    missed = [name for name, limit in LIMITS.items() if figures[name] > limit]
    print("\n".join(f"too much: {name} is {figures[name]:.3f}, at most {LIMITS[name]}" for name in missed))
    sys.exit(1 if args.check and missed else 0)


if __name__ == "__main__":
    main()
