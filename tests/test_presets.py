"""Presets are data: what seed document 000 and the papers say, handed out in fresh copies."""

import copy
import inspect

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.envs import FakeImageEnv
from torch import nn

from sb3_latent import (
    FrameRolloutBuffer,
    LatentExtractor,
    LatentSACPolicy,
    latent_kwargs,
    list_heads,
    list_presets,
    list_tasks,
    list_trunks,
    ppo_kwargs,
    sac_kwargs,
)
from sb3_latent.presets import POLICY_PRESETS, POLICY_SETTINGS, PPO_PRESETS, PRESETS, SAC_PRESETS, WINDOW_PRESETS

SEED_000 = ["ppo_fixed", "ppo_adapt", "ppo_vae"]

# Seed document 000, Table 1 (the encoder) and section 4.2 (one frame at a time); eq. 3 and appendix A.3 (kappa = 20).
TABLE_1 = {"trunk": "seed84", "latent_dim": 20, "head": "gaussian", "per_frame": True}
# Tables 2 and 3; 16 environments and 1e7 steps are no arguments of PPO.
TABLES_2_AND_3 = {
    "n_steps": 2048,
    "n_epochs": 10,
    "batch_size": 32,
    "vf_coef": 0.5,
    "ent_coef": 0.0,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "learning_rate": 3e-4,
}
# Yarats et al. 2019, train.py: 4 convolutions of 32 filters, 50 features, 5 bits, lambda 1e-6 (the task's default).
PIXEL_SAC = {"trunk": "dmc", "head": "layer_norm_tanh", "latent_dim": 50}
SAC_AE = {**PIXEL_SAC, "tasks": {"recon": {"bits": 5}, "latent_l2": {}}}
SAC_VAE = {**PIXEL_SAC, "head": "gaussian", "tasks": {"recon": {"bits": 5}, "kl": {}}}
ADAM_OF_TASKS = {"gradient_mode": "own_optimizer", "auxiliary_optimizer_kwargs": {"lr": 1e-3}}
EXPECTED = {
    "cnn": {"head": "deterministic"},
    "ae": {"head": "deterministic", "tasks": {"recon": {}}},
    "rae": {"head": "deterministic", "tasks": {"recon": {}, "latent_l2": {}}},
    "vae": {"head": "gaussian", "tasks": {"recon": {}, "kl": {}}},
    "beta_vae": {"head": "gaussian", "tasks": {"recon": {}, "kl": {}}, "beta": 4.0},
    "ppo_fixed": {**TABLE_1, "frozen": True},
    "ppo_adapt": TABLE_1,
    "ppo_vae": {**TABLE_1, "tasks": {"recon": {}, "kl": {}}, "kappa": 20.0, "coefs": {"recon": 1.0, "kl": 1.0}},
    "sac_ae": {**SAC_AE, "kappa": "auto"},
    "sac_ae_two_optimizers": {
        **SAC_AE,
        "gradient_mode": "own_optimizer",
        "auxiliary_optimizer_kwargs": {"lr": 1e-3, "decoder": {"weight_decay": 1e-7}},
    },
    "sac_cnn": PIXEL_SAC,
    "sac_vae": {**SAC_VAE, **ADAM_OF_TASKS},
    "sac_vae_actor": {**SAC_VAE, **ADAM_OF_TASKS},
    "sac_vae_alternating": {**SAC_VAE, **ADAM_OF_TASKS},
    "drq": PIXEL_SAC,
    "curl": {**PIXEL_SAC, "tasks": {"curl": {}}, **ADAM_OF_TASKS},
    "sac_state": {"trunk": "flatten", "head": "identity"},
}

# What the recipes of SAC+AE, DrQ and CURL (their train.py, config.yaml and curl_sac.py) say beside the encoder's layers.
YARATS_2019 = {
    "hidden": 1024,
    "log_std": (-10.0, 2.0),
    "lr": dict.fromkeys(("critic", "encoder", "actor"), 1e-3) | {"ent_coef": 1e-4},
    "beta1": {"ent_coef": 0.5},
    "weight_decay": {},
    "tau": (0.01, 0.05),  # of the Q-functions and of the encoder
    "every": {"actor": 2, "targets": 2, "tasks": 1},
    "alpha": 0.1,
    "gamma": 0.99,
    "batch": 128,
    "replay": 1_000_000,
    "random_steps": 1000,
    "views": (1, 1),  # K of the target and M of the Q-functions
    "pad": None,
    "init": "delta_orthogonal",
    "moves_encoder": {"critic", "task"},
    "actor_reads": "trunk",
}
KOSTRIKOV_2020 = {
    **YARATS_2019,
    "lr": dict.fromkeys(("critic", "encoder", "actor", "ent_coef"), 1e-3),
    "beta1": {},
    "tau": (0.01, 0.01),
    "batch": 512,
    "replay": 100_000,
    "views": (2, 2),
    "pad": 4,
    "init": "orthogonal",
}
LASKIN_2020 = {**YARATS_2019, "batch": 512, "replay": 100_000, "pad": 4}
DECAYED = {"lr": YARATS_2019["lr"] | {"decoder": 1e-3}, "weight_decay": {"decoder": 1e-7}}
RECIPES = {
    "sac_ae": {**YARATS_2019, **DECAYED},
    "sac_ae_two_optimizers": {**YARATS_2019, **DECAYED},
    "sac_cnn": YARATS_2019,
    "drq": KOSTRIKOV_2020,
    "curl": {**LASKIN_2020, "lr": YARATS_2019["lr"] | {"decoder": 1e-3}},
}


def settings_of(preset, **overrides):
    return latent_kwargs(preset, **overrides)["features_extractor_kwargs"]


@pytest.mark.parametrize("preset", EXPECTED)
def test_a_preset_is_what_its_paper_says(preset):
    assert settings_of(preset) == EXPECTED[preset]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_holds_arguments_of_the_extractor_and_the_policy(preset):
    kwargs = latent_kwargs(preset)
    assert kwargs["features_extractor_class"] is LatentExtractor
    assert set(settings_of(preset)) <= set(inspect.signature(LatentExtractor).parameters)
    of_policy = set(kwargs) - {"features_extractor_class", "features_extractor_kwargs"}
    assert of_policy <= {"net_arch", "optimizer_kwargs", *POLICY_SETTINGS}
    hidden = 64 if preset in PPO_PRESETS else 1024 if preset in SAC_PRESETS else None
    assert kwargs.get("net_arch") == (None if hidden is None else [hidden, hidden])
    assert bool(of_policy - {"net_arch", "optimizer_kwargs"}) == (preset in SAC_PRESETS)


@pytest.mark.parametrize("preset", SEED_000)
def test_ppo_kwargs_are_tables_2_and_3(preset):
    assert ppo_kwargs(preset) == {**TABLES_2_AND_3, "rollout_buffer_class": FrameRolloutBuffer}
    assert latent_kwargs(preset)["net_arch"] == [64, 64]


@pytest.mark.parametrize("preset", SEED_000)
def test_their_adam_is_sb3s_in_one_pass(preset):
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=4, channel_first=True)
    stock, ours = (PPO("CnnPolicy", env, n_steps=2, policy_kwargs=kwargs) for kwargs in ({}, latent_kwargs(preset)))
    assert ours.policy.optimizer.defaults == {**stock.policy.optimizer.defaults, "fused": True}


def test_the_encoder_of_ppo_vae_is_that_of_table_1():
    extractor = LatentExtractor(spaces.Box(0, 255, (4, 84, 84), np.uint8), **settings_of("ppo_vae"))
    assert extractor.features_dim == 4 * 20
    assert extractor.tasks.coefs == {"recon": 1.0, "kl": 1.0}
    assert extractor.balance.kappa == 20.0 and not extractor.frozen


def test_ppo_fixed_is_frozen_and_ppo_adapt_is_not():
    space = spaces.Box(0, 255, (1, 32, 32), np.uint8)
    fixed, adapt = (LatentExtractor(space, **settings_of(preset)) for preset in ("ppo_fixed", "ppo_adapt"))
    assert fixed.frozen and not adapt.frozen
    assert fixed.tasks.labels == adapt.tasks.labels == []


# ---------------------------------------------------------------------- the recipes of SAC+AE, DrQ and CURL


@pytest.fixture(scope="module", params=RECIPES)
def built(request):
    """A preset, its recipe, and the agent at full size after two gradient steps, with what each optimizer's step had."""
    kwargs = {**sac_kwargs(request.param), "buffer_size": 8, "batch_size": 2, "learning_starts": 2}
    env = FakeImageEnv(screen_height=84, screen_width=84, n_channels=9, discrete=False)
    model = SAC(LatentSACPolicy, env, policy_kwargs=latent_kwargs(request.param), **kwargs, seed=0, device="cpu")
    first_alpha, groups = model.log_ent_coef.exp().item(), {}
    own = model.policy.features_extractor.optimizer
    # In the order of the steps: where the tasks have an Adam of their own, the encoder's group there is the later one.
    optimizers = [model.critic.optimizer, model.actor.optimizer, model.ent_coef_optimizer] + ([own._adam] if own else [])
    for optimizer in optimizers:
        parts = ("encoder", "decoder") if own and optimizer is own._adam else (None, None, None)

        def keep(stepped, *_, parts=parts):
            for group, part in zip(stepped.param_groups, parts, strict=False):
                groups.setdefault(part or group["part"], []).append(dict(group))

        optimizer.register_step_post_hook(keep)
    model.learn(4)
    assert model._n_updates == 2
    return request.param, RECIPES[request.param], model, groups, first_alpha


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def layers_of(module):
    """(kind, shape of the weight, stride) of every layer with weights."""
    layers = [layer for layer in module.modules() if not list(layer.children()) and list(layer.parameters())]
    names = {nn.Conv2d: "conv", nn.Linear: "fc", nn.LayerNorm: "norm"}
    return [
        (names.get(type(layer), "convT"), tuple(layer.weight.shape), *getattr(layer, "stride", ())[:1]) for layer in layers
    ]


CONVOLUTIONS = [("conv", (32, 9, 3, 3), 2)] + [("conv", (32, 32, 3, 3), 1)] * 3
BOTTLENECK = [("fc", (50, 39_200)), ("norm", (50,))]
DECONVOLUTIONS = [("fc", (39_200, 50))] + [("convT", (32, 32, 3, 3), 1)] * 3 + [("convT", (32, 9, 3, 3), 2)]


def test_networks_are_as_large_as_the_authors(built):
    preset, recipe, model, _, _ = built
    policy, hidden = model.policy, recipe["hidden"]
    encoders = [policy.features_extractor.encoders, policy.features_extractor_target.encoders]
    for encoder in encoders:
        assert n_parameters(encoder) == 1_990_518 and layers_of(encoder) == CONVOLUTIONS + BOTTLENECK
        assert n_parameters(encoder["observation"].trunk) == 30_368
    tasks = policy.features_extractor.tasks
    if "recon" in EXPECTED[preset].get("tasks", {}):
        assert n_parameters(tasks) == 2_029_545 and layers_of(tasks) == DECONVOLUTIONS
    else:
        assert n_parameters(tasks) == (50 * 50 if preset == "curl" else 0)
    q_function = [("fc", (hidden, 50 + 5)), ("fc", (hidden, hidden)), ("fc", (1, hidden))]
    for critic in (policy.critic, policy.critic_target):
        assert layers_of(critic) == 2 * q_function
    of_actor = [("fc", (hidden, 50)), ("fc", (hidden, hidden)), ("fc", (5, hidden)), ("fc", (5, hidden))]
    assert sorted(layers_of(policy.actor)) == sorted([*BOTTLENECK, *of_actor])


def test_rates_are_the_authors(built):
    _, recipe, _, groups, _ = built
    assert set(groups) == set(recipe["lr"])
    for part, of_steps in groups.items():
        assert of_steps
        for group in of_steps:
            assert group["lr"] == recipe["lr"][part], part
            assert tuple(group["betas"]) == (recipe["beta1"].get(part, 0.9), 0.999), part
            assert group["weight_decay"] == recipe["weight_decay"].get(part, 0), part


def test_cadences_and_averages_are_the_authors(built):
    preset, recipe, model, _, _ = built
    sharing, every = model.policy.sharing, recipe["every"]
    assert sharing.actor_update_freq == every["actor"] and sharing.task_freq == every["tasks"]
    # As many updates as environment steps; SB3 counts target updates within a call of train(), hence as many steps a call.
    assert model.gradient_steps == model.train_freq.frequency == model.target_update_interval == every["targets"]
    assert (model.tau, sharing.encoder_tau or model.tau) == recipe["tau"] and sharing.target_encoder
    kwargs = sac_kwargs(preset)
    names = {"batch": "batch_size", "replay": "buffer_size", "random_steps": "learning_starts", "gamma": "gamma"}
    assert {name: kwargs[argument] for name, argument in names.items()} == {name: recipe[name] for name in names}


def test_the_entropy_coefficient_is_the_authors(built):
    _, recipe, model, _, first_alpha = built
    assert first_alpha == pytest.approx(recipe["alpha"])
    assert model.target_entropy == -5
    squash = model.actor.log_std[1]
    assert (squash(th.tensor(-1e6)).item(), squash(th.tensor(1e6)).item()) == recipe["log_std"]


def test_routing_views_and_targets_are_the_authors(built):
    preset, recipe, model, _, _ = built
    sharing, extractor = model.policy.sharing, model.policy.features_extractor
    assert set(sharing.encoder_gradients) == recipe["moves_encoder"] and sharing.actor_reads == recipe["actor_reads"]
    assert (sharing.n_target_views, sharing.n_q_views) == recipe["views"]
    pad = recipe["pad"]
    assert sharing.augmentation == (None if pad is None else {"random_shift": {"pad": pad}})
    assert model.policy._arguments["init"] == recipe["init"]
    if "recon" in extractor.tasks.coefs:
        assert extractor.tasks.coefs == {"recon": pytest.approx(1 / (9 * 84 * 84)), "latent_l2": 1e-6}
        assert extractor.tasks.by_key["observation"]["recon"].bits == 5
    if preset == "curl":
        assert extractor.tasks.coefs == {"curl": 1.0}


def test_the_vaes_differ_in_who_moves_the_encoder_and_when():
    """The instability study of SAC+AE, section 4; everything else is SAC+AE's."""
    shared = {name: value for name, value in latent_kwargs("sac_vae").items() if name != "features_extractor_kwargs"}
    assert shared == {
        **{name: value for name, value in latent_kwargs("sac_cnn").items() if name != "features_extractor_kwargs"},
        "actor_reads": "latent",
        "sample_latent": True,
    }
    for preset, differs in {
        "sac_vae": {},
        "sac_vae_actor": {"encoder_gradients": ("actor", "critic", "task")},
        "sac_vae_alternating": {"encoder_gradients": ("task",), "task_freq": 100},
    }.items():
        kwargs = latent_kwargs(preset)
        assert kwargs == {**shared, **differs, "features_extractor_kwargs": EXPECTED[preset]}
        assert sac_kwargs(preset) == sac_kwargs("sac_ae")


def test_the_upper_bound_differs_in_what_it_sees_alone():
    of_pixels, of_states = latent_kwargs("sac_cnn"), latent_kwargs("sac_state")
    for name in ("actor_reads", "encoder_tau", "features_extractor_kwargs"):
        of_pixels.pop(name), of_states.pop(name, None)
    assert of_states == of_pixels and sac_kwargs("sac_state") == sac_kwargs("sac_cnn")


def test_settings_of_the_policy_stand_beside_those_of_the_extractor():
    kwargs = latent_kwargs("sac_ae", latent_dim=8, actor_reads="latent", init=None)
    assert kwargs["features_extractor_kwargs"] == {**EXPECTED["sac_ae"], "latent_dim": 8}
    assert kwargs == {
        **latent_kwargs("sac_ae"),
        "features_extractor_kwargs": kwargs["features_extractor_kwargs"],
        "actor_reads": "latent",
        "init": None,
    }


def test_optimizers_are_merged_by_part_into_those_of_the_preset():
    ours = {"actor": {"lr": 1e-4}, "ent_coef": {"lr": 2e-4}}
    assert latent_kwargs("sac_ae", optimizers=ours)["optimizers"] == {"decoder": {"weight_decay": 1e-7}, **ours}
    assert ours == {"actor": {"lr": 1e-4}, "ent_coef": {"lr": 2e-4}}
    assert latent_kwargs("sac_ae", optimizers={})["optimizers"] == {}
    assert latent_kwargs("drq", optimizers=ours)["optimizers"] == ours


# ---------------------------------------------------------------------- copies, overrides, names


@pytest.mark.parametrize("preset", PRESETS)
def test_whoever_changes_a_copy_does_not_change_the_preset(preset):
    presets = PRESETS, POLICY_PRESETS, PPO_PRESETS, SAC_PRESETS
    before = copy.deepcopy(presets)
    kwargs = latent_kwargs(preset)
    settings = kwargs["features_extractor_kwargs"]
    for nested in (settings.get("tasks", {}), settings.get("coefs", {}), kwargs.get("optimizers", {})):
        for name in nested:
            nested[name] = "changed"
    settings["latent_dim"] = 3
    kwargs.setdefault("net_arch", []).append(1)
    if preset in PPO_PRESETS:
        ppo_kwargs(preset)["gamma"] = 0.5
    if preset in SAC_PRESETS:
        sac_kwargs(preset)["gamma"] = 0.5
    assert presets == before
    assert latent_kwargs(preset) == latent_kwargs(preset) != kwargs


def test_arguments_of_a_task_are_fresh_too():
    settings_of("vae")["tasks"]["recon"]["loss"] = "bernoulli"
    assert settings_of("vae")["tasks"]["recon"] == settings_of("beta_vae")["tasks"]["recon"] == {}


def test_overrides_replace_settings_and_leave_the_callers_dictionaries_alone():
    coefs, tasks = {"kl": 0.5}, {"recon": {"loss": "bernoulli"}}
    assert settings_of("ppo_vae", latent_dim=8, coefs=coefs, kappa="auto") == {
        **EXPECTED["ppo_vae"],
        "latent_dim": 8,
        "coefs": {"recon": 1.0, "kl": 0.5},
        "kappa": "auto",
    }
    assert settings_of("vae", tasks=tasks)["tasks"] == tasks
    assert coefs == {"kl": 0.5} and tasks == {"recon": {"loss": "bernoulli"}}


def test_other_tasks_keep_the_coefficients_of_those_that_remain():
    tasks = {"recon": {"loss": "bernoulli"}, "kl": {}}
    assert settings_of("ppo_vae", tasks=tasks)["coefs"] == {"recon": 1.0, "kl": 1.0}
    assert settings_of("ppo_vae", tasks={"recon": {}}).get("coefs") == {"recon": 1.0}


def test_beta_is_never_ignored():
    """Either it weighs the KL, or it is refused beside a coefficient that leaves it nothing to say."""
    space = spaces.Box(0, 255, (1, 36, 36), np.uint8)
    try:
        coefs = LatentExtractor(space, **settings_of("ppo_vae", beta=4.0)).tasks.coefs
    except ValueError as error:
        assert "beta=4.0" in str(error)
    else:
        assert coefs["kl"] == 4 * coefs["recon"]


def test_lists_of_names():
    assert list_presets() == sorted([*EXPECTED, *WINDOW_PRESETS])
    assert list_trunks() == ["dmc", "dreamer", "flatten", "impala", "mlp", "nature", "seed84", "slac"]
    assert list_heads() == ["deterministic", "gaussian", "identity", "layer_norm_tanh"]
    assert list_tasks() == ["curl", "kl", "latent_l2", "recon"]


SETTINGS = [name for name in inspect.signature(LatentExtractor).parameters if name != "observation_space"]


@pytest.mark.parametrize(
    ("preset", "overrides", "error", "value", "nearest", "allowed"),
    [
        ("vea", {}, ValueError, "preset 'vea'", "vae", list_presets()),
        ("VAE", {}, ValueError, "preset 'VAE'", "vae", list_presets()),
        ("beta-vae", {}, ValueError, "preset 'beta-vae'", "beta_vae", list_presets()),
        ("vae", {"trunk": "natur"}, ValueError, "trunk 'natur'", "nature", list_trunks()),
        ("vae", {"head": "gausian"}, ValueError, "head 'gausian'", "gaussian", list_heads()),
        ("vae", {"tasks": {"recon": {}, "lk": {}}}, ValueError, "task 'lk'", "kl", list_tasks()),
        ("vae", {"gradient_mode": "jiont"}, ValueError, "gradient_mode 'jiont'", "joint", ["joint", "own_optimizer"]),
        ("vae", {"coefs": {"reco": 1.0}}, ValueError, "coefficient 'reco'", "recon", ["kl", "recon"]),
        ("cnn", {"coefs": {"recon": 1.0}}, ValueError, "coefficient 'recon'", None, ["none"]),
        ("vae", {"latent_dims": 3}, TypeError, "setting 'latent_dims'", "latent_dim", SETTINGS),
        ("vae", {"net_arch": [64]}, TypeError, "setting 'net_arch'", None, SETTINGS),
    ],
)
def test_a_wrong_name_is_told_before_there_is_an_environment(preset, overrides, error, value, nearest, allowed):
    with pytest.raises(error) as raised:
        latent_kwargs(preset, **overrides)
    message = str(raised.value)
    assert value in message and "\n" not in message
    assert nearest is None or f"did you mean {nearest!r}?" in message
    assert all(name in message for name in allowed)


@pytest.mark.parametrize(
    ("settings", "value", "nearest", "allowed"),
    [
        ({"trunk_kwargs": {"hiden_dim": 8}}, "'hiden_dim'", "hidden_dim", ["hidden_dim"]),
        ({"head_kwargs": {"log_var_bound": (0, 1)}}, "'log_var_bound'", "log_var_bounds", ["log_var_bounds"]),
        ({"tasks": {"kl": {"free_bit": 1.0}}}, "'free_bit'", "free_bits", ["free_bits"]),
        ({"tasks": {"recon": {"loss": "gaussian", "sdt": 1.0}}}, "'sdt'", "std", ["learn_std", "std"]),
    ],
)
def test_a_wrong_argument_of_a_part_is_told_with_the_right_ones(settings, value, nearest, allowed):
    with pytest.raises(TypeError) as raised:
        LatentExtractor(spaces.Box(0, 255, (1, 36, 36), np.uint8), **settings_of("vae", **settings))
    message = str(raised.value)
    assert value in message and f"did you mean {nearest!r}?" in message and all(name in message for name in allowed)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ({"kappa": "atuo"}, ["kappa='atuo'", "'auto'"]),
        ({"kappa": True}, ["kappa=True", "number or a schedule"]),
        ({"coefs": {"kl": "1"}}, ["coefs['kl']='1'", "number or a schedule"]),
        ({"coefs": [("kl", 1.0)]}, ["coefs", "[('kl', 1.0)]"]),
        ({"tasks": ["recon", "kl"]}, ["tasks", "['recon', 'kl']"]),
        ({"head": None}, ["head", "None", "gaussian"]),
        ({"trunk": 3}, ["trunk", "3", "nature"]),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_before_there_is_an_environment(overrides, parts):
    with pytest.raises(TypeError) as raised:
        latent_kwargs("vae", **overrides)
    assert all(part in str(raised.value) for part in parts)


def test_a_preset_is_a_name():
    with pytest.raises(TypeError, match=r"preset must be a name, not None.*'vae'"):
        latent_kwargs(None)
    with pytest.raises(ValueError, match="unknown PPO preset 'vae'; did you mean 'ppo_vae'"):
        ppo_kwargs("vae")
    with pytest.raises(ValueError, match="unknown SAC preset 'vae'; did you mean 'sac_vae'"):
        sac_kwargs("vae")


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["kappa", "coefs"])
def test_weights_are_finite_and_not_negative(name, value):
    with pytest.raises(ValueError, match="must be finite and not negative"):
        latent_kwargs("vae", **{name: {"kl": value} if name == "coefs" else value})


def test_settings_of_the_policy_are_checked_together_with_those_of_the_preset():
    assert latent_kwargs("drq", n_target_views=3)["n_target_views"] == 3
    with pytest.raises(ValueError, match="n_target_views=2"):
        latent_kwargs("sac_ae", n_target_views=2)


def test_optimizers_are_merged_by_part():
    ours, theirs = latent_kwargs("sac_ae", optimizers={"encoder": {"lr": 1e-4}}), latent_kwargs("sac_ae")
    assert ours["optimizers"] == {**theirs["optimizers"], "encoder": {"lr": 1e-4}}
    assert latent_kwargs("sac_ae", optimizers=None)["optimizers"] is None
