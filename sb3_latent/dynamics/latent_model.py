"""A latent model: what it observes, imagines, decodes and is trained by."""

from collections.abc import Mapping
from typing import Any

import torch as th
from torch import nn

from sb3_latent.dynamics.dynamics import Trajectory
from sb3_latent.dynamics.model_losses import ModelLosses
from sb3_latent.dynamics.window_encoder import WindowEncoder
from sb3_latent.types import Coefficient
from sb3_latent.windows import WindowBatch, WindowSpec

SLAC_STD = 0.1**0.5
"""Of a pixel, which lies in [0, 1]: SLAC's ``decoder_stddev``."""


class LatentModel(nn.Module):
    """
    Encoders and losses of windows in one piece.

    :param encoders: trunk and dynamics.
    :param tasks: decoder, heads and losses.
    """

    def __init__(self, encoders: WindowEncoder, tasks: ModelLosses) -> None:
        super().__init__()
        self.encoders = encoders
        self.tasks = tasks

    @property
    def state_dim(self) -> int:
        """:return: length of a state."""
        return self.encoders.dynamics.state_dim

    def encode(self, frames: th.Tensor) -> th.Tensor:
        """
        :param frames: (..., *frame_shape), raw: bytes, or floats of the same range.
        :return: (..., features_dim).
        """
        return self.encoders.encode(frames)

    def initial(self, n_rows: int, noisy: bool = True) -> th.Tensor:
        """
        :param n_rows: how many.
        :param noisy: draw states; otherwise take the likeliest.
        :return: (n_rows, state_dim), first states as the prior has them.
        """
        return self.encoders.dynamics.initial(n_rows, noisy)

    def observe(
        self, features: th.Tensor, actions: th.Tensor, mask: th.Tensor | None = None, noisy: bool = True
    ) -> Trajectory:
        """
        The posterior over windows.

        :param features: (B, T, features_dim), from :meth:`encode`.
        :param actions: (B, T - 1, action_dim), between the frames.
        :param mask: (B, T), False before a window's start and True from there on; None where all is real.
        :param noisy: as for :meth:`initial`.
        :return: (B, T, state_dim) and the beliefs behind them.
        """
        if mask is None:
            mask = th.ones(features.shape[:2], dtype=th.bool, device=features.device)
        return self.encoders.dynamics.observe(features, actions, mask, noisy)

    def imagine(self, state: th.Tensor, actions: th.Tensor, noisy: bool = True) -> th.Tensor:
        """
        The prior, rolled out.

        :param state: (B, state_dim).
        :param actions: (B, H, action_dim), the first one taken in it.
        :param noisy: as for :meth:`initial`.
        :return: (B, H, state_dim), the states after each action.
        """
        return self.encoders.dynamics.imagine(state, actions, noisy)

    def decode(self, states: th.Tensor) -> th.Tensor:
        """
        :param states: (..., state_dim).
        :return: (..., *frame_shape); images in units of [0, 1], unbounded.
        """
        return self.tasks.decode(states)

    def reward(self, states: th.Tensor, actions: th.Tensor, next_states: th.Tensor) -> th.Tensor:
        """
        :param states: (..., state_dim).
        :param actions: (..., action_dim), taken in them.
        :param next_states: (..., state_dim), that followed.
        :return: (...), the mean reward.
        """
        return self.tasks.reward_outputs(states, actions, next_states)[0]

    def continuation(self, states: th.Tensor) -> th.Tensor:
        """
        :param states: (..., state_dim).
        :return: (...), the probability that the episode goes on from there; 1 where the model does not learn it.
        """
        if not self.tasks.learns("continuation"):
            return th.ones_like(states[..., 0])
        logits: th.Tensor = self.tasks.continuation(states)
        return logits.squeeze(-1).sigmoid()

    def losses(self, trajectory: Trajectory, batch: WindowBatch) -> dict[str, th.Tensor]:
        """
        :param trajectory: the noisy posterior over its windows of T + 1 frames.
        :param batch: the windows.
        :return: the losses whose coefficient is not 0, unweighted scalars.
        """
        labels = self.tasks.active
        of_frames = self.tasks.frame_losses(trajectory, batch.frames, batch.mask, self.encoders, labels)
        return {**of_frames, **self.tasks.transition_losses(trajectory, batch, labels)}

    def loss(self, batch: WindowBatch) -> dict[str, th.Tensor]:
        """
        :param batch: windows.
        :return: the losses whose coefficient is not 0, unweighted scalars: summed over features and steps, mean over the
            batch.
        """
        return self.losses(self.observe(self.encode(batch.frames), batch.actions, batch.mask), batch)


def make_latent_model(
    spec: WindowSpec,
    dynamics: str = "slac",
    dynamics_kwargs: Mapping[str, Any] | None = None,
    trunk: str | None = None,
    trunk_kwargs: Mapping[str, Any] | None = None,
    loss: str = "gaussian",
    loss_kwargs: Mapping[str, Any] | None = None,
    coefs: Mapping[str, Coefficient] | None = None,
    hidden: int = 256,
) -> LatentModel:
    """
    :param spec: of the windows.
    :param dynamics: name or dotted path.
    :param dynamics_kwargs: further arguments of the dynamics.
    :param trunk: name or dotted path; None takes ``"slac"`` for images and ``"mlp"`` for vectors.
    :param trunk_kwargs: further arguments of the trunk.
    :param loss: name or dotted path of the likelihood of frames.
    :param loss_kwargs: further arguments of it; the default is SLAC's standard deviation of a pixel, sqrt(0.1).
    :param coefs: see :class:`ModelLosses`.
    :param hidden: width of the two hidden layers of the heads of reward and continuation; SLAC's 256.
    :return: the model.
    :raises ValueError: if a name or value is wrong.
    :raises TypeError: if an argument is unknown.
    """
    encoders = WindowEncoder(spec, trunk, trunk_kwargs or {}, dynamics, dynamics_kwargs or {})
    if loss_kwargs is None:
        loss_kwargs = {"std": SLAC_STD} if loss == "gaussian" else {}
    return LatentModel(encoders, ModelLosses(encoders, loss, loss_kwargs, coefs or {}, hidden))
