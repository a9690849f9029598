"""Atari as SB3 wraps it, bit for bit, and faster."""

import ctypes
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from sb3_latent.checks import whole_number
from sb3_latent.envs.atari_workers import Copies, CopiesInProcess, Frames, frames_in
from sb3_latent.envs.making import check_env_id

_N_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class FastAtariVecEnv(VecEnv):
    """
    What ``make_atari_env(env_id, n_envs, seed)`` gives, to the bit and for the same seeds: frames, rewards, ends, ``infos``,
    the statistics of ``Monitor``. Frames have the channel first, as ``VecTransposeImage`` has them; stack them as ever::

        env = VecFrameStack(FastAtariVecEnv("BreakoutNoFrameskip-v4", n_envs=8, seed=0), n_stack=4)

    It is faster because only frames that are kept are read (two of four) and only what has changed in them is turned grey and
    resized, because there are as many processes as cores, this one included, instead of one for each copy, and because frames
    go through memory that they share. As with ``SubprocVecEnv``, a script that makes more than one copy needs
    ``if __name__ == "__main__"``.

    :param env_id: of an Atari game, ``BreakoutNoFrameskip-v4``. A step of an ``ALE/...-v5`` has four times the four frames of
        the id, as in SB3: give ``frame_skip=1``, or ``env_kwargs={"frameskip": 1}``.
    :param n_envs: copies.
    :param seed: of the first; the next has the next one. None takes one that numpy draws.
    :param noop_max: no-ops at the start of a game, between 1 and this many; 0 for none. This and the next five are SB3's
        ``AtariWrapper``, with its defaults.
    :param frame_skip: frames of a step; what is seen is the maximum of the last two.
    :param screen_size: height and width, in pixels.
    :param terminal_on_life_loss: whether a lost life ends an episode; the game goes on with the next.
    :param clip_reward: whether rewards become -1, 0 or 1; the statistics hold the raw ones.
    :param action_repeat_probability: of a sticky action, beside that of the id.
    :param env_kwargs: of the game.
    :param monitor_dir: folder for the files of ``Monitor``; None writes none.
    :param monitor_kwargs: of ``Monitor``.
    :param n_processes: at most; 1 starts none. None takes one for each core.
    :raises ValueError: if the id is no game of Atari, or a number is out of range.
    :raises ImportError: if ale-py or OpenCV is not installed.
    """

    def __init__(
        self,
        env_id: str,
        n_envs: int = 1,
        seed: int | None = None,
        *,
        noop_max: int = 30,
        frame_skip: int = 4,
        screen_size: int = 84,
        terminal_on_life_loss: bool = True,
        clip_reward: bool = True,
        action_repeat_probability: float = 0.0,
        env_kwargs: Mapping[str, Any] | None = None,
        monitor_dir: str | None = None,
        monitor_kwargs: Mapping[str, Any] | None = None,
        n_processes: int | None = None,
    ) -> None:
        _check_game(env_id)
        # Here, for it needs OpenCV.
        from sb3_latent.envs.atari_game import atari_wrapped

        n_processes = _N_CORES if n_processes is None else whole_number("n_processes", n_processes)
        wrap = partial(
            atari_wrapped,
            noop_max=whole_number("noop_max", noop_max, 0),
            frame_skip=whole_number("frame_skip", frame_skip),
            screen_size=whole_number("screen_size", screen_size),
            terminal_on_life_loss=terminal_on_life_loss,
            clip_reward=clip_reward,
            action_repeat_probability=action_repeat_probability,
        )
        make = partial(
            make_vec_env,
            env_id,
            seed=seed,
            monitor_dir=monitor_dir,
            wrapper_class=wrap,
            # The cheapest observation, for the screen is read past it.
            env_kwargs={**(env_kwargs or {}), "obs_type": "ram", "disable_env_checker": True},
            monitor_kwargs=dict(monitor_kwargs or {}),
        )
        parts = np.array_split(np.arange(whole_number("n_envs", n_envs)), min(n_processes, n_envs))
        self._parts = [range(int(part[0]), int(part[-1]) + 1) for part in parts]
        # As SB3 starts processes: a fork of this one would copy the threads of PyTorch in the middle of what they do.
        has_server = "forkserver" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if has_server else "spawn")
        if has_server:
            context.set_forkserver_preload(["__main__", __name__, atari_wrapped.__module__])
        memory = context.RawArray(ctypes.c_uint8, n_envs * screen_size**2)
        self._frames = frames_in(memory, (n_envs, 1, screen_size, screen_size))
        # Processes first: they start while this one makes its own copies.
        others = [CopiesInProcess(context, memory, self._frames.shape, part, make) for part in self._parts[1:]]
        mine = Copies(self._frames, self._parts[0], make)
        self._workers: list[Copies | CopiesInProcess] = [mine, *others]
        super().__init__(n_envs, mine.env.observation_space, mine.env.action_space)
        self.seed(seed)

    def reset(self) -> Frames:
        for part, worker in self._each():
            worker.send("reset", [self._seeds[i] for i in part], [self._options[i] for i in part])
        self.reset_infos = [info for infos in self._answers() for info in infos]
        self._reset_seeds()
        self._reset_options()
        return self._frames.copy()

    def step_async(self, actions: npt.NDArray[np.integer]) -> None:
        chosen = np.asarray(actions).tolist()
        # The last worker is first, for this process works only when it is asked for what it has done.
        for part, worker in reversed(list(self._each())):
            worker.send("step", chosen[part.start : part.stop])

    def step_wait(self) -> VecEnvStepReturn:
        rewards, dones, infos, reset_infos = zip(*self._answers(), strict=True)
        self.reset_infos = [info for part in reset_infos for info in part]
        return self._frames.copy(), np.concatenate(rewards), np.concatenate(dones), [info for part in infos for info in part]

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self._workers = []

    def get_images(self) -> Sequence[Frames | None]:
        return self._ask("get_images")

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return self._ask("get_attr", (attr_name,), indices)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        self._ask("set_attr", (attr_name, value), indices)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        return self._ask("env_method", (method_name, *args), indices, kwargs)

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        return self._ask("env_is_wrapped", (wrapper_class,), indices)

    def _each(self) -> Iterator[tuple[range, "Copies | CopiesInProcess"]]:
        return zip(self._parts, self._workers, strict=True)

    def _ask(
        self,
        name: str,
        args: tuple[Any, ...] = (),
        indices: VecEnvIndices = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """:return: what copies answer to a method of ``DummyVecEnv``, in the order of ``indices``."""
        wanted = [range(self.num_envs)[i] for i in self._get_indices(indices)]
        own = [[i for i in wanted if i in part] for part in self._parts]
        for (part, worker), indices_of_part in zip(self._each(), own, strict=True):
            where = {} if name == "get_images" else {"indices": [i - part.start for i in indices_of_part]}
            worker.send(name, *args, **where, **(kwargs or {}))
        answers: dict[int, Any] = {}
        for indices_of_part, given in zip(own, self._answers(), strict=True):
            answers.update(zip(indices_of_part, given or [None] * len(indices_of_part), strict=True))
        return [answers[i] for i in wanted]

    def _answers(self) -> list[Any]:
        """:return: of all workers; if one has failed, the others are heard first."""
        answers = [worker.receive() for worker in self._workers]
        for _, error in answers:
            if error is not None:
                raise error
        return [answer for answer, _ in answers]


def fast_atari(venv: VecEnv, **kwargs: Any) -> FastAtariVecEnv:
    """
    A :class:`FastAtariVecEnv` in the place of another, for rl-zoo's files, which then name no ``env_wrapper``::

        vec_env_wrapper: sb3_latent.envs.fast_atari
        frame_stack: 4

    Files of ``Monitor`` are written as before.

    :param venv: of unwrapped games, from SB3's ``make_vec_env``; it is closed.
    :param kwargs: arguments of :class:`FastAtariVecEnv`.
    :return: as many of the same game, with the same arguments and seeds.
    :raises ValueError: if it is no ``DummyVecEnv`` of Atari, or if anything but ``Monitor`` is around its games.
    """
    monitor = venv.envs[0] if isinstance(venv, DummyVecEnv) else None
    if not isinstance(monitor, Monitor):
        raise ValueError("fast_atari wraps games itself, in processes of its own: leave out env_wrapper and SubprocVecEnv.")
    spec, writer, seed = monitor.unwrapped.spec, monitor.results_writer, venv._seeds[0]
    venv.close()
    given = {
        "env_kwargs": {name: value for name, value in spec.kwargs.items() if name != "render_mode"} if spec else {},
        "monitor_dir": None if writer is None else os.path.dirname(writer.file_handler.name),
        "monitor_kwargs": {name: getattr(monitor, name) for name in ("allow_early_resets", "reset_keywords", "info_keywords")},
    }
    return FastAtariVecEnv(spec.id if spec else "", venv.num_envs, seed, **{**given, **kwargs})


def _check_game(env_id: str) -> None:
    if not find_spec("ale_py") or not find_spec("cv2"):
        raise ImportError("Atari needs ale-py and OpenCV: pip install 'sb3_latent[atari]'")
    check_env_id(env_id)
    if not str(gym.spec(env_id).entry_point).startswith("ale_py"):
        raise ValueError(f"{env_id} is no game of Atari; name one such as 'BreakoutNoFrameskip-v4'.")
