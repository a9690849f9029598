"""Optimizers whose parts have learning rates, betas and weight decays of their own."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch as th

from sb3_latent.hook import coefficient
from sb3_latent.registry import unknown
from sb3_latent.types import Coefficient

PARTS = ("critic", "encoder", "decoder", "actor", "ent_coef")


class Parts:
    """
    Arguments of the optimizers by part. What is not given stays SB3's: its ``learning_rate`` and ``optimizer_kwargs``.

    :param optimizer_class: of the policy.
    :param settings: for some of :data:`PARTS` arguments of the optimizer; ``lr`` may be a schedule.
    :raises ValueError: if a part is unknown.
    :raises TypeError: if an argument is unknown to the optimizer.
    """

    def __init__(self, optimizer_class: type[th.optim.Optimizer], settings: Mapping[str, Mapping[str, Any]]) -> None:
        for part, arguments in settings.items():
            if part not in PARTS:
                raise ValueError(unknown("part of optimizers:", part, PARTS))
            # SB3 steps the entropy coefficient with Adam, whatever the policy's optimizer is.
            _check_arguments(part, arguments, th.optim.Adam if part == "ent_coef" else optimizer_class)
        self._settings = settings
        self._lrs: dict[str, Coefficient] = {
            part: arguments["lr"] for part, arguments in settings.items() if "lr" in arguments
        }

    def group(self, part: str, parameters: Iterable[th.Tensor]) -> dict[str, Any]:
        """
        :param part: one of :data:`PARTS`.
        :param parameters: of this part.
        :return: a parameter group; its learning rate is set before each step.
        """
        return {"params": list(parameters), "part": part, **self._constants(part)}

    def adopt(self, optimizer: th.optim.Optimizer, part: str) -> None:
        """
        Give the settings of a part to an optimizer that SB3 has made.

        :param optimizer: all its groups become of this part.
        :param part: one of :data:`PARTS`.
        """
        for group in optimizer.param_groups:
            group.update(self._constants(part), part=part)

    def set_learning_rates(self, optimizer: th.optim.Optimizer, progress_remaining: float) -> None:
        """
        Right before a step, for SB3 writes one learning rate into all groups whenever it trains.

        :param optimizer: its groups know their part.
        :param progress_remaining: 1 to 0; schedules are read here.
        """
        for group in optimizer.param_groups:
            if group["part"] in self._lrs:
                lr = self._lrs[group["part"]]
                group["lr"] = coefficient(f"optimizers[{group['part']!r}]['lr']", lr, progress_remaining)

    def _constants(self, part: str) -> dict[str, Any]:
        return {name: value for name, value in self._settings.get(part, {}).items() if name != "lr"}


def _check_arguments(part: str, arguments: Mapping[str, Any], optimizer_class: type[th.optim.Optimizer]) -> None:
    """Names first, then values: the optimizer itself knows best which it takes."""
    if not isinstance(arguments, Mapping):
        raise TypeError(f"optimizers[{part!r}]={arguments!r} must be a dictionary of the optimizer's arguments.")
    allowed = list(inspect.signature(optimizer_class).parameters)[1:]
    for name in arguments:
        if name not in allowed:
            raise TypeError(unknown(f"argument of optimizers[{part!r}]:", name, allowed))
    lr = coefficient(f"optimizers[{part!r}]['lr']", arguments.get("lr", 1e-3), 1.0)
    try:
        optimizer_class([th.zeros(1, requires_grad=True)], **{**arguments, "lr": lr})
    except (TypeError, ValueError) as error:
        raise type(error)(f"optimizers[{part!r}]={dict(arguments)!r}: {error}.") from error
