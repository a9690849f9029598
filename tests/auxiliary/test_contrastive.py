"""The contrastive task is CURL's, and a set of tasks hands it its positives."""

import pytest
import torch as th
from gymnasium import spaces
from torch.nn import functional as F

from sb3_latent.auxiliary import TASKS, AuxiliaryTask, ContrastiveTask
from sb3_latent.images import ArraySpec
from sb3_latent.nn import Encoder, ObservationEncoder
from sb3_latent.tasks import TaskSet
from sb3_latent.types import Latent

STATES = spaces.Box(-1, 1, (6,))
BOTH = spaces.Dict({"left": STATES, "right": STATES})


def task_of(latent_dim=5, head="deterministic"):
    return ContrastiveTask(Encoder(ArraySpec("speed", (6,)), latent_dim, None, {"net_arch": (16,)}, head, {}))


def task_set(space, tasks, **kwargs):
    encoders = ObservationEncoder(space, False, None, 4, None, {}, "deterministic", {})
    settings = {"include": None, "exclude": (), "coefs": {}, "beta": 1.0, **kwargs}
    tasks = TaskSet(encoders, tasks, **settings)
    tasks.set_progress_remaining(1.0)
    return tasks


def batch_of(keys, n=3):
    latents = {key: Latent(th.randn(n, 4), None) for key in keys}
    return latents, {key: th.rand(n, 6) for key in keys}


def test_curl_is_the_cross_entropy_of_bilinear_similarities():
    task, anchor, positive = task_of(), th.randn(7, 5), th.randn(7, 5)
    rows = task(Latent(anchor, None), 100 * anchor, th.zeros(7, 6), positive)
    logits = th.tensor([[(a @ task.weight @ p).item() for p in positive] for a in anchor])
    th.testing.assert_close(rows, F.cross_entropy(logits, th.arange(7), reduction="none"), rtol=1e-4, atol=1e-5)


def test_the_anchor_is_the_mean_of_a_stochastic_latent():
    task, mean, positive = task_of(head="gaussian"), th.randn(4, 5), th.randn(4, 5)
    stochastic = task(Latent(mean, th.ones(4, 5)), th.randn(4, 5), th.zeros(4, 6), positive)
    assert th.equal(stochastic, task(Latent(mean, None), mean, th.zeros(4, 6), positive))


def test_the_gradient_reaches_the_weights_and_the_anchor_alone():
    task = task_of()
    anchor, sample, positive = (th.randn(6, 5, requires_grad=True) for _ in range(3))
    task(Latent(anchor, None), sample, th.zeros(6, 6), positive).mean().backward()
    assert anchor.grad.any() and task.weight.grad.any()
    assert positive.grad is None and sample.grad is None
    p = (anchor @ task.weight @ positive.T).softmax(1).detach() - th.eye(6)
    th.testing.assert_close(task.weight.grad, anchor.detach().T @ p @ positive.detach() / 6, rtol=1e-4, atol=1e-5)


def test_the_weights_start_uniform():
    weight = task_of(latent_dim=16).weight
    assert weight.shape == (16, 16) and 0 <= weight.min() and weight.max() < 1
    assert weight.mean().item() == pytest.approx(0.5, abs=0.1) and weight.std().item() == pytest.approx(12**-0.5, abs=0.05)


def test_the_default_coefficient_is_1_whatever_the_frame():
    assert task_of().default_coef(4.0) == 1.0


def test_training_finds_the_own_positive_among_others():
    task, anchor = task_of(), F.normalize(th.randn(32, 5))
    rotation = th.linalg.qr(th.randn(5, 5))[0]
    positive = anchor @ rotation
    optimizer = th.optim.Adam(task.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss = task(Latent(anchor, None), anchor, anchor, positive).mean()
        loss.backward()
        optimizer.step()
    found = (anchor @ task.weight @ positive.T).argmax(1)
    assert (found == th.arange(32)).float().mean() > 0.9


def test_only_those_that_say_so_contrast():
    assert not AuxiliaryTask.contrasts
    assert [name for name in TASKS.names() if TASKS.get(name).contrasts] == ["curl"]


def test_a_set_hands_each_key_its_positive():
    tasks = task_set(BOTH, {"curl": {}, "latent_l2": {}})
    latents, frames = batch_of(BOTH)
    positives = {key: th.randn(3, 4) for key in BOTH}
    losses = tasks(latents, frames, tasks.labels, positives)
    for key in BOTH:
        task = tasks.by_key[key]["curl"]
        expected = task(latents[key], latents[key].mean, frames[key], positives[key]).mean()
        th.testing.assert_close(losses[f"curl/{key}"], expected)
    others = [label for label in tasks.labels if label.startswith("latent_l2")]
    assert th.equal(tasks(latents, frames, others)[others[0]], losses[others[0]])


@pytest.mark.parametrize("positives", [None, {}, {"left": th.zeros(3, 4)}])
def test_a_positive_that_is_missing_is_named_in_one_line(positives):
    tasks = task_set(BOTH, {"curl": {}})
    latents, frames = batch_of(BOTH)
    with pytest.raises(ValueError) as raised:
        tasks(latents, frames, ["curl/right"], positives)
    message = str(raised.value)
    assert "\n" not in message
    names = ["'curl/right'", "momentum encoder", "LatentSACPolicy", "LatentTQCPolicy", "LatentTD3Policy"]
    assert all(part in message for part in names)


@pytest.mark.parametrize(
    ("tasks", "coefs", "contrasts"),
    [
        ({"curl": {}, "recon": {}}, {}, True),
        ({"curl": {}, "recon": {}}, {"curl": 0.0}, False),
        ({"recon": {}}, {}, False),
        ({}, {}, False),
    ],
)
def test_a_set_contrasts_while_an_active_task_does(tasks, coefs, contrasts):
    assert task_set(STATES, tasks, coefs=coefs).contrasts is contrasts


def test_a_schedule_may_end_the_contrast():
    tasks = task_set(STATES, {"curl": {}}, coefs={"curl": lambda progress: float(progress > 0.5)})
    assert tasks.contrasts
    tasks.set_progress_remaining(0.4)
    assert not tasks.contrasts
