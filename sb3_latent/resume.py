"""Everything that training needs to go on: written whole or not at all, and read again."""

import errno
import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import load_from_pkl
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecNormalize

from sb3_latent.checks import whole_number

A = TypeVar("A", bound=BaseAlgorithm)

_NAME = re.compile(r"checkpoint_(\d+)")
_REPLAY_BUFFER = "replay_buffer.pkl"
_VEC_NORMALIZE = "vec_normalize.pkl"


def save_checkpoint(model: BaseAlgorithm, folder: str | Path, keep: int = 2) -> Path:
    """
    Write model, replay buffer and statistics of VecNormalize as one checkpoint, and delete the oldest.

    A checkpoint is a folder of SB3's own files, named after the steps and the algorithm: ``checkpoint_20000/SAC.zip``,
    ``replay_buffer.pkl`` and ``vec_normalize.pkl``. It is there under its name when all of it has reached the disk, and not
    before; it leaves that name before the first of its files is deleted. So whatever has the name is whole, even if the
    process is killed or the power fails. While one is written, the disk holds ``keep + 1`` of them.

    Call it between two updates, as :class:`~sb3_latent.callbacks.CrashSafeCheckpointCallback` does: in the middle of a rollout
    SB3 has counted a step that is not yet in the replay buffer, and the rollouts of PPO and its like are in no file.

    :param model: any algorithm of SB3.
    :param folder: of this run alone; made if it is missing.
    :param keep: checkpoints that stay, the newest.
    :return: the checkpoint.
    :raises ValueError: if ``keep`` is no positive integer, or ``folder`` a file.
    :raises FileExistsError: if these steps have their checkpoint.
    :raises OSError: with ``errno.ENOSPC``, before anything is written, if the disk has no room for it. Whatever the error,
        what was written is removed and the older checkpoints stay.
    """
    keep, folder = whole_number("keep", keep), _made(folder)
    path = folder / f"checkpoint_{model.num_timesteps}"
    if path.exists():
        raise FileExistsError(f"{str(path)!r} exists: train on before you save again, or choose another folder.")
    _check_room(model, folder)
    with _whole_folder(path) as temporary:
        model.save(temporary / f"{type(model).__name__}.zip")
        if isinstance(model, OffPolicyAlgorithm):
            model.save_replay_buffer(temporary / _REPLAY_BUFFER)
        statistics = model.get_vec_normalize_env()
        if statistics is not None:
            statistics.save(str(temporary / _VEC_NORMALIZE))
    remove_old(folder, keep)
    return path


def load_checkpoint(algorithm_class: type[A], folder: str | Path, env: GymEnv | None = None, **load_kwargs: Any) -> A:
    """
    The model of the newest checkpoint, ready to go on::

        model = load_checkpoint(SAC, folder, env) if has_checkpoint(folder) else SAC(LatentSACPolicy, env, ...)
        callback = CrashSafeCheckpointCallback(folder)
        model.learn(1_000_000 - model.num_timesteps, callback, reset_num_timesteps=False)

    Two things are as they must be after a break, and not as they were. The environment starts anew, so the episodes in
    progress end in the replay buffer as by a time limit: n-step returns must not run on into the next ones. And where the
    model has a seed, the random streams (the environment's, too) start from one made of that seed and the steps, because
    SB3's ``load`` would have them repeat the first steps of the run. The same checkpoint thus goes on the same way each time.

    :param algorithm_class: the one that was saved.
    :param folder: of :func:`save_checkpoint`.
    :param env: as the run was begun with, VecNormalize included, whose statistics are filled in. None is for predictions.
    :param load_kwargs: arguments of SB3's ``load``.
    :return: the model with its replay buffer.
    :raises FileNotFoundError: if there is no checkpoint, or a file is missing in it.
    :raises ValueError: if algorithm, number of environments or VecNormalize are not those of the checkpoint.
    """
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        raise FileNotFoundError(
            f"no checkpoint in {str(folder)!r}: train with CrashSafeCheckpointCallback({str(folder)!r}) first, and ask "
            "has_checkpoint(...) before you load."
        )
    path = checkpoints[-1]
    _check_algorithm(algorithm_class, path)
    model = algorithm_class.load(path / f"{algorithm_class.__name__}.zip", env=env, **load_kwargs)
    if model.env is not None:
        _load_statistics(model.get_vec_normalize_env(), path)
    if isinstance(model, OffPolicyAlgorithm):
        _load_replay_buffer(model, path)
    if model.seed is not None:
        model.set_random_seed(int(np.random.SeedSequence([model.seed, model.num_timesteps]).generate_state(1)[0]))
    return model


def has_checkpoint(folder: str | Path) -> bool:
    """
    :param folder: of :func:`save_checkpoint`; need not exist.
    :return: whether :func:`load_checkpoint` would find one.
    """
    return bool(list_checkpoints(folder))


def list_checkpoints(folder: str | Path) -> list[Path]:
    """
    :param folder: of :func:`save_checkpoint`; need not exist.
    :return: its checkpoints, the newest last.
    """
    return sorted((path for path in Path(folder).glob("checkpoint_*") if _NAME.fullmatch(path.name)), key=steps_of)


def steps_of(checkpoint: Path) -> int:
    """
    :param checkpoint: of :func:`list_checkpoints`.
    :return: environment steps of its model.
    """
    return int(checkpoint.name.rpartition("_")[2])


def remove_old(folder: str | Path, keep: int) -> None:
    """
    Remove all checkpoints but the newest; each loses its name before the first of its files is deleted.

    :param folder: of :func:`save_checkpoint`.
    :param keep: checkpoints that stay.
    """
    for old in list_checkpoints(folder)[:-keep]:
        unnamed = _hidden(old)
        old.rename(unnamed)
        shutil.rmtree(unnamed)


def remove_leftovers(folder: str | Path) -> None:
    """
    Remove what killed processes left half written or half deleted; while a process writes to the folder, its work as well.

    :param folder: of :func:`save_checkpoint`.
    """
    for path in Path(folder).glob(".checkpoint_*"):
        shutil.rmtree(path)


def n_bytes_of(checkpoint: Path) -> int:
    """
    :param checkpoint: of :func:`list_checkpoints`.
    :return: bytes of its files.
    """
    return sum(file.stat().st_size for file in checkpoint.iterdir())


class _Counter(io.RawIOBase):
    """Counts the bytes that are written to it."""

    n_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.n_bytes += len(data)
        return len(data)


def _check_room(model: BaseAlgorithm, folder: Path) -> None:
    """Arrays are pickled without a copy, so that counting costs next to nothing however large the replay buffer is."""
    counter = _Counter()
    with io.BufferedWriter(counter) as stream:
        model.save(stream)
        if isinstance(model, OffPolicyAlgorithm):
            model.save_replay_buffer(stream)
    free = shutil.disk_usage(folder).free
    if counter.n_bytes > free:
        line = (
            f"it takes {counter.n_bytes / 1e6:.1f} MB and {free / 1e6:.1f} MB are free in {str(folder)!r}; make room, or save "
            "to another disk"
        )
        raise OSError(errno.ENOSPC, line)


def _made(folder: str | Path) -> Path:
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder={str(folder)!r} is a file; pass the folder in which the checkpoints are to lie.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}-{uuid4().hex}")


@contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    """As ``atomic_path`` for a folder of files, which besides are on the disk before they get their name."""
    temporary = _hidden(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            _flush(file)
        _flush(temporary)
        temporary.rename(path)
        _flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _flush(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folder.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_algorithm(algorithm_class: type[BaseAlgorithm], path: Path) -> None:
    names = [file.stem for file in path.glob("*.zip")]
    if algorithm_class.__name__ not in names:
        raise ValueError(
            f"{str(path)!r} was written by {' or '.join(names) or 'no algorithm'}, not {algorithm_class.__name__}; pass the "
            "class that was saved."
        )


def _load_statistics(ours: VecNormalize | None, path: Path) -> None:
    """Statistics alone: the settings, and whether they are still updated, are what ``env`` was made with."""
    file = path / _VEC_NORMALIZE
    saved = load_from_pkl(file) if file.exists() else None
    found, given = ("no VecNormalize" if env is None else f"VecNormalize(norm_obs={env.norm_obs})" for env in (saved, ours))
    if found != given:
        raise ValueError(f"{str(path)!r} was written with {found} and env has {given}; make env as it was for that run.")
    if ours is not None:
        vars(ours).update({name: value for name, value in vars(saved).items() if name in ("obs_rms", "ret_rms")})


def _load_replay_buffer(model: OffPolicyAlgorithm, path: Path) -> None:
    # The empty one goes first: each of the two may take a disk's room.
    del model.replay_buffer
    model.load_replay_buffer(path / _REPLAY_BUFFER)
    buffer = model.replay_buffer
    assert isinstance(buffer, ReplayBuffer)
    if model.env is not None and buffer.n_envs != model.n_envs:
        raise ValueError(
            f"{str(path)!r} was written with {buffer.n_envs} environments and env has {model.n_envs}; make env as it was for "
            "that run."
        )
    _end_episodes(buffer)


def _end_episodes(buffer: ReplayBuffer) -> None:
    """As ``add`` would have stored a time limit."""
    last = buffer.pos - 1
    going_on = buffer.dones[last] == 0
    buffer.dones[last] = 1
    if buffer.handle_timeout_termination:
        buffer.timeouts[last, going_on] = 1
