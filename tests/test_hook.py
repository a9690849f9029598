"""The gradients that reach the optimizer of an unpatched algorithm, against those worked out by hand."""

import pytest
import torch as th
from algorithms import ALGORITHMS, N_GRADIENT_STEPS, control, make_model, tiny
from gradient_steps import (
    assert_equal_gradients,
    learn_and_record,
    name_within,
    own_rows,
    task_gradients,
    task_loss,
)

from sb3_latent.hook import GradientBalance, meet, watch

# One learning rate for all optimizers: with 0 both runs keep their weights, so that their steps can be compared one by one.
STILL = {"learning_rate": 0.0}
UNCLIPPED = {name: {"max_grad_norm": 1e9} for name in ("PPO", "A2C", "MaskablePPO", "RecurrentPPO", "DQN", "QRDQN")}
NOT_TRPO = [name for name in ALGORITHMS if name != "TRPO"]
# The actors of the others draw from the same random stream as the tasks: their RL losses differ from those of the twin.
DETERMINISTIC_ACTOR = [name for name in NOT_TRPO if name not in ("SAC", "TQC", "CrossQ")]


def learn_twice(name, preset, **settings):
    """The steps of a model with tasks and those of its twin without, kappa 1."""
    kwargs = {**STILL, **UNCLIPPED.get(name, {})}
    with_tasks = learn_and_record(make_model(name, tiny(preset, **settings), **kwargs), name)
    without = learn_and_record(make_model(name, control(preset), **kwargs), name)
    for optimizer, steps in with_tasks.items():
        assert len(steps) == len(without[optimizer]) == N_GRADIENT_STEPS
        for step, twin in zip(steps, without[optimizer], strict=True):
            assert th.equal(step.observations, twin.observations)
    return [pair for name in with_tasks for pair in zip(with_tasks[name], without[name], strict=True)]


def check_step(step, twin, task_gradient, kappa):
    """The heads learn from RL alone, to the bit; the extractor from kappa times RL plus the tasks."""
    heads = {name: gradient for name, gradient in step.gradients.items() if not name_within(name)}
    assert heads
    for name, gradient in heads.items():
        assert th.equal(gradient, twin.gradients[name]), name
    extractor = {name: gradient for name, gradient in step.gradients.items() if name_within(name)}
    expected = {
        name: kappa * twin.gradients.get(name, th.zeros_like(gradient)) + task_gradient[name_within(name)]
        for name, gradient in extractor.items()
    }
    assert {name_within(name) for name in expected} == task_gradient.keys()
    assert_equal_gradients(extractor, expected)
    assert all(gradient.norm() > 0 for gradient in expected.values())


@pytest.mark.parametrize("name", NOT_TRPO)
def test_encoder_gets_kappa_times_rl_plus_weighted_tasks_along_schedules(name):
    schedules = {"kappa": lambda progress: 1 + 2 * progress, "recon": lambda progress: 0.01 + 0.02 * progress}
    pairs = learn_twice(name, "rae", kappa=schedules["kappa"], coefs={"recon": schedules["recon"], "latent_l2": 0.5})
    for step, twin in pairs:
        coefs = {"recon": schedules["recon"](step.progress_remaining), "latent_l2": 0.5}
        loss = task_loss(step.extractor, own_rows(name, step.observations), coefs)
        check_step(step, twin, task_gradients(step, loss), schedules["kappa"](step.progress_remaining))
    assert len({step.progress_remaining for step, _ in pairs}) >= 2


@pytest.mark.parametrize("name", DETERMINISTIC_ACTOR)
def test_variational_gradient_by_the_same_noise(name):
    coefs = {"recon": 0.02, "kl": 0.3}
    step, twin = learn_twice(name, "vae", kappa=3.0, coefs=coefs)[0]
    loss = task_loss(step.extractor, own_rows(name, step.observations), coefs, step.rng_state)
    check_step(step, twin, task_gradients(step, loss), 3.0)


def test_trpo_critic_phase_leaves_the_encoder_to_the_tasks():
    coefs = {"recon": 0.02, "latent_l2": 0.5}
    # One update: the weights of the actor phase are those the critic phase ends with.
    kwargs = {**STILL, "n_steps": 32}
    model = make_model("TRPO", tiny("rae", coefs=coefs), **kwargs)
    steps = learn_and_record(model, "TRPO")["policy.optimizer"]
    twins = learn_and_record(make_model("TRPO", control("rae"), **kwargs), "TRPO")["policy.optimizer"]
    assert len(steps) == len(twins) == 4
    for step, twin in zip(steps, twins, strict=True):
        assert th.equal(step.observations, twin.observations)
        assert not any(name_within(parameter) for parameter in twin.gradients)
        check_step(step, twin, task_gradients(step, task_loss(step.extractor, step.observations, coefs)), kappa=1.0)


def task_gradient_norm(step, coef):
    """Of the reconstruction, at the latent."""
    observations = step.observations
    z = step.extractor.encode(observations).mean.detach().requires_grad_()
    recon = step.extractor.tasks.by_key["observation"]["recon"].decoder(z)
    loss = coef * ((observations - recon) ** 2).sum(dim=(1, 2, 3)).mean()
    return th.autograd.grad(loss, z)[0].norm().item()


@pytest.mark.parametrize("name", ["PPO", "DQN", "TD3"])
def test_automatic_kappa_is_the_ratio_of_the_moving_averages_of_the_norms(name):
    coefs = {"recon": 0.02}
    averages = None
    for step, twin in learn_twice(name, "ae", kappa="auto", coefs=coefs)[:N_GRADIENT_STEPS]:
        kappa = 1.0 if averages is None else averages[1] / averages[0]
        check_step(step, twin, task_gradients(step, task_loss(step.extractor, step.observations, coefs)), kappa)
        norms = (twin.rl_gradient.norm().item(), task_gradient_norm(step, 0.02))
        averages = norms if averages is None else tuple(0.99 * a + 0.01 * b for a, b in zip(averages, norms, strict=True))
    assert averages is not None and kappa != 1
    assert step.extractor.balance.norms.tolist() == pytest.approx(averages, rel=1e-4)


@pytest.mark.parametrize("automatic", [False, True])
def test_measurements_are_means_over_gradient_steps(automatic):
    balance = GradientBalance(automatic)
    features, other = th.randn(2, 6, 4)
    for scale in (1.0, 3.0):
        latent = features.clone().requires_grad_()
        loss = (scale * 2 * watch(latent, balance)).sum()
        (meet(latent, loss, balance) * scale * other).sum().backward()
    ones = th.ones_like(other)
    assert balance.pop_measurements() == pytest.approx(
        {
            "rl_gradient_norm": 2 * other.norm().item(),
            "auxiliary_gradient_norm": 4 * ones.norm().item(),
            "gradient_cosine": th.cosine_similarity(other.flatten(), ones.flatten(), dim=0).item(),
        },
        rel=1e-5,
    )
    assert balance.pop_measurements() == {}
