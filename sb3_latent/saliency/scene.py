"""A batch as the methods see it: arrays that may vary, and the target as a function of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch as th
from stable_baselines3.common.policies import BasePolicy

from sb3_latent.saliency.situation import Situation
from sb3_latent.saliency.targets import Target
from sb3_latent.types import Observations

SINGLE = "observation"


@dataclass(frozen=True)
class Varied:
    """
    One array of an observation, as floats in raw units.

    :param array: what a method varies: (B, *shape), an image as (B, C, H, W).
    :param older: (B, C', H, W), frames of the stack that come before it and stay as they are.
    :param n_channels: of one frame; None where the array is no image.
    :param is_channels_last: whether the policy wants (B, H, W, C).
    :param window: (T, C) where the policy wants (B, T, C, H, W), a window of frames; None elsewhere.
    """

    array: th.Tensor
    older: th.Tensor | None = None
    n_channels: int | None = None
    is_channels_last: bool = False
    window: tuple[int, int] | None = None

    def whole(self, array: th.Tensor, rows: th.Tensor) -> th.Tensor:
        """
        :param array: (n, ...), the array varied.
        :param rows: (n,), the rows of the batch that it was made of.
        :return: (n, *observation shape), what the policy reads.
        """
        return self._stacked(array, None if self.older is None else self.older[rows])

    def map_of(self, attributions: th.Tensor) -> th.Tensor:
        """
        :param attributions: the shape of ``array``.
        :return: (B, *observation shape), zeros where nothing varied.
        """
        return self._stacked(attributions, None if self.older is None else th.zeros_like(self.older))

    def _stacked(self, newest: th.Tensor, older: th.Tensor | None) -> th.Tensor:
        stack = newest if older is None else th.cat([older, newest], dim=1)
        if self.window is not None:
            return th.unflatten(stack, 1, self.window)
        return stack.movedim(1, -1) if self.is_channels_last else stack


@dataclass(frozen=True)
class Scene:
    """
    :param policy: the policy of the model, which no method may change.
    :param inputs: the batch as the policy reads it.
    :param target: what is asked.
    :param situation: beside the batch.
    :param varied: the arrays that have a derivative, by key; one key ``"observation"`` where the space is no Dict.
    """

    policy: BasePolicy
    inputs: Observations
    target: Target
    situation: Situation
    varied: dict[str, Varied]

    @property
    def arrays(self) -> dict[str, th.Tensor]:
        """:return: what is varied, as it is."""
        return {key: varied.array for key, varied in self.varied.items()}

    @property
    def rows(self) -> th.Tensor:
        """:return: the index of each row of the batch."""
        array = next(iter(self.varied.values())).array
        return th.arange(len(array), device=array.device)

    def answer(self, arrays: Mapping[str, th.Tensor], rows: th.Tensor) -> th.Tensor:
        """
        :param arrays: the arrays varied, (n, ...) each.
        :param rows: (n,), the rows of the batch that they were made of.
        :return: (n,), the target; (n, k) for a vector.
        """
        whole = {key: varied.whole(arrays[key], rows) for key, varied in self.varied.items()}
        if not isinstance(self.inputs, dict):
            return self.target.function(whole[SINGLE], self.situation.rows(rows))
        fixed = {key: array[rows] for key, array in self.inputs.items() if key not in whole}
        # In the order of the space: SB3 joins the features of the keys in it.
        return self.target.function(
            {key: whole[key] if key in whole else fixed[key] for key in self.inputs}, self.situation.rows(rows)
        )

    def gradients(self) -> dict[str, th.Tensor]:
        """
        One forward and one backward pass. In evaluation mode rows are independent, so the gradient of the sum over the batch
        holds each row's own.

        :return: d target / d array for each array; zeros for one that the target does not read.
        :raises ValueError: if the target reads none of them through a graph.
        """
        with th.enable_grad():
            leaves = {key: array.detach().requires_grad_(True) for key, array in self.arrays.items()}
            answer = self.answer(leaves, self.rows)
            gradients: tuple[th.Tensor | None, ...] = (None,)
            if answer.requires_grad:
                gradients = th.autograd.grad(answer.sum(), list(leaves.values()), allow_unused=True)
        if all(gradient is None for gradient in gradients):
            raise ValueError(
                f"the target {self.target.name!r} is cut off from the observation: the features extractor detaches or runs "
                "under no_grad; freeze it with requires_grad_(False) instead, or take method='occlusion' or 'perturbation', "
                "which need no gradient."
            )
        pairs = zip(leaves.items(), gradients, strict=True)
        return {key: th.zeros_like(leaf) if gradient is None else gradient for (key, leaf), gradient in pairs}

    def maps(self, attributions: Mapping[str, th.Tensor]) -> Observations:
        """
        :param attributions: of a method, for some keys.
        :return: the same in the shape of the observation.
        """
        maps = {key: self.varied[key].map_of(part) for key, part in attributions.items()}
        return maps if isinstance(self.inputs, dict) else maps[SINGLE]
