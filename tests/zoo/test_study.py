"""``zoo train -optimize``: trials keep what the file says, studies can be taken up again, wrong configurations are heard."""

import json
import os
import signal
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import optuna
import pytest
import yaml
from algorithms import NoiseImageEnv
from optuna.trial import TrialState
from rl_zoo3 import hyperparams_opt
from rl_zoo3.utils import ALGOS
from zoo_runs import SEEN, TINY_BALL, Remember, stock, train, zoo

from sb3_latent.dynamics_extractor import DynamicsExtractor
from sb3_latent.extractor import LatentExtractor
from sb3_latent.models import get_hooked_extractors

ROWS = {"n_steps": 16, "n_envs": 2}
REPLAY = {"buffer_size": 200, "learning_starts": 10, "batch_size": 4, "train_freq": 4, "gamma": 0.77}
ON, OFF = "tests/StudyDiscrete-v0", "tests/StudyBox-v0"
# Algorithm of rl_zoo3: policy, environment, hyperparameters that no space holds.
AGENTS = {
    "a2c": ("LatentActorCriticPolicy", ON, {"vf_coef": 0.3, "n_envs": 2}),
    "ppo": (
        "LatentActorCriticPolicy",
        ON,
        {
            **ROWS,
            "vf_coef": 0.3,
            "rollout_buffer_class": "sb3_latent.FrameRolloutBuffer",
            "rollout_buffer_kwargs": {"chunk_length": 4},
        },
    ),
    "trpo": ("LatentActorCriticPolicy", ON, {**ROWS, "line_search_max_iter": 3}),
    "ppo_lstm": ("LatentRecurrentActorCriticPolicy", ON, {**ROWS, "vf_coef": 0.3}),
    "dqn": ("LatentDQNPolicy", ON, {**REPLAY, "tau": 0.9}),
    "qrdqn": ("LatentQRDQNPolicy", ON, {**REPLAY, "tau": 0.9}),
    "sac": ("LatentSACPolicy", OFF, {**REPLAY, "gradient_steps": 2, "replay_buffer_class": "sb3_latent.FrameReplayBuffer"}),
    "tqc": ("LatentTQCPolicy", OFF, {**REPLAY, "gradient_steps": 2}),
    "td3": ("LatentTD3Policy", OFF, {**REPLAY, "target_noise_clip": 0.3}),
    "ddpg": ("LatentTD3Policy", OFF, {**REPLAY, "gradient_steps": 2}),
    "crossq": ("LatentCrossQPolicy", OFF, {**REPLAY, "policy_delay": 4}),
    "slac": (
        "SLACPolicy",
        OFF,
        {
            **REPLAY,
            "replay_buffer_class": "sb3_latent.SequenceReplayBuffer",
            "env_wrapper": [{"sb3_latent.HistoryWrapper": {"length": 3}}],
        },
    ),
}
ENCODER = {"preset": "vae", "latent_dim": 4, "trunk": "mlp", "trunk_kwargs": {"net_arch": [8]}}
MODEL = {"preset": "slac", "hidden": 8, "model_batch_size": 2, "dynamics_kwargs": {"z1_dim": 2, "z2_dim": 3, "hidden": [4]}}
SEARCH = {"slac": ["learning_rate", "z1_dim"], "trpo": ["learning_rate", "latent_dim"]}


@pytest.fixture(autouse=True)
def environments():
    SEEN.clear()
    gym.register(ON, lambda **_: NoiseImageEnv())
    gym.register(OFF, lambda **_: NoiseImageEnv(discrete=False, size=32))
    yield
    gym.registry.pop(ON), gym.registry.pop(OFF)


def config_of(folder, algorithm, **changes):
    policy, env_id, hyperparams = AGENTS[algorithm]
    policy_kwargs = MODEL if algorithm == "slac" else ENCODER
    hyperparams = {
        "policy": f"sb3_latent.{policy}",
        "policy_kwargs": policy_kwargs,
        "n_timesteps": 24,
        "callback": ["zoo_runs.Remember"],
        **hyperparams,
        **changes,
    }
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump({env_id: hyperparams}))
    return env_id, path, hyperparams


def tune(folder, algorithm, *arguments, n_trials=2, **changes):
    env_id, path, hyperparams = config_of(folder, algorithm, **changes)
    chosen = ("-optimize", "--max-total-trials", n_trials, "--n-evaluations", 1, "--eval-episodes", 1, "--no-optim-plots")
    sampler = ("--search", *SEARCH.get(algorithm, ["learning_rate", "latent_dim", "kappa"]))
    return train(algorithm, env_id, folder, *chosen, *sampler, *arguments, config=path), hyperparams


def study_of(folder, algorithm):
    name = AGENTS[algorithm][1].replace("/", "-")
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(f"{folder}/{algorithm}/{name}_study.log")
    )
    return optuna.load_study(study_name=f"{algorithm}-{name}", storage=storage)


@pytest.mark.parametrize("algorithm", AGENTS)
def test_a_trial_has_our_extractor_and_all_that_was_not_sampled(algorithm, tmp_path):
    status, hyperparams = tune(tmp_path, algorithm)
    assert status == 0
    trials = study_of(tmp_path, algorithm).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2 and len(SEEN) == 2
    for trial, model in zip(trials, SEEN, strict=True):
        extractor = get_hooked_extractors(model)[0]
        drawn = trial.user_attrs["drawn"]
        assert type(model) is ALGOS[algorithm] and model.num_timesteps >= 24
        assert model.lr_schedule(1.0) == drawn["learning_rate"]
        if algorithm == "slac":
            assert type(extractor) is DynamicsExtractor and extractor.encoders.dynamics.split == [
                drawn["policy_kwargs.dynamics_kwargs.z1_dim"],
                3,
            ]
        else:
            assert type(extractor) is LatentExtractor
            assert extractor.features_dim == drawn["policy_kwargs.latent_dim"] and extractor.kappa == drawn.get(
                "policy_kwargs.kappa", 1
            )
            assert extractor.tasks.labels == ["recon", "kl"] and extractor.encoders["observation"].trunk.net_arch == (8,)
        given = {
            name: value for name, value in hyperparams.items() if name in ("vf_coef", "gamma", "tau", "n_steps", "batch_size")
        }
        assert {name: getattr(model, name) for name in given} == given
        assert model.n_envs == hyperparams.get("n_envs", 1)
        for buffer in {"replay_buffer_class", "rollout_buffer_class"} & set(hyperparams):
            assert getattr(model, buffer).__name__ == hyperparams[buffer].partition(".")[2]


def test_without_our_policies_rl_zoo3_samples_and_the_rest_of_policy_kwargs_stays(tmp_path):
    status, _ = tune(tmp_path, "ppo", "--search")
    assert status == 2  # argparse: --search without a name
    kwargs = {"policy": "CnnPolicy", "policy_kwargs": {"normalize_images": False, "ortho_init": False, "net_arch": [3]}}
    env_id, path, _ = config_of(tmp_path, "a2c", **kwargs)
    gym.registry[env_id].entry_point = lambda **_: NoiseImageEnv(size=40)
    chosen = ("-optimize", "--max-total-trials", 1, "--n-evaluations", 1, "--eval-episodes", 1, "--no-optim-plots", "-n", 5)
    assert train("a2c", env_id, tmp_path, *chosen, config=path) == 0
    (trial,) = study_of(tmp_path, "a2c").trials
    assert set(trial.params) >= {"one_minus_gamma", "net_arch", "activation_fn"}, "rl_zoo3's own"
    assert not SEEN[0].policy.ortho_init and not SEEN[0].policy.normalize_images
    assert SEEN[0].policy.net_arch != [3]


def test_trials_repeat_themselves_and_a_study_is_taken_up_again(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    tune(whole, "ppo", n_trials=4)
    tune(parts, "ppo", n_trials=1)
    tune(parts, "ppo", n_trials=4)
    found = [[(trial.params, trial.value) for trial in study_of(folder, "ppo").trials] for folder in (whole, parts)]
    assert found[0] == found[1] and len(found[0]) == 4


def test_n_trials_counts_those_of_this_worker(tmp_path):
    env_id, path, _ = config_of(tmp_path, "a2c")
    chosen = (
        "-optimize",
        "--n-trials",
        2,
        "--n-evaluations",
        1,
        "--eval-episodes",
        1,
        "--no-optim-plots",
        "--search",
        "kappa",
    )
    for n_trials in (2, 4):
        assert train("a2c", env_id, tmp_path, *chosen, config=path) == 0
        assert len(study_of(tmp_path, "a2c").trials) == n_trials


def test_the_best_trial_trains_again(tmp_path):
    tune(tmp_path, "sac", n_trials=3)
    best = tmp_path / "sac" / "tests-StudyBox-v0_study" / "best.yml"
    trial = study_of(tmp_path, "sac").best_trial
    assert zoo("check", best, "--algo", "sac") == 0
    assert train("sac", OFF, tmp_path, config=best) == 0
    assert get_hooked_extractors(SEEN[-1])[0].features_dim == trial.params["policy_kwargs.latent_dim"]
    assert SEEN[-1].lr_schedule(1) == trial.params["learning_rate"]
    assert type(SEEN[-1].replay_buffer).__name__ == "FrameReplayBuffer"


@pytest.mark.parametrize("number", [0, 1])
def test_a_trial_by_its_number_trains_again(number, tmp_path):
    tune(tmp_path, "ppo", "--storage", f"{tmp_path}/s.log", "--study-name", "s")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(f"{tmp_path}/s.log"))
    trial = optuna.load_study(study_name="s", storage=storage).trials[number]
    env_id, path, _ = config_of(tmp_path, "ppo")
    chosen = ("--storage", f"{tmp_path}/s.log", "--study-name", "s", "--trial-id", number)
    assert train("ppo", env_id, tmp_path, *chosen, "-params", "vf_coef:0.9", config=path) == 0
    extractor = get_hooked_extractors(SEEN[-1])[0]
    assert (extractor.features_dim, extractor.kappa) == (
        trial.params["policy_kwargs.latent_dim"],
        trial.params["policy_kwargs.kappa"],
    )
    assert extractor.encoders["observation"].trunk.net_arch == (8,)
    assert SEEN[-1].vf_coef == 0.9 and SEEN[-1].n_steps == 16, "the command line stands above the trial, the file below it"


def test_a_number_that_no_trial_has_is_refused(tmp_path, capsys):
    tune(tmp_path, "ppo", "--storage", f"{tmp_path}/s.log", "--study-name", "s", n_trials=1)
    env_id, path, _ = config_of(tmp_path, "ppo")
    assert (
        train("ppo", env_id, tmp_path, "--storage", f"{tmp_path}/s.log", "--study-name", "s", "--trial-id", 7, config=path)
        == 2
    )
    assert "--trial-id 7: study 's' has trials 0 to 0" in capsys.readouterr().err


def test_the_trials_of_the_study_that_is_there_by_default(tmp_path, capsys):
    env_id, path, _ = config_of(tmp_path, "ppo")
    assert train("ppo", env_id, tmp_path, "--trial-id", 0, config=path) == 2
    assert "is missing" in capsys.readouterr().err
    tune(tmp_path, "ppo", n_trials=1)
    assert train("ppo", env_id, tmp_path, "--trial-id", 0, "--study-name", "another", config=path) == 2
    assert "--trial-id 0: there is no study 'another' in" in capsys.readouterr().err
    assert train("ppo", env_id, tmp_path, "--trial-id", 0, config=path) == 0
    trial = study_of(tmp_path, "ppo").trials[0]
    assert get_hooked_extractors(SEEN[-1])[0].kappa == trial.params["policy_kwargs.kappa"]


def test_settings_written_as_python_are_kept_and_written_to_the_best(tmp_path):
    expression = "dict(preset='vae', latent_dim=4, trunk='mlp', trunk_kwargs=dict(net_arch=[8]))"
    status, _ = tune(tmp_path, "ppo", "--search", "kappa", n_trials=1, policy_kwargs=expression)
    assert status == 0
    best = yaml.safe_load((tmp_path / "ppo" / "tests-StudyDiscrete-v0_study" / "best.yml").read_text())
    assert best[ON]["policy_kwargs"]["latent_dim"] == 4 and "kappa" in best[ON]["policy_kwargs"]


def test_passwords_are_not_printed(tmp_path, capsys):
    tune(tmp_path, "ppo", "--storage", "postgresql://me:secret@127.0.0.1:1/x")
    printed = capsys.readouterr()
    assert "127.0.0.1:1" in printed.out + printed.err and "secret" not in printed.out + printed.err


def test_a_wrong_configuration_fails_and_does_not_count_as_pruned(tmp_path, capsys, monkeypatch):
    """All that can be drawn is wrong."""
    from sb3_latent.search import Choice
    from sb3_latent.zoo import manager

    monkeypatch.setattr(manager, "restricted", lambda space, names: {"policy_kwargs.latent_dim": Choice((-5,))})
    status, _ = tune(tmp_path, "ppo")
    assert status == 2 and "latent_dim" in capsys.readouterr().err
    assert [trial.state for trial in study_of(tmp_path, "ppo").trials] == [TrialState.FAIL]


def test_an_error_while_learning_fails_as_well_and_divergence_is_pruned(tmp_path, capsys, monkeypatch):
    from sb3_latent.search import Float
    from sb3_latent.zoo import manager

    def fail(self):
        raise ValueError("no such thing")

    with monkeypatch.context() as patch:
        patch.setattr(Remember, "_on_step", fail)
        status, _ = tune(tmp_path, "ppo")
    assert status == 2 and "no such thing" in capsys.readouterr().err
    assert [trial.state for trial in study_of(tmp_path, "ppo").trials] == [TrialState.FAIL]
    monkeypatch.setattr(manager, "restricted", lambda space, names: {"learning_rate": Float(1e30, 1e32)})
    status, _ = tune(tmp_path, "a2c", n_timesteps=100)
    assert status == 0
    assert [trial.state for trial in study_of(tmp_path, "a2c").trials] == [TrialState.PRUNED] * 2


def test_the_pruner_stops_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: trial.number > 0)
    env_id, path, _ = config_of(tmp_path, "ppo")
    chosen = ("-optimize", "--max-total-trials", 2, "--n-evaluations", 4, "--eval-episodes", 1, "--search", "kappa", "-n", 128)
    assert train("ppo", env_id, tmp_path, *chosen, "--no-optim-plots", config=path) == 0
    assert [trial.state for trial in study_of(tmp_path, "ppo").trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert [model.num_timesteps for model in SEEN] == [128, 32]


def test_logs_of_the_trials_and_the_report(tmp_path):
    env_id, path, _ = config_of(tmp_path, "ppo")
    chosen = (
        "-optimize",
        "--max-total-trials",
        3,
        "--n-evaluations",
        2,
        "--eval-episodes",
        1,
        "--search",
        "kappa",
        "latent_dim",
    )
    logs = tmp_path / "optimization"
    assert train("ppo", env_id, tmp_path, *chosen, "--optimization-log-path", logs, "-n", 64, config=path) == 0
    assert all(np.load(logs / f"trial_{number}" / "evaluations.npz")["timesteps"].size == 2 for number in range(3))
    report = tmp_path / "ppo" / "tests-StudyDiscrete-v0_study"
    written = {file.name for file in report.iterdir()}
    assert {"best.yml", "study_trials.csv", "study.html", "study_history.png", "study_parallel.png"} <= written
    assert len((report / "study_trials.csv").read_text().splitlines()) == 4


def test_more_jobs_than_one_are_workers(tmp_path, capsys):
    assert tune(tmp_path, "ppo", "--n-jobs", 2)[0] == 2
    assert "start 2 processes with the same --storage" in capsys.readouterr().err


def test_names_to_search_that_do_not_exist_are_refused(tmp_path, capsys):
    env_id, path, _ = config_of(tmp_path, "ppo")
    assert train("ppo", env_id, tmp_path, "-optimize", "--n-evaluations", 1, "--search", "latent_dims", config=path) == 2
    assert "'latent_dims'; did you mean 'latent_dim'" in capsys.readouterr().err


def test_sigterm_keeps_the_study_and_the_same_command_goes_on(tmp_path):
    config = tmp_path / "ball.yml"
    hyperparams = {
        "policy": "sb3_latent.LatentActorCriticPolicy",
        "policy_kwargs": {"preset": "vae", "trunk": "mlp", "trunk_kwargs": {"net_arch": [8]}, "latent_dim": 4},
        "n_timesteps": 3000,
        "n_steps": 64,
    }
    config.write_text(yaml.safe_dump({TINY_BALL: hyperparams}))
    command = [sys.executable, "-m", "sb3_latent.zoo", "train", "--algo", "ppo", "--env", TINY_BALL, "-optimize"]
    command += ["--conf-file", str(config), "-f", str(tmp_path), "--seed", "0", "--n-evaluations", "1", "--no-optim-plots"]
    command += ["--max-total-trials", "3", "--storage", f"{tmp_path}/s.log", "--study-name", "s", "--search", "kappa"]
    command += ["--eval-episodes", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def trials():
        backend = optuna.storages.journal.JournalFileBackend(f"{tmp_path}/s.log")
        try:
            return optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend)).trials
        except (KeyError, json.JSONDecodeError):
            return []

    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while len(trials()) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on" in output, output
    (interrupted,) = [trial for trial in trials() if trial.state is TrialState.FAIL]
    (again,) = [trial for trial in trials() if trial.state is TrialState.WAITING]
    assert again.system_attrs["fixed_params" if "fixed_params" in again.system_attrs else "failed_trial"] is not None
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    states = [trial.state for trial in trials()]
    assert states.count(TrialState.COMPLETE) == 3 and states.count(TrialState.FAIL) == 1 and len(states) == 4
    assert trials()[again.number].params == interrupted.params


def test_the_stock_command_keeps_our_encoder_as_well(tmp_path):
    hyperparams = {
        "policy": "sb3_latent.LatentActorCriticPolicy",
        "policy_kwargs": {"preset": "vae", "trunk": "mlp", "trunk_kwargs": {"net_arch": [8]}},
        "n_timesteps": 100,
    }
    (tmp_path / "ball.yml").write_text(yaml.safe_dump({TINY_BALL: hyperparams}))
    chosen = ("--algo", "a2c", "--env", TINY_BALL, "--gym-packages", "sb3_latent.zoo", "--conf-file", "ball.yml", "--seed", 0)
    run = stock(
        "train", *chosen, "-optimize", "--max-total-trials", 1, "--eval-episodes", 1, "--no-optim-plots", folder=tmp_path
    )
    assert run.returncode == 0, run.stderr
    (best,) = yaml.safe_load(next(tmp_path.rglob("best.yml")).read_text()).values()
    assert best["policy_kwargs"]["preset"] == "vae" and {"kappa", "beta", "latent_dim"} <= set(best["policy_kwargs"])


def test_hyperparams_of_rl_zoo3_are_its_own_again(tmp_path):
    """Our sampler stands in its table for the study alone."""
    before = hyperparams_opt.HYPERPARAMS_SAMPLER["ppo"]
    tune(tmp_path, "ppo", n_trials=1)
    assert hyperparams_opt.HYPERPARAMS_SAMPLER["ppo"] is before
