"""PPO and a VAE learn Atari Breakout together, in about five minutes on two cores. Leaves pictures in runs/demo."""

import argparse
import time
from pathlib import Path

import ale_py
import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

from sb3_latent import latent_kwargs
from sb3_latent.callbacks import JacobianSaliencyCallback, LatentMetricsCallback, ReconstructionCallback
from sb3_latent.figures import learning_curve, read_monitor
from sb3_latent.sheets import agent_sheet

MINUTES = 5.0
ROLLOUT = 8 * 128

parser = argparse.ArgumentParser(description=__doc__, epilog="example: python examples/demo.py --steps 1000000")
parser.add_argument("--steps", type=int, help=f"environment steps (default: what fits {MINUTES:g} minutes here)")
parser.add_argument("--folder", type=Path, default=Path("runs/demo"), help="where everything goes (default: %(default)s)")
args = parser.parse_args()

gym.register_envs(ale_py)
monitor = args.folder / "monitor"
monitor.mkdir(parents=True, exist_ok=True)
env = VecFrameStack(make_atari_env("BreakoutNoFrameskip-v4", n_envs=8, seed=0, monitor_dir=str(monitor)), n_stack=4)
model = PPO(
    "CnnPolicy",
    env,
    policy_kwargs={**latent_kwargs("vae", latent_dim=64), "net_arch": []},
    # rl-zoo's settings for Atari but for the schedules
    n_steps=128,
    n_epochs=4,
    batch_size=256,
    learning_rate=2.5e-4,
    clip_range=0.1,
    ent_coef=0.01,
    tensorboard_log=str(args.folder / "tensorboard"),
    seed=0,
)
callbacks = [LatentMetricsCallback(), ReconstructionCallback(every=5_000), JacobianSaliencyCallback(every=5_000)]

start = time.perf_counter()
n_steps = args.steps
if n_steps is None:
    print("PPO + VAE on Breakout; the first rollout measures how fast this machine is.")
    model.learn(ROLLOUT, callback=callbacks)
    n_steps = ROLLOUT * max(1, round(60 * MINUTES / (time.perf_counter() - start)) - 1)
model.learn(n_steps, callback=callbacks, reset_num_timesteps=False, progress_bar=True)

model.save(args.folder / "model")
agent_sheet(model, env, args.folder / "contact_sheet.png")
curve = {"PPO + VAE": [read_monitor(monitor)]}
learning_curve(curve, args.folder / "learning_curve.png", title="BreakoutNoFrameskip-v4", xlabel="Game frames, 4 a step")

print(f"""
{model.num_timesteps:,} steps in {(time.perf_counter() - start) / 60:.1f} minutes. In {args.folder}:
  model.zip            load it with PPO.load
  contact_sheet.png    frames, what the VAE makes of them, where the value function looks
  learning_curve.png   returns while learning; a few minutes are far too short for a good player
  tensorboard/         tensorboard --logdir {args.folder / "tensorboard"}
Next:
  sb3-latent report {args.folder}   all of it and an episode on one page (pip install -e '.[report]')
  make demo STEPS=1000000        longer
  python examples/ppo_fixed.py   why an encoder trained alone is not enough
""")
