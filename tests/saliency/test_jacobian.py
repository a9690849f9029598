"""|dV/dx| against torch's own Jacobian, for every kind of model, and nothing of the model changed by it."""

import copy

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from saliency.models import BATCH, CASES, IMAGE, VECTOR, Idle, TinyCnn, images, make_model, mix_flags_and_grads
from sb3_contrib import ARS, QRDQN, TQC, RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from torch.autograd.functional import jacobian
from unchanged import assert_unchanged, snapshot

from sb3_latent.saliency import value_jacobian


def reference_value(model, observations, lstm_states=None):
    """V written down from the papers, with gradients on everywhere; extractors in evaluation mode."""
    policy = model.policy
    if isinstance(model, RecurrentPPO):
        latent = policy.vf_features_extractor(observations / 255)
        lstm = policy.lstm_actor if policy.shared_lstm else policy.lstm_critic
        latent = policy.critic(latent) if lstm is None else lstm(latent[None], lstm_states)[0][0]
        return policy.value_net(policy.mlp_extractor.value_net(latent)).squeeze(-1)
    if hasattr(policy, "value_net"):
        features = policy.vf_features_extractor(observations / 255)
        return policy.value_net(policy.mlp_extractor.value_net(features)).squeeze(-1)
    if isinstance(model, DQN):
        return policy.q_net.q_net(policy.q_net.features_extractor(observations / 255)).amax(1)
    if isinstance(model, QRDQN):
        network = policy.quantile_net
        flat = network.quantile_net(network.features_extractor(observations / 255))
        return flat.view(len(flat), network.n_quantiles, -1).mean(1).amax(1)
    actions = policy.actor(observations) if isinstance(model, TD3) else policy.actor(observations, deterministic=True)
    features = policy.critic.features_extractor(observations / 255)
    outputs = [network(th.cat([features, actions], 1)) for network in policy.critic.q_networks]
    return th.cat(outputs, 1).mean(1) if isinstance(model, TQC) else th.cat(outputs, 1).amin(1)


def reference_jacobian(model, observations, lstm_states=None):
    """Each row's own Jacobian, out of the full one of all rows by all rows."""
    model.policy.train(False)
    full = jacobian(lambda x: reference_value(model, x, lstm_states), th.as_tensor(observations).float())
    rows = range(len(observations))
    assert all(full[i, j].abs().max() == 0 for i in rows for j in rows if i != j)
    return th.stack([full[i, i] for i in rows]).abs()


@pytest.mark.parametrize("name", CASES)
def test_equals_the_jacobian_of_torch(name):
    model = make_model(CASES[name])
    model.policy.train(True)
    result = value_jacobian(model, images())
    assert result.dtype == th.float32 and not result.requires_grad
    expected = reference_jacobian(model, images())
    assert expected.flatten(1).amax(1).min() > 0
    th.testing.assert_close(result, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", ["RecurrentPPO", "RecurrentPPO-shared"])
def test_recurrent_value_reads_the_given_state(name):
    model = make_model(CASES[name])
    hidden, cell = th.randn(2, 1, BATCH, 7)
    result = value_jacobian(model, images(), (hidden, cell))
    th.testing.assert_close(result, reference_jacobian(model, images(), (hidden, cell)), rtol=1e-4, atol=1e-9)
    fresh = value_jacobian(model, images())
    assert not th.allclose(result, fresh, rtol=1e-2, atol=0)
    starts = np.array([True, False, True])
    mixed = value_jacobian(model, images(), (hidden, cell), starts)
    th.testing.assert_close(mixed[starts], fresh[starts])
    th.testing.assert_close(mixed[~starts], result[~starts])


def test_finite_differences_in_raw_grey_levels():
    model = make_model(CASES["SAC"])
    result = value_jacobian(model, images(1))
    policy = copy.deepcopy(model.policy).double().train(False)
    actor, critic = policy.actor, policy.critic
    for channel, row, column in [(0, 0, 0), (1, 17, 9), (0, 30, 31)]:
        moved = th.as_tensor(images(1)).double().repeat(2, 1, 1, 1) / 255
        moved[:, channel, row, column] += th.tensor([1e-3, -1e-3]) / 255
        actions = th.tanh(actor.mu(actor.latent_pi(actor.features_extractor(moved))))
        critic_input = th.cat([critic.features_extractor(moved), actions], 1)
        plus, minus = th.cat([network(critic_input) for network in critic.q_networks], 1).amin(1).tolist()
        assert result[0, channel, row, column].item() == pytest.approx(abs(plus - minus) / 2e-3, rel=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_leaves_the_model_as_it_was(name):
    model = make_model(CASES[name])
    mix_flags_and_grads(model)
    before = snapshot(model)
    value_jacobian(model, images())
    assert_unchanged(model, before)
    if "gSDE" not in name:  # SB3 cannot copy those even when they are new
        copy.deepcopy(model.policy)  # fails where a module keeps a tensor of the graph


class Noisy(TinyCnn):
    def forward(self, observations):
        assert not self.training, "auxiliary losses would run here"
        return super().forward(observations + th.rand_like(observations))


def test_random_state_survives_a_model_that_draws():
    model = make_model(CASES["PPO"], features_extractor_class=Noisy)
    rng = th.get_rng_state()
    first = value_jacobian(model, images())
    assert th.equal(th.get_rng_state(), rng)
    th.testing.assert_close(value_jacobian(model, images()), first, rtol=0, atol=0)


class Broken(TinyCnn):
    def forward(self, observations):
        raise RuntimeError("broken on purpose")


def test_flags_are_restored_after_an_error():
    model = make_model(CASES["SAC"], features_extractor_class=Broken)
    mix_flags_and_grads(model)
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        value_jacobian(model, images())
    assert_unchanged(model, before)


def test_frozen_parameters_and_no_grad_make_no_difference():
    model = make_model(CASES["PPO"])
    expected = value_jacobian(model, images())
    model.policy.requires_grad_(False)
    with th.no_grad():
        th.testing.assert_close(value_jacobian(model, images()), expected, rtol=0, atol=0)
        assert not th.is_grad_enabled()
    assert not any(parameter.requires_grad for parameter in model.policy.parameters())


class Cut(TinyCnn):
    def forward(self, observations):
        return super().forward(observations).detach()


@pytest.mark.parametrize("heads_learn", [True, False])
def test_a_value_cut_off_from_its_input_is_an_error_and_not_a_black_picture(heads_learn):
    model = make_model(CASES["PPO"], features_extractor_class=Cut)
    model.policy.requires_grad_(heads_learn)
    with pytest.raises(ValueError, match="'value' is cut off from the observation"):
        value_jacobian(model, images())


def test_takes_tensors_channels_last_and_single_rows():
    model = make_model(CASES["DQN"])
    x = images()
    expected = value_jacobian(model, x)
    observations = th.as_tensor(x)
    th.testing.assert_close(value_jacobian(model, observations), expected)
    assert observations.dtype == th.uint8 and not observations.requires_grad
    th.testing.assert_close(value_jacobian(model, np.moveaxis(x, 1, -1)), expected)
    th.testing.assert_close(value_jacobian(model, x[1:2]), expected[1:2])
    floats = th.as_tensor(x).float()
    th.testing.assert_close(value_jacobian(model, floats), expected)
    assert not floats.requires_grad


@pytest.mark.parametrize("space", [VECTOR, spaces.Box(-1, 1, (5,), np.float64)])
def test_vectors(space):
    model = PPO("MlpPolicy", Idle(space, True), device="cpu")
    x = np.random.default_rng(0).uniform(-1, 1, (BATCH, 5)).astype(space.dtype)
    full = jacobian(lambda y: model.policy.predict_values(y).squeeze(-1), th.as_tensor(x).float())
    th.testing.assert_close(value_jacobian(model, x), th.stack([full[i, i] for i in range(BATCH)]).abs())


class OneKey(BaseFeaturesExtractor):
    """Reads the vector and the one-hot mode, never the image."""

    def __init__(self, observation_space):
        super().__init__(observation_space, 8)
        self.linear = nn.Linear(5 + 3, 8)

    def forward(self, observations):
        return self.linear(th.cat([observations["vector"], observations["mode"]], 1))


def test_dict_observations():
    space = spaces.Dict({"image": IMAGE, "vector": VECTOR, "mode": spaces.Discrete(3)})
    rng = np.random.default_rng(0)
    observations = {
        "image": images(),
        "vector": rng.uniform(-1, 1, (BATCH, 5)).astype(np.float32),
        "mode": rng.integers(0, 3, (BATCH, 1)),
    }
    model = SAC("MultiInputPolicy", Idle(space, False), buffer_size=4, device="cpu")
    result = value_jacobian(model, observations)
    assert {key: value.shape for key, value in result.items()} == {"image": (BATCH, 2, 36, 36), "vector": (BATCH, 5)}
    assert all(value.flatten(1).amax(1).min() > 0 for value in result.values())
    assert set(observations) == {"image", "vector", "mode"} and observations["image"].dtype == np.uint8

    model = PPO("MultiInputPolicy", Idle(space, True), policy_kwargs={"features_extractor_class": OneKey}, device="cpu")
    result = value_jacobian(model, observations)
    assert result["image"].abs().max() == 0 < result["vector"].min()
    features = model.policy.features_extractor.linear
    values = lambda vector: reference_head(model, features, vector, observations["mode"])  # noqa: E731
    full = jacobian(values, th.as_tensor(observations["vector"]))
    th.testing.assert_close(result["vector"], th.stack([full[i, i] for i in range(BATCH)]).abs())


def reference_head(model, linear, vector, mode):
    one_hot = th.eye(3)[th.as_tensor(mode).squeeze(-1)]
    latent = model.policy.mlp_extractor.value_net(linear(th.cat([vector, one_hot], 1)))
    return model.policy.value_net(latent).squeeze(-1)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="no value function known for ARSPolicy"):
        value_jacobian(ARS("MlpPolicy", Idle(VECTOR, False), device="cpu"), np.zeros((1, 5), np.float32))
    with pytest.raises(ValueError, match=r"needs a Box observation, got Discrete\(4\)"):
        value_jacobian(PPO("MlpPolicy", Idle(spaces.Discrete(4), True), device="cpu"), np.zeros(2, np.int64))
    zeros = th.zeros(1, BATCH, 7)
    with pytest.raises(ValueError, match="ActorCriticPolicy has no LSTM"):
        value_jacobian(make_model(CASES["PPO"]), images(), (zeros, zeros))
