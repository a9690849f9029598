"""Reconstruction losses: one value a row, summed over features. Means over the batch are taken elsewhere, once."""

import math

import torch as th
from torch.nn import functional as F


def squared_error(prediction: th.Tensor, target: th.Tensor) -> th.Tensor:
    """
    Sum of squared differences: a Gaussian likelihood of variance 1/2 up to a constant.

    :param prediction: (B, ...).
    :param target: the same shape.
    :return: (B,), in squared units of the input.
    :raises ValueError: if the shapes differ.
    """
    _check_shapes(prediction, target)
    return _sum_features(F.mse_loss(prediction, target, reduction="none"))


def bernoulli_nll(logits: th.Tensor, target: th.Tensor) -> th.Tensor:
    """
    Negative log likelihood of a Bernoulli per feature, in nats.

    :param logits: (B, ...), before the sigmoid.
    :param target: the same shape, in [0, 1].
    :return: (B,).
    :raises ValueError: if the shapes differ.
    """
    _check_shapes(logits, target)
    return _sum_features(F.binary_cross_entropy_with_logits(logits, target, reduction="none"))


def gaussian_nll(mean: th.Tensor, target: th.Tensor, log_std: th.Tensor) -> th.Tensor:
    """
    Negative log likelihood of an isotropic Gaussian, in nats, constants included.

    :param mean: (B, ...).
    :param target: the same shape.
    :param log_std: scalar, log of the standard deviation in units of the input.
    :return: (B,).
    :raises ValueError: if the shapes differ.
    """
    _check_shapes(mean, target)
    standardised = (target - mean) * th.exp(-log_std)
    return _sum_features(0.5 * standardised.square() + log_std + 0.5 * math.log(2 * math.pi))


def _sum_features(losses: th.Tensor) -> th.Tensor:
    """Without `flatten`, which would copy a picture whose channels lie last in memory."""
    return losses.sum(dim=tuple(range(1, losses.dim())))


def _check_shapes(prediction: th.Tensor, target: th.Tensor) -> None:
    if prediction.shape != target.shape or prediction.dim() < 2:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must share one shape (B, ...)."
        )
