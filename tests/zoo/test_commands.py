"""The command line: help, bad input in one line, runs that are stopped and taken up again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml
from stable_baselines3.common.results_plotter import load_results
from zoo_runs import CONFIGS, SEEN, TINY_BALL, shrunk, train, zoo

from sb3_latent.cli import main
from sb3_latent.resume import list_checkpoints, steps_of

NAME = TINY_BALL.replace("/", "-")
CHOSEN = ("--algo", "ppo_vae", "--env", TINY_BALL)


@pytest.fixture(autouse=True)
def forgotten():
    SEEN.clear()


@pytest.mark.parametrize("verb", ["enjoy", "record-video", "plot-train", "push-to-hub"])
def test_the_other_verbs_are_those_of_rl_zoo3(verb, capsys):
    assert zoo(verb, "--help") == 0
    out = capsys.readouterr().out
    assert f"sb3-latent zoo {verb}" in out or verb == "plot-train"
    assert "ppo_vae" in out or verb == "plot-train"


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["zoo"], ["zoo", "--help"], ["zoo", "train", "--help"], ["zoo", "check", "--help"]]
)
def test_help_shows_what_to_type(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert "--search" in out and "--conf-file" in out if "train" in arguments else "sb3-latent zoo" in out
    if arguments[-2:] != ["check", "--help"] and "train" not in arguments:
        assert "examples:" in out


def test_the_module_is_the_command():
    run = subprocess.run([sys.executable, "-m", "sb3_latent.zoo", "check", CONFIGS["ppo_vae"]], capture_output=True, text=True)
    assert (run.returncode, run.stdout.splitlines()[-1]) == (0, "no mistake found")


@pytest.mark.parametrize(
    "arguments, line",
    [
        (("train", "--algo", "ppo_va", "--env", TINY_BALL), "unknown algorithm 'ppo_va'; did you mean 'ppo_vae'?"),
        (("enjoy", "--algo", "ppo_va", "--env", TINY_BALL), "unknown algorithm 'ppo_va'; did you mean 'ppo_vae'?"),
        (("train", "--algo", "ppo_vae", "--env", "sb3_latent/TinyBal-v0"), "did you mean 'sb3_latent/TinyBall-v0'?"),
        (("train", "--algo", "ppo_vae", "--env", "mine/World-v0"), "name the package that registers it by --gym-packages"),
        (("train", *CHOSEN, "--conf-file", "missing.yml"), "missing.yml"),
        (("train", *CHOSEN, "-f", "nowhere", "--resume"), "holds a checkpoint; a run leaves one when"),
        (("train", *CHOSEN, "--resume", "-optimize"), "--resume goes on with a run"),
        (("train", *CHOSEN, "--search", "kappa"), "--search kappa chooses what -optimize tunes"),
        (("train", *CHOSEN, "--device", "foo"), "--device foo: "),
        (("train", *CHOSEN, "--eval-episodes", 0), "--eval-episodes=0 must be an integer of at least 1"),
        (("train", *CHOSEN, "-optimize", "--n-evaluations", 0), "--n-evaluations=0 must be"),
        (("train", *CHOSEN, "-optimize", "--max-total-trials", 0), "--max-total-trials=0 must be"),
        (("train", *CHOSEN, "-optimize", "--storage", "foo.db"), "foo.db"),
        (("train", *CHOSEN, "-params", "learning_rate:abc"), "is no Python value: name 'abc' is not defined"),
        (("train", *CHOSEN, "-params", "learning_rte:0.01"), "-params: learning_rte: "),
        (("train", *CHOSEN, "-params", "n_envs:0"), "-params: n_envs: "),
        (("train", "--algo=ppo_vea", "--env", TINY_BALL), "unknown algorithm 'ppo_vea'; did you mean 'ppo_vae'?"),
        (("train", *CHOSEN, "-i", "missing.zip"), "must be a valid path to a .zip file"),
        (
            ("train", "--algo", "ppo_vae", "--env", "CartPole-v1"),
            "ppo_vae.yml; add an entry of that name, or give another file by",
        ),
        (
            ("train", *CHOSEN, "-optimize", "--storage", "postgresql://nobody@127.0.0.1:1/x"),
            "nobody@127.0.0.1:1/x' cannot be opened",
        ),
        (("enjoy", *CHOSEN, "-f", "nowhere"), "nowhere"),
        (("enjoy", *CHOSEN), "logs/ppo_vae"),
        (("enjoy", *CHOSEN, "--folder=nowhere"), "nowhere/ppo_vae"),
        (("check", "missing.yml", "--algo", "ppo"), "missing.yml"),
        (("check", CONFIGS["ppo_vae"], "--algo", "pppo"), "'pppo'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert zoo(*arguments) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert line in err[-1] and err[-1].startswith("sb3-latent: ") and "Traceback" not in "".join(err)


@pytest.mark.parametrize(
    "text, line",
    [
        ("sb3_latent/TinyBall-v0:\n  policy: [1\n", ":3:"),
        (
            "sb3_latent/TinyBall-v0:\n  policy: sb3_latent.LatentActorCriticPolicy\n  policy_kwargs: {preset: vea}\n",
            ":3: sb3_latent/TinyBall-v0.policy_kwargs.preset",
        ),
        (
            "sb3_latent/TinyBall-v0:\n  policy: sb3_latent.LatentActorCriticPolicy\n  policy_kwargs: {preset: [vae]}\n",
            ":3: sb3_latent/TinyBall-v0.policy_kwargs.preset",
        ),
        (
            "sb3_latent/TinyBall-v0:\n  policy: MlpPolicy\n  callback: stable_baselines3.common.callbacks.EvalCalback\n",
            "unknown name 'EvalCalback'; did you mean 'EvalCallback'?",
        ),
        ("sb3_latent/TinyBall-v0:\n  n_timestep: 10\n", ":2: sb3_latent/TinyBall-v0.n_timestep"),
    ],
)
@pytest.mark.parametrize("verb", ["train", "check"])
def test_mistakes_in_a_file_are_told_with_line_and_key(verb, text, line, tmp_path, capsys):
    path = tmp_path / "mine.yml"
    path.write_text(text)
    arguments = (
        ("check", path, "--algo", "ppo_vae") if verb == "check" else ("train", *CHOSEN, "--conf-file", path, "-f", tmp_path)
    )
    assert zoo(*arguments) == 2
    err = capsys.readouterr().err
    assert (f"mine.yml{line}" if line.startswith(":") else line) in err
    assert "Traceback" not in err


def test_a_storage_that_fails_later_is_one_line(monkeypatch, capsys):
    from optuna.exceptions import StorageInternalError

    from sb3_latent.zoo import commands

    def fail(arguments):
        raise StorageInternalError("server closed the connection")

    monkeypatch.setitem(commands.VERBS, "train", fail)
    assert zoo("train") == 2
    assert capsys.readouterr().err == "sb3-latent: the study's storage failed: server closed the connection\n"


def test_an_interrupt_leaves_no_traceback(monkeypatch, capsys):
    from sb3_latent.zoo import commands

    def interrupt(arguments):
        raise KeyboardInterrupt

    monkeypatch.setitem(commands.VERBS, "train", interrupt)
    assert zoo("train") == 130 and capsys.readouterr().err == "sb3-latent: interrupted\n"


def test_debug_shows_where(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert zoo("train", "--algo", "ppo_vae", "--env", "no", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_atari_without_its_extra(monkeypatch, capsys):
    from sb3_latent.zoo import commands

    monkeypatch.setattr(commands, "find_spec", lambda name: None if name == "ale_py" else object())
    assert zoo("train", "--algo", "ppo_vae", "--env", "NoSuchGameNoFrameskip-v4") == 2
    assert capsys.readouterr().err == "sb3-latent: ale_py is not installed: pip install 'sb3_latent[atari]'\n"


@pytest.mark.parametrize("module", ["rl_zoo3", "optuna", "seaborn"])
def test_a_missing_extra_is_named(module):
    hide = f"import sys; sys.modules[{module!r}] = None; from importlib import util; found = util.find_spec\n"
    hide += f"util.find_spec = lambda name, *rest: None if name == {module!r} else found(name, *rest)\n"
    verb = "plot-train" if module == "seaborn" else "train"
    code = f"{hide}from sb3_latent.cli import main\nsys.exit(main(['zoo', {verb!r}]))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.strip().splitlines()[-1] == f"sb3-latent: {module} is not installed: pip install 'sb3_latent[zoo]'"


def test_the_core_needs_neither_zoo_nor_tuner():
    code = "import sys, sb3_latent, sb3_latent.callbacks, sb3_latent.cli; print({'rl_zoo3', 'optuna'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_training_curves_are_plotted(tmp_path, monkeypatch, capsys):
    assert train("ppo_vae", TINY_BALL, tmp_path, "-n", 400) == 0
    shown = []
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: shown.append(plt.gcf().axes[0].get_children()))
    assert zoo("plot-train", "--algo", "ppo_vae", "--env", TINY_BALL, "-f", tmp_path) == 0
    plt.close("all")
    assert shown and shown[0]


def test_agents_are_pushed_to_the_hub(tmp_path, monkeypatch):
    pushed = {}
    hub = {
        "create_repo": lambda self, repo_id, **_: f"https://hub/{repo_id}",
        "snapshot_download": lambda self, repo_id, local_dir: Path(local_dir).mkdir(parents=True),
        "upload_folder": lambda self, repo_id, folder_path, commit_message: pushed.update({repo_id: Path(folder_path)}),
    }
    for name, fake in hub.items():
        monkeypatch.setattr(f"huggingface_hub.HfApi.{name}", fake)
    monkeypatch.chdir(tmp_path)
    assert train("ppo_vae", TINY_BALL, tmp_path, "-n", 100) == 0
    target = ("-orga", "me", "-name", "ball", "-m", "first")
    assert zoo("push-to-hub", "--algo", "ppo_vae", "--env", TINY_BALL, "-f", tmp_path, *target, "-n", 10) == 0
    ((repository, folder),) = pushed.items()
    assert repository == "me/ball"
    card = (folder / "README.md").read_text()
    assert "mean_reward" in card and "TinyBall" in card
    assert list(folder.glob("*.zip")) and (folder / "config.yml").exists()


def start(folder, algorithm, *arguments, env_id=TINY_BALL):
    command = [
        sys.executable,
        "-m",
        "sb3_latent.zoo",
        "train",
        "--algo",
        algorithm,
        "--env",
        env_id,
        "-f",
        folder,
        "--seed",
        0,
    ]
    command += ["--conf-file", shrunk(algorithm, folder), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([str(part) for part in command], env=environment, **pipes)


def stopped(process, when, number=signal.SIGTERM):
    deadline = time.monotonic() + 100
    while not when() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    return output


@pytest.mark.parametrize(
    "algorithm, env_id, number",
    [("ppo_vae", TINY_BALL, signal.SIGTERM), ("sac_ae", "sb3_latent/PixelPendulum-v0", signal.SIGINT)],
)
def test_a_stopped_run_is_saved_whole_and_goes_on(algorithm, env_id, number, tmp_path, capsys):
    process = start(tmp_path, algorithm, "-n", 100_000, "--eval-freq", 100, "--eval-episodes", 1, env_id=env_id)
    run = tmp_path / algorithm / f"{env_id.replace('/', '-')}_1"
    output = stopped(process, (run / "evaluations.npz").exists, number)
    assert process.returncode == 128 + number and "with --resume goes on" in output, output
    (checkpoint,) = list_checkpoints(run / "checkpoints")
    n_steps = steps_of(checkpoint)
    assert 100 <= n_steps < 100_000
    assert (checkpoint / "replay_buffer.pkl").exists() == (algorithm == "sac_ae")
    before = load_results(str(run)), np.load(run / "evaluations.npz")["timesteps"]

    more = ("--resume", "-n", n_steps + 150, "--eval-freq", 100, "--eval-episodes", 1)
    config = shrunk(algorithm, tmp_path, callback=["zoo_runs.Remember"])
    assert train(algorithm, env_id, tmp_path, *more, config=config) == 0
    (model,) = SEEN
    assert model.num_timesteps >= n_steps + 150
    if algorithm == "sac_ae":
        assert model.replay_buffer.size() > 150
    after = load_results(str(run)), np.load(run / "evaluations.npz")["timesteps"]
    assert len(after[0]) > len(before[0]) and list(run.glob("earlier_0_*.monitor.csv"))
    assert after[1][: len(before[1])].tolist() == before[1].tolist() and len(after[1]) > len(before[1])
    assert [path.name for path in (tmp_path / algorithm).iterdir()] == [run.name]


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(tmp_path):
    process = start(tmp_path, "ppo_vae", "-n", 100_000, "--eval-freq", -1, "--save-freq", 200)
    run = tmp_path / "ppo_vae" / f"{NAME}_1"
    stopped(process, lambda: (run / "checkpoints").exists() and list_checkpoints(run / "checkpoints"), signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    n_steps = steps_of(list_checkpoints(run / "checkpoints")[-1])
    config = shrunk("ppo_vae", tmp_path, callback=["zoo_runs.Remember"])
    assert train("ppo_vae", TINY_BALL, tmp_path, "--resume", "-n", n_steps + 200, config=config) == 0
    assert SEEN[0].num_timesteps >= n_steps + 200 and SEEN[0]._n_updates > 0
    # Once more: no file of the two sessions before is lost.
    rows = sum(len(file.read_text().splitlines()) for file in run.glob("*0.monitor.csv"))
    assert train("ppo_vae", TINY_BALL, tmp_path, "--resume", "-n", n_steps + 400, config=config) == 0
    files = {file.name: len(file.read_text().splitlines()) for file in run.glob("*0.monitor.csv")}
    assert {"earlier_0_0.monitor.csv", "earlier_1_0.monitor.csv", "0.monitor.csv"} == set(files)
    assert sum(files.values()) > rows


@pytest.fixture
def stopped_run(tmp_path):
    """Of 300 steps and more, evaluated at 200, with a checkpoint."""
    more = ("-n", 300, "--eval-freq", 200, "--eval-episodes", 2, "--save-freq", 100, "-tb", tmp_path / "tensorboard")
    assert train("ppo_vae", TINY_BALL, tmp_path, *more) == 0
    return tmp_path / "ppo_vae" / f"{NAME}_1"


def resumed(folder, *arguments):
    return train("ppo_vae", TINY_BALL, folder, "--resume", "--eval-freq", 200, *arguments)


def test_evaluations_of_other_lengths_are_refused_before_they_spoil_the_log(stopped_run, tmp_path, capsys):
    assert resumed(tmp_path, "-n", 900, "--eval-episodes", 3) == 2
    assert "--eval-episodes 3: the run has evaluations of 2" in capsys.readouterr().err
    assert resumed(tmp_path, "-n", 900, "--eval-episodes", 2) == 0
    assert len(np.load(stopped_run / "evaluations.npz")["timesteps"]) >= 3


def test_evaluations_that_a_crash_broke_are_begun_anew(stopped_run, tmp_path):
    log = stopped_run / "evaluations.npz"
    log.write_bytes(log.read_bytes()[:300])
    with pytest.warns(UserWarning, match=r"evaluations.npz' cannot be read"):
        assert resumed(tmp_path, "-n", 900, "--eval-episodes", 2) == 0
    assert len(np.load(log)["timesteps"]) >= 2


def test_evaluations_after_the_checkpoint_come_again(stopped_run, tmp_path):
    log, n_steps = stopped_run / "evaluations.npz", steps_of(list_checkpoints(stopped_run / "checkpoints")[-1])
    saved = dict(np.load(log))
    later = {name: np.concatenate([values, values[-1:]]) for name, values in saved.items()}
    later["timesteps"][-1] = n_steps + 1
    np.savez(log, **later)
    assert resumed(tmp_path, "-n", 900, "--eval-episodes", 2) == 0
    steps = np.load(log)["timesteps"]
    assert n_steps + 1 not in steps and (np.diff(steps) > 0).all()


def test_the_run_with_the_newest_checkpoint_is_resumed_with_its_own_log(stopped_run, tmp_path, capsys):
    (tmp_path / "ppo_vae" / f"{NAME}_7" / NAME).mkdir(parents=True)
    logs = tmp_path / "tensorboard"
    assert train("ppo_cnn", TINY_BALL, tmp_path, "-n", 100, "-tb", logs) == 0
    assert resumed(tmp_path, "-n", 900, "--eval-episodes", 2, "-tb", logs) == 0
    assert f"Going on with {stopped_run}" in capsys.readouterr().out
    assert sorted(path.name for path in (logs / NAME).iterdir()) == [f"ppo_cnn_{NAME}_1_1", f"ppo_vae_{NAME}_1_1"]
    assert resumed(tmp_path, "-n", 900, "--eval-episodes", 2) == 2
    assert "give a larger -n" in capsys.readouterr().err


def test_rl_zoo3s_own_way_to_continue_is_left_alone(tmp_path):
    assert train("ppo_vae", TINY_BALL, tmp_path, "-n", 200) == 0
    model = tmp_path / "ppo_vae" / f"{NAME}_1" / f"{NAME}.zip"
    config = shrunk("ppo_vae", tmp_path, callback=["zoo_runs.Remember"])
    assert train("ppo_vae", TINY_BALL, tmp_path, "-n", 100, "-i", model, config=config) == 0
    assert 100 <= SEEN[0].num_timesteps < 200 and (tmp_path / "ppo_vae" / f"{NAME}_2").exists()


def test_readme_leads_from_nothing_to_a_tuned_agent_in_four_commands(tmp_path, monkeypatch):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    block = readme.partition("<!-- four commands -->")[2].partition("```bash\n")[2].partition("```")[0]
    install, *commands = block.replace("\\\n", " ").strip().splitlines()
    assert install.startswith("pip install") and len(commands) == 3
    monkeypatch.chdir(tmp_path)
    tiny = yaml.safe_load(shrunk("ppo_vae", tmp_path).read_text())
    (tmp_path / "small.yml").write_text(yaml.safe_dump(tiny))
    small = {
        0: ["-n", "64", "--max-total-trials", "2", "--eval-episodes", "1", "--conf-file", "small.yml"],
        1: ["-n", "64"],
        2: ["-n", "10"],
    }
    for number, command in enumerate(commands):
        program, *arguments = command.split()
        assert program == "sb3-latent"
        assert main([*arguments, *small[number]]) == 0, command
    assert list(tmp_path.rglob("best.yml")) and list(tmp_path.rglob("*.mp4"))
