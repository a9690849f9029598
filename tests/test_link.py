"""Algorithms that treat their batches in a way of their own, and how an extractor finds the one that trains it."""

import pytest
import torch as th
from algorithms import ALGORITHMS, BATCH_SIZE, control, make_model, tiny
from gradient_steps import optimizer_of, record_steps, task_loss
from stable_baselines3.common.callbacks import BaseCallback

from sb3_latent import LatentExtractor, get_extractor

MODES = ["joint", "own_optimizer"]
COEFS = {"recon": 0.02, "latent_l2": 0.5}
# Adam's steps of length 0 keep the weights that the losses were computed with.
STILL_TASKS = {"joint": {}, "own_optimizer": {"auxiliary_optimizer_kwargs": {"lr": 0.0}}}
STATISTICS = ["train/policy_objective", "train/kl_divergence_loss", "train/is_line_search_success"]


def learn_trpo(policy_kwargs, n_timesteps, **kwargs):
    """The gradient of the KL at theta_old in each update, and the line search of the last."""
    model = make_model("TRPO", policy_kwargs, **kwargs)
    gradients = []
    compute = model._compute_actor_grad

    def recording(*args):
        result = compute(*args)
        gradients.append(result[2].norm().item())
        return result

    model._compute_actor_grad = recording
    model.learn(n_timesteps)
    return model, gradients, {name: model.logger.name_to_value[name] for name in STATISTICS}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("preset", ["rae", "vae"])
def test_the_trust_region_is_that_of_a_run_without_tasks(preset, mode):
    huge = {"coefs": dict.fromkeys(("recon", "kl" if preset == "vae" else "latent_l2"), 1000.0), "gradient_mode": mode}
    model, gradients, statistics = learn_trpo(tiny(preset, **huge), 16)
    twin, expected_gradients, expected = learn_trpo(control(preset), 16)
    assert len(gradients) == 1 and max(gradients) < 1e-6
    assert gradients == expected_gradients and statistics == expected and expected["train/kl_divergence_loss"] > 0
    ours, theirs = (dict(one.policy.named_parameters()) for one in (model, twin))
    heads = [name for name in theirs if name.startswith("action_net")]
    assert heads and all(th.equal(ours[name], theirs[name]) for name in heads)


@pytest.mark.parametrize("mode", MODES)
def test_the_trust_region_holds_after_the_tasks_have_trained(mode):
    _, gradients, statistics = learn_trpo(tiny("vae", gradient_mode=mode, coefs={"recon": 1.0, "kl": 1.0}), 64)
    assert len(gradients) == 4 and max(gradients) < 1e-6
    assert statistics["train/is_line_search_success"] == 1


@pytest.mark.parametrize("mode", MODES)
def test_trpo_runs_tasks_in_its_critic_phase_alone(mode):
    model = make_model("TRPO", tiny("vae", gradient_mode=mode))
    decoder = get_extractor(model).tasks.by_key["observation"]["recon"].decoder
    order = []
    decoder.register_forward_hook(lambda *_: order.append("decode"))
    compute = model._compute_actor_grad

    def recording(*args):
        order.append("actor")
        return compute(*args)

    model._compute_actor_grad = recording
    model.learn(32)
    assert order == ["actor", "decode", "decode"] * 2


@pytest.mark.parametrize("kappa", [2.0, "auto", lambda progress: progress])
def test_trpo_rejects_kappa_before_it_starts(kappa):
    with pytest.raises(ValueError, match=r"kappa=.* TRPO.*use kappa=1"):
        make_model("TRPO", tiny("vae", kappa=kappa))


def test_trpo_rejects_two_extractors_before_it_starts():
    with pytest.raises(ValueError, match=r"TRPO.*share_features_extractor=True"):
        make_model("TRPO", {**tiny("vae"), "share_features_extractor": False})
    make_model("TRPO", {**control("vae"), "share_features_extractor": False}).learn(16)


def losses_of_steps(model, name, optimizer):
    """The weighted loss of each forward pass in training, as it was recorded for the log."""
    recorded = []
    extractor = get_extractor(model)
    record = extractor.tasks.record

    def recording(losses, num_timesteps):
        recorded.append(extractor.tasks.weighted_sum(losses).item())
        record(losses, num_timesteps)

    extractor.tasks.record = recording
    steps = record_steps(model, optimizer)
    model.learn(ALGORITHMS[name].n_timesteps)
    return recorded, steps


@pytest.mark.parametrize("mode", MODES)
def test_recurrent_ppo_learns_from_the_unpadded_rows_alone(mode):
    model = make_model("RecurrentPPO", tiny("rae", coefs=COEFS, gradient_mode=mode, **STILL_TASKS[mode]), learning_rate=0.0)
    masks = []
    get = model.rollout_buffer.get

    def recording(batch_size):
        for samples in get(batch_size):
            masks.append(samples.mask > 0.5)
            yield samples

    model.rollout_buffer.get = recording
    losses, steps = losses_of_steps(model, "RecurrentPPO", "policy.optimizer")
    assert len(masks) == len(losses) == len(steps)
    for mask, loss, step in zip(masks, losses, steps, strict=True):
        assert 0 < mask.sum() < len(mask) == len(step.observations)
        unpadded = step.observations[mask]
        assert loss == pytest.approx(task_loss(step.extractor, unpadded, COEFS).item(), rel=1e-5)
        padded = task_loss(step.extractor, step.observations, COEFS).item()
        assert loss != pytest.approx(padded, rel=1e-2)


@pytest.mark.parametrize("mode", MODES)
def test_crossq_learns_from_the_observations_and_not_the_next(mode):
    model = make_model("CrossQ", tiny("rae", coefs=COEFS, gradient_mode=mode, **STILL_TASKS[mode]), learning_rate=0.0)
    losses, steps = losses_of_steps(model, "CrossQ", "critic.optimizer")
    assert len(steps) == 4
    for step in steps:
        assert len(step.observations) == 2 * BATCH_SIZE
        first, second = (task_loss(step.extractor, rows, COEFS).item() for rows in step.observations.split(BATCH_SIZE))
        assert pytest.approx(first, rel=1e-5) in losses
        assert pytest.approx((first + second) / 2, rel=1e-5) not in losses


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_algorithm_is_the_stock_one(name):
    entry = ALGORITHMS[name]
    train = entry.cls.train
    model = make_model(name, tiny("vae"))
    model.learn(entry.n_timesteps)
    assert type(model) is entry.cls and entry.cls.__module__.startswith(("stable_baselines3.", "sb3_contrib."))
    assert entry.cls.train is train and "train" not in vars(model)
    assert train.__code__.co_filename == __import__(entry.cls.__module__, fromlist=["_"]).__file__


class TrainsAnother(BaseCallback):
    """Trains a second model within the rollout of the first, as an evaluation by a probe agent would."""

    def __init__(self, other, n_timesteps):
        super().__init__()
        self.other = other
        self.n_timesteps = n_timesteps

    def _on_rollout_end(self):
        self.other.learn(self.n_timesteps)

    def _on_step(self):
        return True


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("outer", "inner"), [("PPO", "DQN"), ("DQN", "PPO"), ("TRPO", "PPO"), ("PPO", "TRPO"), ("SAC", "SAC")]
)
def test_each_extractor_is_bound_to_the_algorithm_that_owns_it(outer, inner, mode):
    model, other = (make_model(name, tiny("vae", gradient_mode=mode)) for name in (outer, inner))
    model.learn(ALGORITHMS[outer].n_timesteps, callback=TrainsAnother(other, ALGORITHMS[inner].n_timesteps))
    for one in (model, other):
        extractors = [module for module in one.policy.modules() if isinstance(module, LatentExtractor)]
        trained = [extractor for extractor in extractors if extractor.link.algorithm is not None]
        assert trained and all(extractor.link.algorithm is one for extractor in trained)


class WakesAnother(BaseCallback):
    """Puts a foreign model into training mode, as an evaluation with batch statistics would."""

    def __init__(self, other):
        super().__init__()
        self.other = other

    def _on_rollout_end(self):
        self.other.policy.set_training_mode(True)

    def _on_step(self):
        return True


@pytest.mark.parametrize("has_trained", [True, False])
def test_a_foreign_algorithm_on_the_call_stack_is_not_taken_for_the_owner(has_trained):
    model, other = (make_model("PPO", tiny("vae", gradient_mode="own_optimizer")) for _ in range(2))
    if has_trained:
        model.learn(32)
    other.learn(32, callback=WakesAnother(model))
    assert get_extractor(model).link.algorithm is (model if has_trained else None)


def test_a_new_owner_takes_over_and_the_old_one_lets_go():
    """A policy handed from one algorithm to another: tasks step once a gradient step, not once an owner."""
    first, second = (make_model("PPO", tiny("vae", gradient_mode="own_optimizer")) for _ in range(2))
    first.learn(32)
    second.policy = first.policy
    decoder = get_extractor(second).tasks.by_key["observation"]["recon"].decoder
    decoded = []
    decoder.register_forward_hook(lambda *_: decoded.append(1))
    second.learn(32)
    assert len(decoded) == 4
    assert len(optimizer_of(second, "policy.optimizer")._optimizer_step_post_hooks) == 1


def test_an_optimizer_of_a_target_network_is_never_touched():
    model = make_model("DQN", tiny("vae", gradient_mode="own_optimizer"))
    model.learn(14)
    assert model.q_net_target.features_extractor.get_extra_state()["optimizer"]["state"] == {}
