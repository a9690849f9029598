"""Whole runs of SLAC: repeated, interrupted, saved, copied; and what cannot work says so at once."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from algorithms import NoiseImageEnv
from interrupted_runs import SnapshotCallback, flat, restore_rng
from sb3_contrib import TQC
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_latent import (
    FrameReplayBuffer,
    HistoryWrapper,
    LatentModel,
    LatentSACPolicy,
    SequenceReplayBuffer,
    SLACPolicy,
    SLACTQCPolicy,
    get_latent_model,
    latent_kwargs,
    load_checkpoint,
    save_checkpoint,
)
from sb3_latent.recipes import WINDOW_PRESETS

T = 3
_SLAC = {"z1_dim": 3, "z2_dim": 4, "hidden": (8,)}
DYNAMICS = {
    "slac": _SLAC,
    "slac_nontemporal": _SLAC,
    "rssm_mixed": _SLAC,
    "slac_filtering": {"z_dim": 4, "hidden": (8,)},
    "slac_vae": {"z_dim": 4, "hidden": (8,)},
    "rssm": {"h_dim": 5, "z_dim": 3, "hidden": 8, "free_nats": 0.0},
    "rssm_discrete": {"h_dim": 5, "n_groups": 2, "n_classes": 3, "hidden": 8, "free_nats": 0.0},
}
MLP = {"trunk": "mlp", "trunk_kwargs": {"net_arch": (16,)}}
RUN = {"buffer_size": 60, "learning_starts": 10, "batch_size": 8, "seed": 0, "device": "cpu"}
POLICIES = {SAC: SLACPolicy, TQC: SLACTQCPolicy}


def kwargs_of(preset="slac", **settings):
    """With every head in use and so little of everything that a gradient step costs a few milliseconds."""
    small = {**MLP, "hidden": 8, "dynamics_kwargs": DYNAMICS.get(preset, {}), "model_batch_size": 4}
    return latent_kwargs(preset, **{**small, "coefs": {"continuation": 1.0}, **settings}) | {"net_arch": [8]}


def windows(discrete=False, size=12, length=T):
    return HistoryWrapper(NoiseImageEnv(discrete, size), length=length)


def pendulum():
    """Vectors, and an unbounded reward; a time limit ends the episodes."""
    return HistoryWrapper(gym.make("Pendulum-v1", max_episode_steps=6), length=T)


def make(cls=SAC, preset="slac", env=None, run=None, **settings):
    kwargs = {**RUN, "replay_buffer_class": SequenceReplayBuffer, **(run or {})}
    policy = kwargs.pop("policy", POLICIES[cls])
    return cls(policy, env or windows(), policy_kwargs=kwargs_of(preset, **settings), **kwargs)


def weights(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def state_of(model):
    """All that a model learns with: weights, targets, the moments of every Adam, the entropy coefficient."""
    return copy.deepcopy(flat({**model.get_parameters(), "log_ent_coef": model.log_ent_coef.detach()}))


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for path, leaf in theirs.items():
        same = th.equal(ours[path], leaf) if isinstance(leaf, th.Tensor) else ours[path] == leaf
        assert same, f"{path}: {ours[path]} and {leaf}"


def assert_learns(model, n_timesteps):
    before = weights(model.policy)
    model.learn(n_timesteps)
    assert model._n_updates > 0
    for name, parameter in model.policy.named_parameters():
        assert th.isfinite(parameter).all(), name
    still = [name for name, parameter in model.policy.named_parameters() if th.equal(parameter, before[name])]
    # A unit that no row of a batch switches on may leave a bias of one layer where it is.
    assert not [name for name in still if not name.endswith("bias")]
    return model


# ---------------------------------------------------------------------- runs


@pytest.mark.parametrize("preset", WINDOW_PRESETS)
def test_every_preset_learns_with_its_own_convolutions(preset):
    model = make(preset=preset, env=windows(size=32), trunk=WINDOW_PRESETS[preset].get("trunk"), trunk_kwargs={"depth": 1})
    assert type(model) is SAC
    assert_learns(model, 12)


@pytest.mark.parametrize("preset", ["slac", "rssm_discrete"])
def test_tqc_learns(preset):
    assert_learns(make(TQC, preset), 13)


VARIANTS = {
    "gSDE": lambda: make(run={"use_sde": True}),
    "gSDE on the latent": lambda: make(run={"use_sde": True}, actor_reads="latent"),
    "two environments": lambda: make(env=HistoryWrapper(DummyVecEnv([lambda: NoiseImageEnv(False)] * 2), length=T)),
    "two wrapped environments": lambda: make(env=DummyVecEnv([windows] * 2)),
    "whole episodes": lambda: make(run={"train_freq": (1, "episode"), "gradient_steps": -1}),
    "three steps": lambda: make(run={"gradient_steps": 3}, n_model_updates=2),
    "fixed entropy coefficient": lambda: make(run={"ent_coef": 0.1}),
    "rewards normalized": lambda: make(env=VecNormalize(DummyVecEnv([windows]), norm_obs=False)),
    "vectors": lambda: make(env=pendulum(), trunk=None, trunk_kwargs=None),
    "vectors, rssm": lambda: make(preset="rssm", env=pendulum()),
    "another likelihood": lambda: make(preset="rssm", loss="bernoulli", loss_kwargs={}),
    "gumbel": lambda: make(preset="rssm_discrete", dynamics_kwargs={**DYNAMICS["rssm_discrete"], "relaxation": "gumbel"}),
    "YAML": lambda: SAC(
        SLACPolicy,
        windows(),
        policy_kwargs={"preset": "slac", **MLP, "dynamics_kwargs": _SLAC, "coefs": {"continuation": 1.0}, "net_arch": [8]},
        replay_buffer_class=SequenceReplayBuffer,
        **RUN,
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_sac_can_do_it_can_do_with_windows(variant):
    assert_learns(VARIANTS[variant](), 17)


def test_the_model_learns_rewards_as_they_are_normalized():
    """With what the critic learns from."""
    model = make(env=VecNormalize(DummyVecEnv([windows]), norm_obs=False)).learn(20)
    samples = model.replay_buffer.sample(8, env=model.get_vec_normalize_env())
    assert th.equal(samples.rewards[:, 0], samples.observations.batch.rewards[:, -1])


@pytest.mark.parametrize("resets", [True, False])
def test_learn_may_be_called_again(resets):
    model = assert_learns(make(), 14)
    before, n_updates = weights(model.policy), model._n_updates
    model.learn(14, reset_num_timesteps=resets)
    assert model._n_updates > n_updates and model.num_timesteps == (14 if resets else 28)
    assert not th.equal(before["actor.mu.weight"], model.actor.mu.weight)


def test_a_frozen_model_stands_still_while_rl_learns():
    model = make(frozen=True)
    before = weights(model.policy)
    model.learn(14)
    for name, parameter in model.policy.named_parameters():
        if name.endswith("weight"):
            assert th.equal(parameter, before[name]) == name.startswith("features_extractor."), name


@pytest.mark.parametrize("settings", [{}, {"n_model_updates": 3, "actor_reads": "latent", "critic_reads": "history"}], ids=str)
@pytest.mark.parametrize("cls", POLICIES)
def test_a_seed_is_a_run(cls, settings):
    states = [state_of(make(cls, run={"seed": seed}, **settings).learn(16)) for seed in (0, 0, 1)]
    assert_same(states[1], states[0])
    with pytest.raises(AssertionError):
        assert_same(states[2], states[0])


def test_a_loss_that_is_not_finite_stops_the_run_and_names_it(tmp_path):
    model = make().learn(12)
    before = weights(model.policy)
    with th.no_grad():
        next(model.policy.features_extractor.tasks.reward.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"'reward' is not finite \(nan\) at step 13"):
        model.learn(4, reset_num_timesteps=False)
    assert all(th.equal(parameter, before[f"critic.{name}"]) for name, parameter in model.critic.named_parameters())
    with pytest.raises(FloatingPointError):
        model.save(tmp_path / "model")


# ---------------------------------------------------------------------- files and copies


@pytest.mark.parametrize(("cls", "preset"), [(SAC, "slac"), (TQC, "rssm_discrete")])
def test_an_interrupted_run_continues_to_the_bit(cls, preset, tmp_path):
    """In the middle of an episode; schedules go on where they were."""
    settings = {
        "coefs": {"kl": lambda progress: 2 - progress},
        "auxiliary_optimizer_kwargs": {"lr": lambda progress: 1e-2 * progress},
        "n_model_updates": 2,
    }
    model = make(cls, preset, **settings)
    snapshot = SnapshotCallback(17, tmp_path)
    model.learn(21, callback=snapshot)
    resumed = cls.load(tmp_path / "model", env=snapshot.env, force_reset=False)
    resumed.load_replay_buffer(tmp_path / "replay")
    before = state_of(resumed)
    restore_rng(snapshot.rng)
    resumed.learn(4, reset_num_timesteps=False)
    assert resumed._n_updates == model._n_updates
    assert_same(state_of(resumed), state_of(model))
    assert any("_extra_state.optimizer.state" in path and "exp_avg" in path for path in before)
    with pytest.raises(AssertionError):
        assert_same(before, state_of(model))


ARGUMENTS = {"actor_reads": "latent", "critic_reads": "history", "model_batch_size": 3, "n_model_updates": 2}


@pytest.mark.parametrize("cls", POLICIES)
def test_a_saved_policy_comes_back_with_every_setting(cls, tmp_path):
    settings = {**ARGUMENTS, "auxiliary_optimizer_kwargs": {"lr": 1e-2, "betas": (0.5, 0.9)}, "hidden": 5, "init": None}
    model = make(cls, **settings).learn(14)
    model.policy.save(tmp_path / "policy")
    loaded = POLICIES[cls].load(tmp_path / "policy")
    assert_same(flat(loaded.state_dict()), flat(model.policy.state_dict()))
    observations = {name: value[None] for name, value in model.env.envs[0].reset()[0].items()}
    ours, theirs = (policy.predict(observations, deterministic=True)[0] for policy in (loaded, model.policy))
    assert np.array_equal(ours, theirs)
    # And the copy learns on with them: a run by a model that takes it over is that of the model itself.
    states = []
    for policy in (model.policy, loaded):
        owner = make(cls, **settings)
        owner.policy = policy
        owner._create_aliases()
        for optimizer in (policy.critic.optimizer, policy.actor.optimizer):
            optimizer.state.clear()
        owner.learn(14)
        states.append(flat(copy.deepcopy(policy.state_dict())))
    assert_same(*states)
    assert (loaded.model_batch_size, loaded._learner.n_model_updates) == (3, 2)


@pytest.mark.parametrize("cls", POLICIES)
def test_a_checkpoint_comes_back(cls, tmp_path):
    model = make(cls).learn(14)
    save_checkpoint(model, tmp_path)
    loaded = load_checkpoint(cls, tmp_path, windows())
    assert_same(state_of(loaded), state_of(model))
    loaded.learn(6, reset_num_timesteps=False)
    assert loaded.num_timesteps == 20


def act(model):
    """SB3's distributions keep the graph of the last gradient step, which no deepcopy survives; ``predict`` drops it."""
    return model.predict(model.env.reset())


@pytest.mark.parametrize("cls", POLICIES)
def test_a_copied_model_learns_alone(cls):
    model = make(cls, **ARGUMENTS).learn(14)
    act(model)
    duplicate = copy.deepcopy(model)
    ours = {parameter.data_ptr() for parameter in model.policy.parameters()}
    assert not any(parameter.data_ptr() in ours for parameter in duplicate.policy.parameters())
    before = state_of(model)
    rng = np.random.get_state(), th.get_rng_state()
    duplicate.learn(14)
    assert_same(state_of(model), before)
    np.random.set_state(rng[0])
    th.set_rng_state(rng[1])
    model.learn(14)
    assert_same(state_of(duplicate), state_of(model))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))], ids=["copy", "pickle"])
def test_a_copied_policy_has_one_model_of_its_own(copied):
    model = make(actor_reads="latent").learn(14)
    act(model)
    policy = copied(model.policy)
    readers = [network.features_extractor for network in (policy.actor, policy.critic, policy.critic_target)]
    assert all(reader.learner is policy._learner for reader in readers)
    assert policy._learner.extractor is policy.features_extractor is not model.policy.features_extractor
    assert_same(flat(policy.state_dict()), flat(model.policy.state_dict()))
    other = make(actor_reads="latent")
    other.policy = policy
    other._create_aliases()
    before = state_of(model)
    other.learn(14)
    assert_same(state_of(model), before)


def test_moments_follow_their_parameters():
    """A move to another type ends in the same function of torch as a move to another device."""
    policy = make().learn(14).policy.to(th.float64)
    moments = [state["exp_avg"] for state in policy.features_extractor.optimizer.state_dict()["state"].values()]
    assert moments and all(moment.dtype == th.float64 for moment in moments)


def test_parameters_carry_a_run_from_model_to_model():
    model, other = make().learn(14), make(run={"seed": 1})
    other.set_parameters(copy.deepcopy(model.get_parameters()))
    assert_same(flat(other.get_parameters()), flat(model.get_parameters()))


@pytest.mark.parametrize("what", [lambda model: model, lambda model: model.policy], ids=["model", "policy"])
def test_the_latent_model_of_a_policy_can_be_had(what):
    model = make()
    latent = get_latent_model(what(model))
    assert isinstance(latent, LatentModel) and latent.encoders is model.policy.features_extractor.encoders


# ---------------------------------------------------------------------- what cannot work


def buffer_of(cls):
    return lambda: make(run={"replay_buffer_class": cls})


@pytest.mark.parametrize(
    ("build", "error", "parts"),
    [
        (buffer_of(None), ValueError, ["DictReplayBuffer", "pass replay_buffer_class=SequenceReplayBuffer"]),
        (buffer_of(FrameReplayBuffer), ValueError, ["FrameReplayBuffer", "pass replay_buffer_class=SequenceReplayBuffer"]),
        (
            lambda: make(env=NoiseImageEnv(False)),
            ValueError,
            ["Box(shape=(1, 12, 12))", "wrap the environment: HistoryWrapper(env, length=8)"],
        ),
        (lambda: windows(length=1), ValueError, ["length=1", "at least 2"]),
        (
            lambda: HistoryWrapper(gym.wrappers.TimeLimit(NoiseImageEnv(False), 4), length=8),
            ValueError,
            ["length=8", "at most 4 steps", "at most 5"],
        ),
        (
            lambda: make(trunk=None, trunk_kwargs=None),
            ValueError,
            ["trunk 'slac'", "12x12", "resize it to at least 32x32, or use trunk='mlp'"],
        ),
        (lambda: make(kappa=1.0), ValueError, ["SLACPolicy", "pass gradient_mode='own_optimizer' and kappa=0"]),
        (lambda: make(gradient_mode="joint"), ValueError, ["SLACPolicy", "pass gradient_mode='own_optimizer' and kappa=0"]),
        (lambda: make(kappa="auto"), ValueError, ["kappa='auto'", "use a number"]),
        (
            lambda: PPO(SLACPolicy, windows(True), policy_kwargs=kwargs_of()),
            ValueError,
            ["SLACPolicy is for SAC, not PPO", '"MultiInputPolicy" with latent_kwargs("slac")'],
        ),
        (lambda: make(TQC, run={"policy": SLACPolicy}), ValueError, ["SLACPolicy is for SAC, not TQC", "SLACTQCPolicy (TQC)"]),
        (lambda: make(SAC, run={"policy": SLACTQCPolicy}), ValueError, ["SLACTQCPolicy is for TQC, not SAC"]),
        (lambda: make(preset="slack"), ValueError, ["'slack'", "did you mean 'slac'?"]),
        (lambda: make(latent_dim=3), TypeError, ["'latent_dim'", "'dynamics_kwargs'"]),
        (lambda: make(dynamics="rsm"), ValueError, ["dynamics 'rsm'", "did you mean 'rssm'?"]),
        (lambda: make(dynamics_kwargs={"z3_dim": 1}), TypeError, ["dynamics 'slac': 'z3_dim'", "'z1_dim'"]),
        (lambda: make(trunk="slak"), ValueError, ["trunk 'slak'", "did you mean 'slac'?"]),
        (lambda: make(trunk_kwargs={"depth": 3}), TypeError, ["trunk 'mlp': 'depth'", "'net_arch'"]),
        (lambda: make(loss="gausian"), ValueError, ["'gausian'", "did you mean 'gaussian'?"]),
        (lambda: make(coefs={"rec": 1}), ValueError, ["coefficient 'rec'", "did you mean 'recon'?"]),
        (lambda: make(coefs={"kl": -1}), ValueError, ["coefs['kl']=-1", "not negative"]),
        pytest.param(
            lambda: make(coefs=3),
            TypeError,
            ["coefs", "3"],
        ),
        pytest.param(
            lambda: make(env=VecNormalize(DummyVecEnv([windows]))),
            ValueError,
            ["norm_obs=False"],
        ),
        (lambda: make(init="xavier"), ValueError, ["init 'xavier'", "did you mean 'xavier_uniform'?"]),
        (lambda: make(hidden=0), ValueError, ["hidden=0", "at least 1"]),
        (lambda: make(auxiliary_optimizer_kwargs={"lrr": 1}), TypeError, ["'lrr'", "did you mean 'lr'?"]),
        (lambda: make(actor_reads="histori"), ValueError, ["actor_reads 'histori'", "did you mean 'history'?", "'latent'"]),
        (lambda: make(critic_reads="z"), ValueError, ["critic_reads 'z'", "'history', 'latent'"]),
        (lambda: make(model_batch_size=0), ValueError, ["model_batch_size=0", "at least 1"]),
        (lambda: make(n_model_updates=1.5), ValueError, ["n_model_updates=1.5", "at least 1"]),
        (lambda: make(env=windows(True)), AssertionError, ["Discrete(3)"]),
    ],
)
def test_what_cannot_work_is_told_in_one_line(build, error, parts):
    with pytest.raises(error) as raised:
        build()
    assert "\n" not in str(raised.value)
    for part in parts:
        assert part in str(raised.value), part


@pytest.mark.parametrize(
    ("policy", "policy_kwargs", "error", "parts"),
    [
        (SLACPolicy, latent_kwargs("vae"), ValueError, ["SLACPolicy has no LatentExtractor", "slac_vae", "LatentSAC"]),
        (SLACPolicy, {**kwargs_of(), "net_archs": [3]}, TypeError, ["'net_archs'", "did you mean 'net_arch'?"]),
        (SLACPolicy, {**kwargs_of(), "share_features_extractor": True}, ValueError, ["drop share_features_extractor=True"]),
        (SLACPolicy, {"preset": "slac", "trunks": "mlp"}, TypeError, ["'trunks'", "did you mean 'trunk'?"]),
        (LatentSACPolicy, latent_kwargs("slac", **MLP), ValueError, ["LatentSACPolicy", "use SLACPolicy"]),
        (SLACPolicy, {"preset": "sac_ae"}, ValueError, ["'sac_ae'", "LatentSACPolicy"]),
        ("MultiInputPolicy", latent_kwargs("slac", **MLP), ValueError, ["use SLACPolicy"]),
    ],
)
def test_wrong_arguments_are_told_in_one_line(policy, policy_kwargs, error, parts):
    with pytest.raises(error) as raised:
        SAC(policy, windows(), policy_kwargs=policy_kwargs, replay_buffer_class=SequenceReplayBuffer, **RUN)
    assert "\n" not in str(raised.value)
    for part in parts:
        assert part in str(raised.value), part
