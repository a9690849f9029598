"""The optimizer of gradient mode ``own_optimizer``."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch as th
from torch import nn

from sb3_latent.hook import coefficient
from sb3_latent.registry import unknown
from sb3_latent.types import Coefficient


class AuxiliaryOptimizer:
    """
    Adam over encoder and tasks, apart from the RL optimizer: its gradients never pass through ``.grad`` as the RL
    optimizer sees it, so RL gradients, their clip factor and the policy's step are those of a run without tasks.

    :param encoders: first parameter group.
    :param tasks: second parameter group: decoders and the like.
    :param kwargs: arguments of ``torch.optim.Adam``; ``lr`` may be a schedule and is 1e-3 unless given, the
        ``encoder_lr`` and ``decoder_lr`` of SAC+AE's ``train.py``. ``"encoder"`` and ``"decoder"`` hold those of one group.
    :raises TypeError: if an argument is unknown to Adam.
    """

    def __init__(self, encoders: nn.Module, tasks: nn.Module, kwargs: Mapping[str, Any]) -> None:
        for part in ("encoder", "decoder"):
            if not isinstance(kwargs.get(part, {}), Mapping):
                raise TypeError(
                    f"auxiliary_optimizer_kwargs[{part!r}]={kwargs[part]!r} must be a dictionary of Adam's arguments."
                )
        shared = {name: value for name, value in kwargs.items() if name not in ("encoder", "decoder")}
        modules = {"encoder": encoders, "decoder": tasks}
        settings = {part: {"lr": 1e-3, **shared, **kwargs.get(part, {})} for part in modules}
        for part, values in settings.items():
            _check_adam(part, values)
        self._lrs: dict[str, Coefficient] = {part: values["lr"] for part, values in settings.items()}
        groups = [
            {**settings[part], "lr": 0.0, "params": list(module.parameters())}
            for part, module in modules.items()
            if any(True for _ in module.parameters())
        ]
        self._adam = th.optim.Adam(groups)

    def set_progress_remaining(self, progress_remaining: float) -> None:
        """
        :param progress_remaining: 1 to 0; learning-rate schedules are read here.
        """
        for group, (part, lr) in zip(self._adam.param_groups, self._lrs.items(), strict=False):
            group["lr"] = coefficient(f"{part} lr", lr, progress_remaining)

    def gradients(self, loss: th.Tensor, retain_graph: bool = False) -> list[th.Tensor | None]:
        """
        :param loss: scalar with a graph.
        :param retain_graph: whether something else goes back through it later.
        :return: the gradient of each parameter that requires one, for :meth:`step`; ``.grad`` is left as it was.
        """
        return list(th.autograd.grad(loss, self._parameters(), retain_graph=retain_graph, allow_unused=True))

    def step(self, gradients: Sequence[th.Tensor | None]) -> None:
        """
        One step; ``.grad`` is left as it was.

        :param gradients: from :meth:`gradients`.
        """
        parameters = self._parameters()
        kept = [parameter.grad for parameter in parameters]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self._adam.step()
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = gradient

    def _parameters(self) -> list[th.Tensor]:
        return [p for group in self._adam.param_groups for p in group["params"] if p.requires_grad]

    def state_dict(self) -> dict[str, Any]:
        """:return: Adam's state, plain data and tensors."""
        return self._adam.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        :param state: from :meth:`state_dict`; copied, and cast to device and type of the parameters.
        """
        self._adam.load_state_dict(copy.deepcopy(state))


def _check_adam(part: str, values: Mapping[str, Any]) -> None:
    allowed = [name for name in inspect.signature(th.optim.Adam).parameters if name != "params"]
    for name in values:
        if name not in allowed:
            raise TypeError(unknown(f"argument of the {part}'s Adam", name, [*allowed, "encoder", "decoder"]))
