"""What callbacks share: when they look, at which observations, and how they leave the model as it was."""

import math
from abc import abstractmethod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.utils import obs_as_tensor

from sb3_latent.checks import whole_number
from sb3_latent.evaluation import evaluating
from sb3_latent.hooked import HookedExtractor
from sb3_latent.models import get_hooked_extractors
from sb3_latent.types import Observations

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = Array | dict[str, Array]

TEXT_FORMATS = ("stdout", "log", "json", "csv")
"""Formats of SB3's logger that cannot take pictures."""


class ObservingCallback(BaseCallback):
    """
    Looks at what the encoder makes of observations that the model has just trained on, every so many environment steps.

    It looks between two updates, where SB3 starts a rollout, and once more when ``learn`` ends. What it records there is
    written together with SB3's values of the same update; SB3 dumps its log before ``train()``, so the values of the last
    update are written by this callback. Measuring changes nothing: no weight, flag, gradient or random state.

    :param every: environment steps between two looks, rounded up to the next update.
    :param n_observations: from the latest rollouts (on-policy) or the replay buffer (off-policy).
    :param verbose: SB3's verbosity.
    :raises ValueError: if a number is not a positive integer.
    """

    def __init__(self, every: int, n_observations: int, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.every = whole_number("every", every)
        self.n_observations = n_observations
        self._looked_at = 0
        self._recent: Arrays | None = None

    @property
    def extractor(self) -> HookedExtractor[Any]:
        """:return: the extractor that the model learns with."""
        return get_hooked_extractors(self.model)[0]

    def _record(self, name: str, value: float) -> None:
        """SB3's tables cut names at 36 characters and fail where two become equal, so those that hold a key are left out."""
        self.logger.record(name, value, exclude=("stdout", "log") if name.count("/") > 1 else None)

    @abstractmethod
    def _look(self, observations: Observations) -> None:
        """
        Called without gradients and in evaluation mode.

        :param observations: as SB3 preprocesses them, at most ``n_observations``.
        """

    def _init_callback(self) -> None:
        get_hooked_extractors(self.model)

    def _on_training_start(self) -> None:
        self._looked_at = self.num_timesteps
        self._recent = None

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        """Keeps what is about to be trained on: the rollout buffer is emptied before the next ``_on_rollout_start``."""
        if isinstance(self.model, OnPolicyAlgorithm):
            latest = rollout_observations(self.model.rollout_buffer, self.n_observations)
            self._recent = latest if self._recent is None else _newest(self._recent, latest, self.n_observations)

    def _on_rollout_start(self) -> None:
        if self.num_timesteps // self.every > self._looked_at // self.every:
            self._look_now()

    def _on_training_end(self) -> None:
        if self.num_timesteps > self._looked_at:
            self._look_now()
        flush(self)

    def _look_now(self) -> None:
        if self.model._n_updates == 0:
            return
        with evaluating(self.model.policy), th.no_grad():
            observations = self._observations()
            if observations is not None:
                self._looked_at = self.num_timesteps
                self._look(observations)

    def _observations(self) -> Observations | None:
        model = self.model
        observations: Any = self._recent
        if isinstance(model, OffPolicyAlgorithm):
            assert model.replay_buffer is not None
            observations = model.replay_buffer.sample(self.n_observations, env=model._vec_normalize_env).observations
        if observations is None:
            return None
        tensors = obs_as_tensor(observations, model.device) if isinstance(model, OnPolicyAlgorithm) else observations
        space, normalize_images = model.policy.observation_space, model.policy.normalize_images
        return preprocess_obs(tensors, space, normalize_images=normalize_images)


def flush(callback: BaseCallback) -> None:
    """
    Write what was recorded and not yet dumped.

    :param callback: at the end of ``learn``.
    """
    if callback.logger.name_to_value:
        callback.logger.dump(callback.num_timesteps)


def rollout_observations(buffer: RolloutBuffer, n_rows: int) -> Arrays:
    """
    :param buffer: full, before or after the algorithm flattened it.
    :param n_rows: see :func:`evenly_spaced`.
    :return: the observations of ``evenly_spaced`` rows, a dict for a Dict observation.
    """
    index = evenly_spaced(buffer, n_rows)
    observations: Any = buffer.observations
    if isinstance(observations, dict):
        return {key: array[index] for key, array in observations.items()}
    chosen: Arrays = observations[index]
    return chosen


def evenly_spaced(buffer: RolloutBuffer, n_rows: int) -> Any:
    """
    Some rows of a rollout buffer, without drawing a random number.

    :param buffer: full, before or after the algorithm flattened it.
    :param n_rows: how many at most.
    :return: an index for any of its arrays.
    """
    shape = (buffer.buffer_size, buffer.n_envs)
    n_all = math.prod(shape)
    rows = np.linspace(0, n_all - 1, min(n_rows, n_all)).astype(int)
    return rows if buffer.generator_ready else np.unravel_index(rows, shape)


def _newest(earlier: Arrays, latest: Arrays, n_rows: int) -> Arrays:
    """The last rows of both: the rollouts of A2C are shorter than a batch worth measuring."""
    if isinstance(earlier, dict):
        assert isinstance(latest, dict)
        return {key: np.concatenate([array, latest[key]])[-n_rows:] for key, array in earlier.items()}
    assert not isinstance(latest, dict)
    return np.concatenate([earlier, latest])[-n_rows:]
