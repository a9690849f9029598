"""An encoder is a trunk and a head."""

from collections.abc import Mapping
from typing import Any

import torch as th
from torch import nn

from sb3_latent.checks import whole_number
from sb3_latent.images import ArraySpec
from sb3_latent.nn.heads import HEADS, Head
from sb3_latent.nn.trunk import TRUNKS
from sb3_latent.registry import defaults_of
from sb3_latent.types import Latent


class Encoder(nn.Module):
    """
    Frames of one array in, their latents out.

    :param spec: what the array is.
    :param latent_dim: length of the latent of a frame.
    :param trunk: name or dotted path of the trunk; None takes ``"nature"`` for images and ``"mlp"`` for vectors.
    :param trunk_kwargs: further arguments of the trunk.
    :param head: name or dotted path of the head.
    :param head_kwargs: further arguments of the head.
    :raises ValueError: if a name is unknown, the trunk cannot take the frame or the latent is wider than the trunk.
    :raises TypeError: if an argument is unknown to the trunk or the head.
    """

    def __init__(
        self,
        spec: ArraySpec,
        latent_dim: int,
        trunk: str | None,
        trunk_kwargs: Mapping[str, Any],
        head: str,
        head_kwargs: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.spec = spec
        trunk = trunk or ("nature" if spec.is_image else "mlp")
        self.trunk = TRUNKS.make(trunk, spec.frame_shape, kwargs=trunk_kwargs)
        self.head = HEADS.make(head, self.trunk.out_dim, whole_number("latent_dim", latent_dim), kwargs=head_kwargs)
        self.architecture: dict[str, Any] = {
            "frame_shape": list(spec.frame_shape),
            "latent_dim": self.head.latent_dim,
            "trunk": trunk,
            "trunk_kwargs": {**defaults_of(type(self.trunk)), **trunk_kwargs},
            "head": head,
            "head_kwargs": {**defaults_of(type(self.head)), **head_kwargs},
        }

    @property
    def latent_dim(self) -> int:
        """:return: length of the latent of one frame."""
        return self.head.latent_dim

    def make_head(self) -> Head:
        """:return: a head of the same kind, with weights of its own."""
        return HEADS.make(
            self.architecture["head"], self.trunk.out_dim, self.latent_dim, kwargs=self.architecture["head_kwargs"]
        )

    def forward(self, frames: th.Tensor) -> Latent:
        """
        :param frames: (B, *frame_shape).
        :return: the latent, (B, latent_dim) each part.
        """
        latent: Latent = self.head(self.trunk(frames))
        return latent

    def mean_of(self, frames: th.Tensor) -> th.Tensor:
        """
        :param frames: as for :meth:`forward`.
        :return: (B, latent_dim), the mean of the latent, without the rest of it.
        """
        return self.head.mean_of(self.trunk(frames))
