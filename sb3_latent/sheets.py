"""What an agent sees, on one page."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.vec_env import VecEnv

from sb3_latent.figures import Picture, contact_sheet
from sb3_latent.models import get_extractor
from sb3_latent.saliency import newest_frame, overlay, to_uint8, value_jacobian


def agent_sheet(
    model: BaseAlgorithm, env: VecEnv, path: str | Path | None = None, n_images: int = 6, every: int = 20
) -> Picture:
    """
    Let a model with a decoder of images play, and draw what it meets: frame, reconstruction, Jacobian saliency of V.

    :param model: an SB3 model with a :class:`~sb3_latent.LatentExtractor` that reconstructs one image (no Dict).
    :param env: where it plays; the first of its environments is drawn.
    :param path: PNG to write; None writes none.
    :param n_images: moments to draw.
    :param every: steps between two moments.
    :return: the sheet, (height, width, 3).
    :raises TypeError: if the model has no extractor of ours.
    :raises ValueError: if the extractor has no decoder.
    """
    observations = _moments(model, env, n_images, every)
    reconstructions = _reconstructions(model, observations)
    jacobians: Any = value_jacobian(model, observations)
    frames = [newest_frame(image) for image in observations]
    saliencies = [newest_frame(image) for image in jacobians.cpu().numpy()]
    rows = {
        "newest frame": [to_uint8(frame) for frame in frames],
        "reconstruction": [to_uint8(newest_frame(image)) for image in reconstructions],
        "|dV/dx|, above its mean in blue": [overlay(*pair) for pair in zip(frames, saliencies, strict=True)],
    }
    return contact_sheet(rows, path)


def _moments(model: BaseAlgorithm, env: VecEnv, n_images: int, every: int) -> npt.NDArray[Any]:
    observations: Any = env.reset()
    moments = []
    for _ in range(n_images):
        for _ in range(every):
            actions, _ = model.predict(observations)
            observations, *_ = env.step(actions)
        moments.append(observations[0])
    return np.stack(moments)


def _reconstructions(model: BaseAlgorithm, observations: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    policy, extractor = model.policy, get_extractor(model)
    inputs, _ = policy.obs_to_tensor(observations)
    with th.no_grad():
        latent = extractor.encode(preprocess_obs(inputs, policy.observation_space, policy.normalize_images))
        images: Any = extractor.decode(latent.mean)
    return np.asarray(images.clamp(0, 1).cpu().numpy(), np.float32)
