"""How a saliency map is made: the base class, the registry, and the exact Jacobian."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch as th

from sb3_latent.registry import Registry
from sb3_latent.saliency.scene import Scene

MAX_ROWS = 256
"""Rows that a method sends through the model at once. Own choice: 29 MB of 84x84x4 floats."""


class Method(ABC):
    """A way to say which inputs matter. Subclass it and register it, or name it by its dotted path."""

    takes_vectors: ClassVar[bool] = False
    """Whether it can explain a target of more than one number."""

    @abstractmethod
    def attribute(self, scene: Scene) -> dict[str, th.Tensor]:
        """
        :param scene: the batch and the target; the model is in evaluation mode, and random states are put back afterwards.
        :return: for keys of ``scene.varied``, the shape of their array; with a sign where the method knows one.
        """


def seed_torch(device: th.device, seed: int) -> None:
    """
    :param device: of the model.
    :param seed: of torch's generator there, and of no other.
    """
    if device.type == "cuda":
        with th.cuda.device(device):
            th.cuda.manual_seed(seed)
    else:
        th.default_generator.manual_seed(seed)


METHODS: Registry[Method] = Registry("saliency method", Method)


@METHODS.register("jacobian")
class Jacobian(Method):
    """
    The gradient of the target, exact, in one backward pass for the whole batch (Simonyan et al. 2013, arXiv:1312.6034; of a
    value function: Wang et al. 2016, arXiv:1511.06581, and seed document 000, section 4.4).
    """

    def attribute(self, scene: Scene) -> dict[str, th.Tensor]:
        return scene.gradients()
