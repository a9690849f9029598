"""The benchmark scripts run at a tiny size; what they print and write is what they measured."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def benchmarks_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def run_main(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
    module.main()


def test_ratios_compare_within_a_round() -> None:
    from benchmarks import cost

    times = {"cnn": [1.0, 10.0, 1.0], "vae": [2.0, 30.0, 2.0]}
    assert cost.ratios(times, "update") == {"update of vae / cnn": 2.0}


def test_cost_measures_writes_and_fails_where_a_limit_is_exceeded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import cost

    monkeypatch.setattr(cost, "N_SAMPLES", 32)
    monkeypatch.setattr(cost, "BATCH_SIZE", 16)
    monkeypatch.setattr(cost, "MODELS", {name: cost.MODELS[name] for name in ("cnn", "vae")})
    monkeypatch.setattr(cost, "LIMITS", {"update of vae / cnn": 0.01})
    out = tmp_path / "cost.json"
    with pytest.raises(SystemExit) as stop:
        run_main(cost, monkeypatch, "--rounds", "2", "--out", str(out), "--check")
    assert stop.value.code == 1
    assert "too slow: update of vae / cnn" in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert written["results"]["ratios"]["update of vae / cnn"] > 1
    assert written["machine"]["versions"]["torch"]


def test_tiny_ball_does_each_run_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import tiny_ball

    out = tmp_path / "tiny_ball.json"
    arguments = ["--methods", "PPO_VAE", "--seeds", "0", "--steps", "4096", "--out", str(out), "--work", str(tmp_path)]
    run_main(tiny_ball, monkeypatch, *arguments)
    first = out.read_text()
    (row,) = json.loads(first)["results"]
    assert row["method"] == "PPO_VAE" and row["n_steps"] == 4096 and -5 <= row["return"] <= 5
    assert f"| default | PPO_VAE | 4,096 | {row['return']:.2f} |" in capsys.readouterr().out
    assert (tmp_path / "tiny_ball-default.png").exists()
    run_main(tiny_ball, monkeypatch, *arguments)
    assert out.read_text() == first
