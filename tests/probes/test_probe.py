"""Scores and floors are where they must be, and what is looked at stays as it was."""

import copy
import importlib.util
import json
import random
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from sb3_latent import LatentSACPolicy, get_extractor, latent_kwargs, save_encoder
from sb3_latent.envs import PIXEL_PENDULUM_ID, TINY_BALL_ID
from sb3_latent.probes import Dataset, collect, encode, probe, probe_dataset
from sb3_latent.probes.encoders import with_fresh_weights
from sb3_latent.probes.fits import MAX_EPOCHS, _trained, predictions
from sb3_latent.probes.splits import split_by_episode

N, N_EPISODES = 600, 20
EPISODES = np.repeat(np.arange(N_EPISODES), N // N_EPISODES)
RNG = np.random.default_rng(0)
NUMBER = RNG.normal(size=N)
CATEGORY = RNG.integers(0, 4, N).astype(np.uint8)
SPACE = spaces.Box(-10, 10, (9,), np.float32)
TINY = {"trunk": "seed84", "trunk_kwargs": {"channels": [8, 8], "hidden_dim": 32}, "latent_dim": 6}


def identity(latents):
    return latents


def dataset_of(latents, labels, episodes=EPISODES):
    return Dataset(latents, labels, episodes, SPACE)


@pytest.fixture(scope="module")
def knowing():
    """Latents that hold both labels among noise."""
    latents = np.c_[RNG.normal(size=(N, 3)), 5 * NUMBER - 2, np.eye(4)[CATEGORY]]
    return probe_dataset(identity, dataset_of(latents, {"number": NUMBER, "category": CATEGORY}))


@pytest.fixture(scope="module")
def ignorant():
    return probe_dataset(identity, dataset_of(RNG.normal(size=(N, 5)), {"number": NUMBER, "category": CATEGORY}))


def test_identity_latents_score_one(knowing):
    assert knowing.score("number").value > 0.9999
    assert knowing.score("number", "mlp").value > 0.97
    for kind in ("linear", "mlp"):
        for metric in ("f1", "accuracy"):
            assert knowing.score("category", kind, metric=metric).value > 0.99
        assert knowing.at_floor(probe=kind) == []


def test_noise_scores_the_floor(ignorant):
    floor = ignorant.score("number", source="constant")
    assert abs(floor.value) < 0.05
    for kind in ("linear", "mlp"):
        assert ignorant.score("number", kind).value < 0.05
        assert ignorant.score("category", kind, metric="accuracy").value == pytest.approx(0.25, abs=0.12)
        assert "number" in ignorant.at_floor(probe=kind)
    assert abs(ignorant.score("number").value - floor.value) < 0.05
    majority = ignorant.score("category", source="constant", metric="accuracy")
    test = split_by_episode(dataset_of(np.zeros((N, 1)) + np.arange(N)[:, None], {"x": NUMBER}), 0)
    _, counts = np.unique(CATEGORY[test.train], return_counts=True)
    assert majority.value == np.mean(CATEGORY[test.test] == counts.argmax())


def test_an_interrupt_ends_an_mlp(monkeypatch):
    """scikit-learn makes a warning of it, and goes on."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sklearn.neural_network._multilayer_perceptron.BaseMultilayerPerceptron._backprop", interrupted)
    rows = (np.zeros((4, 1)), np.arange(4.0))
    with pytest.raises(KeyboardInterrupt):
        predictions("mlp", False, rows, rows, rows[0], 0)


def test_an_mlp_reads_what_a_line_cannot():
    report = probe_dataset(identity, dataset_of(np.c_[NUMBER, RNG.normal(size=N)], {"bent": NUMBER**2}))
    assert report.score("bent").value < 0.1
    assert report.score("bent", "mlp").value > 0.8


def test_what_tells_episodes_apart_tells_nothing():
    """The rows of an episode are alike: a split by row would score 1."""
    value, code = RNG.normal(size=N_EPISODES)[EPISODES], np.eye(N_EPISODES)[EPISODES] + 1e-3 * RNG.normal(size=(N, 1))
    report = probe_dataset(identity, dataset_of(code, {"of_episode": value}), ["linear"])
    assert report.score("of_episode").value < 0.1
    assert report.at_floor() == ["of_episode"]


def test_parts_share_no_episode_and_no_observation():
    latents = np.arange(N, dtype=float)[:, None].repeat(2, 1)
    latents[1::6] = 7.0
    dataset = dataset_of(latents, {"x": NUMBER})
    split = split_by_episode(dataset, seed=3)
    parts = [set(EPISODES[rows]) for rows in split[:3]]
    assert [len(part) for part in parts] == [14, 2, 4]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert split.n_duplicates == 4 * 5
    assert len(split.test) == 4 * 25 and not (latents[split.test] == 7.0).any()
    assert (split_by_episode(dataset, seed=4).test[:5] != split.test[:5]).any()


def test_dict_observations_are_duplicates_only_where_all_keys_are():
    observations = {"same": np.zeros((N, 1)), "differs": np.arange(N)[:, None]}
    assert split_by_episode(dataset_of(observations, {"x": NUMBER}), 0).n_duplicates == 0
    report = probe_dataset(lambda batch: batch["differs"], dataset_of(observations, {"x": NUMBER}), ["linear"])
    assert report.latent_dim == 1


def test_what_does_not_vary_is_skipped_and_said():
    labels = {"x": NUMBER, "same": np.ones(N), "rare": np.arange(N) % 10 == 0, "byte": CATEGORY}
    report = probe_dataset(identity, dataset_of(RNG.normal(size=(N, 2)), labels), ["linear"])
    assert report.variables == ["x", "byte"]
    assert report.skipped == {
        "same": "the same in all train rows",
        # -(0.1 log 0.1 + 0.9 log 0.9)
        "rare": "its entropy of 0.33 nats is below 0.6",
    }
    with pytest.raises(KeyError, match="was not probed: its entropy"):
        report.score("rare")
    with pytest.raises(ValueError, match="no variable is worth a probe: same is the same in all train rows"):
        probe_dataset(identity, dataset_of(RNG.normal(size=(N, 2)), {"same": np.ones(N)}))


def test_strings_and_booleans_are_classes():
    side = np.where(NUMBER > 0, "right", "left")
    report = probe_dataset(identity, dataset_of(np.c_[NUMBER, NUMBER], {"side": side, "is_right": NUMBER > 0}))
    for name in ("side", "is_right"):
        assert report.score(name).metric == "f1"
        assert min(report.score(name, kind).value for kind in ("linear", "mlp")) > 0.95


def test_the_report_is_data_and_a_table(knowing, ignorant):
    data = json.loads(knowing.to_json())
    assert data["n_rows"] == {"train": 420, "validation": 60, "test": 120, "duplicates": 0}
    assert data["n_episodes"] == {"train": 14, "validation": 2, "test": 4}
    # 1 + 2 metrics, of 2 sources by 2 probes and of a constant.
    assert len(data["scores"]) == 3 * (2 * 2 + 1)
    number = data["scores"][0]
    assert (number["variable"], number["source"], number["probe"], number["metric"]) == ("number", "model", "linear", "r2")
    assert number["low"] <= number["value"] <= number["high"]
    table = knowing.table().splitlines()
    assert table[0].split() == ["variable", "metric", "probe", "model", "random", "pca", "constant"]
    assert table[1].startswith("number    r2        linear  1.00 [1.00, 1.00]  -")
    assert "no floor of fresh weights" in table[-1]
    with pytest.raises(KeyError, match="unknown variable 'nmber'; did you mean 'number'"):
        knowing.score("nmber")
    with pytest.raises(KeyError, match="no score of probe 'linear' on 'random'"):
        knowing.score("number", source="random")


def test_equal_seeds_equal_reports():
    latents = RNG.normal(size=(N, 3))
    dataset = dataset_of(latents, {"x": latents[:, 0] + NUMBER})
    assert probe_dataset(identity, dataset, seed=1) == probe_dataset(identity, dataset, seed=1)
    assert probe_dataset(identity, dataset, seed=1) != probe_dataset(identity, dataset, seed=2)


def test_bad_input_is_one_line():
    latents = RNG.normal(size=(N, 2))
    fine = dataset_of(latents, {"x": NUMBER})
    with pytest.raises(ValueError, match="9 episodes in 270 observations: a split by episode needs 10"):
        probe_dataset(identity, dataset_of(latents[:270], {"x": NUMBER[:270]}, EPISODES[:270]))
    with pytest.raises(ValueError, match="nothing new to test on"):
        probe_dataset(identity, dataset_of(np.zeros((N, 2)), {"x": NUMBER}))
    with pytest.raises(ValueError, match="unknown probe 'liner'; did you mean 'linear'"):
        probe_dataset(identity, fine, ["liner"])
    with pytest.raises(ValueError, match=r"probes=\[\] must be a sequence"):
        probe_dataset(identity, fine, [])
    with pytest.raises(ValueError, match="values that are not finite; there is nothing to probe"):
        probe_dataset(lambda z: z * np.nan, fine)
    with pytest.raises(ValueError, match=r"makes \(256,\) of 256 observations"):
        probe_dataset(lambda z: z[:, 0], fine)
    with pytest.raises(TypeError, match="does not encode"):
        probe_dataset("model", fine)


def ppo(**policy_kwargs):
    return PPO("CnnPolicy", make_vec_env(TINY_BALL_ID, 1), n_steps=8, batch_size=8, policy_kwargs=policy_kwargs)


def models():
    pendulum = make_vec_env(PIXEL_PENDULUM_ID, 1, env_kwargs={"size": 36})
    sac_kwargs = {**latent_kwargs("sac_ae", latent_dim=20), "net_arch": [8]}
    return {
        "stock PPO": lambda: ppo(net_arch=[8]),
        "stock PPO, two extractors": lambda: ppo(net_arch=[8], share_features_extractor=False),
        "PPO_VAE": lambda: ppo(**latent_kwargs("vae", **TINY), net_arch=[8]),
        "stock DQN": lambda: DQN("CnnPolicy", make_vec_env(TINY_BALL_ID, 1), buffer_size=10),
        "stock SAC": lambda: SAC("CnnPolicy", pendulum, buffer_size=10, policy_kwargs={"net_arch": [8]}),
        "SAC_AE": lambda: SAC(LatentSACPolicy, pendulum, buffer_size=10, policy_kwargs=sac_kwargs),
    }


@contextmanager
def nothing_changes(policy):
    def snapshot():
        return (
            {name: copy.deepcopy(value) for name, value in policy.state_dict().items()},
            {name: None if p.grad is None else p.grad.clone() for name, p in policy.named_parameters()},
            [module.training for module in policy.modules()],
            (random.getstate(), np.random.get_state()[1].tolist(), th.get_rng_state().tolist()),
        )

    for parameter in list(policy.parameters())[:3]:
        parameter.grad = th.ones_like(parameter)
    next(iter(policy.children())).train()
    # Away from the states that seed 0 gives, which conftest sets, and so does the seed of probes.
    random.random(), np.random.random(), th.rand(1)
    before = snapshot()
    yield
    weights, gradients, flags, states = snapshot()
    for name, value in before[0].items():
        assert th.equal(weights[name], value) if isinstance(value, th.Tensor) else repr(weights[name]) == repr(value)
    for name, gradient in before[1].items():
        assert gradients[name] is None if gradient is None else th.equal(gradients[name], gradient)
    assert flags == before[2] and states == before[3]


@pytest.mark.parametrize("name", models())
def test_any_model_is_probed_and_stays_as_it_was(name):
    model = models()[name]()
    is_sac = "SAC" in name
    n_steps, label = (1100, "state") if is_sac else (400, "paddle_x")
    env = make_vec_env(PIXEL_PENDULUM_ID, 2, env_kwargs={"size": 36}) if is_sac else make_vec_env(TINY_BALL_ID, 2)
    own = model.get_env()
    own.reset()
    image = own.render("rgb_array") if is_sac else own.unwrapped.envs[0].unwrapped._time
    with nothing_changes(model.policy):
        report = probe(model, env, [label], n_steps, probes=["linear"])
    np.testing.assert_array_equal(own.render("rgb_array") if is_sac else own.unwrapped.envs[0].unwrapped._time, image)
    variable = report.variables[0]
    sources = {score.source for score in report.scores}
    assert sources == {"model", "random", "pca", "constant"} and report.notes == []
    # Rod and paddle fill much of the picture: even random features hold them.
    assert report.score(variable).value > 0.2
    assert report.score(variable).value != report.score(variable, source="random").value


def test_latents_are_what_the_policy_reads():
    observations = collect(None, make_vec_env(TINY_BALL_ID, 1), ["paddle_x"], 300).observations
    model = models()["PPO_VAE"]()
    inputs = th.as_tensor(observations) / 255
    with th.no_grad():
        oracle = get_extractor(model).eval().encode(inputs).mean
    np.testing.assert_allclose(encode(model, observations, model.observation_space), oracle.numpy(), atol=1e-6)
    stock = models()["stock PPO, two extractors"]()
    with th.no_grad():
        oracle = stock.policy.vf_features_extractor(inputs)
    for encoder in (stock, stock.policy, stock.policy.vf_features_extractor):
        np.testing.assert_allclose(encode(encoder, observations, stock.observation_space), oracle.numpy(), atol=1e-6)


def test_dropout_and_batch_norm_are_in_evaluation_mode_and_stay_in_training_mode():
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(9), nn.Dropout(0.5), nn.Linear(9, 2))
    observations = RNG.normal(size=(N, 9)).astype(np.float32)
    with nothing_changes(module):
        latents = encode(module, observations, SPACE)
    with th.no_grad():
        np.testing.assert_allclose(latents, module.eval()(th.as_tensor(observations)).numpy(), atol=1e-6)


@pytest.mark.parametrize("name", models())
def test_fresh_weights_are_those_of_a_new_model(name):
    model = models()[name]()
    space = model.observation_space
    observations = np.stack([space.sample() for _ in range(4)])
    fresh = with_fresh_weights(model, 1)
    latents = [encode(one, observations, space) for one in (model, fresh, with_fresh_weights(model, 1))]
    assert latents[0].shape == latents[1].shape
    assert not np.allclose(latents[0], latents[1], atol=1e-4)
    np.testing.assert_array_equal(latents[1], latents[2])
    assert type(fresh) is type(model.policy)
    shapes, of_fresh = ({key: p.shape for key, p in one.named_parameters()} for one in (model.policy, fresh))
    # SB3's load builds an actor-critic with one extractor, whatever it was.
    assert shapes == of_fresh or ("two extractors" in name and of_fresh.items() <= shapes.items())


def test_fresh_weights_of_a_pretrained_encoder_are_not_pretrained(tmp_path):
    path = tmp_path / "encoder.safetensors"
    save_encoder(models()["PPO_VAE"](), path)
    model = ppo(**latent_kwargs("vae", pretrained=str(path), **TINY), net_arch=[8])
    fresh = with_fresh_weights(model, 1)
    weights = [dict(get_extractor(one).encoders.named_parameters()) for one in (model, fresh)]
    path.unlink()
    assert with_fresh_weights(model, 1) is not None
    assert all(not th.equal(weights[0][key], weights[1][key]) for key in weights[0] if key.endswith("weight"))


def test_fresh_weights_of_modules_and_functions():
    module = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    fresh = with_fresh_weights(module, 1)
    assert not th.equal(fresh[1].weight, module[1].weight)

    class Unknown(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = nn.Parameter(th.zeros(2))

    assert with_fresh_weights(Unknown(), 1) is None
    assert with_fresh_weights(identity, 1) is None


def test_floors_on_tiny_ball():
    """An encoder that sees only the ball: it keeps the ball, pixels through PCA keep the paddle, noise keeps nothing."""
    dataset = collect(None, make_vec_env(TINY_BALL_ID, 8), ["ball_x", "paddle_x"], 1500)

    def ball(images):
        bright = images[:, 0, 10:31] == 255
        at = (bright.any(1) * np.arange(36)).sum(1) / np.maximum(bright.any(1).sum(1), 1)
        return np.stack([at, at**2], 1)

    report = probe_dataset(ball, dataset, ["linear"])
    assert report.score("ball_x").value > 0.9
    assert report.at_floor() == ["paddle_x"]
    assert report.score("ball_x", source="pca").value < 0.1
    assert report.score("paddle_x", source="pca").value > 0.5
    assert -0.2 < report.score("ball_x", source="constant").value <= 0


def test_components_that_are_rounding_error_are_no_floor():
    """More pixels than training rows: the last component is zero on those and large on others."""
    pixels = np.c_[10 * NUMBER, RNG.normal(size=(N, 500))]
    report = probe_dataset(identity, dataset_of(pixels, {"x": NUMBER}), ["linear"])
    assert report.score("x", source="pca").value > -1


def test_penalties_are_chosen_on_validation_rows_never_on_test_rows(monkeypatch):
    number_of_row = np.arange(N, dtype=float)[:, None]
    dataset = dataset_of(number_of_row, {"x": NUMBER})
    split, calls = split_by_episode(dataset, 0), []

    def spy(kind, discrete, train, validation, x, seed):
        calls.append((train, validation, x))
        return np.zeros(len(x))

    monkeypatch.setattr("sb3_latent.probes.probing.predictions", spy)
    probe_dataset(identity, dataset, ["linear"])
    train, validation, test = calls[0]
    for (x, y), rows in ((train, split.train), (validation, split.validation)):
        assert x[:, 0].tolist() == rows.tolist() and (y == NUMBER[rows]).all()
    assert test[:, 0].tolist() == split.test.tolist()


def test_the_best_epoch_is_kept():
    class Learner:
        epoch = 0

        def partial_fit(self, x, y):
            self.epoch += 1

    def score(model):
        return -abs(model.epoch - 7)

    assert _trained(Learner(), None, None, score, {}).epoch == 7
    assert _trained(Learner(), None, None, lambda model: model.epoch, {}).epoch == MAX_EPOCHS


def test_without_scikit_learn_it_is_one_line(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("sb3_latent.probes")]:
        monkeypatch.delitem(sys.modules, name)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "sklearn" else find_spec(name, *rest))
    with pytest.raises(ImportError, match=r"needs scikit-learn: pip install sb3_latent\[inspect\]"):
        importlib.import_module("sb3_latent.probes")


def test_own_environment_is_refused():
    model = models()["stock PPO"]()
    with pytest.raises(ValueError, match="the model trains in; make another one"):
        probe(model, model.get_env(), ["paddle_x"], 100)


def test_floors_are_fitted_once_and_taken_over(monkeypatch):
    dataset = collect(None, make_vec_env(TINY_BALL_ID, 4), ["paddle_x", "ball_x"], 800)
    model = models()["PPO_VAE"]()
    first = probe_dataset(model, dataset)
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.05 * th.randn_like(parameter))
    fresh = probe_dataset(model, dataset)
    encoded = []

    def counting(encoder, *args):
        encoded.append(encoder)
        return encode(encoder, *args)

    monkeypatch.setattr("sb3_latent.probes.probing.encode", counting)
    monkeypatch.setattr("sb3_latent.probes.probing._principal_components", None)
    again = probe_dataset(model, dataset, floors=first)
    assert encoded == [model]
    assert sorted(map(repr, again.scores)) == sorted(map(repr, fresh.scores))
    assert again.variables == fresh.variables == ["paddle_x", "ball_x"]
    assert again.score("paddle_x") != first.score("paddle_x")
    linear = probe_dataset(model, dataset, ["linear"], floors=first)
    assert {score.probe for score in linear.scores} == {"linear", "none"}
    assert linear.table().splitlines()[1].split() == again.table().splitlines()[1].split()


def test_floors_of_something_else_are_refused():
    latents = RNG.normal(size=(N, 3))
    dataset = dataset_of(latents, {"x": NUMBER})
    floors = probe_dataset(identity, dataset, ["linear"])
    assert "no floor of fresh weights" in probe_dataset(identity, dataset, ["linear"], floors=floors).notes[0]
    with pytest.raises(ValueError, match="floors: latent_dim are 3 there and 2 here"):
        probe_dataset(lambda z: z[:, :2], dataset, ["linear"], floors=floors)
    with pytest.raises(ValueError, match=r"floors: variables are \['x'\] there and \['y'\] here"):
        probe_dataset(identity, dataset_of(latents, {"y": NUMBER}), ["linear"], floors=floors)
    with pytest.raises(ValueError, match="take a report that has fitted all of them"):
        probe_dataset(identity, dataset, floors=floors)


def test_the_verdict_names_what_is_held_lost_and_idle(knowing, ignorant):
    assert knowing.verdict() == "A linear probe reads number, category off the representation."
    lost = ", ".join(ignorant.at_floor())
    assert f"At the floor, no better than a constant guess: {lost}." in ignorant.verdict()
    dataset = dataset_of(np.c_[NUMBER, RNG.normal(size=(N, 2))].astype(np.float32), {"x": NUMBER})
    idle = probe_dataset(
        nn.Linear(9, 4),
        Dataset(np.c_[dataset.observations, dataset.observations, dataset.observations], dataset.labels, EPISODES, SPACE),
        ["mlp"],
    )
    assert idle.verdict() == "A small MLP probe reads x off the representation. No better than with fresh weights: x."
