"""`sb3-latent sanity` on models that stock SB3 saved: the chart, the numbers and the verdict."""

import json

import pytest
from PIL import Image
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_latent.cli import main
from sb3_latent.commands.sanity import run, verdict
from sb3_latent.envs import TINY_BALL_ID
from sb3_latent.episodes import play_episode
from sb3_latent.saliency import LayerSimilarity, sanity_check

SMALL = {"features_extractor_kwargs": {"features_dim": 8}, "net_arch": [8]}
EDGES = "saliency.models.EdgeDetector"


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "ppo.zip"
    PPO("CnnPolicy", make_vec_env(TINY_BALL_ID), device="cpu", seed=0, policy_kwargs=SMALL).save(path)
    return [str(path), "--env", TINY_BALL_ID, "--steps", "8", "--moments", "4"]


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "ppo.zip"
    PPO("MlpPolicy", make_vec_env("CartPole-v1"), device="cpu", seed=0).save(path)
    return [str(path), "--env", "CartPole-v1", "--steps", "8", "--moments", "3"]


@pytest.mark.parametrize("randomization", ["cascading", "independent"])
def test_the_jacobian_passes_and_an_edge_detector_fails(ball, tmp_path, capsys, randomization):
    output = tmp_path / "new" / "sanity.png"
    model, similar = PPO.load(ball[0], device="cpu"), {}
    moments = play_episode(model, make_vec_env(TINY_BALL_ID), 8).observations[[0, 2, 5, 7]]
    for method, beginning in (("jacobian", ("passed", "in part")), (EDGES, "failed")):
        run([*ball, "--method", method, "--randomization", randomization, "-o", str(output)])
        shown = capsys.readouterr().out
        numbers = json.loads(output.with_suffix(".json").read_text())
        assert numbers["verdict"].startswith(beginning) and numbers["verdict"] in shown
        assert [row["layer"] for row in numbers["layers"]][0::5] == ["value_net", "features_extractor.cnn.0"]
        assert numbers["n_moments"] == 4 and numbers["algorithm"] == "PPO" and numbers["randomization"] == randomization
        for row in numbers["layers"]:
            line = next(line for line in shown.splitlines() if line.startswith(row["layer"]))
            assert line.split()[1:] == [f"{row[name]:.2f}" for name in ("spearman", "spearman_signed", "ssim")]
        expected = [row.spearman for row in sanity_check(model, moments, "value", method, randomization)]
        assert [row["spearman"] for row in numbers["layers"]] == pytest.approx(expected, abs=1e-4)
        similar[method] = numbers["layers"][-1]["spearman"]
        assert Image.open(output).width == 1500
    assert similar["jacobian"] < 0.3 and similar[EDGES] == pytest.approx(1)


def test_vectors_have_no_structure_to_compare(cartpole, tmp_path):
    output = tmp_path / "sanity.png"
    run([*cartpole, "-o", str(output)])
    layers = json.loads(output.with_suffix(".json").read_text())["layers"]
    assert len(layers) == 3 and all(row["ssim"] is None and abs(row["spearman"]) <= 1 for row in layers)


def layer(name, spearman, ssim=float("nan")):
    return LayerSimilarity(name, spearman, 0.0, ssim)


def test_the_verdict_reads_the_last_layer_or_the_mean():
    top, middle, bottom = layer("top", 0.8, 0.1), layer("middle", 0.2, 0.25), layer("bottom", -0.5, 0.1)
    assert verdict([top, middle, bottom], "cascading") == (
        "passed: similarity 0.10 with all layers drawn anew; the maps show what the model learned, though little of the "
        "layers above middle, where they first change."
    )
    assert verdict([middle, bottom], "cascading").endswith("show what the model learned.")
    assert verdict([bottom, top], "cascading").startswith("failed: similarity 0.80")
    assert verdict([layer("top", 0.1), layer("bottom", 0.5)], "cascading").startswith("in part: similarity 0.50")
    assert verdict([layer("top", 0.1), layer("bottom", 0.6)], "independent").startswith("in part: similarity 0.35")
    assert verdict([layer("top", 0.6), layer("middle", 0.1), layer("bottom", 0.1)], "independent") == (
        "passed: similarity 0.27 with one layer drawn anew, on average; the maps show what the model learned."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "q"], "unknown target of PPO 'q'"),
        (["--method", "gradcam"], "unknown saliency method 'gradcam'"),
        (["--method", "perturbation"], "perturbation blurs images"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(cartpole, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["sanity", *cartpole, *arguments]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_moments_with_a_constant_map_are_left_out(cartpole, tmp_path, monkeypatch):
    from sb3_latent.commands import sanity

    def first_is_flat(*args, **kwargs):
        maps = sanity_maps(*args, **kwargs)
        maps[0] = 1.5
        return maps

    sanity_maps = sanity.episode_saliency
    monkeypatch.setattr(sanity, "episode_saliency", first_is_flat)
    output = tmp_path / "sanity.png"
    run([*cartpole, "-o", str(output)])
    assert json.loads(output.with_suffix(".json").read_text())["n_moments"] == 2
    monkeypatch.setattr(sanity, "episode_saliency", lambda *args, **kwargs: 0 * sanity_maps(*args, **kwargs))
    with pytest.raises(ValueError, match="constant at every moment"):
        run([*cartpole, "-o", str(output)])
