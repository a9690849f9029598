"""Whole runs: reproducible to the bit, unchanged by tasks that weigh nothing, and stopped by a loss that is not finite."""

from functools import partial

import pytest
import torch as th
from algorithms import ALGORITHMS, NoiseImageEnv, control, make_model, tiny
from stable_baselines3.common.callbacks import BaseCallback

from sb3_latent import get_extractor
from sb3_latent.tasks import TaskSet

MODES = ["joint", "own_optimizer"]
NOTHING = {"coefs": {"recon": 0.0, "kl": 0.0}}


def trained(name, policy_kwargs, **kwargs):
    """The policy's parameters after a short run, and its decoders' before."""
    model = make_model(name, policy_kwargs, **kwargs)
    before = {key: p.detach().clone() for key, p in model.policy.named_parameters() if ".tasks." in key}
    model.learn(ALGORITHMS[name].n_timesteps)
    return dict(model.policy.named_parameters()), before


def check_same_as_without_tasks(name, with_tasks, without, **kwargs):
    ours, decoders = trained(name, with_tasks, **kwargs)
    theirs, _ = trained(name, without, **kwargs)
    assert decoders and ours.keys() - decoders.keys() == theirs.keys()
    for key, parameter in theirs.items():
        assert th.equal(ours[key], parameter), key
    return ours, decoders


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_coefficients_of_zero_leave_every_bit_as_it_is_without_tasks(name, mode):
    ours, decoders = check_same_as_without_tasks(name, tiny("vae", gradient_mode=mode, **NOTHING), control("vae"))
    targets = {key for key in decoders if "target" in key}  # rounded by soft updates of equal numbers
    assert all(th.equal(ours[key], decoders[key]) for key in decoders.keys() - targets)


@pytest.mark.parametrize("ortho_init", [True, False])
@pytest.mark.parametrize("kappa", [1.0, 3.0])
def test_convolutions_and_ortho_init_with_coefficients_of_zero(ortho_init, kappa):
    settings = {"trunk": "nature", "trunk_kwargs": {"hidden_dim": 16}, "kappa": kappa}
    with_tasks, without = tiny("vae", **NOTHING, **settings), control("vae", **settings)
    rest = {"ortho_init": ortho_init}
    ours, decoders = check_same_as_without_tasks(
        "PPO", {**with_tasks, **rest}, {**without, **rest}, env=NoiseImageEnv(size=36)
    )
    assert all(th.equal(ours[key], value) for key, value in decoders.items())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_same_seed_same_bits(name, mode):
    first, second, other = (trained(name, tiny("vae", gradient_mode=mode), seed=seed)[0] for seed in (3, 3, 4))
    assert all(th.equal(first[key], second[key]) for key in first)
    assert not all(th.equal(first[key], other[key]) for key in first)


class Sabotage(BaseCallback):
    """Breaks a model at the end of the rollout that passes a step, right before it trains; saves it at the first."""

    def __init__(self, num_timesteps, path, breaks):
        super().__init__()
        self.at = num_timesteps
        self.path = path
        self.breaks = breaks

    def _on_rollout_end(self):
        if self.num_timesteps < self.at:
            self.model.save(self.path)
        else:
            self.breaks(get_extractor(self.model))

    def _on_step(self):
        return True


def plant(value, module, extractor):
    with th.no_grad():
        for parameter in extractor.get_submodule(module).parameters():
            parameter.flatten()[0] = value


BREAKS = {
    "encoder": (partial(plant, float("nan"), "encoders"), "recon"),
    "decoder": (partial(plant, float("inf"), "tasks"), "recon"),
    "log_var": (partial(plant, float("nan"), "encoders.by_key.observation.head.log_var"), "recon"),
}
# Where tasks step after RL, a policy that reads NaN fails first, in torch's own check of its distribution.
FAILURES = [
    (name, mode, what)
    for name in ("PPO", "DQN", "SAC", "TRPO")
    for mode in MODES
    for what in BREAKS
    if what != "encoder" or name in ("DQN", "SAC") or (name, mode) == ("PPO", "joint")
]


@pytest.mark.parametrize(("name", "mode", "what"), FAILURES)
def test_a_loss_that_is_not_finite_stops_learning_and_spares_the_checkpoint(name, mode, what, tmp_path):
    breaks, label = BREAKS[what]
    entry = ALGORITHMS[name]
    path = tmp_path / "model.zip"
    model = make_model(name, tiny("vae", gradient_mode=mode))
    with pytest.raises(FloatingPointError, match=rf"'{label}' is not finite \((nan|inf)\) at step {entry.n_timesteps}\b"):
        model.learn(10 * entry.n_timesteps, callback=Sabotage(entry.n_timesteps, path, breaks))
    good = path.read_bytes()
    with pytest.raises(FloatingPointError, match=label):
        model.save(path)
    assert path.read_bytes() == good and [file.name for file in tmp_path.iterdir()] == ["model.zip"]
    with pytest.raises(FloatingPointError, match=label):
        model.policy.save(tmp_path / "policy.pth")
    assert [file.name for file in tmp_path.iterdir()] == ["model.zip"]

    model.set_parameters(path)
    model.learn(entry.n_timesteps)
    model.save(path)
    assert path.read_bytes() != good
    assert all(p.isfinite().all() for p in model.policy.parameters())


def test_an_accelerator_that_is_asked_late_still_spares_the_checkpoint(monkeypatch, tmp_path):
    """There no step waits for a look at the losses; the last update of `learn` is looked at by `save`."""
    record = TaskSet.record

    def without_a_look(self, losses, num_timesteps):
        with monkeypatch.context() as patch:
            patch.setattr(TaskSet, "raise_if_not_finite", lambda *_: None)
            record(self, losses, num_timesteps)

    path = tmp_path / "model.zip"
    model = make_model("PPO", tiny("vae"), n_steps=16, n_epochs=1, batch_size=16)
    model.save(path)
    good = path.read_bytes()
    plant(float("nan"), "tasks", get_extractor(model))
    monkeypatch.setattr(TaskSet, "record", without_a_look)
    model.learn(16)
    with pytest.raises(FloatingPointError, match="'recon' is not finite"):
        model.save(path)
    assert path.read_bytes() == good
