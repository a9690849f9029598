"""End a run where it can be taken up again."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from stable_baselines3.common.callbacks import BaseCallback


@contextmanager
def hearing(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    """
    Handlers for signals inside a ``with`` block; nothing outside of the main thread, where Python allows none.

    :param handler: of :mod:`signal`.
    :param numbers: signals that it handles.
    :return: a context manager.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def interrupt(number: int, frame: FrameType | None) -> None:
    """
    Handler that lets SIGTERM do as Ctrl-C does.

    :param number: of the signal.
    :param frame: where it arrived.
    :raises KeyboardInterrupt: always.
    """
    raise KeyboardInterrupt


class StopOnSignals(BaseCallback):
    """
    Ends ``learn`` after the step in progress, so that what is saved then is whole::

        stop = StopOnSignals()
        with hearing(stop.heard, signal.SIGINT, signal.SIGTERM):
            model.learn(1_000_000, callback=stop)
        if stop.received is not None:
            save_checkpoint(model, folder)

    A second signal, or one that arrives before the first step, interrupts at once.
    """

    received: signal.Signals | None = None
    """What arrived."""

    def __init__(self) -> None:
        super().__init__()
        self._has_stepped = False

    def heard(self, number: int, frame: FrameType | None) -> None:
        """
        Handler of the signals.

        :param number: of the signal.
        :param frame: where it arrived.
        :raises KeyboardInterrupt: if there is no step to wait for, or the wait is too long.
        """
        if self.received is not None or not self._has_stepped:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        print(f"{self.received.name}: stopping after this step; once more stops at once.", flush=True)

    def _on_step(self) -> bool:
        self._has_stepped = True
        return self.received is None
