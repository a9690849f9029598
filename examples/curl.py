"""CURL (Laskin et al. 2020, arXiv:2004.04136): two views of a picture must find each other in a batch."""

import argparse
from pathlib import Path

from stable_baselines3 import SAC

from sb3_latent import FrameReplayBuffer, LatentSACPolicy, latent_kwargs, make_dmc_env, sac_kwargs
from sb3_latent.callbacks import LatentMetricsCallback

parser = argparse.ArgumentParser(description=__doc__, epilog="example: python examples/curl.py --task finger-spin")
parser.add_argument("--task", default="cheetah-run", help="DeepMind Control task (default: %(default)s)")
parser.add_argument("--steps", type=int, default=125_000, help="agent steps; times the action repeat (default: %(default)s)")
parser.add_argument("--buffer-size", type=int, default=100_000, help="transitions kept (default: %(default)s)")
parser.add_argument("--learning-starts", type=int, default=1000, help="random steps before (default: %(default)s)")
parser.add_argument("--batch-size", type=int, default=512, help="of a gradient step (default: %(default)s)")
parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
parser.add_argument("--folder", type=Path, default=Path("runs/curl"), help="output (default: %(default)s)")
args = parser.parse_args()

env = make_dmc_env(args.task, seed=args.seed)
settings = {"buffer_size": args.buffer_size, "learning_starts": args.learning_starts, "batch_size": args.batch_size}
model = SAC(
    LatentSACPolicy,
    env,
    replay_buffer_class=FrameReplayBuffer,
    policy_kwargs=latent_kwargs("curl"),
    **{**sac_kwargs("curl"), **settings},
    tensorboard_log=str(args.folder / "tensorboard"),
    seed=args.seed,
)
model.learn(args.steps, callback=LatentMetricsCallback(), progress_bar=True)
model.save(args.folder / "model")
print(f"wrote {args.folder / 'model.zip'}, {args.folder / 'tensorboard'}")
