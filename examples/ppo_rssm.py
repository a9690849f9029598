"""PPO on the state of a recurrent state-space model: one frame at a time, and a memory that predicts."""

import argparse
from pathlib import Path

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_latent import HistoryWrapper, latent_kwargs, list_dynamics
from sb3_latent.callbacks import LatentMetricsCallback
from sb3_latent.envs import PIXEL_PENDULUM_ID

parser = argparse.ArgumentParser(description=__doc__, epilog="example: python examples/ppo_rssm.py --preset slac --kappa 1")
parser.add_argument("--preset", default="rssm", choices=list_dynamics(), help="latent model (default: %(default)s)")
parser.add_argument("--kappa", type=float, default=0, help="factor on the RL gradient to the model (default: %(default)s)")
parser.add_argument("--length", type=int, default=4, help="frames of a window (default: %(default)s)")
parser.add_argument("--steps", type=int, default=100_000, help="environment steps (default: %(default)s)")
parser.add_argument("--n-envs", type=int, default=8, help="environments side by side (default: %(default)s)")
parser.add_argument("--n-steps", type=int, default=256, help="steps of a rollout (default: %(default)s)")
parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
parser.add_argument("--folder", type=Path, default=Path("runs/ppo_rssm"), help="output (default: %(default)s)")
args = parser.parse_args()


def make_env() -> gym.Env:
    """One frame of 32x32 pixels: where the pendulum is, not how fast it moves."""
    return HistoryWrapper(gym.make(PIXEL_PENDULUM_ID, n_frames=1), length=args.length)


model = PPO(
    "MultiInputPolicy",
    make_vec_env(make_env, args.n_envs, seed=args.seed),
    n_steps=args.n_steps,
    batch_size=64,
    policy_kwargs=latent_kwargs(args.preset, trunk="nature", kappa=args.kappa),
    tensorboard_log=str(args.folder / "tensorboard"),
    seed=args.seed,
)
model.learn(args.steps, callback=LatentMetricsCallback(), progress_bar=True)
model.save(args.folder / "model")
print(f"wrote {args.folder / 'model.zip'}, {args.folder / 'tensorboard'}")
