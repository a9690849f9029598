"""Methods that Captum brings (Kokhlikyan et al. 2020, arXiv:2009.07896), set as their authors publish them."""

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch as th
from torch import nn

from sb3_latent.checks import whole_number
from sb3_latent.saliency.methods import MAX_ROWS, METHODS, Method, seed_torch
from sb3_latent.saliency.scene import Scene


@METHODS.register("smoothgrad")
class SmoothGrad(Method):
    """
    The mean gradient over noisy copies (Smilkov et al. 2017, arXiv:1706.03825, eq. 1).

    :param n_samples: noisy copies; 25 as in the authors' code (PAIR ``saliency``, ``base.py``). The paper's figures take 50.
    :param noise: standard deviation of the noise, in shares of the range (largest minus smallest value) of that array of that
        observation; 0.15 as in the authors' code.
    :param squared: the mean of the squared gradients, which the authors' code takes by default, instead of the paper's mean.
    :param seed: of the noise.
    :raises ValueError: if a number is out of range.
    """

    def __init__(self, n_samples: int = 25, noise: float = 0.15, squared: bool = False, seed: int = 0) -> None:
        if noise < 0:
            raise ValueError(f"noise={noise} must not be negative.")
        self.n_samples = whole_number("n_samples", n_samples)
        self.noise, self.squared, self.seed = noise, squared, seed

    def attribute(self, scene: Scene) -> dict[str, th.Tensor]:
        captum = _captum()
        scene.gradients()
        # Captum has one standard deviation for a whole batch; in units of each row's own range it is the same for all.
        arrays = scene.arrays
        ranges = {key: _ranges(array) for key, array in arrays.items()}
        model = CaptumModel(scene, lambda key, noise, rows: arrays[key][rows] + noise * ranges[key][rows])
        seed_torch(scene.policy.device, self.seed)
        attributions = captum.NoiseTunnel(captum.Saliency(model)).attribute(
            tuple(th.zeros_like(array) for array in arrays.values()),
            nt_type="smoothgrad_sq" if self.squared else "smoothgrad",
            nt_samples=self.n_samples,
            nt_samples_batch_size=min(self.n_samples, max(1, MAX_ROWS // len(scene.rows))),
            stdevs=float(self.noise),
            abs=False,
            additional_forward_args=(scene.rows,),
        )
        power = 2 if self.squared else 1
        return {key: part / ranges[key] ** power for key, part in zip(ranges, attributions, strict=True)}


@METHODS.register("integrated_gradients")
class IntegratedGradients(Method):
    """
    The gradient along the straight line from a baseline, times the way (Sundararajan et al. 2017, arXiv:1703.01365). With its
    sign it adds up to the target of the observation minus that of the baseline.

    :param n_steps: points of the Gauss-Legendre rule; 50 as in Captum (the paper: 20 to 300 are enough).
    :param baseline: value of every entry of the baseline, in raw units; 0, black, as in the paper.
    :raises ValueError: if ``n_steps`` is no positive integer.
    """

    def __init__(self, n_steps: int = 50, baseline: float = 0.0) -> None:
        self.n_steps = whole_number("n_steps", n_steps)
        self.baseline = float(baseline)

    def attribute(self, scene: Scene) -> dict[str, th.Tensor]:
        captum = _captum()
        scene.gradients()
        attributions = captum.IntegratedGradients(CaptumModel(scene)).attribute(
            tuple(scene.arrays.values()),
            baselines=tuple(self.baseline for _ in scene.arrays),
            n_steps=self.n_steps,
            internal_batch_size=max(MAX_ROWS, len(scene.rows)),
            additional_forward_args=(scene.rows,),
        )
        return {key: part.float() for key, part in zip(scene.arrays, attributions, strict=True)}


@METHODS.register("guided_backprop")
class GuidedBackprop(Method):
    """
    The gradient without what is negative at a ReLU (Springenberg et al. 2014, arXiv:1412.6806). Only ``nn.ReLU`` modules can
    be guided. Adebayo et al. 2018 (arXiv:1810.03292) find that it shows edges of the input rather than the model.
    """

    def attribute(self, scene: Scene) -> dict[str, th.Tensor]:
        captum = _captum()
        if not any(isinstance(module, nn.ReLU) for module in scene.policy.modules()):
            raise ValueError(
                f"guided_backprop guides nn.ReLU modules, and {type(scene.policy).__name__} has none; take method='jacobian'."
            )
        scene.gradients()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting backward hooks on ReLU")
            attributions = captum.GuidedBackprop(CaptumModel(scene)).attribute(
                tuple(array.detach().requires_grad_(True) for array in scene.arrays.values()),
                additional_forward_args=(scene.rows,),
            )
        return dict(zip(scene.arrays, attributions, strict=True))


@METHODS.register("occlusion")
class Occlusion(Method):
    """
    How far the target falls when a patch is covered, frame by frame (Zeiler & Fergus 2013, arXiv:1311.2901, section 4.2); the
    mean over the patches that cover a pixel. Entries of a vector are covered one at a time. Needs no gradient.

    :param patch: height and width of the patch in pixels. Own choice: 8, about a tenth of an Atari frame, as is the stride.
    :param stride: pixels between two patches.
    :param baseline: what covers, in raw units. Own choice: 0, black, the background of most games; the paper takes grey.
    :raises ValueError: if a size is no positive integer, or the stride leaves gaps.
    """

    def __init__(self, patch: int = 8, stride: int = 4, baseline: float = 0.0) -> None:
        self.patch, self.stride = whole_number("patch", patch), whole_number("stride", stride)
        if self.stride > self.patch:
            raise ValueError(f"stride={stride} leaves pixels uncovered; use at most patch={patch}.")
        self.baseline = float(baseline)

    def attribute(self, scene: Scene) -> dict[str, th.Tensor]:
        captum = _captum()
        windows = tuple(self._window(varied.array, varied.n_channels, self.patch) for varied in scene.varied.values())
        strides = tuple(self._window(varied.array, varied.n_channels, self.stride) for varied in scene.varied.values())
        with th.no_grad():
            attributions = captum.Occlusion(CaptumModel(scene)).attribute(
                tuple(scene.arrays.values()),
                sliding_window_shapes=windows,
                strides=strides,
                baselines=tuple(self.baseline for _ in windows),
                perturbations_per_eval=max(1, MAX_ROWS // len(scene.rows)),
                additional_forward_args=(scene.rows,),
            )
        return dict(zip(scene.arrays, attributions, strict=True))

    def _window(self, array: th.Tensor, n_channels: int | None, size: int) -> tuple[int, ...]:
        if n_channels is None:
            return (1,) * (array.dim() - 1)
        height, width = array.shape[2:]
        return n_channels, min(size, height), min(size, width)


class CaptumModel(nn.Module):
    """
    The target as a module of positional arrays, the last of which says which rows of the batch they were made of: Captum
    repeats rows, and repeats that array along with them.

    :param scene: the batch and the target.
    :param raw: from the key of an array, what Captum varies of it and the rows to the array itself; None where it is the same.
    """

    def __init__(self, scene: Scene, raw: Callable[[str, th.Tensor, th.Tensor], th.Tensor] | None = None) -> None:
        super().__init__()
        self.policy = scene.policy
        self.scene = scene
        self.raw = raw

    def forward(self, *arguments: th.Tensor) -> th.Tensor:
        """
        :param arguments: (n, ...) each, and (n,) rows.
        :return: (n,).
        """
        *arrays, rows = arguments
        named = dict(zip(self.scene.varied, arrays, strict=True))
        raw = named if self.raw is None else {key: self.raw(key, array, rows) for key, array in named.items()}
        answer = self.scene.answer(raw, rows)
        # Captum wants a gradient of every array, also of one that the target does not read.
        return answer + sum(array.flatten(1)[:, :0].sum(1) for array in arrays)


def _captum() -> Any:
    try:
        return import_module("captum.attr")
    except ImportError:
        raise ImportError(
            "this saliency method needs Captum, which is not installed: pip install 'sb3_latent[inspect]'"
        ) from None


def _ranges(array: th.Tensor) -> th.Tensor:
    """(B, 1, ...), the range of each row; next to nothing for a constant one, so that it gets no noise but has a gradient."""
    low, high = array.flatten(1).aminmax(dim=1)
    ranges = (high - low).reshape(-1, *[1] * (array.dim() - 1))
    return ranges.clamp(min=1e-6)
