"""PPO_VAE of seed document 000: policy and VAE learn together from the first step, L = kappa * L_PPO + L_VAE (eq. 3)."""

import argparse
from pathlib import Path

import ale_py
import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

from sb3_latent import latent_kwargs, ppo_kwargs
from sb3_latent.callbacks import JacobianSaliencyCallback, LatentMetricsCallback, ReconstructionCallback

parser = argparse.ArgumentParser(description=__doc__, epilog="example: python examples/ppo_vae.py --kappa auto")
parser.add_argument("--env", default="BreakoutNoFrameskip-v4", help="Atari game (default: %(default)s)")
parser.add_argument("--steps", type=int, default=10_000_000, help="environment steps (default: %(default)s, Table 3)")
parser.add_argument("--n-envs", type=int, default=16, help="parallel environments (default: %(default)s, Table 3)")
parser.add_argument("--n-steps", type=int, default=2048, help="steps in a rollout (default: %(default)s, Table 3)")
parser.add_argument("--kappa", default="20", help="weight of the RL gradient: 1, 10, 20 or 'auto' (default: %(default)s)")
parser.add_argument("--folder", type=Path, default=Path("runs/ppo_vae"), help="output (default: %(default)s)")
args = parser.parse_args()

gym.register_envs(ale_py)
env = VecFrameStack(make_atari_env(args.env, n_envs=args.n_envs, seed=0), n_stack=4)
kappa = args.kappa if args.kappa == "auto" else float(args.kappa)

model = PPO(
    "CnnPolicy",
    env,
    policy_kwargs=latent_kwargs("ppo_vae", kappa=kappa),
    **{**ppo_kwargs("ppo_vae"), "n_steps": args.n_steps},
    tensorboard_log=str(args.folder / "tensorboard"),
    seed=0,
)
pictures = args.folder / "pictures"
model.learn(
    args.steps,
    callback=[
        LatentMetricsCallback(),
        ReconstructionCallback(every=100_000, folder=pictures),
        JacobianSaliencyCallback(every=100_000, folder=pictures),
    ],
    progress_bar=True,
)
model.save(args.folder / "model")
print(f"wrote {args.folder / 'model.zip'}, {pictures}")
