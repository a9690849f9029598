"""World models (Ha and Schmidhuber 2018, arXiv:1803.10122): PPO learns in the dreams of a model and then plays outside."""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from sb3_latent import (
    DreamVecEnv,
    HistoryWrapper,
    SequenceReplayBuffer,
    SLACPolicy,
    VecLatentStateWrapper,
    latent_kwargs,
    sac_kwargs,
)
from sb3_latent.callbacks import ModelPretrainCallback
from sb3_latent.envs import PIXEL_PENDULUM_ID

parser = argparse.ArgumentParser(description=__doc__, epilog="example: python examples/dream_ppo.py --seed 1")
parser.add_argument("--preset", default="rssm", help="of the model, e.g. slac (default: %(default)s)")
parser.add_argument("--steps", type=int, default=5000, help="random steps in the real world (default: %(default)s)")
parser.add_argument("--updates", type=int, default=4000, help="of the model, 32 windows each (default: %(default)s)")
parser.add_argument("--horizon", type=int, default=20, help="steps of a dream (default: %(default)s)")
parser.add_argument("--dream-steps", type=int, default=100_000, help="that PPO learns from (default: %(default)s)")
parser.add_argument("--episodes", type=int, default=20, help="of each evaluation (default: %(default)s)")
parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
parser.add_argument("--folder", type=Path, default=Path("runs/dream_ppo"), help="output (default: %(default)s)")
args = parser.parse_args()

env = HistoryWrapper(gym.make(PIXEL_PENDULUM_ID, n_frames=1), length=8)
world = SAC(
    SLACPolicy,
    env,
    replay_buffer_class=SequenceReplayBuffer,
    # Dreamer's deviation of 1 is for 64x64x3 pixels; here are a twelfth of them.
    policy_kwargs=latent_kwargs(args.preset, trunk="nature", loss_kwargs={"std": 0.3}),
    **{**sac_kwargs(args.preset), "learning_starts": args.steps, "buffer_size": args.steps},
    seed=args.seed,
)
# SAC itself learns nothing: it would begin with the next step.
world.learn(args.steps, ModelPretrainCallback(args.updates))

dream = VecMonitor(DreamVecEnv(world, args.horizon, n_envs=64))
agent = PPO(
    "MlpPolicy",
    VecNormalize(dream, norm_obs=False, gamma=0.9),
    learning_rate=1e-3,
    n_steps=2 * args.horizon,
    batch_size=256,
    gamma=0.9,
    tensorboard_log=str(args.folder / "tensorboard"),
    seed=args.seed,
)
agent.learn(args.dream_steps, progress_bar=True)
agent.save(args.folder / "model")

outside = VecLatentStateWrapper(env, world)
outside.action_space.seed(args.seed)
random_play = SimpleNamespace(predict=lambda states, **_: (np.stack([outside.action_space.sample() for _ in states]), None))
results: dict[str, dict[str, str | float]] = {"arguments": {name: str(value) for name, value in vars(args).items()}}
for where, place in (("in the dream", dream), ("outside", outside)):
    for who, player in (("PPO", agent), ("random play", random_play)):
        place.seed(10_000 + args.seed)
        returns, lengths = evaluate_policy(player, place, args.episodes, return_episode_rewards=True)
        row = {"return": np.mean(returns), "std": np.std(returns), "reward of a step": np.sum(returns) / np.sum(lengths)}
        results[f"{who} {where}"] = {name: round(float(value), 3) for name, value in row.items()}
        print(f"{who} {where}, {np.mean(lengths):.0f} steps: {results[f'{who} {where}']}")
(args.folder / "returns.json").write_text(json.dumps(results, indent=2) + "\n")
print(f"wrote {args.folder / 'model.zip'}, {args.folder / 'returns.json'}")
