"""Training batches of which the rollout buffer has said what occurs several times."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import preprocess_obs

from sb3_latent.buffers import FrameRolloutBuffer
from sb3_latent.buffers.frame_rollout_buffer import Minibatch
from sb3_latent.images import ArraySpec
from sb3_latent.nn.repeats import Repeats
from sb3_latent.types import Observations


class KnownBatch:
    """
    A batch as the extractor received it, and what :class:`~sb3_latent.FrameRolloutBuffer` says of it.

    :param observations: the very tensors.
    :param minibatch: what was served.
    :param specs: what the encoders read.
    :raises ValueError: if the buffer holds stacks of another number of frames than an encoder reads.
    """

    def __init__(self, observations: Observations, minibatch: Minibatch, specs: Mapping[str, ArraySpec]) -> None:
        self.observations = observations
        self.numbers: dict[str, npt.NDArray[np.integer[Any]]] = {
            name: minibatch.numbers(name, spec.n_frames) for name, spec in specs.items()
        }
        self._stacked = [name for name, spec in specs.items() if spec.n_frames > 1]

    @cached_property
    def repeats(self) -> dict[str, Repeats]:
        """:return: for each array that is encoded frame by frame, which frames are the same."""
        device = _arrays(self.observations)[0].device
        return {name: Repeats(self.numbers[name], device) for name in self._stacked}


def served_by(algorithm: BaseAlgorithm | None, observations: Observations) -> Minibatch | None:
    """
    :param algorithm: that trains.
    :param observations: as its policy hands them to the extractor.
    :return: the minibatch that they were, as far as their number tells; None without a buffer that knows.
    """
    buffer = getattr(algorithm, "rollout_buffer", None)
    if not isinstance(buffer, FrameRolloutBuffer) or buffer.minibatch is None:
        return None
    # TRPO may take a part of a batch for itself.
    return buffer.minibatch if len(buffer.minibatch.rows) == len(_arrays(observations)[0]) else None


class ArrivalCheck:
    """
    Somebody who overrides ``train`` may change observations on their way to the extractor, or hand in others. On a CPU that is
    noticed at once, on an accelerator, where asking would stall every gradient step, at the end of the update.
    """

    def __init__(self) -> None:
        self._differs: th.Tensor | None = None

    def compare(
        self, observations: Observations, minibatch: Minibatch, space: spaces.Space[Any], normalize_images: bool
    ) -> None:
        """
        :param observations: as they arrived.
        :param minibatch: as it was served.
        :param space: of the observations.
        :param normalize_images: the policy's.
        :raises ValueError: if they differ, or others did before them.
        """
        served = preprocess_obs(minibatch.observations, space, normalize_images)
        for ours, theirs in zip(_arrays(served), _arrays(observations), strict=True):
            differs = (ours != theirs).any()
            self._differs = differs if self._differs is None else self._differs | differs
            if differs.device.type == "cpu":
                self.raise_if_different()

    def raise_if_different(self) -> None:
        """
        :raises ValueError: if what arrived since the last call was not what was served.
        """
        differs, self._differs = self._differs, None
        if differs is not None and bool(differs):
            raise ValueError(
                "the observations that reach the encoder are not those that FrameRolloutBuffer served; where train() changes "
                "them, use SB3's RolloutBuffer."
            )


def _arrays(observations: Observations) -> list[th.Tensor]:
    return list(observations.values()) if isinstance(observations, dict) else [observations]
