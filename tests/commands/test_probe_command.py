"""``sb3-latent probe``: what it prints, draws and writes is what ``probe_dataset`` finds."""

import json

import numpy as np
import pytest
from PIL import Image
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_latent import latent_kwargs
from sb3_latent.commands.probe import run
from sb3_latent.envs import TINY_BALL_ID
from sb3_latent.probes import collect, probe_bars, probe_dataset
from sb3_latent.saved_agents import load_agent

TINY = {"trunk": "seed84", "trunk_kwargs": {"channels": [8, 8], "hidden_dim": 32}, "latent_dim": 6}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    policy_kwargs = {**latent_kwargs("vae", **TINY), "net_arch": [8]}
    model = PPO("CnnPolicy", make_vec_env(TINY_BALL_ID, 1), n_steps=8, batch_size=8, policy_kwargs=policy_kwargs, seed=0)
    path = tmp_path_factory.mktemp("model") / "ppo.zip"
    model.save(path)
    return path


def probed(saved, labels, n_steps, probes, actor, seed=0):
    model = load_agent(saved)
    env = make_vec_env(TINY_BALL_ID, 10)
    return probe_dataset(model, collect(model if actor else None, env, labels, n_steps, seed=seed), probes, seed=seed)


def test_table_chart_and_json_are_those_of_the_report(saved, tmp_path, capsys):
    output = tmp_path / "new" / "ball.png"
    run([str(saved), "--env", TINY_BALL_ID, "--labels", "ball_x", "paddle_x", "--steps", "500", "-o", str(output)])
    report = probed(saved, ["ball_x", "paddle_x"], 500, ("linear", "mlp"), actor=False)
    printed = capsys.readouterr().out
    assert report.table() in printed and report.verdict() in printed
    assert f"wrote {output} and {output.with_suffix('.json')}" in printed
    title = "What ppo.zip holds of the state"
    np.testing.assert_array_equal(np.asarray(Image.open(output)), probe_bars(report, title=title))
    written = json.loads(output.with_suffix(".json").read_text())
    assert written.items() >= report.to_dict().items()
    assert written["env"] == TINY_BALL_ID and written["model"] == str(saved) and written["verdict"] == report.verdict()
    assert (written["labels"], written["steps"], written["actor"], written["seed"]) == (
        ["ball_x", "paddle_x"],
        500,
        "random",
        0,
    )
    assert written["versions"]["torch"]


def test_the_model_may_play_and_info_is_the_default(saved, tmp_path, capsys):
    arguments = [str(saved), "--env", TINY_BALL_ID, "--steps", "400", "--probes", "linear", "--seed", "3"]
    run([*arguments, "--actor", "model", "-o", str(tmp_path / "a.png")])
    expected = probed(saved, "info", 400, ["linear"], actor=True, seed=3)
    assert expected.table() in capsys.readouterr().out
    assert "mlp" not in expected.table() and "bricks_0" in expected.variables
    assert expected.table() != probed(saved, "info", 400, ["linear"], actor=False, seed=3).table()


def test_without_an_output_it_writes_where_it_stands(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run([str(saved), "--env", TINY_BALL_ID, "--labels", "paddle_x", "--steps", "400", "--probes", "linear"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["probe.json", "probe.png"]


def test_bad_input_is_one_line(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [str(saved), "--env", TINY_BALL_ID, "--steps", "200"]
    cases = {
        "--output a.jpg: the chart is a .png": ["-o", "a.jpg"],
        "unknown entry of info: 'bal_x'; did you mean 'ball_x'": ["--labels", "bal_x"],
        "reads the RAM of an Atari game": ["--labels", "ram"],
        "'no.such.function' cannot be imported": ["--labels", "no.such.function"],
        "--steps=0 must be an integer": ["--steps", "0"],
    }
    for message, more in cases.items():
        with pytest.raises(ValueError, match=message) as caught:
            run([*arguments, *more])
        assert "\n" not in str(caught.value)
    with pytest.raises(SystemExit):
        run([*arguments, "--probes", "forest"])
    assert list(tmp_path.iterdir()) == []
