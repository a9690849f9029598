"""How the parts of an off-policy agent share an encoder: plain settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sb3_latent.checks import whole_number
from sb3_latent.registry import unknown

LOSSES = ("actor", "critic", "task")
BATCHES = ("rl", "task")


@dataclass(frozen=True)
class Sharing:
    """
    How actor, critic, targets and tasks share the encoder.

    :param actor_reads: ``"latent"``, or ``"trunk"``: the actor has a head of its own on the trunk (SAC+AE).
    :param encoder_gradients: losses that move the encoder, of ``"actor"``, ``"critic"`` and ``"task"``; the others read it
        detached.
    :param target_encoder: whether the target critic has an encoder of its own; DrQ-v2 has none.
    :param encoder_tau: rate of the target encoder's moving average; None takes ``tau`` of the algorithm.
    :param task_freq: gradient steps from one step of the tasks to the next.
    :param actor_update_freq: gradient steps from one step of actor and entropy coefficient to the next. Stock ``SAC.train``
        computes both losses each time; between, they are dropped before the optimizers see them.
    :param sample_latent: actor and critic learn from a sample of a stochastic latent, not from its mean.
    :param augmentation: of images, by name or dotted path, each with its arguments, one after the other; e.g.
        ``{"random_shift": {"pad": 4}}``.
    :param augmented: who sees augmented images while training: ``"rl"``, ``"task"`` or both, the same ones then.
    :param n_target_views: augmentations that the target is averaged over; K of DrQ. SAC alone.
    :param n_q_views: augmentations that the critic's loss is summed over; M of DrQ.
    :raises ValueError: if a value is not one of those, or two do not fit together.
    """

    actor_reads: Literal["latent", "trunk"] = "latent"
    encoder_gradients: Sequence[str] = ("critic", "task")
    target_encoder: bool = True
    encoder_tau: float | None = None
    task_freq: int = 1
    actor_update_freq: int = 1
    sample_latent: bool = False
    augmentation: Mapping[str, Mapping[str, Any]] | None = None
    augmented: Sequence[str] = BATCHES
    n_target_views: int = 1
    n_q_views: int = 1

    def __post_init__(self) -> None:
        if self.actor_reads not in ("latent", "trunk"):
            raise ValueError(unknown("actor_reads", self.actor_reads, ("latent", "trunk")))
        self._check_names("encoder_gradients", LOSSES)
        self._check_names("augmented", BATCHES)
        for argument in ("target_encoder", "sample_latent"):
            if not isinstance(getattr(self, argument), bool):
                raise ValueError(f"{argument}={getattr(self, argument)!r} must be True or False.")
        for argument in ("task_freq", "actor_update_freq", "n_target_views", "n_q_views"):
            whole_number(argument, getattr(self, argument))
        self._check_encoder_tau()
        if not isinstance(self.augmentation, Mapping | None):
            raise ValueError(
                f"augmentation={self.augmentation!r} must be a dictionary such as {{'random_shift': {{'pad': 4}}}}."
            )
        if max(self.n_target_views, self.n_q_views) > 1 and not (self.augmentation and "rl" in self.augmented):
            raise ValueError(
                f"n_target_views={self.n_target_views}, n_q_views={self.n_q_views}: several views of the same pixels are the "
                "same; pass augmentation={'random_shift': {}} and leave 'rl' in augmented."
            )

    def _check_names(self, argument: str, allowed: tuple[str, ...]) -> None:
        given = getattr(self, argument)
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise ValueError(
                f"{argument}={given!r} must be a list of names, e.g. {list(allowed[:1])}; allowed in it: {allowed}."
            )
        for name in given:
            if name not in allowed:
                raise ValueError(unknown(f"entry of {argument}:", name, allowed))

    def _check_encoder_tau(self) -> None:
        tau = self.encoder_tau
        if tau is None:
            return
        if isinstance(tau, bool) or not isinstance(tau, int | float | np.integer | np.floating) or not 0 < tau <= 1:
            raise ValueError(f"encoder_tau={tau!r} must be a number in (0, 1]; None takes tau of the algorithm.")

    def moves_encoder(self, loss: str) -> bool:
        """
        :param loss: one of :data:`LOSSES`.
        :return: whether its gradient reaches the encoder.
        """
        return loss in self.encoder_gradients
