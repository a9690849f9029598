"""The way of an episode through the latent space, in two dimensions."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_latent.episodes import Episode

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trajectory:
    """
    :param coordinates: (T, 2), projections on the principal components; the second is zero where there is only one.
    :param explained: (2,), share of the latents' variance that each holds.
    """

    coordinates: Floats
    explained: Floats


def trajectory(model: BaseAlgorithm, episode: Episode) -> Trajectory:
    """
    Project the latents of an episode on their two principal components.

    :param model: any of SB3, with or without an extractor of ours; its latents are what the value's layers read.
    :param episode: of at least two moments.
    :return: the coordinates, in the order of time.
    :raises ValueError: if the episode is shorter, or its latents are all the same.
    :raises TypeError: if the model has no features extractor.
    :raises ImportError: if scikit-learn is missing.
    """
    # They need the extra `inspect`, the rest of this package does not.
    from sb3_latent.probes import encode

    from sklearn.decomposition import PCA  # type: ignore[import-untyped]  # isort: skip  # scikit-learn has no types

    if len(episode) < 2:
        raise ValueError(f"an episode of {len(episode)} moments has no way to draw; play at least two.")
    latents = encode(model, episode.observations, model.observation_space)
    if not np.ptp(latents, axis=0).any():
        raise ValueError(f"the latents of all {len(episode)} moments are the same: the encoder does not see what happens.")
    # A latent of one dimension has one component.
    padded = np.pad(latents, ((0, 0), (0, max(0, 2 - latents.shape[1]))))
    fitted = PCA(2, svd_solver="full").fit(padded)
    return Trajectory(fitted.transform(padded), fitted.explained_variance_ratio_)
