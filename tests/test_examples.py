"""Every example runs from its own command line, at a tiny size, and leaves what it says."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY_PPO = ["--steps", "32", "--n-envs", "2", "--n-steps", "16"]
TINY_VAE = ["--n-frames", "300", "--n-epochs", "1"]
TINY_SAC = [
    "--steps",
    "12",
    "--learning-starts",
    "8",
    "--batch-size",
    "4",
    "--buffer-size",
    "50",
    "--task",
    "cartpole-swingup",
]
TINY_SLAC = "--task cartpole-swingup --steps 14 --learning-starts 10 --batch-size 4 --pretraining 2".split()
SAC_FILES = ["model.zip", "tensorboard"]
RUNS = {
    "demo.py": (["--steps", "1024"], ["model.zip", "contact_sheet.png", "learning_curve.png", "tensorboard", "monitor"]),
    "ppo_fixed.py": (TINY_PPO + TINY_VAE, ["model.zip", "frames.npy", "encoder.safetensors", "tensorboard"]),
    "ppo_adapt.py": (TINY_PPO + TINY_VAE, ["model.zip", "frames.npy", "encoder.safetensors", "tensorboard"]),
    "ppo_vae.py": (TINY_PPO, ["model.zip", "pictures", "tensorboard"]),
    "sac_ae.py": (TINY_SAC, [*SAC_FILES, "pictures"]),
    "sac_cnn.py": (TINY_SAC, SAC_FILES),
    "sac_vae.py": ([*TINY_SAC, "--variant", "alternating", "--task-freq", "2"], [*SAC_FILES, "pictures"]),
    "drq.py": (TINY_SAC, SAC_FILES),
    "curl.py": (TINY_SAC, SAC_FILES),
    "sac_state.py": (TINY_SAC, SAC_FILES),
    "dream_ppo.py": (
        ["--steps", "120", "--updates", "2", "--horizon", "4", "--dream-steps", "256", "--episodes", "2"],
        ["model.zip", "returns.json", "tensorboard"],
    ),
    "slac.py": (TINY_SLAC, SAC_FILES),
    "ppo_rssm.py": (TINY_PPO, SAC_FILES),
    "tune.py": (
        ["--steps", "64", "--n-envs", "2", "--trials", "2", "--search", "kappa", "--objectives", "return", "probe"],
        ["best.yml", "study.html", "study_trials.csv"],
    ),
}


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_example(name: str, tmp_path: Path) -> None:
    arguments, files = RUNS[name]
    command = [sys.executable, str(EXAMPLES / name), *arguments, "--folder", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert run.returncode == 0, run.stderr[-3000:]
    for file in files:
        found = tmp_path / file
        assert found.stat().st_size > 0 if found.is_file() else any(found.iterdir()), file


@pytest.mark.parametrize("name", RUNS)
def test_help_explains_itself(name: str) -> None:
    run = subprocess.run([sys.executable, str(EXAMPLES / name), "--help"], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0
    assert "example:" in run.stdout and "default:" in run.stdout
