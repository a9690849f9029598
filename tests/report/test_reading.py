"""What is read of a run, against files written here by other means."""

import csv
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import yaml
from PIL import Image
from stable_baselines3.common.logger import configure

from sb3_latent.report.configuration import read_configuration
from sb3_latent.report.logs import read_logs
from sb3_latent.report.runs import Run, find_runs


def run_in(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return Run("method", folder.name, folder)


def log_events(folder, points):
    """tag -> {step: value}, in one event file."""
    logger = configure(str(folder), ["tensorboard"])
    for step in sorted({step for values in points.values() for step in values}):
        for tag, values in points.items():
            if step in values:
                logger.record(tag, values[step])
        logger.dump(step)
    logger.close()


def as_dict(series):
    return dict(zip(series.steps.tolist(), series.values.tolist(), strict=True))


def write_monitor(path, returns, env_id="Some-v0"):
    with path.open("w", newline="") as file:
        file.write(f'#{{"t_start": 0.0, "env_id": "{env_id}"}}\n')
        writer = csv.writer(file)
        writer.writerows([("r", "l", "t"), *((value, 10, index) for index, value in enumerate(returns))])


def test_numbers_of_tensorboard(tmp_path):
    run = run_in(tmp_path / "run")
    points = {"train/loss": {1: 0.5, 2: 0.25}, "rollout/ep_rew_mean": {2: 7.0}}
    log_events(run.folder / "deep" / "PPO_1", points)
    logs = read_logs(run)
    assert {tag: as_dict(series) for tag, series in logs.scalars.items()} == points
    assert logs.scores["log"].value == 7
    assert logs.problems == []


def test_a_training_that_went_on_replaces_what_it_did_again(tmp_path):
    run = run_in(tmp_path / "run")
    log_events(run.folder / "PPO_1", {"train/loss": {10: 1.0, 20: 2.0, 30: 3.0}})
    log_events(run.folder / "PPO_2", {"train/loss": {20: 5.0, 40: 6.0}})
    assert as_dict(read_logs(run).scalars["train/loss"]) == {10: 1.0, 20: 5.0, 40: 6.0}


def test_values_that_are_not_finite_are_said(tmp_path):
    run = run_in(tmp_path / "run")
    log_events(run.folder, {"train/loss": {1: 1.0, 2: float("nan"), 3: float("inf"), 4: 2.0}})
    logs = read_logs(run)
    assert np.isfinite(logs.scalars["train/loss"].values).tolist() == [True, False, False, True]
    assert logs.problems == ["train/loss: 2 of 4 values are not finite; the curve has gaps there"]


def test_an_event_file_that_was_cut_off_keeps_what_came_before(tmp_path):
    run = run_in(tmp_path / "run")
    log_events(run.folder, {"train/loss": {step: float(step) for step in range(100)}})
    (path,) = run.folder.glob("*tfevents*")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    steps = read_logs(run).scalars["train/loss"].steps
    assert 20 < len(steps) < 80 and steps.tolist() == list(range(len(steps)))


def test_files_that_cannot_be_read_are_said_and_the_others_are_used(tmp_path):
    run = run_in(tmp_path / "run")
    for name in (
        "events.out.tfevents.1",
        "evaluations.npz",
        "progress.csv",
        "0.monitor.csv",
        "args.yml",
        "reconstruction_x.png",
        "saliency_10.png",
    ):
        (run.folder / name).write_bytes(b"{ nonsense")
    with zipfile.ZipFile(run.folder / "model.zip", "w") as archive:
        archive.writestr("data", "{ nonsense")
    log_events(run.folder / "good", {"train/loss": {1: 1.0}})
    logs = read_logs(run)
    problems = logs.problems + read_configuration(run)[1]
    assert list(logs.scalars) == ["train/loss"]
    assert len(problems) == 8
    assert all("\n" not in problem for problem in problems)
    for name in (
        "tfevents",
        "evaluations.npz",
        "progress.csv",
        "args.yml",
        "reconstruction_x.png",
        "saliency_10.png",
        "model.zip",
        "*monitor.csv",
    ):
        assert sum(name in problem for problem in problems) == 1, name


def test_progress_csv_has_the_last_row_of_callbacks(tmp_path):
    run = run_in(tmp_path / "run")
    text = "latent/active_units,time/total_timesteps,train/loss\n,10,\n3,20,0.5\n4,,0.25\n"
    (run.folder / "progress.csv").write_text(text)
    scalars = read_logs(run).scalars
    assert as_dict(scalars["train/loss"])[20] in (0.5, 0.25)
    assert scalars["latent/active_units"].values.tolist()[-1] == 4


def test_tensorboard_goes_before_csv(tmp_path):
    run = run_in(tmp_path / "run")
    log_events(run.folder, {"train/loss": {10: 1.0}})
    (run.folder / "progress.csv").write_text("time/total_timesteps,train/loss,train/other\n10,9,8\n")
    scalars = read_logs(run).scalars
    assert as_dict(scalars["train/loss"]) == {10: 1.0}
    assert as_dict(scalars["train/other"]) == {10: 8.0}


def test_scores_are_of_the_last_hundred_episodes_and_of_the_last_evaluation(tmp_path):
    run = run_in(tmp_path / "run")
    returns = np.random.default_rng(0).normal(size=150).tolist()
    write_monitor(run.folder / "0.monitor.csv", returns)
    evaluated = np.array([[1.0, 2.0], [3.0, 5.0]])
    np.savez(run.folder / "evaluations.npz", timesteps=[10, 20], results=evaluated, ep_lengths=evaluated)
    logs = read_logs(run)
    assert logs.env_id == "Some-v0"
    assert logs.scores["monitor"].value == pytest.approx(np.mean(returns[-100:]))
    assert logs.scores["evaluations"] == (4.0, 2)
    assert as_dict(logs.scalars["evaluations/return"]) == {10: 1.5, 20: 4.0}


def test_pictures_of_callbacks_from_a_folder(tmp_path):
    run = run_in(tmp_path / "run")
    for step in (200, 50):
        Image.new("RGB", (4, 4), (step, 0, 0)).save(run.folder / f"saliency_{step}.png")
    sheets = read_logs(run).sheets
    assert list(sheets) == ["saliency/jacobian"]
    assert list(sheets["saliency/jacobian"]) == [50, 200]
    assert sheets["saliency/jacobian"][50] == (run.folder / "saliency_50.png").read_bytes()


def test_the_configuration_of_a_model_runs_no_code(tmp_path, plain):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    run = run_in(tmp_path / "run")
    with zipfile.ZipFile(plain / "model.zip") as source, zipfile.ZipFile(run.folder / "model.zip", "w") as copy:
        data = json.loads(source.read("data"))
        data["policy_class"][":serialized:"] = pickle.dumps(Bomb()).hex()
        copy.writestr("data", json.dumps(data))
        copy.writestr("system_info.txt", source.read("system_info.txt"))
    settings, problems = read_configuration(run)
    assert problems == []
    assert settings["policy_class"] == "ActorCriticPolicy"
    assert settings["learning_rate"] == "0.0003"
    assert settings["clip_range"] == "0.2"
    assert settings["observation_space"] == "Box([4], float32)"
    assert settings["action_space"] == "Discrete(2)"
    assert settings["n_steps"] == "64"
    assert settings["version.Stable-Baselines3"].startswith("2.")
    assert not any(name.startswith("_") or "serialized" in name for name in settings)


def test_nested_settings_of_rl_zoo3(tmp_path):
    run = run_in(tmp_path / "CartPole-v1_3")
    folder = run.folder / "CartPole-v1"
    folder.mkdir()
    (folder / "args.yml").write_text(yaml.dump({"env": "CartPole-v1", "algo": "ppo_vae", "seed": 3}))
    (folder / "config.yml").write_text(yaml.dump({"policy_kwargs": {"preset": "vae"}, "n_steps": 8}))
    settings, problems = read_configuration(run)
    assert problems == []
    assert settings["policy_kwargs.preset"] == "vae"
    assert (settings["env"], settings["n_steps"]) == ("CartPole-v1", "8")
    assert find_runs([run.folder])[0].label == "ppo_vae"


@pytest.mark.parametrize(
    "folder, label",
    [
        ("ppo_vae_1", "ppo_vae"),
        ("ppo_vae-12", "ppo_vae"),
        ("ppo_vae_seed3", "ppo_vae"),
        ("ppo_vae_seed_3", "ppo_vae"),
        ("TinyBall-v0", "TinyBall-v0"),
        ("demo", "demo"),
        ("sac2", "sac2"),
    ],
)
def test_labels_of_folders(tmp_path, folder, label):
    (tmp_path / folder).mkdir()
    (run,) = find_runs([tmp_path / folder])
    assert (run.label, run.name) == (label, folder)


def test_labels_that_are_given_and_names_that_tell_apart(tmp_path):
    for parent in ("a", "b"):
        (tmp_path / parent / "run=1").mkdir(parents=True)
    runs = find_runs([tmp_path / "a" / "run=1", f"mine={tmp_path}/b/run=1"])
    assert [run.label for run in runs] == ["run=1", "mine"]
    assert [run.name for run in runs] == ["a/run=1", "b/run=1"]


def test_the_newest_model_before_checkpoints(tmp_path, plain):
    run = run_in(tmp_path / "run")
    assert run.model is None
    for age, name in enumerate(("rl_model_500_steps.zip", "best_model.zip", "CartPole-v1.zip")):
        path = run.folder / name
        path.write_bytes((plain / "model.zip").read_bytes())
        os.utime(path, (1000 - age, 1000 - age))
    (run.folder / "other.zip").write_bytes(b"no zip")
    assert run.model.name == "best_model.zip"
    for name in ("best_model.zip", "CartPole-v1.zip"):
        (run.folder / name).unlink()
    assert run.model.name == "rl_model_500_steps.zip"


@pytest.mark.parametrize("arguments, message", [(["nowhere"], "no folder nowhere"), ([".", "x=."], "given twice")])
def test_folders_that_are_wrong(arguments, message):
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        find_runs(arguments)
