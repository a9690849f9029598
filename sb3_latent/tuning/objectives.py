"""What a trial is judged by, beside its return."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch as th
from sklearn.linear_model import Ridge  # type: ignore[import-untyped]  # scikit-learn has no types
from sklearn.metrics import r2_score  # type: ignore[import-untyped]  # no types
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.vec_env import VecEnv

from sb3_latent.evaluation import evaluating
from sb3_latent.models import get_extractor
from sb3_latent.types import Observations

Array = np.ndarray[Any, np.dtype[Any]]

N_STEPS = 1000
"""Environment steps of random play that representations are measured on. Own choice."""

_BOOKKEEPING = (
    "episode",
    "TimeLimit.truncated",
    "lives",
    "frame_number",
    "episode_frame_number",
    "seeds",
    "final_observation",
)


def elbo(model: BaseAlgorithm, env: VecEnv) -> float:
    """
    Evidence lower bound of frames of random play, in nats where reconstruction is a likelihood (``"gaussian"``,
    ``"bernoulli"``); with ``"squared_error"`` its negative stands in for the log-likelihood.

    :param model: with tasks ``recon`` and ``kl``.
    :param env: its own, for evaluation.
    :return: minus reconstruction loss minus KL, mean over frames.
    :raises ValueError: if one of the two tasks is missing.
    """
    extractor = get_extractor(model)
    labels = [label for label in extractor.tasks.labels if label.partition("/")[0] in ("recon", "kl")]
    if {label.partition("/")[0] for label in labels} != {"recon", "kl"}:
        raise ValueError(f"objective 'elbo' needs tasks 'recon' and 'kl', not {extractor.tasks.labels}; take preset 'vae'.")
    with evaluating(model.policy), th.no_grad():
        values = []
        for observations, _ in _random_play(env):
            losses = extractor.auxiliary_losses(_preprocessed(model, observations))
            values.append(-sum(float(losses[label]) for label in labels))
    return float(np.mean(values))


def probe(model: BaseAlgorithm, env: VecEnv) -> float:
    """
    How well the true state, as the environment gives it in ``info``, can be read off the latent by ridge regression.

    :param model: any that has a :class:`LatentExtractor`.
    :param env: its own, for evaluation; numbers and vectors in ``info`` are the state.
    :return: R^2 on the second half of random play, at least 0, mean over variables.
    :raises ValueError: if ``info`` holds no numbers.
    """
    latents: list[Array] = []
    states: dict[str, list[Array]] = defaultdict(list)
    extractor = get_extractor(model)
    with evaluating(model.policy), th.no_grad():
        for observations, infos in _random_play(env):
            latents.append(extractor.encode(_preprocessed(model, observations)).mean.cpu().numpy())
            for name in _state_of(infos[0]):
                states[name].append(np.array([_state_of(info)[name] for info in infos]))
    if not states:
        raise ValueError("objective 'probe' needs the true state in info, e.g. of TinyBall or DeepMind Control; take another.")
    half = len(latents) // 2
    before, after = np.concatenate(latents[:half]), np.concatenate(latents[half:])
    scores = [_r2(before, np.concatenate(rows[:half]), after, np.concatenate(rows[half:])) for rows in states.values()]
    return float(np.mean(scores))


OBJECTIVES: dict[str, Callable[[BaseAlgorithm, VecEnv], float]] = {"elbo": elbo, "probe": probe}
"""By name; ``"return"`` is the mean return of the last evaluation."""


def _r2(before: Array, labels_before: Array, after: Array, labels_after: Array) -> float:
    model = Ridge().fit(before, labels_before)
    return max(0.0, float(r2_score(labels_after, model.predict(after))))


def _random_play(env: VecEnv) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """Batches of observations with the infos of the same moments, the same ones each time."""
    env.seed(0)
    env.action_space.seed(0)
    env.reset()
    for _ in range(max(2, N_STEPS // env.num_envs)):
        observations, _, dones, infos = env.step(np.array([env.action_space.sample() for _ in range(env.num_envs)]))
        if not dones.any():
            # After an episode's end the observation is the next episode's first, and the info the last one's.
            yield observations, infos


def _preprocessed(model: BaseAlgorithm, observations: Any) -> Observations:
    tensors, _ = model.policy.obs_to_tensor(observations)
    return preprocess_obs(tensors, model.policy.observation_space, normalize_images=model.policy.normalize_images)


def _state_of(info: Mapping[str, Any]) -> dict[str, Array]:
    numbers = {name: np.asarray(value) for name, value in info.items() if name not in _BOOKKEEPING}
    return {name: value.ravel() for name, value in numbers.items() if value.dtype.kind in "fiu" and value.size}
