"""The seed's claim in numbers: what the benchmark measured, and the same planted."""

import json
import sys
from pathlib import Path

import numpy as np
from stable_baselines3.common.env_util import make_vec_env

from benchmarks import probe_claim
from sb3_latent.envs import TINY_BALL_ID
from sb3_latent.probes import collect, probe_dataset

ROOT = Path(__file__).parents[1]


def test_the_vae_alone_loses_the_ball_and_the_joint_one_keeps_it():
    runs = json.loads((ROOT / "benchmarks/results/probe_claim.json").read_text())["results"]
    assert {(row["method"], row["seed"]) for row in runs} == {(name, seed) for name in probe_claim.NAMES for seed in range(3)}
    for row in runs:
        for kind in ("linear", "mlp"):
            ball, paddle = row["r2"]["ball_x"][kind], row["r2"]["paddle_x"][kind]
            highest = max(ball[floor] for floor in ("random", "pca", "constant"))
            if row["method"] == "PPOfixed":
                assert ball["low"] <= ball["constant"] and ball["r2"] < 0.05 and paddle["r2"] > 0.9
            else:
                assert ball["low"] > highest + 0.3 and paddle["low"] > paddle["constant"] + 0.7
    assert probe_claim.table(runs) in (ROOT / "docs/probes.md").read_text()


def test_an_encoder_that_is_shown_no_ball_is_told_from_one_that_is():
    dataset = collect(None, make_vec_env(TINY_BALL_ID, 10), ["ball_x", "paddle_x"], 1500, seed=7)

    def columns(images):
        """How bright each column is, of the air and of the paddle's row."""
        air = images[:, 0, 10:31].astype(float)
        # Nothing but the ball is white there.
        return np.c_[(air == 255).any(1), images[:, 0, 31:].mean(1)]

    def without_ball(images):
        images = images.copy()
        air = images[:, :, 10:31]
        air[air == 255] = 0
        return columns(images)

    sees, blind = (probe_dataset(encoder, dataset, ["linear"]) for encoder in (columns, without_ball))
    assert sees.at_floor() == [] and sees.score("ball_x").value > 0.3
    assert blind.at_floor() == ["ball_x"] and blind.score("paddle_x").value > 0.9


def test_the_benchmark_does_each_run_once(monkeypatch, tmp_path, capsys):
    made = []

    def trained(method, seed, n_steps, folder):
        made.append((method, seed, n_steps, folder))
        return lambda images: images[:, 0, ::6, ::6].reshape(len(images), -1) * (1.0 + seed)

    monkeypatch.setattr(probe_claim, "trained", trained)
    monkeypatch.setattr(probe_claim, "PROBES", ("linear",))
    monkeypatch.setattr(probe_claim, "FLOORS", ("pca", "constant"))
    out = tmp_path / "claim.json"
    arguments = ["--steps", "10", "--probe-steps", "800", "--out", str(out), "--work", str(tmp_path)]
    for seeds in (["0"], ["0", "1"]):
        monkeypatch.setattr(sys, "argv", ["probe_claim", *arguments, "--seeds", *seeds])
        probe_claim.main()
    assert made == [(name, seed, 10, tmp_path) for seed in (0, 1) for name in ("PPOfixed", "PPO_VAE")]
    rows = json.loads(out.read_text())["results"]
    assert [(row["method"], row["seed"], row["n_steps"]) for row in rows] == [one[:3] for one in made]
    paddle = [row["r2"]["paddle_x"]["linear"]["r2"] for row in rows]
    assert f"| VAE and PPO | paddle_x | {paddle[1]:.2f} / {paddle[3]:.2f} |" in capsys.readouterr().out
