"""Our hyperparameter files against the papers, typed anew, and against rl_zoo3's own loader."""

import argparse
import copy
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml
from gymnasium import spaces

pytest.importorskip("rl_zoo3", reason="the extra zoo is not installed")
pytest.importorskip("jsonschema", reason="the extra zoo is not installed")

from rl_zoo3 import exp_manager
from rl_zoo3.utils import get_class_by_name
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy

import sb3_latent
from sb3_latent import HistoryWrapper, LatentSACPolicy, SLACPolicy, get_extractor
from sb3_latent.zoo.algorithms import ALGORITHMS
from sb3_latent.zoo.schema import check_config

FOLDER = Path(__file__).parents[2] / "zoo_configs"
FILES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))}
ON_POLICY = ["ppo_adapt", "ppo_cnn", "ppo_fixed", "ppo_lstm_impala_vae", "ppo_vae"]
OF_PIXELS = ["curl", "drq", "sac_ae", "sac_cnn"]
ATARI = ["BreakoutNoFrameskip-v4", "PongNoFrameskip-v4", "QbertNoFrameskip-v4"]
PLANET = ["ball_in_cup-catch", "cartpole-swingup", "cheetah-run", "finger-spin", "reacher-easy", "walker-walk"]

# Environments that a name must know how to train on.
WANTED = {
    **{name: [*ATARI, "CarRacing-v3", "sb3_latent/TinyBall-v0"] for name in ON_POLICY},
    **{
        name: [*(f"sb3_latent/dmc-{task}-pixels-v0" for task in PLANET), "CarRacing-v3", "sb3_latent/PixelPendulum-v0"]
        for name in OF_PIXELS
    },
    "slac": [*(f"sb3_latent/dmc-{task}-slac-v0" for task in PLANET), "sb3_latent/PixelPendulum-slac-v0"],
}
PAIRS = [(name, env_id) for name, env_ids in WANTED.items() for env_id in env_ids]


def section(name, env_id):
    """As rl_zoo3 looks it up."""
    return FILES[name].get(env_id) or FILES[name].get("atari") or FILES[name]["default"]


def test_every_file_has_a_name_and_every_name_a_file():
    assert set(FILES) == set(ALGORITHMS) == set(WANTED)
    assert {name for name, cls in ALGORITHMS.items() if cls is PPO} == {"ppo_cnn", "ppo_fixed", "ppo_adapt", "ppo_vae"}
    assert ALGORITHMS["ppo_lstm_impala_vae"] is RecurrentPPO
    assert {name for name, cls in ALGORITHMS.items() if cls is SAC} == {*OF_PIXELS, "slac"}


@pytest.mark.parametrize("name", FILES)
def test_the_schema_finds_no_fault(name):
    assert [str(problem) for problem in check_config(FOLDER / f"{name}.yml")] == []


# --- against the papers ---

# Seed document 000, Tables 2 and 3. The clip range is SB3's.
SEED_000 = {
    "n_timesteps": 1e7,
    "n_envs": 16,
    "n_steps": 2048,
    "n_epochs": 10,
    "batch_size": 32,
    "vf_coef": 0.5,
    "ent_coef": 0.0,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "learning_rate": 3e-4,
}
# rl_zoo3's ppo.yml and ppo_lstm.yml, "atari".
ZOO_ATARI = {
    "n_timesteps": 1e7,
    "n_envs": 8,
    "frame_stack": 4,
    "n_steps": 128,
    "n_epochs": 4,
    "batch_size": 256,
    "learning_rate": "lin_2.5e-4",
    "clip_range": "lin_0.1",
    "vf_coef": 0.5,
    "ent_coef": 0.01,
}
# train.py of denisyarats/pytorch_sac_ae.
SAC_AE = {
    "learning_rate": 1e-3,
    "buffer_size": 1_000_000,
    "learning_starts": 1000,
    "batch_size": 128,
    "tau": 0.01,
    "gamma": 0.99,
    "target_update_interval": 2,
    "ent_coef": "auto_0.1",
}
# config.yaml of denisyarats/drq and the paper's batch; Table 3 of CURL.
DRQ = {**SAC_AE, "buffer_size": 100_000, "batch_size": 512}
# train_eval.py and slac.gin of alexlee-gk/slac.
SLAC = {
    "learning_rate": 3e-4,
    "buffer_size": 100_000,
    "learning_starts": 10_000,
    "batch_size": 256,
    "tau": 0.005,
    "gamma": 0.99,
    "train_freq": 1,
    "gradient_steps": 1,
    "target_update_interval": 1,
    "ent_coef": "auto",
}
PAPERS = {
    "ppo_cnn": ("atari", ZOO_ATARI),
    **dict.fromkeys(("ppo_fixed", "ppo_adapt", "ppo_vae"), ("atari", SEED_000)),
    "ppo_lstm_impala_vae": ("atari", {**ZOO_ATARI, "gamma": 0.99}),
    **dict.fromkeys(("sac_ae", "sac_cnn"), ("default", SAC_AE)),
    **dict.fromkeys(("drq", "curl"), ("default", DRQ)),
    "slac": ("default", SLAC),
}


@pytest.mark.parametrize("name", PAPERS)
def test_agents_are_those_of_the_papers(name):
    key, paper = PAPERS[name]
    assert FILES[name][key] | paper == FILES[name][key]
    assert all(type(value) is type(FILES[name][key][each]) or each == "n_timesteps" for each, value in paper.items())


# 500,000 environment steps: agent steps are fewer by the action repeat (CURL, Table 3; SLAC's published runs).
REPEATS = {
    "pixels": dict(zip(PLANET, (4, 8, 4, 2, 4, 2), strict=True)),
    "slac": dict(zip(PLANET, (4, 4, 4, 1, 4, 2), strict=True)),
}


@pytest.mark.parametrize("task", PLANET)
@pytest.mark.parametrize("name", [*OF_PIXELS, "slac"])
def test_budgets_are_half_a_million_environment_steps(name, task):
    kind = "slac" if name == "slac" else "pixels"
    env_id = f"sb3_latent/dmc-{task}-{kind}-v0"
    assert FILES[name][env_id]["n_timesteps"] * REPEATS[kind][task] == 500_000
    changed = {key for key, value in FILES[name][env_id].items() if value != FILES[name]["default"][key]}
    task_of_curl = {"learning_rate", "policy_kwargs"} if (name, task) == ("curl", "cheetah-run") else set()
    variance = {"policy_kwargs"} if name == "slac" and task in SLAC_VARIANCE else set()
    assert changed - {"n_timesteps"} == task_of_curl | variance


# The best of the five variances in data/slac/*_slac.csv, where it is not slac.gin's 0.1.
SLAC_VARIANCE = {"reacher-easy": 0.01, "walker-walk": 0.4, "ball_in_cup-catch": 0.04}


@pytest.mark.parametrize("task", PLANET)
def test_variances_of_pixels_are_those_of_the_published_curves(task):
    model = built("slac", f"sb3_latent/dmc-{task}-slac-v0")
    (likelihood,) = [module for module in model.policy.modules() if type(module).__name__ == "Gaussian"]
    assert (2 * likelihood.log_std).exp().item() == pytest.approx(SLAC_VARIANCE.get(task, 0.1))


@pytest.mark.parametrize(("name", "catches_up"), [("sac_ae", True), ("sac_cnn", True), ("drq", False), ("curl", False)])
def test_only_sac_ae_catches_up_with_its_random_steps(name, catches_up):
    written = str(FILES[name]["default"]["callback"])
    assert ("CatchUpCallback" in written) is catches_up


def test_pretraining_is_that_of_the_papers():
    (entry,) = [each for each in FILES["slac"]["default"]["callback"] if "ModelPretrain" in str(each)]
    assert list(entry.values()) == [{"n_updates": 100_000}]
    for name in ("ppo_fixed", "ppo_adapt"):
        assert list(FILES[name]["atari"]["callback"][0].values()) == [{"n_frames": 25_000, "n_epochs": 100}]
    assert FILES["slac"]["default"]["env_wrapper"] == [{"sb3_latent.HistoryWrapper": {"length": 8}}]


# --- values that live in presets, in agents as they are built ---


class Nothing(gym.Env):
    """An environment of which nothing but the spaces is asked."""

    def __init__(self, observation_shape, action_space):
        self.observation_space = spaces.Box(0, 255, observation_shape, np.uint8)
        self.action_space = action_space


def built(name, env_id):
    hyperparams = copy.deepcopy(section(name, env_id))  # SB3 writes into policy_kwargs
    for key in ("n_timesteps", "n_envs", "frame_stack", "env_wrapper", "callback"):
        hyperparams.pop(key, None)
    hyperparams["policy"] = get_class_by_name(hyperparams["policy"])
    if ALGORITHMS[name] is SAC:
        hyperparams["buffer_size"] = 20
        hyperparams["replay_buffer_class"] = get_class_by_name(hyperparams["replay_buffer_class"])
    else:
        hyperparams |= {"n_steps": 4, "batch_size": 4, "learning_rate": 1e-3, "clip_range": 0.1}
    shape = (3, 64, 64) if name == "slac" else (9, 84, 84) if ALGORITHMS[name] is SAC else (4, 84, 84)
    env = Nothing(shape, spaces.Box(-1, 1, (6,), np.float32) if ALGORITHMS[name] is SAC else spaces.Discrete(4))
    return ALGORITHMS[name](env=HistoryWrapper(env, 8) if name == "slac" else env, **hyperparams)


def widths(network):
    return [layer.out_features for layer in network if hasattr(layer, "out_features")]


# latent, tau of the encoder, learning rate and beta1 of alpha, views of the target and of the critic.
@pytest.mark.parametrize(
    ("name", "encoder_tau", "alpha", "views"),
    [
        ("sac_ae", 0.05, {"lr": 1e-4, "betas": (0.5, 0.999)}, (1, 1)),
        ("sac_cnn", 0.05, {"lr": 1e-4, "betas": (0.5, 0.999)}, (1, 1)),
        ("drq", None, None, (2, 2)),
        ("curl", 0.05, {"lr": 1e-4, "betas": (0.5, 0.999)}, (1, 1)),
    ],
)
def test_agents_of_pixels_are_those_of_the_papers(name, encoder_tau, alpha, views):
    env_id = "sb3_latent/dmc-cheetah-run-pixels-v0"
    model = built(name, env_id)
    policy, lr = model.policy, 2e-4 if name == "curl" else 1e-3
    assert isinstance(policy, LatentSACPolicy)
    assert widths(policy.actor.latent_pi) == [1024, 1024] and widths(policy.critic.q_networks[0]) == [1024, 1024, 1]
    assert get_extractor(model).features_dim == 50
    assert (policy.sharing.encoder_tau, policy.sharing.actor_update_freq) == (encoder_tau, 2)
    assert (policy.sharing.n_target_views, policy.sharing.n_q_views) == views
    assert policy.sharing.augmentation == (None if name.startswith("sac") else {"random_shift": {"pad": 4}})
    groups = [*policy.critic.optimizer.param_groups, *policy.actor.optimizer.param_groups]
    assert {(group["lr"], group["betas"]) for group in groups} == {(lr, (0.9, 0.999))}
    assert (policy._arguments.get("optimizers") or {}).get("ent_coef") == alpha
    decays = {group["part"]: group["weight_decay"] for group in groups if group["weight_decay"]}
    assert decays == ({"decoder": 1e-7} if name == "sac_ae" else {})
    assert model.target_entropy == -6 and model.log_ent_coef.exp().item() == pytest.approx(0.1)
    assert (model.train_freq.frequency, model.gradient_steps) == (2, 2)
    if name == "curl":
        (group, _) = get_extractor(model).optimizer._adam.param_groups
        assert group["lr"] in (0.0, lr) and policy.features_extractor_kwargs["auxiliary_optimizer_kwargs"]["lr"] == lr


def test_slac_is_that_of_the_paper():
    model = built("slac", "sb3_latent/dmc-cheetah-run-slac-v0")
    policy = model.policy
    assert isinstance(policy, SLACPolicy) and policy.model_batch_size == 32
    assert policy.features_extractor.features_dim == 32 + 256
    assert widths(policy.actor.latent_pi) == [256, 256] and policy.actor.latent_pi[0].in_features == 8 * 256 + 7 * 6
    assert widths(policy.critic.q_networks[0]) == [256, 256, 1] and policy.critic.q_networks[0][0].in_features == 288 + 6
    assert policy.features_extractor_kwargs["auxiliary_optimizer_kwargs"]["lr"] == 1e-4
    assert model.log_ent_coef.exp().item() == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["ppo_fixed", "ppo_adapt", "ppo_vae"])
def test_networks_of_seed_000(name):
    model = built(name, "BreakoutNoFrameskip-v4")
    extractor = get_extractor(model)
    assert isinstance(model.policy, ActorCriticPolicy)
    assert extractor.features_dim == 4 * 20 and extractor.frozen is (name == "ppo_fixed")
    assert widths(model.policy.mlp_extractor.policy_net) == widths(model.policy.mlp_extractor.value_net) == [64, 64]
    convolutions = [module for module in extractor.encoders.modules() if type(module).__name__ == "Conv2d"]
    assert [(each.out_channels, each.kernel_size, each.stride) for each in convolutions] == [
        (32, (4, 4), (2, 2)),
        (64, (4, 4), (2, 2)),
    ]
    assert float(extractor.kappa) == (20.0 if name == "ppo_vae" else 1.0)
    assert extractor.tasks.coefs == ({"recon": 1.0, "kl": 1.0} if name == "ppo_vae" else {})


def test_the_recurrent_agent_has_the_large_network_of_impala():
    model = built("ppo_lstm_impala_vae", "BreakoutNoFrameskip-v4")
    extractor = get_extractor(model)
    assert extractor.features_dim == 64 and set(extractor.tasks.coefs) == {"recon", "kl"}
    convolutions = [module for module in extractor.encoders.modules() if type(module).__name__ == "Conv2d"]
    assert [each.out_channels for each in convolutions] == [16] * 5 + [32] * 10
    assert model.policy.lstm_actor.hidden_size == 128 and model.policy.lstm_critic is None


# --- rl_zoo3's own loader ---


@pytest.mark.parametrize(("name", "env_id"), PAIRS)
def test_stock_rl_zoo3_reads_it(name, env_id, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(vars(exp_manager), "sb3_latent", sb3_latent)  # as sb3_latent.zoo does
    stock = next(cls for cls in exp_manager.ExperimentManager.__mro__ if cls.__module__ == exp_manager.__name__)
    manager = stock(argparse.Namespace(), name, env_id, str(tmp_path), config=str(FOLDER / f"{name}.yml"), verbose=0)
    hyperparams, saved = manager.read_hyperparameters()
    assert dict(saved) == section(name, env_id)
    arguments, env_wrapper, callbacks, _ = manager._preprocess_hyperparams(hyperparams)
    capsys.readouterr()
    assert manager.n_timesteps == saved["n_timesteps"] and manager.n_envs == saved.get("n_envs", 1)
    assert (env_wrapper is None) is ("env_wrapper" not in saved)
    assert len(callbacks) == len(saved.get("callback", [])) and all(isinstance(each, BaseCallback) for each in callbacks)
    assert arguments["policy"] == "CnnPolicy" or issubclass(arguments["policy"], BasePolicy)
    assert not any(isinstance(value, str) and value.startswith("sb3_latent.") for value in arguments.values())
    yaml.safe_load(yaml.safe_dump(dict(saved)))


def test_every_environment_exists():
    assert {env_id for _, env_id in PAIRS} <= set(gym.registry)
