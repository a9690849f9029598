"""The policy that takes settings by plain names is the one that latent_kwargs builds."""

import json

import numpy as np
import pytest
import torch as th
from sb3_contrib import TRPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.utils import set_random_seed
from torch import nn

from sb3_latent import LatentActorCriticPolicy, get_extractor, latent_kwargs
from sb3_latent.presets import POLICY_SETTINGS, PRESETS

# JSON is YAML: what a parser of either returns are plain strings, numbers, lists and dictionaries.
WRITTEN = """{
    "preset": "vae", "latent_dim": 5, "trunk": "nature", "trunk_kwargs": {"hidden_dim": 16},
    "head_kwargs": {"log_var_bounds": [-4, 2]}, "coefs": {"kl": 0.5},
    "tasks": {"recon": {"loss": "bernoulli"}, "kl": {"free_bits": 0.1}},
    "net_arch": [8], "share_features_extractor": false
}"""
SMALL = {"latent_dim": 5, "trunk_kwargs": {"hidden_dim": 16}}


def build(algorithm=PPO, policy=LatentActorCriticPolicy, policy_kwargs=None):
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=2, discrete=True)
    env.observation_space.seed(0)
    batch = {} if algorithm is A2C else {"batch_size": 4}
    return algorithm(policy, env, n_steps=4, seed=0, policy_kwargs=policy_kwargs, **batch)


def assert_same_parameters(ours, theirs):
    ours, theirs = dict(ours.named_parameters()), dict(theirs.named_parameters())
    assert list(ours) == list(theirs)
    assert all(th.equal(ours[name], theirs[name]) for name in ours)


OFF_POLICY = [preset for preset in PRESETS if set(latent_kwargs(preset)) & set(POLICY_SETTINGS)]


@pytest.mark.parametrize("preset", OFF_POLICY)
def test_presets_of_other_policies_are_refused(preset):
    with pytest.raises(ValueError, match=f"preset '{preset}' is for LatentSACPolicy"):
        build(policy_kwargs={"preset": preset})


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset not in OFF_POLICY])
def test_it_is_the_policy_of_latent_kwargs_to_the_bit(preset):
    ours = build(policy_kwargs={"preset": preset, **SMALL})
    theirs = build(policy="CnnPolicy", policy_kwargs=latent_kwargs(preset, **SMALL))
    assert_same_parameters(ours.policy, theirs.policy)
    for model in (ours, theirs):
        set_random_seed(0)
        model.learn(4)
    assert_same_parameters(ours.policy, theirs.policy)


@pytest.mark.parametrize("algorithm", [PPO, A2C, TRPO])
def test_settings_from_a_file_work(algorithm):
    settings = json.loads(WRITTEN) | {"share_features_extractor": algorithm is TRPO}
    model = build(algorithm, policy_kwargs=settings)
    extractor = get_extractor(model)
    assert extractor.features_dim == 5 and extractor.tasks.coefs["kl"] == 0.5
    assert model.policy.mlp_extractor.latent_dim_pi == 8
    before = [parameter.detach().clone() for parameter in extractor.tasks.parameters()]
    model.learn(4)
    assert all(not th.equal(a, b) for a, b in zip(before, extractor.tasks.parameters(), strict=True))


def test_the_default_is_a_vae():
    assert get_extractor(build(policy_kwargs=SMALL)).tasks.labels == ["recon", "kl"]


@pytest.mark.parametrize("share", [False, True])
def test_save_and_load_keep_what_was_asked_for(tmp_path, share):
    settings = json.loads(WRITTEN) | {"share_features_extractor": share, "activation_fn": nn.ReLU, "normalize_images": True}
    policy = build(policy_kwargs=settings).policy
    policy.save(tmp_path / "policy.zip")
    loaded = LatentActorCriticPolicy.load(tmp_path / "policy.zip")
    assert loaded.share_features_extractor is share
    assert (loaded.pi_features_extractor is loaded.vf_features_extractor) is share
    assert (loaded.activation_fn, loaded.net_arch) == (nn.ReLU, [8])
    assert get_extractor(loaded).tasks.coefs == get_extractor(policy).tasks.coefs
    assert_same_parameters(loaded, policy)
    observations = np.stack([policy.observation_space.sample() for _ in range(3)])
    ours, theirs = (one.predict(observations, deterministic=True)[0] for one in (loaded, policy))
    assert np.array_equal(ours, theirs)
    tensor = policy.obs_to_tensor(observations)[0]
    assert th.equal(loaded.predict_values(tensor), policy.predict_values(tensor))


def test_a_loaded_policy_can_be_saved_again(tmp_path):
    policy = build(policy_kwargs=json.loads(WRITTEN)).policy
    for name in ("first.zip", "second.zip"):
        policy.save(tmp_path / name)
        policy = LatentActorCriticPolicy.load(tmp_path / name)
    assert policy.share_features_extractor is False and get_extractor(policy).features_dim == 5


@pytest.mark.parametrize(
    ("settings", "error", "parts"),
    [
        ({"latent_dims": 3}, TypeError, ["'latent_dims'", "did you mean 'latent_dim'"]),
        ({"net_archs": [3]}, TypeError, ["'net_archs'", "did you mean 'net_arch'"]),
        ({"preset": "vaee"}, ValueError, ["'vaee'", "did you mean 'vae'", "beta_vae"]),
        ({"trunk": "nature2"}, ValueError, ["'nature2'", "did you mean 'nature'"]),
        ({"features_extractor_class": nn.Identity}, TypeError, ["'features_extractor_class'"]),
        ({"features_extractor_kwargs": {"latent_dim": 3}}, TypeError, ["'features_extractor_kwargs'"]),
    ],
)
def test_wrong_settings_are_told(settings, error, parts):
    with pytest.raises(error) as raised:
        build(policy_kwargs=settings)
    assert all(part in str(raised.value) for part in parts)
