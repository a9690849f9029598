"""Presets are data: what seed document 000 and the papers say, handed out in fresh copies."""

import copy
import inspect

import numpy as np
import pytest
from gymnasium import spaces

from sb3_latent import LatentExtractor, latent_kwargs, list_heads, list_presets, list_tasks, list_trunks, ppo_kwargs
from sb3_latent.presets import PPO_PRESETS, PRESETS

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
EXPECTED = {
    "cnn": {"head": "deterministic"},
    "ae": {"head": "deterministic", "tasks": {"recon": {}}},
    "rae": {"head": "deterministic", "tasks": {"recon": {}, "latent_l2": {}}},
    "vae": {"head": "gaussian", "tasks": {"recon": {}, "kl": {}}},
    "beta_vae": {"head": "gaussian", "tasks": {"recon": {}, "kl": {}}, "beta": 4.0},
    "ppo_fixed": {**TABLE_1, "frozen": True},
    "ppo_adapt": TABLE_1,
    "ppo_vae": {**TABLE_1, "tasks": {"recon": {}, "kl": {}}, "kappa": 20.0, "coefs": {"recon": 1.0, "kl": 1.0}},
}


def settings_of(preset, **overrides):
    return latent_kwargs(preset, **overrides)["features_extractor_kwargs"]


@pytest.mark.parametrize("preset", EXPECTED)
def test_a_preset_is_what_its_paper_says(preset):
    assert settings_of(preset) == EXPECTED[preset]


@pytest.mark.parametrize("preset", list_presets())
def test_a_preset_holds_arguments_of_the_extractor(preset):
    kwargs = latent_kwargs(preset)
    assert kwargs["features_extractor_class"] is LatentExtractor
    assert set(settings_of(preset)) <= set(inspect.signature(LatentExtractor).parameters)
    assert set(kwargs) - {"net_arch"} == {"features_extractor_class", "features_extractor_kwargs"}
    assert kwargs.get("net_arch") == ([64, 64] if preset in PPO_PRESETS else None)


@pytest.mark.parametrize("preset", SEED_000)
def test_ppo_kwargs_are_tables_2_and_3(preset):
    assert ppo_kwargs(preset) == TABLES_2_AND_3
    assert latent_kwargs(preset)["net_arch"] == [64, 64]


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


@pytest.mark.parametrize("preset", list_presets())
def test_whoever_changes_a_copy_does_not_change_the_preset(preset):
    before = copy.deepcopy((PRESETS, PPO_PRESETS))
    kwargs = latent_kwargs(preset)
    settings = kwargs["features_extractor_kwargs"]
    for nested in (settings.get("tasks", {}), settings.get("coefs", {})):
        for name in nested:
            nested[name] = "changed"
    settings["latent_dim"] = 3
    kwargs.setdefault("net_arch", []).append(1)
    if preset in PPO_PRESETS:
        ppo_kwargs(preset)["gamma"] = 0.5
    assert (PRESETS, PPO_PRESETS) == before
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
    assert list_presets() == sorted(EXPECTED)
    assert list_trunks() == ["impala", "mlp", "nature", "seed84"]
    assert list_heads() == ["deterministic", "gaussian", "identity"]
    assert list_tasks() == ["kl", "latent_l2", "recon"]


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


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["kappa", "coefs"])
def test_weights_are_finite_and_not_negative(name, value):
    with pytest.raises(ValueError, match="must be finite and not negative"):
        latent_kwargs("vae", **{name: {"kl": value} if name == "coefs" else value})
