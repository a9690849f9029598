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
from sb3_latent.playing import make_actor
from sb3_latent.saliency import newest_frame, newest_pictures, render, to_uint8, value_jacobian


def agent_sheet(
    model: BaseAlgorithm,
    env: VecEnv,
    path: str | Path | None = None,
    n_images: int = 6,
    every: int = 20,
    n_channels: int | None = None,
) -> Picture:
    """
    Let a model with a decoder of images play, and draw what it meets: frame, reconstruction, Jacobian saliency of V.

    :param model: an SB3 model with a :class:`~sb3_latent.LatentExtractor` that reconstructs one image (no Dict).
    :param env: where it plays; the first of its environments is drawn.
    :param path: PNG to write; None writes none.
    :param n_images: moments to draw.
    :param every: steps between two moments.
    :param n_channels: channels of one frame, see :func:`~sb3_latent.saliency.newest_frame`.
    :return: the sheet, (height, width, 3).
    :raises TypeError: if the model has no extractor of ours, or its observation is no image.
    :raises ValueError: if the extractor has no decoder.
    """
    if len(model.observation_space.shape or ()) != 3:
        raise TypeError(f"agent_sheet draws an image, but the observation is {model.observation_space}; use the callbacks.")
    observations = _moments(model, env, n_images, every)
    reconstructions = _reconstructions(model, observations)
    jacobians: Any = value_jacobian(model, observations)
    frames = [newest_frame(image, n_channels) for image in observations]
    saliencies = [newest_frame(image, n_channels) for image in jacobians.cpu().numpy()]
    rows = {
        "newest frame": [to_uint8(frame) for frame in frames],
        "reconstruction": newest_pictures(reconstructions, n_channels),
        "|dV/dx|, above its mean in blue": [render(*pair) for pair in zip(frames, saliencies, strict=True)],
    }
    return contact_sheet(rows, path)


def _moments(model: BaseAlgorithm, env: VecEnv, n_images: int, every: int) -> npt.NDArray[Any]:
    observations: Any = env.reset()
    act = make_actor(model, env, deterministic=False)
    starts, moments = np.ones(env.num_envs, dtype=bool), []
    for step in range(1, n_images * every + 1):
        observations, _, starts, _ = env.step(act(observations, starts))
        if step % every == 0:
            moments.append(observations[0])
    return np.stack(moments)


def _reconstructions(model: BaseAlgorithm, observations: npt.NDArray[Any]) -> th.Tensor:
    policy, extractor = model.policy, get_extractor(model)
    inputs, _ = policy.obs_to_tensor(observations)
    with th.no_grad():
        latent = extractor.encode(preprocess_obs(inputs, policy.observation_space, policy.normalize_images))
        images: Any = extractor.decode(latent.mean)
    assert isinstance(images, th.Tensor)
    return images
