"""Train an encoder on a data set alone, before any RL (seed document 000, section 4.2)."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.logger import Image, Logger, TensorBoardOutputFormat
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.utils import get_device
from tqdm.auto import tqdm

from sb3_latent.auxiliary import ReconstructionTask
from sb3_latent.checkpoint import save_encoder
from sb3_latent.extractor import LatentExtractor
from sb3_latent.figures import contact_sheet
from sb3_latent.files import atomic_path
from sb3_latent.frames import FrameSet
from sb3_latent.presets import extractor_settings
from sb3_latent.saliency import newest_pictures
from sb3_latent.weights import differences, plain

Indices: TypeAlias = npt.NDArray[np.int64]

_CHECKPOINT = ".checkpoint.pt"
_SHOW_FREQ = 20
_N_PICTURES = 8
_RL_SETTINGS = ("kappa", "gradient_mode", "auxiliary_optimizer_kwargs", "frozen")


def pretrain_encoder(
    dataset: str | Path | npt.NDArray[Any],
    preset: str = "ppo_vae",
    *,
    path: str | Path | None = "encoder.safetensors",
    n_epochs: int = 100,
    batch_size: int = 128,
    learning_rate: float = 1e-4,
    validation_fraction: float = 0.1,
    seed: int = 0,
    device: str | th.device = "auto",
    resume: bool = True,
    tensorboard_log: str | None = None,
    progress_bar: bool = True,
    **settings: Any,
) -> LatentExtractor:
    """
    Train the encoder and the tasks of a preset with Adam, and write the encoder for ``latent_kwargs(pretrained=path)``.
    The defaults are Table 1 of seed document 000; their encoder fits ``ppo_fixed``, ``ppo_adapt`` and ``ppo_vae``.

    The loss is ``auxiliary_loss`` of the extractor: with the coefficients of ``ppo_vae`` the negative ELBO of a frame; those
    of other presets divide it by the number of pixels, which changes no step of Adam but for its epsilon. The history holds
    the unweighted losses, and as ``negative_elbo`` the sum of ``recon`` and ``kl``.
    An interrupted call goes on after the last whole epoch when it is made again, and on a CPU ends with the very bits of
    one that was not interrupted.

    :param dataset: uint8 images (N, C, H, W) or float vectors (N, n), or the ``.npy`` file of either, which is read
        batch by batch.
    :param preset: a preset with tasks.
    :param path: the encoder, a ``.safetensors`` file. Beside it: ``.json`` with settings and losses of each epoch, ``.png``
        with reconstructions, and until the end ``.checkpoint.pt``. None writes nothing.
    :param n_epochs: passes over the training split.
    :param batch_size: rows of the data set in a gradient step.
    :param learning_rate: of Adam.
    :param validation_fraction: share of the data set that is held out: the last rows, for neighbouring frames are almost
        the same and a random split would leak. 0 holds out none. The paper gives no split.
    :param seed: of weights, order and samples; the caller's random state is left alone.
    :param device: as for SB3's algorithms.
    :param resume: go on from a checkpoint; False starts over.
    :param tensorboard_log: folder for the losses by epoch and the reconstructions.
    :param progress_bar: show one, with the current losses.
    :param settings: arguments of :class:`LatentExtractor` that replace those of the preset.
    :return: the extractor after the last epoch, in evaluation mode.
    :raises ValueError: if data set, settings or checkpoint cannot be used; says what differs from the checkpoint's.
    :raises TypeError: if an argument is unknown or of the wrong kind.
    :raises FloatingPointError: if a loss is not finite; names task and step. The last checkpoint is left as it was.
    """
    schedule = _Schedule(n_epochs, batch_size, learning_rate, validation_fraction, seed)
    encoder_path = _checked_path(path)
    trainer = _Trainer(FrameSet(dataset), preset, _merged(preset, settings), schedule, get_device(device))
    if encoder_path is not None and resume and encoder_path.with_suffix(_CHECKPOINT).exists():
        trainer.load(encoder_path.with_suffix(_CHECKPOINT))
    with closing(Logger(None, [TensorBoardOutputFormat(tensorboard_log)] if tensorboard_log else [])) as logger:
        _train(trainer, encoder_path, logger, progress_bar)
        _report(trainer, encoder_path, logger)
    return trainer.extractor


@dataclass(frozen=True)
class _Schedule:
    n_epochs: int
    batch_size: int
    learning_rate: float
    validation_fraction: float
    seed: int

    def __post_init__(self) -> None:
        for name, value in {"n_epochs": self.n_epochs, "batch_size": self.batch_size}.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate={self.learning_rate} must be positive and finite.")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction={self.validation_fraction} must lie in [0, 1); 0 holds out nothing.")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must not be negative.")

    def split(self, n_rows: int) -> tuple[Indices, Indices]:
        """Rows to train on and the last ones, which are held out."""
        n_validation = max(1, round(self.validation_fraction * n_rows)) if self.validation_fraction else 0
        if n_validation >= n_rows:
            raise ValueError(f"validation_fraction={self.validation_fraction} leaves none of {n_rows} rows; lower it.")
        return np.arange(n_rows - n_validation), np.arange(n_rows - n_validation, n_rows)

    def batches(self, rows: Indices) -> Iterator[Indices]:
        for start in range(0, len(rows), self.batch_size):
            yield rows[start : start + self.batch_size]

    @contextmanager
    def random_stream(self, epoch: int, device: th.device) -> Iterator[np.random.Generator]:
        """A stream for each epoch, so that a checkpoint holds no random state; torch's own is put back afterwards."""
        generator = np.random.default_rng([self.seed, epoch])
        with th.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            th.manual_seed(int(generator.integers(2**63)))
            yield generator


class _Trainer:
    """Extractor, Adam and history: what a checkpoint holds."""

    def __init__(
        self, frames: FrameSet, preset: str, settings: Mapping[str, Any], schedule: _Schedule, device: th.device
    ) -> None:
        self.frames = frames
        self.schedule = schedule
        self.device = device
        self.train_rows, self.validation_rows = schedule.split(len(frames))
        with schedule.random_stream(0, device):
            self.extractor = LatentExtractor(frames.space, **settings).to(device)
        if self.extractor.frozen or not self.extractor.tasks.active:
            raise ValueError(
                f"preset {preset!r} has no task that trains its encoder, or freezes it; use 'ppo_vae', whose encoder fits "
                "'ppo_fixed' and 'ppo_adapt', or 'vae', 'ae'."
            )
        self.adam = th.optim.Adam(self.extractor.parameters(), lr=schedule.learning_rate)
        self.n_steps = 0
        self.history: list[dict[str, float]] = []
        description = {**asdict(schedule), "settings": settings, "dataset": frames.fingerprint}
        self.description: dict[str, Any] = json.loads(json.dumps(description, default=plain))

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train_rows) / self.schedule.batch_size)

    def run_epoch(self, bar: "tqdm[Any]") -> dict[str, float]:
        """:return: losses of the epoch, which the history now ends with."""
        epoch = len(self.history) + 1
        self.extractor.set_progress_remaining(1 - (epoch - 1) / self.schedule.n_epochs)
        with self.schedule.random_stream(epoch, self.device) as generator:
            losses = {"train": self._learn(generator.permutation(self.train_rows), bar)}
            if len(self.validation_rows):
                losses["validation"] = self._validate()
        self.history.append({f"{split}/{name}": loss for split, part in losses.items() for name, loss in part.items()})
        return self.history[-1]

    def save(self, path: Path) -> None:
        state = {
            "description": json.dumps(self.description),
            "history": self.history,
            "extractor": self.extractor.state_dict(),
            "adam": self.adam.state_dict(),
        }
        with atomic_path(path) as temporary:
            th.save(state, temporary)

    def load(self, path: Path) -> None:
        try:
            state = th.load(path, map_location="cpu", weights_only=True)
            found = json.loads(state["description"])
        except Exception as error:  # torch promises no particular one for a damaged file
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{path} is not a whole checkpoint ({reason}); start over with resume=False.") from error
        different = differences(self.description, found)
        if different:
            raise ValueError(
                f"{path} was begun otherwise: {'; '.join(different)}. Go on with the same arguments, choose another path, "
                "or start over with resume=False."
            )
        self.extractor.load_state_dict(state["extractor"])
        self.adam.load_state_dict(state["adam"])
        self.history = state["history"]
        self.n_steps = len(self.history) * self.steps_per_epoch

    def _learn(self, order: Indices, bar: "tqdm[Any]") -> dict[str, float]:
        tasks = self.extractor.tasks
        self.extractor.train()
        for rows in self.schedule.batches(order):
            losses = self.extractor.auxiliary_losses(self.frames.observations(rows, self.device))
            loss = tasks.weighted_sum(losses)
            tasks.record(losses, self.n_steps)
            self.adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # as torch has it
            self.adam.step()
            if self.n_steps % _SHOW_FREQ == 0:
                bar.set_postfix({name: float(value.detach()) for name, value in losses.items()}, refresh=False)
            bar.update()
            self.n_steps += 1
        return self._pop_losses()

    def _validate(self) -> dict[str, float]:
        totals = dict.fromkeys(self.extractor.tasks.labels, th.zeros((), device=self.device))
        self.extractor.eval()
        with th.no_grad():
            for rows in self.schedule.batches(self.validation_rows):
                losses = self.extractor.auxiliary_losses(self.frames.observations(rows, self.device))
                totals = {name: total + len(rows) * losses[name] for name, total in totals.items()}
        means = {name: total / len(self.validation_rows) for name, total in totals.items()}
        self.extractor.tasks.record(means, self.n_steps)
        return self._pop_losses()

    def _pop_losses(self) -> dict[str, float]:
        """Means of each loss, their weighted sum, and the negative ELBO where there is one."""
        tasks = self.extractor.tasks
        tasks.raise_if_not_finite(self.n_steps)
        losses = tasks.pop_losses()
        summary = {"loss": sum(tasks.coefs[name] * value for name, value in losses.items()), **losses}
        if {"recon", "kl"} <= losses.keys():
            summary["negative_elbo"] = losses["recon"] + losses["kl"]
        return summary


def _train(trainer: _Trainer, path: Path | None, logger: Logger, progress_bar: bool) -> None:
    n_epochs = trainer.schedule.n_epochs
    total = n_epochs * trainer.steps_per_epoch
    with tqdm(total=total, initial=trainer.n_steps, unit="batch", disable=not progress_bar) as bar:
        while len(trainer.history) < n_epochs:
            losses = trainer.run_epoch(bar)
            if path is not None:
                trainer.save(path.with_suffix(_CHECKPOINT))
            for name, loss in losses.items():
                logger.record(name, loss)
            logger.dump(len(trainer.history))
            shown = losses.get("validation/loss", losses["train/loss"])
            bar.set_description(f"epoch {len(trainer.history)}/{n_epochs}: loss {shown:.4g}")


def _report(trainer: _Trainer, path: Path | None, logger: Logger) -> None:
    """The checkpoint goes last, so that an interrupt costs nothing."""
    trainer.extractor.eval()
    decodes = any(isinstance(task, ReconstructionTask) for task in trainer.extractor.tasks.modules())
    if decodes and is_image_space(trainer.frames.space):
        sheet = contact_sheet(_pictures(trainer), None if path is None else path.with_suffix(".png"))
        logger.record("reconstruction", Image(sheet, "HWC"))
        logger.dump(len(trainer.history))
    if path is not None:
        save_encoder(trainer.extractor, path)
        with atomic_path(path.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps({**trainer.description, "epochs": trainer.history}, indent=2))
        path.with_suffix(_CHECKPOINT).unlink(missing_ok=True)


def _pictures(trainer: _Trainer) -> dict[str, list[npt.NDArray[np.uint8]]]:
    """Frames from all over the held-out rows, and their reconstructions."""
    rows = trainer.validation_rows if len(trainer.validation_rows) else trainer.train_rows
    chosen = rows[np.linspace(0, len(rows) - 1, min(_N_PICTURES, len(rows)), dtype=np.int64)]
    observations = trainer.frames.observations(chosen, trainer.device)
    with th.no_grad():
        reconstructions = trainer.extractor.decode(trainer.extractor.encode(observations).mean)
    assert isinstance(reconstructions, th.Tensor)
    batches = {"Frame": observations, "Reconstruction": reconstructions}
    return {title: newest_pictures(batch) for title, batch in batches.items()}


def _checked_path(path: str | Path | None) -> Path | None:
    if path is not None and Path(path).suffix != ".safetensors":
        raise ValueError(f"path={str(path)!r} must end in '.safetensors'; the files beside it are named after it.")
    return None if path is None else Path(path)


def _merged(preset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    for name in _RL_SETTINGS:
        if name in settings:
            raise ValueError(f"{name}={settings[name]!r} means nothing before RL; drop it here and pass it to latent_kwargs.")
    return extractor_settings(preset, **settings)
