"""Pure functions of tensors. Every loss sums over features and returns one value a row."""

from sb3_latent.losses.contrast import info_nce
from sb3_latent.losses.quantization import dequantization_noise, quantize
from sb3_latent.losses.reconstruction import bernoulli_nll, gaussian_nll, squared_error
from sb3_latent.losses.regularization import free_bits_kl, gaussian_kl, latent_l2

__all__ = [
    "bernoulli_nll",
    "dequantization_noise",
    "free_bits_kl",
    "gaussian_kl",
    "gaussian_nll",
    "info_nce",
    "latent_l2",
    "quantize",
    "squared_error",
]
