"""Targets by name: what each algorithm has, and that each is the number that its paper means."""

import copy

import numpy as np
import pytest
import torch as th
from algorithms import ALGORITHMS, tiny
from algorithms import make_model as make_latent_model
from gymnasium import spaces
from saliency.models import BATCH, CASES, IMAGE, VECTOR, Case, Idle, images, make_model
from sb3_contrib import QRDQN, TQC, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from torch.distributions import Categorical, Normal

from sb3_latent import LatentSACPolicy, LatentTD3Policy, LatentTQCPolicy, get_extractor
from sb3_latent.saliency import list_targets, saliency

SHARING = {"SAC": LatentSACPolicy, "TQC": LatentTQCPolicy, "TD3": LatentTD3Policy}
OF_ACTIONS = {
    **{name: ["logit", "logit/0 to logit/2", "log_prob"] for name in ("PPO", "A2C", "MaskablePPO", "RecurrentPPO", "TRPO")},
    **{name: ["q", "q/0 to q/2"] for name in ("DQN", "QRDQN")},
    **{name: ["q", "mean/0", "log_prob"] for name in ("SAC", "TQC", "CrossQ")},
    "TD3": ["q", "mean/0"],
}


def latent_model(name, shares):
    policy = SHARING[name] if shares else None
    return make_latent_model(name, tiny("vae", head="gaussian"), policy=policy)


TABLE = [*((name, False) for name in ALGORITHMS), *((name, True) for name in SHARING)]


@pytest.mark.parametrize(("name", "shares"), TABLE)
def test_every_algorithm_has_its_targets_and_each_depends_on_the_pixels(name, shares):
    model = latent_model(name, shares)
    assert list_targets(model) == ["value", *OF_ACTIONS[name], "latent/0 to latent/3", "kl/0 to kl/3"]
    x = np.random.default_rng(0).integers(1, 256, (BATCH, 1, 12, 12), dtype=np.uint8)
    discrete = ALGORITHMS[name].discrete
    actions = np.array([0, 1, 0]) if discrete else np.array([[0.5], [-0.3], [0.1]])
    for listed in list_targets(model):
        target = listed.split()[0]
        taken = actions if target in ("q", "logit", "log_prob") else None
        result = saliency(model, x, target, actions=taken)
        assert result.shape == x.shape and result.dtype == th.float32, target
        assert result.isfinite().all() and result.flatten(1).amax(1).min() > 0, target


def signed_gradient(function, observations):
    x = th.as_tensor(observations).float().requires_grad_()
    (gradient,) = th.autograd.grad(function(x).sum(), x)
    return gradient


def assert_is_gradient(model, target, function, **situation):
    """``function`` is the target, written down again."""
    result = saliency(model, images(), target, absolute=False, **situation)
    model.policy.train(False)
    expected = signed_gradient(function, images())
    assert expected.flatten(1).abs().amax(1).min() > 0
    th.testing.assert_close(result, expected, rtol=1e-4, atol=1e-9)


def actor_latent(policy, x):
    return policy.mlp_extractor.policy_net(policy.pi_features_extractor(x / 255))


DISCRETE = ["PPO", "PPO-unshared", "A2C", "MaskablePPO"]


def discrete_case(name):
    case = CASES[name]
    return Case(case.algorithm, True, case.policy_kwargs)


@pytest.mark.parametrize("name", DISCRETE)
def test_logits_and_log_probabilities(name):
    model = make_model(discrete_case(name))
    policy, rows, actions = model.policy, th.arange(BATCH), np.array([2, 0, 1])
    logits = lambda x: policy.action_net(actor_latent(policy, x))  # noqa: E731
    assert_is_gradient(model, "logit/1", lambda x: logits(x)[:, 1])
    assert_is_gradient(model, "logit", lambda x: logits(x)[rows, actions], actions=actions)
    log_prob = lambda x: Categorical(logits=logits(x)).log_prob(th.as_tensor(actions))  # noqa: E731
    assert_is_gradient(model, "log_prob", log_prob, actions=actions)
    policy.train(False)
    greedy = logits(th.as_tensor(images()).float()).argmax(1)
    assert_is_gradient(model, "logit", lambda x: logits(x)[rows, greedy])


def test_masks_change_the_probabilities_and_the_greedy_action():
    model = make_model(discrete_case("MaskablePPO"))
    policy, rows = model.policy, th.arange(BATCH)
    masks = np.array([[True, True, False], [False, True, True], [True, False, True]])
    actions = np.array([0, 1, 2])

    def logits(x):
        return policy.action_net(actor_latent(policy, x)).masked_fill(th.as_tensor(~masks), -1e8)

    log_prob = lambda x: logits(x).log_softmax(1)[rows, actions]  # noqa: E731
    assert_is_gradient(model, "log_prob", log_prob, actions=actions, action_masks=masks)
    only = np.eye(3, dtype=bool)[[2, 0, 1]]
    forced = saliency(model, images(), "logit", action_masks=only)
    th.testing.assert_close(forced, saliency(model, images(), "logit", actions=[2, 0, 1]), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["PPO-gaussian", "TRPO"])
def test_means_and_log_probabilities_of_gaussians(name):
    model = make_model(CASES.get(name, Case(PPO)))
    policy, actions = model.policy, np.random.default_rng(0).normal(size=(BATCH, 2)).astype(np.float32)
    mean = lambda x: policy.action_net(actor_latent(policy, x))  # noqa: E731
    assert_is_gradient(model, "mean/1", lambda x: mean(x)[:, 1])
    log_prob = lambda x: Normal(mean(x), policy.log_std.exp()).log_prob(th.as_tensor(actions)).sum(1)  # noqa: E731
    assert_is_gradient(model, "log_prob", log_prob, actions=actions)


@pytest.mark.parametrize("name", ["RecurrentPPO", "RecurrentPPO-shared"])
def test_the_actor_of_recurrent_ppo_reads_the_given_state(name):
    model = make_model(CASES[name])
    policy, (hidden, cell) = model.policy, th.randn(2, 1, BATCH, 7)

    def logits(x, kept=1.0):
        state = (hidden * kept, cell * kept)
        output = policy.lstm_actor(policy.pi_features_extractor(x / 255)[None], state)[0][0]
        return policy.action_net(policy.mlp_extractor.policy_net(output))

    assert_is_gradient(model, "logit/2", lambda x: logits(x)[:, 2], lstm_states=(hidden, cell))
    assert_is_gradient(model, "logit/2", lambda x: logits(x, 0.0)[:, 2])
    starts = np.array([False, True, False])
    kept = th.as_tensor(~starts).float()[:, None]
    assert_is_gradient(model, "logit/2", lambda x: logits(x, kept)[:, 2], lstm_states=(hidden, cell), episode_starts=starts)


@pytest.mark.parametrize("name", ["DQN", "QRDQN"])
def test_q_values_of_discrete_actions(name):
    model = make_model(CASES[name])
    rows, actions = th.arange(BATCH), np.array([2, 0, 1])
    if isinstance(model, DQN):
        q_values = model.policy.q_net
    else:
        assert isinstance(model, QRDQN)
        q_values = lambda x: model.policy.quantile_net(x).mean(1)  # noqa: E731
    assert_is_gradient(model, "q/0", lambda x: q_values(x)[:, 0])
    assert_is_gradient(model, "q", lambda x: q_values(x)[rows, actions], actions=actions)
    assert_is_gradient(model, "q", lambda x: q_values(x).amax(1))
    th.testing.assert_close(saliency(model, images(), "q"), saliency(model, images(), "value"), rtol=0, atol=0)


CONTINUOUS = ["SAC", "SAC-shared", "TD3", "DDPG", "TQC", "CrossQ"]


@pytest.mark.parametrize("name", CONTINUOUS)
def test_q_values_and_means_of_continuous_actions(name):
    model = make_model(CASES[name])
    policy = model.policy
    critic = policy.critic

    def q(x, actions):
        features = critic.features_extractor(x / 255)
        outputs = th.cat([network(th.cat([features, actions], 1)) for network in critic.q_networks], 1)
        return outputs.mean(1) if isinstance(model, TQC) else outputs.amin(1)

    mean = (lambda x: policy.actor(x)) if isinstance(model, TD3) else lambda x: policy.actor(x, deterministic=True)
    actions = np.array([[-2.0, 3.0], [0.5, 1.0], [2.9, -1.9]], np.float32)
    scaled = th.as_tensor((actions + 2) / 5 * 2 - 1)  # the space reaches from -2 to 3
    assert_is_gradient(model, "q", lambda x: q(x, scaled), actions=actions)
    policy.train(False)
    greedy = mean(th.as_tensor(images()).float()).detach()
    assert_is_gradient(model, "q", lambda x: q(x, greedy))
    assert_is_gradient(model, "mean/1", lambda x: mean(x)[:, 1])


@pytest.mark.parametrize("name", ["SAC", "TQC", "CrossQ"])
def test_log_probabilities_of_squashed_gaussians(name):
    model = make_model(CASES[name])
    actor, actions = model.policy.actor, np.array([[-1.5, 2.0], [0.5, 1.0], [2.5, -1.0]], np.float32)
    scaled = th.as_tensor((actions + 2) / 5 * 2 - 1)

    def log_prob(x):
        latent = actor.latent_pi(actor.features_extractor(x / 255))
        normal = Normal(actor.mu(latent), actor.log_std(latent).clamp(-20, 2).exp())
        return normal.log_prob(scaled.atanh()).sum(1)  # what tanh adds does not depend on the observation

    assert_is_gradient(model, "log_prob", log_prob, actions=actions)


@pytest.mark.parametrize("name", ["PPO-gSDE", "SAC-gSDE"])
def test_log_probabilities_with_noise_that_depends_on_the_state(name):
    model = make_model(CASES[name])
    policy, actions = model.policy, np.random.default_rng(0).uniform(-0.9, 0.9, (BATCH, 2)).astype(np.float32)
    squashes = name == "SAC-gSDE"
    actor = policy.actor if squashes else policy

    def log_prob(x):
        if squashes:
            latent = actor.latent_pi(actor.features_extractor(x / 255))
            mean, taken = actor.mu(latent), th.as_tensor((actions + 2) / 5 * 2 - 1).atanh()
        else:
            latent = actor_latent(policy, x)
            mean, taken = policy.action_net(latent), th.as_tensor(actions)
        variance = latent.square() @ actor.action_dist.get_std(actor.log_std).square()
        return Normal(mean, (variance + 1e-6).sqrt()).log_prob(taken).sum(1)

    assert_is_gradient(model, "log_prob", log_prob, actions=actions)
    assert actor.action_dist.learn_features == squashes  # SB3's settings


@pytest.mark.parametrize("name", ["PPO", "TRPO", "MaskablePPO", "RecurrentPPO", "SAC", "TQC", "CrossQ"])
def test_no_graph_stays_on_the_model(name):
    model = make_model(CASES[name])
    before = dict(vars(getattr(model.policy, "actor", model.policy).action_dist))
    actions = np.zeros((BATCH, 2), np.float32) if isinstance(model.action_space, spaces.Box) else np.zeros(BATCH, int)
    saliency(model, images(), "log_prob", actions=actions)
    assert vars(getattr(model.policy, "actor", model.policy).action_dist) == before
    copy.deepcopy(model.policy)  # fails where a module keeps a tensor of the graph


@pytest.mark.parametrize("name", ["PPO", "PPO-unshared", "RecurrentPPO", "DQN", "SAC", "CrossQ"])
def test_latents_of_stock_models_are_the_features_that_the_value_reads(name):
    model = make_model(CASES[name])
    owner = model.policy.critic if hasattr(model.policy, "critic") and name in ("SAC", "CrossQ") else model.policy
    owner = model.policy.q_net if name == "DQN" else owner
    extractor = getattr(owner, "vf_features_extractor", None) or owner.features_extractor
    assert_is_gradient(model, "latent/4", lambda x: extractor(x / 255)[:, 4])


@pytest.mark.parametrize(("name", "shares"), [("PPO", False), ("SAC", True)])
def test_kl_of_one_dimension(name, shares):
    model = latent_model(name, shares)
    x = np.random.default_rng(0).integers(1, 256, (BATCH, 1, 12, 12), dtype=np.uint8)
    encoder = get_extractor(model).encoders["observation"]

    def kl(pixels):
        hidden = encoder.trunk(pixels / 255)
        mean, log_var = encoder.head.mean(hidden)[:, 2], encoder.head.log_var(hidden)[:, 2]
        return th.distributions.kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0))

    result = saliency(model, x, "kl/2", absolute=False)
    th.testing.assert_close(result, signed_gradient(kl, x), rtol=1e-4, atol=1e-9)


def test_other_discrete_spaces_have_logits_by_number():
    class Buttons(Idle):
        def __init__(self, space):
            super().__init__(VECTOR, True)
            self.action_space = space

    x = np.random.default_rng(0).uniform(-1, 1, (BATCH, 5)).astype(np.float32)
    for space, actions in [
        (spaces.MultiBinary(2), np.array([[1, 0], [0, 0], [1, 1]])),
        (spaces.MultiDiscrete([2, 3]), np.array([[1, 0], [0, 2], [1, 1]])),
    ]:
        model = PPO("MlpPolicy", Buttons(space), device="cpu")
        assert list_targets(model)[1] == f"logit/0 to logit/{model.policy.action_net.out_features - 1}"
        expected = lambda obs, a=actions: model.policy.evaluate_actions(obs, th.as_tensor(a).float())[1]  # noqa: B023, E731
        gradient = signed_gradient(expected, x)
        th.testing.assert_close(saliency(model, x, "log_prob", actions=actions, absolute=False), gradient)
        assert saliency(model, x, "log_prob").isfinite().all()
        with pytest.raises(ValueError, match=r"target 'logit' has . entries; write one of logit/0 to logit/"):
            saliency(model, x, "logit")


def test_unknown_targets_are_named_with_what_the_model_has():
    model = make_model(CASES["PPO"])
    with pytest.raises(
        ValueError, match=r"unknown target of PPO 'vale'; did you mean 'value'.*'latent/0 to latent/5', 'log_prob'"
    ):
        saliency(model, images(), "vale")
    with pytest.raises(ValueError, match=r"unknown target of PPO 'kl/3'.*Allowed: 'latent/0 to latent/5'"):
        saliency(model, images(), "kl/3")
    with pytest.raises(ValueError, match=r"unknown target of SAC 'logit'"):
        saliency(make_model(CASES["SAC"]), images(), "logit")
    with pytest.raises(ValueError, match=r"unknown target of TD3 'log_prob'"):
        saliency(make_model(CASES["TD3"]), images(), "log_prob")


@pytest.mark.parametrize("entry", ["3", "-1", "first", "", "1.0", "²"])
def test_entries_that_a_target_has_not(entry):
    with pytest.raises(ValueError, match="PPO has logit/0 to logit/2"):
        saliency(make_model(CASES["PPO"]), images(), f"logit/{entry}")


@pytest.mark.parametrize(
    ("name", "target", "situation", "message"),
    [
        ("PPO", "value/0", {}, "'value/0': value is a single number; write 'value'"),
        ("PPO", "logit/*", {}, "method 'jacobian' explains one number, and target 'logit/\\*' is a vector"),
        ("SAC", "mean", {}, "target 'mean' has 2 entries; write one of mean/0 to mean/1"),
        ("SAC", "log_prob", {}, "pass actions=, those that were taken"),
        ("TRPO", "log_prob", {}, "pass actions=, those that were taken"),
        ("PPO", "value", {"actions": [0, 1, 2]}, "target 'value' reads no action; drop actions="),
        ("DQN", "q", {"actions": [0, 1]}, r"actions of shape \(2,\) must be one for each of the 3 observations: \(3,\)"),
        ("SAC", "q", {"actions": [0, 1, 2]}, r"actions of shape \(3,\) .* observations: \(3, 2\)"),
        ("DQN", "q", {"actions": [0, 1, 3]}, r"actions \[0, 1, 3\] must lie between 0 and 2"),
        ("MaskablePPO", "logit", {"action_masks": np.ones((3, 2), bool)}, r"action_masks of shape \(3, 2\) .* \(3, 3\)"),
        (
            "RecurrentPPO",
            "value",
            {"lstm_states": (th.ones(1, 3, 6),) * 2},
            r"lstm_states of shape \(1, 3, 6\) .* \(1, 3, 7\)",
        ),
        ("RecurrentPPO", "value", {"episode_starts": np.ones(2, bool)}, r"episode_starts of shape \(2,\) .* \(3,\)"),
        ("DQN", "q", {"action_masks": np.ones((3, 3), bool)}, "action_masks are for MaskablePPO; DQNPolicy masks no action"),
        ("DQN", "q", {"episode_starts": np.ones(3, bool)}, "DQNPolicy has no LSTM"),
        ("PPO", "value", {"frames": "last"}, "unknown frames 'last'"),
        ("PPO", "value", {"n_channels": 3}, "n_channels=3 must be 1 .* divide the 2 channels"),
        ("PPO", "value", {"method": "jacobi"}, "unknown saliency method 'jacobi'; did you mean 'jacobian'"),
    ],
)
def test_bad_requests_are_named(name, target, situation, message):
    with pytest.raises(ValueError, match=message):
        saliency(make_model(CASES[name]), images(), target, **situation)


def test_the_tables_are_whole():
    assert set(OF_ACTIONS) == set(ALGORITHMS)
    assert {A2C, MaskablePPO, RecurrentPPO, SAC} <= {entry.cls for entry in ALGORITHMS.values()}
    assert IMAGE.shape == images().shape[1:]
