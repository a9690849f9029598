"""Presets of latent models against a table typed from the papers and their authors' code."""

import gymnasium as gym
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import TQC
from stable_baselines3 import SAC

from sb3_latent import (
    DynamicsExtractor,
    HistoryWrapper,
    SequenceReplayBuffer,
    SLACPolicy,
    latent_kwargs,
    list_dynamics,
    list_presets,
    sac_kwargs,
)
from sb3_latent.presets import extractor_settings
from sb3_latent.recipes import WINDOW_PRESETS
from sb3_latent.windows import window_space

WINDOWS = window_space(spaces.Box(0, 255, (3, 64, 64), "uint8"), spaces.Box(-1, 1, (6,)), 8)

# Length of a state, of an encoded frame; standard deviation of a pixel; learning rate of the model.
EXPECTED = {
    "slac": (32 + 256, 256, 0.1**0.5, 1e-4),
    "slac_filtering": (256, 256, 0.1**0.5, 1e-4),
    "slac_vae": (256, 256, 0.1**0.5, 1e-4),
    "slac_nontemporal": (32 + 256, 256, 0.1**0.5, 1e-4),
    "rssm_mixed": (32 + 256, 256, 0.1**0.5, 1e-4),
    "rssm": (200 + 30, 1024, 1.0, 6e-4),
    "rssm_discrete": (200 + 32 * 32, 1024, 1.0, 3e-4),
}


def extractor(preset, **overrides):
    return DynamicsExtractor(WINDOWS, **latent_kwargs(preset, **overrides)["features_extractor_kwargs"])


def test_every_model_has_a_preset():
    assert set(EXPECTED) == set(WINDOW_PRESETS) == set(list_dynamics()) and set(EXPECTED) < set(list_presets())


@pytest.mark.parametrize("preset", EXPECTED)
def test_the_model_is_the_published_one(preset):
    state_dim, features_dim, std, lr = EXPECTED[preset]
    made = extractor(preset)
    assert made.features_dim == made.model.state_dim == state_dim
    assert made.encoders.trunk.out_dim == features_dim
    assert float(made.tasks.likelihood.log_std.exp()) == pytest.approx(std)
    assert {group["lr"] for group in made.optimizer._adam.param_groups} == {lr}
    assert made.tasks.coefs == {"recon": 1, "kl": 1, "reward": 1, "continuation": 0}
    assert made.kappa == 0


def test_slac_has_the_parameters_of_the_authors_model():
    """Counted from ``model_distribution_network.py``: perceptrons of two hidden layers of 256, convolutions of depth 32."""

    def perceptron(n_in, n_out):
        return (n_in + 1) * 256 + (256 + 1) * 256 + (256 + 1) * n_out

    def convolution(n_in, n_out, kernel):
        return n_in * n_out * kernel**2 + n_out

    made = extractor("slac")
    first, later = perceptron(256, 64) + perceptron(32, 512), perceptron(256 + 6, 64) + perceptron(512 + 6, 64)
    z2, reward = perceptron(32 + 256 + 6, 512), perceptron(2 * 288 + 6, 2)
    encoder = sum(convolution(*layer) for layer in [(3, 32, 5), (32, 64, 3), (64, 128, 3), (128, 256, 3), (256, 256, 4)])
    decoder = sum(convolution(*layer) for layer in [(288, 256, 4), (256, 128, 3), (128, 64, 3), (64, 32, 3), (32, 3, 5)])
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in made.named_modules()}
    assert count["encoders.dynamics"] == first + later + z2
    assert count["encoders.trunk"] == encoder and count["tasks.decoder"] == decoder and count["tasks.reward"] == reward


@pytest.mark.parametrize("preset", EXPECTED)
def test_the_agent_is_slacs(preset):
    assert sac_kwargs(preset) == {
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
    assert latent_kwargs(preset)["net_arch"] == [256, 256]


def test_overrides_replace_and_go_where_they_belong():
    kwargs = latent_kwargs("slac", trunk="dreamer", coefs={"reward": 0.5}, actor_reads="latent", n_model_updates=2)
    assert kwargs["actor_reads"] == "latent" and kwargs["n_model_updates"] == 2
    assert kwargs["features_extractor_kwargs"]["trunk"] == "dreamer"
    made = extractor("slac", coefs={"reward": 0.5, "continuation": lambda progress: progress})
    assert made.tasks.coefs == {"recon": 1, "kl": 1, "reward": 0.5, "continuation": 1}
    assert latent_kwargs("slac")["features_extractor_kwargs"] == WINDOW_PRESETS["slac"], "presets stay as they are"
    joint = latent_kwargs("rssm", gradient_mode="joint", kappa=1.0)["features_extractor_kwargs"]
    assert joint["auxiliary_optimizer_kwargs"] is None and joint["kappa"] == 1.0
    assert "loss_kwargs" not in latent_kwargs("rssm", loss="bernoulli")["features_extractor_kwargs"]


@pytest.mark.parametrize(
    ("overrides", "error", "parts"),
    [
        ({"latent_dim": 20}, TypeError, ["'latent_dim'", "'slac'", "dynamics"]),
        ({"net_arch": [64]}, TypeError, ["net_arch", "latent_kwargs(...)"]),
        ({"dynamics": "rsm"}, ValueError, ["'rsm'", "did you mean 'rssm'?"]),
        ({"trunk": "slack"}, ValueError, ["'slack'", "did you mean 'slac'?"]),
        ({"loss": "gausian"}, ValueError, ["did you mean 'gaussian'?"]),
        ({"kappa": -1}, ValueError, ["kappa=-1"]),
        ({"kappa": "auto"}, ValueError, ["kappa='auto'"]),
        ({"init": "xavier"}, ValueError, ["did you mean 'xavier_uniform'?"]),
        ({"coefs": {"recom": 1}}, ValueError, ["did you mean 'recon'?"]),
        ({"coefs": {"recon": -1}}, ValueError, ["coefs['recon']=-1"]),
        ({"coefs": 3}, TypeError, ["coefs must map"]),
        ({"actor_reads": "histori"}, ValueError, ["did you mean 'history'?"]),
        ({"gradient_mode": "apart"}, ValueError, ["'apart'", "own_optimizer"]),
    ],
)
def test_wrong_settings_fail_at_the_first_line(overrides, error, parts):
    with pytest.raises(error) as raised:
        latent_kwargs("slac", **overrides)
    assert all(part in str(raised.value) for part in parts) and "\n" not in str(raised.value)


def test_initial_weights_are_those_of_tensorflow():
    th.manual_seed(0)
    layer = extractor("slac").encoders.dynamics.prior[0]
    bound = (6 / (256 + 6 + 256)) ** 0.5
    assert layer.weight.abs().max() <= bound and not layer.bias.any()
    assert extractor("slac", init=None).encoders.dynamics.prior[0].bias.any()


@pytest.mark.parametrize("algorithm", [SAC, TQC])
def test_a_stock_policy_of_an_off_policy_algorithm_is_refused(algorithm):
    env = HistoryWrapper(gym.make("Pendulum-v1"), length=4)
    with pytest.raises(ValueError, match="SLACPolicy for SAC or SLACTQCPolicy for TQC"):
        algorithm("MultiInputPolicy", env, policy_kwargs=latent_kwargs("slac"), buffer_size=10)


def test_the_likelihoods_deviation_goes_with_the_likelihood():
    restated = latent_kwargs("rssm", loss="gaussian")["features_extractor_kwargs"]
    assert restated["loss_kwargs"] == {"std": 1.0}


def test_presets_of_windows_have_no_extractor_of_single_observations():
    with pytest.raises(ValueError, match="preset 'slac' encodes windows"):
        extractor_settings("slac")


def test_a_preset_leaves_no_room_for_arguments_of_its_extractor():
    env = HistoryWrapper(gym.make("Pendulum-v1"), length=4)
    kwargs = {"preset": "rssm", "features_extractor_kwargs": {"kappa": 0}}
    with pytest.raises(TypeError, match="features_extractor_kwargs means nothing beside preset"):
        SAC(SLACPolicy, env, replay_buffer_class=SequenceReplayBuffer, policy_kwargs=kwargs, buffer_size=10)
