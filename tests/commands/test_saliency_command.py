"""`sb3-latent saliency` on models that stock SB3 saved: what it draws, counts and refuses."""

import json
import sys

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_latent.cli import main
from sb3_latent.commands import saliency as command
from sb3_latent.commands.saliency import run
from sb3_latent.envs import TINY_BALL_ID
from sb3_latent.episodes import play_episode
from sb3_latent.saliency import episode_saliency, episode_target, saliency_video

SMALL = {"features_extractor_kwargs": {"features_dim": 8}, "net_arch": [8]}
ARGUMENTS = {
    "dqn": [DQN, "CnnPolicy", TINY_BALL_ID, {"buffer_size": 1, "policy_kwargs": SMALL}],
    "recurrent": [RecurrentPPO, "CnnLstmPolicy", TINY_BALL_ID, {"policy_kwargs": {**SMALL, "lstm_hidden_size": 4}}],
    "cartpole": [PPO, "MlpPolicy", "CartPole-v1", {}],
    "pendulum": [PPO, "MlpPolicy", "Pendulum-v1", {}],
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """:return: from a name to what says which model and where it plays."""
    folder = tmp_path_factory.mktemp("models")

    def save(name):
        algorithm, policy, env_id, kwargs = ARGUMENTS[name]
        path = folder / f"{name}.zip"
        if not path.exists():
            algorithm(policy, make_vec_env(env_id), device="cpu", seed=0, **kwargs).save(path)
        return [str(path), "--env", env_id]

    return save


def numbers_beside(picture):
    return json.loads(picture.with_suffix(".json").read_text())


def test_a_gif_is_the_video_of_the_episode(saved, tmp_path, capsys):
    output = tmp_path / "new" / "q.gif"
    run([*saved("dqn"), "--target", "q", "--style", "heat", "--steps", "6", "--seed", "3", "-o", str(output)])
    assert f"wrote {output} and {output.with_suffix('.json')}" in capsys.readouterr().out
    model = DQN.load(saved("dqn")[0], device="cpu", buffer_size=1)
    episode = play_episode(model, make_vec_env(TINY_BALL_ID), 6, seed=3)
    maps = episode_saliency(model, episode, "q", frames="newest")
    video = saliency_video(episode, maps, "heat")
    with Image.open(output) as gif:
        assert (gif.n_frames, gif.size) == (6, video.shape[2:0:-1])
        gif.seek(5)
        # A GIF has 256 colours.
        assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - video[5]).mean() < 4
    numbers = numbers_beside(output)
    assert {name: numbers[name] for name in ("algorithm", "env", "target", "method", "style", "frames", "steps", "seed")} == {
        "algorithm": "DQN",
        "env": TINY_BALL_ID,
        "target": "q",
        "method": "jacobian",
        "style": "heat",
        "frames": "newest",
        "steps": 6,
        "seed": 3,
    }
    np.testing.assert_allclose(numbers["target_per_step"], episode_target(model, episode, "q"), rtol=1e-5)
    assert numbers["saliency"] == pytest.approx({"mean": maps.mean(), "max": maps.max()}, rel=1e-5)
    assert numbers["return"] == episode.rewards.sum() and numbers["versions"]["torch"]


def test_a_png_has_moments_of_what_a_recurrent_agent_sees(saved, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(command, "episode_saliency", lambda *args, **how: asked.update(how) or episode_saliency(*args, **how))
    output = tmp_path / "value.png"
    arguments = [*saved("recurrent"), "--target", "logit", "--method", "occlusion", "--style", "signed", "--as-seen"]
    run([*arguments, "--frames", "all", "--steps", "3", "-o", str(output)])
    # A frame of 36x36, enlarged sevenfold, in each of three rows.
    assert Image.open(output).height == 2 * 16 + 3 * (26 + 252) + 2 * 8
    assert asked["frames"] == "all" and asked["absolute"] is False
    numbers = numbers_beside(output)
    assert numbers["style"] == "signed" and numbers["saliency"]["max"] > 0 and len(numbers["target_per_step"]) == 3


def test_an_mp4_has_every_step(saved, tmp_path):
    imageio = pytest.importorskip("imageio.v3")
    pytest.importorskip("imageio_ffmpeg")
    output = tmp_path / "value.mp4"
    run([*saved("dqn"), "--steps", "5", "-o", str(output)])
    assert imageio.imread(output, plugin="FFMPEG").shape == (5, 360, 360, 3)


def test_vectors_become_a_chart(saved, tmp_path, monkeypatch):
    monkeypatch.setattr("gymnasium.envs.classic_control.CartPoleEnv.render", None)  # needs no display
    output = tmp_path / "cartpole.png"
    run([*saved("cartpole"), "--steps", "9", "-o", str(output)])
    assert Image.open(output).width == 1350
    numbers = numbers_beside(output)
    assert numbers["style"] == "heat" and numbers["steps"] == len(numbers["target_per_step"]) <= 9


def test_the_probability_of_continuous_actions_is_explained_where_the_agent_explores(saved, tmp_path):
    output = tmp_path / "pendulum.png"
    run([*saved("pendulum"), "--target", "log_prob", "--steps", "4", "-o", str(output)])
    assert numbers_beside(output)["saliency"]["mean"] > 1e-3


@pytest.mark.parametrize(
    ("name", "message"),
    [("cartpole", "unknown style of vectors 'blue'. Allowed: 'heat', 'signed'"), ("dqn", None)],
)
def test_vectors_have_styles_of_their_own(saved, tmp_path, capsys, name, message):
    output = tmp_path / "picture.png"
    status = main(["saliency", *saved(name), "--style", "blue", "--steps", "2", "-o", str(output)])
    assert status == (2 if message else 0) and output.exists() == (message is None)
    assert (message or "") in capsys.readouterr().err


def test_an_unknown_style_is_refused_before_the_agent_plays(saved, tmp_path, capsys):
    assert main(["saliency", *saved("dqn"), "--style", "gren", "-o", str(tmp_path / "picture.png")]) == 2
    error = capsys.readouterr().err
    assert "unknown style of images 'gren'" in error and "playing" not in error


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["-o", "{folder}"], "is a folder; name a file"),
        (["-o", "{folder}/file/picture.png"], "{folder}/file is no folder that you may write to"),
        (["--device", "cuda"], "--device cuda: there is none on this machine; leave it out, or say cpu"),
        (["--steps", "0"], "--steps=0 must be"),
        (["--seed", "-1"], "--seed=-1 must be"),
        (["--target", "q"], "unknown target of PPO 'q'"),
        (["--method", "perturbation"], "image"),
        (
            ["--key", "camera"],
            "--key camera chooses from the images of a Dict observation, and this one is none",
        ),
    ],
)
def test_mistakes_are_one_line_before_the_agent_plays(saved, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "file").touch()
    given = [argument.format(folder=tmp_path) for argument in ["-o", "{folder}/picture.png", *arguments]]
    assert main(["saliency", *saved("cartpole"), *given]) == 2
    error = capsys.readouterr().err
    assert message.format(folder=tmp_path) in error and len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


class TwoCameras(gym.Env):
    """Two images that nobody moves."""

    observation_space = gym.spaces.Dict({name: gym.spaces.Box(0, 255, (36, 36, 1), np.uint8) for name in ("left", "right")})
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "the observation has the images 'left', 'right'; say which one by --key."),
        (["--key", "rigth"], "unknown --key 'rigth'; did you mean 'right'?"),
        (["--key", "right"], None),
    ],
)
def test_one_image_of_several_is_chosen_before_the_agent_plays(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.setitem(gym.registry, "Two-v0", gym.envs.registration.EnvSpec("Two-v0", entry_point=TwoCameras))
    PPO("MultiInputPolicy", TwoCameras(), n_steps=2, batch_size=2, device="cpu").save(tmp_path / "model")
    given = ["--env", "Two-v0", "--steps", "2", "-o", str(tmp_path / "picture.png"), *arguments]
    status = main(["saliency", str(tmp_path / "model"), *given])
    error = capsys.readouterr().err
    assert (status, message is None or message in error) == (2 if message else 0, True)
    assert message is None or "playing" not in error


@pytest.mark.parametrize("verb", ["saliency", "sanity"])
def test_a_missing_library_is_told_before_the_agent_plays(saved, tmp_path, capsys, monkeypatch, verb):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    given = [*saved("cartpole"), "--method", "smoothgrad", "-o", str(tmp_path / "picture.png")]
    assert main([verb, *given]) == 2
    error = capsys.readouterr().err
    assert "Captum, which is not installed: pip install 'sb3_latent[inspect]'" in error and "playing" not in error


def test_no_display_is_said_in_one_line(saved, tmp_path, monkeypatch, capsys):
    def fail(self):
        raise RuntimeError("no display")

    monkeypatch.setattr(gym.spec(TINY_BALL_ID).entry_point.replace(":", ".") + ".render", fail)
    output = tmp_path / "value.png"
    assert main(["saliency", *saved("dqn"), "-o", str(output)]) == 2
    assert "cannot render here (no display)" in capsys.readouterr().err
    assert main(["saliency", *saved("dqn"), "--as-seen", "--steps", "2", "-o", str(output)]) == 0
