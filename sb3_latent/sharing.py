"""How the parts of an off-policy agent share an encoder: plain settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
    :param autocast: encoder and decoders compute in bfloat16 while training.
    :param compile: encoder and target encoder go through ``torch.compile`` while training.
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
    autocast: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if self.actor_reads not in ("latent", "trunk"):
            raise ValueError(unknown("actor_reads", self.actor_reads, ("latent", "trunk")))
        for argument, allowed in (("encoder_gradients", LOSSES), ("augmented", BATCHES)):
            given = getattr(self, argument)
            if isinstance(given, str):
                raise ValueError(f"{argument}={given!r} must be a list, e.g. [{given!r}]; allowed in it: {allowed}.")
            for name in given:
                if name not in allowed:
                    raise ValueError(unknown(f"entry of {argument}:", name, allowed))
        if self.encoder_tau is not None and not 0 < self.encoder_tau <= 1:
            raise ValueError(f"encoder_tau={self.encoder_tau} must lie in (0, 1]; None takes tau of the algorithm.")
        for argument in ("task_freq", "actor_update_freq", "n_target_views", "n_q_views"):
            whole_number(argument, getattr(self, argument))
        if max(self.n_target_views, self.n_q_views) > 1 and not (self.augmentation and "rl" in self.augmented):
            raise ValueError(
                f"n_target_views={self.n_target_views}, n_q_views={self.n_q_views}: several views of the same pixels are the "
                "same; pass augmentation={'random_shift': {}} and leave 'rl' in augmented."
            )

    def moves_encoder(self, loss: str) -> bool:
        """
        :param loss: one of :data:`LOSSES`.
        :return: whether its gradient reaches the encoder.
        """
        return loss in self.encoder_gradients
