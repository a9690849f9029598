"""What the decoder makes of the observations, while it learns."""

from pathlib import Path

import torch as th
from stable_baselines3.common.logger import Image

from sb3_latent.callbacks.base import TEXT_FORMATS, ObservingCallback
from sb3_latent.checks import whole_number
from sb3_latent.evaluation import evaluating
from sb3_latent.extractor import LatentExtractor
from sb3_latent.figures import Picture, contact_sheet
from sb3_latent.models import get_extractor
from sb3_latent.saliency import newest_pictures
from sb3_latent.types import Observations


class ReconstructionCallback(ObservingCallback):
    """
    Draws the newest frames of observations over their reconstructions from the mean of the latent.

    Logs the sheet ``reconstruction/images`` to TensorBoard and ``reconstruction/mse``, the mean squared error of the images
    drawn, per pixel and channel in [0, 1]; a Dict observation has one ``reconstruction/mse/<key>`` per image.

    :param every: environment steps between two sheets. Own choice, as in ``JacobianSaliencyCallback``.
    :param n_images: how many observations to draw.
    :param folder: where to write ``reconstruction_<steps>.png``; None writes none.
    :param n_channels: channels of one frame, see :func:`~sb3_latent.saliency.newest_frame`; ``per_frame`` knows it itself.
    :param verbose: 1 prints the name of each file.
    :raises ValueError: if a number is not a positive integer.
    """

    def __init__(
        self,
        every: int = 10_000,
        n_images: int = 8,
        folder: str | Path | None = None,
        n_channels: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(every, whole_number("n_images", n_images), verbose)
        self.folder = None if folder is None else Path(folder)
        self.n_channels = n_channels

    @property
    def extractor(self) -> LatentExtractor:
        return get_extractor(self.model)

    def _init_callback(self) -> None:
        """
        :raises TypeError: if the model has no encoder.
        :raises ValueError: if it has no decoder of images, or ``n_channels`` does not fit.
        """
        with evaluating(self.model.policy), th.no_grad():
            nothing = th.zeros(1, self.extractor.features_dim, device=self.model.device)
            images = self._images(self.extractor.decode(nothing))
        if not images:
            raise ValueError("ReconstructionCallback draws images, but only vectors are reconstructed; leave it out.")
        for name, image in images.items():
            self._newest_frames(name, image)

    def _look(self, observations: Observations) -> None:
        rows: dict[str, list[Picture]] = {}
        targets = self._images(observations)
        for name, reconstruction in self._images(self.extractor.decode(self.extractor.encode(observations).mean)).items():
            suffix, prefix = (f"/{name}", f"{name}: ") if len(self.extractor.encoders) > 1 else ("", "")
            error = float((reconstruction - targets[name]).square().mean())
            self._record(f"reconstruction/mse{suffix}", error)
            rows[f"{prefix}newest frame"] = self._newest_frames(name, targets[name])
            rows[f"{prefix}reconstruction"] = self._newest_frames(name, reconstruction)
        path = None if self.folder is None else self.folder / f"reconstruction_{self.num_timesteps}.png"
        sheet = contact_sheet(rows, path)
        self.logger.record("reconstruction/images", Image(sheet, "HWC"), exclude=TEXT_FORMATS)
        if self.verbose >= 1 and path is not None:
            print(f"Reconstructions written to {path}")

    def _images(self, arrays: Observations) -> dict[str, th.Tensor]:
        named = arrays if isinstance(arrays, dict) else {"observation": arrays}
        return {name: array for name, array in named.items() if self.extractor.encoders.specs[name].is_image}

    def _newest_frames(self, name: str, images: th.Tensor) -> list[Picture]:
        """(B, C, H, W) or (B, H, W, C), any values -> B pictures, cut off at black and white."""
        spec = self.extractor.encoders.specs[name]
        n_channels = self.n_channels
        if n_channels is None and spec.n_frames > 1:
            n_channels = spec.frame_shape[0]
        return newest_pictures(images, n_channels)
