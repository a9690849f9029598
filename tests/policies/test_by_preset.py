"""Policies that take settings by plain names, as YAML files hold them, are what latent_kwargs builds."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml
from algorithms import ALGORITHMS, NoiseImageEnv, make_model
from gymnasium import spaces
from interrupted_runs import flat
from sb3_contrib import TRPO
from stable_baselines3 import A2C, DDPG, DQN, PPO
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.utils import set_random_seed
from torch import nn

import sb3_latent
from sb3_latent import (
    HistoryWrapper,
    LatentActorCriticPolicy,
    LatentCrossQPolicy,
    LatentDQNPolicy,
    LatentMaskableActorCriticPolicy,
    LatentQRDQNPolicy,
    LatentRecurrentActorCriticPolicy,
    LatentSACPolicy,
    LatentTD3Policy,
    LatentTQCPolicy,
    SequenceReplayBuffer,
    SLACPolicy,
    SLACTQCPolicy,
    get_extractor,
    latent_kwargs,
    list_presets,
)
from sb3_latent.presets import POLICY_SETTINGS, PRESETS
from sb3_latent.recipes import WINDOW_PRESETS

# JSON is YAML: what a parser of either returns are plain strings, numbers, lists and dictionaries.
WRITTEN = """{
    "preset": "vae", "latent_dim": 5, "trunk": "nature", "trunk_kwargs": {"hidden_dim": 16},
    "head_kwargs": {"log_var_bounds": [-4, 2]}, "coefs": {"kl": 0.5},
    "tasks": {"recon": {"loss": "bernoulli"}, "kl": {"free_bits": 0.1}},
    "net_arch": [8], "share_features_extractor": false
}"""
SMALL = {"latent_dim": 5, "trunk_kwargs": {"hidden_dim": 16}}
TINY = {"latent_dim": 4, "trunk": "mlp", "trunk_kwargs": {"net_arch": [16]}}
WINDOWED = {"trunk": "mlp", "trunk_kwargs": {"net_arch": [16]}, "hidden": 8}
SLAC_STATES = {"z1_dim": 3, "z2_dim": 4, "hidden": [8]}
STATES = {
    "slac_filtering": {"z_dim": 4, "hidden": [8]},
    "slac_vae": {"z_dim": 4, "hidden": [8]},
    "rssm": {"h_dim": 5, "z_dim": 3, "hidden": 8},
    "rssm_discrete": {"h_dim": 5, "n_groups": 2, "n_classes": 3, "hidden": 8},
}
OFF_POLICY = [preset for preset in PRESETS if set(latent_kwargs(preset)) & set(POLICY_SETTINGS)]

OF_STOCK = {
    "PPO": LatentActorCriticPolicy,
    "A2C": LatentActorCriticPolicy,
    "TRPO": LatentActorCriticPolicy,
    "RecurrentPPO": LatentRecurrentActorCriticPolicy,
    "MaskablePPO": LatentMaskableActorCriticPolicy,
    "DQN": LatentDQNPolicy,
    "QRDQN": LatentQRDQNPolicy,
    "CrossQ": LatentCrossQPolicy,
}
SHARING = {"SAC": LatentSACPolicy, "TQC": LatentTQCPolicy, "TD3": LatentTD3Policy}
SLAC = {"SAC": SLACPolicy, "TQC": SLACTQCPolicy}
EVERY = [*OF_STOCK.items(), *SHARING.items(), *SLAC.items()]
ids = {"ids": [policy.__name__ + name for name, policy in EVERY]}

UNUSUAL = {
    "PPO": {"share_features_extractor": False, "ortho_init": False, "log_std_init": -1.0},
    "A2C": {"share_features_extractor": False},
    "TRPO": {"ortho_init": False},
    "RecurrentPPO": {"lstm_hidden_size": 6, "n_lstm_layers": 2, "enable_critic_lstm": False, "shared_lstm": True},
    "MaskablePPO": {"share_features_extractor": False},
    "DQN": {},
    "QRDQN": {"n_quantiles": 7},
    "CrossQ": {"n_critics": 3, "share_features_extractor": True, "batch_norm_momentum": 0.5},
    "SAC": {"n_critics": 3, "clip_mean": 1.0},
    "TQC": {"n_critics": 3, "n_quantiles": 7},
    "TD3": {"n_critics": 3},
}
"""Arguments of each policy that are not its defaults, some of which SB3's own ``save`` forgets."""


class ImageAndVector(gym.ObservationWrapper):
    def __init__(self, env):
        super().__init__(env)
        vector = spaces.Box(-1, 1, (3,), np.float32)
        self.observation_space = spaces.Dict({"camera": env.observation_space, "vector": vector})

    def observation(self, image):
        return {"camera": image, "vector": (image[0, 0, :3] / 255).astype(np.float32)}


def build(algorithm=PPO, policy=LatentActorCriticPolicy, policy_kwargs=None):
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=2, discrete=True)
    env.observation_space.seed(0)
    batch = {} if algorithm is A2C else {"batch_size": 4}
    return algorithm(policy, env, n_steps=4, seed=0, policy_kwargs=policy_kwargs, **batch)


def of_windows():
    return {"env": HistoryWrapper(NoiseImageEnv(discrete=False), length=3), "replay_buffer_class": SequenceReplayBuffer}


def make(name, policy, **settings):
    """A tiny model of any policy, with what a YAML file says."""
    if policy in SLAC.values():
        kwargs = {"preset": "slac", **WINDOWED, "dynamics_kwargs": SLAC_STATES, "model_batch_size": 4, **settings}
        return make_model(name, kwargs, policy, **of_windows())
    return make_model(name, {"preset": "vae", **TINY, **settings}, policy)


def assert_same_parameters(ours, theirs):
    ours, theirs = dict(ours.named_parameters()), dict(theirs.named_parameters())
    assert list(ours) == list(theirs)
    assert all(th.equal(ours[name], theirs[name]) for name in ours)


def assert_same_state(ours, theirs):
    ours, theirs = flat(ours), flat(theirs)
    assert list(ours) == list(theirs)
    for path, leaf in theirs.items():
        assert th.equal(ours[path], leaf) if isinstance(leaf, th.Tensor) else ours[path] == leaf, path


def assert_same_runs(ours, theirs, n_timesteps):
    """Also of optimizers: the same steps from the same weights."""
    assert_same_state(ours.get_parameters(), theirs.get_parameters())
    before = [parameter.detach().clone() for parameter in ours.policy.parameters()]
    for model in (ours, theirs):
        set_random_seed(0)
        model.learn(n_timesteps)
    assert_same_state(ours.get_parameters(), theirs.get_parameters())
    assert not all(th.equal(a, b) for a, b in zip(before, ours.policy.parameters(), strict=True))


# ---------------------------------------------------------------------- the policy of latent_kwargs, to the bit


@pytest.mark.parametrize("preset", OFF_POLICY)
def test_presets_of_other_policies_are_refused(preset):
    with pytest.raises(ValueError, match=f"preset '{preset}' is for LatentSACPolicy"):
        build(policy_kwargs={"preset": preset})


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset not in OFF_POLICY])
def test_it_is_the_policy_of_latent_kwargs_to_the_bit(preset):
    ours = build(policy_kwargs={"preset": preset, **SMALL})
    theirs = build(policy="CnnPolicy", policy_kwargs=latent_kwargs(preset, **SMALL))
    assert_same_runs(ours, theirs, 4)


@pytest.mark.parametrize("name", OF_STOCK)
def test_every_algorithm_has_the_policy_that_stock_sb3_builds(name):
    """With SB3's own default widths: ``make_model`` is not asked, for it gives others."""
    entry = ALGORITHMS[name]

    def model(policy, policy_kwargs):
        return entry.cls(policy, NoiseImageEnv(entry.discrete), policy_kwargs=policy_kwargs, seed=0, **entry.kwargs)

    ours = model(OF_STOCK[name], {"preset": "vae", **TINY})
    theirs = model(entry.policy, latent_kwargs("vae", **TINY))
    assert isinstance(ours.policy, type(theirs.policy).__mro__[1] if "Cnn" in entry.policy else type(theirs.policy))
    assert_same_runs(ours, theirs, entry.n_timesteps)


@pytest.mark.parametrize("name", [name for name in OF_STOCK if name != "CrossQ"])
def test_dict_observations_have_the_policy_that_stock_sb3_builds(name):
    stock = "MultiInputLstmPolicy" if name == "RecurrentPPO" else "MultiInputPolicy"
    ours, theirs = (
        make_model(name, kwargs, policy, env=ImageAndVector(NoiseImageEnv()))
        for kwargs, policy in [({"preset": "vae", **TINY}, OF_STOCK[name]), (latent_kwargs("vae", **TINY), stock)]
    )
    assert_same_runs(ours, theirs, ALGORITHMS[name].n_timesteps)


# ---------------------------------------------------------------------- YAML


def plain(preset):
    """The settings of a preset as plain data, tiny, and the algorithm that takes them."""
    if preset in WINDOW_PRESETS:
        kwargs = latent_kwargs(
            preset, **WINDOWED, dynamics_kwargs=STATES.get(preset, {"z1_dim": 3, "z2_dim": 4, "hidden": [8]})
        )
    else:
        kwargs = latent_kwargs(preset, **({} if preset == "sac_state" else TINY))
    settings = dict(kwargs)
    del settings["features_extractor_class"]
    return {**settings.pop("features_extractor_kwargs"), **settings, "net_arch": [8]}, {**kwargs, "net_arch": [8]}


@pytest.mark.parametrize("preset", list_presets())
def test_every_preset_survives_a_yaml_file(preset):
    settings, kwargs = plain(preset)
    text = yaml.safe_dump({"preset": preset, **settings})
    if preset in WINDOW_PRESETS:
        name, stock, policy = "SAC", SLACPolicy, SLACPolicy
    elif preset in OFF_POLICY:
        name, stock, policy = "SAC", LatentSACPolicy, LatentSACPolicy
    else:
        name, stock, policy = "PPO", "CnnPolicy", LatentActorCriticPolicy
    ours, theirs = (
        make_model(name, given, taker, **(of_windows() if policy is SLACPolicy else {}))
        for given, taker in [(yaml.safe_load(text), policy), (kwargs, stock)]
    )
    assert_same_runs(ours, theirs, ALGORITHMS[name].n_timesteps)
    assert ours.policy.features_extractor_kwargs.keys() == theirs.policy.features_extractor_kwargs.keys()


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


@pytest.mark.parametrize(("name", "policy"), EVERY, **ids)
def test_classes_go_by_name(name, policy):
    """The name is all that differs from the model that is given the class."""
    named = make(name, policy, activation_fn="gelu", optimizer_class="torch.optim.AdamW")
    given = make(name, policy, activation_fn=nn.GELU, optimizer_class=th.optim.AdamW)
    assert repr(named.policy) == repr(given.policy) and "GELU" in repr(named.policy)
    optimizers = [part.optimizer for part in named.policy.modules() if hasattr(part, "optimizer")]
    # That of a model of windows is the model's own.
    assert any(type(optimizer) is th.optim.AdamW for optimizer in optimizers)
    assert_same_state(named.get_parameters(), given.get_parameters())


@pytest.mark.parametrize(
    ("setting", "value", "cls"),
    [
        ("activation_fn", "tanh", nn.Tanh),
        ("activation_fn", "relu", nn.ReLU),
        ("activation_fn", "elu", nn.ELU),
        ("activation_fn", "silu", nn.SiLU),
        ("activation_fn", "leaky_relu", nn.LeakyReLU),
        ("activation_fn", "torch.nn.Mish", nn.Mish),
        ("optimizer_class", "adam", th.optim.Adam),
        ("optimizer_class", "adamw", th.optim.AdamW),
        ("optimizer_class", "rmsprop", th.optim.RMSprop),
        ("optimizer_class", "sgd", th.optim.SGD),
        ("optimizer_class", "rmsprop_tf_like", RMSpropTFLike),
    ],
)
def test_names_and_their_classes(setting, value, cls):
    assert getattr(make("PPO", LatentActorCriticPolicy, **{setting: value}).policy, setting) is cls


@pytest.mark.parametrize(("name", "policy"), EVERY, **ids)
@pytest.mark.parametrize(
    ("settings", "error", "parts"),
    [
        ({"activation_fn": "rellu"}, ValueError, ["activation_fn 'rellu'", "did you mean 'relu'?", "'leaky_relu'"]),
        ({"activation_fn": "torch.optim.Adam"}, TypeError, ["activation_fn 'torch.optim.Adam'", "does not extend"]),
        ({"optimizer_class": "torch.optim.Adamm"}, ValueError, ["optimizer_class 'torch.optim.Adamm'", "imported"]),
        ({"net_archs": [8]}, TypeError, ["'net_archs'", "did you mean 'net_arch'?"]),
    ],
    ids=str,
)
def test_every_policy_tells_wrong_names_in_one_line(name, policy, settings, error, parts):
    with pytest.raises(error) as raised:
        make(name, policy, **settings)
    message = str(raised.value)
    assert all(part in message for part in parts) and "\n" not in message


# ---------------------------------------------------------------------- save and load


def unusual(name, policy):
    settings = {**UNUSUAL[name], "net_arch": [6], "activation_fn": "elu", "optimizer_class": "adamw"}
    if policy is LatentActorCriticPolicy and name != "TRPO":
        settings["kappa"] = 3.0
    return make(name, policy, **settings, optimizer_kwargs={"weight_decay": 0.125})


def assert_same_policy(ours, theirs):
    assert type(ours) is type(theirs) and repr(ours) == repr(theirs)
    assert len(get_hooked(ours)) == len(get_hooked(theirs))
    assert_same_state(ours.state_dict(), theirs.state_dict())
    for part, twin in zip(ours.modules(), theirs.modules(), strict=True):
        if hasattr(twin, "optimizer") and isinstance(twin.optimizer, th.optim.Optimizer):
            assert type(part.optimizer) is type(twin.optimizer)
            groups = zip(part.optimizer.param_groups, twin.optimizer.param_groups, strict=True)
            for group, other in groups:
                assert {**group, "params": 0, "lr": 0} == {**other, "params": 0, "lr": 0}
                assert [p.shape for p in group["params"]] == [p.shape for p in other["params"]]
    kappas = [one.kappa for one in get_hooked(ours)]
    assert kappas == [one.kappa for one in get_hooked(theirs)]


def get_hooked(policy):
    return sb3_latent.models.get_hooked_extractors(policy)


@pytest.mark.parametrize(("name", "policy"), EVERY, **ids)
def test_every_policy_keeps_everything_in_its_file(name, policy, tmp_path):
    """Saved, loaded, saved again and loaded again."""
    model = unusual(name, policy)
    model.learn(ALGORITHMS[name].n_timesteps)
    loaded = model.policy
    for file in ("first", "second"):
        loaded.save(tmp_path / file)
        loaded = policy.load(tmp_path / file)
    model.policy.set_training_mode(False)
    assert_same_policy(loaded.eval(), model.policy.eval())
    observation = model.observation_space.sample()
    ours, theirs = (one.predict(observation, deterministic=True)[0] for one in (loaded, model.policy))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(("name", "policy"), EVERY, **ids)
def test_every_model_keeps_everything_in_its_file(name, policy, tmp_path):
    model = unusual(name, policy)
    model.learn(ALGORITHMS[name].n_timesteps)
    model.save(tmp_path / "model")
    loaded = ALGORITHMS[name].cls.load(tmp_path / "model")
    assert_same_policy(loaded.policy.eval(), model.policy.eval())
    assert_same_state(loaded.get_parameters(), model.get_parameters())
    assert loaded.policy_kwargs == model.policy_kwargs


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


# ---------------------------------------------------------------------- what cannot work


@pytest.mark.parametrize(
    ("settings", "error", "parts"),
    [
        ({"latent_dims": 3}, TypeError, ["'latent_dims'", "did you mean 'latent_dim'"]),
        ({"net_archs": [3]}, TypeError, ["'net_archs'", "did you mean 'net_arch'"]),
        ({"actor_reads": "trunk"}, TypeError, ["'actor_reads'", "'latent_dim'"]),
        ({"lr_schedule": 3}, TypeError, ["lr_schedule"]),
        ({"preset": "vaee"}, ValueError, ["'vaee'", "did you mean 'vae'", "beta_vae"]),
        ({"preset": ["vae"]}, TypeError, ["preset must be a name, not ['vae']"]),
        ({"preset": "slac"}, ValueError, ["wrap the environment: HistoryWrapper"]),
        ({"trunk": "nature2"}, ValueError, ["'nature2'", "did you mean 'nature'"]),
        ({"features_extractor_class": nn.Identity}, TypeError, ["'features_extractor_class'"]),
        ({"features_extractor_kwargs": {"latent_dim": 3}}, TypeError, ["'features_extractor_kwargs'"]),
    ],
)
def test_wrong_settings_are_told(settings, error, parts):
    with pytest.raises(error) as raised:
        build(policy_kwargs=settings)
    assert all(part in str(raised.value) for part in parts)


@pytest.mark.parametrize(
    ("name", "policy", "preset", "parts"),
    [
        ("DQN", LatentDQNPolicy, "sac_ae", ["'sac_ae' is for LatentSACPolicy"]),
        ("CrossQ", LatentCrossQPolicy, "drq", ["'drq' is for LatentSACPolicy"]),
        ("RecurrentPPO", LatentRecurrentActorCriticPolicy, "curl", ["'curl' is for LatentSACPolicy"]),
        ("DQN", LatentDQNPolicy, "slac", ["holds no windows", "HistoryWrapper"]),
        ("CrossQ", LatentCrossQPolicy, "slac", ["SLACPolicy for SAC"]),
        ("SAC", LatentSACPolicy, "slac", ["LatentSACPolicy has no model of windows", "SLACPolicy"]),
        ("SAC", SLACPolicy, "vae", ["'vae' has no latent model of windows", "LatentSACPolicy"]),
        ("SAC", SLACPolicy, ["slac"], ["['slac'] has no latent model"]),
    ],
)
def test_a_preset_of_another_policy_is_refused_in_one_line(name, policy, preset, parts):
    run = of_windows() if policy is SLACPolicy else {}
    with pytest.raises(ValueError) as raised:
        make_model(name, {"preset": preset}, policy, **run)
    assert all(part in str(raised.value) for part in parts) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("algorithm", "policy", "parts"),
    [
        ("PPO", LatentDQNPolicy, ["LatentDQNPolicy is for DQN, not PPO", "LatentActorCriticPolicy (PPO, A2C, TRPO)"]),
        ("DQN", LatentQRDQNPolicy, ["LatentQRDQNPolicy is for QRDQN, not DQN", "LatentDQNPolicy"]),
        ("DQN", LatentActorCriticPolicy, ["LatentActorCriticPolicy is for OnPolicyAlgorithm, not DQN", "LatentDQNPolicy"]),
        ("PPO", LatentMaskableActorCriticPolicy, ["is for MaskablePPO, not PPO"]),
        ("PPO", LatentRecurrentActorCriticPolicy, ["is for RecurrentPPO, not PPO"]),
        ("SAC", LatentCrossQPolicy, ["is for CrossQ, not SAC", "LatentSACPolicy"]),
        ("CrossQ", LatentSACPolicy, ["is for SAC, not CrossQ", "LatentCrossQPolicy"]),
    ],
)
def test_another_algorithm_is_told_which_policy_to_take(algorithm, policy, parts):
    with pytest.raises(ValueError) as raised:
        make_model(algorithm, {"preset": "vae", **TINY}, policy)
    assert all(part in str(raised.value) for part in parts)


def test_algorithms_of_ones_own_may_extend_those_of_sb3():
    class Mine(DQN):
        pass

    class MyOnPolicy(A2C):
        pass

    for cls, policy in [(Mine, LatentDQNPolicy), (MyOnPolicy, LatentActorCriticPolicy)]:
        cls(policy, NoiseImageEnv(), policy_kwargs={"preset": "vae", **TINY})


def test_every_algorithm_of_rl_zoo_has_a_policy():
    rl_zoo3 = pytest.importorskip("rl_zoo3.utils")
    ours = {ALGORITHMS[name].cls for name, _ in EVERY} | {DDPG}
    # ARS has no gradient that could reach an encoder.
    missing = [cls for name, cls in rl_zoo3.ALGOS.items() if name != "ars" and not issubclass(cls, tuple(ours))]
    assert missing == []


def test_another_optimizer_does_not_get_adams_arguments():
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=4, channel_first=True)
    kwargs = {"preset": "ppo_vae", "optimizer_class": "torch.optim.RMSprop"}
    model = PPO(LatentActorCriticPolicy, env, n_steps=2, policy_kwargs=kwargs)
    assert type(model.policy.optimizer) is th.optim.RMSprop
