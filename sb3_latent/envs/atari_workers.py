"""Copies of an environment in this process or in another, which write their frames into memory that all share."""

import contextlib
import importlib
import pickle
import signal
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

Frames: TypeAlias = npt.NDArray[np.uint8]
Make: TypeAlias = Callable[..., VecEnv]
"""``make_vec_env`` with all arguments but ``n_envs`` and ``start_index``."""
Answer: TypeAlias = tuple[Any, Exception | None]
"""What a call gives, and what went wrong."""

_PATIENCE_FOR_ANSWERS, _PATIENCE_FOR_CALLS = 2e-3, 2e-4
"""Seconds that a process watches for a message before it falls asleep: to be woken takes as long as a screen of Atari does.
Who waits for an answer has nothing else to do; who waits for a call has a core that the policy may want."""


def frames_in(memory: Any, shape: tuple[int, ...]) -> Frames:
    """
    :param memory: of bytes, from ``multiprocessing``.
    :param shape: of the frames of all copies.
    :return: the same memory as an array.
    """
    return np.frombuffer(memory, np.uint8).reshape(shape)


class Copies:
    """
    Some of the copies, one after the other in this process.

    :param frames: of all copies, to be written to.
    :param part: which these are.
    :param make: makes them.
    """

    def __init__(self, frames: Frames, part: range, make: Make) -> None:
        env = make(n_envs=len(part), start_index=part.start)
        assert isinstance(env, DummyVecEnv)
        self.env, self._frames = env, frames[part.start : part.stop]
        self._call: Callable[[], Any] = lambda: None

    def send(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Do this when asked for the answer."""
        own: dict[str, Callable[..., Any]] = {"reset": self._reset, "step": self._step}
        self._call = partial(own.get(name) or getattr(self.env, name), *args, **kwargs)

    def receive(self) -> Answer:
        """:return: what the call gives, and what went wrong."""
        try:
            return self._call(), None
        # Whatever it is, it is raised where the call was made.
        except Exception as error:
            return None, error

    def close(self) -> None:
        """Close them all."""
        self.env.close()

    def _reset(self, seeds: list[int | None], options: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.env._seeds, self.env._options = seeds, options
        np.copyto(self._frames, self.env.reset())  # type: ignore[arg-type]  # one array, no dict
        return self.env.reset_infos

    def _step(self, actions: list[int]) -> tuple[Any, ...]:
        """As in ``DummyVecEnv``, which also copies each info, though no two steps share one, and each frame."""
        rewards, dones = np.zeros(len(actions), np.float32), np.zeros(len(actions), np.bool_)
        infos: list[dict[str, Any]] = []
        for i, (env, action) in enumerate(zip(self.env.envs, actions, strict=True)):
            frame, rewards[i], terminated, truncated, info = env.step(action)
            dones[i] = terminated or truncated
            info["TimeLimit.truncated"] = truncated and not terminated
            if dones[i]:
                info["terminal_observation"] = frame
                frame, self.env.reset_infos[i] = env.reset()
            self._frames[i] = frame
            infos.append(info)
        return rewards, dones, infos, self.env.reset_infos


class CopiesInProcess:
    """
    The same, in a process of its own.

    :param context: of ``multiprocessing``.
    :param memory: of the frames, shared.
    :param shape: of the frames.
    :param part: which of the copies.
    :param make: as above.
    """

    def __init__(self, context: Any, memory: Any, shape: tuple[int, ...], part: range, make: Make) -> None:
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, memory, shape, part, make), daemon=True)
        self._process.start()
        theirs.close()

    def send(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Begin this."""
        try:
            self._connection.send((name, args, kwargs))
        except OSError as error:
            raise self._death() from error

    def receive(self) -> Answer:
        """:return: what the call gives, and what went wrong."""
        try:
            answer: Answer = _received(self._connection, _PATIENCE_FOR_ANSWERS)
        except (EOFError, OSError) as error:
            raise self._death() from error
        return answer

    def close(self) -> None:
        """End it, and wait until it has ended."""
        self._connection.close()
        self._process.join()

    def _death(self) -> RuntimeError:
        self._process.join(1)
        return RuntimeError(f"a process of FastAtariVecEnv has ended (exit code {self._process.exitcode}); make a new one.")


def _received(connection: Connection, patience: float) -> Any:
    falls_asleep = time.perf_counter() + patience
    while not connection.poll() and time.perf_counter() < falls_asleep:
        pass
    return connection.recv()


def _serve(connection: Connection, memory: Any, shape: tuple[int, ...], part: range, make: Make) -> None:
    """What the process does, until nobody is left to ask."""
    # Ctrl-C is for the process that trains; this one ends with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    importlib.import_module("ale_py")
    copies = Copies(frames_in(memory, shape), part, make)
    with contextlib.suppress(EOFError, OSError):
        while True:
            name, args, kwargs = _received(connection, _PATIENCE_FOR_CALLS)
            copies.send(name, *args, **kwargs)
            answer = copies.receive()
            try:
                connection.send(answer)
            except (TypeError, AttributeError, pickle.PicklingError) as error:
                connection.send((None, TypeError(f"{name}{args}: the answer cannot leave its process ({error}).")))
    copies.close()
