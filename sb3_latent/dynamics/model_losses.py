"""What a latent model is trained to explain: frames, rewards and ends of episodes."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch as th
from torch.nn import functional as F

from sb3_latent.dynamics.beliefs import LeakyReLU, Perceptron
from sb3_latent.dynamics.dynamics import Trajectory
from sb3_latent.dynamics.window_encoder import WindowEncoder, in_chunks
from sb3_latent.hook import coefficient
from sb3_latent.nn import LIKELIHOODS
from sb3_latent.registry import unknown
from sb3_latent.types import Coefficient
from sb3_latent.weighted_losses import WeightedLosses
from sb3_latent.windows import WindowBatch

LOSSES = ("recon", "kl", "reward", "continuation")
OF_WINDOWS = ("recon", "kl")
"""Those that need no more than frames and actions."""

MIN_STD = 1e-5


class ModelLosses(WeightedLosses):
    """
    The negative evidence lower bound of windows, term by term: summed over features and steps, mean over the batch.

    - ``"recon"``: frames from states, as likely as the decoder has them
    - ``"kl"``: of the dynamics
    - ``"reward"``: Gaussian, its mean and standard deviation from (state, action, next state), as SLAC has it (Lee et al.
      2020, authors' ``model_distribution_network.py``, ``reward_predictor``)
    - ``"continuation"``: Bernoulli, from the state after an action

    :param encoders: trunk, whose mirror image is the decoder, and dynamics.
    :param loss: name or dotted path of the likelihood of frames.
    :param loss_kwargs: further arguments of it.
    :param coefs: coefficients by label; 1 for those not named, 0 for ``"continuation"`` (SLAC's ``model_discount=False``).
    :param hidden: width of the two hidden layers of each head.
    :raises ValueError: if a name or value is wrong.
    :raises TypeError: if an argument is unknown.
    """

    def __init__(
        self,
        encoders: WindowEncoder,
        loss: str,
        loss_kwargs: Mapping[str, Any],
        coefs: Mapping[str, Coefficient],
        hidden: int,
    ) -> None:
        super().__init__()
        check_coefs(coefs)
        state_dim, action_dim = encoders.dynamics.state_dim, encoders.spec.action_dim
        self.likelihood = LIKELIHOODS.make(loss, kwargs=loss_kwargs)
        self.decoder = encoders.trunk.make_decoder(state_dim)
        self.reward = Perceptron(2 * state_dim + action_dim, [hidden, hidden], 2, LeakyReLU)
        self.continuation = Perceptron(state_dim, [hidden, hidden], 1, LeakyReLU)
        self.architecture: dict[str, Any] = {"loss": loss, "loss_kwargs": dict(loss_kwargs), "hidden": hidden}
        self.weigh({"recon": 1.0, "kl": 1.0, "reward": 1.0, "continuation": 0.0, **coefs})

    def decode(self, states: th.Tensor) -> th.Tensor:
        """
        :param states: (..., state_dim).
        :return: (..., *frame_shape), images in units of [0, 1], unbounded.
        """
        frames: th.Tensor = self.likelihood.reconstruction(self.decoder(states.flatten(0, -2)))
        return frames.reshape(*states.shape[:-1], *frames.shape[1:])

    def reward_outputs(self, states: th.Tensor, actions: th.Tensor, next_states: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        :param states: (..., state_dim).
        :param actions: (..., action_dim), taken in them.
        :param next_states: (..., state_dim), that followed.
        :return: mean and standard deviation of the reward, (...) each.
        """
        mean, raw_std = self.reward(states, actions, next_states).unbind(-1)
        return mean, F.softplus(raw_std) + MIN_STD

    def frame_losses(
        self, trajectory: Trajectory, frames: th.Tensor, mask: th.Tensor, encoders: WindowEncoder, labels: Iterable[str]
    ) -> dict[str, th.Tensor]:
        """
        :param trajectory: of B windows of T frames.
        :param frames: (B, T, *frame_shape), raw.
        :param mask: (B, T), False before a window's start.
        :param encoders: where the dynamics are.
        :param labels: the losses to compute; those that need transitions are left out.
        :return: each an unweighted scalar.
        """
        losses = {}
        if "recon" in labels:
            pairs = zip(in_chunks(trajectory.states.flatten(0, 1)), in_chunks(frames.flatten(0, 1)), strict=True)
            rows = [self.likelihood(self.decoder(states), encoders.scaled(targets)) for states, targets in pairs]
            losses["recon"] = _total(th.cat(rows).reshape(mask.shape), mask)
        if "kl" in labels:
            losses["kl"] = encoders.dynamics.kl(trajectory, mask)
        return losses

    def transition_losses(self, trajectory: Trajectory, batch: WindowBatch, labels: Iterable[str]) -> dict[str, th.Tensor]:
        """
        :param trajectory: of its B windows of T + 1 frames.
        :param batch: the windows.
        :param labels: the losses to compute; those that need frames alone are left out.
        :return: each an unweighted scalar.
        """
        losses = {}
        states, mask = trajectory.states, batch.mask[:, :-1]
        if "reward" in labels:
            mean, std = self.reward_outputs(states[:, :-1], batch.actions, states[:, 1:])
            nll = 0.5 * ((batch.rewards - mean) / std).square() + std.log() + 0.5 * math.log(2 * math.pi)
            losses["reward"] = _total(nll, mask)
        if "continuation" in labels:
            goes_on = th.ones_like(batch.rewards)
            goes_on[:, -1] = 1 - batch.terminals
            logits = self.continuation(states[:, 1:]).squeeze(-1)
            losses["continuation"] = _total(F.binary_cross_entropy_with_logits(logits, goes_on, reduction="none"), mask)
        return losses


def check_coefs(coefs: Mapping[str, Coefficient]) -> None:
    """
    :param coefs: coefficients by label.
    :raises TypeError: if they are no mapping, or one is of the wrong kind.
    :raises ValueError: if a label is unknown, or one is negative or infinite.
    """
    if not isinstance(coefs, Mapping):
        raise TypeError(f"coefs must map losses to coefficients, e.g. {{'reward': 0.1}}, not {coefs!r}.")
    for label, value in coefs.items():
        if label not in LOSSES:
            raise ValueError(unknown("coefficient", label, LOSSES))
        coefficient(f"coefs[{label!r}]", value, 1.0)


def _total(steps: th.Tensor, mask: th.Tensor) -> th.Tensor:
    """(B, T) -> summed over steps that are real, mean over the batch."""
    return (steps * mask).sum() / len(mask)
