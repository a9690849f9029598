"""What a latent model is trained by, against the formulas of the papers typed anew; and what it decodes and foretells."""

import copy
import pickle

import pytest
import torch as th
from torch.distributions import Bernoulli, Independent, Normal, OneHotCategorical, kl_divergence
from torch.nn import functional as F

from sb3_latent.dynamics import DYNAMICS, WindowCode, make_latent_model
from sb3_latent.nn import MlpTrunk, SlacTrunk
from sb3_latent.windows import WindowBatch, WindowSpec

ALL = DYNAMICS.names()
B, T, A = 4, 4, 2
PIXELS = WindowSpec(T, (2, 4, 5), A, 255.0)
VECTOR = WindowSpec(T, (6,), A, 1.0)
IMAGE = WindowSpec(T, (3, 64, 64), A, 255.0)
STARTS = [0, 2, 4, 1]
"""The third window has one frame only, and so no transition."""

MIN_STD = 1e-5
STD = 0.1**0.5


def windows(spec=PIXELS, starts=STARTS, frame_std=1.0):
    shape = (len(starts), T + 1, *spec.frame_shape)
    return WindowBatch(
        frames=th.randint(0, 256, shape, dtype=th.uint8) if spec.scale == 255 else frame_std * th.randn(shape),
        actions=2 * th.rand(len(starts), T, A) - 1,
        rewards=th.randn(len(starts), T),
        terminals=th.tensor([1.0, 0, 0, 1]).repeat(len(starts))[: len(starts)],
        mask=th.arange(T + 1) >= th.tensor(starts).unsqueeze(1),
    )


def doubles(batch):
    return WindowBatch(batch.frames, batch.actions.double(), batch.rewards.double(), batch.terminals, batch.mask)


class Formula:
    """
    The loss of a model as its paper has it, window by window and step by step: networks are read off the model's weights, and
    draws are made of given noise. ``walk`` is of one window: its states and, for each, the parameters of posterior and prior.
    """

    def __init__(self, model, batch, walk, noise=None):
        self.weights = {name: weight.detach().clone().requires_grad_() for name, weight in model.named_parameters()}
        self.noise = noise
        states, self.posteriors, self.priors = [], [], []
        recon = reward = continuation = 0
        for row in range(B):
            s = STARTS[row]
            frames = batch.frames[row, s:].double() / 255
            actions, rewards = batch.actions[row, s:], batch.rewards[row, s:]
            states = walk(self, row, [0, *range(s + 1, T + 1)], self.trunk(frames), actions)
            for z, x in zip(states, frames, strict=True):
                recon = recon - Independent(Normal(self.decoder(z), STD), 3).log_prob(x)
            for t, a in enumerate(actions):
                mean, std = self.gaussian("tasks.reward", states[t], a, states[t + 1])
                reward = reward - Normal(mean[0], std[0]).log_prob(rewards[t])
                ends = row in (0, 3) and t == len(actions) - 1
                logit = self.network("tasks.continuation", states[t + 1])[0]
                continuation = continuation - Bernoulli(logits=logit).log_prob(th.tensor(0.0 if ends else 1.0).double())
        self.losses = {"recon": recon / B, "reward": reward / B, "continuation": continuation / B}

    def network(self, name, *inputs, activation=lambda x: th.where(x > 0, x, 0.2 * x)):
        x = th.cat(inputs, -1)
        layers = [key.removesuffix(".weight") for key in self.weights if key.startswith(f"{name}.") and "weight" in key]
        for layer in layers:
            x = x @ self.weights[f"{layer}.weight"].T + self.weights[f"{layer}.bias"]
            x = x if layer == layers[-1] else activation(x)
        return x

    def trunk(self, frames):
        return F.relu(self.network("encoders.trunk.layers", frames.flatten(1), activation=F.relu))

    def decoder(self, z):
        return self.network("tasks.decoder", z, activation=F.relu).reshape(PIXELS.frame_shape)

    def gaussian(self, name, *inputs, min_std=MIN_STD, activation=None):
        keywords = {} if activation is None else {"activation": activation}
        mean, raw = self.network(name, *inputs, **keywords).chunk(2, -1)
        return mean, th.log1p(th.exp(raw)) + min_std

    def draw(self, gaussian, kind, row, step):
        """``step`` counts from the first frame of the batch: noise is drawn for all rows, those that wait included."""
        mean, std = gaussian
        return mean + std * self.noise[step][kind][row]

    def believe(self, posterior, prior):
        self.posteriors.append(posterior)
        self.priors.append(prior)

    def gaussian_kl(self, stop=None):
        """Of each step, in nats; gradients are stopped at the posterior or the prior."""
        steps = []
        for q, p in zip(self.posteriors, self.priors, strict=True):
            q = [x.detach() for x in q] if stop == "posterior" else q
            p = [x.detach() for x in p] if stop == "prior" else p
            steps.append(kl_divergence(Independent(Normal(*q), 1), Independent(Normal(*p), 1)))
        return th.stack(steps)

    def categorical_kl(self, stop=None):
        steps = []
        for q, p in zip(self.posteriors, self.priors, strict=True):
            q = q.detach() if stop == "posterior" else q
            p = p.detach() if stop == "prior" else p
            steps.append(kl_divergence(OneHotCategorical(probs=q), OneHotCategorical(probs=p)).sum())
        return th.stack(steps)


def slac(formula, row, steps, features, actions, deterministic_z2=False):
    """
    Lee et al. 2020, equation 5 and section 5: q(z1_1 | x_1), p(z2_1 | z1_1); q(z1' | x', z2, a) and p(z1' | z2, a),
    p(z2' | z1', z2, a). What q and p share cancels.
    """
    dynamics, states = "encoders.dynamics", []

    def second(name, *inputs):
        if deterministic_z2:
            return formula.network(name, *inputs)
        return formula.draw(formula.gaussian(name, *inputs), 1, row, step)

    for t, step in enumerate(steps):
        if t == 0:
            q = formula.gaussian(f"{dynamics}.first_posterior", features[0])
            z1 = formula.draw(q, 0, row, step)
            z2 = second(f"{dynamics}.first_z2", z1)
            formula.believe(q, (th.zeros_like(z1), th.ones_like(z1)))
        else:
            a, before = actions[t - 1], z2
            q = formula.gaussian(f"{dynamics}.posterior", features[t], before, a)
            z1 = formula.draw(q, 0, row, step)
            z2 = second(f"{dynamics}.z2", z1, before, a)
            formula.believe(q, formula.gaussian(f"{dynamics}.prior", before, a))
        states.append(th.cat([z1, z2]))
    return states


def mixed(*arguments):
    return slac(*arguments, deterministic_z2=True)


def filtering(formula, row, steps, features, actions):
    dynamics, states = "encoders.dynamics", []
    for t, step in enumerate(steps):
        if t == 0:
            q = formula.gaussian(f"{dynamics}.first_posterior", features[0])
            p = th.zeros_like(q[0]), th.ones_like(q[0])
        else:
            q = formula.gaussian(f"{dynamics}.posterior", features[t], states[-1], actions[t - 1])
            p = formula.gaussian(f"{dynamics}.prior", states[-1], actions[t - 1])
        states.append(formula.draw(q, 0, row, step))
        formula.believe(q, p)
    return states


def vae(formula, row, steps, features, actions):
    """A model of single frames: noise is drawn for all frames at once, and those before the start are left out."""
    states = []
    for x, step in zip(features, range(T + 1 - len(features), T + 1), strict=True):
        q = formula.gaussian("encoders.dynamics.posterior", x)
        states.append(formula.draw(q, 0, row, step))
        formula.believe(q, (th.zeros_like(q[0]), th.ones_like(q[0])))
    return states


def nontemporal(formula, row, steps, features, actions):
    states = vae(formula, row, steps, features, actions)
    for t, step in enumerate(range(T + 1 - len(features), T + 1)):
        z2 = formula.draw(formula.gaussian("encoders.dynamics.z2", states[t]), 1, row, step)
        states[t] = th.cat([states[t], z2])
    return states


def recurrence(formula, h, z, a):
    """A gated recurrent unit, with the gates as torch has them."""
    w = {name.rpartition(".")[2]: weight for name, weight in formula.weights.items() if ".recurrence." in name}
    x = F.elu(formula.network("encoders.dynamics.inputs", z, a))
    of_x, of_h = w["weight_ih"] @ x + w["bias_ih"], w["weight_hh"] @ h + w["bias_hh"]
    (rx, ux, nx), (rh, uh, nh) = of_x.chunk(3), of_h.chunk(3)
    r, u = (rx + rh).sigmoid(), (ux + uh).sigmoid()
    return u * h + (1 - u) * (nx + r * nh).tanh()


def planet(formula, row, steps, features, actions):
    """Hafner et al. 2019, section 3, with the networks of Dreamer."""
    zeros = formula.weights["encoders.dynamics.inputs.weight"].new_zeros
    h, z, states = zeros(H), zeros(Z), []
    elu = {"min_std": 0.1, "activation": F.elu}
    for t, step in enumerate(steps):
        h = recurrence(formula, h, z, actions[t - 1] if t else zeros(A))
        q = formula.gaussian("encoders.dynamics.posterior", h, features[t], **elu)
        formula.believe(q, formula.gaussian("encoders.dynamics.prior", h, **elu))
        z = formula.draw(q, 0, row, step)
        states.append(th.cat([h, z]))
    return states


GROUPS, CLASSES = 3, 4
H, Z = 9, 5
TEMPERATURE, UNIMIX = 0.7, 0.02


def dreamer_v2(formula, row, steps, features, actions, relaxed=False):
    """Hafner et al. 2021, algorithm 1 (draws with straight-through gradients); or Jang et al. 2017, equation 2."""
    zeros = formula.weights["encoders.dynamics.inputs.weight"].new_zeros
    h, z, states = zeros(H), zeros(GROUPS * CLASSES), []

    def probabilities(*inputs):
        weights = formula.network(*inputs, activation=F.elu).reshape(GROUPS, CLASSES).softmax(-1)
        return (1 - UNIMIX) * weights + UNIMIX / CLASSES if relaxed else weights

    for t, step in enumerate(steps):
        h = recurrence(formula, h, z, actions[t - 1] if t else zeros(A))
        q = probabilities("encoders.dynamics.posterior", h, features[t])
        formula.believe(q, probabilities("encoders.dynamics.prior", h))
        noise = formula.noise[step][0][row]
        z = ((q.log() + noise) / TEMPERATURE).softmax(-1) if relaxed else noise + q - q.detach()
        z = z.flatten()
        states.append(th.cat([h, z]))
    return states


def relaxed_dreamer_v2(*arguments):
    return dreamer_v2(*arguments, relaxed=True)


def model_by_hand(dynamics, dynamics_kwargs):
    """Every weight is set by hand, to a wave of its own; in double precision, for the tolerances to be those of formulas."""
    coefs = {"continuation": 1.0}
    trunk_kwargs = {"net_arch": (10, 8)}
    model = make_latent_model(PIXELS, dynamics, dynamics_kwargs, "mlp", trunk_kwargs, coefs=coefs, hidden=7).double()
    with th.no_grad():
        for k, weight in enumerate(model.parameters()):
            wave = th.sin(1.7 * th.arange(weight.numel(), dtype=th.float64) + k).reshape(weight.shape)
            weight.copy_(0.3 * wave if weight.dim() == 1 else 1.5 * wave / weight.shape[1] ** 0.5)
    return model


def assert_same_losses(model, formula, batch):
    """Each loss and, for each, the gradient of every weight."""
    th.manual_seed(1)
    losses = model.loss(batch)
    assert set(losses) == set(formula.losses)
    for label, loss in losses.items():
        th.testing.assert_close(
            loss, formula.losses[label], rtol=1e-6, atol=0, msg=lambda text, label=label: f"{label}: {text}"
        )
        ours = th.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True, materialize_grads=True)
        expected = th.autograd.grad(
            formula.losses[label],
            list(formula.weights.values()),
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        assert any(gradient.any() for gradient in expected)
        for name, a, b in zip(formula.weights, ours, expected, strict=True):
            th.testing.assert_close(
                a, b, rtol=1e-5, atol=1e-7 * float(b.abs().max()), msg=lambda text, name=f"{label}, {name}": f"{name}: {text}"
            )


def normal_noise(*widths):
    """As torch draws it for each step in turn."""
    th.manual_seed(1)
    return [[th.randn(B, width, dtype=th.float64) for width in widths] for _ in range(T + 1)]


def normal_noise_at_once(*widths):
    """As torch draws it for all frames at once."""
    th.manual_seed(1)
    return [th.randn(B * (T + 1), width, dtype=th.float64).reshape(B, T + 1, width).unbind(1) for width in widths]


TWO_LATENTS = {"z1_dim": 3, "z2_dim": 5, "hidden": (6, 4)}
ONE_LATENT = {"z_dim": 5, "hidden": (6,)}


@pytest.mark.parametrize(
    "dynamics, kwargs, walk, widths",
    [
        ("slac", TWO_LATENTS, slac, (3, 5)),
        ("rssm_mixed", TWO_LATENTS, mixed, (3,)),
        ("slac_filtering", ONE_LATENT, filtering, (5,)),
        ("slac_vae", ONE_LATENT, vae, (5,)),
        ("slac_nontemporal", TWO_LATENTS, nontemporal, (3, 5)),
    ],
)
def test_losses_of_slac_and_its_ablations_are_those_of_the_paper(dynamics, kwargs, walk, widths):
    model, batch = model_by_hand(dynamics, kwargs), doubles(windows())
    if walk in (vae, nontemporal):
        noise = list(zip(*normal_noise_at_once(*widths), strict=True))
    else:
        noise = normal_noise(*widths)
    formula = Formula(model, batch, walk, noise)
    formula.losses["kl"] = formula.gaussian_kl().sum() / B
    assert len(formula.posteriors) == batch.mask.sum()
    assert_same_losses(model, formula, batch)


def floored(steps, free_nats):
    """The mean over steps is not below the free nats; times the steps of a window."""
    return th.maximum(steps.mean(), th.tensor(free_nats, dtype=th.float64)) * len(steps) / B


def recurrent_kl(of_steps, free_nats, balance):
    if balance is None:
        return floored(of_steps(), free_nats)
    return balance * floored(of_steps("posterior"), free_nats) + (1 - balance) * floored(of_steps("prior"), free_nats)


@pytest.mark.parametrize("free_nats", [0.0, 1.2, 100.0])
@pytest.mark.parametrize("balance", [None, 0.8])
def test_losses_of_a_gaussian_rssm_are_those_of_dreamer(free_nats, balance):
    kwargs = {"h_dim": H, "z_dim": Z, "hidden": 6, "free_nats": free_nats, "balance": balance}
    model, batch = model_by_hand("rssm", kwargs), doubles(windows())
    formula = Formula(model, batch, planet, normal_noise(Z))
    formula.losses["kl"] = recurrent_kl(formula.gaussian_kl, free_nats, balance)
    if free_nats == 100:
        # Below the free nats the divergence is a constant.
        th.manual_seed(1)
        loss = model.loss(batch)["kl"]
        assert loss.item() == pytest.approx(100 * batch.mask.sum().item() / B)
        gradients = th.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
        assert not any(gradient.any() for gradient in gradients)
    else:
        assert formula.gaussian_kl().min() < free_nats < formula.gaussian_kl().mean() or free_nats == 0
        assert_same_losses(model, formula, batch)


@pytest.mark.parametrize("balance", [None, 0.8])
def test_losses_of_a_discrete_rssm_are_those_of_dreamer_v2(balance):
    kwargs = {"h_dim": H, "n_groups": GROUPS, "n_classes": CLASSES, "hidden": 6, "free_nats": 0.3, "balance": balance}
    model, batch = model_by_hand("rssm_discrete", kwargs), doubles(windows())
    th.manual_seed(1)
    drawn = model.observe(model.encode(batch.frames), batch.actions, batch.mask).states[..., H:]
    noise = [[step.detach().reshape(B, GROUPS, CLASSES)] for step in drawn.unbind(1)]
    # The classes are the model's own: that they are drawn with the right probabilities is tested beside the families.
    noise[0] = [th.stack([drawn[row, s].detach().reshape(GROUPS, CLASSES) for row, s in enumerate(STARTS)])]
    formula = Formula(model, batch, dreamer_v2, noise)
    formula.losses["kl"] = recurrent_kl(formula.categorical_kl, 0.3, balance)
    assert formula.categorical_kl().min() < 0.3 < formula.categorical_kl().mean()
    assert_same_losses(model, formula, batch)


def test_losses_of_a_relaxed_rssm_are_those_of_gumbel_softmax():
    kwargs = {"h_dim": H, "n_groups": GROUPS, "n_classes": CLASSES, "hidden": 6, "free_nats": 0.0, "balance": 0.8}
    kwargs |= {"relaxation": "gumbel", "temperature": TEMPERATURE, "unimix": UNIMIX}
    model, batch = model_by_hand("rssm_discrete", kwargs), doubles(windows())
    th.manual_seed(1)
    noise = [[-th.empty(B, GROUPS, CLASSES, dtype=th.float64).exponential_().log()] for _ in range(T + 1)]
    formula = Formula(model, batch, relaxed_dreamer_v2, noise)
    formula.losses["kl"] = recurrent_kl(formula.categorical_kl, 0.0, 0.8)
    assert_same_losses(model, formula, batch)


@pytest.mark.parametrize("dynamics", ALL)
def test_every_weight_learns_and_by_finite_gradients(dynamics):
    loss_kwargs = {"std": 1.0, "learn_std": True}
    model = make_latent_model(VECTOR, dynamics, trunk="flatten", loss_kwargs=loss_kwargs, coefs={"continuation": 1.0})
    # Frames of many nats, so that no divergence is for free.
    assert_every_weight_learns(model, windows(VECTOR, frame_std=100.0))


def test_every_weight_learns_from_images():
    model = make_latent_model(IMAGE, trunk_kwargs={"depth": 2}, coefs={"continuation": 1.0})
    assert_every_weight_learns(model, windows(IMAGE))


def assert_every_weight_learns(model, batch):
    sum(model.loss(batch).values()).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("dynamics", ALL)
def test_padding_takes_no_part_in_any_loss(dynamics):
    model = make_latent_model(VECTOR, dynamics, coefs={"continuation": 1.0})
    batch = windows(VECTOR)
    other = copy.deepcopy(batch)
    padding = ~batch.mask
    other.frames[padding] = 100 * th.randn(other.frames[padding].shape)
    other.actions[padding[:, :-1]] = 100.0
    other.rewards[padding[:, :-1]] = 100.0
    outcomes = []
    for one in (batch, other):
        th.manual_seed(0)
        losses = model.loss(one)
        model.zero_grad()
        sum(losses.values()).backward()
        outcomes.append((losses, [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]))
    (losses, gradients), (other_losses, other_gradients) = outcomes
    assert losses.keys() == other_losses.keys() and all(th.equal(loss, other_losses[label]) for label, loss in losses.items())
    th.testing.assert_close(gradients, other_gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("with_graph", [True, False])
def test_many_frames_go_through_the_networks_in_pieces_as_at_once(with_graph):
    model, batch = make_latent_model(PIXELS, trunk="mlp"), windows(PIXELS, [0, 1, 2, 4] * 40)
    model.double()
    with th.set_grad_enabled(with_graph):
        features = model.encode(batch.frames)
        trajectory = model.observe(features, batch.actions.double(), batch.mask)
        recon = model.losses(trajectory, doubles(batch))["recon"]
        at_once = model.encoders.trunk(batch.frames[batch.mask].double() / 255)
        decoded = model.decode(trajectory.states)[batch.mask]
    assert features.shape == (160, T + 1, 256)
    assert features.requires_grad == recon.requires_grad == with_graph
    th.testing.assert_close(features[batch.mask], at_once)
    th.testing.assert_close(model.encode(batch.frames[7, 3]), features[7, 3])
    by_hand = -Normal(decoded, STD).log_prob(batch.frames[batch.mask].double() / 255).sum() / 160
    th.testing.assert_close(recon, by_hand, rtol=1e-6, atol=0)


def test_without_a_mask_all_is_real():
    model, batch = make_latent_model(VECTOR), windows(VECTOR)
    features = model.encode(batch.frames)
    with_mask = model.observe(features, batch.actions, th.ones(B, T + 1, dtype=th.bool), noisy=False)
    for ours, expected in zip(model.observe(features, batch.actions, noisy=False), with_mask, strict=True):
        assert th.equal(ours, expected)


@pytest.mark.parametrize("dynamics", ALL)
def test_a_model_does_what_its_dynamics_do(dynamics):
    model, batch = make_latent_model(VECTOR, dynamics), windows(VECTOR)
    inner = model.encoders.dynamics
    features = model.encode(batch.frames)
    assert model.state_dim == inner.state_dim

    def outcomes(one, *mask):
        th.manual_seed(0)
        first = one.initial(B)
        trajectory = one.observe(features, batch.actions, batch.mask)
        still = one.observe(features, batch.actions, batch.mask, noisy=False)
        futures = [one.imagine(first, batch.actions, noisy) for noisy in (True, False)]
        return [first, one.initial(B, noisy=False), *trajectory, *still, *futures]

    assert all(th.equal(a, b) for a, b in zip(outcomes(model), outcomes(inner), strict=True))


@pytest.mark.parametrize("spec", [PIXELS, VECTOR, IMAGE])
@pytest.mark.parametrize("loss, in_units", [("gaussian", lambda x: x), ("bernoulli", th.sigmoid)])
def test_decoded_states_are_frames(spec, loss, in_units):
    model = make_latent_model(spec, loss=loss, trunk=None if spec is not PIXELS else "mlp")
    states = th.randn(3, 2, model.state_dim)
    frames = model.decode(states)
    assert frames.shape == (3, 2, *spec.frame_shape)
    th.testing.assert_close(frames[1], model.decode(states[1]), rtol=1e-4, atol=1e-5)
    th.testing.assert_close(frames[1], in_units(model.tasks.decoder(states[1])), rtol=1e-4, atol=1e-5)


def test_the_reward_is_the_mean_of_its_head():
    model = make_latent_model(VECTOR)
    states, next_states, actions = th.randn(2, 3, 288), th.randn(2, 3, 288), th.randn(2, 3, A)
    expected = model.tasks.reward(th.cat([states, actions, next_states], -1))[..., 0]
    reward = model.reward(states, actions, next_states)
    assert reward.shape == (2, 3) and th.equal(reward, expected)
    mean, std = model.tasks.reward_outputs(states, actions, next_states)
    assert th.equal(mean, reward) and (std > 0).all()


def test_the_chance_to_go_on_is_that_of_its_head_or_1():
    states = th.randn(2, 3, 288)
    assert th.equal(make_latent_model(VECTOR).continuation(states), th.ones(2, 3))
    model = make_latent_model(VECTOR, coefs={"continuation": 0.5})
    th.testing.assert_close(model.continuation(states), 1 / (1 + th.exp(-model.tasks.continuation(states)[..., 0])))


def test_only_losses_with_a_coefficient_are_computed_and_they_are_unweighted():
    batch = windows(VECTOR)

    def losses(model):
        th.manual_seed(0)
        return model.loss(batch)

    model = make_latent_model(VECTOR)
    twin = make_latent_model(VECTOR, coefs={"recon": 3.0, "kl": 0.0, "continuation": 2.0})
    twin.load_state_dict(model.state_dict())
    assert set(losses(model)) == {"recon", "kl", "reward"}
    assert set(losses(twin)) == {"recon", "reward", "continuation"}
    assert all(th.equal(losses(twin)[label], losses(model)[label]) for label in ("recon", "reward"))
    assert model.tasks.coefs == {"recon": 1.0, "kl": 1.0, "reward": 1.0, "continuation": 0.0}


def test_defaults_are_those_of_slac():
    model = make_latent_model(IMAGE)
    assert isinstance(model.encoders.trunk, SlacTrunk) and model.state_dim == 32 + 256
    assert model.tasks.likelihood.log_std.exp().item() == pytest.approx(0.1**0.5)
    assert isinstance(make_latent_model(VECTOR).encoders.trunk, MlpTrunk)
    assert model.encoders.architecture["dynamics_kwargs"] == {"z1_dim": 32, "z2_dim": 256, "hidden": (256, 256)}


@pytest.mark.parametrize("dynamics", ALL)
def test_the_code_of_windows_is_their_likeliest_last_state(dynamics):
    model, batch = make_latent_model(VECTOR, dynamics), windows(VECTOR)
    observations = {"frames": batch.frames, "actions": batch.actions, "mask": batch.mask.to(th.uint8)}
    code = model.encoders(observations)
    assert isinstance(code, WindowCode) and code.log_var is None
    assert th.equal(code.features, model.encode(batch.frames))
    states = model.observe(code.features, batch.actions, batch.mask, noisy=False).states
    assert th.equal(code.mean, states[:, -1]) and th.equal(model.encoders.means(observations), code.mean)


@pytest.mark.parametrize("dynamics", ALL)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module)), "state_dict"])
def test_copies_do_the_same(dynamics, copied):
    arguments = {"loss_kwargs": {"std": 0.3, "learn_std": True}, "coefs": {"continuation": 0.5}}
    model, batch = make_latent_model(VECTOR, dynamics, **arguments), windows(VECTOR)
    if copied == "state_dict":
        twin = make_latent_model(VECTOR, dynamics, **arguments)
        twin.load_state_dict(model.state_dict())
    else:
        twin = copied(model)
    losses = []
    for one in (model, twin):
        th.manual_seed(0)
        losses.append(one.loss(batch))
    assert len(losses[0]) == 4 and all(th.equal(loss, losses[1][label]) for label, loss in losses[0].items())


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"dynamics": "salc"}, ValueError, "unknown dynamics 'salc'; did you mean 'slac'"),
        ({"dynamics": None}, TypeError, "dynamics must be a name or a dotted path, not None"),
        ({"dynamics_kwargs": {"z3_dim": 1}}, TypeError, "unknown argument of dynamics 'slac': 'z3_dim'"),
        ({"dynamics_kwargs": [1]}, TypeError, "arguments of dynamics 'slac' must be a dictionary"),
        ({"trunk": "natuer"}, ValueError, "unknown trunk 'natuer'"),
        ({"trunk": "slac"}, ValueError, "trunk 'slac' needs an image, not a vector"),
        ({"trunk_kwargs": {"depth": 3}}, TypeError, "unknown argument of trunk 'mlp': 'depth'"),
        ({"loss": "gausian"}, ValueError, "unknown reconstruction loss 'gausian'; did you mean 'gaussian'"),
        ({"loss_kwargs": {"sd": 1.0}}, TypeError, "unknown argument of reconstruction loss 'gaussian': 'sd'"),
        ({"loss_kwargs": {"std": 0.0}}, ValueError, "std=0.0 must be positive"),
        ({"coefs": {"kll": 1.0}}, ValueError, "unknown coefficient 'kll'; did you mean 'kl'"),
        ({"coefs": 0.5}, TypeError, "coefs must map losses to coefficients"),
        ({"coefs": {"kl": -1.0}}, ValueError, r"coefs\['kl'\]=-1.0 must be finite and not negative"),
        ({"hidden": 0}, ValueError, "hidden=0 must be an integer of at least 1"),
        ({"hidden": (256, 256)}, ValueError, r"hidden=\(256, 256\) must be an integer"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        make_latent_model(VECTOR, **arguments)
    assert "\n" not in str(caught.value)


def test_an_image_that_no_decoder_returns_is_refused():
    with pytest.raises(ValueError, match="trunk 'slac' cannot take and return a 8x8 image"):
        make_latent_model(WindowSpec(T, (3, 8, 8), A, 255.0))
