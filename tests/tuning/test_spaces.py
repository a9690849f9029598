"""Search spaces: stated beside each class, complete, within bounds, and merged without losing what the user gave."""

import copy
import inspect

import numpy as np
import optuna
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sb3_latent import DynamicsExtractor, LatentExtractor, latent_kwargs, list_presets
from sb3_latent.auxiliary import TASKS, AuxiliaryTask
from sb3_latent.dynamics import DYNAMICS, Dynamics
from sb3_latent.nn import LIKELIHOODS, TRUNKS, Trunk, list_image_trunks
from sb3_latent.presets import SETTINGS, WINDOW_SETTINGS
from sb3_latent.recipes import WINDOW_PRESETS
from sb3_latent.search import Choice, Float, Int, Layers, around
from sb3_latent.tuning.algorithms import ALGORITHM_SPACES
from sb3_latent.tuning.spaces import merged, restricted, sample, search_space, settings_of
from sb3_latent.windows import window_space

IMAGES = spaces.Box(0, 255, (4, 64, 64), np.uint8)
ACTIONS = spaces.Box(-1, 1, (2,), np.float32)
WINDOWS = window_space(spaces.Box(0, 255, (3, 64, 64), np.uint8), ACTIONS, 4)
CLASSES = [
    (registry, base, name)
    for registry, base in ((TRUNKS, Trunk), (TASKS, AuxiliaryTask), (DYNAMICS, Dynamics))
    for name in registry.names()
]


def trials(n, seed=0):
    """Random trials of a study in memory, which holds scalars alone as a database does."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    return [study.ask() for _ in range(n)]


def representation(preset, observation_space=IMAGES, **settings):
    """The part of the space that belongs to the preset, by name in ``policy_kwargs``."""
    hyperparams = {"policy_kwargs": {"preset": preset, **settings}}
    full = search_space("SAC", hyperparams, WINDOWS if preset in WINDOW_PRESETS else observation_space)
    return {name.removeprefix("policy_kwargs."): one for name, one in full.items() if name not in ALGORITHM_SPACES["SAC"]}


@pytest.mark.parametrize("registry, base, name", CLASSES, ids=[f"{r.kind}-{n}" for r, _, n in CLASSES])
def test_every_class_states_its_space_and_takes_what_is_drawn(registry, base, name):
    cls = registry.get(name)
    assert any("search_space" in vars(one) for one in cls.__mro__ if one not in base.__mro__)
    assert set(cls.search_space) <= set(inspect.signature(cls).parameters)
    for dimension in cls.search_space.values():
        assert isinstance(dimension, Float | Int | Choice | Layers)


@pytest.mark.parametrize("registry", [TRUNKS, DYNAMICS, LIKELIHOODS], ids=lambda registry: registry.kind)
def test_what_is_drawn_builds(registry):
    first = {TRUNKS: ((3, 64, 64),), DYNAMICS: (16, 2), LIKELIHOODS: ()}[registry]
    for name in registry.names():
        for trial in trials(5):
            kwargs = sample(trial, registry.get(name).search_space)
            with th.device("meta"):
                made = registry.make(name, *first, kwargs=kwargs)
            defaults = {key: getattr(made, key) for key in kwargs if hasattr(made, key)}
            assert {key: value for key, value in defaults.items() if isinstance(value, int)} == {
                key: value for key, value in kwargs.items() if key in defaults and isinstance(defaults[key], int)
            }


@pytest.mark.parametrize("preset", list_presets())
def test_a_trial_of_every_preset_builds_with_what_was_drawn_and_all_else_as_it_was(preset):
    hyperparams = {"policy_kwargs": {"preset": preset}, "learning_rate": 1.0, "buffer_size": 7}
    space = search_space("SAC", hyperparams, WINDOWS if preset in WINDOW_PRESETS else IMAGES)
    before = settings_of(hyperparams["policy_kwargs"])
    for trial in trials(3):
        drawn = sample(trial, space)
        result = merged(hyperparams, drawn)
        assert result["buffer_size"] == 7 and result["learning_rate"] == drawn["learning_rate"]
        after = settings_of({name: value for name, value in result["policy_kwargs"].items() if name != "net_arch"})
        changed = flat(after).keys() ^ flat(before).keys() | {k for k in flat(before) if flat(after).get(k) != flat(before)[k]}
        ours = {name.removeprefix("policy_kwargs.") for name in drawn if name.startswith("policy_kwargs.")}
        assert {name for name in changed if not any(f"{one}.".startswith(f"{name}.") for one in ours)} == set()
        for name in ours - {"net_arch"}:
            assert flat(after)[name] == drawn[f"policy_kwargs.{name}"]
        make = DynamicsExtractor if preset in WINDOW_PRESETS else LatentExtractor
        names = WINDOW_SETTINGS if preset in WINDOW_PRESETS else SETTINGS
        with th.device("meta"):
            arguments = {name: value for name, value in after.items() if name in names} | {"frozen": False}
            make(WINDOWS if preset in WINDOW_PRESETS else IMAGES, **arguments)


def flat(settings, prefix=""):
    """``{"tasks": {"kl": {"free_bits": 1}}}`` as ``{"tasks.kl.free_bits": 1}``; lists are values."""
    result = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = value
    return result


def test_what_is_searched_of_a_vae():
    space = representation("vae")
    assert set(space) == {"latent_dim", "trunk", "kappa", "beta", "coefs.recon", "tasks.kl.free_bits"}
    assert space["trunk"] == Choice(tuple(list_image_trunks((4, 64, 64))))
    assert space["kappa"] == around(1.0) == Float(1 / 30, 30, log=True)


@pytest.mark.parametrize(
    "settings, there, gone",
    [
        ({"trunk": "impala"}, {"trunk_kwargs.channels", "trunk_kwargs.hidden_dim"}, {"trunk"}),
        ({"coefs": {"recon": 2.0, "kl": 1.0}}, {"coefs.recon", "coefs.kl"}, {"beta"}),
        ({"kappa": "auto"}, set(), {"kappa"}),
        ({"kappa": 0.0}, set(), {"kappa"}),
        ({"pretrained": "some.safetensors"}, {"kappa"}, {"latent_dim", "trunk", "tasks.kl.free_bits"}),
        ({"gradient_mode": "own_optimizer"}, {"auxiliary_optimizer_kwargs.lr"}, set()),
        ({"tasks": {"recon": {"loss": "gaussian"}, "kl": {}}}, {"tasks.recon.std"}, set()),
        ({"head": "identity", "tasks": {}, "trunk": "flatten"}, set(), {"latent_dim", "kappa", "trunk"}),
    ],
)
def test_settings_of_the_user_shape_the_space(settings, there, gone):
    space = representation("vae", **settings)
    assert there <= set(space)
    assert not gone & set(space)


def test_given_coefficients_and_kappa_are_varied_around_their_values():
    space = representation("ppo_vae")
    assert space["kappa"] == around(20.0)
    assert space["coefs.recon"] == space["coefs.kl"] == around(1.0)
    assert representation("cnn").keys() == {"latent_dim", "trunk"}


def test_trpo_has_no_kappa():
    hyperparams = {"policy_kwargs": {"preset": "vae"}}
    assert set(search_space("PPO", hyperparams, IMAGES)) - set(search_space("TRPO", hyperparams, IMAGES)) >= {
        "policy_kwargs.kappa"
    }


def test_schedules_stay():
    space = representation("vae", coefs={"recon": lambda progress: progress}, kappa=lambda progress: 1.0)
    assert not {"coefs.recon", "kappa"} & set(space)


def test_vectors_have_no_trunk_to_choose_and_small_images_some():
    assert "trunk" not in representation("ae", spaces.Box(-1, 1, (5,)))
    assert not {name for name in representation("vae", spaces.Box(-1, 1, (5,)), trunk=None) if name.startswith("trunk")}
    assert list_image_trunks((3, 16, 16)) == []
    mixed = spaces.Dict({"image": IMAGES, "state": spaces.Box(-1, 1, (5,))})
    assert representation("vae", mixed)["trunk"] == representation("vae")["trunk"]


def test_latent_models_search_their_dynamics_trunk_and_pixel_deviation():
    assert set(representation("slac")) == {
        "auxiliary_optimizer_kwargs.lr",
        "dynamics_kwargs.z1_dim",
        "dynamics_kwargs.z2_dim",
        "trunk_kwargs.depth",
        "loss_kwargs.std",
    }


@pytest.mark.parametrize("n_envs", [1, 3, 8])
@pytest.mark.parametrize("algorithm", ["PPO", "RecurrentPPO", "MaskablePPO", "TRPO"])
def test_every_batch_divides_every_rollout(algorithm, n_envs):
    space = search_space(algorithm, {}, IMAGES, n_envs)
    for n_steps in space["n_steps"].values:
        for batch_size in space["batch_size"].values:
            assert n_steps * n_envs % batch_size == 0


@pytest.mark.parametrize("algorithm", ALGORITHM_SPACES)
def test_hyperparameters_are_arguments_of_the_algorithm_within_its_rules(algorithm):
    import sb3_contrib
    import stable_baselines3

    cls = getattr(stable_baselines3, algorithm, None) or getattr(sb3_contrib, algorithm)
    names = {name for name in ALGORITHM_SPACES[algorithm] if not name.startswith("policy_kwargs.")}
    assert names <= set(inspect.signature(cls).parameters)


def test_rollouts_leave_room_for_updates_between_evaluations():
    space = search_space("PPO", {}, IMAGES, n_envs=16, longest_rollout=30_000 // 8)
    assert space["n_steps"] == Choice((128,)) and max(space["batch_size"].values) == 256
    assert search_space("PPO", {}, IMAGES, n_envs=16, longest_rollout=100)["n_steps"] == Choice((128,))
    assert (
        search_space("PPO", {}, IMAGES, n_envs=1, longest_rollout=10**6)["n_steps"]
        == search_space("PPO", {}, IMAGES)["n_steps"]
    )


def test_optuna_holds_every_dimension():
    everything = {f"{cls}.{name}": one for registry, _, cls in CLASSES for name, one in registry.get(cls).search_space.items()}
    everything |= {f"{algorithm}.{n}": one for algorithm, space in ALGORITHM_SPACES.items() for n, one in space.items()}
    (trial,) = trials(1)
    sample(trial, everything)
    for name, dimension in everything.items():
        held = trial.distributions[name]
        match dimension:
            case Float(low, high, log):
                assert held == FloatDistribution(low, high, log)
            case Int(low, high, log):
                assert held == IntDistribution(low, high, log)
            case _:
                assert isinstance(held, CategoricalDistribution)
                assert all(isinstance(choice, str | int | float | None) for choice in held.choices)


def test_a_fixed_trial_gives_the_same_values_again():
    space = search_space("PPO", {"policy_kwargs": {"preset": "ppo_vae"}}, spaces.Box(0, 255, (1, 84, 84), np.uint8))
    for trial in trials(10):
        drawn = sample(trial, space)
        assert sample(optuna.trial.FixedTrial(trial.params), space) == drawn


PATHS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map(".".join)


@given(st.dictionaries(PATHS.map(lambda path: f"policy_kwargs.{path}"), st.integers(), max_size=4), st.integers())
def test_merging_puts_values_in_their_places_and_leaves_the_rest(values, given_value):
    paths = sorted(values)
    if any(later.startswith(f"{earlier}.") for earlier in paths for later in paths):
        return
    hyperparams = {"policy_kwargs": {"z": given_value, "a": {}}, "gamma": 0.5}
    before = copy.deepcopy(hyperparams)
    result = flat(merged(hyperparams, values))
    assert hyperparams == before
    assert result.pop("gamma") == 0.5 and result.pop("policy_kwargs.z") == given_value
    assert {name: value for name, value in result.items() if value != {}} == values


def test_restricting_by_the_end_of_a_name():
    space = search_space("PPO", {"policy_kwargs": {"preset": "vae"}}, IMAGES)
    assert set(restricted(space, ["latent_dim", "kl.free_bits", "gamma"])) == {
        "policy_kwargs.latent_dim",
        "policy_kwargs.tasks.kl.free_bits",
        "gamma",
    }
    with pytest.raises(ValueError, match="'latent_dm'; did you mean 'latent_dim'"):
        restricted(space, ["latent_dm"])


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="unknown algorithm to tune 'ARS'"):
        search_space("ARS", {}, IMAGES)
    with pytest.raises(TypeError, match="by names"):
        search_space("PPO", {"policy_kwargs": latent_kwargs("vae")}, IMAGES)
    with pytest.raises(ValueError, match="did you mean 'vae'"):
        search_space("PPO", {"policy_kwargs": {"preset": "vea"}}, IMAGES)
