"""What the stock ``train()`` of SAC, TQC and TD3 does with a shared encoder, against the papers' formulas, written out."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch as th
from algorithms import BATCH_SIZE, TINY_ENCODER, NoiseImageEnv
from gradient_steps import assert_equal_gradients
from gymnasium import spaces
from sb3_contrib import TQC
from stable_baselines3 import SAC, TD3
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution
from torch.nn import functional as F

from sb3_latent import latent_kwargs
from sb3_latent.policies import LatentSACPolicy, LatentTD3Policy, LatentTQCPolicy
from sb3_latent.presets import sac_kwargs

ALGORITHMS = {"SAC": (SAC, LatentSACPolicy), "TQC": (TQC, LatentTQCPolicy), "TD3": (TD3, LatentTD3Policy)}
RUN = {"buffer_size": 50, "learning_starts": 16, "batch_size": BATCH_SIZE, "gamma": 0.9, "seed": 0, "device": "cpu"}
ENCODER, DECODER, ACTOR, CRITIC = "features_extractor.encoders.", "features_extractor.tasks.", "actor.", "critic."
ALL_MOVES = [("critic", "task"), ("actor", "critic", "task"), ("task",), ("critic",), ()]


@dataclass(frozen=True)
class Case:
    """The settings that the formulas below know, with the names of the papers' ideas and not of the package's arguments."""

    reads: str = "latent"
    moves: tuple[str, ...] = ("critic", "task")
    has_target: bool = True
    own_optimizer: bool = False
    kappa: float | str = 1.0
    coefs: dict[str, float] = field(default_factory=lambda: {"recon": 0.05, "latent_l2": 0.3})
    head: str = "layer_norm_tanh"
    pad: int | None = None
    augmented: tuple[str, ...] = ("rl", "task")
    n_target_views: int = 1
    n_q_views: int = 1
    samples: bool = False
    actor_freq: int = 1
    task_freq: int = 1
    log_std_bounds: tuple[float, float] | None = None

    def policy_kwargs(self) -> dict[str, Any]:
        tasks = {name: {"bits": 5} if name == "recon" else {} for name in self.coefs}
        return latent_kwargs(
            "cnn",
            **TINY_ENCODER,
            head=self.head,
            tasks=tasks,
            coefs=self.coefs,
            kappa=self.kappa,
            gradient_mode="own_optimizer" if self.own_optimizer else "joint",
            actor_reads=self.reads,
            encoder_gradients=self.moves,
            target_encoder=self.has_target,
            augmentation=None if self.pad is None else {"random_shift": {"pad": self.pad}},
            augmented=self.augmented,
            n_target_views=self.n_target_views,
            n_q_views=self.n_q_views,
            sample_latent=self.samples,
            actor_update_freq=self.actor_freq,
            task_freq=self.task_freq,
            **({} if self.log_std_bounds is None else {"log_std_bounds": self.log_std_bounds}),
        ) | {"net_arch": [8]}


@dataclass
class Step:
    """
    One gradient step as it happened.

    :param batch: what the replay buffer handed out.
    :param rng_state: torch's at that moment.
    :param weights: of the whole policy at that moment.
    :param alpha: the entropy coefficient then.
    :param critic_after: the critic's weights once it had stepped.
    :param gradients: what each optimizer was given, by parameter; no entry for an optimizer that did not step.
    """

    batch: Any
    rng_state: th.Tensor
    weights: dict[str, Any]
    alpha: float
    critic_after: dict[str, th.Tensor] = field(default_factory=dict)
    gradients: dict[str, dict[str, th.Tensor]] = field(default_factory=dict)


def make_env(size: int = 12) -> NoiseImageEnv:
    """Colour images, so that the order of channels in memory counts, and two actions, so that their sum does."""
    env = NoiseImageEnv(discrete=False, size=size)
    env.observation_space = spaces.Box(0, 255, (3, size, size), np.uint8)
    env.action_space = spaces.Box(-1, 1, (2,), np.float32)
    return env


def make_model(policy_kwargs, name="SAC", size=12, **kwargs):
    cls, policy = ALGORITHMS[name]
    extra = {"n_quantiles": 5} if name == "TQC" else {}
    return cls(policy, make_env(size), policy_kwargs={**policy_kwargs, **extra}, **{**RUN, **kwargs})


def filled(model):
    """With transitions in its buffer and no gradient step so far."""
    return model.learn(model.learning_starts)


def optimizers_of(model) -> dict[str, th.optim.Optimizer]:
    found = {"critic": model.critic.optimizer, "actor": model.actor.optimizer}
    if getattr(model, "ent_coef_optimizer", None) is not None:
        found["ent_coef"] = model.ent_coef_optimizer
    auxiliary = model.policy.features_extractor.optimizer
    return found if auxiliary is None else {**found, "task": auxiliary._adam}


def record(model) -> list[Step]:
    """A list that every gradient step of the stock ``train`` will append to."""
    steps: list[Step] = []
    sample = model.replay_buffer.sample
    names = {id(parameter): name for name, parameter in model.policy.named_parameters()}
    names |= {id(getattr(model, "log_ent_coef", None)): "log_ent_coef"}

    def keep_sample(*args, **kwargs):
        batch = sample(*args, **kwargs)
        clone = type(batch)(*(part.clone() if isinstance(part, th.Tensor) else part for part in batch))
        alpha = model.log_ent_coef.exp().item() if getattr(model, "log_ent_coef", None) is not None else 0.0
        steps.append(Step(clone, th.get_rng_state(), copy.deepcopy(model.policy.state_dict()), alpha))
        return batch

    def keep_gradients(which: str) -> Callable[..., None]:
        def keep(optimizer, *_):
            held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            given = {names[id(p)]: p.grad.clone() for p in held if p.grad is not None}
            steps[-1].gradients[which] = given
            if which == "critic":
                steps[-1].critic_after = copy.deepcopy(model.critic.state_dict())

        return keep

    model.replay_buffer.sample = keep_sample
    for which, optimizer in optimizers_of(model).items():
        optimizer.register_step_post_hook(keep_gradients(which))
    return steps


class Formulas:
    """
    The losses of a recorded gradient step and their gradients, on a twin that holds the weights of that moment, with the
    random draws of that moment.

    :param case: the settings.
    :param twin: a model of the same architecture; its weights are overwritten.
    """

    def __init__(self, case: Case, twin: Any) -> None:
        self.case = case
        self.twin = twin
        self.policy = twin.policy
        self.online = self.policy.features_extractor
        self.target = self.policy.features_extractor_target if case.has_target else self.online
        self.norms: tuple[float, float] | None = None

    def losses_and_gradients(self, step: Step, number: int) -> tuple[dict[str, float], dict[str, dict[str, th.Tensor]]]:
        """``number`` counts gradient steps from 0."""
        self.policy.load_state_dict(copy.deepcopy(step.weights))
        self.task_is_due = bool(self.case.coefs) and number % self.case.task_freq == 0
        self.actor_is_due = number % self.case.actor_freq == 0
        with th.random.fork_rng(devices=[]):
            th.set_rng_state(step.rng_state)
            return self._td3(step, number) if isinstance(self.twin, TD3) else self._sac(step)

    def _sac(self, step: Step):
        case, batch = self.case, step.batch
        self.discount = self.twin.gamma if batch.discounts is None else batch.discounts
        if self.twin.use_sde:
            self.policy.actor.reset_noise()
        self._look_at(batch.observations)
        actions, log_prob = self._act(self.actor_features[:BATCH_SIZE])
        self._look_at_next(batch.next_observations)
        with th.no_grad():
            next_actions, next_log_prob = self._act(self._actor_reads(self.next_hidden, self.next_z))
            bonus = (-step.alpha * next_log_prob).chunk(case.n_target_views)
            z = self._encoded_by_target()
            if isinstance(self.twin, TQC):
                target = self._tqc_target(z, next_actions) + bonus[0].unsqueeze(1)
                target = batch.rewards + (1 - batch.dones) * self.discount * target
            else:
                rows = th.stack(self._q(self.policy.critic_target, z, next_actions)).amin(0).chunk(case.n_target_views)
                target = sum(q + extra.unsqueeze(1) for q, extra in zip(rows, bonus, strict=True)) / case.n_target_views
                target = batch.rewards + (1 - batch.dones) * self.discount * target
        critic_loss = self._tqc_loss(batch, target) if isinstance(self.twin, TQC) else 0.5 * self._td_loss(batch, target)
        gradients = self._of_critic_and_tasks(critic_loss)
        self.policy.critic.load_state_dict(step.critic_after)
        z = self.z[:BATCH_SIZE].detach()
        if isinstance(self.twin, TQC):
            value = self._quantiles(self.policy.critic, z, actions).mean((1, 2)).unsqueeze(1)
        else:
            value = th.stack(self._q(self.policy.critic, z, actions)).amin(0)
        actor_loss = (step.alpha * log_prob.unsqueeze(1) - value).mean()
        gradients |= {"actor": self._of_actor(actor_loss)}
        # J(alpha) of Haarnoja et al. 2018, in the logarithm of alpha as SB3 has it: d/d log_alpha of -log_alpha (log pi + H).
        entropy_gradient = -(log_prob.detach() + self.twin.target_entropy).mean().reshape(1)
        gradients |= {"ent_coef": {"log_ent_coef": entropy_gradient} if self.actor_is_due else {}}
        losses = {"critic_loss": critic_loss.item(), "actor_loss": actor_loss.item(), **self.task_losses}
        return losses, gradients

    def _td3(self, step: Step, number: int):
        """Fujimoto et al. 2018, algorithm 1, with the constants of SB3."""
        batch = step.batch
        self.discount = self.twin.gamma if batch.discounts is None else batch.discounts
        noise = (0.2 * th.normal(th.zeros_like(batch.actions), 1.0)).clamp(-0.5, 0.5)
        with th.no_grad():
            self._look_at_next(batch.next_observations, asks_target=True)
            z = self._encoded_by_target()
            read = self._actor_reads(self.next_hidden, z, self.policy.actor_target)
            next_actions = (self.policy.actor_target.mu(read) + noise).clamp(-1, 1)
            smallest = th.stack(self._q(self.policy.critic_target, z, next_actions)).amin(0)
            target = batch.rewards + (1 - batch.dones) * self.discount * smallest
        self._look_at(batch.observations)
        critic_loss = self._td_loss(batch, target)
        gradients = self._of_critic_and_tasks(critic_loss)
        losses = {"critic_loss": critic_loss.item(), **self.task_losses}
        if (number + 1) % self.twin.policy_delay == 0:
            self.policy.critic.load_state_dict(step.critic_after)
            actions = self.policy.actor.mu(self.actor_features[:BATCH_SIZE])
            actor_loss = -self._q(self.policy.critic, self.z[:BATCH_SIZE].detach(), actions)[0].mean()
            gradients |= {"actor": self._of_actor(actor_loss)}
            losses["actor_loss"] = actor_loss.item()
        return losses, gradients

    def _look_at(self, images: th.Tensor) -> None:
        """Draw the views of a batch and encode them; tasks look at the first, unless only one of the two is shifted."""
        case = self.case
        rl, task = (case.pad is not None and batch in case.augmented for batch in ("rl", "task"))
        views = [self._shifted(images) if rl else images for _ in range(case.n_q_views)]
        self.task_view = views[0]
        if task != rl and self.task_is_due:
            self.task_view = self._shifted(images) if task else images
        self.positive = self._shifted(images) if self.task_is_due and "curl" in case.coefs else None
        # Encoded apart from the policy's views; the rows of a batch do not know each other.
        hidden, mean, log_var = self._encoded(self.online, th.cat(views))
        n_task_rows = BATCH_SIZE if task != rl and self.task_is_due else 0
        self.z = self._sample(mean, log_var, n_task_rows) if case.samples else mean
        self.actor_features = self._actor_reads(hidden, self.z)

    def _look_at_next(self, images: th.Tensor, asks_target: bool = False) -> None:
        case = self.case
        shifts = case.pad is not None and "rl" in case.augmented
        self.next_views = th.cat([self._shifted(images) if shifts else images for _ in range(case.n_target_views)])
        self.next_hidden, mean, log_var = self._encoded(self.target if asks_target else self.online, self.next_views)
        self.next_z = self._sample(mean, log_var) if case.samples and not asks_target else mean

    def _encoded_by_target(self) -> th.Tensor:
        if self.target is self.online and not isinstance(self.twin, TD3):
            return self.next_z
        _, mean, log_var = self._encoded(self.target, self.next_views)
        return self._sample(mean, log_var) if self.case.samples else mean

    @staticmethod
    def _encoded(extractor, images: th.Tensor):
        encoder = extractor.encoders["observation"]
        hidden = encoder.trunk(images.float() / 255)
        return hidden, *encoder.head(hidden)

    @staticmethod
    def _sample(mean, log_var, n_more_rows: int = 0) -> th.Tensor:
        """z = mu + sigma * epsilon; the epsilon of rows that nobody reads are drawn with the others."""
        noise = th.randn(len(mean) + n_more_rows, mean.shape[1])[: len(mean)]
        return mean + (0.5 * log_var).exp() * noise

    def _shifted(self, images: th.Tensor) -> th.Tensor:
        """Pad by repeating the border, crop where the draw says: one image at a time."""
        pad, (height, width) = self.case.pad, images.shape[2:]
        if pad == 0:
            return images
        draws = th.randint(2 * pad + 1, (2, len(images)))
        padded = np.pad(images.numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="edge")
        crops = [image[:, top : top + height, left : left + width] for image, top, left in zip(padded, *draws, strict=True)]
        return th.from_numpy(np.stack(crops))

    def _actor_reads(self, hidden, z, actor=None) -> th.Tensor:
        if self.case.reads == "latent":
            return z
        head = (actor or self.policy.actor).features_extractor.heads.by_key["observation"]
        return head(hidden).mean

    def _act(self, features):
        """A squashed Gaussian (Haarnoja et al. 2018, appendix C), with SB3's 1e-6 in the logarithm; gSDE is SB3's own."""
        actor = self.policy.actor
        hidden = actor.latent_pi(features)
        if self.twin.use_sde:
            return actor.action_dist.log_prob_from_params(actor.mu(hidden), actor.log_std, hidden)
        if self.case.log_std_bounds is None:
            log_std = actor.log_std(hidden).clamp(-20, 2)
        else:
            low, high = self.case.log_std_bounds
            log_std = low + (high - low) * (th.tanh(actor.log_std[0](hidden)) + 1) / 2
        gaussian = Normal(actor.mu(hidden), log_std.exp())
        unsquashed = gaussian.rsample()
        actions = th.tanh(unsquashed)
        return actions, (gaussian.log_prob(unsquashed) - th.log(1 - actions**2 + 1e-6)).sum(1)

    @staticmethod
    def _q(critic, z, actions) -> list[th.Tensor]:
        return [network(th.cat([z, actions], 1)) for network in (critic.qf0, critic.qf1)]

    def _td_loss(self, batch, target) -> th.Tensor:
        """Sum over views and critics of the mean squared error."""
        views = self.z.chunk(self.case.n_q_views)
        return sum(((q - target) ** 2).mean() for z in views for q in self._q(self.policy.critic, z, batch.actions))

    @staticmethod
    def _quantiles(critic, z, actions) -> th.Tensor:
        return th.stack([network(th.cat([z, actions], 1)) for network in (critic.qf0, critic.qf1)], 1)

    def _tqc_target(self, z, actions) -> th.Tensor:
        """Kuznetsov et al. 2020: the quantiles of all critics together, without the largest two of each."""
        quantiles = self._quantiles(self.policy.critic_target, z, actions).flatten(1).sort().values
        return quantiles[:, : quantiles.shape[1] - 2 * 2]

    def _tqc_loss(self, batch, target) -> th.Tensor:
        """Quantile Huber loss, mean over everything, as sb3-contrib has it."""
        views = self.z.chunk(self.case.n_q_views)
        losses = []
        for z in views:
            quantiles = self._quantiles(self.policy.critic, z, batch.actions)
            error = target[:, None, None, :] - quantiles[..., None]
            levels = (th.arange(quantiles.shape[2]) + 0.5)[:, None] / quantiles.shape[2]
            losses.append((levels - (error < 0).float()).abs() * F.huber_loss(error, th.zeros_like(error), reduction="none"))
        return sum(loss.mean() for loss in losses) / len(views)

    def _task_loss(self) -> th.Tensor:
        _, mean, log_var = self._encoded(self.online, self.task_view)
        self.task_mean = mean
        tasks = self.online.tasks.by_key["observation"]
        z = mean if log_var is None else self._sample(mean, log_var)
        losses = {}
        for label in self.case.coefs:
            if label == "recon":
                n, channels, height, width = self.task_view.shape
                # Images lie with their channels last in memory, and noise is drawn in that order, eight bytes a number.
                n_bytes = n * channels * height * width
                words = th.empty((n_bytes + 7) // 8, dtype=th.int64).random_(-(2**63), None)
                noise = words.view(th.uint8)[:n_bytes].reshape(n, height, width, channels).permute(0, 3, 1, 2) / 256
                target = (self.task_view // 8) / 32 + noise / 32 - 0.5
                losses[label] = ((tasks["recon"].decoder(z) - target) ** 2).sum((1, 2, 3)).mean()
            elif label == "latent_l2":
                losses[label] = ((mean**2).sum(1) / 2).mean()
            elif label == "kl":
                losses[label] = (-0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1)).mean()
            elif label == "curl":
                key = self._encoded(self.target, self.positive)[1].detach()
                logits = mean @ tasks["curl"].weight @ key.T
                losses[label] = F.cross_entropy(logits, th.arange(BATCH_SIZE))
        self.task_losses = {label: loss.item() for label, loss in losses.items()}
        return sum(self.case.coefs[label] * loss for label, loss in losses.items())

    def _of_critic_and_tasks(self, critic_loss) -> dict[str, dict[str, th.Tensor]]:
        """Of eq. 3 of seed document 000 for the encoder; the decoder has the tasks' gradients alone, the critic its own."""
        case = self.case
        rl = self._gradients(critic_loss, CRITIC, ENCODER)
        kappa = self._kappa()
        given = {"critic": {name: gradient for name, gradient in rl.items() if name.startswith(CRITIC)}}
        if "critic" in case.moves:
            given["critic"] |= {name: kappa * gradient for name, gradient in rl.items() if name.startswith(ENCODER)}
        self.task_losses = {}
        if not self.task_is_due:
            return given
        task_loss = self._task_loss()
        self._measure(critic_loss, task_loss)
        task = self._gradients(task_loss, DECODER, *([ENCODER] if "task" in case.moves else []))
        if case.own_optimizer:
            return given | {"task": task}
        for name, gradient in task.items():
            given["critic"][name] = given["critic"].get(name, 0) + gradient
        return given

    def _of_actor(self, actor_loss) -> dict[str, th.Tensor]:
        if not self.actor_is_due:
            return {}
        found = self._gradients(actor_loss, ACTOR, *([ENCODER] if "actor" in self.case.moves else []))
        return {name: self._kappa() * g if name.startswith(ENCODER) else g for name, g in found.items()}

    def _kappa(self) -> float:
        """``"auto"``: the running norm of the tasks' gradient at the latent, over that of RL."""
        if self.case.kappa != "auto":
            return self.case.kappa
        return 1.0 if self.norms is None else self.norms[1] / self.norms[0]

    def _measure(self, critic_loss, task_loss) -> None:
        """Averages that remember about 100 steps."""
        pairs = ((critic_loss, self.z), (task_loss, self.task_mean))
        new = [th.autograd.grad(loss, at, retain_graph=True)[0].norm().item() for loss, at in pairs]
        self.norms = tuple(old + 0.01 * (now - old) for old, now in zip(self.norms or new, new, strict=True))

    def _gradients(self, loss, *prefixes: str) -> dict[str, th.Tensor]:
        named = {name: p for name, p in self.policy.named_parameters() if name.startswith(prefixes)}
        gradients = th.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
        return {name: gradient for name, gradient in zip(named, gradients, strict=True) if gradient is not None}


def check(case: Case, name="SAC", n_updates=2, policy_kwargs=None, **kwargs) -> tuple[Any, list[Step]]:
    """Train for some gradient steps in one call of ``train`` and compare each with the formulas."""
    policy_kwargs = policy_kwargs or case.policy_kwargs()
    model = filled(make_model(policy_kwargs, name, **kwargs))
    formulas = Formulas(case, make_model(policy_kwargs, name, **kwargs))
    steps = record(model)
    model.train(n_updates, BATCH_SIZE)
    assert len(steps) == n_updates
    losses: dict[str, list[float]] = {}
    for number, step in enumerate(steps):
        found, gradients = formulas.losses_and_gradients(step, number)
        for label, value in found.items():
            losses.setdefault(label, []).append(value)
        assert step.gradients.keys() == gradients.keys()
        for optimizer, expected in gradients.items():
            assert_equal_gradients(step.gradients[optimizer], expected)
    logged = {label: model.logger.name_to_value[f"train/{label}"] for label in losses if label.endswith("_loss")}
    logged |= model.policy.features_extractor.tasks.pop_losses()
    assert logged == pytest.approx({label: np.mean(values) for label, values in losses.items()}, rel=1e-5)
    return model, steps


MODES = {"joint": {}, "joint, kappa 3": {"kappa": 3.0}, "own": {"own_optimizer": True, "kappa": 3.0}}


@pytest.mark.parametrize("has_target", [True, False], ids=["target encoder", "no target encoder"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reads", ["latent", "trunk"])
@pytest.mark.parametrize("moves", ALL_MOVES, ids="+".join)
def test_sac(moves, reads, mode, has_target):
    check(Case(reads, moves, has_target, log_std_bounds=(-10.0, 2.0), **MODES[mode]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "moves, reads, has_target",
    [(("critic", "task"), "trunk", True), (("actor", "critic", "task"), "latent", False), (("actor", "task"), "trunk", True)],
)
@pytest.mark.parametrize("name", ["TQC", "TD3"])
def test_tqc_and_td3(name, moves, reads, has_target, mode):
    check(Case(reads, moves, has_target, **MODES[mode]), name, n_updates=3)


@pytest.mark.parametrize("actor_freq", [1, 2])
@pytest.mark.parametrize("n_target_views", [1, 2])
def test_gsde(n_target_views, actor_freq):
    case = Case("trunk", ("actor", "critic", "task"), pad=2, n_target_views=n_target_views, actor_freq=actor_freq)
    check(case, n_updates=3, use_sde=True)


@pytest.mark.parametrize("name", ["SAC", "TQC", "TD3"])
def test_n_step_returns(name):
    _, steps = check(Case("trunk"), name, n_updates=3, n_steps=3)
    assert len({float(discount) for step in steps for discount in step.batch.discounts}) > 1


@pytest.mark.parametrize("own_optimizer", [False, True], ids=["joint", "own"])
@pytest.mark.parametrize("moves", [("critic", "task"), ("actor", "critic", "task")], ids="+".join)
def test_kappa_follows_the_norms(moves, own_optimizer):
    check(Case(moves=moves, kappa="auto", own_optimizer=own_optimizer, actor_freq=2), n_updates=4)


@pytest.mark.parametrize("name", ["SAC", "TQC"])
def test_the_actors_loss_leaves_the_critic_alone(name):
    """Not even a gradient that nobody reads: computing it is work."""
    model = filled(make_model(Case(moves=("actor", "critic", "task")).policy_kwargs(), name))
    left = {which: [] for which in ("critic", "actor")}
    for which, gradients in left.items():
        optimizers_of(model)[which].register_step_post_hook(
            lambda *_, gradients=gradients: gradients.extend(p.grad.clone() for p in model.critic.parameters())
        )
    model.train(2, BATCH_SIZE)
    assert len(left["critic"]) == len(left["actor"]) > 0
    assert all(th.equal(before, after) for before, after in zip(left["critic"], left["actor"], strict=True))


VAE = {"head": "gaussian", "coefs": {"recon": 0.05, "kl": 0.2}}


@pytest.mark.parametrize("samples, has_target", [(False, True), (True, True), (True, False)])
@pytest.mark.parametrize("own_optimizer", [False, True], ids=["joint", "own"])
@pytest.mark.parametrize("moves", ALL_MOVES, ids="+".join)
def test_a_stochastic_latent(moves, own_optimizer, samples, has_target):
    check(Case(moves=moves, samples=samples, own_optimizer=own_optimizer, has_target=has_target, **VAE))


@pytest.mark.parametrize("name", ["TQC", "TD3"])
def test_a_sampled_latent_elsewhere(name):
    check(Case(samples=True, kappa=2.0, **VAE), name, n_updates=3)


@pytest.mark.parametrize("own_optimizer", [False, True], ids=["joint", "own"])
@pytest.mark.parametrize("actor_freq, task_freq", [(2, 1), (1, 3), (3, 2)])
@pytest.mark.parametrize("moves", [("critic", "task"), ("actor", "critic", "task"), ("task",)], ids="+".join)
def test_cadences(moves, actor_freq, task_freq, own_optimizer):
    """The entropy coefficient rests with the actor."""
    case = Case("trunk", moves, own_optimizer=own_optimizer, actor_freq=actor_freq, task_freq=task_freq)
    _, steps = check(case, n_updates=6)
    actor, task = ([bool(step.gradients.get(which)) for step in steps] for which in ("actor", "task"))
    assert actor == [number % actor_freq == 0 for number in range(6)]
    assert task == [own_optimizer and number % task_freq == 0 for number in range(6)]


@pytest.mark.parametrize("augmented", [("rl",), ("task",), ("rl", "task")], ids="+".join)
@pytest.mark.parametrize("name", ["SAC", "TQC", "TD3"])
def test_who_sees_shifted_images(name, augmented):
    check(Case(pad=2, augmented=augmented, own_optimizer=True), name, n_updates=3)


@pytest.mark.parametrize("n_q_views", [1, 2, 3])
@pytest.mark.parametrize("n_target_views", [1, 2, 3])
@pytest.mark.parametrize("reads", ["latent", "trunk"])
def test_drq(reads, n_target_views, n_q_views):
    check(Case(reads, pad=2, n_target_views=n_target_views, n_q_views=n_q_views, coefs={}))


@pytest.mark.parametrize("augmented", [("rl",), ("rl", "task")], ids="+".join)
@pytest.mark.parametrize("head", [{}, {**VAE, "samples": True}], ids=["autoencoder", "sampled VAE"])
def test_drq_with_tasks_and_all_gradients(head, augmented):
    moves = ("actor", "critic", "task")
    check(Case(moves=moves, pad=2, n_target_views=3, n_q_views=2, augmented=augmented, kappa=2.0, **head))


@pytest.mark.parametrize("name", ["TQC", "TD3"])
def test_several_views_of_the_critic_elsewhere(name):
    check(Case(pad=2, n_q_views=3, coefs={}), name, n_updates=3)


CURL = {"pad": 2, "coefs": {"curl": 0.7}}


@pytest.mark.parametrize("augmented", [("rl",), ("task",), ("rl", "task")], ids="+".join)
@pytest.mark.parametrize("own_optimizer", [False, True], ids=["joint", "own"])
def test_curl(own_optimizer, augmented):
    check(Case(own_optimizer=own_optimizer, augmented=augmented, **CURL), n_updates=3)


def test_curl_leaves_its_momentum_encoder_alone():
    """No gradient reaches it, from no loss; it is moved by its average alone."""
    model = filled(make_model(Case(own_optimizer=True, **CURL).policy_kwargs()))
    seen = []
    for optimizer in optimizers_of(model).values():
        optimizer.register_step_post_hook(
            lambda *_: seen.extend(p.grad for p in model.policy.features_extractor_target.parameters())
        )
    model.train(2, BATCH_SIZE)
    assert seen and all(gradient is None for gradient in seen)


def everything(model) -> dict[str, th.Tensor]:
    return {name: p.detach().clone() for name, p in model.policy.named_parameters()} | {
        "log_ent_coef": model.log_ent_coef.detach().clone()
    }


@pytest.mark.parametrize("settings", [{}, {"own_optimizer": True, "moves": ("actor", "critic", "task")}, VAE], ids=str)
@pytest.mark.parametrize("augmented", [("rl",), ("task",), ("rl", "task")], ids="+".join)
def test_augmentation_off_is_no_augmentation_to_the_bit(augmented, settings):
    ends = []
    for pad in (None, 0, 1):
        model = make_model(Case(pad=pad, augmented=augmented, **settings).policy_kwargs())
        ends.append(everything(model.learn(22)))
    none, off, on = ends
    assert all(th.equal(none[name], off[name]) for name in none)
    assert not all(th.equal(none[name], on[name]) for name in none)


def assert_same_bits(actual, expected):
    assert actual.keys() == expected.keys()
    for name in expected:
        assert th.equal(actual[name], expected[name]), name


def part(weights, prefix: str) -> dict[str, th.Tensor]:
    """Of a state dict, what lies below a prefix; without the extractor's extra state."""
    return {name[len(prefix) :]: w for name, w in weights.items() if name.startswith(prefix) and isinstance(w, th.Tensor)}


@pytest.mark.parametrize("encoder_tau", [None, 0.3])
@pytest.mark.parametrize(
    "name, settings, n_between",
    [
        ("SAC", {"tau": 0.2}, 1),
        ("SAC", {"tau": 0.2, "target_update_interval": 3}, 3),
        ("TQC", {"tau": 0.2, "target_update_interval": 2}, 2),
        ("TD3", {"tau": 0.2, "policy_delay": 1}, 1),
        ("TD3", {"tau": 0.2, "policy_delay": 2}, 2),
        ("TD3", {"tau": 0.2, "policy_delay": 3}, 3),
    ],
)
@pytest.mark.parametrize("moves", [("critic", "task"), ("actor", "critic", "task")], ids="+".join)
def test_the_target_encoder_is_a_moving_average(moves, name, settings, n_between, encoder_tau):
    """It moves when SB3 moves the other targets, after the last step of the encoder; SB3 counts steps in its own ways."""
    case = Case("trunk", moves, own_optimizer=True, **CURL)
    model = filled(make_model({**case.policy_kwargs(), "encoder_tau": encoder_tau}, name, **settings))
    steps = record(model)
    n_steps = 7
    model.train(n_steps, BATCH_SIZE)
    states = [step.weights for step in steps] + [model.policy.state_dict()]
    moved = []
    for before, after in itertools.pairwise(states):
        rates = {"features_extractor": encoder_tau or 0.2, "critic": 0.2} | ({"actor": 0.2} if name == "TD3" else {})
        for network, tau in rates.items():
            suffix = ".encoders." if network == "features_extractor" else "."
            online = part(after, network + suffix)
            old, new = (part(state, f"{network}_target{suffix}") for state in (before, after))
            moved.append(not all(th.equal(old[weight], new[weight]) for weight in old))
            if moved[-1]:
                expected = {weight: (1 - tau) * old[weight] + tau * online[weight] for weight in online}
                th.testing.assert_close(new, expected, rtol=1e-6, atol=1e-8)
    first = n_between - 1 if name == "TD3" else 0
    assert moved == [number % n_between == first for number in range(n_steps) for _ in rates]


def test_the_target_encoder_starts_where_the_encoder_does():
    policy = make_model({**Case().policy_kwargs(), "init": "orthogonal"}).policy
    target, online = (part(policy.state_dict(), f"features_extractor{name}.encoders.") for name in ("_target", ""))
    assert_same_bits(target, online)


RECIPE = Case(
    reads="trunk",
    own_optimizer=True,
    coefs={"recon": 1 / (3 * 32 * 32), "latent_l2": 1e-6},
    actor_freq=2,
    log_std_bounds=(-10.0, 2.0),
)
"""Of Yarats et al. 2019 and their train.py, for 32x32 colour images."""

SAC_AE = {
    "sac_ae_two_optimizers": (
        RECIPE,
        {"critic": {CRITIC: {}, ENCODER: {}}, "task": {ENCODER: {}, DECODER: {"weight_decay": 1e-7}}},
    ),
    "sac_ae": (
        replace(RECIPE, own_optimizer=False, kappa="auto"),
        {"critic": {CRITIC: {}, ENCODER: {}, DECODER: {"weight_decay": 1e-7}}},
    ),
}
"""For each preset the losses, and what its Adams hold beside those of actor and entropy coefficient."""


def replayed(steps: list[Step], adams: dict[str, dict[str, dict[str, Any]]]) -> dict[str, th.Tensor]:
    """The weights that plain Adams and moving averages with the recipe's rates make of recorded gradients."""
    weights = {name: w.clone() for name, w in steps[0].weights.items() if isinstance(w, th.Tensor)}
    weights["log_ent_coef"] = th.tensor([steps[0].alpha]).log()
    others = {"actor": {ACTOR: {}}, "ent_coef": {"log_ent_coef": {"lr": 1e-4, "betas": (0.5, 0.999)}}}
    optimizers = {
        which: th.optim.Adam(
            [{"params": [w for name, w in weights.items() if name.startswith(prefix)], **kw} for prefix, kw in groups.items()]
        )
        for which, groups in {**adams, **others}.items()
    }
    for number, step in enumerate(steps):
        for which, optimizer in optimizers.items():
            for name, weight in weights.items():
                weight.grad = step.gradients[which].get(name)
            optimizer.step()
        if number % 2 == 0:
            for online, tau in ((CRITIC, 0.01), (ENCODER, 0.05)):
                for name in part(weights, online):
                    weights[online.replace(".", "_target.", 1) + name].lerp_(weights[online + name], tau)
    return weights


@pytest.mark.parametrize("preset", SAC_AE)
def test_the_recipe_of_sac_ae(preset):
    """Losses and gradients by the formulas; then, from these gradients, every weight by the recipe's Adams and averages."""
    case, adams = SAC_AE[preset]
    settings = {**sac_kwargs(preset), **RUN, "gamma": 0.99}
    model, steps = check(case, n_updates=4, policy_kwargs=latent_kwargs(preset), size=32, **settings)
    expected = replayed(steps, adams)
    for name, weight in everything(model).items():
        th.testing.assert_close(weight, expected[name], rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize("bounds", [None, (-10.0, 2.0), (-3.0, -1.0)])
def test_the_squashed_gaussian(bounds):
    actor = make_model(Case(log_std_bounds=bounds).policy_kwargs()).actor
    images = th.randint(256, (64, 3, 12, 12), dtype=th.uint8)
    with th.no_grad():
        mean, log_std, _ = actor.get_action_dist_params(images)
        actions, log_prob = actor.action_log_prob(images)
    base = Independent(Normal(mean, log_std.exp()), 1)
    expected = TransformedDistribution(base, TanhTransform(cache_size=1)).log_prob(actions)
    inside = (actions.abs() < 0.99).all(1)
    assert inside.sum() > 16
    th.testing.assert_close(log_prob[inside], expected[inside], rtol=1e-3, atol=1e-3)


def test_the_log_std_is_squashed():
    """``low + (high - low) / 2 * (tanh(x) + 1)``, which ends at the bounds."""
    squash = make_model(Case(log_std_bounds=(-10.0, 2.0)).policy_kwargs()).actor.log_std[1]
    x = th.tensor([-100.0, -1.0, 0.0, 0.5, 100.0])
    np.testing.assert_allclose(squash(x), -10 + 6 * (np.tanh(x.numpy()) + 1), rtol=1e-6)
    assert squash(x)[[0, 2, 4]].tolist() == [-10, -4, 2]
