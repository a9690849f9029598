"""
The one place where the gradients of the RL loss and of the auxiliary tasks meet.

SB3 calls ``loss.backward()`` inside ``train()``; there is no hook for another loss (SB3 #593, #1881, #1980, #2080). An
identity function on the features does it: backward scales the RL gradient by kappa and seeds the auxiliary loss with 1,
so that the encoder receives d(kappa * L_RL + L_auxiliary), eq. 3 of seed document 000, while everything behind the
features keeps the unscaled RL gradient. Megatron-LM (``MoEAuxLossAutoScaler``) uses the same trick for router losses.
"""

from typing import Any, Literal, TypeAlias

import numpy as np
import torch as th
from torch.nn import functional as F

from sb3_latent.registry import unknown
from sb3_latent.types import Coefficient

Kappa: TypeAlias = Coefficient | Literal["auto"]


class GradientBalance(th.nn.Module):
    """
    Scales the RL gradient at the latent by kappa and measures both gradients there (seed document 000, appendix A.3).

    ``kappa="auto"`` is the ratio of the two norms, auxiliary over RL, each an exponential moving average with rate
    ``tau`` over gradient steps; until both were seen it is 1. No value leaves the device.

    :param automatic: whether kappa follows the ratio of the norms.
    :param tau: rate of the moving averages; 0.01 remembers about 100 gradient steps (a choice of this library).
    """

    norms: th.Tensor

    def __init__(self, automatic: bool, tau: float = 0.01) -> None:
        super().__init__()
        self.automatic = automatic
        self.tau = tau
        self.fixed = 1.0
        self.register_buffer("norms", th.zeros(2))
        self._rl_gradient: th.Tensor | None = None
        self._sums: th.Tensor | None = None

    @property
    def kappa(self) -> float | th.Tensor:
        """:return: the present factor on the RL gradient; a scalar tensor where it is automatic."""
        if not self.automatic:
            return self.fixed
        rl, auxiliary = self.norms
        return th.where((rl > 0) & (auxiliary > 0), auxiliary / rl.clamp_min(th.finfo(rl.dtype).tiny), th.ones_like(rl))

    def see_rl(self, gradient: th.Tensor) -> None:
        """
        :param gradient: (B, features_dim), dL_RL / dfeatures before kappa.
        """
        self._rl_gradient = gradient.detach()

    def see_auxiliary(self, gradient: th.Tensor) -> None:
        """
        :param gradient: (B, features_dim), dL_auxiliary / dfeatures for the batch of the last :meth:`see_rl`.
        """
        if self._rl_gradient is None or self._rl_gradient.shape != gradient.shape:
            return
        pair = th.stack([self._rl_gradient.flatten(), gradient.detach().flatten()])
        self._rl_gradient = None
        norms = pair.norm(dim=1)
        previous = th.where(self.norms > 0, self.norms, norms)
        self.norms.copy_(previous + self.tau * (norms - previous))
        cosine = F.cosine_similarity(pair[0], pair[1], dim=0)
        row = th.stack([norms[0], norms[1], cosine, th.ones_like(cosine)])
        self._sums = row if self._sums is None else self._sums + row

    def pop_measurements(self) -> dict[str, float]:
        """
        Means since the last call; reading them waits for the device.

        :return: ``rl_gradient_norm``, ``auxiliary_gradient_norm``, ``gradient_cosine`` at the latent; empty if no
            gradients met.
        """
        if self._sums is None:
            return {}
        rl, auxiliary, cosine, count = self._sums.tolist()
        self._sums = None
        return {
            "rl_gradient_norm": rl / count,
            "auxiliary_gradient_norm": auxiliary / count,
            "gradient_cosine": cosine / count,
        }


class _Meet(th.autograd.Function):
    """Identity on the features; see the module's docstring."""

    @staticmethod
    def forward(ctx: Any, features: th.Tensor, loss: th.Tensor | None, balance: GradientBalance) -> th.Tensor:
        ctx.balance = balance
        ctx.seed = None if loss is None else th.ones_like(loss)
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, gradient: th.Tensor) -> tuple[th.Tensor, th.Tensor | None, None]:
        ctx.balance.see_rl(gradient)
        return gradient * ctx.balance.kappa, ctx.seed, None


class _Watch(th.autograd.Function):
    """Identity on the features on their way to the tasks; shows the auxiliary gradient to the balance."""

    @staticmethod
    def forward(ctx: Any, features: th.Tensor, balance: GradientBalance) -> th.Tensor:
        ctx.balance = balance
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, gradient: th.Tensor) -> tuple[th.Tensor, None]:
        ctx.balance.see_auxiliary(gradient)
        return gradient, None


def meet(features: th.Tensor, loss: th.Tensor | None, balance: GradientBalance) -> th.Tensor:
    """
    Let the gradients meet: the RL gradient times kappa, and the auxiliary loss with weight 1.

    :param features: (B, features_dim), what the policy reads.
    :param loss: scalar, the weighted sum of the tasks; None where the tasks step on their own.
    :param balance: holds kappa.
    :return: the same features.
    """
    return _Meet.apply(features, loss, balance)  # type: ignore[no-any-return,no-untyped-call]  # as torch has it


def watch(features: th.Tensor, balance: GradientBalance) -> th.Tensor:
    """
    :param features: (B, features_dim), on their way to the tasks.
    :param balance: is shown their auxiliary gradient.
    :return: the same features.
    """
    return _Watch.apply(features, balance)  # type: ignore[no-any-return,no-untyped-call]  # as torch has it


def coefficient(name: str, value: Coefficient, progress_remaining: float) -> float:
    """
    The present value of a coefficient.

    :param name: for the message.
    :param value: a number or a schedule.
    :param progress_remaining: 1 at the start of ``learn``, 0 at its end.
    :return: the number.
    :raises TypeError: if it is neither a number nor a schedule that returns one.
    :raises ValueError: if it is negative, infinite or not a number.
    """
    number = value(progress_remaining) if callable(value) else value
    if isinstance(number, bool) or not isinstance(number, int | float | np.integer | np.floating):
        raise TypeError(f"{name}={number!r} must be a number or a schedule progress_remaining -> number.")
    if not 0 <= number < float("inf"):
        raise ValueError(f"{name}={number} must be finite and not negative.")
    return float(number)


def fixed_kappa(kappa: Kappa, progress_remaining: float) -> float:
    """
    The present value of kappa where it does not follow the gradients.

    :param kappa: a number, a schedule or ``"auto"``.
    :param progress_remaining: 1 at the start of ``learn``, 0 at its end.
    :return: the number; 1 for ``"auto"``.
    :raises TypeError: if it is none of them.
    :raises ValueError: if it is negative, infinite or not a number.
    """
    if kappa == "auto":
        return 1.0
    if isinstance(kappa, str):
        raise TypeError(f"kappa={kappa!r} must be 'auto', a number or a schedule progress_remaining -> number.")
    return coefficient("kappa", kappa, progress_remaining)


def check_gradient_mode(mode: str) -> None:
    """
    :param mode: ``"joint"`` or ``"own_optimizer"``.
    :raises ValueError: if it is anything else.
    """
    modes = ("joint", "own_optimizer")
    if mode not in modes:
        raise ValueError(unknown("gradient_mode", mode, modes))
