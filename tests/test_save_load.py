"""Whatever is saved, loaded, copied or moved comes back whole, to the bit."""

import copy

import numpy as np
import pytest
import torch as th
from algorithms import ALGORITHMS, NoiseImageEnv, make_model, tiny
from interrupted_runs import SnapshotCallback, flat, restore_rng, rng_states
from sb3_contrib import TRPO
from stable_baselines3 import A2C, PPO

from sb3_latent import LatentActorCriticPolicy, get_extractor, get_extractors, save_encoder

MODES = ["joint", "own_optimizer"]


def assert_same_state(ours, theirs):
    """Parameters, buffers and extra state: optimizers of the tasks with their moments, frozen flags."""
    ours, theirs = flat(ours), flat(theirs)
    assert ours.keys() == theirs.keys()
    for path, leaf in theirs.items():
        same = th.equal(ours[path], leaf) if isinstance(leaf, th.Tensor) else ours[path] == leaf
        assert same, f"{path}: {ours[path]} and {leaf}"


def assert_same_training_state(ours, theirs):
    """All that a model trains with: its policy's state and its optimizers'."""
    assert_same_state(ours.get_parameters(), theirs.get_parameters())


def deepcopy_after_learn(model, part):
    """SB3's distributions keep the graph of the last gradient step, which no deepcopy survives; ``predict`` drops it."""
    model.predict(model.observation_space.sample())
    return copy.deepcopy(part)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kappa", ["auto", lambda progress: 1 + progress], ids=["auto", "schedule"])
@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_an_interrupted_training_continues_to_the_bit(name, kappa, mode, tmp_path):
    entry = ALGORITHMS[name]
    settings = {"kappa": kappa, "coefs": {"recon": lambda progress: 0.01 * progress, "kl": 0.001}}
    model = make_model(name, tiny("vae", gradient_mode=mode, **settings))
    half = entry.n_timesteps - 2 if name == "SAC" else entry.n_timesteps // 2
    snapshot = SnapshotCallback(half, tmp_path)
    model.learn(entry.n_timesteps, callback=snapshot)

    resumed = entry.cls.load(tmp_path / "model", env=snapshot.env, force_reset=False)
    if name == "SAC":
        resumed.load_replay_buffer(tmp_path / "replay")
    restore_rng(snapshot.rng)
    before = copy.deepcopy(resumed.policy.state_dict())
    resumed.learn(entry.n_timesteps - half, reset_num_timesteps=False)

    assert resumed.num_timesteps == model.num_timesteps
    assert_same_training_state(resumed, model)
    with pytest.raises(AssertionError):
        assert_same_state(before, model.policy.state_dict())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_model_save_and_load_keep_weights_moments_and_balance(name, tmp_path):
    kappa = 1.0 if name == "TRPO" else "auto"
    model = make_model(name, tiny("vae", gradient_mode="own_optimizer", kappa=kappa))
    model.learn(ALGORITHMS[name].n_timesteps)
    assert get_extractor(model).get_extra_state()["optimizer"]["state"], "the tasks' Adam has no moments to lose"
    if kappa == "auto":
        assert (get_extractor(model).balance.norms > 0).all()
    model.save(tmp_path / "model")
    assert_same_training_state(ALGORITHMS[name].cls.load(tmp_path / "model"), model)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_policy_save_and_load_keep_weights_and_moments(name, tmp_path):
    # sb3-contrib 2.9.2 forgets lstm_hidden_size in policy.save: only its default comes back.
    lstm = {"lstm_hidden_size": 256} if name == "RecurrentPPO" else {}
    model = make_model(name, {**tiny("vae", gradient_mode="own_optimizer"), **lstm})
    model.learn(ALGORITHMS[name].n_timesteps)
    model.policy.save(tmp_path / "policy")
    loaded = type(model.policy).load(tmp_path / "policy")
    assert_same_state(loaded.state_dict(), model.policy.state_dict())
    observations = model.observation_space.sample()
    ours, theirs = (policy.predict(observations, deterministic=True)[0] for policy in (loaded, model.policy))
    assert np.array_equal(ours, theirs)


def test_schedules_come_back_with_the_model(tmp_path):
    model = make_model("PPO", tiny("vae", kappa=lambda progress: 3 * progress, coefs={"kl": lambda progress: progress / 2}))
    model.save(tmp_path / "model")
    extractor = get_extractor(PPO.load(tmp_path / "model"))
    extractor.set_progress_remaining(0.5)
    assert extractor.balance.kappa == 1.5 and extractor.tasks.coefs["kl"] == 0.25


@pytest.mark.parametrize("frozen_at_first", [False, True])
def test_a_freeze_or_its_end_comes_back_with_the_model(frozen_at_first, tmp_path):
    model = make_model("PPO", tiny("vae", frozen=frozen_at_first))
    extractor = get_extractor(model)
    extractor.frozen = not frozen_at_first
    model.save(tmp_path / "model")
    loaded = get_extractor(PPO.load(tmp_path / "model"))
    assert loaded.frozen is not frozen_at_first


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_copied_model_learns_alone(name, mode):
    """Every tensor is its own, and the copy learns on as the original does."""
    entry = ALGORITHMS[name]
    model = make_model(name, tiny("vae", gradient_mode=mode))
    model.learn(entry.n_timesteps)
    duplicate = deepcopy_after_learn(model, model)
    ours = {parameter.data_ptr() for parameter in model.policy.parameters()}
    assert not any(parameter.data_ptr() in ours for parameter in duplicate.policy.parameters())
    before, rng = copy.deepcopy(model.get_parameters()), rng_states()
    duplicate.learn(entry.n_timesteps)
    assert_same_state(model.get_parameters(), before)
    restore_rng(rng)
    model.learn(entry.n_timesteps)
    assert_same_training_state(duplicate, model)


@pytest.mark.parametrize("mode", MODES)
def test_a_copied_policy_is_trained_by_whoever_owns_it(mode):
    model, other = (make_model("PPO", tiny("vae", gradient_mode=mode)) for _ in range(2))
    model.learn(32)
    other.policy = deepcopy_after_learn(model, model.policy)
    before = copy.deepcopy(model.get_parameters())
    other.learn(32)
    assert_same_state(model.get_parameters(), before)
    initial = dict(model.policy.named_parameters())
    assert not any(th.equal(parameter, initial[name]) for name, parameter in other.policy.named_parameters())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_a_model_trains_on_after_a_move(name, mode):
    """There and back where there is a GPU; on the CPU alone, the optimizers must still hold what the modules use."""
    device = "cuda" if th.cuda.is_available() else "cpu"
    states = []
    for moves in (True, False):
        model = make_model(name, tiny("vae", gradient_mode=mode))
        model.learn(ALGORITHMS[name].n_timesteps)
        if moves:
            model.policy.to(device).to("cpu")
        model.learn(ALGORITHMS[name].n_timesteps)
        states.append(model.get_parameters())
    assert_same_state(*states)


@pytest.fixture
def encoder_file(tmp_path):
    return save_encoder(make_model("PPO", tiny("vae"), seed=7), tmp_path / "encoder.safetensors")


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("cls", [PPO, A2C, TRPO])
def test_pretrained_weights_survive_ortho_init(cls, share, encoder_file):
    settings = tiny("vae" if share else "cnn", head="gaussian", pretrained=encoder_file)
    model = make_model(cls.__name__, {**settings, "ortho_init": True, "share_features_extractor": share})
    donor = get_extractor(make_model("PPO", tiny("vae"), seed=7))
    assert len(get_extractors(model)) == (1 if share else 2)
    for extractor in get_extractors(model):
        assert_same_state(extractor.encoders.state_dict(), donor.encoders.state_dict())
        if share:
            assert_same_state(extractor.tasks.state_dict(), donor.tasks.state_dict())


def test_ortho_init_reaches_the_encoder_alone():
    orthogonal, plain = (make_model("PPO", {**tiny("vae"), "ortho_init": ortho}) for ortho in (True, False))
    ours, theirs = get_extractor(orthogonal), get_extractor(plain)
    assert_same_state(ours.tasks.state_dict(), theirs.tasks.state_dict())
    weight = ours.encoders["observation"].trunk.layers[1].weight
    assert th.allclose(weight @ weight.T, 2 * th.eye(len(weight)), atol=1e-5)  # gain sqrt(2), as for SB3's NatureCNN


def named_policy(**settings):
    space, actions = NoiseImageEnv().observation_space, NoiseImageEnv().action_space
    return LatentActorCriticPolicy(space, actions, lambda _: 1e-3, **settings)


def test_the_named_policy_keeps_pretrained_weights(encoder_file):
    settings = {"latent_dim": 4, "trunk": "mlp", "trunk_kwargs": {"net_arch": (16,)}}
    policy = named_policy(preset="vae", pretrained=encoder_file, ortho_init=True, **settings)
    donor = get_extractor(make_model("PPO", tiny("vae"), seed=7))
    assert_same_state(get_extractor(policy).state_dict(), donor.state_dict())


@pytest.mark.parametrize("share", [True, False])
def test_the_named_policy_keeps_its_sharing_and_needs_no_encoder_file_to_load(share, encoder_file, tmp_path):
    settings = {"latent_dim": 4, "trunk": "mlp", "trunk_kwargs": {"net_arch": (16,)}, "net_arch": [8], "kappa": 3.0}
    policy = named_policy(preset="vae", pretrained=encoder_file, share_features_extractor=share, **settings)
    policy.save(tmp_path / "policy")
    encoder_file.unlink()
    loaded = LatentActorCriticPolicy.load(tmp_path / "policy")
    assert loaded.share_features_extractor is share and len(get_extractors(loaded)) == (1 if share else 2)
    assert get_extractor(loaded).balance.kappa == 3.0
    assert_same_state(loaded.state_dict(), policy.state_dict())


def test_a_model_with_a_pretrained_encoder_loads_without_the_file(encoder_file, tmp_path):
    model = make_model("PPO", tiny("vae", pretrained=encoder_file))
    model.learn(32)
    model.save(tmp_path / "model")
    encoder_file.unlink()
    assert_same_training_state(PPO.load(tmp_path / "model"), model)
