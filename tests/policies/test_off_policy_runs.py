"""Whole runs: repeated, interrupted, saved, frozen, watched, in other precision; and what cannot work says so at once."""

import copy
import itertools
import shutil

import numpy as np
import pytest
import torch as th
from algorithms import NoiseImageEnv, make_model, tiny
from interrupted_runs import SnapshotCallback, flat, restore_rng
from stable_baselines3 import DDPG, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from sb3_latent import (
    LatentSACPolicy,
    LatentTD3Policy,
    LatentTQCPolicy,
    get_extractor,
    get_extractors,
    latent_kwargs,
    load_encoder,
    save_encoder,
)
from sb3_latent.callbacks import (
    EncoderScheduleCallback,
    JacobianSaliencyCallback,
    LatentMetricsCallback,
    ReconstructionCallback,
)
from sb3_latent.execution import Execution

POLICIES = {"SAC": LatentSACPolicy, "TQC": LatentTQCPolicy, "TD3": LatentTD3Policy, "DDPG": LatentTD3Policy}
MODES = ["joint", "own_optimizer"]
REPLAY = {"buffer_size": 50, "learning_starts": 10, "batch_size": 8, "train_freq": 1}
SHIFT = {"augmentation": {"random_shift": {"pad": 1}}}


def make(name, settings=None, preset="rae", **kwargs):
    policy_kwargs = {**tiny(preset, **(settings or {})), "net_arch": [8]}
    if name == "DDPG":
        env = kwargs.pop("env", None) or NoiseImageEnv(discrete=False)
        settings = {"seed": 0, "device": "cpu", **REPLAY, **kwargs}
        return DDPG(LatentTD3Policy, env, policy_kwargs=policy_kwargs, **settings)
    return make_model(name, policy_kwargs, policy=POLICIES[name], **kwargs)


def cadences(name):
    return {"task_freq": 2, **({"actor_update_freq": 3} if name in ("SAC", "TQC") else {})}


def state_of(model):
    """All that a model learns with: weights, also of targets, the moments of every Adam, the entropy coefficient."""
    log_ent_coef = getattr(model, "log_ent_coef", None)
    return flat({**model.get_parameters(), "log_ent_coef": None if log_ent_coef is None else log_ent_coef.detach()})


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for path, leaf in theirs.items():
        same = th.equal(ours[path], leaf) if isinstance(leaf, th.Tensor) else ours[path] == leaf
        assert same, f"{path}: {ours[path]} and {leaf}"


def weights(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def changed(before, module):
    return [name for name, parameter in module.named_parameters() if not th.equal(before[name], parameter)]


# ---------------------------------------------------------------------- again, and after an interruption


@pytest.mark.parametrize("name", POLICIES)
def test_a_seed_is_a_run(name):
    states = []
    for seed in (0, 0, 1):
        model = make(name, {**SHIFT, **cadences(name), "head": "gaussian", "sample_latent": True}, seed=seed)
        model.learn(16)
        states.append(copy.deepcopy(state_of(model)))
    assert_same(states[1], states[0])
    with pytest.raises(AssertionError):
        assert_same(states[2], states[0])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", POLICIES)
def test_an_interrupted_run_continues_to_the_bit(name, mode, tmp_path):
    """Odd halves, so that every cadence is resumed in the middle of its period; schedules go on where they were."""
    settings = {
        "gradient_mode": mode,
        "kappa": "auto",
        "coefs": {"recon": lambda progress: 0.01 + 0.01 * progress},
        "optimizers": {"critic": {"lr": lambda progress: 1e-3 * progress}, "encoder": {"betas": (0.5, 0.9)}},
        "encoder_tau": 0.2,
        **SHIFT,
        **cadences(name),
    }
    model = make(name, settings)
    snapshot = SnapshotCallback(15, tmp_path)
    model.learn(20, callback=snapshot)
    resumed = type(model).load(tmp_path / "model", env=snapshot.env, force_reset=False)
    resumed.load_replay_buffer(tmp_path / "replay")
    before = copy.deepcopy(state_of(resumed))
    restore_rng(snapshot.rng)
    resumed.learn(5, reset_num_timesteps=False)
    assert resumed._n_updates == model._n_updates == 10
    assert_same(state_of(resumed), state_of(model))
    assert any("exp_avg" in path for path in before)
    own = [path for path in before if "_extra_state.optimizer.state" in path]
    assert bool(own) == (mode == "own_optimizer")
    with pytest.raises(AssertionError):
        assert_same(before, state_of(model))


# ---------------------------------------------------------------------- files


SETTINGS = {
    "actor_reads": "trunk",
    "head": "layer_norm_tanh",
    "encoder_gradients": ("critic", "task"),
    "task_freq": 3,
    "augmentation": {"random_shift": {"pad": 2}},
    "augmented": ("rl",),
    "n_q_views": 2,
    "autocast": True,
    "init": "orthogonal",
    "optimizers": {"critic": {"lr": 1e-4, "betas": (0.5, 0.9)}, "decoder": {"weight_decay": 1e-3}},
}


@pytest.mark.parametrize("target_encoder", [True, False])
@pytest.mark.parametrize("name", POLICIES)
def test_a_saved_policy_comes_back_with_every_setting(name, target_encoder, tmp_path):
    settings = {**SETTINGS, "target_encoder": target_encoder, "encoder_tau": 0.07 if target_encoder else None}
    if name in ("SAC", "TQC"):
        settings |= {"actor_update_freq": 2, "log_std_bounds": (-5.0, 1.0)}
    model = make(name, settings)
    model.learn(13)
    model.policy.save(tmp_path / "policy")
    loaded = POLICIES[name].load(tmp_path / "policy")
    assert_same(flat(loaded.state_dict()), flat(model.policy.state_dict()))
    assert loaded.sharing == model.policy.sharing
    assert loaded.features_extractor.execution == model.policy.features_extractor.execution == Execution(autocast=True)
    for setting, value in settings.items():
        if hasattr(loaded.sharing, setting):
            assert getattr(loaded.sharing, setting) == value
    observations = np.stack([model.observation_space.sample() for _ in range(3)])
    ours, theirs = (policy.predict(observations, deterministic=True)[0] for policy in (loaded, model.policy))
    assert np.array_equal(ours, theirs)
    for part in ("critic", "actor"):
        groups = [getattr(policy, part).optimizer.param_groups for policy in (loaded, model.policy)]
        kept = [[{key: group[key] for key in group if key not in ("params", "lr")} for group in of] for of in groups]
        assert kept[0] == kept[1]
    # And the copy learns on with them: a step by a model that takes it over is that of the model itself.
    states = []
    for policy in (model.policy, loaded):
        owner = make(name, settings)
        owner.policy = policy
        owner._create_aliases()
        for optimizer in (policy.critic.optimizer, policy.actor.optimizer):
            optimizer.state.clear()
        owner.learn(14)
        states.append(flat(policy.state_dict()))
    assert_same(*states)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", POLICIES)
def test_parameters_carry_a_run_from_model_to_model(name, mode):
    settings = {"gradient_mode": mode, **cadences(name)}
    model, other = make(name, settings), make(name, settings, seed=1)
    model.learn(15)
    other.set_parameters(copy.deepcopy(model.get_parameters()))
    assert_same(flat(other.get_parameters()), flat(model.get_parameters()))
    observation = model.observation_space.sample()
    ours, theirs = (one.predict(observation, deterministic=True)[0] for one in (model, other))
    assert np.array_equal(ours, theirs)
    other.learn(15)


@pytest.mark.parametrize(("giver", "taker"), [("SAC", "SAC"), ("PPO", "SAC"), ("SAC", "PPO"), ("TD3", "TQC"), ("PPO", "DDPG")])
def test_encoders_travel_between_algorithms(giver, taker, tmp_path):
    def build(name, seed):
        return make_model("PPO", tiny("rae"), seed=seed) if name == "PPO" else make(name, seed=seed)

    donor, receiver = build(giver, 1), build(taker, 2)
    donor.learn(32)
    save_encoder(donor, tmp_path / "encoder.safetensors")
    load_encoder(receiver, tmp_path / "encoder.safetensors")
    expected = get_extractor(donor)
    assert len(get_extractors(receiver)) == (1 if taker == "PPO" else 2)
    for extractor in get_extractors(receiver):
        assert_same(flat(extractor.encoders.state_dict()), flat(expected.encoders.state_dict()))
    assert_same(flat(get_extractor(receiver).tasks.state_dict()), flat(expected.tasks.state_dict()))
    if taker != "PPO":
        assert get_extractor(receiver) is receiver.policy.features_extractor
    receiver.learn(32)


@pytest.mark.parametrize("name", POLICIES)
def test_a_model_with_a_pretrained_encoder_loads_without_the_file(name, tmp_path):
    path = save_encoder(make(name, seed=3), tmp_path / "encoder.safetensors")
    model = make(name, {"pretrained": str(path)})
    model.learn(12)
    model.save(tmp_path / "model")
    path.unlink()
    assert_same(state_of(type(model).load(tmp_path / "model")), state_of(model))


# ---------------------------------------------------------------------- frozen encoders


@pytest.mark.parametrize("reads", ["latent", "trunk"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", POLICIES)
def test_a_frozen_encoder_stands_still_while_rl_learns(name, mode, reads):
    settings = {"gradient_mode": mode, "actor_reads": reads, "encoder_gradients": ("actor", "critic", "task")}
    model = make(name, settings)
    extractor = model.policy.features_extractor
    extractor.frozen = True
    before = {part: weights(getattr(model.policy, part)) for part in ("features_extractor", "actor", "critic")}
    target = weights(model.policy.features_extractor_target)
    model.learn(14)
    assert all(parameter.grad is None for parameter in extractor.parameters())
    assert not changed(before["features_extractor"], extractor)
    for name, parameter in model.policy.features_extractor_target.named_parameters():
        # An average of two equal numbers is that number but for rounding.
        th.testing.assert_close(parameter, target[name], rtol=1e-6, atol=1e-7)
    for part in ("actor", "critic"):
        assert set(changed(before[part], getattr(model.policy, part))) == set(before[part])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", POLICIES)
def test_a_schedule_freezes_and_unfreezes(name, mode):
    model = make(name, {"gradient_mode": mode})
    seen = []
    extractor = model.policy.features_extractor
    sample = model.replay_buffer.sample

    def sampled(*args, **kwargs):
        seen.append((model.num_timesteps, weights(extractor)))
        return sample(*args, **kwargs)

    model.replay_buffer.sample = sampled
    model.learn(20, callback=EncoderScheduleCallback(freeze_at=13, unfreeze_at=16))
    seen.append((21, weights(extractor)))
    for (at, before), (_, after) in itertools.pairwise(seen):
        still = [name for name in before if th.equal(before[name], after[name])]
        assert still == (list(before) if 13 <= at < 16 else [])


# ---------------------------------------------------------------------- callbacks


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["SAC", "TQC", "TD3"])
def test_callbacks_look_and_change_nothing(name, mode, tmp_path):
    settings = {"head": "gaussian", "tasks": {"recon": {}, "kl": {}}, "gradient_mode": mode, "n_q_views": 2, **SHIFT}
    callbacks = [
        LatentMetricsCallback(every=2, n_observations=8),
        ReconstructionCallback(every=4, n_images=2, folder=tmp_path),
        JacobianSaliencyCallback(every=4, n_frames=1, folder=tmp_path),
    ]
    logged = {}

    class Logged(BaseCallback):
        def _on_rollout_start(self):
            logged.update(self.logger.name_to_value)

        def _on_step(self):
            return True

    model = make(name, settings)
    model.learn(16, callback=[*callbacks, Logged()])
    for value in ("auxiliary/recon", "auxiliary/kl", "latent/kl_sum", "saliency/mean", "reconstruction/mse"):
        assert np.isfinite(logged[value]), value
    assert logged["auxiliary/rl_gradient_norm"] > 0 and logged["auxiliary/auxiliary_gradient_norm"] > 0
    names = {path.name.rpartition("_")[0] for path in tmp_path.iterdir()}
    assert names == {"reconstruction", "saliency"}
    assert logged["saliency/mean"] > 0

    twin = make(name, settings)
    twin.learn(16)
    assert_same(state_of(twin), state_of(model))


# ---------------------------------------------------------------------- no tasks, broken tasks


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("init", [None, "delta_orthogonal"])
@pytest.mark.parametrize("name", POLICIES)
def test_coefficients_of_0_are_a_run_without_tasks(name, init, mode):
    shared = {"init": init, "gradient_mode": mode, **SHIFT, **cadences(name)}
    runs = []
    for settings in ({"coefs": {"recon": 0.0, "latent_l2": 0.0}}, {"tasks": {}}):
        model = make(name, {**shared, **settings})
        model.learn(16)
        runs.append({path: parameter for path, parameter in weights(model.policy).items() if ".tasks." not in path})
    assert_same(*runs)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", POLICIES)
def test_a_loss_that_is_not_finite_stops_the_run_and_names_it(name, mode, tmp_path):
    model = make(name, {"gradient_mode": mode})
    model.learn(12)
    before = weights(model.policy.critic)
    decoder = model.policy.features_extractor.tasks.by_key["observation"]["recon"].decoder
    with th.no_grad():
        next(decoder.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"'recon' is not finite \(nan\) at step 13"):
        model.learn(4, reset_num_timesteps=False)
    assert not changed(before, model.policy.critic), "told before the critic stepped"
    with pytest.raises(FloatingPointError):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model.zip").exists()


# ---------------------------------------------------------------------- what cannot work


@pytest.mark.parametrize(
    ("build", "parts"),
    [
        (
            lambda: make_model("TQC", tiny("ae"), policy=LatentSACPolicy),
            ["LatentSACPolicy is for SAC, not TQC", "LatentTQCPolicy"],
        ),
        (lambda: make_model("SAC", tiny("ae"), policy=LatentTQCPolicy), ["LatentTQCPolicy is for TQC, not SAC"]),
        (lambda: make_model("SAC", tiny("ae"), policy=LatentTD3Policy), ["LatentTD3Policy is for TD3, not SAC"]),
        (
            lambda: make_model("TD3", tiny("ae"), policy=LatentSACPolicy),
            ["LatentSACPolicy is for SAC, not TD3", "LatentTD3Policy"],
        ),
        (lambda: make_model("PPO", tiny("ae"), policy=LatentSACPolicy), ["not PPO", "LatentActorCriticPolicy"]),
        (lambda: make("TQC", {"n_target_views": 2, **SHIFT}), ["n_target_views=2", "TQC", "use 1, or SAC"]),
        (lambda: make("TD3", {"n_target_views": 2, **SHIFT}), ["n_target_views=2", "TD3", "use 1, or SAC"]),
        (lambda: make("TD3", {"actor_update_freq": 2}), ["actor_update_freq=2", "policy_delay"]),
        (lambda: make("SAC", {"n_q_views": 2}), ["n_q_views=2", "augmentation={'random_shift': {}}"]),
        (lambda: make("SAC", {"n_target_views": 2, "augmented": ("task",), **SHIFT}), ["n_target_views=2", "'rl'"]),
        (lambda: make("SAC", {"tasks": {"curl": {}}}), ["augmentation={'random_shift': {}}", "target_encoder=True"]),
        (lambda: make("SAC", {"tasks": {"curl": {}}, "target_encoder": False, **SHIFT}), ["target_encoder=True"]),
        (lambda: make("SAC", {"actor_reads": "trnk"}), ["actor_reads 'trnk'", "did you mean 'trunk'?", "'latent'"]),
        (lambda: make("SAC", {"encoder_gradients": "critic"}), ["encoder_gradients='critic'", "list", "'task'"]),
        (lambda: make("SAC", {"encoder_gradients": ("critics",)}), ["'critics'", "did you mean 'critic'?", "'task'"]),
        (lambda: make("SAC", {"augmented": ("rl", "tasks")}), ["'tasks'", "did you mean 'task'?", "'rl'"]),
        (lambda: make("SAC", {"augmentation": {"random_shft": {}}}), ["'random_shft'", "did you mean 'random_shift'?"]),
        (lambda: make("SAC", {"encoder_tau": 0}), ["encoder_tau=0", "(0, 1]"]),
        (lambda: make("SAC", {"encoder_tau": 1.5}), ["encoder_tau=1.5", "(0, 1]"]),
        (lambda: make("SAC", {"target_encoder": "no"}), ["target_encoder='no'", "True or False"]),
        (lambda: make("SAC", {"autocast": 1}), ["autocast=1", "True or False"]),
        (lambda: make("SAC", {"task_freq": 0}), ["task_freq=0", "at least 1"]),
        (lambda: make("SAC", {"actor_update_freq": 1.5}), ["actor_update_freq=1.5", "at least 1"]),
    ],
)
def test_what_cannot_work_is_told_in_one_line(build, parts):
    with pytest.raises(ValueError) as raised:
        build()
    assert "\n" not in str(raised.value) and all(part in str(raised.value) for part in parts)


def sac(policy_kwargs, **kwargs):
    env = NoiseImageEnv(discrete=False, size=kwargs.pop("size", 12))
    return SAC(LatentSACPolicy, env, policy_kwargs=policy_kwargs, seed=0, device="cpu", **{**REPLAY, **kwargs})


@pytest.mark.parametrize(
    ("policy_kwargs", "parts"),
    [
        ({**tiny("ae"), "share_features_extractor": True}, ["always shares", "drop share_features_extractor=True"]),
        ({"features_extractor_class": FlattenExtractor}, ["FlattenExtractor is no LatentExtractor", "latent_kwargs"]),
        ({**tiny("ae"), "actor_read": "trunk"}, ["'actor_read'", "did you mean 'actor_reads'?", "LatentSACPolicy"]),
        ({"preset": "sac_ea"}, ["preset 'sac_ea'", "did you mean 'sac_ae'?"]),
        ({"preset": "sac_ae", "latent_dims": 3}, ["'latent_dims'", "did you mean 'latent_dim'?"]),
        ({"preset": "sac_ae", "features_extractor_kwargs": {"latent_dim": 3}}, ["features_extractor_kwargs", "preset"]),
        ({**tiny("ae"), "augmentation": "random_shift"}, ["augmentation='random_shift'", "{'random_shift': {"]),
        ({**tiny("ae"), "encoder_gradients": 3}, ["encoder_gradients=3", "list"]),
        ({**tiny("ae"), "encoder_tau": "5e-2"}, ["encoder_tau='5e-2'", "(0, 1]"]),
    ],
)
def test_wrong_arguments_are_told_in_one_line(policy_kwargs, parts):
    with pytest.raises((TypeError, ValueError)) as raised:
        sac(policy_kwargs)
    assert "\n" not in str(raised.value) and all(part in str(raised.value) for part in parts)


def test_sharing_is_what_it_does_anyway():
    sac({**tiny("ae"), "share_features_extractor": False}).learn(12)


# ---------------------------------------------------------------------- presets by name


SMALL = {"latent_dim": 8, "trunk_kwargs": {"n_layers": 2, "channels": 4}}
PRESETS = ["sac_ae", "sac_cnn", "sac_vae", "sac_vae_actor", "sac_vae_alternating", "drq", "curl", "sac_state"]


def assert_same_runs(*policy_kwargs):
    """With a policy each."""
    models = []
    for kwargs in policy_kwargs:
        models.append(sac({**kwargs, "net_arch": [8]}, size=32))
        models[-1].learn(13)
    assert models[0].policy.sharing == models[1].policy.sharing
    assert_same(*map(state_of, models))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_by_name_is_what_latent_kwargs_writes(preset):
    small = {} if preset == "sac_state" else SMALL
    assert_same_runs({"preset": preset, **small}, latent_kwargs(preset, **small))


@pytest.mark.parametrize(
    "settings",
    [
        {"actor_reads": "latent", "actor_update_freq": 1, "optimizers": {"actor": {"lr": 1e-4}}},
        {"encoder_tau": None},
        {"target_encoder": False},
        {"init": None},
        {"log_std_bounds": None},
        {"optimizers": None},
        {"optimizers": {}, "init": "orthogonal", "gradient_mode": "joint", "auxiliary_optimizer_kwargs": None},
    ],
    ids=str,
)
def test_settings_beside_the_name_replace_those_of_the_preset(settings):
    assert_same_runs({"preset": "sac_ae", **SMALL, **settings}, latent_kwargs("sac_ae", **SMALL, **settings))


# ---------------------------------------------------------------------- SB3's wrappers


def test_normalised_rewards():
    """A buffer holds raw rewards, so that the normalisation of today applies to all of them."""
    env = VecNormalize(DummyVecEnv([lambda: NoiseImageEnv(discrete=False)] * 2), norm_obs=False, norm_reward=True)
    model = make("SAC", env=env)
    rewards = []
    sample = model.replay_buffer.sample

    def sampled(*args, **kwargs):
        batch = sample(*args, **kwargs)
        rewards.append((batch.rewards.abs().max().item(), np.abs(model.replay_buffer.rewards).max(), env.ret_rms.var))
        return batch

    model.replay_buffer.sample = sampled
    before = weights(model.policy)
    model.learn(40)
    assert len(changed(before, model.policy)) == len(before) and rewards
    assert all(np.isfinite(row).all() for row in rewards)


# ---------------------------------------------------------------------- precision and compilation


BFLOAT16 = 3e-2
"""Of the norm of a layer's gradient: bfloat16 keeps 8 bits, and a gradient passes through half a dozen roundings."""
OTHER_ORDER = 1e-5
"""Of the same: float32 sums in another order."""


def gradients_of_first_step(model):
    """All gradients that the first gradient step's optimizers were given, the tasks' own included, by optimizer and layer."""
    layers = {}
    names = {id(parameter): name for name, parameter in model.policy.named_parameters()}
    own = model.policy.features_extractor.optimizer
    optimizers = {"critic": model.critic.optimizer, "actor": model.actor.optimizer, "own": own and own._adam}

    def keep(label):
        def see(optimizer, *_):
            for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
                assert parameter.dtype == parameter.grad.dtype == th.float32
                layers.setdefault(f"{label}: {names[id(parameter)].rpartition('.')[0]}", []).append(parameter.grad.flatten())

        return see

    for label, optimizer in optimizers.items():
        if optimizer is not None:
            optimizer.register_step_post_hook(keep(label))
    model.learn(11)
    assert model._n_updates == 1
    return {layer: th.cat(parts) for layer, parts in layers.items()}


def assert_close(ours, theirs, rtol):
    assert ours.keys() == theirs.keys()
    for layer, gradient in theirs.items():
        assert 0 < gradient.norm(), layer
        assert (ours[layer] - gradient).norm() <= rtol * gradient.norm(), layer


ALL_GRADIENTS = {"encoder_gradients": ("actor", "critic", "task")}


@pytest.mark.parametrize("settings", [ALL_GRADIENTS, {"actor_reads": "trunk"}], ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", POLICIES)
def test_autocast_is_the_same_step_in_other_precision(name, mode, settings):
    settings = {"gradient_mode": mode, **settings}
    theirs = gradients_of_first_step(make(name, settings))
    model = make(name, {**settings, "autocast": True})
    extractor, inside, outside = model.policy.features_extractor, set(), set()
    parts = [extractor.encoders["observation"].trunk, extractor.tasks.by_key["observation"]["recon"].decoder]
    for part in parts:
        part.register_forward_hook(lambda _, __, out: (inside if extractor.training else outside).add(out.dtype))
    read = set()
    for network in (model.actor, model.critic, model.critic_target):
        network.register_forward_pre_hook(lambda *_: read.add(th.is_autocast_enabled("cpu")))
        (network.qf0 if hasattr(network, "qf0") else next(network.children())).register_forward_pre_hook(
            lambda _, inputs: read.add(inputs[0].dtype == th.bfloat16)
        )
    ours = gradients_of_first_step(model)
    assert_close(ours, theirs, BFLOAT16)
    with pytest.raises(AssertionError):
        assert_close(ours, theirs, OTHER_ORDER)
    assert inside == {th.bfloat16} and outside == {th.float32} and read == {False}
    assert all(leaf.dtype != th.bfloat16 for leaf in state_of(model).values() if isinstance(leaf, th.Tensor))
    assert not th.is_autocast_enabled("cpu")


@pytest.mark.parametrize("settings", [ALL_GRADIENTS, {"actor_reads": "trunk"}], ids=str)
@pytest.mark.parametrize("name", POLICIES)
def test_channels_last_is_the_same_step(name, settings):
    settings = {"trunk": "nature", "trunk_kwargs": {"hidden_dim": 16}, **settings}
    theirs = gradients_of_first_step(make(name, settings, env=NoiseImageEnv(discrete=False, size=36)))
    ours = make(name, {**settings, "channels_last": True}, env=NoiseImageEnv(discrete=False, size=36))
    extractors = (ours.policy.features_extractor, ours.policy.features_extractor_target)
    strides = []
    for convolution in (part for one in extractors for part in one.encoders.modules() if isinstance(part, nn.Conv2d)):
        convolution.register_forward_hook(lambda _, inputs, output: strides.extend([inputs[0].stride(1), output.stride(1)]))
    assert_close(gradients_of_first_step(ours), theirs, OTHER_ORDER)
    assert strides and set(strides) == {1}


@pytest.mark.parametrize(("backend", "settings"), [("aot_eager", {}), ("aot_eager", ALL_GRADIENTS), ("inductor", {})], ids=str)
def test_a_compiled_encoder_takes_the_same_step(backend, settings, monkeypatch):
    if backend == "inductor" and not shutil.which("g++"):
        pytest.skip("inductor needs a C++ compiler")
    compile_with, compiled = th.compile, []

    def compile_cheaply(function):
        compiled.append(function)
        return compile_with(function, backend=backend)

    monkeypatch.setattr(th, "compile", compile_cheaply)
    theirs = gradients_of_first_step(make("SAC", settings))
    assert not compiled
    assert_close(gradients_of_first_step(make("SAC", {**settings, "compile": True})), theirs, OTHER_ORDER)
    assert len(compiled) == 1
    th._dynamo.reset()
