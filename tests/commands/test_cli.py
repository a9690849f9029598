"""What all commands on saved models share: help, models of any origin, bad input in one line, a model left alone."""

import json
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import VecFrameStack
from zoo_runs import stock

from sb3_latent.cli import COMMANDS, main
from sb3_latent.saved_agents import load_agent

BREAKOUT, CART_POLE, CARTPOLE_SWINGUP = "BreakoutNoFrameskip-v4", "CartPole-v1", "sb3_latent/dmc-cartpole-swingup-pixels-v0"
VERBS = [verb for verb in COMMANDS if verb != "zoo"]
LABELS = {BREAKOUT: ["ram"], CART_POLE: [f"{__name__}.cart"], CARTPOLE_SWINGUP: ["info"]}
SHORT = {
    "saliency": ["--steps", 6],
    "sanity": ["--steps", 6, "--moments", 2],
    "probe": ["--steps", 200, "--probes", "linear"],
    "report": ["--steps", 6],
}


def cart(env, info):
    """True state of CartPole, of which nothing stands in ``info``."""
    position, velocity, *_ = env.unwrapped.state
    return {"position": float(position), "velocity": float(velocity)}


@pytest.fixture(scope="session")
def breakout(tmp_path_factory):
    """Saved by stock SB3, as its documentation does it."""
    env = VecFrameStack(make_atari_env(BREAKOUT, 1), 4)
    model = PPO("CnnPolicy", env, n_steps=8, batch_size=8, policy_kwargs={"features_extractor_kwargs": {"features_dim": 16}})
    path = tmp_path_factory.mktemp("breakout") / "ppo_breakout.zip"
    model.save(path)
    return path


@pytest.fixture(scope="session")
def cart_pole(tmp_path_factory):
    """Trained and saved by rl_zoo3."""
    folder = tmp_path_factory.mktemp("cartpole")
    run = stock("train", "--algo", "ppo", "--env", CART_POLE, "-n", 300, "-f", "logs", "--eval-freq", -1, folder=folder)
    assert run.returncode == 0, run.stderr
    return folder / f"logs/ppo/{CART_POLE}_1/{CART_POLE}.zip"


@pytest.fixture(scope="session")
def dmc(tmp_path_factory):
    """Of DeepMind Control, saved by stock SB3."""
    pytest.importorskip("dm_control", reason="the extra dmc is not installed")
    kwargs = {"features_extractor_kwargs": {"features_dim": 16}, "net_arch": [8]}
    model = SAC("CnnPolicy", make_vec_env(CARTPOLE_SWINGUP), buffer_size=1, policy_kwargs=kwargs)
    path = tmp_path_factory.mktemp("dmc") / "sac.zip"
    model.save(path)
    return path


def arguments_of(verb, path, env_id, output):
    labels = ["--labels", *LABELS[env_id]] if verb == "probe" else []
    given = path.parent if verb == "report" else path
    # rl_zoo3's runs say where they were trained.
    named = [] if env_id == CART_POLE else ["--env", env_id]
    return [verb, str(given), *named, "-o", str(output), *map(str, SHORT[verb]), *labels]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("origin, env_id", [("breakout", BREAKOUT), ("cart_pole", CART_POLE), ("dmc", CARTPOLE_SWINGUP)])
def test_models_that_never_heard_of_us(verb, origin, env_id, request, tmp_path, capsys):
    path = request.getfixturevalue(origin)
    content = path.read_bytes()
    output = tmp_path / ("report.html" if verb == "report" else "picture.png")
    assert main(arguments_of(verb, path, env_id, output)) == 0, capsys.readouterr().err
    assert str(output) in capsys.readouterr().out
    assert output.stat().st_size > 1000
    assert json.loads(output.with_suffix(".json").read_text())
    assert path.read_bytes() == content
    assert {file.name for file in tmp_path.iterdir()} == {output.name, f"{output.stem}.json"}, "no half of a file is left"


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_what_to_type(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0 and f"examples:\n  sb3-latent {verb} " in out and "--env" in out


def test_the_command_lists_its_verbs(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0 and all(f"\n  {verb} " in out and f"sb3-latent {verb} " in out for verb in COMMANDS)


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["saliency", "missing.zip"], "no model missing.zip; give the zip that SB3's save() wrote."),
        (["saliency", "MODEL"], "does not say where it was trained; name the environment by --env"),
        (["saliency", "MODEL", "--env", "CartPole-v9"], "unknown environment 'CartPole-v9'; did you mean 'CartPole-v1'?"),
        (["saliency", "MODEL", "--env", "MountainCar-v0"], "the model observes and acts in"),
        (["saliency", "MODEL", "--env", CART_POLE, "--target", "q"], "unknown target of PPO 'q'"),
        (["saliency", "MODEL", "--env", CART_POLE, "--target", "logit/9"], "target 'logit/9'"),
        (["saliency", "MODEL", "--env", CART_POLE, "--method", "jacobi"], "'jacobi'"),
        (["saliency", "MODEL", "--env", CART_POLE, "--method", "perturbation"], "image"),
        (["saliency", "MODEL", "--env", CART_POLE, "-o", "film.gif"], "film"),
        (["saliency", "MODEL", "--env", CART_POLE, "-o", "film.avi"], "film"),
        (["saliency", "MODEL", "--env", CART_POLE, "--steps", "0"], "must be an integer of at least 1"),
        (["saliency", "MODEL", "--env", CART_POLE, "--algo", "ppp"], "unknown algorithm 'ppp'"),
        (["saliency", "MODEL", "--env", CART_POLE, "--device", "cpuu"], "--device cpuu: "),
        (["saliency", "MODEL", "--env", CART_POLE, "--env-kwargs", "fast"], "--env-kwargs 'fast' must be KEY=VALUE"),
        (["saliency", "OLD", "--env", CART_POLE], "OLD.zip cannot be loaded ("),
        (["sanity", "MODEL", "--env", CART_POLE, "--moments", "0"], "must be an integer of at least 1"),
        (["sanity", "MODEL", "--env", CART_POLE, "-o", "chart.gif"], "chart.gif"),
        (["probe", "MODEL", "--env", CART_POLE, "--labels", "ram"], "ram"),
        (["probe", "MODEL", "--env", CART_POLE], "info"),
        (["probe", "MODEL", "--env", CART_POLE, "--labels", "ball_x"], "ball_x"),
        (["probe", "MODEL", "--env", CART_POLE, "--labels", "no_module.state"], "no_module.state"),
        (["probe", "MODEL", "--env", CART_POLE, "--probes", "linaer"], "invalid choice: 'linaer'"),
        (["report", "nowhere"], "nowhere"),
        (["report", "."], "holds nothing that a run leaves"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = PPO("MlpPolicy", CART_POLE, n_steps=8, batch_size=8, policy_kwargs={"net_arch": [4]})
    if "OLD" in arguments:
        with zipfile.ZipFile("OLD.zip", "w") as file:
            file.writestr("data", json.dumps({"policy_class": {":type:": "x", ":serialized:": "Z2FyYmFnZQ=="}}))
    if "MODEL" in arguments:
        model.save("MODEL")
    there = set(Path().iterdir())
    try:
        status = main(arguments)
    except SystemExit as stop:  # of argparse
        status = stop.code
    err = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and line in err[-1] and err[-1].startswith("sb3-latent") and "Traceback" not in "".join(err)
    assert set(Path().iterdir()) == there, "nothing was written"


def test_a_game_without_a_table_of_its_memory_is_told_which_have_one(tmp_path, capsys):
    env_id = "AirRaidNoFrameskip-v4"
    env = VecFrameStack(make_atari_env(env_id, 1), 4)
    PPO("CnnPolicy", env, n_steps=8, batch_size=8, policy_kwargs={"features_extractor_kwargs": {"features_dim": 4}}).save(
        tmp_path / "model"
    )
    assert main(["probe", str(tmp_path / "model.zip"), "--env", env_id, "--labels", "ram"]) == 2
    assert "breakout" in capsys.readouterr().err.lower()


def test_a_machine_without_a_display_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gym.envs.classic_control.CartPoleEnv, "render", lambda self: 1 / 0)
    monkeypatch.setattr("sb3_latent.commands.saliency._has_image", lambda space: True)
    PPO("MlpPolicy", CART_POLE, n_steps=8, batch_size=8).save(tmp_path / "model")
    assert main(["saliency", str(tmp_path / "model"), "--env", CART_POLE, "-o", str(tmp_path / "a.gif")]) == 2
    assert "the environment cannot render here (division by zero); for MuJoCo set MUJOCO_GL=egl" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["saliency", "sanity", "probe"])
def test_the_same_seed_draws_the_same_picture(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PPO("MlpPolicy", CART_POLE, n_steps=8, batch_size=8, seed=0).save("model")
    pictures, numbers = [], []
    for name in ("a", "b"):
        output = tmp_path / name / "picture.png"
        output.parent.mkdir()
        labels = ["--labels", *LABELS[CART_POLE]] if verb == "probe" else []
        assert main([verb, "model.zip", "--env", CART_POLE, "-o", str(output), *map(str, SHORT[verb]), *labels]) == 0
        pictures.append(output.read_bytes())
        numbers.append(output.with_suffix(".json").read_text())
        np.random.rand(), load_agent("model")
    assert pictures[0] == pictures[1] and numbers[0] == numbers[1]
