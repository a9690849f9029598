"""How much of PPO's RL gradient survives its gradient clip, by gradient mode and coefficient: the first gradient step."""

import argparse
from typing import Any

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.envs import FakeImageEnv

from benchmarks.machine import write_json
from sb3_latent import latent_kwargs

MAX_GRAD_NORM = 0.5
"""SB3's default for PPO."""


def first_norm(coef: float | None, gradient_mode: str) -> float:
    """:return: norm of all gradients that the clip of PPO's first step sees; ``coef=None`` leaves the defaults."""
    coefs = {} if coef is None else {"coefs": {"recon": coef, "kl": coef}}
    policy_kwargs: dict[str, Any] = latent_kwargs("vae", gradient_mode=gradient_mode, **coefs)
    env = FakeImageEnv(screen_height=84, screen_width=84, n_channels=1, channel_first=True)
    env.observation_space.seed(0)
    model = PPO("CnnPolicy", env, n_steps=64, n_epochs=1, max_grad_norm=1e9, seed=0, policy_kwargs=policy_kwargs)
    norms: list[float] = []

    def measure(*_: object) -> None:
        gradients = [parameter.grad for parameter in model.policy.parameters() if parameter.grad is not None]
        norms.append(float(th.stack([gradient.norm() for gradient in gradients]).norm()))

    model.policy.optimizer.register_step_pre_hook(measure)
    model.learn(64)
    return norms[0]


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python -m benchmarks.clip")
    parser.add_argument("--out", default="benchmarks/results/clip.json", help="JSON to write (default: %(default)s)")
    args = parser.parse_args()
    cases = [("joint", coef) for coef in (0.0, None, 1.0, 100.0, 1000.0)] + [("own_optimizer", 1000.0)]
    rows = []
    print("| gradient mode | coefficient | gradient norm | clip factor |\n|---|---|---|---|")
    for mode, coef in cases:
        norm = first_norm(coef, mode)
        factor = min(1.0, MAX_GRAD_NORM / norm)
        rows.append({"gradient_mode": mode, "coef": coef, "norm": norm, "clip_factor": factor})
        print(f"| `{mode}` | {'default, 1/pixels' if coef is None else f'{coef:g}'} | {norm:.3g} | {factor:.2g} |")
    write_json(args.out, "python -m benchmarks.clip", rows)


if __name__ == "__main__":
    main()
