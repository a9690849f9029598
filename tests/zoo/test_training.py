"""Every file trains, and rl_zoo3's own scripts load what it trained."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml
from rl_zoo3.utils import ALGOS
from stable_baselines3 import PPO
from stable_baselines3.common.results_plotter import load_results
from zoo_runs import CONFIGS, TINY_BALL, shrunk, stock, train, zoo

from sb3_latent import LatentExtractor
from sb3_latent.models import get_hooked_extractors
from sb3_latent.zoo.algorithms import ALGORITHMS

N_STEPS = 200
ATARI = {"ppo_cnn": "QbertNoFrameskip-v4", "ppo_adapt": "PongNoFrameskip-v4"}


def tasks(algorithm):
    """Environment and hyperparameters of each entry, without the length of its run."""
    for key, hyperparams in yaml.safe_load(CONFIGS[algorithm].read_text()).items():
        env_id = ATARI.get(algorithm, "BreakoutNoFrameskip-v4") if key == "atari" else key
        if key != "default":
            yield env_id, {name: value for name, value in hyperparams.items() if name != "n_timesteps"}


def runs():
    """Each entry that is not as another of its file, and each environment."""
    environments = set()
    for algorithm in ALGORITHMS:
        seen = []
        for env_id, hyperparams in tasks(algorithm):
            if hyperparams not in seen or env_id not in environments:
                yield algorithm, env_id
            seen.append(hyperparams)
            environments.add(env_id)


RUNS = list(runs())
LAST = {algorithm: env_id for algorithm, env_id in RUNS}


def trained(algorithm, env_id, folder):
    name = env_id.replace("/", "-")
    return ALGORITHMS[algorithm].load(Path(folder) / algorithm / f"{name}_1" / f"{name}.zip")


@pytest.mark.parametrize("algorithm, env_id", RUNS, ids=["-".join(run) for run in RUNS])
def test_every_file_trains_and_is_watched_by_rl_zoo3(algorithm, env_id, tmp_path):
    if env_id == "CarRacing-v3":
        pytest.importorskip("Box2D", reason="CarRacing needs pip install 'gymnasium[box2d]'")
    assert train(algorithm, env_id, tmp_path, "-n", N_STEPS) == 0
    model = trained(algorithm, env_id, tmp_path)
    assert type(model) is ALGORITHMS[algorithm] is ALGOS[algorithm]
    assert model.num_timesteps >= N_STEPS and model._n_updates > 0
    if algorithm != "ppo_cnn":
        assert get_hooked_extractors(model)
    if env_id == LAST[algorithm]:
        watched = ("--algo", algorithm, "--env", env_id, "-f", tmp_path)
        assert zoo("enjoy", *watched, "--no-render", "-n", 20) == 0
        assert zoo("record-video", *watched, "-n", 10, "-o", tmp_path / "videos") == 0
        assert [file.stat().st_size > 0 for file in (tmp_path / "videos").glob("*.mp4")] == [True]
    assert ALGOS[algorithm] is ALGORITHMS[algorithm]


def test_the_stock_command_reads_our_files_and_its_scripts_load_what_it_trains(tmp_path):
    config = shrunk("ppo_vae", tmp_path)
    chosen = ("--algo", "ppo", "--env", TINY_BALL, "--gym-packages", "sb3_latent.zoo", "-f", "logs", "--seed", 0)
    run = stock("train", *chosen, "--conf-file", config, "-n", N_STEPS, "--eval-freq", -1, folder=tmp_path)
    assert run.returncode == 0, run.stderr
    name = TINY_BALL.replace("/", "-")
    model = PPO.load(tmp_path / "logs" / "ppo" / f"{name}_1" / f"{name}.zip")
    assert type(model.policy.features_extractor) is LatentExtractor
    run = stock("enjoy", *chosen, "--no-render", "-n", 20, folder=tmp_path)
    assert run.returncode == 0, run.stderr


def test_the_stock_command_records_videos_of_atari(tmp_path):
    env_id = "BreakoutNoFrameskip-v4"
    chosen = ("--algo", "ppo", "--env", env_id, "-f", "logs")
    config = shrunk("ppo_vae", tmp_path)
    more = ("--gym-packages", "sb3_latent.zoo", "--conf-file", config, "-n", N_STEPS, "--eval-freq", -1)
    assert stock("train", *chosen, *more, folder=tmp_path).returncode == 0
    run = stock("record_video", *chosen, "-n", 10, folder=tmp_path)
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.rglob("*.mp4"))


def test_the_same_seed_trains_the_same_agent(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        assert train("ppo_vae", TINY_BALL, folder, "-n", N_STEPS) == 0
    first, second = (dict(trained("ppo_vae", TINY_BALL, folder).policy.named_parameters()) for folder in folders)
    assert all((first[name] == second[name]).all() for name in first)


def test_evaluations_and_monitors_are_where_rl_zoo3_has_them(tmp_path):
    assert train("ppo_vae", TINY_BALL, tmp_path, "-n", 2 * N_STEPS, "--eval-freq", N_STEPS) == 0
    run = tmp_path / "ppo_vae" / f"{TINY_BALL.replace('/', '-')}_1"
    assert np.load(run / "evaluations.npz")["timesteps"].tolist() == [200, 400]
    assert len(load_results(str(run))) > 0 and (run / "best_model.zip").exists()
    assert len(list(run.glob("tensorboard/**/events.*"))) == 1, "rl_zoo3 logs where it is told to alone"


def test_the_log_of_tensorboard_is_where_the_user_wants_it(tmp_path):
    assert train("ppo_vae", TINY_BALL, tmp_path, "-n", N_STEPS, "--tensorboard-log", tmp_path / "mine") == 0
    assert len(list((tmp_path / "mine").rglob("events.*"))) == len(list(tmp_path.rglob("events.*"))) == 1


def test_env_kwargs_of_the_file_reach_the_evaluation(tmp_path):
    """rl_zoo3 drops them there."""
    kwargs = {"env_kwargs": {"ball_size": 3}}
    seen = []
    entry = gym.registry[TINY_BALL].entry_point
    from sb3_latent.envs import tiny_ball

    class Spy(tiny_ball.TinyBallEnv):
        def __init__(self, **given):
            seen.append(given)
            super().__init__(**given)

    gym.registry[TINY_BALL].entry_point = Spy
    try:
        config = shrunk("ppo_vae", tmp_path, **kwargs)
        assert train("ppo_vae", TINY_BALL, tmp_path, "-n", N_STEPS, "--eval-freq", N_STEPS, config=config) == 0
    finally:
        gym.registry[TINY_BALL].entry_point = entry
    assert len(seen) == 3 and all(given.get("ball_size") == 3 for given in seen)
