"""Pictures of fewer bits, as targets of a reconstruction."""

import torch as th


def dequantization_noise(images: th.Tensor) -> th.Tensor:
    """
    Uniform noise for :func:`quantize`: bytes, eight from a random number, in a quarter of the time of ``th.rand``. With 5
    bits it is finer than the byte that a pixel was by a factor of 32 (deviation: the authors draw floats).

    :param images: (...), dense in memory.
    :return: the same shape and layout, k / 256 with k uniform in 0 to 255.
    """
    words = th.empty(-(-images.numel() // 8), dtype=th.int64, device=images.device).random_(-(2**63), None)
    noise = words.view(th.uint8)[: images.numel()].as_strided(images.shape, images.stride())
    return noise.to(images.dtype).div_(256)


def quantize(images: th.Tensor, bits: int, noise: th.Tensor) -> th.Tensor:
    """
    Keep the highest bits of each byte, spread by noise over what the others could have been and centred (SAC+AE, Yarats
    et al. 2019, arXiv:1910.01741; authors' ``utils.py``, ``preprocess_obs``; the noise as in Kingma & Dhariwal 2018,
    arXiv:1807.03039).

    :param images: (...), bytes / 255, in [0, 1].
    :param bits: how many to keep, 1 to 8.
    :param noise: the same shape, uniform in [0, 1).
    :return: (...), floor(byte / 2^(8 - bits)) / 2^bits + noise / 2^bits - 0.5, in [-0.5, 0.5].
    """
    # Pixels that somebody else scaled may miss the byte by a rounding, which `floor` would make a whole step.
    kept = (images * 255).round_().mul_(2.0 ** (bits - 8)).floor_()
    return kept.add_(noise).mul_(2.0**-bits).sub_(0.5)
