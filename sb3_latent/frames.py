"""The frames that an encoder is pre-trained on: collected to disk, and read from it (seed document 000, section 4.1)."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs
from stable_baselines3.common.type_aliases import GymEnv, PolicyPredictor
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs
from tqdm.auto import tqdm

from sb3_latent.files import atomic_path
from sb3_latent.playing import Actions, Actor, make_actor
from sb3_latent.registry import unknown
from sb3_latent.weights import differences

Frames: TypeAlias = npt.NDArray[np.uint8]


def collect_frames(
    env: GymEnv,
    policy: PolicyPredictor | Callable[[Any], Actions] | None,
    n_frames: int = 25_000,
    path: str | Path = "frames.npy",
    *,
    key: str | None = None,
    n_stack: int = 1,
    deterministic: bool = False,
    seed: int | None = None,
    progress_bar: bool = True,
) -> Frames:
    """
    Play episodes and keep what is seen as a ``.npy`` file, for :func:`sb3_latent.pretrain_encoder`.

    An interrupted call goes on where it was when it is made again: frames on disk are kept, the environment is reset. A
    complete file is returned as it is.

    :param env: environment with uint8 images, wrapped as SB3 wraps it: vectorised, channels first. It is left open.
    :param policy: an SB3 model or policy, a function from a batch of observations to actions, or None for random actions.
    :param n_frames: how many; 25,000, about 50 episodes of a trained policy, in section 4.1 of seed document 000.
    :param path: the file; ``<path>.partial`` and ``<path>.partial.json`` stand beside it until it is complete.
    :param key: the image in a Dict observation.
    :param n_stack: frames in an observation; the newest one, the last ``1 / n_stack`` of the channels, is kept.
    :param deterministic: passed to ``predict``; sampled actions reach more of the environment.
    :param seed: of the environment, its actions and SB3's ``set_random_seed``; a call that goes on adds the number of
        frames on disk, so that it does not play the first episodes again.
    :param progress_bar: show one.
    :return: (n_frames, C, H, W), uint8, read-only and memory-mapped; one after the other for each environment in turn.
    :raises ValueError: if observations are no uint8 images, or the file was begun or written with other arguments.
    :raises TypeError: if the policy cannot act.
    """
    if n_frames < 1:
        raise ValueError(f"n_frames={n_frames} must be at least 1.")
    vec_env = BaseAlgorithm._wrap_env(env, monitor_wrapper=False)
    actor = make_actor(policy, vec_env, deterministic)
    frame_shape = _frame_shape(vec_env.observation_space, key, n_stack)
    arguments = {"n_frames": n_frames, "frame_shape": list(frame_shape), "key": key, "n_stack": n_stack}
    file = _GrowingFile(Path(path), {**arguments, "deterministic": deterministic, "seed": seed})
    if not file.path.exists():
        with file.open() as stream, tqdm(total=n_frames, unit="frame", disable=not progress_bar) as bar:
            n_written = file.n_written(stream)
            bar.update(n_written)
            if seed is not None:
                _seed(seed + n_written, vec_env, policy)
            observed = _play(vec_env, actor)
            while n_written < n_frames:
                frames = _newest(next(observed), key, frame_shape)[: n_frames - n_written]
                stream.write(frames.tobytes())
                n_written += len(frames)
                bar.update(len(frames))
        file.complete()
    return _fitting(file.path, n_frames, frame_shape)


def open_frames(path: str | Path) -> npt.NDArray[Any]:
    """
    :param path: a ``.npy`` file.
    :return: its array, read-only and memory-mapped.
    :raises FileNotFoundError: if there is none.
    :raises ValueError: if it is no whole ``.npy`` file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no frames {path}; write them with collect_frames.")
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise ValueError(f"{path} is not a whole .npy file ({error}); delete it and collect the frames again.") from error


class FrameSet:
    """
    Rows that an encoder learns from, read batch by batch.

    :param source: uint8 images (N, C, H, W), float vectors (N, n), or the ``.npy`` file of either.
    :raises FileNotFoundError: if there is no such file.
    :raises ValueError: if it holds something else, nothing, the same row throughout, or a value that is not finite.
    :raises TypeError: if the source is neither a path nor an array.
    """

    def __init__(self, source: str | Path | npt.NDArray[Any]) -> None:
        self.rows = open_frames(source) if isinstance(source, str | Path) else source
        if not isinstance(self.rows, np.ndarray):
            raise TypeError(f"dataset must be a path or a numpy array, not {type(source).__name__}.")
        self.space = _space_of_rows(self.rows)
        _check_rows(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """:return: plain data by which to know the same rows again; a checksum of 16 of them."""
        some = np.linspace(0, len(self) - 1, 16, dtype=np.int64)
        return {
            "shape": list(self.rows.shape),
            "dtype": str(self.rows.dtype),
            "checksum": crc32(np.ascontiguousarray(self.rows[some]).tobytes()),
        }

    def observations(self, indices: npt.NDArray[np.int64], device: th.device) -> th.Tensor:
        """
        :param indices: (B,), which rows.
        :param device: where to; bytes become floats only there.
        :return: (B, ...) as SB3 hands observations to an extractor, in ascending order of the rows.
        """
        batch = np.asarray(self.rows[np.sort(indices)], dtype=self.space.dtype)
        observations = preprocess_obs(th.from_numpy(batch).to(device), self.space)
        assert isinstance(observations, th.Tensor)
        return observations


def _space_of_rows(rows: npt.NDArray[Any]) -> spaces.Box:
    if rows.size and rows.dtype == np.uint8 and rows.ndim == 4:
        return spaces.Box(0, 255, rows.shape[1:], np.uint8)
    if rows.size and np.issubdtype(rows.dtype, np.floating) and rows.ndim == 2:
        return spaces.Box(-np.inf, np.inf, rows.shape[1:], np.float32)
    raise ValueError(
        f"dataset of {rows.dtype} {rows.shape}: need at least one row, as uint8 images (N, C, H, W), C being 1 for grey, "
        "or float vectors (N, n)."
    )


def _check_rows(rows: npt.NDArray[Any]) -> None:
    """In chunks, for they may not fit into memory; bytes only up to the first row that differs."""
    chunks = (rows[start : start + 1024] for start in range(0, len(rows), 1024))
    varies = False
    for chunk in chunks:
        varies = varies or bool((chunk != rows[0]).any())
        if varies and rows.dtype == np.uint8:
            return
        if not np.isfinite(chunk).all():
            raise ValueError("dataset holds values that are not finite; clean or drop these rows.")
    if not varies:
        raise ValueError(f"dataset of {len(rows)} rows that are all the same: there is nothing to learn from them.")


class _GrowingFile:
    """
    A ``.npy`` file to which frames are appended under a temporary name. Its length says how many are written, so none is
    lost to a killed process; a full disk is an ``OSError``, where a memory map would die of a bus error.
    """

    def __init__(self, path: Path, arguments: dict[str, Any]) -> None:
        self.path = path
        self.partial = path.with_name(f"{path.name}.partial")
        self.sidecar = path.with_name(f"{path.name}.partial.json")
        self.arguments = arguments
        self.shape = (arguments["n_frames"], *arguments["frame_shape"])

    def open(self) -> BinaryIO:
        """Begin, or go on after a check that it is the same call."""
        if not (self.sidecar.exists() and self.partial.exists()):
            self._begin()
        different = differences(self.arguments, json.loads(self.sidecar.read_text()))
        if different:
            with self.partial.open("r+b") as stream:
                if self.n_written(stream):
                    raise ValueError(f"{self.partial} was begun otherwise: {'; '.join(different)}; go on so, or delete it.")
            self._begin()
        return self.partial.open("r+b")

    def n_written(self, stream: BinaryIO) -> int:
        """Count the whole frames and move to the end of the last."""
        np.lib.format.read_magic(stream)
        (_, *frame_shape), _, _ = np.lib.format.read_array_header_1_0(stream)
        start, frame_size = stream.tell(), int(np.prod(frame_shape))
        count = (stream.seek(0, os.SEEK_END) - start) // frame_size
        stream.seek(start + count * frame_size)
        return count

    def complete(self) -> None:
        os.replace(self.partial, self.path)
        self.sidecar.unlink()

    def _begin(self) -> None:
        """The sidecar comes last: where it is, the header is whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.sidecar.unlink(missing_ok=True)
        with self.partial.open("wb") as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(stream, header)
        with atomic_path(self.sidecar) as temporary:
            temporary.write_text(json.dumps(self.arguments))


def _fitting(path: Path, n_frames: int, frame_shape: tuple[int, ...]) -> Frames:
    frames = open_frames(path)
    wanted = {"n_frames": n_frames, "frame_shape": list(frame_shape), "dtype": "uint8"}
    found = {
        "n_frames": frames.shape[0] if frames.ndim else 0,
        "frame_shape": list(frames.shape[1:]),
        "dtype": str(frames.dtype),
    }
    different = differences(wanted, found)
    if different:
        raise ValueError(f"{path} holds other frames: {'; '.join(different)}; choose another path, or delete it.")
    return frames


def _frame_shape(space: spaces.Space[Any], key: str | None, n_stack: int) -> tuple[int, ...]:
    """(C, H, W) of the newest frame in an observation."""
    if isinstance(space, spaces.Dict):
        if key not in space.spaces:
            raise ValueError(unknown("key", key, space.spaces) + " Name the image of the Dict observation with key=.")
        space = space.spaces[key]
    elif key is not None:
        raise ValueError(f"key={key!r} chooses from a Dict observation, but this one is {space}; drop it.")
    if not is_image_space(space):
        raise ValueError(
            f"only uint8 images with bounds 0 and 255 are stored, and {space} is none; see Box(0, 255, shape, np.uint8)."
        )
    assert space.shape is not None
    channels, height, width = space.shape
    if n_stack < 1 or channels % n_stack:
        raise ValueError(f"n_stack={n_stack} does not divide the {channels} channels of {space}; pass a divisor.")
    return channels // n_stack, height, width


def _newest(observations: VecEnvObs, key: str | None, frame_shape: tuple[int, ...]) -> Frames:
    """(n_envs, C, H, W) of the newest frames; ``VecFrameStack`` puts them last."""
    images = observations[key] if isinstance(observations, dict) and key is not None else observations
    assert isinstance(images, np.ndarray)
    newest = images[:, -frame_shape[0] :]
    if newest.dtype != np.uint8 or newest.shape[1:] != frame_shape:
        raise ValueError(f"the environment returned {newest.dtype} {newest.shape[1:]}, but declares uint8 {frame_shape}.")
    return newest


def _play(env: VecEnv, actor: Actor) -> Iterator[VecEnvObs]:
    """Observations of every environment, from a reset on, without end; a policy that does not fit fails before the first."""
    observations = env.reset()
    starts = np.ones(env.num_envs, dtype=np.bool_)
    while True:
        actions = actor(observations, starts)
        yield observations
        observations, _, starts, _ = env.step(actions)


def _seed(seed: int, env: VecEnv, policy: object) -> None:
    """A DQN explores with the action space of its own."""
    set_random_seed(seed)
    env.seed(seed)
    for owner in (env, policy):
        space = getattr(owner, "action_space", None)
        if space is not None:
            space.seed(seed)
