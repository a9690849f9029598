"""PPOfixed of seed document 000: a VAE learns alone from recorded frames, then PPO plays on its frozen latents.

Expect it to fail: the VAE has no reason to keep the ball. Compare with ppo_adapt.py and ppo_vae.py.
"""

import argparse
from pathlib import Path

import ale_py
import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

from sb3_latent import collect_frames, latent_kwargs, ppo_kwargs, pretrain_encoder

parser = argparse.ArgumentParser(description=__doc__, epilog="example: python examples/ppo_fixed.py --player model.zip")
parser.add_argument("--env", default="BreakoutNoFrameskip-v4", help="Atari game (default: %(default)s)")
parser.add_argument("--steps", type=int, default=10_000_000, help="environment steps (default: %(default)s, Table 2)")
parser.add_argument("--n-envs", type=int, default=16, help="parallel environments (default: %(default)s, Table 2)")
parser.add_argument("--n-steps", type=int, default=2048, help="steps in a rollout (default: %(default)s, Table 2)")
parser.add_argument("--n-frames", type=int, default=25_000, help="frames for the VAE (default: %(default)s, section 4.1)")
parser.add_argument("--n-epochs", type=int, default=100, help="epochs of the VAE (default: %(default)s, Table 1)")
parser.add_argument("--player", type=Path, help="PPO model that records the frames, as in the paper (default: random play)")
parser.add_argument("--folder", type=Path, default=Path("runs/ppo_fixed"), help="output (default: %(default)s)")
args = parser.parse_args()

gym.register_envs(ale_py)
env = VecFrameStack(make_atari_env(args.env, n_envs=args.n_envs, seed=0), n_stack=4)

player = PPO.load(args.player) if args.player else None
collect_frames(env, player, args.n_frames, args.folder / "frames.npy", n_stack=4, seed=0)
encoder = args.folder / "encoder.safetensors"
pretrain_encoder(args.folder / "frames.npy", "ppo_vae", path=encoder, n_epochs=args.n_epochs)

model = PPO(
    "CnnPolicy",
    env,
    policy_kwargs=latent_kwargs("ppo_fixed", pretrained=str(encoder)),
    **{**ppo_kwargs("ppo_fixed"), "n_steps": args.n_steps},
    tensorboard_log=str(args.folder / "tensorboard"),
    seed=0,
)
model.learn(args.steps, progress_bar=True)
model.save(args.folder / "model")
print(f"wrote {args.folder / 'model.zip'}")
