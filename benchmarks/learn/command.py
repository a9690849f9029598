"""``python -m benchmarks learn``: train what is missing of a suite, several runs at once, as long as there is time."""

import argparse
import multiprocessing
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch as th
from filelock import FileLock, Timeout

from benchmarks.learn.results import RESULTS, append, find, path_of, read
from benchmarks.learn.runs import Run, command_for, runs_of
from benchmarks.learn.training import train
from benchmarks.machine import describe
from benchmarks.suites import SEEDS, SUITES

EXAMPLES = """examples:
  python -m benchmarks learn --suite tiny --jobs 2 --max-minutes 20     again and again, until all is done
  python -m benchmarks learn --suite tiny --preset cnn "ppo_vae-sum-*" --seeds 0 1
  python -m benchmarks learn --suite atari --preset ppo_adapt --steps 2000000
  python -m benchmarks learn --suite dmc --list
"""


PATIENCE = 3
"""Seconds in which the processes of a killed command have ended, too."""


def run_one(run: Run, args: argparse.Namespace, deadline: float) -> None:
    """Go on with a run until it stands in the results, unless it does, or the time is up, or another process is at it."""
    th.set_num_threads(args.threads)
    path, folder = path_of(run.suite_name, args.out), run.folder(args.work)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{folder}.lock", timeout=PATIENCE):
            if find(read(path), run) is None and time.time() < deadline:
                found = train(run, args.work, deadline, args.device)
                if found is not None:
                    # What makes this row anywhere, not what was typed, which names folders of a machine.
                    command = command_for(run.suite_name, run.preset, run.task, [run.seed], run.n_steps)
                    facts = {"hyperparams": run.hyperparams, "command": command, "machine": describe()}
                    append(path, {**asdict(run), **found, **facts})
            if find(read(path), run) is not None:
                shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        print(f"{run.name}: another process is at it", flush=True)


def die_with(parent: int) -> None:
    """End this process when its parent has ended, however that came."""

    def watch() -> None:
        while os.getppid() == parent:
            # Well within PATIENCE, in which the next command waits for this process to go.
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_all(runs: Iterable[Run], args: argparse.Namespace) -> int:
    """:return: number of runs that failed; each says why."""
    deadline = float("inf") if args.max_minutes is None else time.time() + 60 * args.max_minutes
    if args.jobs == 1:
        return sum(_fails(partial(run_one, run, args, deadline), run) for run in runs)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, spawn, die_with, (os.getpid(),)) as pool:
        futures: dict[Run, Future[None]] = {run: pool.submit(run_one, run, args, deadline) for run in runs}
        return sum(_fails(future.result, run) for run, future in futures.items())


def _fails(function: Callable[[], None], run: Run) -> bool:
    try:
        function()
    except Exception:
        # One run that diverges is no reason not to try the others.
        print(f"{run.name} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return True
    return False


def states(runs: list[Run], out: Path) -> list[str]:
    """:return: a line for each preset and task: which seeds are done, and what would run the others."""
    lines = []
    for preset, task in dict.fromkeys((run.preset, run.task) for run in runs):
        own = [run for run in runs if (run.preset, run.task) == (preset, task)]
        rows = {run.seed: find(read(path_of(run.suite_name, out)), run) for run in own}
        done = [str(seed) for seed, row in rows.items() if row is not None]
        other = [str(run.seed) for run in own if (row := rows[run.seed]) and row["hyperparams"] != run.hyperparams]
        missing = [seed for seed, row in rows.items() if row is None]
        parts = [f"done: seeds {' '.join(done)}"] if done else []
        parts += [f"of other hyperparameters: seeds {' '.join(other)}"] if other else []
        first = own[0]
        parts += [f"not run: {command_for(first.suite_name, preset, task, missing, first.n_steps)}"] if missing else []
        lines.append(f"{preset:32s} {task:28s} {first.n_steps:>10,}  {'; '.join(parts)}")
    return lines


def parse() -> argparse.Namespace:
    """:return: arguments, and the runs they ask for as ``runs``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks learn",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--suite", required=True, choices=list(SUITES))
    parser.add_argument("--preset", nargs="+", help="names or patterns (default: all of the suite)")
    parser.add_argument("--task", nargs="+", help="names or patterns (default: all of the suite)")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="(default: 0 to 4)")
    parser.add_argument("--steps", type=int, help="environment steps of a run (default: the suite's)")
    parser.add_argument("--max-minutes", type=float, help="end at the first evaluation after that (default: when all is done)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, a process each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch in a run; 1 makes runs repeatable (default: 1)")
    parser.add_argument("--device", default="auto", help="torch's (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of learn_<suite>.json (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("runs/learn"), help="checkpoints (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="say which runs are done, and run nothing")
    args = parser.parse_args()
    for name in ("steps", "jobs", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name} {value} must be at least 1")
    try:
        args.runs = runs_of(args.suite, args.preset, args.task, args.seeds, args.steps)
    except ValueError as error:
        parser.error(str(error))
    return args


def main() -> None:
    """List the runs, or train those that are missing and list them then."""
    args = parse()
    n_failed = 0 if args.list else run_all(args.runs, args)
    print("\n".join(states(args.runs, args.out)))
    sys.exit(1 if n_failed else 0)
