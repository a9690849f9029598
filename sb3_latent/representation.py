"""How healthy a representation is: numbers from a batch of latents and activations, and a verdict."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch as th
from torch import nn

from sb3_latent.losses import gaussian_kl
from sb3_latent.types import Latent

ACTIVE_VARIANCE = 0.01
"""Burda et al. 2016, arXiv:1509.00519, section 5.2."""

DORMANT_TAU = 0.1
"""Sokar et al. 2023, arXiv:2302.12902, are said to use 0.025 and 0.1 (unverified; the default of their code is 0)."""

MIN_KL = 0.1
"""Nats. The KL bounds what a latent can tell of its observation; own choice: less than a seventh of a bit tells nothing."""

MIN_SPREAD = 1e-3
"""Standard deviation over length of the latents of a deterministic head, whose scale is arbitrary. Own choice."""


def kl_per_dimension(latent: Latent) -> th.Tensor:
    """
    KL of the posterior from N(0, I), in nats.

    :param latent: mean and log variance, (B, n) each.
    :return: (n,), mean over the batch.
    :raises ValueError: if the head is deterministic.
    """
    if latent.log_var is None:
        raise ValueError("a deterministic head has no posterior and thus no KL; use head='gaussian'.")
    return gaussian_kl(latent.mean, latent.log_var).mean(0)


def active_units(mean: th.Tensor, threshold: float = ACTIVE_VARIANCE) -> int:
    """
    Dimensions of the latent that depend on the observation (Burda et al. 2016, arXiv:1509.00519, section 5.2).

    :param mean: (B, n), posterior means.
    :param threshold: variance over the batch that a dimension must exceed, in squared units of the latent.
    :return: how many exceed it.
    """
    return int((mean.var(0, correction=0) > threshold).sum())


def effective_rank(latent: th.Tensor) -> float:
    """
    Exponential of the entropy of the normalised singular values (Roy & Vetterli 2007, "The effective rank: a measure of
    effective dimensionality"), of the centred latents: a constant is no dimension.

    :param latent: (B, n).
    :return: between 1 and n; 0 where all rows are equal.
    """
    rows = latent.double()
    singular = th.linalg.svdvals(rows - rows.mean(0))
    # Below this a singular value is rounding error (numpy's matrix_rank); equal rows would get the rank of noise.
    tolerance = max(rows.shape) * th.finfo(rows.dtype).eps * rows.norm()
    singular = singular[singular > tolerance]
    shares = singular / singular.sum()
    return float(th.exp(-(shares * shares.log()).sum())) if len(singular) else 0.0


def dead_units(activations: th.Tensor) -> th.Tensor:
    """
    Units that are zero on the whole batch: dormant in the sense of Sokar et al. 2023, arXiv:2302.12902, with tau = 0. A unit
    of a convolution is a feature map, as in the authors' code (dopamine, ``labs/redo``).

    :param activations: (B, n) or (B, n, ...), outputs of a ReLU.
    :return: (n,), boolean.
    """
    return ~activations.transpose(0, 1).flatten(1).any(1)


def dormancy(activations: th.Tensor) -> th.Tensor:
    """
    How active each unit is beside the others of its layer (Sokar et al. 2023, arXiv:2302.12902): the mean of its
    absolute activation over the batch, and over the positions of a feature map, divided by the mean over units.

    :param activations: (B, n) or (B, n, ...), outputs of a layer's activation function, not of the last layer.
    :return: (n,), of mean 1; zeros where the whole layer is silent.
    """
    strength = activations.abs().transpose(0, 1).flatten(1).mean(1)
    return strength / strength.mean().clamp_min(th.finfo(strength.dtype).tiny)


def dormant_units(activations: th.Tensor, tau: float = DORMANT_TAU) -> th.Tensor:
    """
    Units that are nearly silent on the batch: tau-dormant in the sense of Sokar et al. 2023, arXiv:2302.12902. With ``tau=0``
    those are the :func:`dead_units`.

    :param activations: as for :func:`dormancy`.
    :param tau: largest score of a dormant unit, at least 0.
    :return: (n,), boolean.
    :raises ValueError: if tau is negative.
    """
    if not tau >= 0:
        raise ValueError(f"tau={tau} must be at least 0, e.g. 0.025 or 0.1.")
    return dormancy(activations) <= tau


def dormant_share(outputs: Mapping[str, th.Tensor], tau: float = DORMANT_TAU) -> float:
    """
    Share of the dormant units in a network, each layer judged by itself.

    :param outputs: layer -> activations, as :func:`relu_outputs` yields them.
    :param tau: as for :func:`dormant_units`.
    :return: between 0 and 1.
    :raises ValueError: if there are no layers or tau is negative.
    """
    if not outputs:
        raise ValueError("no outputs to look at; run a module that has nn.ReLU within relu_outputs(module).")
    dormant = [dormant_units(activations, tau) for activations in outputs.values()]
    return float(th.cat(dormant).float().mean())


@contextmanager
def relu_outputs(module: nn.Module) -> Iterator[dict[str, th.Tensor]]:
    """
    Watch every ``nn.ReLU`` of a module.

    :param module: runs within the context.
    :return: a context manager that yields a dict: name of the ReLU -> its latest output.
    """
    outputs: dict[str, th.Tensor] = {}

    def keep(name: str, output: th.Tensor) -> None:
        outputs[name] = output.detach()

    handles = [
        part.register_forward_hook(lambda _module, _inputs, output, name=name: keep(name, output))
        for name, part in module.named_modules()
        if isinstance(part, nn.ReLU)
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def collapse(latent: Latent) -> str | None:
    """
    Whether the latent still tells observations apart.

    :param latent: of a batch of different observations, (B, n) each part.
    :return: what is wrong, or None for a healthy latent.
    """
    if latent.log_var is None:
        centred = latent.mean - latent.mean.mean(0)
        spread = float(centred.norm() / latent.mean.norm().clamp_min(th.finfo(latent.mean.dtype).tiny))
        return f"latents differ by {spread:.1g} of their length only" if spread < MIN_SPREAD else None
    kl = float(kl_per_dimension(latent).sum())
    if kl < MIN_KL:
        return f"the posterior is the prior, their KL is {kl:.2g} nats"
    if active_units(latent.mean) == 0:
        return f"no unit is active, i.e. the mean of none varies by more than {ACTIVE_VARIANCE} in variance"
    return None
