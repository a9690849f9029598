"""How cost grows: a curve for each size that may be chosen, and its slope on logarithmic axes."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import memory
from benchmarks.acting import N_ACTIONS, act, make_model, stacks
from benchmarks.cost import interleaved
from benchmarks.speed import worlds
from benchmarks.speed.meters import in_a_fresh_process
from sb3_latent import latent_kwargs


@dataclass(frozen=True)
class Curve:
    """
    :param text: what takes the time.
    :param size: what grows.
    :param sizes: from the smallest.
    :param task: from a size to a call that takes the time.
    :param n_times: how often a call does it.
    """

    text: str
    size: str
    sizes: tuple[int, ...]
    task: Callable[[int], Callable[[], object]]
    n_times: int = 1


def update_task(preset: str, size: int = 84, n_frames: int = 4, batch_size: int = 32, **settings: Any) -> Callable[[], object]:
    """:return: a gradient step of PPO."""
    env = worlds.stacks(1, n_frames, size)
    return worlds.make_ppo(latent_kwargs(preset, **settings), env, batch_size).train


def acting_task(n_envs: int) -> Callable[[], object]:
    """:return: the choice of some actions, each frame encoded once."""
    return partial(act, make_model(n_envs), stacks(n_envs, 1))


def sampling_task(n_transitions: int) -> Callable[[], object]:
    """:return: batches of a full FrameReplayBuffer."""
    buffer = memory.filled("frames once", n_transitions)
    return lambda: [buffer.sample(memory.BATCH_SIZE) for _ in range(N_SAMPLES)]


N_SAMPLES = 20
"""In a call of :func:`sampling_task`."""

_VAE = "an update of PPO, vae"

CURVES = {
    "batch": Curve(_VAE, "samples", (32, 64, 128, 256), lambda n: update_task("vae", batch_size=n)),
    "latent": Curve(_VAE, "latents", (8, 32, 128, 512), lambda n: update_task("vae", latent_dim=n)),
    # The arithmetic of this trunk is proportional to pixels; without padding, borders weigh more in smaller images.
    "image": Curve(
        f"{_VAE}, impala",
        "pixels",
        (32**2, 48**2, 64**2, 96**2),
        lambda n: update_task("vae", size=math.isqrt(n), batch_size=16, trunk="impala"),
    ),
    "stack": Curve("an update of PPO, ppo_vae", "frames", (1, 2, 4, 8), lambda n: update_task("ppo_vae", n_frames=n)),
    "environments": Curve("acting, ppo_vae", "environments", (2, 4, 8, 16, 32), acting_task, N_ACTIONS),
    "replay": Curve("sampling of FrameReplayBuffer", "transitions", (2_500, 5_000, 10_000, 20_000), sampling_task, N_SAMPLES),
}
"""Curves of time."""

MEMORY_SIZES = (2_500, 5_000, 10_000, 20_000)
STATED_BYTES = 3 * memory.SIZE**2 * (1 + 1 / memory.EPISODE_STEPS)
"""Of a transition in FrameReplayBuffer: one frame, and one more for each episode."""


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """:return: of the line of least squares through the logarithms: 1 is proportional, 0 is flat."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def measure_time(curve: Curve, n_rounds: int) -> dict[str, Any]:
    """:return: milliseconds at each size and their slope."""
    tasks = {str(n): curve.task(n) for n in tqdm(curve.sizes, desc=f"preparing {curve.size}")}
    times = interleaved(tasks, n_rounds, f"{curve.text}, {curve.size}")
    costs = [1e3 / curve.n_times * statistics.median(times[str(n)]) for n in curve.sizes]
    return _result(curve.text, curve.size, "ms", curve.sizes, costs)


def measure_memory() -> dict[str, Any]:
    """:return: megabytes of FrameReplayBuffer at each size, their slope, and bytes of a transition over ``STATED_BYTES``."""
    found = [in_a_fresh_process(memory.resident_memory, "frames once", n) for n in MEMORY_SIZES]
    n_bytes = [one["resident_bytes_after"] - one["resident_bytes_before"] for one in found]
    per_transition = float(np.polyfit(MEMORY_SIZES, n_bytes, 1)[0])
    result = _result("memory of FrameReplayBuffer", "transitions", "MB", MEMORY_SIZES, [one / 1e6 for one in n_bytes])
    return result | {"per_transition_over_stated": per_transition / STATED_BYTES}


def _result(text: str, size: str, unit: str, sizes: Sequence[int], costs: list[float]) -> dict[str, Any]:
    return {"text": text, "size": size, "unit": unit, "sizes": [*sizes], "costs": costs, "slope": slope(sizes, costs)}
