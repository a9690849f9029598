"""One worker of a study in a process of its own, which starts fast because it imports neither torch nor the whole package."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

import optuna

for name in ("sb3_latent", "sb3_latent.tuning"):
    package = ModuleType(name)
    package.__path__ = [str(Path(__file__).parents[2].joinpath(*name.split(".")))]
    sys.modules[name] = package

from sb3_latent.tuning.storage import open_storage  # noqa: E402
from sb3_latent.tuning.workers import run_trials  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("storage")
    parser.add_argument("diary", type=Path, help="gets a line for each start and each end of an objective")
    parser.add_argument("--n-trials", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=0.2, help="that a trial takes")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def write(*words):
        with args.diary.open("a") as diary:
            diary.write(" ".join(map(str, words)) + "\n")

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        write("start", os.getpid(), trial.number, x)
        time.sleep(args.seconds)
        write("end", os.getpid(), trial.number, x)
        return x

    storage = open_storage(args.storage, heartbeat_interval=1, grace_period=3)
    study = optuna.create_study(
        storage=storage, study_name="shared", load_if_exists=True, sampler=optuna.samplers.RandomSampler()
    )
    run_trials(study, objective, args.n_trials)


if __name__ == "__main__":
    main()
