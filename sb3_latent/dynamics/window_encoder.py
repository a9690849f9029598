"""From windows of frames and actions to states."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch as th
from torch import nn

from sb3_latent.dynamics.dynamics import DYNAMICS
from sb3_latent.nn import TRUNKS
from sb3_latent.registry import defaults_of
from sb3_latent.types import Observations
from sb3_latent.windows import ACTIONS, FRAMES, MASK, WindowSpec

CHUNK = 96
"""Frames that go through convolutions at a time on a CPU: large pieces cost page faults. 2304 frames of 64x64x3 take 0.6 of
the time without a graph, 288 with one 0.85."""


class WindowCode(NamedTuple):
    """
    What is known at the end of windows.

    :param mean: (B, state_dim), the likeliest last state: a belief at each step, no noise in between.
    :param log_var: None.
    :param features: (B, T, features_dim), of the frames.
    """

    mean: th.Tensor
    log_var: None
    features: th.Tensor


class WindowEncoder(nn.Module):
    """
    A trunk for frames, and dynamics that tie them together.

    :param spec: of the windows.
    :param trunk: name or dotted path; None takes ``"slac"`` for images and ``"mlp"`` for vectors.
    :param trunk_kwargs: further arguments of the trunk.
    :param dynamics: name or dotted path.
    :param dynamics_kwargs: further arguments of the dynamics.
    :raises ValueError: if a name or value is wrong.
    :raises TypeError: if an argument is unknown to trunk or dynamics.
    """

    def __init__(
        self,
        spec: WindowSpec,
        trunk: str | None,
        trunk_kwargs: Mapping[str, Any],
        dynamics: str,
        dynamics_kwargs: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.spec = spec
        trunk = trunk or ("slac" if spec.is_image else "mlp")
        self.trunk = TRUNKS.make(trunk, spec.frame_shape, kwargs=trunk_kwargs)
        self.dynamics = DYNAMICS.make(dynamics, self.trunk.out_dim, spec.action_dim, kwargs=dynamics_kwargs)
        self.architecture: dict[str, Any] = {
            "frame_shape": list(spec.frame_shape),
            "action_dim": spec.action_dim,
            "trunk": trunk,
            "trunk_kwargs": {**defaults_of(type(self.trunk)), **trunk_kwargs},
            "dynamics": dynamics,
            "dynamics_kwargs": {**defaults_of(type(self.dynamics)), **dynamics_kwargs},
        }

    def encode(self, frames: th.Tensor) -> th.Tensor:
        """
        :param frames: (..., *frame_shape), raw.
        :return: (..., features_dim).
        """
        shape = frames.shape[: frames.dim() - len(self.spec.frame_shape)]
        parts = [self.trunk(self.scaled(part)) for part in in_chunks(frames.reshape(-1, *self.spec.frame_shape))]
        return th.cat(parts).reshape(*shape, -1)

    def scaled(self, frames: th.Tensor) -> th.Tensor:
        """
        :param frames: any shape, raw.
        :return: the same shape, images in [0, 1].
        """
        floats = frames.to(next(self.dynamics.parameters()).dtype)
        return floats if self.spec.scale == 1 else floats / self.spec.scale

    def forward(self, windows: Observations) -> WindowCode:
        """
        :param windows: a dict of ``"frames"`` (B, T, *frame_shape), raw, ``"actions"`` (B, T - 1, action_dim) and ``"mask"``
            (B, T).
        :return: the code.
        """
        assert isinstance(windows, dict)
        return self.code(self.encode(windows[FRAMES]), windows)

    def code(self, features: th.Tensor, windows: dict[str, th.Tensor]) -> WindowCode:
        """
        :param features: (B, T, features_dim), of the frames.
        :param windows: as for :meth:`forward`.
        :return: the code.
        """
        trajectory = self.dynamics.observe(features, windows[ACTIONS], windows[MASK].bool(), noisy=False)
        return WindowCode(trajectory.states[:, -1], None, features)

    def means(self, windows: Observations) -> th.Tensor:
        """
        :param windows: as for :meth:`forward`.
        :return: (B, state_dim).
        """
        code: WindowCode = self(windows)
        return code.mean


def in_chunks(rows: th.Tensor) -> tuple[th.Tensor, ...]:
    """
    :param rows: (n, ...).
    :return: the same rows in pieces of :data:`CHUNK`; in one on an accelerator.
    """
    return th.split(rows, CHUNK if rows.device.type == "cpu" else max(len(rows), 1))
