"""All tasks of an extractor."""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch as th
from torch import nn

from sb3_latent.auxiliary import TASKS, AuxiliaryTask, ReconstructionTask
from sb3_latent.hook import coefficient
from sb3_latent.nn import ObservationEncoder
from sb3_latent.registry import unknown
from sb3_latent.types import Coefficient, Latent
from sb3_latent.weighted_losses import WeightedLosses


class TaskSet(WeightedLosses):
    """
    Tasks for each array of an observation. A loss is labelled by its task, ``"recon"``, and by its key as well where
    there are several arrays, ``"recon/camera"``.

    :param encoders: what they train.
    :param tasks: arguments of each task by name or dotted path.
    :param include: keys with tasks; None for all.
    :param exclude: keys without.
    :param coefs: coefficients by label or by task; the default of a task otherwise.
    :param beta: weight of the KL in the defaults.
    :raises ValueError: if a task, key or label is unknown.
    :raises TypeError: if an argument or a coefficient is of the wrong kind.
    """

    def __init__(
        self,
        encoders: ObservationEncoder,
        tasks: Mapping[str, Mapping[str, Any]],
        include: Iterable[str] | None,
        exclude: Iterable[str],
        coefs: Mapping[str, Coefficient],
        beta: float,
    ) -> None:
        super().__init__()
        if callable(beta):
            raise TypeError(f"beta={beta!r} must be a number; a schedule goes into coefs={{'kl': ...}}.")
        coefficient("beta", beta, 1.0)
        names = task_names(tasks)
        keys = _chosen(list(encoders), include, exclude)
        self.by_key = nn.ModuleDict()
        self._addresses: dict[str, tuple[str, str]] = {}
        defaults: dict[str, float] = {}
        beta_is_read = beta == 1
        with forked_rng():
            for key in keys:
                encoder = encoders[key]
                built = {
                    name: TASKS.make(path, encoder, kwargs={} if kwargs is None else kwargs)
                    for name, (path, kwargs) in zip(names, tasks.items(), strict=True)
                }
                self.by_key[key] = nn.ModuleDict(built)
                for name, task in built.items():
                    label = f"{name}/{key}" if len(encoders) > 1 else name
                    self._addresses[label] = (key, name)
                    defaults[label] = task.default_coef(beta)
                    beta_is_read |= task.default_coef(1.0) != defaults[label]
        if not beta_is_read:
            raise ValueError(f"beta={beta} weighs the KL, but no task reads it (tasks: {names or 'none'}); drop it.")
        self.architecture = {key: {name: dict(kwargs or {}) for name, kwargs in tasks.items()} for key in keys if tasks}
        self.weigh({**defaults, **_by_label(coefs, self._addresses)})

    @property
    def contrasts(self) -> bool:
        """:return: whether an active task contrasts, so that :meth:`forward` needs positives."""
        return any(self._task(label).contrasts for label in self.active)

    def forward(
        self,
        latents: Mapping[str, Latent],
        frames: Mapping[str, th.Tensor],
        labels: Iterable[str],
        positives: Mapping[str, th.Tensor] | None = None,
        weights: Mapping[str, th.Tensor] | None = None,
    ) -> dict[str, th.Tensor]:
        """
        :param latents: for each key (B, latent_dim).
        :param frames: for each key (B, *frame_shape).
        :param labels: the losses to compute.
        :param positives: for each key with a task that contrasts (B, latent_dim), another view of each frame through a
            momentum encoder.
        :param weights: for some keys (B,), the share of each frame in the mean, in place of 1 / B.
        :return: each an unweighted scalar, summed over features, mean over the batch.
        :raises ValueError: if a task contrasts and there is no positive.
        """
        samples: dict[str, th.Tensor] = {}
        losses = {}
        for label in labels:
            key, _ = self._addresses[label]
            if key not in samples:
                samples[key] = latents[key].sample()
            task = self._task(label)
            inputs = [latents[key], samples[key], frames[key]]
            if task.contrasts:
                inputs.append(_positive(label, key, positives))
            rows = task(*inputs)
            if weights is not None and key in weights:
                # Not `@`, which autocast would compute in bfloat16.
                losses[label] = th.dot(rows, weights[key])
            else:
                losses[label] = rows.sum() / max(len(rows), 1)
        return losses

    def decode(self, latents: Mapping[str, th.Tensor]) -> dict[str, th.Tensor]:
        """
        :param latents: for each key (B, latent_dim).
        :return: (B, *frame_shape) for each key that is reconstructed.
        :raises ValueError: if none is.
        """
        decoders = {
            key: task
            for key, tasks in self.by_key.items()
            for task in tasks.children()
            if isinstance(task, ReconstructionTask)
        }
        if not decoders:
            raise ValueError(f"no task reconstructs (tasks: {self.labels or 'none'}); use a preset with 'recon', e.g. 'vae'.")
        return {key: task.decode(latents[key]) for key, task in decoders.items()}

    def _task(self, label: str) -> AuxiliaryTask:
        key, name = self._addresses[label]
        task = self.by_key[key].get_submodule(name)
        assert isinstance(task, AuxiliaryTask)
        return task


@contextmanager
def forked_rng() -> Iterator[None]:
    """
    Draw from a stream of its own, derived from the global one without moving it: policy heads built after the decoders
    are initialised as if there were none.
    """
    seed = zlib.crc32(th.get_rng_state().numpy().tobytes())
    with th.random.fork_rng(devices=[]):
        th.manual_seed(seed)
        yield


def task_names(tasks: Mapping[str, Any]) -> list[str]:
    """
    What tasks are called in labels: the last part of a dotted path.

    :param tasks: arguments of each task by name or dotted path.
    :return: a name for each.
    :raises TypeError: if they are no mapping.
    :raises ValueError: if two have one name.
    """
    if not isinstance(tasks, Mapping):
        raise TypeError(f"tasks must map names to arguments, e.g. {{'recon': {{}}}}, not {tasks!r}.")
    names = [path.rpartition(".")[2] for path in tasks]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two tasks are called {name!r} ({', '.join(tasks)}); rename a class.")
    return names


def _positive(label: str, key: str, positives: Mapping[str, th.Tensor] | None) -> th.Tensor:
    if positives is None or key not in positives:
        raise ValueError(
            f"task {label!r} contrasts frames with those of a momentum encoder, and there is none here; use LatentSACPolicy, "
            "LatentTQCPolicy or LatentTD3Policy."
        )
    return positives[key]


def _chosen(keys: list[str], include: Iterable[str] | None, exclude: Iterable[str]) -> list[str]:
    wanted = keys if include is None else list(include)
    unwanted = list(exclude)
    if isinstance(include, str) or isinstance(exclude, str):
        raise TypeError("include and exclude are lists of observation keys, e.g. ['camera'], not a string.")
    for key in [*wanted, *unwanted]:
        if key not in keys:
            raise ValueError(unknown("observation key", key, keys))
    return [key for key in wanted if key not in unwanted]


def _by_label(coefs: Mapping[str, Coefficient], addresses: Mapping[str, tuple[str, str]]) -> dict[str, Coefficient]:
    """Coefficients of tasks spread over keys; those of single labels win."""
    tasks = {name for _, name in addresses.values()}
    for written in coefs:
        if written not in addresses and written not in tasks:
            raise ValueError(unknown("coefficient", written, [*addresses, *tasks]))
    spread = {label: coefs[name] for label, (_, name) in addresses.items() if name in coefs}
    return {**spread, **{label: coefs[label] for label in addresses if label in coefs}}
