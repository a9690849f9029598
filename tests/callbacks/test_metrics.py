"""The metrics callback: what it logs and when, that looking changes nothing, and whom it warns."""

import csv
import random
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from algorithms import ALGORITHMS, NoiseImageEnv, control, make_model, tiny
from gymnasium import spaces
from stable_baselines3 import PPO, SAC, HerReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_latent import latent_kwargs
from sb3_latent.callbacks import LatentMetricsCallback
from sb3_latent.models import get_extractor
from sb3_latent.representation import active_units, effective_rank, kl_per_dimension


def learn(model, n_timesteps, folder, callback, formats=("csv", "tensorboard", "stdout", "log", "json")):
    """:return: the rows of the CSV file and the TensorBoard log."""
    model.set_logger(configure(str(folder), list(formats)))
    model.learn(n_timesteps, callback=callback)
    model.logger.close()
    with (folder / "progress.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return rows, EventAccumulator(str(folder)).Reload()


def column(rows, name):
    return [row[name] for row in rows if name in row]


def names_of(rows, prefix):
    return {name for row in rows for name in row if name.startswith(prefix)}


VAE_NAMES = {
    "auxiliary/recon",
    "auxiliary/kl",
    "auxiliary/coef_recon",
    "auxiliary/coef_kl",
    "auxiliary/kappa",
    "auxiliary/rl_gradient_norm",
    "auxiliary/auxiliary_gradient_norm",
    "auxiliary/gradient_cosine",
    "latent/active_units",
    "latent/effective_rank",
    "latent/kl_sum",
    "latent/dead_units",
}


def test_everything_is_logged_under_its_name(tmp_path):
    model = make_model("PPO", tiny("vae", kappa=3.0, coefs={"kl": 0.25}))
    rows, events = learn(model, 48, tmp_path, LatentMetricsCallback(every=16))
    assert names_of(rows, "auxiliary/") | names_of(rows, "latent/") == VAE_NAMES
    assert column(rows, "auxiliary/kappa") == [3.0] * 3
    assert column(rows, "auxiliary/coef_kl") == [0.25] * 3
    per_dimension = {f"latent/kl_{dimension}" for dimension in range(4)}
    scalars = set(events.Tags()["scalars"])
    assert {name for name in scalars if name.startswith(("auxiliary/", "latent/"))} == {
        *VAE_NAMES,
        *per_dimension,
        "latent/dead_units/trunk.layers.2",
    }
    summed = sum(events.Scalars(name)[-1].value for name in per_dimension)
    assert summed == pytest.approx(events.Scalars("latent/kl_sum")[-1].value, rel=1e-5)


def test_every_update_is_written_once_in_the_row_of_its_losses(tmp_path):
    seen = []

    class Count(LatentMetricsCallback):
        def _record(self, name, value):
            if name == "auxiliary/recon":
                seen.append(value)
            super()._record(name, value)

    rows, events = learn(make_model("PPO", tiny("vae")), 64, tmp_path, Count(every=16))
    assert column(rows, "train/n_updates") == [1, 2, 3, 4]
    with_losses = [row for row in rows if "train/loss" in row]
    assert column(with_losses, "auxiliary/recon") == pytest.approx(seen)
    assert len(with_losses) == len(seen) == 4
    assert [scalar.step for scalar in events.Scalars("auxiliary/recon")] == [32, 48, 64, 64]


class Losses(BaseCallback):
    """Every single loss of every gradient step, as the tasks return it."""

    def _on_step(self):
        return True

    def _on_training_start(self):
        self.seen = seen = []
        tasks = get_extractor(self.model).tasks
        record = tasks.record

        def spy(losses, num_timesteps):
            seen.append(losses["recon"].item())
            record(losses, num_timesteps)

        tasks.record = spy


def test_losses_are_means_over_the_steps_since_the_last_log(tmp_path):
    losses = Losses()
    rows, _ = learn(make_model("PPO", tiny("vae")), 64, tmp_path, [losses, LatentMetricsCallback(every=32)], ["csv"])
    assert len(losses.seen) == 8
    expected = [np.mean(losses.seen[:4]), np.mean(losses.seen[4:])]
    assert column(rows, "auxiliary/recon") == pytest.approx(expected, rel=1e-5)


def test_the_latent_is_measured_on_the_rollout_it_learned_from(tmp_path):
    model = make_model("PPO", tiny("vae"))
    kept = {}

    class Keep(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            kept["observations"] = th.as_tensor(self.model.rollout_buffer.observations.reshape(-1, 1, 12, 12)) / 255

    rows, events = learn(model, 32, tmp_path, [Keep(), LatentMetricsCallback(every=1_000, n_observations=16)])
    extractor = get_extractor(model)
    with th.no_grad():
        latent = extractor.encode(kept["observations"])
        hidden = extractor.encoders["observation"].trunk(kept["observations"])
    assert len(names_of(rows, "latent/")) == 4
    assert column(rows, "latent/kl_sum") == pytest.approx([kl_per_dimension(latent).sum().item()])
    assert column(rows, "latent/active_units") == [active_units(latent.mean)]
    assert column(rows, "latent/effective_rank") == pytest.approx([effective_rank(latent.mean)])
    dead = (hidden == 0).all(0).float().mean().item()
    assert column(rows, "latent/dead_units") == pytest.approx([dead])
    assert events.Scalars("latent/kl_2")[-1].value == pytest.approx(kl_per_dimension(latent)[2].item())


def test_short_rollouts_are_gathered():
    model = make_model("A2C", tiny("ae"))
    sizes = []

    class Sizes(LatentMetricsCallback):
        def _look(self, observations):
            sizes.append(len(observations))

    model.learn(40, callback=Sizes(every=8, n_observations=20))
    assert sizes == [8, 16, 20, 20, 20]


@pytest.mark.filterwarnings("ignore:latent .* has collapsed")
@pytest.mark.parametrize("name", ALGORITHMS)
def test_it_works_for_every_algorithm(name, tmp_path):
    rows, _ = learn(make_model(name, tiny("vae")), 48, tmp_path, LatentMetricsCallback(every=10), ["csv", "tensorboard"])
    assert names_of(rows, "latent/") == {name for name in VAE_NAMES if name.startswith("latent/")}
    assert names_of(rows, "auxiliary/") >= {"auxiliary/recon", "auxiliary/kl", "auxiliary/kappa"}
    assert all(np.isfinite(list(row.values())).all() for row in rows)


def everything(model):
    policy = model.policy
    return {
        **{f"weight {name}": tensor.clone() for name, tensor in policy.state_dict().items() if isinstance(tensor, th.Tensor)},
        **{f"grad {name}": None if p.grad is None else p.grad.clone() for name, p in policy.named_parameters()},
        **{f"training {name}": module.training for name, module in policy.named_modules()},
        "torch": th.get_rng_state(),
        "numpy": str(np.random.get_state()),
        "python": random.getstate(),
    }


@pytest.mark.filterwarnings("ignore:latent .* has collapsed")
@pytest.mark.parametrize("name", ["PPO", "SAC", "CrossQ"])
def test_looking_leaves_the_model_as_it_was(name):
    class Compare(LatentMetricsCallback):
        n_looks = 0

        def _look_now(self):
            before = everything(self.model)
            super()._look_now()
            after = everything(self.model)
            for what, value in before.items():
                assert th.equal(value, after[what]) if isinstance(value, th.Tensor) else value == after[what], what

        def _look(self, observations):
            assert not any(module.training for module in self.model.policy.modules())
            assert not th.is_grad_enabled()
            th.rand(1)
            super()._look(observations)
            self.n_looks += 1

    callback = Compare(every=2)
    make_model(name, tiny("vae")).learn(32, callback=callback)
    assert callback.n_looks >= 2


@pytest.mark.filterwarnings("ignore:latent .* has collapsed")
@pytest.mark.parametrize("name", ["PPO", "A2C", "DQN", "SAC"])
def test_training_is_the_same_with_and_without(name):
    plain = make_model(name, tiny("vae")).learn(32)
    watched = make_model(name, tiny("vae")).learn(32, callback=LatentMetricsCallback(every=1))
    for key, value in plain.policy.named_parameters():
        assert th.equal(value, watched.policy.get_parameter(key)), key


def test_a_model_without_tasks_has_no_losses(tmp_path):
    rows, _ = learn(make_model("PPO", control("ae")), 32, tmp_path, LatentMetricsCallback(every=16))
    assert names_of(rows, "auxiliary/") == {"auxiliary/kappa"}
    assert names_of(rows, "latent/") == {"latent/active_units", "latent/effective_rank", "latent/dead_units"}


def test_wide_latents_get_the_sum_of_their_kl_alone(tmp_path):
    model = make_model("PPO", tiny("vae", latent_dim=33, trunk_kwargs={"net_arch": (40,)}))
    _, events = learn(model, 16, tmp_path, LatentMetricsCallback(), ["csv", "tensorboard"])
    assert [name for name in events.Tags()["scalars"] if name.startswith("latent/kl_")] == ["latent/kl_sum"]


def test_frames_of_a_stack_are_rows_of_one_latent(tmp_path):
    class Stack(NoiseImageEnv):
        def __init__(self):
            super().__init__()
            self.observation_space = spaces.Box(0, 255, (3, 12, 12), np.uint8)

    model = make_model("PPO", tiny("vae", per_frame=True, n_frames=3), env=Stack())
    rows, events = learn(model, 16, tmp_path, LatentMetricsCallback(), ["csv", "tensorboard"])
    assert column(rows, "latent/active_units")[0] <= 4
    assert "latent/kl_3" in events.Tags()["scalars"] and "latent/kl_4" not in events.Tags()["scalars"]


class LongNames(gym.Env):
    """Keys whose names SB3's table cuts to the same 36 characters."""

    keys = ("observation_images_camera_left", "observation_images_camera_right")
    observation_space = spaces.Dict({key: spaces.Box(0, 255, (1, 12, 12), np.uint8) for key in keys})
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.mark.parametrize("cls, settings", [(PPO, {"n_steps": 16, "batch_size": 8}), (SAC, {"learning_starts": 4})])
def test_dict_observations_are_logged_key_by_key(cls, settings, tmp_path):
    kwargs = {**tiny("vae"), "net_arch": [4]}
    model = cls("MultiInputPolicy", LongNames(), policy_kwargs=kwargs, seed=0, device="cpu", **settings)
    rows, events = learn(model, 20, tmp_path, LatentMetricsCallback(every=10))
    for key in LongNames.keys:
        assert {f"auxiliary/kl/{key}", f"auxiliary/coef_recon/{key}", f"latent/active_units/{key}"} <= names_of(rows, "")
        assert f"latent/kl_0/{key}" in events.Tags()["scalars"]
        assert f"latent/dead_units/{key}/trunk.layers.2" in events.Tags()["scalars"]


def test_normalised_replay_is_measured_as_the_model_reads_it():
    class Vector(gym.Env):
        observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        action_space = spaces.Box(-1, 1, (1,), np.float32)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.full(3, 1e3, np.float32), {}

        def step(self, action):
            return self.np_random.normal(1e3, 10, 3).astype(np.float32), 0.0, False, False, {}

    seen = []

    class Keep(LatentMetricsCallback):
        def _look(self, observations):
            seen.append(observations.abs().max().item())

    env = VecNormalize(DummyVecEnv([Vector]))
    model = SAC("MlpPolicy", env, policy_kwargs={**tiny("ae"), "net_arch": [4]}, learning_starts=4, device="cpu")
    model.learn(20, callback=Keep(every=10))
    assert len(seen) == 2 and max(seen) <= 10


def test_hindsight_replay_is_sampled_only_once_it_holds_an_episode():
    env = BitFlippingEnv(n_bits=3, continuous=True, max_steps=3)
    settings = {"replay_buffer_class": HerReplayBuffer, "buffer_size": 50, "learning_starts": 6, "batch_size": 4}
    kwargs = {**latent_kwargs("ae", latent_dim=2), "net_arch": [4]}
    model = SAC("MultiInputPolicy", env, policy_kwargs=kwargs, **settings)
    model.learn(12, callback=LatentMetricsCallback(every=1))


def plant(model):
    """Make the encoder forget its input."""
    head = get_extractor(model).encoders["observation"].head
    with th.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    get_extractor(model).frozen = True
    return model


@pytest.mark.parametrize("preset", ["vae", "ae"])
def test_a_collapsed_latent_is_warned_of_once_by_name(preset):
    model = plant(make_model("PPO", tiny(preset)))
    with pytest.warns(UserWarning, match="latent 'observation' has collapsed at step 32") as caught:
        model.learn(96, callback=LatentMetricsCallback(every=16, patience=2))
    assert len([warning for warning in caught if "collapsed" in str(warning.message)]) == 1


def test_a_collapse_shorter_than_patience_is_forgiven():
    model = make_model("PPO", tiny("vae"))
    collapsed = iter([True, True, False] * 2)

    class Sometimes(LatentMetricsCallback):
        def _warn_if_collapsed(self, name, latent):
            scale = 0.0 if next(collapsed) else 1.0
            super()._warn_if_collapsed(name, type(latent)(latent.mean * scale, latent.log_var * 0))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(96, callback=Sometimes(every=16, patience=3))


class Brightness(NoiseImageEnv):
    """Every image is of one grey, which a latent can hold."""

    def _draw(self):
        self._image = np.full(self.observation_space.shape, self.np_random.integers(1, 256), np.uint8)
        return self._image


@pytest.mark.parametrize("name", ["PPO", "SAC"])
@pytest.mark.parametrize("preset", ["vae", "ae", "rae"])
def test_a_healthy_run_is_not_warned_of(name, preset):
    model = make_model(name, tiny(preset), env=Brightness(ALGORITHMS[name].discrete), learning_rate=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(64, callback=LatentMetricsCallback(every=8))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"every": 0}, "every=0 must be an integer of at least 1"),
        ({"every": 1e4}, "every=10000.0 must be an integer"),
        ({"n_observations": 1}, "n_observations=1 must be an integer of at least 2"),
        ({"patience": 0}, "patience=0 must be"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        LatentMetricsCallback(**settings)


def test_a_model_without_encoder_is_refused_before_training():
    model = make_model("PPO", {}, policy="MlpPolicy")
    with pytest.raises(TypeError, match="PPO has no LatentExtractor; build it with policy_kwargs=latent_kwargs"):
        model.learn(16, callback=LatentMetricsCallback())
    assert model.num_timesteps == 0


def test_a_run_that_ends_in_its_first_rollout_writes_nothing_wrong():
    class Stop(BaseCallback):
        def _on_step(self):
            return self.num_timesteps < 5

    make_model("PPO", tiny("vae")).learn(16, callback=[Stop(), LatentMetricsCallback(every=1)])
    make_model("SAC", tiny("vae")).learn(16, callback=[Stop(), LatentMetricsCallback(every=1)])
