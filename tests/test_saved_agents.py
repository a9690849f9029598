"""Whatever SB3, sb3-contrib or rl_zoo3 saved is opened, with an environment that fits."""

import json
import pickle
import sys
import zipfile
from collections import OrderedDict

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml
from algorithms import ALGORITHMS, NoiseImageEnv, make_model, tiny
from gymnasium import spaces
from stable_baselines3 import DDPG, PPO, SAC
from stable_baselines3.common.atari_wrappers import AtariWrapper, ClipRewardEnv
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize, VecTransposeImage

from sb3_latent import HistoryWrapper, SequenceReplayBuffer, SLACPolicy, latent_kwargs
from sb3_latent.saved_agents import env_like, load_agent, make_env_for

NOISE = "tests/SavedNoise-v0"


@pytest.fixture(autouse=True)
def environment():
    gym.register(NOISE, NoiseImageEnv, max_episode_steps=5)
    yield
    gym.registry.pop(NOISE)


@pytest.mark.parametrize("preset", [None, "vae"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_algorithm_is_found_in_the_file(tmp_path, name, preset):
    policy = "MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy"
    model = make_model(name, tiny(preset) if preset else {}, None if preset else policy)
    model.save(tmp_path / "model")
    loaded = load_agent(tmp_path / "model.zip", device="cpu")
    assert type(loaded) is type(model)
    pairs = zip(model.policy.parameters(), loaded.policy.parameters(), strict=True)
    assert all(th.equal(*pair) for pair in pairs)


def test_the_algorithm_may_be_named(tmp_path):
    model = DDPG("MlpPolicy", NoiseImageEnv(discrete=False), policy_kwargs={"net_arch": [8]}, buffer_size=50)
    model.save(tmp_path / "model")
    assert type(load_agent(tmp_path / "model")).__name__ == "TD3", "its parent, which has the same networks"
    assert type(load_agent(tmp_path / "model", "DDPG")) is DDPG
    with pytest.raises(ValueError, match=r"unknown algorithm 'dppg'.*ddpg"):
        load_agent(tmp_path / "model", "dppg")


def test_no_buffer_of_the_training_is_made(tmp_path):
    model = make_model("SAC", tiny("vae"), buffer_size=1000)
    model.save(tmp_path / "model")
    assert load_agent(tmp_path / "model").replay_buffer.buffer_size == 1


def test_a_model_of_windows_is_opened_without_its_sequences(tmp_path):
    env = HistoryWrapper(NoiseImageEnv(discrete=False), length=2)
    small = {
        "dynamics_kwargs": {"z1_dim": 3, "z2_dim": 4, "hidden": (8,)},
        "trunk": "mlp",
        "trunk_kwargs": {"net_arch": (16,)},
    }
    kwargs = {"replay_buffer_class": SequenceReplayBuffer, "buffer_size": 50, "device": "cpu"}
    model = SAC(SLACPolicy, env, policy_kwargs=latent_kwargs("slac", **small), **kwargs)
    model.save(tmp_path / "model")
    loaded = load_agent(tmp_path / "model")
    assert type(loaded) is SAC and loaded.observation_space == env.observation_space


def test_weights_that_are_not_finite_are_said(tmp_path):
    model = make_model("PPO", tiny("vae"))
    model.policy.value_net.bias.data.fill_(float("nan"))
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"model\.zip holds weights that are not finite \(value_net\.bias\)"):
        load_agent(tmp_path / "model")


def test_schedules_of_another_python_are_not_read(tmp_path):
    """SB3 pickles their code, which only the same version of Python can read."""
    make_model("PPO", tiny("vae"), learning_rate=lambda left: left).save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model.zip") as whole, zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        for name in whole.namelist():
            content = whole.read(name)
            if name == "data":
                data = json.loads(content)
                for schedule in ("learning_rate", "lr_schedule"):
                    data[schedule][":serialized:"] = "bm9uZQ=="
                content = json.dumps(data).encode()
            other.writestr(name, content)
    assert load_agent(tmp_path / "other").num_timesteps == 0


@pytest.mark.parametrize("content", [b"", b"PK", "text", "model of gym", pickle.dumps([1])])
def test_what_is_no_model_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "model.zip"
    if content == "text":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("data", "no json")
    elif content == "model of gym":
        make_model("PPO", tiny("vae")).save(path)
        with zipfile.ZipFile(path, "a") as file:
            data = json.loads(file.read("data"))
            data["policy_class"] = {":type:": "x", ":serialized:": "Z2FyYmFnZQ=="}
        rewritten = {name: zipfile.ZipFile(path).read(name) for name in zipfile.ZipFile(path).namelist()}
        with zipfile.ZipFile(path, "w") as file:
            for name, old in rewritten.items():
                file.writestr(name, json.dumps(data) if name == "data" else old)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.zip cannot be loaded \(.*\).*system_info") as error:
        load_agent(path)
    assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"no model .*other; give the zip"):
        load_agent(tmp_path / "other")


def saved(tmp_path, env, **kwargs):
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=8, policy_kwargs={"net_arch": [4]}, **kwargs)
    model.save(tmp_path / "model")
    return load_agent(tmp_path / "model")


@pytest.mark.parametrize("n_stack", [1, 3])
@pytest.mark.parametrize("n_envs", [1, 2])
def test_a_stack_is_found_by_what_the_model_observes(tmp_path, n_stack, n_envs):
    model = saved(tmp_path, VecFrameStack(make_vec_env(NOISE), n_stack))
    env = make_env_for(model, tmp_path / "model", NOISE, n_envs)
    assert env.num_envs == n_envs
    assert env.observation_space == model.observation_space
    assert model.predict(env.reset())[0].shape == (n_envs,)


def test_what_is_no_stack_is_not_stacked():
    """36 observations of CartPole have as many numbers as the image."""
    with pytest.raises(ValueError, match=r"CartPole-v1 has \[Box.* \(4,\), float32\), .*env_kwargs") as error:
        env_like(make_model("PPO", tiny("vae")), "CartPole-v1")
    assert len(str(error.value)) < 500


def test_games_of_atari_get_their_wrapper(tmp_path):
    pytest.importorskip("ale_py")
    space = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    env = DummyVecEnv([lambda: _Idle(space, spaces.Discrete(4))])
    env = make_env_for(saved(tmp_path, env), tmp_path / "model", "BreakoutNoFrameskip-v4")
    assert isinstance(env, VecTransposeImage) and isinstance(env.venv, VecFrameStack)
    assert env.env_is_wrapped(AtariWrapper) == [True]


class _Idle(gym.Env):
    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


def test_statistics_beside_the_model_are_used_and_kept(tmp_path):
    training = VecNormalize(make_vec_env("CartPole-v1"))
    model = PPO("MlpPolicy", training, n_steps=32, batch_size=32, policy_kwargs={"net_arch": [4]}).learn(32)
    model.save(tmp_path / "model")
    training.save(str(tmp_path / "vecnormalize.pkl"))
    env = make_env_for(load_agent(tmp_path / "model"), tmp_path / "model", "CartPole-v1")
    env.seed(0)
    observed = env.reset()
    for _ in range(10):
        env.step(np.zeros(1, dtype=np.int64))
    np.testing.assert_allclose(observed, training.normalize_obs(env.unnormalize_obs(observed)), rtol=1e-6)
    assert (env.obs_rms.mean == training.obs_rms.mean).all() and env.step(np.array([0]))[1] == 1


def test_what_rl_zoo3_wrote_beside_it_says_where_it_was_trained(tmp_path):
    make_model("PPO", tiny("vae")).save(tmp_path / "model")
    folder = tmp_path / NOISE.replace("/", "-")
    folder.mkdir()
    pairs = [("env", NOISE), ("env_kwargs", {"size": 12}), ("algo", "ppo_vae")]
    (folder / "args.yml").write_text(yaml.dump(OrderedDict(pairs)))
    (folder / "config.yml").write_text(yaml.dump(OrderedDict([("n_envs", 8), ("policy_kwargs", ("a", 1))])))
    model = load_agent(tmp_path / "model")
    assert make_env_for(model, tmp_path / "model").get_attr("spec")[0].id == NOISE
    with pytest.raises(ValueError, match=r"the model observes and acts in .* tests/SavedNoise-v0 has .*with its env_kwargs"):
        make_env_for(model, tmp_path / "model", env_kwargs={"size": 13})
    wrapper = f"{ClipRewardEnv.__module__}.{ClipRewardEnv.__name__}"
    (folder / "config.yml").write_text(yaml.dump({"env_wrapper": [wrapper]}))
    assert make_env_for(model, tmp_path / "model").env_is_wrapped(ClipRewardEnv) == [True]
    (folder / "args.yml").write_text("a: [")
    with pytest.raises(ValueError, match=r"args\.yml is no YAML of rl_zoo3"):
        make_env_for(model, tmp_path / "model")


def test_an_environment_of_ones_own_is_registered_by_its_module(tmp_path, monkeypatch):
    make_model("PPO", tiny("vae")).save(tmp_path / "model")
    model, own = load_agent(tmp_path / "model"), "tests/Own-v0"
    (tmp_path / "own_games.py").write_text(
        f"import gymnasium, algorithms\ngymnasium.register({own!r}, algorithms.NoiseImageEnv)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "env"
    folder.mkdir()
    (folder / "config.yml").write_text("n_envs: 1\n")
    for arguments, env_id in [({"env": own}, f"own_games:{own}"), ({"env": own, "gym_packages": ["own_games"]}, None)]:
        (folder / "args.yml").write_text(yaml.dump(arguments))
        assert make_env_for(model, tmp_path / "model", env_id).get_attr("spec")[0].id == own
        gym.registry.pop(own)
        sys.modules.pop("own_games")
    with pytest.raises(ValueError, match=r"'no_games', which is to register .* cannot be imported"):
        make_env_for(model, tmp_path / "model", f"no_games:{own}")


def test_what_cannot_be_made_or_normalised_here_is_one_line(tmp_path, monkeypatch):
    training = VecNormalize(make_vec_env("CartPole-v1"))
    model = saved(tmp_path, training)
    path = tmp_path / "vecnormalize.pkl"
    for content in (b"garbage", pickle.dumps(VecNormalize(make_vec_env("Pendulum-v1")))):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"vecnormalize\.pkl holds no statistics for this environment: .+"):
            make_env_for(model, tmp_path / "model", "CartPole-v1")

    def fail(*_, **__):
        raise RuntimeError("no\ndisplay")

    monkeypatch.setattr("gymnasium.envs.classic_control.cartpole.CartPoleEnv.__init__", fail)
    with pytest.raises(OSError, match=r"CartPole-v1 cannot be made here \(no display.*MUJOCO_GL=egl"):
        make_env_for(model, tmp_path / "model", "CartPole-v1")


def test_files_of_runs_run_nothing(tmp_path):
    make_model("PPO", tiny("vae")).save(tmp_path / "model")
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "args.yml").write_text(f"env: {NOISE}\nseed: !!python/object/apply:os.rmdir [{victim}]\n")
    make_env_for(load_agent(tmp_path / "model"), tmp_path / "model")
    assert victim.exists()


@pytest.mark.parametrize(
    "env_id, match",
    [
        (None, "model.zip does not say where it was trained; name the environment by --env"),
        ("tests/SavedNoise-v1", "unknown environment 'tests/SavedNoise-v1'; did you mean"),
        ("CartPole-v1", "the model observes and acts in .Box.*CartPole-v1 has .Box"),
    ],
)
def test_an_environment_that_does_not_fit_is_refused(tmp_path, env_id, match):
    make_model("PPO", tiny("vae")).save(tmp_path / "model")
    with pytest.raises(ValueError, match=match) as error:
        make_env_for(load_agent(tmp_path / "model"), tmp_path / "model", env_id)
    assert "\n" not in str(error.value)
