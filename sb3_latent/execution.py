"""How networks are computed: switches that change what a gradient step costs, and its rounding, but not what it means."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any, ParamSpec, TypeVar

import torch as th
from torch import nn

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Execution:
    """
    The switches of an extractor; all are off by default. What was compiled is never copied, pickled or saved.

    :param autocast: bfloat16 while training.
    :param compile: ``torch.compile`` while training.
    :param channels_last: convolutions read images whose channels lie last in memory.
    :raises ValueError: if one is neither True nor False.
    """

    autocast: bool = False
    compile: bool = False
    channels_last: bool = False
    _compiled: dict[Any, Callable[..., Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for switch in SWITCHES:
            if not isinstance(getattr(self, switch), bool):
                raise ValueError(f"{switch}={getattr(self, switch)!r} must be True or False.")

    def __reduce__(self) -> tuple[type["Execution"], tuple[bool, ...]]:
        return type(self), tuple(getattr(self, switch) for switch in SWITCHES)

    def precision(self, module: nn.Module) -> AbstractContextManager[Any]:
        """
        :param module: says on which device.
        :return: within it layers compute in bfloat16, if that is switched on.
        """
        if not self.autocast:
            return nullcontext()
        device = next(iter(module.parameters()), th.empty(0)).device
        return th.autocast(device.type, th.bfloat16)

    def run(self, is_ready: bool, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """
        :param is_ready: whether the function may be compiled: the look at the first pixels reads values, which a compiled
            graph cannot.
        :param function: the same object each time.
        :param args: its arguments.
        :param kwargs: its arguments.
        :return: what it returns.
        """
        if not (self.compile and is_ready):
            return function(*args, **kwargs)
        if function not in self._compiled:
            self._compiled[function] = th.compile(function)
        result: R = self._compiled[function](*args, **kwargs)
        return result

    def lay_out(self, module: nn.Module) -> None:
        """
        Weights stay contiguous: on a CPU it makes no difference, and neither SB3's ``ortho_init`` nor its
        ``parameters_to_vector`` takes others.

        :param module: its convolutions will find channels last in memory, if that is switched on.
        """
        if self.channels_last:
            for part in module.modules():
                if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
                    part.register_forward_pre_hook(_with_channels_last)


SWITCHES = tuple(switch.name for switch in fields(Execution) if switch.init)
"""Names of the switches."""

STOCK = Execution()
"""Everything off."""


def _with_channels_last(_: nn.Module, inputs: tuple[th.Tensor]) -> th.Tensor:
    """torch's own ``contiguous(memory_format=...)`` leaves images of one channel to be taken for the other layout."""
    (images,) = inputs
    if images.stride(-3) == 1:
        return images
    channels, height, width = images.shape[-3:]
    return th.unflatten(images.movedim(-3, -1).flatten(-3), -1, (height, width, channels)).movedim(-1, -3)
