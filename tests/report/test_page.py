"""The page as a file: what is in it, what it says where something is missing, and what it leaves alone."""

import html
import json
import re
import shutil

import numpy as np
import pytest
import torch as th

from sb3_latent.episodes import play_episode
from sb3_latent.report import Play, find_runs, write_report
from sb3_latent.report.pictures import Picture, affordable, evenly
from sb3_latent.saved_agents import load_agent, make_env_for

SECTIONS = ["runs", "comparison", "learning", "pictures", "episode", "latents", "probes", "configuration"]


def missing(page):
    return [html.unescape(text) for text in re.findall(r'<p class="missing">(.*?)</p>', page)]


def report_on(tmp_path, folders, play=None):
    paths = write_report(find_runs(folders), tmp_path / "out" / "report.html", play)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]
    return paths[0].read_text(encoding="utf-8"), json.loads(paths[1].read_text())


def test_a_demo_run_is_one_file_with_everything_and_small(page_path):
    page, data = page_path.read_text(encoding="utf-8"), json.loads(page_path.with_suffix(".json").read_text())
    assert page_path.stat().st_size < 10_000_000
    assert missing(page) == ["No probes were logged: switch on callback=ProbeCallback(...)."]
    assert list(data) == SECTIONS
    tags = data["learning"]["ppo_vae_1"]
    assert {
        "rollout/ep_rew_mean",
        "auxiliary/gradient_cosine",
        "auxiliary/recon",
        "latent/active_units",
        "latent/kl_0",
    } <= set(tags)
    assert len(data["episode"]["ppo_vae"]["rewards"]) == len(data["episode"]["ppo_vae"]["values"]) == 35
    assert data["probes"]["ppo_vae_1"]["scores"][0]["value"] == 0.8
    settings = data["configuration"]["ppo_vae_1"]
    assert settings["n_steps"] == "64"
    assert settings["policy_kwargs.features_extractor_class"] == "LatentExtractor"
    # Nothing is loaded from anywhere else.
    assert not re.search(r'(src|href)="(?!data:|#)', page.replace(page[page.index("plotly.js v") :], ""))


def test_values_of_the_episode_are_those_of_the_policy(demo, page_path):
    model = load_agent(demo / "model.zip")
    episode = play_episode(model, make_env_for(model, demo / "model.zip", "sb3_latent/TinyBall-v0"), 40)
    with th.no_grad():
        values = model.policy.predict_values(th.as_tensor(episode.observations)).flatten().numpy()
    written = json.loads(page_path.with_suffix(".json").read_text())["episode"]["ppo_vae"]
    np.testing.assert_allclose(written["values"], values, rtol=1e-4, atol=1e-5)
    assert written["rewards"] == episode.rewards.tolist()


def test_a_plain_run_says_what_to_switch_on(tmp_path, plain):
    page, data = report_on(tmp_path, [plain], Play(max_steps=10))
    said = missing(page)
    for name in (
        "LatentMetricsCallback",
        "ProbeCallback",
        "ReconstructionCallback",
        "JacobianSaliencyCallback",
        "sb3-latent probe",
    ):
        assert any(name in text for text in said), name
    assert any(text.startswith("The observation is a vector") for text in said)
    assert any(text.startswith("No traversal: ") for text in said)
    assert "train/value_loss" in data["learning"]["ppo_1"]
    assert len(data["episode"]["ppo"]["rewards"]) == 10
    assert data["runs"][0]["env"] == "CartPole-v1"


def test_without_a_model_curves_are_shown_and_the_reason_said(tmp_path, plain):
    folder = tmp_path / "run"
    shutil.copytree(plain, folder)
    (folder / "model.zip").unlink()
    page, data = report_on(tmp_path, [folder], Play())
    assert any("holds no model" in text for text in missing(page))
    assert any("No configuration was found" in text for text in missing(page))
    assert data["learning"]["run"] and data["episode"] == {}


def test_a_broken_model_and_an_unknown_environment_are_one_line_each(tmp_path, plain):
    folder = tmp_path / "run"
    shutil.copytree(plain, folder)
    page, _ = report_on(tmp_path, [folder], Play(env_id="CartPole-v77"))
    assert sum("CartPole-v77" in text for text in missing(page)) == 2  # once for the episode, once for the latents
    (folder / "model.zip").write_bytes((folder / "model.zip").read_bytes()[:2000])
    page, data = report_on(tmp_path, [folder], Play(model=folder / "model.zip"))
    assert any("could not be played" in text for text in missing(page))
    assert data["learning"]["run"]


def test_an_empty_folder_is_said_beside_a_full_one_and_refused_alone(tmp_path, plain):
    (tmp_path / "empty").mkdir()
    page, data = report_on(tmp_path, [plain, tmp_path / "empty"])
    assert "holds nothing that a run leaves" in data["runs"][1]["problems"][0]
    assert "holds nothing that a run leaves" in page
    with pytest.raises(ValueError, match="holds nothing that a run leaves"):
        write_report(find_runs([tmp_path / "empty"]), tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


def test_returns_that_are_not_finite_and_files_of_others_do_no_harm(tmp_path, plain):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(plain / "progress.csv", folder)
    np.savez(folder / "evaluations.npz", timesteps=np.array([10]), results=np.array([[np.nan, 1.0]]))
    (folder / "other.json").write_text(json.dumps({"scores": [{"name": "x"}], "latent_dim": 3}))
    _, data = report_on(tmp_path, [folder])
    assert data["comparison"]["Environment unknown"]["run"]["interquartile_mean"] is None
    assert data["probes"] == {}


def test_pictures_take_no_more_than_they_may(monkeypatch):
    pictures = {step: Picture("x" * 100, 1, 1) for step in range(50)}
    drawn = affordable(list(pictures), lambda step: [pictures[step]] * 2, 40, 3_000)
    assert list(drawn) == evenly(range(50), len(drawn)) and len(drawn) == 15
    assert list(affordable(list(pictures), lambda step: [pictures[step]], 40, 10_000)) == evenly(range(50), 40)
    assert list(affordable(list(pictures), lambda step: [pictures[step]], 40, 10)) == [0, 49]


def test_names_are_text_and_no_markup(tmp_path, plain):
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    shutil.copytree(plain, folder)
    page, _ = report_on(tmp_path, [folder])
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_a_page_has_to_end_in_html(tmp_path, plain):
    with pytest.raises(ValueError, match=r"report\.pdf is to be a page, but does not end in \.html"):
        write_report(find_runs([plain]), tmp_path / "report.pdf")


def test_the_run_and_all_random_states_are_left_alone(tmp_path, demo):
    before = {path: path.read_bytes() for path in demo.rglob("*") if path.is_file()}
    states = np.random.get_state()[1].copy(), th.get_rng_state()
    report_on(tmp_path, [demo], Play(max_steps=8))
    assert {path: path.read_bytes() for path in demo.rglob("*") if path.is_file()} == before
    assert (np.random.get_state()[1] == states[0]).all() and th.equal(th.get_rng_state(), states[1])


def test_a_frozen_picture_of_time_is_all_that_differs_between_two_reports(tmp_path, demo):
    first, _ = report_on(tmp_path, [demo], Play(max_steps=8))
    second, _ = report_on(tmp_path, [demo], Play(max_steps=8))
    undated = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
    assert undated.sub("", first) == undated.sub("", second)
