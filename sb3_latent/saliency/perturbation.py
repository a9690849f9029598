"""Perturbation saliency: blur a spot, and see how far the answer moves."""

from importlib import import_module
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from torch.nn import functional as F

from sb3_latent.checks import whole_number
from sb3_latent.saliency.methods import MAX_ROWS, METHODS, Method
from sb3_latent.saliency.scene import Scene


@METHODS.register("perturbation")
class Perturbation(Method):
    """
    Half the squared distance that the answer moves when information around a point is blurred away, at the points of a grid,
    interpolated bilinearly (Greydanus et al. 2017, arXiv:1711.00138, eqs. 1 to 3). With target ``"logit/*"`` it is their map
    of the actor, with ``"value"`` that of the critic. Frames of a stack are blurred one at a time, where the authors have
    single frames and an LSTM. Maps are made of images only. Needs no gradient, and knows no sign.

    Defaults are those of the authors' code (``visualize_atari``, for frames of 80x80). Deviation: the last point of the grid
    lies on the last row and column, where theirs stops short of them.

    :param stride: pixels between two points.
    :param mask_sigma: standard deviation of the spot in pixels: a disc of radius 1, blurred and scaled to a maximum of 1.
    :param blur_sigma: standard deviation of the blur of the image in pixels.
    :raises ValueError: if a size is out of range.
    """

    takes_vectors = True

    def __init__(self, stride: int = 5, mask_sigma: float = 5.0, blur_sigma: float = 3.0) -> None:
        self.stride = whole_number("stride", stride)
        for name, sigma in (("mask_sigma", mask_sigma), ("blur_sigma", blur_sigma)):
            if not sigma > 0:
                raise ValueError(f"{name}={sigma} must be positive.")
        self.mask_sigma, self.blur_sigma = mask_sigma, blur_sigma

    def attribute(self, scene: Scene) -> dict[str, th.Tensor]:
        """:raises ValueError: if the observation has no image."""
        images = {key: varied.n_channels for key, varied in scene.varied.items() if varied.n_channels is not None}
        if not images:
            raise ValueError(f"perturbation blurs images, but the observation is {scene.policy.observation_space}.")
        with th.no_grad():
            return {key: self._map(scene, key, n_channels) for key, n_channels in images.items()}

    def _map(self, scene: Scene, key: str, n_channels: int) -> th.Tensor:
        image = scene.arrays[key]
        n_rows, n_all_channels, height, width = image.shape
        n_frames = n_all_channels // n_channels
        grid = _centres(height, self.stride), _centres(width, self.stride)
        points = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 2)
        scores = self._scores(scene, key, points, n_frames)
        scores = scores.reshape(len(grid[0]), len(grid[1]), n_frames, n_rows).permute(3, 2, 0, 1)
        maps = F.interpolate(scores, (height, width), mode="bilinear", align_corners=True)
        return maps.repeat_interleave(n_channels, dim=1)

    def _scores(self, scene: Scene, key: str, points: npt.NDArray[np.int64], n_frames: int) -> th.Tensor:
        """
        :param points: (n_points, 2), row and column.
        :return: (n_points * n_frames, B).
        """
        arrays, rows = scene.arrays, scene.rows
        image = arrays[key]
        before = scene.answer(arrays, rows).reshape(len(rows), -1)
        change = self._blurred(image) - image
        of_frame = th.eye(n_frames).to(image).repeat_interleave(image.shape[1] // n_frames, dim=1)[..., None, None]
        scores = []
        for chunk in th.split(th.arange(len(points) * n_frames), max(1, MAX_ROWS // len(rows))):
            # Frame after frame at each point, so a chunk repeats few points: their spots are made once.
            here, spot_of = th.unique(chunk // n_frames, return_inverse=True)
            spots = self._spots(points[here.numpy()], image)[spot_of][:, None] * of_frame[chunk % n_frames]
            perturbed = (image + spots[:, None] * change).flatten(0, 1)
            repeated = rows.repeat(len(chunk))
            others = {other: array[repeated] for other, array in arrays.items() if other != key}
            after = scene.answer({**others, key: perturbed}, repeated).reshape(len(chunk), *before.shape)
            scores.append(0.5 * (after - before).square().sum(dim=-1))
        return th.cat(scores)

    def _spots(self, points: npt.NDArray[np.int64], image: th.Tensor) -> th.Tensor:
        """:return: (n_points, H, W), 1 at most."""
        y, x = points.T.reshape(2, -1, 1, 1)
        rows, columns = np.ogrid[: image.shape[2], : image.shape[3]]
        discs = ((rows - y) ** 2 + (columns - x) ** 2 <= 1).astype(np.float64)
        spots = _gaussian_filter(discs, (0, self.mask_sigma, self.mask_sigma))
        return th.as_tensor(spots / spots.max(axis=(1, 2), keepdims=True)).to(image)

    def _blurred(self, image: th.Tensor) -> th.Tensor:
        blurred = _gaussian_filter(image.cpu().numpy(), (0, 0, self.blur_sigma, self.blur_sigma))
        return th.as_tensor(blurred).to(image)


def _centres(length: int, stride: int) -> npt.NDArray[np.int64]:
    """Evenly from the first pixel to the last, at most ``stride`` apart."""
    return np.rint(np.linspace(0, length - 1, ceil((length - 1) / stride) + 1)).astype(np.int64)


def _gaussian_filter(array: npt.NDArray[np.floating[Any]], sigma: tuple[float, ...]) -> npt.NDArray[np.floating[Any]]:
    try:
        ndimage = import_module("scipy.ndimage")
    except ImportError:
        raise ImportError("perturbation needs SciPy, which is not installed: pip install 'sb3_latent[inspect]'") from None
    filtered: npt.NDArray[np.floating[Any]] = ndimage.gaussian_filter(array, sigma)
    return filtered
