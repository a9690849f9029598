"""Tune PPO + VAE on TinyBall with Optuna; start it several times with the same --storage to share the work."""

import argparse
from pathlib import Path

from stable_baselines3 import PPO

from sb3_latent.tuning import optimize

parser = argparse.ArgumentParser(
    description=__doc__, epilog="example: python examples/tune.py --trials 50 --storage study.log --search latent_dim kappa"
)
parser.add_argument("--env", default="sb3_latent/TinyBall-v0", help="environment id (default: %(default)s)")
parser.add_argument("--preset", default="vae", help="representation (default: %(default)s)")
parser.add_argument("--trials", type=int, default=20, help="of the whole study (default: %(default)s)")
parser.add_argument("--steps", type=int, default=30_000, help="environment steps of a trial (default: %(default)s)")
parser.add_argument("--n-envs", type=int, default=16, help="parallel environments (default: %(default)s)")
parser.add_argument(
    "--search",
    nargs="+",
    default=["latent_dim", "kappa", "beta", "learning_rate", "n_epochs"],
    help="hyperparameters (default: %(default)s)",
)
parser.add_argument(
    "--objectives", nargs="+", default=["return"], choices=["return", "elbo", "probe"], help="(default: %(default)s)"
)
parser.add_argument("--storage", help="journal file or URL of a database (default: in memory)")
parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
parser.add_argument("--folder", type=Path, default=Path("runs/tune"), help="output (default: %(default)s)")
args = parser.parse_args()

agent = {
    "policy": "sb3_latent.LatentActorCriticPolicy",
    "policy_kwargs": {"preset": args.preset, "net_arch": [64, 64]},
    "n_envs": args.n_envs,
    "n_timesteps": args.steps,
    "n_steps": 128,
    "batch_size": 256,
    "gamma": 0.95,
    "gae_lambda": 0.9,
    "ent_coef": 0.01,
}
study = optimize(
    PPO,
    args.env,
    agent,
    args.trials,
    space=args.search,
    objectives=args.objectives,
    storage=args.storage,
    folder=args.folder,
    seed=args.seed,
    progress_bar=True,
)
for trial in study.best_trials:
    print(f"trial {trial.number}: {dict(zip(args.objectives, trial.values, strict=True))} with {trial.params}")
print(f"wrote {args.folder / 'best.yml'}, {args.folder / 'study.html'}")
