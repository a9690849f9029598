"""The seed's claim in numbers: a VAE trained alone on TinyBall loses the ball, trained jointly with PPO it keeps it."""

import argparse
import json
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from stable_baselines3 import PPO

from benchmarks.machine import write_json
from benchmarks.tiny_ball import METHODS, NETWORK, PPO_KWARGS, make_env, pretrained_encoder
from sb3_latent import latent_kwargs
from sb3_latent.probes import Dataset, Report, collect, probe_dataset
from sb3_latent.probes.fits import Probe
from sb3_latent.probes.report import FLOORS

VARIANT = "default"
VARIABLES = ("ball_x", "paddle_x")
PROBES: tuple[Probe, ...] = ("linear", "mlp")
NAMES = {"PPOfixed": "VAE alone", "PPO_VAE": "VAE and PPO"}
"""Method of :mod:`benchmarks.tiny_ball` -> whose representation it is."""


def dataset(n_steps: int) -> Dataset:
    """:return: frames of random play with the true state, the same for every representation."""
    return collect(None, make_env(VARIANT, 16, 7), VARIABLES, n_steps, seed=7)


def trained(method: str, seed: int, n_steps: int, folder: Path) -> PPO:
    """:return: the agent; that of a frozen encoder needs no steps."""
    settings = {**NETWORK, **METHODS[method]}
    is_pretrained = settings.pop("pretrained", False)
    if is_pretrained:
        settings["pretrained"] = str(pretrained_encoder(VARIANT, seed, folder))
    policy_kwargs = {**latent_kwargs(settings.pop("preset"), **settings), "net_arch": [64, 64]}
    model = PPO("CnnPolicy", make_env(VARIANT, 16, seed), seed=seed, policy_kwargs=policy_kwargs, **PPO_KWARGS)
    return model if is_pretrained else model.learn(n_steps, progress_bar=True)


def scores(report: Report) -> dict[str, Any]:
    """:return: variable -> probe -> R^2 with its interval and its floors."""
    rows: dict[str, Any] = {}
    for variable in report.variables:
        rows[variable] = {}
        for kind in PROBES:
            found = report.score(variable, kind)
            floors: dict[str, float] = {floor: report.score(variable, kind, floor).value for floor in FLOORS}
            rows[variable][kind] = {"r2": found.value, "low": found.low, "high": found.high, **floors}
    return rows


def table(runs: list[dict[str, Any]]) -> str:
    """:return: Markdown: a row a representation and variable, every seed's R^2 and the means of the floors."""
    titles = [
        "representation",
        "variable",
        *(f"{kind} R², each seed" for kind in PROBES),
        *(f"floor: {name}" for name in FLOORS),
    ]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for method, name in NAMES.items():
        rows = sorted((row for row in runs if row["method"] == method), key=lambda row: int(row["seed"]))
        for variable in VARIABLES if rows else ():
            cells = [[row["r2"][variable][kind] for row in rows] for kind in PROBES]
            each = [" / ".join(f"{cell['r2']:.2f}" for cell in of_probe) for of_probe in cells]
            floors = [f"{sum(cell[floor] for cell in cells[0]) / len(rows):.2f}" for floor in FLOORS]
            lines.append(f"| {' | '.join([name, variable, *each, *floors])} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing; write JSON after each run, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python -m benchmarks.probe_claim --seeds 0 1 2")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=122_880, help="environment steps of PPO (default: %(default)s)")
    parser.add_argument("--probe-steps", type=int, default=6_000, help="frames that are probed (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/probe_claim.json"))
    parser.add_argument("--work", type=Path, default=Path("runs/tiny_ball"), help="frames and encoders (default: %(default)s)")
    args = parser.parse_args()
    runs = json.loads(args.out.read_text())["results"] if args.out.exists() else []
    write = partial(write_json, args.out, shlex.join(["python", "-m", "benchmarks.probe_claim", *sys.argv[1:]]))
    done = {(row["method"], row["seed"], row["n_steps"]) for row in runs}
    missing = [(method, seed) for seed in args.seeds for method in NAMES if (method, seed, args.steps) not in done]
    frames = dataset(args.probe_steps) if missing else None
    for method, seed in missing:
        assert frames is not None
        print(f"{NAMES[method]}, seed {seed}")
        start = time.perf_counter()
        model = trained(method, seed, args.steps, args.work)
        row = {"method": method, "seed": seed, "n_steps": args.steps, "seconds": round(time.perf_counter() - start, 1)}
        runs.append({**row, "r2": scores(probe_dataset(model, frames, PROBES))})
        write(runs)
    print(table(runs))


if __name__ == "__main__":
    main()
