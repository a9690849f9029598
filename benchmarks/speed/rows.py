"""The rows of a world: what its models cost, in turn in a process of the world, and their memory, each in one of its own."""

import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from os import cpu_count
from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from tqdm import tqdm

from benchmarks.acting import N_ACTIONS, act
from benchmarks.cost import interleaved, ratio
from benchmarks.speed.meters import N, encoded, flops, in_a_fresh_process, matrix_product, peak_memory
from benchmarks.speed.worlds import Maker, World, film

Row = dict[str, Any]
"""``name``, ``world``, ``base``, ``ratios`` to the base by what was measured, and more where it is a model."""

MODEL_RATIOS = ("update", "acting", "memory")
"""What is compared of a model."""

_PRODUCT = "matrix product"


def measure(world: World, n_rounds: int) -> list[Row]:
    """
    :param world: of models.
    :param n_rounds: updates, and turns of acting, of each.
    :return: a row a model, the base first.
    """
    return _with_memory(in_a_fresh_process(timed, world, n_rounds), world)


def timed(world: World, n_rounds: int) -> list[Row]:
    """:return: the rows but for memory, from this process, in which nothing else should have been allocated."""
    print(f"\n{world.text}")
    models = {name: make() for name, make in tqdm(world.makers.items(), desc="making models")}
    updates: dict[str, Callable[[], object]] = {name: partial(world.update, model) for name, model in models.items()}
    films = {name: cycle(film(model)) for name, model in models.items()}
    update_times = interleaved({**updates, _PRODUCT: matrix_product()}, n_rounds, "updates")
    act_times = interleaved({name: partial(act, model, films[name]) for name, model in models.items()}, n_rounds, "acting")
    attainable = 2 * N**3 / min(update_times[_PRODUCT])
    rows = []
    for name, update in tqdm(updates.items(), desc="counting"):
        seconds = statistics.median(update_times[name])
        counted = _counted(models[name], update, world.n_steps)
        rows.append(
            {
                "name": name,
                "world": world.text,
                "base": world.base,
                "ratios": {
                    "update": ratio(update_times[name], update_times[world.base]),
                    "acting": ratio(act_times[name], act_times[world.base]),
                },
                "ms_per_gradient_step": 1e3 * seconds / world.n_steps,
                "ms_to_act": 1e3 * statistics.median(act_times[name]) / N_ACTIONS,
                "encodings_per_sample": {what: n / world.batch_size for what, n in counted["encoded"].items()},
                "flops_per_gradient_step": counted["flops"],
                "share_of_attainable": counted["flops"] * world.n_steps / seconds / attainable,
            }
        )
    return rows


def peak_of(make: Maker, world: World) -> int:
    """:return: bytes that this process has held after an update and the choice of some actions."""
    # As many processes as cores do this at once.
    th.set_num_threads(1)
    model = make()
    world.update(model)
    act(model, cycle(film(model)))
    return peak_memory()


def _counted(model: BaseAlgorithm, update: Callable[[], object], n_steps: int) -> dict[str, Any]:
    """Rows of the encoder and arithmetic of one gradient step."""
    shapes = [space.shape for space in getattr(model.observation_space, "spaces", {"": model.observation_space}).values()]
    channels = {n for shape in shapes if shape and len(shape) > 2 for n in (shape[-3], 1, 3)}
    found: dict[str, int] = {}
    n_flops = flops(lambda: found.update(encoded(model, channels, update)))
    return {"encoded": {name: value / n_steps for name, value in found.items()}, "flops": n_flops / n_steps}


def _with_memory(rows: list[Row], world: World) -> list[Row]:
    measured = partial(in_a_fresh_process, peak_of)
    with ThreadPoolExecutor(cpu_count()) as pool:
        futures = [pool.submit(measured, world.makers[row["name"]], world) for row in rows]
        peaks = [future.result() for future in tqdm(futures, desc="peak memory")]
    for row, peak in zip(rows, peaks, strict=True):
        row["peak_mb"] = peak / 1e6
        row["ratios"]["memory"] = peak / peaks[0]
    return rows
