"""First weights of networks, by name; for ``module.apply``."""

import math
from collections.abc import Callable, Mapping

from torch import nn


def delta_orthogonal(module: nn.Module) -> None:
    """
    SAC+AE's ``weight_init`` (Yarats et al. 2019, arXiv:1910.01741, authors' ``sac_ae.py``, after Xiao et al. 2018,
    arXiv:1806.05393): linear layers orthogonal; kernels zero but for their centre, which is orthogonal times sqrt(2);
    biases 0. Other layers stay as they are.

    :param module: one layer.
    """
    if isinstance(module, nn.Linear):
        nn.init.orthogonal_(module.weight)
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        height, width = module.kernel_size
        nn.init.zeros_(module.weight)
        nn.init.orthogonal_(module.weight.data[:, :, height // 2, width // 2], gain=math.sqrt(2))
    else:
        return
    _zero_bias(module)


def orthogonal(module: nn.Module) -> None:
    """
    DrQ's ``weight_init`` (Kostrikov et al. 2020, arXiv:2004.13649, authors' ``utils.py``): linear layers orthogonal,
    convolutions orthogonal over all their taps times sqrt(2), biases 0. Other layers stay as they are.

    :param module: one layer.
    """
    if isinstance(module, nn.Linear):
        nn.init.orthogonal_(module.weight)
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        # Through a matrix of its own: torch cannot flatten a kernel whose channels lie last in memory.
        matrix = module.weight.data.new_empty(len(module.weight), module.weight[0].numel())
        nn.init.orthogonal_(matrix, gain=math.sqrt(2))
        module.weight.data.copy_(matrix.view(module.weight.shape))
    else:
        return
    _zero_bias(module)


def xavier_uniform(module: nn.Module) -> None:
    """
    What tensorflow gives linear layers and convolutions (Glorot & Bengio 2010), and thus SLAC's and Dreamer's code:
    uniform within sqrt(6 / (fan in + fan out)), biases 0. Other layers stay as they are.

    :param module: one layer.
    """
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        _zero_bias(module)


def _zero_bias(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


INITIALIZATIONS: Mapping[str, Callable[[nn.Module], None]] = {
    "delta_orthogonal": delta_orthogonal,
    "orthogonal": orthogonal,
    "xavier_uniform": xavier_uniform,
}
"""Functions for ``module.apply``."""
