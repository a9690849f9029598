"""Loops of a user's own, batches that come again, and what must not stay in memory."""

import gc

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from algorithms import NoiseImageEnv, make_model, tiny
from gymnasium import spaces
from stable_baselines3 import SAC
from torch import nn

from sb3_latent import LatentSACPolicy
from sb3_latent.nn import Trunk
from sb3_latent.policies.views import Views

B = 8


class StateEnv(gym.Env):
    """Two keys of floats: what SB3's preprocessing hands back as it is."""

    def __init__(self, is_dict):
        vector = spaces.Box(-1, 1, (3,), np.float32)
        self.observation_space = spaces.Dict({"a": vector, "b": vector}) if is_dict else vector
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


class BatchNormTrunk(Trunk):
    """Its number of batches is a buffer of integers."""

    def __init__(self, frame_shape):
        super().__init__(frame_shape, 16)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(frame_shape)), 16), nn.BatchNorm1d(16))

    def forward(self, frames):
        return self.layers(frames)

    def make_decoder(self, latent_dim):
        return nn.Sequential(nn.Linear(latent_dim, int(np.prod(self.frame_shape))), nn.Unflatten(1, self.frame_shape))


def sac(env=None, **settings):
    policy_kwargs = {**tiny("ae", **settings), "net_arch": [8]}
    replay = {"buffer_size": 50, "learning_starts": 10, "batch_size": B, "train_freq": 1}
    return SAC(
        LatentSACPolicy, env or NoiseImageEnv(discrete=False), policy_kwargs=policy_kwargs, seed=0, device="cpu", **replay
    )


def encoder_of(model):
    return [parameter.detach().clone() for parameter in model.policy.features_extractor.encoders.parameters()]


def critic_loss(model, batch):
    return sum(q_value.square().mean() for q_value in model.critic(batch.observations, batch.actions))


def gradients(model, batches):
    """What the critic's optimizer is given for the encoder, of one step on the losses of some batches."""
    policy, seen = model.policy, []
    policy.set_training_mode(True)
    model.critic.optimizer.zero_grad()
    for batch in batches:
        critic_loss(model, batch).backward()
    model.critic.optimizer.register_step_post_hook(
        lambda *_: seen.extend(p.grad.clone() for p in policy.features_extractor.encoders.parameters())
    )
    model.critic.optimizer.step()
    return seen


@pytest.mark.parametrize("is_dict", [False, True])
def test_batches_are_freed_without_the_garbage_collector(is_dict):
    model = sac(StateEnv(is_dict))
    model.learn(12)
    gc.collect()
    gc.disable()
    try:
        before = sum(type(one) is Views for one in gc.get_objects())
        model.learn(20, reset_num_timesteps=False)
        assert sum(type(one) is Views for one in gc.get_objects()) <= before + 2
    finally:
        gc.enable()


def test_gradients_of_two_batches_add_up():
    def one(seed):
        model = sac(encoder_gradients=("critic",), coefs={"recon": 0.0})
        model.learn(20)
        np.random.seed(seed)
        return model, [model.replay_buffer.sample(B) for _ in range(2)]

    model, (first, second) = one(0)
    both = gradients(model, [first, second])
    parts = []
    for k in range(2):
        model, batches = one(0)
        parts.append(gradients(model, [batches[k]]))
    for total, a, b in zip(both, *parts, strict=True):
        th.testing.assert_close(total, a + b)


@pytest.mark.parametrize("mode", ["joint", "own_optimizer"])
def test_a_batch_may_be_out_of_scope_before_the_step(mode):
    model = sac(gradient_mode=mode)
    model.learn(12)
    model.policy.set_training_mode(True)
    before = encoder_of(model)
    loss = critic_loss(model, model.replay_buffer.sample(B))
    model.critic.optimizer.zero_grad()
    loss.backward()
    model.critic.optimizer.step()
    assert all(not th.equal(a, b) for a, b in zip(before, encoder_of(model), strict=True))


def test_a_look_without_gradients_does_not_spoil_the_batch():
    model = sac()
    model.learn(12)
    model.policy.set_training_mode(True)
    batch, before = model.replay_buffer.sample(B), encoder_of(model)
    with th.no_grad():
        model.actor.action_log_prob(batch.observations)
    critic_loss(model, batch).backward()
    model.critic.optimizer.step()
    assert all(not th.equal(a, b) for a, b in zip(before, encoder_of(model), strict=True))


def test_another_array_in_the_dictionary_is_another_batch():
    model = sac(StateEnv(True))
    model.learn(12)
    model.policy.set_training_mode(True)
    batch = model.replay_buffer.sample(B)
    model.critic(batch.observations, batch.actions)
    other = {**batch.observations, "b": batch.observations["b"] + 1}
    fresh = {name: array.clone() for name, array in other.items()}
    for ours, theirs in zip(model.critic(other, batch.actions), model.critic(fresh, batch.actions), strict=True):
        assert th.equal(ours, theirs)


def test_buffers_of_the_encoder_reach_its_target():
    model = sac(trunk=f"{__name__}.BatchNormTrunk", trunk_kwargs={})
    model.learn(14)
    online, target = (one.encoders for one in (model.policy.features_extractor, model.policy.features_extractor_target))
    assert [b.dtype for b in online.buffers()].count(th.int64) == 1
    assert all(th.equal(a, b) for a, b in zip(online.buffers(), target.buffers(), strict=True))


@pytest.mark.parametrize("mode", ["joint", "own_optimizer"])
def test_tasks_that_can_learn_nothing_are_logged_all_the_same(mode):
    """The latent is detached and no task has weights of its own."""
    model = make_model(
        "SAC", tiny("rae", encoder_gradients=["critic"], coefs={"recon": 0.0}, gradient_mode=mode), LatentSACPolicy
    )
    model.learn(14)
    assert model.policy.features_extractor.tasks.pop_losses()["latent_l2"] > 0


def test_a_fresh_policy_acts_in_evaluation_mode():
    shift = {"augmentation": {"random_shift": {}}, "n_target_views": 2}
    model = make_model("SAC", tiny("ae", **shift), LatentSACPolicy)
    observations = th.zeros(3, *model.observation_space.shape, dtype=th.uint8)
    with th.no_grad():
        assert model.policy(observations, deterministic=True).shape == (3, 1)


def test_curl_meets_a_batch_again_that_it_skipped():
    settings = {"tasks": {"curl": {}}, "augmentation": {"random_shift": {}}, "task_freq": 2}
    model = make_model("SAC", tiny("ae", **settings), LatentSACPolicy)
    model.learn(12)
    batch = model.replay_buffer.sample(B)
    model.replay_buffer.sample = lambda *_, **__: batch
    model.train(4, B)
    assert model.policy.features_extractor.tasks.pop_losses()["curl"] > 0
