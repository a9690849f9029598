"""Does a saliency map depend on what the model learned? The parameter randomisation test of Adebayo et al."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn
from tqdm.auto import tqdm

from sb3_latent.evaluation import evaluating
from sb3_latent.registry import unknown
from sb3_latent.saliency.inputs import Array, make_scene
from sb3_latent.saliency.maps import check_vector
from sb3_latent.saliency.methods import METHODS, seed_torch
from sb3_latent.saliency.scene import Scene

Randomization: TypeAlias = Literal["cascading", "independent"]
_MIN_PIXELS = 6
"""Torchmetrics reflects 5 pixels at each border, half of the window of Wang et al. 2004 for a Gaussian of 1.5 pixels."""


class LayerSimilarity(NamedTuple):
    """
    How much of the map is left, from 1 (all of it) to about 0; means over the batch.

    :param layer: the layer that was drawn anew, as ``policy.named_modules()`` has it.
    :param spearman: rank correlation of the absolute maps.
    :param spearman_signed: rank correlation of the maps with their sign.
    :param ssim: structural similarity (Wang et al. 2004) of the absolute maps of images, each scaled to [0, 1]; NaN where the
        method explains no image.
    """

    layer: str
    spearman: float
    spearman_signed: float
    ssim: float


def sanity_check(
    model: BaseAlgorithm,
    observations: Array | Mapping[str, Array],
    target: str = "value",
    method: str = "jacobian",
    randomization: Randomization = "cascading",
    seed: int = 0,
    method_kwargs: Mapping[str, Any] | None = None,
    progress_bar: bool = False,
    **situation: Any,
) -> list[LayerSimilarity]:
    """
    Draw the layers of the model anew, and compare the saliency maps with those before (Adebayo et al. 2018, arXiv:1810.03292,
    section 3). A method whose maps stay as they were shows the input, not the model.

    A layer is a module with parameters of its own that the target runs through; they are ordered from the target down to the
    observation. It is drawn anew by its own ``reset_parameters``, i.e. as torch initializes it; one without that gets normal
    numbers of the mean and deviation that its parameters have. Actions are those that the unchanged model takes. The model
    is left as it was, see :func:`saliency`.

    :param model: see :func:`saliency`.
    :param observations: a batch.
    :param target: see :func:`saliency`.
    :param method: see :func:`saliency`.
    :param randomization: ``"cascading"``: each layer and all those above it; ``"independent"``: each layer alone.
    :param seed: of the new weights.
    :param method_kwargs: arguments of the method's class.
    :param progress_bar: show one.
    :param situation: further arguments of :func:`saliency`, e.g. ``actions`` or ``lstm_states``.
    :return: one entry for each layer, from the target down.
    :raises ValueError: as :func:`saliency`, or if the map of the model is constant, so that nothing can be compared with it.
    :raises ImportError: if SciPy or torchmetrics is not installed.
    """
    if randomization not in get_args(Randomization):
        raise ValueError(unknown("randomization", randomization, get_args(Randomization)))
    chosen = METHODS.make(method, kwargs=method_kwargs or {})
    with evaluating(model.policy):
        scene = make_scene(model, observations, target, **situation)
        check_vector(scene, method, chosen)
        before = _detached(chosen.attribute(scene))
        if any(np.ptp(row) == 0 for row in _flat(before)):
            raise ValueError(f"the {method} map of {target!r} is constant for an observation; leave that observation out.")
        similarities = []
        with _restored(scene.policy):
            layers = tqdm(_layers(scene), desc=f"{method} of {target}", unit="layer", disable=not progress_bar)
            for position, (name, layer) in enumerate(layers):
                with _restored(layer) if randomization == "independent" else nullcontext():
                    seed_torch(scene.policy.device, seed + position)
                    _draw_anew(layer)
                    similarities.append(_similarity(name, scene, before, _detached(chosen.attribute(scene))))
    return similarities


def _layers(scene: Scene) -> list[tuple[str, nn.Module]]:
    """The layers that the target runs through, last one first."""
    called: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in scene.policy.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    try:
        with th.no_grad():
            scene.answer(scene.arrays, scene.rows)
    finally:
        for hook in hooks:
            hook.remove()
    return [(name, scene.policy.get_submodule(name)) for name in reversed(list(dict.fromkeys(called)))]


@th.no_grad()
def _draw_anew(layer: nn.Module) -> None:
    reset: Any = getattr(layer, "reset_parameters", None)
    if reset is not None:
        reset()
        return
    for parameter in layer.parameters(recurse=False):
        mean, deviation = parameter.mean(), parameter.std(correction=0)
        parameter.normal_().mul_(deviation).add_(mean)


@contextmanager
def _restored(module: nn.Module) -> Iterator[None]:
    """Bit for bit, parameters and buffers. No copy of the module: SB3 cannot copy a policy with gSDE."""
    tensors = [*module.parameters(), *module.buffers()]
    values = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        with th.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)


def _detached(attributions: dict[str, th.Tensor]) -> dict[str, th.Tensor]:
    return {key: part.detach().cpu() for key, part in attributions.items()}


def _similarity(layer: str, scene: Scene, before: dict[str, th.Tensor], after: dict[str, th.Tensor]) -> LayerSimilarity:
    pairs = list(zip(_flat(before), _flat(after), strict=True))
    images = [key for key in before if scene.varied[key].n_channels is not None]
    ssims = [_ssim(before[key].abs(), after[key].abs()) for key in images]
    return LayerSimilarity(
        layer,
        float(np.mean([_spearman(abs(one), abs(other)) for one, other in pairs])),
        float(np.mean([_spearman(one, other) for one, other in pairs])),
        float(np.mean(ssims)) if ssims else float("nan"),
    )


def _flat(attributions: dict[str, th.Tensor]) -> npt.NDArray[np.floating[Any]]:
    """:return: (B, n), the keys of each observation side by side."""
    return th.cat([part.flatten(1) for part in attributions.values()], dim=1).numpy()


def _spearman(one: npt.NDArray[np.floating[Any]], other: npt.NDArray[np.floating[Any]]) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(_imported("scipy.stats").spearmanr(one, other).statistic)


def _ssim(one: th.Tensor, other: th.Tensor) -> float:
    if min(one.shape[2:]) < _MIN_PIXELS:
        return float("nan")
    metric = _imported("torchmetrics.functional.image").structural_similarity_index_measure
    return float(metric(_scaled(other), _scaled(one), data_range=1.0))


def _scaled(maps: th.Tensor) -> th.Tensor:
    """Each observation's map to [0, 1]."""
    low, high = (part.reshape(-1, 1, 1, 1) for part in maps.flatten(1).aminmax(dim=1))
    return (maps - low) / (high - low).clamp(min=th.finfo(maps.dtype).tiny)


def _imported(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise ImportError(f"sanity_check needs {package}, which is not installed: pip install 'sb3_latent[inspect]'") from None
