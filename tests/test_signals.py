"""Signals: heard inside the block alone, after the step in progress, at once when there is none."""

import os
import signal
import threading

import pytest
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback

from sb3_latent.signals import StopOnSignals, hearing, interrupt


class Send(BaseCallback):
    """Sends this process a signal at some steps."""

    def __init__(self, *steps):
        super().__init__()
        self.steps = steps

    def _on_step(self):
        if self.num_timesteps in self.steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return True


@pytest.fixture
def model():
    return A2C("MlpPolicy", "CartPole-v1", seed=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_learning_ends_after_the_step_in_which_a_signal_arrives(number, model, monkeypatch, capsys):
    monkeypatch.setattr(signal, "SIGTERM", number)
    stop = StopOnSignals()
    with hearing(stop.heard, signal.SIGINT, number):
        model.learn(100, callback=[stop, Send(7)])
    assert model.num_timesteps == 8 and stop.received == number
    assert capsys.readouterr().out == f"{number.name}: stopping after this step; once more stops at once.\n"


def test_a_second_signal_interrupts(model):
    stop = StopOnSignals()
    with pytest.raises(KeyboardInterrupt), hearing(stop.heard, signal.SIGTERM):
        model.learn(100, callback=[Send(7), Send(7), stop])
    assert model.num_timesteps == 7


def test_before_the_first_step_there_is_nothing_to_wait_for(model):
    stop = StopOnSignals()
    with pytest.raises(KeyboardInterrupt), hearing(stop.heard, signal.SIGTERM):
        model.learn(100, callback=[Send(1), stop])
    assert stop.received is None


def test_sigterm_interrupts_and_handlers_are_as_before():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), hearing(interrupt, signal.SIGTERM):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_hear_nothing_and_do_not_fail():
    seen = []

    def work():
        with hearing(interrupt, signal.SIGTERM):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
