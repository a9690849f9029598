"""Runs to report on, each made once, and one browser."""

import json
from pathlib import Path

import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure

from sb3_latent import latent_kwargs
from sb3_latent.callbacks import JacobianSaliencyCallback, LatentMetricsCallback, ReconstructionCallback
from sb3_latent.probes import Report, Score
from sb3_latent.report import Play, find_runs, write_report

TINY = {"n_steps": 64, "batch_size": 64, "n_epochs": 1, "seed": 0, "device": "cpu"}
CHROMIUM = Path("/usr/bin/chromium")


def probe_report():
    scores = [
        Score("ball_x", "model", "linear", "r2", 0.8, 0.7, 0.9),
        Score("ball_x", "model", "mlp", "r2", 0.9, 0.85, 0.95),
        Score("ball_x", "random", "linear", "r2", 0.3, 0.2, 0.4),
        Score("ball_x", "pca", "linear", "r2", 0.2, 0.1, 0.3),
        Score("ball_x", "constant", "none", "r2", 0.0, float("nan"), float("nan")),
    ]
    rows = {"train": 70, "validation": 10, "test": 20, "duplicates": 0}
    return Report(scores, {}, [], rows, {"train": 7, "validation": 1, "test": 2}, 4).to_dict()


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """PPO and a VAE on TinyBall, with everything switched on."""
    folder = tmp_path_factory.mktemp("runs") / "ppo_vae_1"
    env = make_vec_env("sb3_latent/TinyBall-v0", 2, seed=0, monitor_dir=str(folder / "monitor"))
    encoder = latent_kwargs("vae", latent_dim=4, trunk="mlp", trunk_kwargs={"net_arch": (16,)})
    # A large learning rate, for sliders have to change pictures after two updates.
    model = PPO("CnnPolicy", env, policy_kwargs={**encoder, "net_arch": []}, learning_rate=0.01, **TINY)
    model.set_logger(configure(str(folder), ["tensorboard", "csv"]))
    looking = {"every": 128}
    callbacks = [LatentMetricsCallback(**looking), ReconstructionCallback(n_images=2, **looking)]
    model.learn(512, callback=[*callbacks, JacobianSaliencyCallback(n_frames=2, **looking)])
    model.logger.close()
    model.save(folder / "model")
    (folder / "probe.json").write_text(json.dumps(probe_report()))
    return folder


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """A run of stock SB3 on vectors: no encoder, a CSV file and a monitor file alone."""
    folder = tmp_path_factory.mktemp("runs") / "ppo_1"
    model = PPO("MlpPolicy", make_vec_env("CartPole-v1", 1, seed=0, monitor_dir=str(folder)), **TINY)
    model.set_logger(configure(str(folder), ["csv"]))
    model.learn(192)
    model.logger.close()
    model.save(folder / "model")
    return folder


@pytest.fixture(scope="session")
def page_path(demo, tmp_path_factory):
    """The report on the demo run."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(find_runs([demo]), path, Play(max_steps=40))
    return path


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()
