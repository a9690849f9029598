"""The probe callback: what it logs, whom it warns, and that training is the same with and without it."""

import csv
import importlib.util
import inspect
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml
from algorithms import NoiseImageEnv, make_model, tiny
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize
from unchanged import assert_same, snapshot

from sb3_latent import saved_agents
from sb3_latent.callbacks import ProbeCallback
from sb3_latent.envs import TINY_BALL_ID
from sb3_latent.models import get_extractor
from sb3_latent.probes import collect, probe_dataset
from sb3_latent.tuning.agents import make_callbacks

SHARED = {True: spaces.Discrete(3), False: spaces.Box(-1, 1, (1,), np.float32)}


class Grey(NoiseImageEnv):
    """Noise of one brightness, which ``info`` tells; so does a number that nobody can see."""

    def __init__(self, discrete=True):
        super().__init__(discrete)
        # The model's own is the same object.
        self.action_space = SHARED[discrete]
        # As some worlds build themselves.
        np.random.rand(), th.rand(1)

    def reset(self, *, seed=None, options=None):
        observation, _ = super().reset(seed=seed, options=options)
        return observation, self._info()

    def step(self, action):
        observation, reward, terminated, truncated, _ = super().step(action)
        return observation, reward, terminated, truncated, self._info()

    def _draw(self):
        self.grey = int(self.np_random.integers(30, 220))
        self._image = self.np_random.integers(self.grey - 9, self.grey + 9, self.observation_space.shape, dtype=np.uint8)
        return self._image

    def _info(self):
        return {"grey": float(self.grey), "unseen": float(self.np_random.normal())}


gym.register("Grey-v0", entry_point=Grey)


def make(name="PPO", preset="vae", **kwargs):
    env = make_vec_env("Grey-v0", 1, env_kwargs={"discrete": name != "SAC"})
    if preset is not None:
        return make_model(name, tiny(preset), env=env, **kwargs)
    policy = "MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy"
    return make_model(name, {}, policy, env=env, **kwargs)


def callback(**kwargs):
    return ProbeCallback(**{"every": 16, "n_steps": 300, **kwargs})


def learn(model, n_timesteps, folder, watcher, formats=("csv", "stdout", "log", "json", "tensorboard")):
    model.set_logger(configure(str(folder), list(formats)))
    model.learn(n_timesteps, callback=watcher)
    model.logger.close()
    with (folder / "progress.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return [row for row in rows if "probe/grey" in row]


def test_it_logs_what_probe_dataset_finds(tmp_path):
    model, watcher = make(), callback(verbose=1)
    rows = learn(model, 48, tmp_path, watcher)
    assert len(rows) == 3
    assert {name for name in rows[0] if name.startswith("probe/")} == {
        "probe/grey", "probe/grey_floor", "probe/unseen", "probe/unseen_floor"
    }  # fmt: skip
    dataset = collect(None, make_vec_env("Grey-v0", 10), n_steps=300)
    oracle = probe_dataset(model, dataset, ["linear"])
    assert rows[-1]["probe/grey"] == pytest.approx(oracle.score("grey").value, rel=1e-6)
    assert rows[-1]["probe/grey_floor"] == pytest.approx(oracle.score("grey", source="constant").value, rel=1e-6)
    assert oracle.score("grey").value > 0.8 > 0.1 > rows[-1]["probe/unseen"]
    assert sorted(map(repr, watcher.report.scores)) == sorted(map(repr, oracle.scores))
    assert watcher.report.table().split() == oracle.table().split()


def test_the_dataset_is_collected_once_and_floors_are_fitted_once(monkeypatch):
    import sb3_latent.probes as probes
    from sb3_latent.probes import probing

    calls = []
    for module, name in ((probes, "collect"), (probing, "with_fresh_weights"), (probing, "_principal_components")):
        original = getattr(module, name)

        def counted(*args, name=name, original=original, **kwargs):
            calls.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)
    watcher, model = callback(), make()
    model.learn(64, callback=watcher)
    assert watcher.report is not None and calls == ["collect", "with_fresh_weights", "_principal_components"]
    model.learn(32, callback=watcher, reset_num_timesteps=False)
    assert calls.count("collect") == 1


@pytest.mark.parametrize("name", ["PPO", "RecurrentPPO", "DQN", "SAC"])
@pytest.mark.parametrize("preset", ["vae", None])
def test_training_is_the_same_with_and_without(name, preset, tmp_path):
    def trained(watcher):
        model = make(name, preset, **({"learning_starts": 4, "exploration_fraction": 1.0} if name == "DQN" else {}))
        learn(model, 40, tmp_path, watcher, ["csv"])
        before = snapshot(model)
        before["next action"] = model.action_space.sample()
        return before

    watcher = callback()
    plain, watched = trained(None), trained(watcher)
    assert watcher.report is not None
    assert_same(plain, watched, "model")


def test_a_look_changes_nothing():
    class Compare(ProbeCallback):
        n_looks = 0

        def _look_now(self):
            before = snapshot(self.model)
            super()._look_now()
            assert_same(before, snapshot(self.model), "model")
            self.n_looks += 1

    watcher = Compare(every=16, n_steps=300)
    make().learn(48, callback=watcher)
    assert watcher.n_looks == 3


class Forgetting(ProbeCallback):
    """
    The encoder is blind in these looks.

    :param blind: numbers of looks, from 0.
    """

    def __init__(self, blind, **kwargs):
        super().__init__(every=16, n_steps=300, **kwargs)
        self.blind, self.n_looks = blind, 0

    def _look(self, observations):
        encoders = get_extractor(self.model).encoders
        state = {key: value.clone() for key, value in encoders.state_dict().items()}
        if self.n_looks in self.blind:
            for parameter in encoders.parameters():
                parameter.zero_()
        self.n_looks += 1
        super()._look(observations)
        encoders.load_state_dict(state)


def warnings_of(watcher, n_looks):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make().learn(16 * n_looks, callback=watcher)
    assert watcher.n_looks == n_looks
    return [str(one.message) for one in caught if "has lost" in str(one.message)]


def test_a_variable_that_falls_to_the_floor_is_named_once():
    (message,) = warnings_of(Forgetting({1, 2, 3, 4}, patience=2), 5)
    assert "has lost 'grey' at step 48: r2" in message and "2 times in a row" in message


@pytest.mark.parametrize(
    ("blind", "n_warnings"), [({1, 3, 4}, 1), ({1, 3}, 0), (set(), 0), ({0, 1, 2, 3, 4}, 1), ({1, 2, 4, 5}, 2)]
)
def test_a_short_loss_is_forgiven_and_what_was_never_held_is_not_lost(blind, n_warnings):
    messages = warnings_of(Forgetting(blind, patience=2), 6 if 5 in blind else 5)
    assert len(messages) == n_warnings and not any("unseen" in message for message in messages)


def test_a_second_model_has_lost_nothing_that_the_first_one_held():
    watcher, blind = callback(patience=1), make()
    make().learn(16, callback=watcher)
    with th.no_grad():
        for parameter in get_extractor(blind).encoders.parameters():
            parameter.zero_()
    get_extractor(blind).frozen = True
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the representation has lost")
        blind.learn(32, callback=watcher)
    assert "grey" in watcher.report.at_floor()


def test_it_is_made_from_yaml():
    arguments = "{env: Grey-v0, labels: [grey], every: 16, n_steps: 300}"
    text = f"callback:\n- sb3_latent.callbacks.ProbeCallback: {arguments}\n"
    (watcher,) = make_callbacks(yaml.safe_load(text))
    make().learn(16, callback=watcher)
    assert watcher.report.variables == ["grey"]


def test_without_scikit_learn_only_this_callback_is_refused(monkeypatch):
    source = Path(inspect.getfile(ProbeCallback)).read_text()
    assert not any(line.startswith("from sb3_latent.probes") for line in source.splitlines())
    for name in [name for name in sys.modules if name.startswith("sb3_latent.probes")]:
        monkeypatch.delitem(sys.modules, name)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "sklearn" else find_spec(name, *rest))
    with pytest.raises(ImportError, match=r"needs scikit-learn: pip install sb3_latent\[inspect\]"):
        ProbeCallback()


def test_the_training_environment_is_made_again(monkeypatch):
    made = []
    real = saved_agents.make_env

    def spy(env_id, hyperparams, n_envs, seed):
        made.append((env_id, hyperparams, n_envs))
        return real(env_id, hyperparams, n_envs, seed)

    monkeypatch.setattr("sb3_latent.saved_agents.make_env", spy)
    env = VecFrameStack(make_vec_env(TINY_BALL_ID, 2, env_kwargs={"ball_size": 6}), 3)
    model = PPO("CnnPolicy", env, n_steps=8, batch_size=8, policy_kwargs={"net_arch": [4]}, device="cpu")
    watcher = callback(labels=["paddle_x"], n_steps=400)
    model.learn(16, callback=watcher)
    assert made == [(TINY_BALL_ID, {"env_kwargs": {"ball_size": 6}}, 10)]
    assert watcher.report.score("paddle_x").value > 0.2


class State(gym.Env):
    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n_steps = 0
        return self._look()

    def step(self, action):
        self.n_steps += 1
        observation, info = self._look()
        return observation, 0.0, self.n_steps == 9, False, info

    def _look(self):
        x = self.np_random.normal(500, 100)
        return np.array([x, 1e3, self.np_random.normal()], np.float32), {"x": x}


def test_normalised_observations_are_seen_as_the_model_sees_them():
    model = PPO("MlpPolicy", VecNormalize(DummyVecEnv([State])), n_steps=16, batch_size=8, device="cpu")
    seen = []

    class Spy(ProbeCallback):
        def _look(self, observations):
            super()._look(observations)
            seen.append(self.report)

    model.learn(48, callback=Spy(DummyVecEnv([State] * 2), every=16, n_steps=300))
    normalize = model.get_vec_normalize_env()
    raw = collect(None, DummyVecEnv([State] * 2), n_steps=300)
    normalized = type(raw)(normalize.normalize_obs(raw.observations), raw.labels, raw.episodes, raw.observation_space)
    oracle = probe_dataset(model, normalized, ["linear"])
    assert seen[-1].score("x") == oracle.score("x") and oracle.score("x").value > 0.9
    assert seen[0].score("x", source="pca") != seen[-1].score("x", source="pca")
    stacked = VecFrameStack(VecNormalize(DummyVecEnv([State])), 2)
    with pytest.raises(ValueError, match=r"stack first: VecNormalize\(VecFrameStack"):
        PPO("MlpPolicy", stacked, n_steps=16, batch_size=8, device="cpu").learn(
            16, callback=ProbeCallback(VecFrameStack(DummyVecEnv([State]), 2), n_steps=300)
        )
    with pytest.raises(ValueError, match="drop VecNormalize"):
        model.learn(16, callback=callback(env=VecNormalize(DummyVecEnv([State]))))


def test_long_names_do_not_break_the_table(tmp_path):
    def long(env, info):
        return {"a_variable_with_a_very_long_name_" + end: info["grey"] for end in ("x", "y")}

    model = make()
    model.set_logger(configure(str(tmp_path), ["stdout", "log", "csv"]))
    model.learn(16, callback=callback(labels=long))
    model.logger.close()
    assert "probe/a_variable_with_a_very_long_name_y_floor" in (tmp_path / "progress.csv").read_text()


def test_bad_input_is_one_line_before_training():
    model = make()
    cases = {
        "every=0 must be": {"every": 0},
        "n_steps=0 must be": {"n_steps": 0},
        "patience=0 must be": {"patience": 0},
        "unknown environment 'Gray-v0'; did you mean 'Grey-v0'": {"env": "Gray-v0"},
        "unknown entry of info: 'gray'; did you mean 'grey'": {"labels": ["gray"]},
        "CartPole-v1 has .*; name the one it was trained in": {"env": "CartPole-v1"},
        "the model trains in; make another": {"env": model.get_env()},
        "no variable is worth a probe: fixed is the same": {"labels": lambda env, info: {"fixed": 1.0}},
        "a split by episode needs 10": {"env": make_vec_env("Grey-v0", 1), "n_steps": 20},
    }
    for message, kwargs in cases.items():
        with pytest.raises(ValueError, match=message):
            model.learn(16, callback=callback(**kwargs))
        assert model.num_timesteps == 0
    nameless = make_model("PPO", tiny("vae"), env=Grey())
    with pytest.raises(ValueError, match="training environment has no id; pass env"):
        nameless.learn(16, callback=callback())
