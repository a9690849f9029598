"""The hard KL constraint: what it measures, and that an update it rejects leaves no trace."""

import copy
import math

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from algorithms import NoiseImageEnv, make_model, tiny
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.distributions import MaskableMultiCategoricalDistribution
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import BernoulliDistribution, CategoricalDistribution, DiagGaussianDistribution
from stable_baselines3.common.logger import configure

from sb3_latent.callbacks import KLConstraintCallback, LatentMetricsCallback
from sb3_latent.callbacks.kl_constraint import mean_kl

NEVER, ALWAYS = 1e9, 1e-12


class Snapshots(BaseCallback):
    """Everything the model learns, as it was before each update and as the next rollout finds it."""

    def _on_step(self):
        return True

    def _on_training_start(self):
        self.before, self.after = [], []

    def _on_rollout_end(self):
        self.before.append(self.learner())

    def _on_rollout_start(self):
        if self.before:
            self.after.append(self.learner())

    def _on_training_end(self):
        self.after.append(self.learner())

    def learner(self):
        policy = self.model.policy
        return copy.deepcopy({"policy": policy.state_dict(), "optimizer": policy.optimizer.state_dict()["state"]})


def same(left, right):
    """Equal to the bit, through dicts and lists."""
    if isinstance(left, th.Tensor):
        return th.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def learn(model, n_timesteps, *callbacks):
    snapshots = Snapshots()
    model.learn(n_timesteps, callback=[*callbacks, snapshots])
    return snapshots


LEARNERS = {
    "joint": lambda: make_model("PPO", tiny("vae", kappa="auto")),
    "own optimizer": lambda: make_model("PPO", tiny("vae", gradient_mode="own_optimizer")),
    "masked": lambda: make_model("MaskablePPO", tiny("vae")),
    "A2C": lambda: make_model("A2C", tiny("ae")),
    "Gaussian": lambda: make_model("PPO", tiny("vae"), env=NoiseImageEnv(discrete=False)),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_rejected_update_leaves_no_trace(name):
    constraint = KLConstraintCallback(delta_target=ALWAYS)
    snapshots = learn(LEARNERS[name](), 48, constraint)
    assert constraint.n_restored == len(snapshots.before) == len(snapshots.after) >= 3
    for before, after in zip(snapshots.before, snapshots.after, strict=True):
        assert same(before, after)
    assert same(snapshots.before[0], snapshots.after[-1])


@pytest.mark.parametrize("name", LEARNERS)
def test_a_constraint_that_never_binds_changes_nothing(name):
    constraint = KLConstraintCallback(delta_target=NEVER)
    constrained, plain = learn(LEARNERS[name](), 48, constraint), learn(LEARNERS[name](), 48)
    assert constraint.n_restored == 0
    assert same(constrained.after, plain.after)
    assert not same(plain.before[0], plain.after[0])


class RejectOnce(KLConstraintCallback):
    """Rejects the second update, whatever it did."""

    n_checks = 0

    def _check(self):
        self.n_checks += self._before is not None
        self.delta_target = ALWAYS if self.n_checks == 2 else NEVER
        super()._check()


def test_the_momentum_of_a_rejected_update_pushes_no_further():
    model = make_model("PPO", tiny("vae"))
    snapshots = learn(model, 32, RejectOnce())
    policy = model.policy
    assert same(snapshots.before[1], snapshots.after[1])
    kept = {name: tensor.clone() for name, tensor in policy.named_parameters()}
    momentum = snapshots.after[0]["optimizer"]
    learned = make_model("PPO", tiny("vae"))
    learned.policy.load_state_dict(snapshots.after[0]["policy"])
    learned.policy.optimizer.load_state_dict({**learned.policy.optimizer.state_dict(), "state": momentum})
    for parameters in (policy.parameters(), learned.policy.parameters()):
        for parameter in parameters:
            parameter.grad = th.zeros_like(parameter)
    policy.optimizer.step()
    learned.policy.optimizer.step()
    for name, parameter in policy.named_parameters():
        assert th.equal(parameter, learned.policy.get_parameter(name)), name
    assert any(not th.equal(parameter, kept[name]) for name, parameter in policy.named_parameters())


def test_training_goes_on_from_the_restored_policy():
    snapshots = learn(make_model("PPO", tiny("vae")), 64, RejectOnce())
    assert same(snapshots.before[1], snapshots.after[1])
    assert same(snapshots.after[1], snapshots.before[2])
    for update in (0, 2, 3):
        assert not same(snapshots.before[update]["policy"], snapshots.after[update]["policy"])


def categorical_kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def gaussian_kl(m, s, n, t):
    return math.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5


def test_kl_of_categorical_policies_is_that_of_the_textbook():
    old, new = [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], [[0.1, 0.1, 0.8], [0.6, 0.2, 0.2]]
    policies = [CategoricalDistribution(3).proba_distribution(th.tensor(rows).log()) for rows in (old, new)]
    expected = (categorical_kl(old[0], new[0]) + categorical_kl(old[1], new[1])) / 2
    assert mean_kl(*policies) == pytest.approx(expected, rel=1e-5)
    assert mean_kl(*reversed(policies)) != pytest.approx(expected, rel=1e-2)


def test_kl_of_gaussian_policies_sums_over_action_dimensions():
    old = DiagGaussianDistribution(2).proba_distribution(th.tensor([[0.0, 1.0]]), th.tensor([0.5, 2.0]).log())
    new = DiagGaussianDistribution(2).proba_distribution(th.tensor([[0.3, 0.0]]), th.tensor([1.0, 1.5]).log())
    expected = gaussian_kl(0.0, 0.5, 0.3, 1.0) + gaussian_kl(1.0, 2.0, 0.0, 1.5)
    assert mean_kl(old, new) == pytest.approx(expected, rel=1e-5)


def test_kl_of_bernoulli_policies_sums_over_action_dimensions():
    old, new = (BernoulliDistribution(2).proba_distribution(th.logit(th.tensor([p]))) for p in ([0.2, 0.5], [0.6, 0.1]))
    expected = categorical_kl([0.2, 0.8], [0.6, 0.4]) + categorical_kl([0.5, 0.5], [0.1, 0.9])
    assert mean_kl(old, new) == pytest.approx(expected, rel=1e-5)


def test_kl_of_masked_policies_leaves_masked_actions_out():
    rows = th.tensor([[0.1, 0.9, 0.5, 0.3, 0.2]]).log(), th.tensor([[0.4, 0.6, 0.5, 0.2, 0.3]]).log()
    old, new = (MaskableMultiCategoricalDistribution([2, 3]).proba_distribution(logits) for logits in rows)
    for distribution in (old, new):
        distribution.apply_masking(np.array([[True, True, False, True, True]]))
    expected = categorical_kl([0.1, 0.9], [0.4, 0.6]) + categorical_kl([0.6, 0.4], [0.4, 0.6])
    assert mean_kl(old, new) == pytest.approx(expected, rel=1e-5)


class SeenKL(BaseCallback):
    """By hand: log probabilities of every action on every observation of the rollout, before and after the update."""

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        buffer = self.model.rollout_buffer
        self.observations = th.as_tensor(buffer.observations.reshape(-1, *buffer.obs_shape)[:: self.stride])
        self.masks = None if self.n_actions == 3 else buffer.action_masks.reshape(-1, 3)
        self.old = self.log_probs()

    def _on_training_end(self):
        new = self.log_probs()
        self.kl = float((self.old.exp() * (self.old - new)).sum(1).mean())

    def log_probs(self):
        masking = {} if self.masks is None else {"action_masks": self.masks}
        with th.no_grad():
            distribution = self.model.policy.get_distribution(self.observations, **masking)
        return distribution.distribution.logits[:, : self.n_actions].clone()


@pytest.mark.parametrize("name, n_actions", [("PPO", 3), ("MaskablePPO", 2)])
def test_what_is_logged_is_the_kl_of_the_update(name, n_actions):
    model = make_model(name, tiny("vae"), learning_rate=1e-2)
    logged, seen = {}, SeenKL()
    seen.n_actions, seen.stride = n_actions, 1
    model.set_logger(configure(None, []))
    model.logger.dump = lambda step: (logged.update(model.logger.name_to_value), model.logger.name_to_value.clear())
    model.learn(16, callback=[seen, KLConstraintCallback(delta_target=NEVER)])
    assert seen.kl > 1e-4
    assert logged["train/kl_constraint"] == pytest.approx(seen.kl, rel=1e-3)
    assert logged["train/n_restored"] == 0


def test_each_update_is_logged_beside_the_losses_it_had(tmp_path):
    model = make_model("PPO", tiny("vae"))
    model.set_logger(configure(str(tmp_path), ["csv", "stdout", "tensorboard"]))
    model.learn(48, callback=KLConstraintCallback(delta_target=ALWAYS))
    rows = np.genfromtxt(tmp_path / "progress.csv", delimiter=",", names=True)
    assert rows["trainn_restored"][1:].tolist() == [1, 2, 3]
    assert rows["trainn_updates"][1:].tolist() == [1, 2, 3]
    assert np.isnan(rows["trainkl_constraint"][0]) and (rows["trainkl_constraint"][1:] > 0).all()


def test_rejection_is_printed(capsys):
    make_model("PPO", tiny("vae")).learn(16, callback=KLConstraintCallback(delta_target=ALWAYS, verbose=1))
    assert "Update before step 16 undone: KL" in capsys.readouterr().out


def test_exploration_after_a_rejection_is_that_of_the_restored_policy():
    model = make_model("PPO", tiny("vae"), env=NoiseImageEnv(discrete=False), use_sde=True, learning_rate=0.1)
    differences = []

    class Exploration(BaseCallback):
        def _on_step(self):
            policy = self.model.policy
            drawn_with = policy.action_dist.weights_dist.scale
            differences.append((drawn_with - policy.action_dist.get_std(policy.log_std)).abs().max().item())
            return True

    constraint = KLConstraintCallback(delta_target=ALWAYS)
    model.learn(48, callback=[constraint, Exploration()])
    assert constraint.n_restored == 3
    assert max(differences) == 0


def test_what_changes_between_two_runs_is_not_undone():
    constraint = KLConstraintCallback(delta_target=NEVER)
    model = make_model("PPO", tiny("vae")).learn(16, callback=constraint)
    constraint.delta_target = ALWAYS
    with th.no_grad():
        model.policy.action_net.bias += th.tensor([0.0, 1.0, 2.0])
    changed = model.policy.action_net.bias.clone()
    model.learn(16, callback=constraint)
    assert constraint.n_restored == 1
    assert th.equal(model.policy.action_net.bias, changed)


def test_other_callbacks_keep_working_beside_it():
    model = make_model("PPO", tiny("vae"))
    model.learn(48, callback=[KLConstraintCallback(ALWAYS), LatentMetricsCallback(every=16), KLConstraintCallback(NEVER)])


class Masked(gym.Env):
    """Two switches of 2 and 3 positions, one of them blocked, and a Dict to look at."""

    observation_space = spaces.Dict({"a": spaces.Box(-1, 1, (3,), np.float32), "b": spaces.Discrete(4)})
    action_space = spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), float(action.sum()), bool(self.np_random.random() < 0.2), False, {}

    def action_masks(self):
        return np.array([True, True, False, True, True])


def test_masked_dict_model_is_measured_and_restored():
    kwargs = {**tiny("ae", trunk=None, trunk_kwargs=None), "net_arch": [4]}
    model = MaskablePPO("MultiInputPolicy", Masked(), n_steps=16, batch_size=8, n_epochs=1, policy_kwargs=kwargs, seed=0)
    constraint = KLConstraintCallback(delta_target=ALWAYS)
    snapshots = learn(model, 32, constraint)
    assert constraint.n_restored == 2
    assert same(snapshots.before[0], snapshots.after[-1])


@pytest.mark.parametrize(
    "name, message",
    [
        ("SAC", "bounds on-policy updates .* not those of SAC"),
        ("DQN", "not those of DQN"),
        ("RecurrentPPO", "cannot rebuild the LSTM states of RecurrentPPO; use its target_kl"),
    ],
)
def test_algorithms_it_cannot_bound_are_refused_before_training(name, message):
    model = make_model(name, tiny("ae"))
    with pytest.raises(TypeError, match=message):
        model.learn(16, callback=KLConstraintCallback())
    assert model.num_timesteps == 0


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"delta_target": 0}, "delta_target=0 must be positive"),
        ({"delta_target": math.nan}, "delta_target=nan must be positive"),
        ({"n_observations": 0}, "n_observations=0 must be an integer"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        KLConstraintCallback(**settings)


def test_a_kl_that_is_no_number_is_the_worst_of_all(monkeypatch):
    monkeypatch.setattr("sb3_latent.callbacks.kl_constraint.mean_kl", lambda *_: math.nan)
    callback = KLConstraintCallback(delta_target=1e9)
    make_model("PPO", tiny("vae")).learn(64, callback=callback)
    assert callback.n_restored > 0
