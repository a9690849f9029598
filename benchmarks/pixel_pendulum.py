"""
PixelPendulum, several seeds, resumable: SAC with and without an autoencoder on stacks of three frames; with ``--n-frames 1``,
where nobody sees the velocity, SAC against latent models of windows.
"""

import argparse
import json
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from benchmarks.machine import write_json
from sb3_latent import (
    FrameReplayBuffer,
    HistoryWrapper,
    LatentSACPolicy,
    SequenceReplayBuffer,
    SLACPolicy,
    latent_kwargs,
    list_dynamics,
    sac_kwargs,
)
from sb3_latent.callbacks import ModelPretrainCallback
from sb3_latent.envs import PIXEL_PENDULUM_ID
from sb3_latent.figures import learning_curve

OF_STACKS = ("sac_cnn", "sac_ae", "sac_ae_two_optimizers", "drq", "curl", "sac_vae", "sac_vae_actor", "sac_vae_alternating")
OF_WINDOWS = tuple(list_dynamics())
WINDOW_LENGTH = 4
"""Two show the velocity; SLAC has 8, at twice the cost."""
SETTINGS: dict[str, Any] = {"batch_size": 64, "buffer_size": 20_000, "learning_starts": 500}
"""Smaller than the papers' for a CPU; the rest of ``sac_kwargs`` stays."""

RSSM: dict[str, Any] = {"loss_kwargs": {"std": 0.3}, "auxiliary_optimizer_kwargs": {"lr": 1e-4, "fused": True}}
"""Dreamer's standard deviation of 1 weighs 12,288 values a frame against the KL, here are 1,024; its learning rates move the
model too fast for an agent that learns on its states meanwhile."""

N_PRETRAINING = 1000
"""Updates of a latent model before the first of the agent."""

NET_ARCH = [256, 256]


EXAMPLES = """examples:
  python -m benchmarks.pixel_pendulum --seeds 0 1 2
  python -m benchmarks.pixel_pendulum --n-frames 1 --steps 4000 --out benchmarks/results/one_frame_pendulum.json
"""


class Evaluation(BaseCallback):
    """
    Deterministic return over 10 episodes, again and again.

    :param make_env: of the episodes.
    :param every: agent steps from one to the next.
    :param seed: of the episodes.
    """

    def __init__(self, make_env: Callable[[], Any], every: int, seed: int) -> None:
        super().__init__()
        self.make_env = make_env
        self.every = every
        self.seed = seed
        self.points: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every == 0:
            env = self.make_env()
            env.reset(seed=self.seed)
            mean, _ = evaluate_policy(self.model, env, n_eval_episodes=10)
            self.points.append((self.num_timesteps, float(np.mean(mean))))
        return True


def make_model(preset: str, seed: int, n_frames: int) -> tuple[SAC, Callable[[], Any]]:
    """:return: an agent, and what makes its environment."""

    def make_stacks() -> Any:
        return Monitor(gym.make(PIXEL_PENDULUM_ID, n_frames=n_frames))

    def make_windows() -> Any:
        return HistoryWrapper(make_stacks(), length=WINDOW_LENGTH)

    if preset in OF_STACKS:
        model = SAC(
            LatentSACPolicy,
            make_stacks(),
            replay_buffer_class=FrameReplayBuffer,
            replay_buffer_kwargs={"n_frames": n_frames},
            policy_kwargs={**latent_kwargs(preset), "net_arch": NET_ARCH},
            seed=seed,
            **{**sac_kwargs(preset), **SETTINGS},
        )
        return model, make_stacks
    of_model = RSSM if preset in ("rssm", "rssm_discrete") else {}
    model = SAC(
        SLACPolicy,
        make_windows(),
        replay_buffer_class=SequenceReplayBuffer,
        policy_kwargs={**latent_kwargs(preset, trunk="nature", **of_model), "net_arch": NET_ARCH},
        seed=seed,
        **{**sac_kwargs(preset), **SETTINGS},
    )
    return model, make_windows


def run(preset: str, seed: int, n_frames: int, n_steps: int, every: int) -> dict[str, Any]:
    """:return: one trained agent: its curve and seconds."""
    model, make_env = make_model(preset, seed, n_frames)
    evaluation, start = Evaluation(make_env, every, 10_000 + seed), time.perf_counter()
    pretraining = [ModelPretrainCallback(N_PRETRAINING, progress_bar=False)] if preset in OF_WINDOWS else []
    model.learn(n_steps, callback=[*pretraining, evaluation], progress_bar=True)
    seconds = time.perf_counter() - start
    return {
        "preset": preset,
        "seed": seed,
        "n_frames": n_frames,
        "n_steps": n_steps,
        "seconds": round(seconds, 1),
        "curve": evaluation.points,
    }


def table(runs: list[dict[str, Any]]) -> str:
    """:return: Markdown: a row a preset, every seed's return at a few budgets."""
    budgets = sorted({step for row in runs for step, _ in row["curve"]})[1::2]
    lines = [f"| preset | {' | '.join(f'{step:,} steps' for step in budgets)} |", "|---" * (len(budgets) + 1) + "|"]
    for preset in dict.fromkeys(row["preset"] for row in runs):
        curves = [dict(row["curve"]) for row in runs if row["preset"] == preset]
        cells = [" / ".join(f"{curve[step]:.0f}" for curve in curves if step in curve) for step in budgets]
        lines.append(f"| {preset} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing; write JSON after each run, then the table and the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--presets", nargs="+", default=["sac_cnn", "sac_ae", "sac_ae_two_optimizers"], choices=[*OF_STACKS, *OF_WINDOWS]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--n-frames", type=int, default=3, help="in an observation (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3000, help="agent steps of each run (default: %(default)s)")
    parser.add_argument("--every", type=int, default=500, help="agent steps between evaluations (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch; 1 makes runs repeatable (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pixel_pendulum.json"))
    args = parser.parse_args()
    th.set_num_threads(args.threads)
    runs = json.loads(args.out.read_text())["results"] if args.out.exists() else []
    if {(row["n_frames"], row["n_steps"]) for row in runs} - {(args.n_frames, args.steps)}:
        parser.error(f"{args.out} holds runs of other --n-frames or --steps; pass another --out.")
    for preset in args.presets:
        for seed in args.seeds:
            if (preset, seed) not in {(row["preset"], row["seed"]) for row in runs}:
                print(f"{preset}, seed {seed}")
                runs.append(run(preset, seed, args.n_frames, args.steps, args.every))
                write_json(args.out, shlex.join(["python", "-m", "benchmarks.pixel_pendulum", *sys.argv[1:]]), runs)
    print(table(runs))
    curves: dict[str, list[Any]] = defaultdict(list)
    for row in runs:
        steps, values = zip(*row["curve"], strict=True)
        curves[row["preset"]].append((np.array(steps), np.array(values)))
    learning_curve(curves, args.out.with_suffix(".png"), title="PixelPendulum", xlabel="agent steps", ylabel="return")


if __name__ == "__main__":
    main()
