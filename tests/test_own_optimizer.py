"""Gradient mode ``own_optimizer``: tasks train the encoder and the RL optimizer never notices. What ``joint`` does to it."""

import copy

import pytest
import torch as th
from algorithms import ALGORITHMS, N_GRADIENT_STEPS, control, make_model, tiny
from gradient_steps import learn_and_record, optimizer_of, own_rows, stepped_extractor, task_loss

CLIPPING = ["PPO", "A2C", "MaskablePPO", "RecurrentPPO", "DQN", "QRDQN"]
MAX_GRAD_NORM = 1e-3
"""Low enough to clip every algorithm."""


@pytest.fixture
def norms(monkeypatch):
    """Total norms that SB3's clipping finds, in order."""
    found = []
    clip = th.nn.utils.clip_grad_norm_

    def recording(*args, **kwargs):
        total = clip(*args, **kwargs)
        found.append(total.item())
        return total

    monkeypatch.setattr(th.nn.utils, "clip_grad_norm_", recording)
    return found


def clipped(name):
    return {"max_grad_norm": MAX_GRAD_NORM} if name in CLIPPING else {}


def own(preset, coef, **adam):
    return tiny(preset, gradient_mode="own_optimizer", coefs={"recon": coef}, auxiliary_optimizer_kwargs=adam)


def learned_by_rl(model):
    return {name: parameter for name, parameter in model.policy.named_parameters() if ".tasks." not in name}


def gradients_left(model):
    """What anything that reads ``.grad`` between two steps finds."""
    return {name: parameter.grad for name, parameter in model.policy.named_parameters() if parameter.grad is not None}


def assert_same_bits(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert th.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_huge_coefficient_changes_no_rl_gradient_clip_factor_or_step(name, norms):
    """The tasks' own steps have length 0, so that every RL step of the run can be compared and not the first alone."""
    models, runs, clips = [], [], []
    for policy_kwargs in (own("ae", 1000.0, lr=0.0), control("ae")):
        norms.clear()
        models.append(make_model(name, policy_kwargs, **clipped(name)))
        runs.append(learn_and_record(models[-1], name))
        clips.append(norms.copy())
    assert clips[0] == clips[1] and len(norms) == (N_GRADIENT_STEPS if name in CLIPPING else 0)
    assert all(norm > MAX_GRAD_NORM for norm in norms)
    for optimizer, twins in runs[1].items():
        assert len(twins) == N_GRADIENT_STEPS
        for step, twin in zip(runs[0][optimizer], twins, strict=True):
            assert_same_bits(step.gradients, twin.gradients)
    assert_same_bits(*map(learned_by_rl, models))
    assert_same_bits(*map(gradients_left, models))


def changes_by_first_step(model, optimizer):
    """A list that will hold the change of every parameter by each step of an optimizer, and by nothing after it."""
    parameters = learned_by_rl(model)
    before, changes = {}, []

    def keep_before(*_):
        before.update({name: parameter.detach().clone() for name, parameter in parameters.items()})

    def keep_change(*_):
        changes.append({name: parameter.detach() - before[name] for name, parameter in parameters.items()})

    optimizer.register_step_pre_hook(keep_before)
    optimizer.register_step_post_hook(keep_change)
    return changes


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_first_rl_step_is_that_of_a_run_without_tasks(name, norms):
    first_changes, first_norms, models = [], [], []
    for policy_kwargs in (own("vae", 1000.0, lr=1e-3), control("vae")):
        model = make_model(name, policy_kwargs, **clipped(name))
        changes = changes_by_first_step(model, optimizer_of(model, ALGORITHMS[name].optimizers[0]))
        norms.clear()
        model.learn(ALGORITHMS[name].n_timesteps)
        first_changes.append(changes[0])
        first_norms.append(norms[:1])
        models.append(model)
    assert first_norms[0] == first_norms[1]
    assert_same_bits(*first_changes)
    ours, theirs = map(learned_by_rl, models)
    assert any(not th.equal(ours[parameter], theirs[parameter]) for parameter in theirs), "the tasks never took a step"


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "TRPO"])
def test_tasks_step_like_an_adam_of_their_own(name):
    """RL stands still, so that the steps of a copy by hand must end at the same weights. TRPO's policy never does."""
    coefs = {"recon": 0.02, "latent_l2": 0.5}

    def lr(progress):
        return 2e-3 * progress + 1e-3

    adam = {"lr": lr, "betas": (0.8, 0.99), "decoder": {"lr": 5e-3, "weight_decay": 0.1}}
    policy_kwargs = tiny("rae", gradient_mode="own_optimizer", coefs=coefs, auxiliary_optimizer_kwargs=adam)
    model = make_model(name, policy_kwargs, learning_rate=0.0)
    copies = {}
    for optimizer in ALGORITHMS[name].optimizers:
        extractor = stepped_extractor(model, optimizer_of(model, optimizer))
        copies[optimizer] = copy.deepcopy(extractor)
        assert not any(p is q for p, q in zip(extractor.parameters(), copies[optimizer].parameters(), strict=True))
    for optimizer, steps in learn_and_record(model, name).items():
        ours, by_hand = steps[0].extractor, copies[optimizer]
        groups = [
            {"params": list(by_hand.encoders.parameters()), "lr": 0.0},
            {"params": list(by_hand.tasks.parameters()), "lr": 5e-3, "weight_decay": 0.1},
        ]
        reference = th.optim.Adam(groups, betas=(0.8, 0.99))
        assert len(steps) == N_GRADIENT_STEPS
        for step in steps:
            reference.param_groups[0]["lr"] = lr(step.progress_remaining)
            reference.zero_grad()
            task_loss(by_hand, own_rows(name, step.observations), coefs).backward()
            reference.step()
        for (parameter, value), expected in zip(ours.named_parameters(), by_hand.parameters(), strict=True):
            th.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6, msg=parameter)


@pytest.mark.parametrize("preset", ["ae", "vae"])
def test_joint_clip_factor_shrinks_as_the_coefficient_grows(preset, norms):
    """
    One norm for all: once the tasks outweigh RL, a coefficient 10 times as large leaves the heads a tenth of their step.
    """
    factors, heads = {}, {}
    for coef in (0.0, 10.0, 100.0, 1000.0):
        model = make_model("PPO", tiny(preset, coefs={"recon": coef, **({"kl": coef} if preset == "vae" else {})}))
        norms.clear()
        step = learn_and_record(model, "PPO")["policy.optimizer"][0]
        factors[coef] = min(1.0, model.max_grad_norm / norms[0])
        heads[coef] = th.cat([g.flatten() for name, g in step.gradients.items() if "features_extractor" not in name]).norm()
    assert factors[10.0] > factors[100.0] > factors[1000.0]
    assert factors[100.0] / factors[1000.0] == pytest.approx(10, rel=0.02)
    for coef in factors:
        assert (heads[coef] / heads[0.0]).item() == pytest.approx(factors[coef] / factors[0.0], rel=1e-4)


def test_moments_follow_their_parameters():
    """A move to another type ends in the same function of torch as a move to another device."""
    model = make_model("PPO", own("ae", 1.0))
    model.learn(ALGORITHMS["PPO"].n_timesteps)
    extractor = stepped_extractor(model, model.policy.optimizer).double()
    moments = [state["exp_avg"] for state in extractor.optimizer.state_dict()["state"].values()]
    assert moments and all(moment.dtype == th.float64 for moment in moments)
