"""When the encoder learns: against what the weights do, and across save and load."""

import pytest
import torch as th
from algorithms import ALGORITHMS, control, make_model, tiny
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback

from sb3_latent.callbacks import EncoderScheduleCallback
from sb3_latent.models import get_extractors


class Watch(BaseCallback):
    """Notes for every ``train()`` whether it moved the encoder and the rest of the policy."""

    def _on_step(self):
        return True

    def _on_training_start(self):
        self.moved, self.rest_moved, self._before = [], [], None

    def _on_rollout_end(self):
        self._before = self._weights()

    def _on_rollout_start(self):
        before, self._before = self._before, None
        if before is not None and self.model._n_updates != getattr(self, "n_updates", 0):
            after = self._weights()
            changed = {name for name in before if not th.equal(before[name], after[name])}
            self.moved.append(any(".encoders." in name for name in changed))
            self.rest_moved.append(any("extractor" not in name for name in changed))
        self.n_updates = self.model._n_updates

    def _on_training_end(self):
        self._on_rollout_start()

    def _weights(self):
        """Without target networks, which follow by averaging."""
        parameters = self.model.policy.named_parameters()
        return {name: parameter.detach().clone() for name, parameter in parameters if "target" not in name}


def moved(model, n_timesteps, **schedule):
    """Whether each update moved the encoder."""
    watch = Watch()
    model.learn(n_timesteps, callback=[EncoderScheduleCallback(**schedule), watch], reset_num_timesteps=False)
    assert all(watch.rest_moved)
    return watch.moved


# PPO updates here every 16 steps.
@pytest.mark.parametrize(
    "schedule, expected",
    [
        ({"freeze_at": 48}, [1, 1, 0, 0, 0, 0]),
        ({"freeze_at": 33}, [1, 1, 0, 0, 0, 0]),
        ({"unfreeze_at": 48}, [0, 0, 1, 1, 1, 1]),
        ({"freeze_at": 32, "unfreeze_at": 64}, [1, 0, 0, 1, 1, 1]),
        ({"freeze_at": 64, "unfreeze_at": 32}, [0, 1, 1, 0, 0, 0]),
        ({"alternate": 1}, [1, 0, 1, 0, 1, 0]),
        ({"alternate": 2}, [1, 1, 0, 0, 1, 1]),
    ],
)
def test_the_encoder_moves_when_the_schedule_says_so(schedule, expected):
    assert moved(make_model("PPO", tiny("vae")), 96, **schedule) == [bool(value) for value in expected]


def test_updates_are_calls_of_train_whatever_they_hold():
    assert moved(make_model("PPO", tiny("ae"), n_epochs=3), 64, alternate=1) == [True, False, True, False]
    off_policy = make_model("DQN", tiny("ae"), train_freq=2, gradient_steps=3)
    assert moved(off_policy, 20, alternate=2) == [True, True, False, False, True]


@pytest.mark.parametrize("name", ["SAC", "TD3", "CrossQ", "A2C", "RecurrentPPO"])
def test_every_extractor_is_frozen_and_freed(name):
    model = make_model(name, tiny("ae"))
    n_timesteps = ALGORITHMS[name].n_timesteps
    assert not any(moved(model, n_timesteps, unfreeze_at=n_timesteps + 1))
    assert all(extractor.frozen for extractor in get_extractors(model))
    assert all(moved(model, n_timesteps, freeze_at=10_000))
    assert not any(extractor.frozen for extractor in get_extractors(model))


@pytest.mark.parametrize("schedule", [{"alternate": 2}, {"freeze_at": 32}, {"unfreeze_at": 80}])
def test_a_resumed_run_goes_on_as_if_it_had_never_stopped(schedule, tmp_path):
    whole = moved(make_model("PPO", tiny("vae")), 96, **schedule)
    first = make_model("PPO", tiny("vae"))
    halves = moved(first, 48, **schedule)
    first.save(tmp_path / "model")
    halves += moved(PPO.load(tmp_path / "model", env=first.get_env(), device="cpu"), 48, **schedule)
    assert halves == whole


def test_a_resumed_off_policy_run_keeps_its_phase(tmp_path):
    whole = moved(make_model("DQN", tiny("ae")), 22, alternate=3)
    first = make_model("DQN", tiny("ae"))
    halves = moved(first, 14, alternate=3)
    first.save(tmp_path / "model")
    first.save_replay_buffer(tmp_path / "buffer")
    resumed = DQN.load(tmp_path / "model", env=first.get_env(), device="cpu")
    resumed.load_replay_buffer(tmp_path / "buffer")
    halves += moved(resumed, 8, alternate=3)
    assert halves == whole == [True] * 3 + [False] * 3 + [True] * 3 + [False] * 3


def test_a_schedule_that_never_fires_changes_nothing():
    plain = make_model("PPO", tiny("vae")).learn(32)
    scheduled = make_model("PPO", tiny("vae")).learn(32, callback=EncoderScheduleCallback(freeze_at=1_000))
    for name, tensor in plain.policy.named_parameters():
        assert th.equal(tensor, scheduled.policy.get_parameter(name)), name


def test_changes_are_printed(capsys):
    make_model("PPO", control("ae")).learn(48, callback=EncoderScheduleCallback(alternate=1, verbose=1))
    assert capsys.readouterr().out.splitlines() == ["Encoder frozen at step 32", "Encoder unfrozen at step 48"]


@pytest.mark.parametrize(
    "schedule, message",
    [
        ({}, "has nothing to do; give freeze_at, unfreeze_at or alternate"),
        ({"freeze_at": 0}, "freeze_at=0 must be an integer of at least 1"),
        ({"unfreeze_at": 1e4}, "unfreeze_at=10000.0 must be an integer"),
        ({"alternate": -1}, "alternate=-1 must be"),
        ({"alternate": 2, "freeze_at": 5}, "alternate=2 already says when to freeze"),
        ({"freeze_at": 5, "unfreeze_at": 5}, "both 5; give different steps"),
    ],
)
def test_settings_are_checked(schedule, message):
    with pytest.raises(ValueError, match=message):
        EncoderScheduleCallback(**schedule)


def test_rollouts_of_no_fixed_length_cannot_alternate():
    model = make_model("DQN", tiny("ae"), train_freq=(1, "episode"))
    with pytest.raises(ValueError, match="give train_freq in steps, not episodes"):
        model.learn(20, callback=EncoderScheduleCallback(alternate=2))
    assert model.num_timesteps == 0


def test_a_model_without_encoder_is_refused():
    with pytest.raises(TypeError, match="PPO has no LatentExtractor"):
        make_model("PPO", {"net_arch": [4]}, policy="MlpPolicy").learn(16, callback=EncoderScheduleCallback(freeze_at=5))
