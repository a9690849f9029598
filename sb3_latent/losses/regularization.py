"""Losses on the latent alone: one value a row, summed over dimensions."""

import torch as th


def gaussian_kl(mean: th.Tensor, log_var: th.Tensor) -> th.Tensor:
    """
    KL(N(mean, exp(log_var)) || N(0, I)) of each dimension, in nats (Kingma & Welling 2013, appendix B).

    :param mean: (B, n).
    :param log_var: (B, n).
    :return: (B, n); sum over the last axis for the divergence of a row.
    :raises ValueError: if the shapes differ.
    """
    if mean.shape != log_var.shape or mean.dim() != 2:
        raise ValueError(f"mean {tuple(mean.shape)} and log_var {tuple(log_var.shape)} must share one shape (B, n).")
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var)


def free_bits_kl(mean: th.Tensor, log_var: th.Tensor, free_bits: float) -> th.Tensor:
    """
    KL with a floor under each dimension's batch mean (Kingma et al. 2016, arXiv:1606.04934, appendix C.8):
    a dimension below the floor gets no gradient.

    :param mean: (B, n).
    :param log_var: (B, n).
    :param free_bits: the floor in nats per dimension; 0 is the plain KL.
    :return: (B,), whose batch mean is sum_j max(free_bits, mean_b KL_bj).
    """
    kl = gaussian_kl(mean, log_var)
    if free_bits == 0:
        return kl.sum(1)
    below = kl.mean(0, keepdim=True) < free_bits
    return th.where(below, kl.new_tensor(free_bits), kl).sum(1)


def latent_l2(latent: th.Tensor) -> th.Tensor:
    """
    Half the squared norm, the latent penalty of SAC+AE (Yarats et al. 2019, arXiv:1910.01741; authors' code
    ``sac_ae.py``, ``update_decoder``).

    :param latent: (B, n).
    :return: (B,).
    :raises ValueError: if the latent is no matrix.
    """
    if latent.dim() != 2:
        raise ValueError(f"latent {tuple(latent.shape)} must have shape (B, n).")
    return 0.5 * latent.square().sum(1)
