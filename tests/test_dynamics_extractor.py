"""Latent models under stock PPO, A2C and TRPO: what trains them, what the policy reads, and what they leave alone."""

import copy
import random

import numpy as np
import pytest
import torch as th
from algorithms import NoiseImageEnv
from gradient_steps import assert_equal_gradients
from gymnasium import spaces
from sb3_contrib import TRPO, RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional as F

from sb3_latent import DynamicsExtractor, HistoryWrapper, LatentActorCriticPolicy, get_latent_model, latent_kwargs
from sb3_latent.dynamics import ModelLosses

T, Z1, Z2 = 4, 3, 5
DYNAMICS = {
    "slac": {"z1_dim": Z1, "z2_dim": Z2, "hidden": (8,)},
    "rssm": {"h_dim": 5, "z_dim": 3, "hidden": 8, "free_nats": 0.0},
    "rssm_discrete": {"h_dim": 5, "n_groups": 2, "n_classes": 3, "hidden": 8, "free_nats": 0.0},
}
ROLLOUTS = {
    PPO: {"n_steps": 16, "batch_size": 8, "n_epochs": 2},
    A2C: {"n_steps": 16},
    TRPO: {"n_steps": 16, "batch_size": 8, "n_critic_updates": 1},
    RecurrentPPO: {"n_steps": 16, "batch_size": 8, "n_epochs": 2},
}
JOINT = {"kappa": 1.0, "gradient_mode": "joint"}


def kwargs_of(preset="slac", **settings):
    small = {"trunk": "mlp", "trunk_kwargs": {"net_arch": (16,)}, "dynamics_kwargs": DYNAMICS[preset], "hidden": 8}
    return latent_kwargs(preset, **{**small, **settings}) | {"net_arch": [8]}


def make(preset="slac", cls=PPO, run=None, policy="MultiInputPolicy", policy_kwargs=None, discrete=True, **settings):
    """Episodes of 5 steps: most windows are padded."""
    kwargs = {**ROLLOUTS[cls], "seed": 0, "device": "cpu", **(run or {})}
    if cls is RecurrentPPO:
        policy, policy_kwargs = "MultiInputLstmPolicy", {"lstm_hidden_size": 8, **(policy_kwargs or {})}
    env = kwargs.pop("env", None) or HistoryWrapper(NoiseImageEnv(discrete), length=T)
    return cls(policy, env, policy_kwargs={**kwargs_of(preset, **settings), **(policy_kwargs or {})}, **kwargs)


def weights(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def moved(before, module):
    return {name for name, parameter in module.named_parameters() if not th.equal(parameter, before[name])}


def learning(model):
    """Names of the model's parameters that its losses of frames and states reach."""
    heads = ("tasks.reward", "tasks.continuation", "tasks.likelihood")
    return {name for name, _ in model.policy.features_extractor.named_parameters() if not name.startswith(heads)}


# ---------------------------------------------------------------------- runs


@pytest.mark.parametrize("preset", DYNAMICS)
@pytest.mark.parametrize("cls", [PPO, A2C])
def test_policy_and_model_learn(cls, preset):
    model = make(preset, cls)
    extractor = model.policy.features_extractor
    before, of_heads = weights(extractor), weights(model.policy.mlp_extractor)
    model.learn(48)
    assert type(model) is cls and isinstance(extractor, DynamicsExtractor)
    assert {name for name in learning(model) if name.endswith("weight")} <= moved(before, extractor) <= learning(model)
    assert moved(of_heads, model.policy.mlp_extractor) == set(of_heads)
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())


VARIANTS = {
    "TRPO, joint": lambda: make(cls=TRPO, **JOINT),
    "TRPO, own": lambda: make(cls=TRPO, kappa=1.0),
    "RecurrentPPO": lambda: make(cls=RecurrentPPO),
    "RecurrentPPO, joint": lambda: make("rssm", RecurrentPPO, **JOINT),
    "Box actions": lambda: make(discrete=False),
    "two models": lambda: make(policy_kwargs={"share_features_extractor": False}),
    "two environments": lambda: make(run={"env": HistoryWrapper(DummyVecEnv([NoiseImageEnv] * 2), length=T)}),
    "gSDE": lambda: make(discrete=False, run={"use_sde": True}),
    "joint": lambda: make("rssm_discrete", **JOINT),
    "kappa as schedule": lambda: make("rssm", kappa=lambda progress: progress),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_on_policy_algorithms_can_do_they_can_do_with_windows(variant):
    model = VARIANTS[variant]()
    before = weights(model.policy.features_extractor)
    model.learn(48)
    assert {name for name in learning(model) if name.endswith("weight")} <= moved(before, model.policy.features_extractor)
    assert all(th.isfinite(parameter).all() for parameter in model.policy.parameters())


@pytest.mark.parametrize("preset", DYNAMICS)
def test_nothing_random_stands_between_rollout_and_update(preset):
    """With a learning rate of 0 the policy that learns is the one that acted."""
    model = make(preset, run={"learning_rate": 0.0}, auxiliary_optimizer_kwargs={"lr": 0.0})
    model.learn(32)
    logged = model.logger.name_to_value
    assert abs(logged["train/approx_kl"]) < 1e-6 and logged["train/clip_fraction"] == 0


def test_a_seed_is_a_run():
    runs = [weights(make("rssm_discrete", run={"seed": seed}).learn(32).policy) for seed in (0, 0, 1)]
    assert all(th.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not all(th.equal(runs[0][name], runs[2][name]) for name in runs[0])


# ---------------------------------------------------------------------- gradients


def record(model):
    """Every training batch of the extractor, with torch's random state before it, and what the optimizers were given."""
    extractor = model.policy.features_extractor
    names = {id(parameter): name for name, parameter in extractor.named_parameters()}
    steps, order = [], []

    def keep_batch(module, args):
        if module.training and th.is_grad_enabled():
            steps.append({"windows": args[0], "rng": th.get_rng_state(), "weights": weights(module)})

    def keep_features(module, args, features):
        if module.training and features.requires_grad:
            features.register_hook(lambda gradient: steps[-1].update(rl=gradient.clone()))

    def keep_step(which):
        def keep(optimizer, *_):
            held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            steps[-1][which] = {names[id(p)]: p.grad.clone() for p in held if p.grad is not None and id(p) in names}
            order.append(which)

        return keep

    extractor.register_forward_pre_hook(keep_batch)
    extractor.register_forward_hook(keep_features)
    model.policy.optimizer.register_step_post_hook(keep_step("policy"))
    if extractor.optimizer is not None:
        extractor.optimizer._adam.register_step_post_hook(keep_step("model"))
    return steps, order


class Formula:
    """
    SLAC's losses of frames and states (Lee et al. 2020, equation 5), window by window, and the likeliest last state.

    :param step: as recorded.
    """

    def __init__(self, step):
        self.weights = {name: weight.clone().requires_grad_() for name, weight in step["weights"].items()}
        windows, n = step["windows"], len(step["windows"]["mask"])
        generator = th.Generator()
        generator.set_state(step["rng"])
        noise = [(th.randn(n, Z1, generator=generator), th.randn(n, Z2, generator=generator)) for _ in range(T)]
        recon = kl = 0
        means = []
        for row in range(n):
            frames = windows["frames"][row][windows["mask"][row] > 0].float() / 255
            actions = windows["actions"][row][T - len(frames) :]
            features = F.relu(self.network("encoders.trunk", frames.flatten(1)))
            zeros = [(th.zeros(Z1), th.zeros(Z2))] * T
            means.append(self.walk(features, actions, zeros)[0][-1])
            draws = [(a[row], b[row]) for a, b in noise]
            states, divergence = self.walk(features, actions, [draws[0], *draws[T - len(frames) + 1 :]])
            decoded = self.network("tasks.decoder", th.stack(states), activation=F.relu)
            recon = recon - Normal(decoded, 0.1**0.5).log_prob(frames.flatten(1)).sum() / n
            kl = kl + divergence / n
        self.features, self.losses = th.stack(means), {"recon": recon, "kl": kl}

    def walk(self, features, actions, noise):
        states, kl, z2 = [], 0, None
        for t, (x, (z1_noise, z2_noise)) in enumerate(zip(features, noise, strict=False)):
            past, first = ((), "first_") if t == 0 else ((z2, actions[t - 1]), "")
            q = self.gaussian(f"{first}posterior", x, *past)
            p = (th.zeros(Z1), th.ones(Z1)) if t == 0 else self.gaussian("prior", *past)
            z1 = q[0] + q[1] * z1_noise
            mean, std = self.gaussian(f"{first}z2", z1, *past)
            z2 = mean + std * z2_noise
            kl = kl + kl_divergence(Independent(Normal(*q), 1), Independent(Normal(*p), 1))
            states.append(th.cat([z1, z2]))
        return states, kl

    def gaussian(self, name, *inputs):
        mean, raw = self.network(f"encoders.dynamics.{name}", *inputs).chunk(2, -1)
        return mean, th.log1p(raw.exp()) + 1e-5

    def network(self, name, *inputs, activation=lambda x: F.leaky_relu(x, 0.2)):
        x = th.cat(inputs, -1)
        keys = [key.removesuffix(".weight") for key in self.weights if key.startswith(f"{name}.") and key.endswith(".weight")]
        for key in keys:
            x = x @ self.weights[f"{key}.weight"].T + self.weights[f"{key}.bias"]
            x = x if key == keys[-1] else activation(x)
        return x

    def gradients(self, loss):
        found = th.autograd.grad(loss, list(self.weights.values()), allow_unused=True)
        return {name: gradient for name, gradient in zip(self.weights, found, strict=True) if gradient is not None}


COEFS = {"recon": 0.5, "kl": 2.0}


def weighted(formula):
    return sum(coef * formula.losses[label] for label, coef in COEFS.items())


@pytest.mark.parametrize("kappa", [1.0, 3.0, 0.0])
@pytest.mark.parametrize("cls", [PPO, A2C])
def test_jointly_rl_times_kappa_meets_the_losses(cls, kappa):
    """One backward, one optimizer: d(kappa L_RL + losses)."""
    model = make(cls=cls, run={"max_grad_norm": 1e9}, kappa=kappa, gradient_mode="joint", coefs=COEFS)
    steps, order = record(model)
    model.learn(16)
    assert order == ["policy"] * len(steps)
    for step in steps[:2]:
        formula = Formula(step)
        assert (step["rl"].norm() > 0) and (step["windows"]["mask"][:, 0] == 0).any()
        # RL reads what acted, whatever kappa makes of its gradient.
        loss = kappa * (step["rl"] * formula.features).sum() + weighted(formula)
        assert_equal_gradients(step["policy"], formula.gradients(loss))


@pytest.mark.parametrize("cls", [PPO, A2C])
def test_by_default_the_model_steps_on_its_losses_alone_after_each_step_of_rl(cls):
    model = make(cls=cls, coefs=COEFS)
    steps, order = record(model)
    model.learn(16)
    assert order == ["policy", "model"] * len(steps)
    for step in steps:
        formula = Formula(step)
        assert "rl" not in step and step["policy"] == {}, "no gradient of RL reaches the model"
        assert_equal_gradients(step["model"], formula.gradients(weighted(formula)))


def test_without_steps_of_its_own_the_model_stands_still():
    model = make(auxiliary_optimizer_kwargs={"lr": 0.0})
    before = weights(model.policy.features_extractor)
    model.learn(32)
    assert not moved(before, model.policy.features_extractor)


def test_models_that_are_not_shared_step_one_after_the_other():
    model = make(policy_kwargs={"share_features_extractor": False})
    count = []
    for extractor in (model.policy.pi_features_extractor, model.policy.vf_features_extractor):
        extractor.optimizer._adam.register_step_post_hook(lambda *_, which=extractor: count.append(which))
    model.learn(16)
    pair = [model.policy.pi_features_extractor, model.policy.vf_features_extractor]
    assert len(count) == 2 * 4 and all(set(count[i : i + 2]) == set(pair) for i in range(0, 8, 2))


def test_losses_are_logged_as_they_are():
    model = make(run={"n_epochs": 1, "batch_size": 16}, coefs=COEFS)
    steps, _ = record(model)
    model.learn(16)
    losses = model.policy.features_extractor.tasks.pop_losses()
    expected = Formula(steps[0]).losses
    assert losses == pytest.approx({label: loss.item() for label, loss in expected.items()}, rel=1e-5)


# ---------------------------------------------------------------------- what changes nothing


@pytest.mark.parametrize("preset", DYNAMICS)
def test_padding_changes_neither_features_nor_losses(preset):
    extractor = make(preset).policy.features_extractor.train()
    mask = th.tensor([[0, 0, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1]], dtype=th.uint8)
    windows = {
        "frames": th.randint(0, 256, (3, T, 1, 12, 12), dtype=th.uint8),
        "actions": th.rand(3, T - 1, 3),
        "mask": mask,
    }
    other = {name: part.clone() for name, part in windows.items()}
    other["frames"][mask == 0] = 255 - other["frames"][mask == 0]
    other["actions"][mask[:, :-1] == 0] = -1
    seen = []
    for batch in (windows, other):
        code = extractor.encode(batch)
        th.manual_seed(0)
        seen.append((code.mean, extractor.training_loss(code, batch)))
    assert th.equal(seen[0][0], seen[1][0]) and th.equal(seen[0][1], seen[1][1])


@pytest.mark.parametrize("preset", DYNAMICS)
def test_ortho_init_leaves_the_model_alone(preset):
    models = [make(preset, policy_kwargs={"ortho_init": ortho}) for ortho in (True, False)]
    ours, theirs = (model.policy.features_extractor.state_dict() for model in models)
    assert all(th.equal(ours[name], theirs[name]) for name in ours if not name.endswith("_extra_state"))
    assert not th.equal(*(model.policy.action_net.weight for model in models))


@pytest.mark.parametrize(("coefs", "runs"), [({"recon": 0}, False), ({}, True), ({"recon": 0, "kl": 0}, False)])
@pytest.mark.parametrize("mode", [{}, JOINT], ids=["own", "joint"])
def test_a_coefficient_of_0_runs_no_decoder(mode, coefs, runs):
    model = make(coefs=coefs, **mode)
    rows = []
    model.policy.features_extractor.tasks.decoder.register_forward_hook(lambda _, args, out: rows.append(len(out)))
    model.learn(16)
    assert bool(rows) == runs and all(n == 8 * T for n in rows)


def test_a_frozen_model_stands_still():
    model = make(frozen=True)
    before = weights(model.policy.features_extractor)
    model.learn(32)
    assert not moved(before, model.policy.features_extractor)


def test_rollouts_and_prediction_compute_no_loss(monkeypatch):
    monkeypatch.setattr(ModelLosses, "frame_losses", None)
    model = make()
    model.predict(model.env.reset())
    with pytest.raises(TypeError, match="NoneType"):
        model.learn(16)
    assert model.num_timesteps == 16


# ---------------------------------------------------------------------- files


class SnapshotCallback(BaseCallback):
    """Saves at the start of the rollout that begins at a step, as a job that is about to be killed would."""

    def __init__(self, num_timesteps, folder):
        super().__init__()
        self.at, self.folder = num_timesteps, folder

    def _on_rollout_start(self):
        if self.num_timesteps == self.at:
            self.model.save(self.folder / "model")
            self.env = copy.deepcopy(self.model.env)
            self.rng = random.getstate(), np.random.get_state(), th.get_rng_state()

    def _on_step(self):
        return True


@pytest.mark.parametrize("mode", [{}, JOINT], ids=["own", "joint"])
@pytest.mark.parametrize("preset", DYNAMICS)
def test_an_interrupted_run_continues_to_the_bit(preset, mode, tmp_path):
    model = make(preset, **mode)
    snapshot = SnapshotCallback(16, tmp_path)
    model.learn(48, callback=snapshot)
    resumed = PPO.load(tmp_path / "model", env=snapshot.env, force_reset=False)
    random.setstate(snapshot.rng[0])
    np.random.set_state(snapshot.rng[1])
    th.set_rng_state(snapshot.rng[2])
    before = weights(resumed.policy)
    resumed.learn(32, reset_num_timesteps=False)
    assert not moved(weights(model.policy), resumed.policy)
    assert moved(before, resumed.policy)
    state = resumed.policy.features_extractor.get_extra_state()["optimizer"]
    assert (state is None) == bool(mode) and (mode or state["state"])


def test_a_saved_policy_acts_as_it_did(tmp_path):
    model = make("rssm", **JOINT).learn(16)
    model.policy.save(tmp_path / "policy")
    loaded = type(model.policy).load(tmp_path / "policy")
    assert not moved(weights(model.policy), loaded)
    window = model.env.reset()
    assert np.array_equal(loaded.predict(window, deterministic=True)[0], model.predict(window, deterministic=True)[0])


def test_the_latent_model_can_be_had():
    model = make()
    assert get_latent_model(model).encoders is model.policy.features_extractor.encoders
    with pytest.raises(TypeError, match="latent_kwargs"):
        get_latent_model(A2C("MlpPolicy", "CartPole-v1"))


# ---------------------------------------------------------------------- what cannot work


@pytest.mark.parametrize(
    ("build", "error", "parts"),
    [
        (lambda: make(run={"env": NoiseImageEnv()}), ValueError, ["Box(shape=(1, 12, 12))", "HistoryWrapper(env, length=8)"]),
        (
            lambda: DynamicsExtractor(spaces.Dict({"frames": spaces.Box(0, 1, (2, 3))})),
            ValueError,
            ["Dict('frames')", "HistoryWrapper(env, length=8)"],
        ),
        (lambda: make(kappa="auto"), ValueError, ["kappa='auto'", "use a number"]),
        (lambda: make(kappa="x"), TypeError, ["kappa='x'"]),
        (lambda: make(kappa=-1), ValueError, ["kappa=-1", "not negative"]),
        (lambda: make(cls=TRPO), ValueError, ["kappa=0.0", "TRPO", "use kappa=1"]),
        (lambda: make(gradient_mode="own"), ValueError, ["gradient_mode 'own'", "'own_optimizer'"]),
        (
            lambda: make(gradient_mode="joint", auxiliary_optimizer_kwargs={"lr": 1e-3}),
            ValueError,
            ["auxiliary_optimizer_kwargs needs gradient_mode='own_optimizer'"],
        ),
        (lambda: make(pretrained="none.safetensors"), FileNotFoundError, ["none.safetensors"]),
    ],
)
def test_what_cannot_work_is_told_in_one_line(build, error, parts):
    with pytest.raises(error) as raised:
        build()
    assert "\n" not in str(raised.value)
    for part in parts:
        assert part in str(raised.value), part


def test_the_named_policy_takes_settings_of_windows():
    settings = kwargs_of("slac")["features_extractor_kwargs"]
    names = {name: settings[name] for name in ("trunk", "trunk_kwargs", "dynamics_kwargs", "hidden")}
    env = HistoryWrapper(NoiseImageEnv(), length=T)
    kwargs = {"seed": 0, "device": "cpu", **ROLLOUTS[PPO]}
    ours = PPO(LatentActorCriticPolicy, env, policy_kwargs={"preset": "slac", **names, "net_arch": [8]}, **kwargs).learn(16)
    assert not moved(weights(make().learn(16).policy), ours.policy)


def test_windows_that_are_normalized_are_refused():
    env = VecNormalize(HistoryWrapper(DummyVecEnv([NoiseImageEnv]), length=T))
    with pytest.raises(ValueError, match="norm_obs=False"):
        make(run={"env": env})
