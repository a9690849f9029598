"""SLAC (Lee et al. 2020, arXiv:1907.00953): SAC in the states of a latent model, which learns from windows of frames."""

import argparse
from pathlib import Path

from stable_baselines3 import SAC

from sb3_latent import HistoryWrapper, SequenceReplayBuffer, SLACPolicy, latent_kwargs, list_dynamics, make_dmc_env, sac_kwargs
from sb3_latent.callbacks import LatentMetricsCallback, ModelPretrainCallback

parser = argparse.ArgumentParser(
    description=__doc__, epilog="example: python examples/slac.py --task walker-walk --preset rssm"
)
parser.add_argument("--task", default="cheetah-run", help="DeepMind Control task (default: %(default)s)")
parser.add_argument("--preset", default="slac", choices=list_dynamics(), help="latent model (default: %(default)s)")
parser.add_argument("--actor-reads", default="history", choices=["history", "latent"], help="(default: %(default)s)")
parser.add_argument("--critic-reads", default="latent", choices=["history", "latent"], help="(default: %(default)s)")
parser.add_argument("--length", type=int, default=8, help="frames of a window (default: %(default)s)")
parser.add_argument("--steps", type=int, default=125_000, help="agent steps; times the action repeat (default: %(default)s)")
parser.add_argument("--pretraining", type=int, default=100_000, help="model updates before the agent's (default: %(default)s)")
parser.add_argument("--learning-starts", type=int, default=10_000, help="random steps before (default: %(default)s)")
parser.add_argument("--batch-size", type=int, default=256, help="of a gradient step (default: %(default)s)")
parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
parser.add_argument("--folder", type=Path, default=Path("runs/slac"), help="output (default: %(default)s)")
args = parser.parse_args()

env = HistoryWrapper(make_dmc_env(args.task, size=64, frame_stack=1, seed=args.seed), length=args.length)
settings = {"learning_starts": args.learning_starts, "batch_size": args.batch_size}
model = SAC(
    SLACPolicy,
    env,
    replay_buffer_class=SequenceReplayBuffer,
    policy_kwargs=latent_kwargs(args.preset, actor_reads=args.actor_reads, critic_reads=args.critic_reads),
    **{**sac_kwargs(args.preset), **settings},
    tensorboard_log=str(args.folder / "tensorboard"),
    seed=args.seed,
)
callbacks = [ModelPretrainCallback(args.pretraining, verbose=1), LatentMetricsCallback()]
model.learn(args.steps, callback=callbacks, progress_bar=True)
model.save(args.folder / "model")
print(f"wrote {args.folder / 'model.zip'}, {args.folder / 'tensorboard'}")
