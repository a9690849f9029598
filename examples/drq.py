"""DrQ (Kostrikov et al. 2020, arXiv:2004.13649): random shifts, targets averaged over K of them, losses over M."""

import argparse
from pathlib import Path

from stable_baselines3 import SAC

from sb3_latent import FrameReplayBuffer, LatentSACPolicy, latent_kwargs, make_dmc_env, sac_kwargs

parser = argparse.ArgumentParser(description=__doc__, epilog="example: python examples/drq.py --k 1 --m 1")
parser.add_argument("--task", default="cheetah-run", help="DeepMind Control task (default: %(default)s)")
parser.add_argument("--steps", type=int, default=125_000, help="agent steps; times the action repeat (default: %(default)s)")
parser.add_argument("--buffer-size", type=int, default=100_000, help="transitions kept (default: %(default)s)")
parser.add_argument("--learning-starts", type=int, default=1000, help="random steps before (default: %(default)s)")
parser.add_argument("--batch-size", type=int, default=512, help="of a gradient step (default: %(default)s)")
parser.add_argument("--k", type=int, default=2, help="augmentations of a target (default: %(default)s)")
parser.add_argument("--m", type=int, default=2, help="augmentations of a Q-value (default: %(default)s)")
parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
parser.add_argument("--folder", type=Path, default=Path("runs/drq"), help="output (default: %(default)s)")
args = parser.parse_args()

env = make_dmc_env(args.task, seed=args.seed)
settings = {"buffer_size": args.buffer_size, "learning_starts": args.learning_starts, "batch_size": args.batch_size}
model = SAC(
    LatentSACPolicy,
    env,
    replay_buffer_class=FrameReplayBuffer,
    policy_kwargs=latent_kwargs("drq", n_target_views=args.k, n_q_views=args.m),
    **{**sac_kwargs("drq"), **settings},
    tensorboard_log=str(args.folder / "tensorboard"),
    seed=args.seed,
)
model.learn(args.steps, progress_bar=True)
model.save(args.folder / "model")
print(f"wrote {args.folder / 'model.zip'}, {args.folder / 'tensorboard'}")
