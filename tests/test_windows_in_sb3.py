"""Files, schedules and training modes hold for encoders of windows as for those of single observations."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO, SAC

from sb3_latent import (
    HistoryWrapper,
    SequenceReplayBuffer,
    SLACPolicy,
    get_extractors,
    get_latent_model,
    latent_kwargs,
    load_encoder,
    save_encoder,
)
from sb3_latent.callbacks import EncoderScheduleCallback, LatentMetricsCallback, ModelPretrainCallback

SMALL = {"dynamics_kwargs": {"z1_dim": 2, "z2_dim": 3, "hidden": (8,)}, "trunk_kwargs": {"net_arch": (8,)}, "hidden": 8}


def windows():
    return HistoryWrapper(gym.make("Pendulum-v1"), length=3)


def slac(seed=0, **settings):
    return SAC(
        SLACPolicy,
        windows(),
        replay_buffer_class=SequenceReplayBuffer,
        policy_kwargs=latent_kwargs("slac", **SMALL, **settings) | {"net_arch": [8]},
        buffer_size=60,
        learning_starts=10,
        batch_size=8,
        seed=seed,
        device="cpu",
    )


def ppo(**settings):
    kwargs = latent_kwargs("slac", **SMALL, **settings)
    return PPO("MultiInputPolicy", windows(), policy_kwargs=kwargs, n_steps=16, batch_size=8, seed=1, device="cpu")


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in get_latent_model(model).named_parameters()}


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    return {name for name in ours if th.equal(ours[name], theirs[name])}


def test_a_model_goes_from_sac_to_ppo_and_on_by_file(tmp_path):
    learned = slac().learn(14)
    path = save_encoder(learned, tmp_path / "model.safetensors")
    theirs = weights(learned)
    other = ppo()
    assert same(weights(other), theirs) != set(theirs)
    load_encoder(other, path)
    started = ppo(pretrained=path)
    for model in (other, started):
        assert same(weights(model), theirs) == set(theirs)


def test_a_model_of_another_architecture_is_refused(tmp_path):
    path = save_encoder(slac(), tmp_path / "model.safetensors")
    other = PPO("MultiInputPolicy", windows(), policy_kwargs=latent_kwargs("slac_vae"), device="cpu")
    with pytest.raises(ValueError, match="dynamics is 'slac_vae' here and 'slac' in the file"):
        load_encoder(other, path)


def test_get_extractors_names_what_to_use_instead():
    with pytest.raises(TypeError, match="get_latent_model"):
        get_extractors(slac())


@pytest.mark.parametrize("make", [slac, ppo])
def test_a_frozen_model_stands_still_until_it_is_released(make):
    model = make()
    before = weights(model)
    model.learn(16, callback=EncoderScheduleCallback(freeze_at=1))
    assert model._n_updates > 0 and same(weights(model), before) == set(before)
    model.learn(32, callback=EncoderScheduleCallback(unfreeze_at=17), reset_num_timesteps=False)
    moved = set(before) - same(weights(model), before)
    assert any(name.startswith("encoders.") for name in moved) and any(name.startswith("tasks.decoder") for name in moved)


def test_metrics_look_at_the_last_state():
    model = slac()
    seen = {}
    callback = LatentMetricsCallback(every=5)
    model.learn(12)
    callback.init_callback(model)
    model.logger.record = lambda name, value, **kwargs: seen.update({name: value})
    callback._look_now()
    assert {"latent/active_units", "latent/effective_rank", "auxiliary/recon", "auxiliary/reward"} <= set(seen)
    assert 1 <= seen["latent/effective_rank"] <= 5 and "latent/kl_sum" not in seen


@pytest.mark.parametrize("ask", ["predict_values", "get_distribution"])
@pytest.mark.parametrize("after", [False, True])
def test_asking_the_policy_moves_nothing_even_in_training_mode(ask, after):
    """SB3 leaves a policy of PPO in training mode after ``learn``."""
    model = ppo()
    if after:
        model.learn(16)
    model.policy.set_training_mode(True)
    before = weights(model)
    observations, _ = model.policy.obs_to_tensor(model.env.reset())
    getattr(model.policy, ask)(observations)
    assert same(weights(model), before) == set(before)


def test_a_frozen_model_is_not_pretrained_either():
    model = slac(frozen=True)
    with pytest.raises(ValueError, match="the model is frozen"):
        model.learn(12, callback=ModelPretrainCallback(2))
    model.learn(12)
    samples = model.replay_buffer.sample(4)
    with pytest.raises(ValueError, match="the model is frozen"):
        model.policy.update_model(samples.observations.batch)


def test_a_head_on_a_schedule_answers_wherever_the_schedule_is():
    model = slac(coefs={"continuation": lambda remaining: 1 - remaining})
    states = th.randn(5, get_latent_model(model).state_dim)
    assert not th.equal(get_latent_model(model).continuation(states), th.ones(5))
    assert th.equal(get_latent_model(slac()).continuation(states), th.ones(5))


def test_numbers_of_numpy_are_written_and_read(tmp_path):
    made = ppo()
    numbers = {"dynamics_kwargs": {"z1_dim": np.int64(2), "z2_dim": np.int64(3), "hidden": (np.int64(8),)}}
    kwargs = latent_kwargs("slac", **{**SMALL, **numbers, "hidden": np.int64(8)})
    model = PPO("MultiInputPolicy", windows(), policy_kwargs=kwargs, n_steps=16, batch_size=8, device="cpu")
    path = save_encoder(model, tmp_path / "model.safetensors")
    load_encoder(made, path)
    load_encoder(model, path)
    assert same(weights(made), weights(model)) == set(weights(model))
