"""End a run where it can be taken up again."""

import signal
from types import FrameType, TracebackType
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback


class StopOnSignals(BaseCallback):
    """
    Ends ``learn`` after the step in progress when Ctrl-C or SIGTERM arrives, so that what is saved then is whole; a second
    signal interrupts at once. Signals are heard inside the ``with`` block alone::

        with StopOnSignals() as stop:
            model.learn(1_000_000, callback=stop)
        if stop.received is not None:
            save_checkpoint(model, folder)
    """

    received: signal.Signals | None = None
    """What arrived."""

    def __enter__(self) -> "StopOnSignals":
        self._handlers = {number: signal.signal(number, self._heard) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _on_step(self) -> bool:
        return self.received is None

    def _heard(self, number: int, frame: FrameType | None) -> Any:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        print(f"{self.received.name}: stopping after this step; once more stops at once.", flush=True)


class SigtermInterrupts:
    """Inside the ``with`` block SIGTERM raises KeyboardInterrupt, as Ctrl-C does."""

    def __enter__(self) -> None:
        self._handler = signal.signal(signal.SIGTERM, _interrupt)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        signal.signal(signal.SIGTERM, self._handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
