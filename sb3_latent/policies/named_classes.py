"""Classes that SB3's policies take as arguments, by name, for YAML."""

from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import nn, optim

from sb3_latent.registry import Registry

ACTIVATIONS: Registry[nn.Module] = Registry("activation_fn", nn.Module)
OPTIMIZERS: Registry[optim.Optimizer] = Registry("optimizer_class", optim.Optimizer)

for _activation in (nn.ELU, nn.GELU, nn.ReLU, nn.SiLU, nn.Tanh):
    ACTIVATIONS.register(_activation.__name__.lower())(_activation)
ACTIVATIONS.register("leaky_relu")(nn.LeakyReLU)
for _optimizer in (optim.Adam, optim.AdamW, optim.RMSprop, optim.SGD):
    OPTIMIZERS.register(_optimizer.__name__.lower())(_optimizer)
OPTIMIZERS.register("rmsprop_tf_like")(RMSpropTFLike)

_REGISTRIES: dict[str, Registry[Any]] = {registry.kind: registry for registry in (ACTIVATIONS, OPTIMIZERS)}


def with_classes(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param arguments: of a policy.
    :return: the same, with classes in place of the names of ``activation_fn`` and ``optimizer_class``: those of rl_zoo3's
        samplers and torch's own in lower case (``"relu"``, ``"adamw"``), or dotted paths (``"torch.nn.ReLU"``).
    :raises ValueError: if a name is unknown or a path leads nowhere.
    :raises TypeError: if the class is of another kind.
    """
    return {
        name: _REGISTRIES[name].get(value) if name in _REGISTRIES and isinstance(value, str) else value
        for name, value in arguments.items()
    }
