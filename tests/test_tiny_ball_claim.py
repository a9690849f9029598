"""The claim of seed document 000 in small: a VAE trained alone loses the ball, joint training keeps it."""

from pathlib import Path

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from sb3_latent import collect_frames, get_extractor, latent_kwargs, pretrain_encoder
from sb3_latent.envs import TINY_BALL_ID
from sb3_latent.probes import Report, collect, probe_dataset

NETWORK = {"trunk": "seed84", "trunk_kwargs": {"channels": (16, 32), "hidden_dim": 128}, "latent_dim": 10}
N_STEPS = 51_200


def make_env(seed: int) -> VecEnv:
    return make_vec_env(TINY_BALL_ID, n_envs=16, seed=seed)


def train(preset: str, **settings: object) -> PPO:
    policy_kwargs = {**latent_kwargs(preset, **NETWORK, **settings), "net_arch": [64, 64]}
    model = PPO(
        "CnnPolicy",
        make_env(0),
        n_steps=128,
        batch_size=256,
        n_epochs=4,
        learning_rate=1e-3,
        gamma=0.95,
        gae_lambda=0.9,
        ent_coef=0.01,
        policy_kwargs=policy_kwargs,
        seed=0,
    )
    return model.learn(N_STEPS)


def mean_return(model: PPO) -> float:
    return float(np.mean(evaluate_policy(model, make_env(10_000), n_eval_episodes=64, return_episode_rewards=True)[0]))


def probed(model: PPO) -> Report:
    dataset = collect(None, make_env(7), ["ball_x", "paddle_x"], 3_000, seed=7)
    return probe_dataset(model, dataset)


def test_ppo_fixed_stays_at_random(tmp_path: Path) -> None:
    frames = collect_frames(make_env(1_000), None, 10_000, tmp_path / "frames.npy", seed=0, progress_bar=False)
    encoder = tmp_path / "encoder.safetensors"
    pretrained = pretrain_encoder(frames, "vae", path=encoder, n_epochs=8, learning_rate=1e-3, progress_bar=False, **NETWORK)
    model = train("cnn", head="gaussian", frozen=True, pretrained=str(encoder))
    assert mean_return(model) < -2
    report = probed(model)
    assert all(report.at_floor(probe=kind) == ["ball_x"] for kind in ("linear", "mlp"))
    assert report.score("paddle_x").value > 0.9
    for here, there in zip(get_extractor(model).encoders.parameters(), pretrained.encoders.parameters(), strict=True):
        assert here.cpu().equal(there.cpu())


def test_ppo_vae_learns() -> None:
    model = train("vae")
    assert mean_return(model) > 3
    report = probed(model)
    for kind in ("linear", "mlp"):
        assert report.at_floor(probe=kind) == []
        assert all("ball_x" not in report.at_floor(floor, kind) for floor in ("random", "pca"))
        assert report.score("ball_x", kind).value > 0.25
