"""TinyBall: does the representation hold the ball? cnn, PPOfixed, PPOadapt and PPO_VAE, several seeds, resumable."""

import argparse
import json
import shlex
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.machine import write_json
from sb3_latent import collect_frames, get_extractor, latent_kwargs, pretrain_encoder
from sb3_latent.envs import TINY_BALL_ID
from sb3_latent.figures import learning_curve

Array = npt.NDArray[np.floating]
NETWORK: dict[str, Any] = {"trunk": "seed84", "trunk_kwargs": {"channels": [16, 32], "hidden_dim": 128}, "latent_dim": 10}
PPO_KWARGS: dict[str, Any] = {
    "n_steps": 128,
    "batch_size": 256,
    "n_epochs": 4,
    "learning_rate": 1e-3,
    "gamma": 0.95,
    "gae_lambda": 0.9,
    "ent_coef": 0.01,
}
METHODS: dict[str, dict[str, Any]] = {
    "cnn": {"preset": "cnn", "head": "gaussian"},
    "PPOfixed": {"preset": "cnn", "head": "gaussian", "frozen": True, "pretrained": True},
    "PPOadapt": {"preset": "cnn", "head": "gaussian", "pretrained": True},
    "PPO_VAE": {"preset": "vae"},
    "PPO_VAE, sum, kappa 20": {"preset": "vae", "coefs": {"recon": 1.0, "kl": 1.0}, "kappa": 20.0},
    "PPO_VAE, sum, kappa 1": {"preset": "vae", "coefs": {"recon": 1.0, "kl": 1.0}},
    "PPO_VAE, sum, kappa auto": {"preset": "vae", "coefs": {"recon": 1.0, "kl": 1.0}, "kappa": "auto"},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "sparse": {"reward_freq": 5},
    "big ball, sparse": {"reward_freq": 5, "ball_size": 6},
    "big ball, sparse, distractors": {"reward_freq": 5, "ball_size": 6, "n_distractors": 3},
}


class Curve(BaseCallback):
    """Mean return of the last 100 training episodes at every rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        returns = [episode["r"] for episode in self.model.ep_info_buffer or []]
        if returns:
            self.points.append((self.num_timesteps, float(np.mean(returns))))


def make_env(variant: str, n_envs: int, seed: int) -> VecEnv:
    """:return: TinyBall in several copies."""
    return make_vec_env(TINY_BALL_ID, n_envs, seed, env_kwargs=VARIANTS[variant])


def pretrained_encoder(variant: str, seed: int, folder: Path) -> Path:
    """:return: encoder file of a VAE trained alone on 10,000 frames of random play."""
    path = folder / f"{variant}-{seed}.safetensors".replace(", ", "-")
    if not path.exists():
        frames = folder / path.with_suffix(".npy").name
        collect_frames(make_env(variant, 16, 1000 + seed), None, 10_000, frames, seed=1000 + seed)
        pretrain_encoder(frames, "vae", path=path, n_epochs=8, learning_rate=1e-3, seed=seed, **NETWORK)
    return path


def probe(model: PPO, variant: str, n_steps: int = 400) -> dict[str, float]:
    """:return: R^2 on held-out episodes of a linear regression from latent means to the true state, under random play."""
    env = make_env(variant, 16, 7)
    env.reset()
    latents, states = [], defaultdict(list)
    for _ in range(n_steps):
        observations, _, _, infos = env.step(np.array([env.action_space.sample() for _ in range(16)]))
        if any("terminal_observation" in info for info in infos):
            continue
        with th.no_grad():
            inputs = th.as_tensor(observations, dtype=th.float32) / 255
            latents.append(get_extractor(model).encode(inputs.to(model.device)).mean.cpu().numpy())
        for name in ("ball_x", "paddle_x"):
            states[name].append([info[name] for info in infos])
    half = len(latents) // 2
    train, test = np.concatenate(latents[:half]), np.concatenate(latents[half:])
    targets = {name: (np.concatenate(rows[:half]), np.concatenate(rows[half:])) for name, rows in states.items()}
    return {name: _r2(train, before, test, after) for name, (before, after) in targets.items()}


def _r2(train: Array, before: Array, test: Array, after: Array) -> float:
    """Share of the variance of ``after`` that least squares on (train, before) explains."""
    weights, *_ = np.linalg.lstsq(np.c_[train, np.ones(len(train))], before, rcond=None)
    errors = after - np.c_[test, np.ones(len(test))] @ weights
    return 1.0 - float(errors.var() / after.var())


def run(method: str, variant: str, seed: int, n_steps: int, folder: Path) -> dict[str, Any]:
    """:return: one trained agent: curve, deterministic return over 64 episodes, probes, seconds."""
    settings = {**NETWORK, **METHODS[method]}
    if settings.pop("pretrained", False):
        settings["pretrained"] = str(pretrained_encoder(variant, seed, folder))
    policy_kwargs = {**latent_kwargs(settings.pop("preset"), **settings), "net_arch": [64, 64]}
    model = PPO("CnnPolicy", make_env(variant, 16, seed), seed=seed, policy_kwargs=policy_kwargs, **PPO_KWARGS)
    curve, start = Curve(), time.perf_counter()
    model.learn(n_steps, callback=curve, progress_bar=True)
    seconds = time.perf_counter() - start
    episodes, _ = evaluate_policy(model, make_env(variant, 16, 10_000 + seed), n_eval_episodes=64, return_episode_rewards=True)
    row = {"method": method, "variant": variant, "seed": seed, "n_steps": n_steps, "seconds": round(seconds, 1)}
    return {**row, "return": float(np.mean(episodes)), "r2": probe(model, variant), "curve": curve.points}


def table(runs: list[dict[str, Any]]) -> str:
    """:return: Markdown: a row a method, every seed's figure."""
    lines = ["| world | method | steps | return, each seed | mean | ball R² | paddle R² |", "|---|---|---|---|---|---|---|"]
    cells: dict[tuple[str, str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in runs:
        cells[row["variant"], row["method"], row["n_steps"]].append(row)
    for (variant, method, n_steps), rows in cells.items():
        returns = [row["return"] for row in sorted(rows, key=lambda row: int(row["seed"]))]
        ball, paddle = (np.mean([row["r2"][name] for row in rows]) for name in ("ball_x", "paddle_x"))
        each = " / ".join(f"{value:.2f}" for value in returns)
        lines.append(f"| {variant} | {method} | {n_steps:,} | {each} | {np.mean(returns):.2f} | {ball:.2f} | {paddle:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing; write JSON after each run, then the table and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python -m benchmarks.tiny_ball --seeds 0 1 2")
    parser.add_argument("--methods", nargs="+", default=["cnn", "PPOfixed", "PPOadapt", "PPO_VAE"], choices=list(METHODS))
    parser.add_argument("--variants", nargs="+", default=["default"], choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=122_880, help="environment steps of each run (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tiny_ball.json"))
    parser.add_argument("--work", type=Path, default=Path("runs/tiny_ball"), help="frames and encoders (default: %(default)s)")
    args = parser.parse_args()
    runs = json.loads(args.out.read_text())["results"] if args.out.exists() else []
    write = partial(write_json, args.out, shlex.join(["python", "-m", "benchmarks.tiny_ball", *sys.argv[1:]]))
    wanted = [(method, variant, seed) for variant in args.variants for method in args.methods for seed in args.seeds]
    for method, variant, seed in wanted:
        key = (method, variant, seed, args.steps)
        if key not in {(row["method"], row["variant"], row["seed"], row["n_steps"]) for row in runs}:
            print(f"{method}, {variant}, seed {seed}")
            runs.append(run(*key, args.work))
            write(runs)
    print(table(runs))
    for variant in {row["variant"] for row in runs}:
        curves: dict[str, list[Any]] = defaultdict(list)
        for row in runs:
            if row["variant"] == variant:
                curves[row["method"]].append(tuple(zip(*row["curve"], strict=True)))
        learning_curve(
            curves,
            args.out.with_name(f"{args.out.stem}-{variant.replace(', ', '-').replace(' ', '-')}.png"),
            title=f"TinyBall ({variant})",
        )


if __name__ == "__main__":
    main()
