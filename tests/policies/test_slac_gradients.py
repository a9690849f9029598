"""What the stock ``train()`` of SAC and TQC does with a latent model, against the formulas of SLAC's paper, written out."""

import copy
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch as th
from algorithms import NoiseImageEnv
from gradient_steps import assert_equal_gradients
from gymnasium import spaces
from sb3_contrib import TQC
from stable_baselines3 import SAC
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional as F

from sb3_latent import HistoryWrapper, SequenceReplayBuffer, SLACPolicy, SLACTQCPolicy, latent_kwargs
from sb3_latent.dynamics import DiagonalGaussian
from sb3_latent.policies.window_reader import WindowReader

B, M, T, A = 8, 5, 3, 2
"""Rows of a batch, rows that the model learns from, frames of a window, numbers of an action."""
Z1, Z2 = 3, 4
POLICIES = {"SAC": (SAC, SLACPolicy), "TQC": (TQC, SLACTQCPolicy)}
COMBINATIONS = [("history", "latent"), ("latent", "latent"), ("history", "history"), ("latent", "history")]
COEFS = {"recon": 0.5, "kl": 2.0, "reward": 3.0, "continuation": 0.7}
RUN = {"buffer_size": 60, "learning_starts": 23, "batch_size": B, "gamma": 0.9, "tau": 0.3, "seed": 0, "device": "cpu"}
SMALL = {
    "trunk": "mlp",
    "trunk_kwargs": {"net_arch": (16,)},
    "hidden": 8,
    "dynamics_kwargs": {"z1_dim": Z1, "z2_dim": Z2, "hidden": (8,)},
    "model_batch_size": M,
}


def make(name="SAC", run=None, **settings):
    """Two actions and two channels, so that their order counts; episodes of 5 steps, so that some windows are padded."""
    env = NoiseImageEnv(discrete=False)
    env.observation_space = spaces.Box(0, 255, (2, 4, 5), "uint8")
    env.action_space = spaces.Box(-1, 1, (A,), "float32")
    cls, policy = POLICIES[name]
    kwargs = latent_kwargs("slac", **{**SMALL, **settings}) | {"net_arch": [8]}
    kwargs |= {"n_quantiles": 5} if name == "TQC" else {}
    env = HistoryWrapper(env, length=T)
    return cls(policy, env, policy_kwargs=kwargs, replay_buffer_class=SequenceReplayBuffer, **{**RUN, **(run or {})})


def filled(model):
    """With transitions in its buffer and no gradient step so far."""
    return model.learn(model.learning_starts)


def optimizers_of(model):
    found = {"critic": model.critic.optimizer, "actor": model.actor.optimizer}
    found["model"] = model.policy.features_extractor.optimizer._adam
    return found if model.ent_coef_optimizer is None else {**found, "entropy": model.ent_coef_optimizer}


# ---------------------------------------------------------------------- what runs when


class Passes:
    """
    Rows that went through the parts of a model: ``steps`` for each gradient step of ``train()``, ``acting`` outside. "encode"
    with a graph and "look" without are the trunk.
    """

    def __init__(self, model, monkeypatch):
        self.extractor = model.policy.features_extractor
        self.steps, self.acting, self.in_rl_backward = [], Counter(), False
        self.extractor.encoders.trunk.register_forward_hook(self.saw_frames)
        self.extractor.tasks.decoder.register_forward_hook(self.saw_states)
        for reader in (module for module in model.policy.modules() if isinstance(module, WindowReader)):
            reader.register_forward_hook(self.was_read)
        for name in ("begin", "move"):
            monkeypatch.setattr(self.extractor.encoders.dynamics, name, self.counting(name))
        sample, backward = model.replay_buffer.sample, th.Tensor.backward

        def sampled(*args, **kwargs):
            # The model's own further batches belong to the same step.
            if not self.steps or args[0] == B:
                self.steps.append(Counter())
            return sample(*args, **kwargs)

        def rl_backward(*args, **kwargs):
            self.in_rl_backward = True
            backward(*args, **kwargs)
            self.in_rl_backward = False

        monkeypatch.setattr(model.replay_buffer, "sample", sampled)
        monkeypatch.setattr(th.Tensor, "backward", rl_backward)

    @property
    def now(self):
        return self.steps[-1] if self.extractor.training else self.acting

    def counting(self, name):
        function = getattr(self.extractor.encoders.dynamics, name)

        def counted(*args):
            step = function(*args)
            self.now[name] += len(step.state)
            self.now["passes"] += name == "begin"
            return step

        return counted

    def saw_frames(self, _module, _inputs, features):
        self.now["encode" if features.requires_grad else "look"] += len(features)
        if features.requires_grad:
            features.register_hook(self.went_back)

    def saw_states(self, _module, _inputs, frames):
        self.now["decode"] += len(frames)

    def went_back(self, _gradient):
        self.now["backward of RL" if self.in_rl_backward else "backward"] += 1

    def was_read(self, _module, _inputs, features):
        assert not features.requires_grad
        self.now["read"] += 1


def passes_of_steps(monkeypatch, n_steps=2, **kwargs):
    model = filled(make(**kwargs))
    passes = Passes(model, monkeypatch)
    model.train(n_steps, B)
    assert len(passes.steps) == n_steps and not passes.acting
    return passes.steps


def rows(n_learning, n_looking):
    frames, n_rows = T + 1, n_learning + n_looking
    expected = {"encode": n_learning * frames, "look": n_looking * frames, "decode": n_learning * frames, "read": 5}
    expected |= {"begin": n_rows, "move": n_rows * T, "backward": 1, "passes": (n_learning > 0) + (n_looking > 0)}
    return Counter({name: count for name, count in expected.items() if count})


@pytest.mark.parametrize(("actor_reads", "critic_reads"), COMBINATIONS)
@pytest.mark.parametrize("name", POLICIES)
def test_a_batch_is_observed_once_by_all_who_read_it(name, actor_reads, critic_reads, monkeypatch):
    steps = passes_of_steps(monkeypatch, name=name, actor_reads=actor_reads, critic_reads=critic_reads)
    assert all(step == rows(M, B - M) for step in steps)


@pytest.mark.parametrize("model_batch_size", [1, B, B + 1, 32])
def test_the_model_learns_from_as_many_rows_as_asked_or_all(model_batch_size, monkeypatch):
    n_learning = min(B, model_batch_size)
    steps = passes_of_steps(monkeypatch, model_batch_size=model_batch_size)
    assert all(step == rows(n_learning, B - n_learning) for step in steps)


def test_further_updates_of_the_model_have_batches_of_their_own(monkeypatch):
    further = rows(M, 0) + rows(M, 0)
    del further["read"]
    assert all(step == rows(M, B - M) + further for step in passes_of_steps(monkeypatch, n_model_updates=3))


def test_a_frozen_model_is_looked_at_alone(monkeypatch):
    expected = rows(0, B)
    del expected["backward"]
    assert all(step == expected for step in passes_of_steps(monkeypatch, frozen=True, n_model_updates=3))


def test_without_a_coefficient_no_decoder_runs(monkeypatch):
    expected = rows(M, B - M)
    del expected["decode"]
    assert all(step == expected for step in passes_of_steps(monkeypatch, coefs={"recon": 0}))


def test_without_any_coefficient_the_model_takes_no_step():
    model = filled(make(coefs=dict.fromkeys(COEFS, 0)))
    assert "model" not in one_step(model).gradients


@pytest.mark.parametrize(("reads", "expected"), [("history", {"look": T}), ("latent", {"look": T, "begin": 1, "move": T - 1})])
def test_acting_computes_what_the_actor_reads_and_no_more(reads, expected, monkeypatch):
    model = make(actor_reads=reads)
    passes = Passes(model, monkeypatch)
    model.predict(model.observation_space.sample())
    del passes.acting["read"], passes.acting["passes"]
    assert passes.acting == expected and not passes.steps


@pytest.mark.parametrize("name", POLICIES)
def test_the_algorithm_is_the_stock_one(name):
    model = make(name)
    assert type(model) is POLICIES[name][0]
    assert "train" not in vars(model) and type(model).train.__module__ in (
        "stable_baselines3.sac.sac",
        "sb3_contrib.tqc.tqc",
    )


# ---------------------------------------------------------------------- losses and gradients


@dataclass
class Step:
    """
    One gradient step as it happened.

    :param batch: what the replay buffer handed out.
    :param rng_state: torch's at that moment.
    :param weights: of the whole policy at that moment, and the entropy coefficient's logarithm.
    :param critic_after: the critic's weights once it had stepped.
    :param gradients: what each optimizer was given, by parameter.
    :param losses: as SB3 and the model log them.
    """

    batch: Any
    rng_state: th.Tensor
    weights: dict[str, th.Tensor]
    critic_after: dict[str, th.Tensor] = field(default_factory=dict)
    gradients: dict[str, dict[str, th.Tensor]] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)


def one_step(model) -> Step:
    """The model's next gradient step."""
    sample, steps = model.replay_buffer.sample, []
    named = dict(model.policy.named_parameters()) | {"log_ent_coef": model.log_ent_coef}
    names = {id(parameter): name for name, parameter in named.items()}

    def keep_sample(*args, **kwargs):
        weights = {name: parameter.detach().clone() for name, parameter in named.items()}
        steps.append(Step(sample(*args, **kwargs), th.get_rng_state(), weights))
        return steps[0].batch

    def keep_gradients(which):
        def keep(optimizer, *_):
            held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            steps[0].gradients[which] = {names[id(p)]: p.grad.clone() for p in held if p.grad is not None}
            if which == "critic":
                steps[0].critic_after = copy.deepcopy(dict(model.critic.named_parameters()))

        return keep

    handles = [optimizer.register_step_post_hook(keep_gradients(which)) for which, optimizer in optimizers_of(model).items()]
    model.replay_buffer.sample = keep_sample
    model.train(1, B)
    model.replay_buffer.sample = sample
    for handle in handles:
        handle.remove()
    (step,) = steps
    logged = model.logger.name_to_value
    step.losses = {name: logged[f"train/{name}_loss"] for name in ("actor", "critic", "ent_coef")}
    step.losses |= model.policy.features_extractor.tasks.pop_losses()
    return step


class Formulas:
    """The losses of a recorded gradient step and their gradients, with the weights and random draws of that moment."""

    def __init__(self, model, step, actor_reads, critic_reads):
        self.step, self.model = step, model
        self.weights = {name: weight.clone().requires_grad_() for name, weight in step.weights.items()}
        self.losses, self.gradients = {}, {}
        with th.random.fork_rng(devices=[]):
            th.set_rng_state(step.rng_state)
            self.slac()
            self.agent(actor_reads, critic_reads)

    def network(self, name, *inputs, activation=lambda x: F.leaky_relu(x, 0.2)):
        """Linear layers with an activation between them."""
        x = th.cat(inputs, -1)
        keys = [key.removesuffix(".weight") for key in self.weights if key.startswith(f"{name}.") and key.endswith(".weight")]
        for key in keys:
            x = x @ self.weights[f"{key}.weight"].T + self.weights[f"{key}.bias"]
            x = x if key == keys[-1] else activation(x)
        return x

    def gradients_of(self, loss, prefixes):
        """By parameter, of those that a loss reaches."""
        chosen = {name: weight for name, weight in self.weights.items() if name.startswith(prefixes)}
        found = th.autograd.grad(loss, list(chosen.values()), allow_unused=True, retain_graph=True)
        return {name: gradient for name, gradient in zip(chosen, found, strict=True) if gradient is not None}

    # The model

    def slac(self):
        """Section 5 and equation 5, window by window: the first M rows are drawn first, then the others."""
        batch = self.step.batch.observations.batch
        parts = []
        for chosen in (slice(M), slice(M, None)):
            n = len(batch.rewards[chosen])
            noise = [(th.randn(n, Z1), th.randn(n, Z2)) for _ in range(T + 1)]
            windows = batch.rows(chosen)
            parts += [self.window(windows, row, [(a[row], b[row]) for a, b in noise]) for row in range(n)]
        self.features = th.stack([features for features, *_ in parts]).detach()
        self.z = th.stack([states[-2] for _, states, _ in parts]).detach()
        self.z_next = th.stack([states[-1] for _, states, _ in parts]).detach()
        losses = [losses for *_, losses in parts[:M]]
        self.losses |= {label: sum(loss[label] for loss in losses) / M for label in COEFS}
        weighted = sum(coef * self.losses[label] for label, coef in COEFS.items())
        self.gradients["model"] = self.gradients_of(weighted, "features_extractor.")

    def window(self, windows, row, noise):
        start = int((~windows.mask[row]).sum())
        frames = windows.frames[row].float() / 255
        features = F.relu(self.network("features_extractor.encoders.trunk", frames.flatten(1)))
        states, kl, z2 = [], 0, None
        for t in range(start, T + 1):
            # The first state is drawn when the batch's first ones are.
            z1_noise, z2_noise = noise[0 if t == start else t]
            past = () if t == start else (z2, windows.actions[row, t - 1])
            first = "first_" if t == start else ""
            q = self.gaussian(f"{first}posterior", features[t], *past)
            p = (th.zeros(Z1), th.ones(Z1)) if t == start else self.gaussian("prior", *past)
            z1 = q[0] + q[1] * z1_noise
            mean, std = self.gaussian(f"{first}z2", z1, *past)
            z2 = mean + std * z2_noise
            kl = kl + kl_divergence(Independent(Normal(*q), 1), Independent(Normal(*p), 1))
            states.append(th.cat([z1, z2]))
        return features, states, {"kl": kl, **self.explained(windows, row, frames[start:], states)}

    def gaussian(self, name, *inputs):
        mean, raw = self.network(f"features_extractor.encoders.dynamics.{name}", *inputs).chunk(2, -1)
        return mean, th.log1p(raw.exp()) + 1e-5

    def explained(self, windows, row, frames, states):
        decoded = self.network("features_extractor.tasks.decoder", th.stack(states), activation=F.relu)
        recon = -Normal(decoded, 0.1**0.5).log_prob(frames.flatten(1)).sum()
        z, z_next, n = th.stack(states[:-1]), th.stack(states[1:]), len(states) - 1
        actions, rewards = windows.actions[row, T - n :], windows.rewards[row, T - n :]
        mean, raw = self.network("features_extractor.tasks.reward", z, actions, z_next).unbind(-1)
        reward = -Normal(mean, F.softplus(raw) + 1e-5).log_prob(rewards).sum()
        logits = self.network("features_extractor.tasks.continuation", z_next)[:, 0]
        goes_on = th.tensor([1.0] * (n - 1) + [1 - float(windows.terminals[row])])
        continuation = -(goes_on * F.logsigmoid(logits) + (1 - goes_on) * F.logsigmoid(-logits)).sum()
        return {"recon": recon, "reward": reward, "continuation": continuation}

    # The agent

    def agent(self, actor_reads, critic_reads):
        """SAC, Haarnoja et al. 2018, and TQC, Kuznetsov et al. 2020, on x_{1:t}, a_{1:t-1} or z_t."""
        samples = self.step.batch
        actions = samples.observations.batch.actions
        history = th.cat([self.features[:, :T].flatten(1), actions[:, : T - 1].flatten(1)], 1)
        next_history = th.cat([self.features[:, 1:].flatten(1), actions[:, 1:].flatten(1)], 1)
        reads = {"history": (history, next_history), "latent": (self.z, self.z_next)}
        (x, next_x), (y, next_y) = reads[actor_reads], reads[critic_reads]
        alpha = self.weights["log_ent_coef"].detach().exp()

        pi, log_prob = self.act(x)
        self.losses["ent_coef"] = -(self.weights["log_ent_coef"] * (log_prob - A).detach()).mean()
        self.gradients["entropy"] = self.gradients_of(self.losses["ent_coef"], "log_ent_coef")

        with th.no_grad():
            next_pi, next_log_prob = self.act(next_x)
            bonus = alpha * next_log_prob[:, None]
            target = samples.rewards + (1 - samples.dones) * 0.9 * (self.target(next_y, next_pi) - bonus)
        self.losses["critic"] = self.critic_loss(self.values("critic", y, samples.actions), target)
        self.gradients["critic"] = self.gradients_of(self.losses["critic"], "critic.")

        for name, weight in self.step.critic_after.items():
            self.weights[f"critic.{name}"] = weight.detach()
        q = self.values("critic", y, pi)
        q = q.mean((1, 2)) if isinstance(self.model, TQC) else q[:, :, 0].min(1).values
        self.losses["actor"] = (alpha * log_prob - q).mean()
        self.weights = {name: weight for name, weight in self.weights.items() if name.startswith("actor.")}
        self.gradients["actor"] = self.gradients_of(self.losses["actor"], "actor.")

    def act(self, x):
        hidden = F.relu(self.network("actor.latent_pi", x))
        mean, log_std = self.network("actor.mu", hidden), self.network("actor.log_std", hidden).clamp(-20, 2)
        u = mean + log_std.exp() * th.randn(len(x), A)
        log_prob = Normal(mean, log_std.exp()).log_prob(u).sum(1) - (1 - u.tanh() ** 2 + 1e-6).log().sum(1)
        return u.tanh(), log_prob

    def values(self, critic, y, actions):
        """(B, n_critics, n), n being 1 for SAC and the quantiles for TQC."""
        networks = sorted({name.split(".")[1] for name in self.weights if name.startswith(f"{critic}.")})
        assert len(networks) == 2
        return th.stack([self.network(f"{critic}.{name}", y, actions, activation=F.relu) for name in networks], 1)

    def target(self, y, actions):
        values = self.values("critic_target", y, actions)
        if isinstance(self.model, TQC):
            return values.flatten(1).sort(1).values[:, : 2 * (5 - 2)]
        return values.min(1).values

    def critic_loss(self, values, target):
        if not isinstance(self.model, TQC):
            return 0.5 * ((values - target[:, None]) ** 2).mean((0, 2)).sum()
        levels = (th.arange(5) + 0.5)[:, None] / 5
        errors = target[:, None, None] - values[:, :, :, None]
        huber = th.where(errors.abs() < 1, 0.5 * errors**2, errors.abs() - 0.5)
        return ((levels - (errors.detach() < 0).float()).abs() * huber).mean()


@pytest.mark.parametrize(("actor_reads", "critic_reads"), COMBINATIONS)
@pytest.mark.parametrize("name", POLICIES)
def test_losses_and_gradients_are_those_of_the_formulas(name, actor_reads, critic_reads):
    settings = {"actor_reads": actor_reads, "critic_reads": critic_reads, "coefs": COEFS}
    model = filled(make(name, run={"learning_rate": 3e-3}, **settings))
    masks = []
    # Not the first step, in which critic and target are one and the first moments of Adam nothing.
    for _ in range(3):
        step = one_step(model)
        expected = Formulas(model, step, actor_reads, critic_reads)
        masks.append(step.batch.observations.batch.mask)
        assert step.losses.keys() == expected.losses.keys()
        for label, loss in expected.losses.items():
            assert step.losses[label] == pytest.approx(loss.item(), rel=1e-5), label
        assert step.gradients.keys() == expected.gradients.keys()
        for which, gradients in expected.gradients.items():
            assert_equal_gradients(step.gradients[which], gradients)
    assert not all(mask.all() for mask in masks) and any(mask.all(1).any() for mask in masks)


def test_a_step_of_the_model_is_one_of_adam_on_its_gradient():
    model = filled(make(auxiliary_optimizer_kwargs={"lr": 0.01, "eps": 1e-3}))
    step = one_step(model)
    now = dict(model.policy.named_parameters())
    for name, gradient in step.gradients["model"].items():
        expected = step.weights[name] - 0.01 * gradient / (gradient.abs() + 1e-3)
        th.testing.assert_close(now[name].detach(), expected, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------------- optimizers


@pytest.mark.parametrize("name", POLICIES)
def test_every_parameter_has_one_optimizer_and_the_model_its_own(name):
    model = make(name)
    optimizers = optimizers_of(model)
    held = {
        which: {id(p) for group in optimizer.param_groups for p in group["params"]} for which, optimizer in optimizers.items()
    }
    parts = {"critic": model.critic, "actor": model.actor, "model": model.policy.features_extractor}
    for which, part in parts.items():
        assert held[which] == {id(parameter) for parameter in part.parameters()}, which
    everything = [parameter for part in parts.values() for parameter in part.parameters()]
    assert len(everything) == len(set(map(id, everything)))


@pytest.mark.parametrize("name", POLICIES)
def test_the_schedules_of_agent_and_model_go_their_own_ways(name):
    adam = {"lr": lambda progress: 1e-2 * progress**2, "decoder": {"lr": lambda progress: 1e-3 * progress}}
    model = make(name, run={"learning_rate": lambda progress: 1e-4 + progress}, auxiliary_optimizer_kwargs=adam)
    seen = []

    def keep(which):
        return lambda optimizer, *_: seen.append((which, model.num_timesteps, [g["lr"] for g in optimizer.param_groups]))

    for which, optimizer in optimizers_of(model).items():
        optimizer.register_step_pre_hook(keep(which))
    model.learn(28)
    assert len(seen) == 4 * 5
    for which, steps, lrs in seen:
        progress = 1 - steps / 28
        expected = [1e-2 * progress**2, 1e-3 * progress] if which == "model" else [1e-4 + progress]
        assert lrs == pytest.approx(expected), which


# ---------------------------------------------------------------------- one meaning in training and in acting


@pytest.fixture
def no_noise(monkeypatch):
    monkeypatch.setattr(DiagonalGaussian, "sample", DiagonalGaussian.mode)


def read_both_ways(reads):
    """What the actor reads of windows: acting, of the very windows, and then in training, of the batch they came in."""
    model = filled(make(actor_reads=reads))
    policy = model.policy
    reader = policy.actor.features_extractor
    samples = model.replay_buffer.sample(40)
    acting = [reader(dict(windows)) for windows in (samples.observations, samples.next_observations)]
    whole = samples.observations.batch
    pass_over_all = policy.features_extractor.encoders(
        {"frames": whole.frames, "actions": whole.actions, "mask": whole.mask}
    ).mean.detach()
    policy.set_training_mode(True)
    return samples, acting, [reader(windows) for windows in (samples.observations, samples.next_observations)], pass_over_all


def test_the_history_read_in_training_is_that_read_in_acting():
    _, acting, training, _ = read_both_ways("history")
    for ours, theirs in zip(training, acting, strict=True):
        th.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert not th.equal(*acting)


def test_the_latent_read_in_training_is_that_read_in_acting_but_for_noise(no_noise):
    """Of the next window as well where that begins with the episode; else it is the state after T + 1 frames, as in SLAC."""
    samples, acting, training, pass_over_all = read_both_ways("latent")
    th.testing.assert_close(training[0], acting[0], rtol=0, atol=1e-6)
    padded = ~samples.observations.batch.mask[:, 0]
    assert padded.any() and not padded.all()
    th.testing.assert_close(training[1][padded], acting[1][padded], rtol=0, atol=1e-6)
    th.testing.assert_close(training[1], pass_over_all, rtol=0, atol=1e-6)


def test_training_reads_samples():
    _, acting, training, _ = read_both_ways("latent")
    assert (training[0] - acting[0]).abs().min() > 0


def test_acting_on_the_latent_draws_nothing():
    model = make(actor_reads="latent")
    observation = model.observation_space.sample()
    actions = {model.predict(observation, deterministic=True)[0].tobytes() for _ in range(3)}
    assert len(actions) == 1
