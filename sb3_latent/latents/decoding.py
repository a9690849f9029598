"""What the decoder makes of latents: of those of observations, of one dimension varied, of the way between two."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import preprocess_obs

from sb3_latent.checks import whole_number
from sb3_latent.evaluation import evaluating
from sb3_latent.extractor import LatentExtractor
from sb3_latent.models import get_extractor
from sb3_latent.representation import kl_per_dimension
from sb3_latent.saliency import newest_pictures
from sb3_latent.types import Latent, Observations

RawObservations: TypeAlias = npt.NDArray[Any] | dict[str, npt.NDArray[Any]]
Pictures: TypeAlias = npt.NDArray[np.uint8] | dict[str, npt.NDArray[np.uint8]]
"""Newest frames, (..., H, W, C) with C of 1 or 3; for Dict observations a dict of the images that are reconstructed."""

BATCH_SIZE = 256

RANGE = (-3.0, 3.0)
"""Standard deviations of the prior; figure 1 of beta-VAE (Higgins et al. 2017, "beta-VAE: Learning basic visual concepts")."""

N_VALUES = 7
"""Whole standard deviations between the ends. Own choice."""

N_DIMENSIONS = 8
"""How many a page holds. Own choice."""


def reconstruction(model: BaseAlgorithm, observations: RawObservations, n_channels: int | None = None) -> Pictures:
    """
    Encode observations and decode the means. Like everything here it leaves parameters, flags and random states as they were.

    :param model: an SB3 model with a :class:`~sb3_latent.LatentExtractor` that reconstructs images; where actor and critic
        have one each, it is the critic's.
    :param observations: (B, ...), raw, as a ``VecEnv`` returns them; a dict of arrays for Dict observations.
    :param n_channels: channels of one frame, see :func:`~sb3_latent.saliency.newest_frame`; ``per_frame`` knows it itself.
    :return: (B, H, W, C).
    :raises TypeError: if the model has no extractor of ours.
    :raises ValueError: if it reconstructs no image.
    """
    return _decoded(model, latents_of(model, observations).mean, (), n_channels)


def informative_dimensions(model: BaseAlgorithm, observations: RawObservations, n: int = N_DIMENSIONS) -> list[int]:
    """
    The dimensions that tell most about the newest frame: those of largest KL from the prior for a Gaussian head, of largest
    variance of the code for a deterministic one. Those of vectors, and with ``per_frame`` of older frames, change no picture.

    :param model: as for :func:`reconstruction`.
    :param observations: a batch, raw; one is enough for a Gaussian head.
    :param n: how many at most.
    :return: their indices in the features, the largest first.
    :raises TypeError: as for :func:`reconstruction`.
    :raises ValueError: likewise, or if a deterministic head meets one observation only.
    """
    latent = latents_of(model, observations)
    return _informative(get_extractor(model), latent, whole_number("n", n))


def traversal(
    model: BaseAlgorithm,
    observations: RawObservations,
    dimensions: Sequence[int] | None = None,
    values: Sequence[float] | None = None,
    n_values: int = N_VALUES,
    n_channels: int | None = None,
) -> Pictures:
    """
    Encode the first observation, replace one dimension of its mean by other values, and decode, as in figure 1 of beta-VAE
    (Higgins et al. 2017).

    Values are in units of the prior's standard deviation. A deterministic head has no prior: its unit is the standard
    deviation of the dimension over the batch, around its mean there.

    :param model: as for :func:`reconstruction`.
    :param observations: a batch, raw. The first one is varied; all of them choose dimensions and give a deterministic head
        its units.
    :param dimensions: which; None takes :func:`informative_dimensions`.
    :param values: what replaces each dimension; None takes ``n_values`` from -3 to 3.
    :param n_values: as many, with ``values=None``.
    :param n_channels: as for :func:`reconstruction`.
    :return: (n_dimensions, n_values, H, W, C).
    :raises TypeError: as for :func:`reconstruction`.
    :raises ValueError: likewise, if a dimension does not exist, or a deterministic head meets one observation only.
    """
    extractor, latent = get_extractor(model), latents_of(model, observations)
    chosen = _informative(extractor, latent, N_DIMENSIONS) if dimensions is None else list(dimensions)
    for dimension in chosen:
        if whole_number("dimension", dimension, 0) >= extractor.features_dim:
            raise ValueError(f"dimension={dimension}: the latent has dimensions 0 to {extractor.features_dim - 1}.")
    centres, units = _prior(latent)
    index = th.as_tensor(chosen, device=latent.mean.device)
    steps = latent.mean.new_tensor(traversal_values(values, n_values))
    z = latent.mean[0].repeat(len(chosen), len(steps), 1)
    # Row i gets its own values in column index[i].
    replaced = centres[index, None] + units[index, None] * steps
    z.scatter_(2, index[:, None, None].expand(-1, len(steps), 1), replaced[..., None])
    return _decoded(model, z.flatten(0, 1), (len(chosen), len(steps)), n_channels)


def interpolation(
    model: BaseAlgorithm, first: RawObservations, second: RawObservations, n: int = N_VALUES, n_channels: int | None = None
) -> Pictures:
    """
    Decode the straight way from the mean of one observation to that of another.

    :param model: as for :func:`reconstruction`.
    :param first: one observation, raw, with or without a batch axis.
    :param second: likewise.
    :param n: pictures, both ends included.
    :param n_channels: as for :func:`reconstruction`.
    :return: (n, H, W, C).
    :raises TypeError: as for :func:`reconstruction`.
    :raises ValueError: likewise, or if ``n`` is less than 2.
    """
    start, end = (latents_of(model, one).mean[:1] for one in (first, second))
    way = th.linspace(0, 1, whole_number("n", n, 2), device=start.device)[:, None]
    return _decoded(model, th.lerp(start, end, way), (), n_channels)


def traversal_values(values: Sequence[float] | None = None, n_values: int = N_VALUES) -> list[float]:
    """
    :param values: as for :func:`traversal`.
    :param n_values: likewise.
    :return: the values that a dimension takes there.
    :raises ValueError: if there is none, or ``n_values`` is less than 2.
    """
    if values is None:
        return [float(value) for value in np.linspace(*RANGE, whole_number("n_values", n_values, 2))]
    if not len(values):
        raise ValueError("values=[] varies nothing; pass numbers, e.g. [-3, 0, 3], or None.")
    return [float(value) for value in values]


def latents_of(model: BaseAlgorithm, observations: RawObservations) -> Latent:
    """
    :param model: as for :func:`reconstruction`.
    :param observations: (B, ...), raw, or one.
    :return: (B, features_dim) each part.
    :raises TypeError: if the model has no extractor of ours.
    """
    extractor, policy = get_extractor(model), model.policy
    with evaluating(policy), th.no_grad():
        inputs, _ = policy.obs_to_tensor(observations)
        parts = [
            extractor.encode(preprocess_obs(batch, policy.observation_space, policy.normalize_images))
            for batch in _batches(inputs)
        ]
    log_vars = [part.log_var for part in parts if part.log_var is not None]
    return Latent(th.cat([part.mean for part in parts]), th.cat(log_vars) if log_vars else None)


def _decoded(model: BaseAlgorithm, z: th.Tensor, axes: tuple[int, ...], n_channels: int | None) -> Pictures:
    """(n, features_dim) -> (*axes, H, W, C), or (n, H, W, C) where ``axes`` is empty."""
    extractor = get_extractor(model)
    drawn: dict[str, list[npt.NDArray[np.uint8]]] = {}
    with evaluating(model.policy), th.no_grad():
        for batch in th.split(z, BATCH_SIZE):
            for name, images in _images(extractor, extractor.decode(batch)).items():
                spec = extractor.encoders.specs[name]
                of_frame = spec.frame_shape[0] if n_channels is None and spec.n_frames > 1 else n_channels
                drawn.setdefault(name, []).extend(newest_pictures(images, of_frame))
    shaped = {name: _shaped(np.stack(pictures), axes) for name, pictures in drawn.items()}
    return shaped if extractor.encoders.is_dict else next(iter(shaped.values()))


def _shaped(pictures: npt.NDArray[np.uint8], axes: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    return pictures.reshape(*(axes or (-1,)), *pictures.shape[1:])


def _images(extractor: LatentExtractor, decoded: Observations) -> dict[str, th.Tensor]:
    named = decoded if isinstance(decoded, dict) else {"observation": decoded}
    images = {name: array for name, array in named.items() if extractor.encoders.specs[name].is_image}
    if not images:
        raise ValueError("the model reconstructs vectors only, and no image; nothing to draw.")
    return images


def _informative(extractor: LatentExtractor, latent: Latent, n: int) -> list[int]:
    if latent.log_var is not None:
        told = kl_per_dimension(latent)
    else:
        told = _prior(latent)[1]
    with evaluating(extractor), th.no_grad():
        names = _images(extractor, extractor.decode(latent.mean[:1]))
    ends = np.cumsum(extractor.encoders.widths).tolist()
    # With `per_frame`, the newest frame is decoded from the last latent of its key.
    drawn = {
        dimension
        for name, end in zip(extractor.encoders, ends, strict=True)
        if name in names
        for dimension in range(end - extractor.encoders[name].latent_dim, end)
    }
    ranked = told.argsort(descending=True, stable=True).tolist()
    return [dimension for dimension in ranked if dimension in drawn][:n]


def _prior(latent: Latent) -> tuple[th.Tensor, th.Tensor]:
    """Mean and standard deviation of each dimension, (n,) each."""
    if latent.log_var is not None:
        return th.zeros_like(latent.mean[0]), th.ones_like(latent.mean[0])
    if len(latent.mean) < 2:
        raise ValueError("a deterministic head has no prior that gives a latent its scale; pass a batch of observations.")
    return latent.mean.mean(0), latent.mean.std(0)


def _batches(inputs: Observations) -> Iterator[Observations]:
    if isinstance(inputs, th.Tensor):
        yield from th.split(inputs, BATCH_SIZE)
        return
    parts = {key: th.split(array, BATCH_SIZE) for key, array in inputs.items()}
    for i in range(len(next(iter(parts.values())))):
        yield {key: split[i] for key, split in parts.items()}
