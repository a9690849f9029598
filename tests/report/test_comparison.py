"""Final returns: the interquartile mean and its bootstrap, typed anew."""

import json

import numpy as np
import pytest
from scipy.stats import trim_mean

from sb3_latent.report import find_runs, write_report
from sb3_latent.report.comparison import interquartile_means


def test_the_mean_and_its_interval_are_those_of_a_slow_bootstrap():
    scores = np.linspace(0, 10, 12) ** 1.3
    ((mean, low, high),) = interquartile_means({"method": scores.tolist()}).values()
    rng = np.random.default_rng(2)
    resampled = [trim_mean(rng.choice(scores, len(scores)), 0.25) for _ in range(4000)]
    assert mean == pytest.approx(trim_mean(scores, 0.25))
    np.testing.assert_allclose([low, high], np.percentile(resampled, [2.5, 97.5]), rtol=0.05)


def test_the_interval_is_the_same_every_time_and_leaves_random_states_alone():
    scores = {"a": [1.0, 2.0, 4.0], "b": [0.0, 3.0, 9.0]}
    before = np.random.get_state()[1].copy()
    first = interquartile_means(scores)
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(77)
    assert interquartile_means(scores) == first


def test_one_run_has_a_score_and_no_interval():
    mean, low, high = interquartile_means({"a": [3.0]})["a"]
    assert mean == 3 and np.isnan([low, high]).all()


def monitored(folder, value, env_id="Some-v0"):
    folder.mkdir(parents=True)
    (folder / "monitor.csv").write_text(f'#{{"t_start": 0.0, "env_id": "{env_id}"}}\nr,l,t\n{value},10,1.0\n')
    return folder


def compared(tmp_path, folders):
    write_report(find_runs(folders), tmp_path / "report.html", None)
    return json.loads((tmp_path / "report.json").read_text())["comparison"], (tmp_path / "report.html").read_text()


def test_seeds_of_methods_are_compared_within_their_environment(tmp_path):
    folders = [
        monitored(tmp_path / f"{name}_{seed}", seed + offset) for name, offset in (("a", 0), ("b", 5)) for seed in (1, 2)
    ]
    folders.append(monitored(tmp_path / "a_9", 100.0, "Other-v0"))
    data, page = compared(tmp_path, folders)
    assert set(data) == {"Some-v0", "Other-v0"}
    assert data["Some-v0"]["a"] == {"interquartile_mean": 1.5, "low": 1.0, "high": 2.0, "runs": [1.0, 2.0], "score": "monitor"}
    assert data["Some-v0"]["b"]["interquartile_mean"] == 6.5
    assert data["Other-v0"]["a"]["low"] is None
    assert "An interval needs several seeds: a has one run." in page


def test_scores_of_another_kind_are_not_mixed(tmp_path):
    one, other = monitored(tmp_path / "a_1", 1.0), monitored(tmp_path / "a_2", 2.0)
    np.savez(one / "evaluations.npz", timesteps=[10], results=[[50.0]])
    data, _ = compared(tmp_path, [one, other])
    assert data["Some-v0"]["a"]["runs"] == [1.0, 2.0]
    np.savez(other / "evaluations.npz", timesteps=[10], results=[[60.0]])
    data, _ = compared(tmp_path, [one, other])
    assert data["Some-v0"]["a"]["runs"] == [50.0, 60.0]
