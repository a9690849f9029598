"""What did not work in section 4 of SAC+AE: a stochastic encoder, trained jointly or in turn."""

import argparse
from pathlib import Path

from stable_baselines3 import SAC

from sb3_latent import FrameReplayBuffer, LatentSACPolicy, latent_kwargs, make_dmc_env, sac_kwargs
from sb3_latent.callbacks import LatentMetricsCallback, ReconstructionCallback

parser = argparse.ArgumentParser(
    description=__doc__, epilog="example: python examples/sac_vae.py --variant alternating --task-freq 100"
)
parser.add_argument("--task", default="cheetah-run", help="DeepMind Control task (default: %(default)s)")
parser.add_argument("--steps", type=int, default=125_000, help="agent steps; times the action repeat (default: %(default)s)")
parser.add_argument("--buffer-size", type=int, default=100_000, help="transitions kept (default: %(default)s)")
parser.add_argument("--learning-starts", type=int, default=1000, help="random steps before (default: %(default)s)")
parser.add_argument("--batch-size", type=int, default=128, help="of a gradient step (default: %(default)s)")
parser.add_argument(
    "--variant", default="joint", choices=["joint", "joint_actor", "alternating"], help="(default: %(default)s)"
)
parser.add_argument(
    "--task-freq", type=int, default=100, help="updates from one VAE step to the next, alternating (default: %(default)s)"
)
parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
parser.add_argument("--folder", type=Path, default=Path("runs/sac_vae"), help="output (default: %(default)s)")
args = parser.parse_args()

VARIANTS = {
    "joint": latent_kwargs("sac_vae"),
    "joint_actor": latent_kwargs("sac_vae_actor"),
    "alternating": latent_kwargs("sac_vae_alternating", task_freq=args.task_freq),
}
env = make_dmc_env(args.task, seed=args.seed)
settings = {"buffer_size": args.buffer_size, "learning_starts": args.learning_starts, "batch_size": args.batch_size}
model = SAC(
    LatentSACPolicy,
    env,
    replay_buffer_class=FrameReplayBuffer,
    policy_kwargs=VARIANTS[args.variant],
    **{**sac_kwargs("sac_vae"), **settings},
    tensorboard_log=str(args.folder / "tensorboard"),
    seed=args.seed,
)
model.learn(
    args.steps,
    callback=[LatentMetricsCallback(), ReconstructionCallback(every=10_000, folder=args.folder / "pictures")],
    progress_bar=True,
)
model.save(args.folder / "model")
print(f"wrote {args.folder / 'model.zip'}, {args.folder / 'tensorboard'}")
