"""Checkpoints that survive a crash, whenever it comes."""

import errno
import time
import warnings
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback

from sb3_latent.checks import whole_number
from sb3_latent.resume import list_checkpoints, n_bytes_of, remove_leftovers, remove_old, save_checkpoint, steps_of

_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class CrashSafeCheckpointCallback(BaseCallback):
    """
    Saves all that a run needs to go on after a crash: model, replay buffer and statistics of VecNormalize, as one checkpoint
    that is whole or absent; see :func:`~sb3_latent.resume.save_checkpoint`. SB3's ``CheckpointCallback`` writes each of them
    under its final name, and before the latest transition is in the replay buffer.

    It saves between two updates, where SB3 starts a rollout, and once more when ``learn`` ends. A disk without room for the
    next checkpoint costs that checkpoint and a warning with the numbers, neither the run nor the checkpoint before it.
    :func:`~sb3_latent.resume.load_checkpoint` goes on from the newest one.

    :param folder: of this run alone. What a crash left half written there is removed when ``learn`` starts.
    :param save_freq: environment steps between two checkpoints, those of all environments together, rounded up to the next
        update. (SB3's ``CheckpointCallback`` counts calls: ``n_envs`` steps each.) Own choice.
    :param keep: checkpoints that stay, the newest; an older one is deleted after the next is complete, so that the disk needs
        room for one more.
    :param verbose: 1 prints name, size and seconds of each checkpoint.
    :raises ValueError: if a number is not a positive integer.
    """

    def __init__(self, folder: str | Path, save_freq: int = 10_000, keep: int = 2, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.folder = Path(folder)
        self.save_freq = whole_number("save_freq", save_freq)
        self.keep = whole_number("keep", keep)
        self._saved_at = 0

    def _init_callback(self) -> None:
        """
        :raises ValueError: if the folder has checkpoints of more steps than the model: this run's would be deleted first.
        """
        remove_leftovers(self.folder)
        later = [path for path in list_checkpoints(self.folder) if steps_of(path) > self.model.num_timesteps]
        if later:
            raise ValueError(
                f"{str(later[-1])!r} exists, and this model is at step {self.model.num_timesteps}: go on with "
                "load_checkpoint(...) and learn(..., reset_num_timesteps=False), or choose another folder."
            )
        # A process may have been killed between writing one and deleting another.
        remove_old(self.folder, self.keep)

    def _on_training_start(self) -> None:
        self._saved_at = self.num_timesteps

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps // self.save_freq > self._saved_at // self.save_freq:
            self._save()

    def _on_training_end(self) -> None:
        if self.num_timesteps > self._saved_at:
            self._save()

    def _save(self) -> None:
        self._saved_at = self.num_timesteps
        start = time.perf_counter()
        try:
            path = save_checkpoint(self.model, self.folder, self.keep)
        except OSError as error:
            if error.errno not in _DISK_IS_FULL:
                raise
            warnings.warn(f"No checkpoint of step {self.num_timesteps}: {error.strerror}.", stacklevel=2)
            return
        if self.verbose >= 1:
            seconds = time.perf_counter() - start
            print(f"Checkpoint written to {path}: {n_bytes_of(path) / 1e6:.1f} MB in {seconds:.1f} s")
