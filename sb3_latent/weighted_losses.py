"""Named losses with coefficients: their sum, their log, and the alarm when one is not finite."""

from collections.abc import Mapping

import torch as th
from torch import nn

from sb3_latent.hook import coefficient
from sb3_latent.types import Coefficient


class WeightedLosses(nn.Module):
    """What an extractor learns beside the RL loss, as the hook and the log see it."""

    def __init__(self) -> None:
        super().__init__()
        self._schedules: dict[str, Coefficient] = {}
        self._coefs: dict[str, float] = {}
        self._failure: str | None = None
        self._sums: dict[str, th.Tensor] = {}
        self._counts: dict[str, int] = {}

    def weigh(self, schedules: Mapping[str, Coefficient]) -> None:
        """
        :param schedules: the coefficient of every loss by label.
        :raises TypeError: if one is of the wrong kind.
        :raises ValueError: if one is negative or infinite.
        """
        self._schedules = dict(schedules)
        self.set_progress_remaining(1.0)

    @property
    def labels(self) -> list[str]:
        """:return: the label of every loss."""
        return list(self._schedules)

    @property
    def coefs(self) -> dict[str, float]:
        """:return: present coefficient of every loss."""
        return dict(self._coefs)

    @property
    def active(self) -> list[str]:
        """:return: labels whose coefficient is not 0; the others are not computed in training."""
        return [label for label, value in self._coefs.items() if value != 0]

    def learns(self, label: str) -> bool:
        """
        :param label: of a loss.
        :return: whether it is ever learned; a schedule may be 0 at present.
        """
        value = self._schedules[label]
        return callable(value) or value != 0

    def set_progress_remaining(self, progress_remaining: float) -> None:
        """
        :param progress_remaining: 1 to 0; schedules are read here.
        """
        self._coefs = {
            label: coefficient(f"coefs[{label!r}]", value, progress_remaining) for label, value in self._schedules.items()
        }

    def weighted_sum(self, losses: Mapping[str, th.Tensor]) -> th.Tensor:
        """
        :param losses: unweighted scalars by label.
        :return: scalar, weighted by the present coefficients; 0 for no losses.
        """
        weighted = [self._coefs[label] * loss for label, loss in losses.items()]
        return th.stack(weighted).sum() if weighted else th.zeros(())

    def record(self, losses: Mapping[str, th.Tensor], num_timesteps: int) -> None:
        """
        Keep the losses of a gradient step for the log, and look whether they are finite: on a CPU at once, before the
        step is taken; on an accelerator, where asking would stall every step, at the end of the update.

        :param losses: unweighted scalars by label.
        :param num_timesteps: environment steps so far, for the message.
        :raises FloatingPointError: names the first loss that is not finite.
        """
        for label, loss in losses.items():
            self._sums[label] = self._sums.get(label, th.zeros_like(loss)) + loss.detach()
            self._counts[label] = self._counts.get(label, 0) + 1
        if all(loss.device.type == "cpu" for loss in losses.values()):
            self.raise_if_not_finite(num_timesteps)

    def raise_if_not_finite(self, num_timesteps: int) -> None:
        """
        :param num_timesteps: environment steps so far, for the message.
        :raises FloatingPointError: names the first loss that was not finite since the last log.
        """
        for label, total in self._sums.items():
            if not bool(th.isfinite(total)):
                self._failure = (
                    f"auxiliary loss {label!r} is not finite ({total.item()}) at step {num_timesteps}; nothing was saved. "
                    "Go back to the last checkpoint with a lower learning rate or coefficient."
                )
                self._sums, self._counts = {}, {}
                raise FloatingPointError(self._failure)

    def raise_if_failed(self) -> None:
        """
        :raises FloatingPointError: if a loss was ever not finite; weights that made it must not overwrite good ones.
        """
        if self._failure is not None:
            raise FloatingPointError(self._failure)

    def forget(self) -> None:
        """Start afresh with other weights: no losses, no failure."""
        self._failure = None
        self._sums, self._counts = {}, {}

    def pop_losses(self) -> dict[str, float]:
        """
        :return: the mean of each unweighted loss since the last call; empty if there was no training in between.
        """
        means = {label: float(total) / self._counts[label] for label, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means
