"""Latents of anything that encodes, and the same thing with fresh weights; whatever is looked at stays as it was."""

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import obs_as_tensor
from torch import nn

from sb3_latent.evaluation import evaluating
from sb3_latent.hooked import HookedExtractor
from sb3_latent.models import get_hooked_extractors

Array: TypeAlias = npt.NDArray[Any]
RawObservations: TypeAlias = Array | dict[str, Array]
Encoder: TypeAlias = BaseAlgorithm | BasePolicy | nn.Module | Callable[[Any], Any]
"""
An SB3 model or policy (what its features extractor returns, that of the critic where actor and critic have one each); a module
that takes observations as SB3 preprocesses them; or a function from raw observations to an array (B, n).
"""

BATCH_SIZE = 256
_FRESH = 1
_ONLINE = ("vf_features_extractor", "critic", "q_net", "quantile_net", "actor")


def policy_of(encoder: Encoder) -> BasePolicy | None:
    """
    :param encoder: any.
    :return: its policy, None where it has none.
    """
    policy = encoder.policy if isinstance(encoder, BaseAlgorithm) else encoder
    return policy if isinstance(policy, BasePolicy) else None


def features_extractor_of(policy: BasePolicy) -> nn.Module:
    """
    :param policy: of SB3 or ours.
    :return: the features extractor that the critic or value function reads.
    :raises TypeError: if there is none.
    """
    if any(isinstance(module, HookedExtractor) for module in policy.modules()):
        return get_hooked_extractors(policy)[0]
    parts = [getattr(policy, name, None) for name in _ONLINE]
    for part in [*(part for part in parts if isinstance(part, nn.Module)), policy]:
        for module in part.modules():
            if isinstance(module, BaseFeaturesExtractor):
                return module
    raise TypeError(f"{type(policy).__name__} has no features extractor; pass a module or a function of observations.")


def encode(encoder: Encoder, observations: RawObservations, space: spaces.Space[Any], seed: int = 0) -> Array:
    """
    :param encoder: any; see :data:`Encoder`.
    :param observations: (N, ...), raw, as a ``VecEnv`` returns them; a dict of arrays for a Dict space.
    :param space: of the observations.
    :param seed: of encoders that draw.
    :return: (N, n), float64.
    :raises ValueError: if the encoder returns something else, or values that are not finite.
    """
    policy = policy_of(encoder)
    function = _function(encoder, space)
    batches = []
    module = policy or (encoder if isinstance(encoder, nn.Module) else None)
    with evaluating(module, seed), th.no_grad():
        for start in range(0, n_rows(observations), BATCH_SIZE):
            batch = rows_of(observations, slice(start, start + BATCH_SIZE))
            latents = function(batch)
            batches.append(latents.cpu().numpy() if isinstance(latents, th.Tensor) else np.asarray(latents))
            if batches[-1].ndim != 2 or len(batches[-1]) != n_rows(batch):
                raise ValueError(f"the encoder makes {batches[-1].shape} of {n_rows(batch)} observations, not (B, n).")
    latents = np.concatenate(batches).astype(np.float64)
    if not np.isfinite(latents).all():
        raise ValueError("the encoder returns values that are not finite; there is nothing to probe.")
    return latents


def with_fresh_weights(encoder: Encoder, seed: int) -> Encoder | None:
    """
    The same architecture as it would start to learn, without pretrained weights: a policy is built again as SB3's ``load``
    builds it, of another module each part is asked for ``reset_parameters()``.

    :param encoder: any; left as it is.
    :param seed: of the weights.
    :return: the fresh one; None for a function, and for modules with parameters that no ``reset_parameters`` draws.
    """
    policy = policy_of(encoder)
    # Not the seed itself: a model with the same one would meet its own first weights again, chance or not.
    own_seed = int(np.random.SeedSequence([seed, _FRESH]).generate_state(1)[0])
    with evaluating(None, own_seed), th.no_grad():
        if policy is not None:
            parameters = policy._get_constructor_parameters()
            parameters.pop("pretrained", None)
            if parameters.get("features_extractor_kwargs"):
                kept = {k: v for k, v in parameters["features_extractor_kwargs"].items() if k != "pretrained"}
                parameters["features_extractor_kwargs"] = kept
            return type(policy)(**parameters).to(policy.device)
        if not isinstance(encoder, nn.Module):
            return None
        fresh = copy.deepcopy(encoder)
        for part in fresh.modules():
            reset = getattr(part, "reset_parameters", None)
            if reset is not None:
                reset()
            elif next(part.parameters(recurse=False), None) is not None:
                return None
        return fresh


def n_rows(observations: RawObservations) -> int:
    """
    :param observations: (N, ...), or a dict of such.
    :return: N.
    """
    return len(next(iter(observations.values())) if isinstance(observations, dict) else observations)


def rows_of(observations: RawObservations, index: Any) -> RawObservations:
    """
    :param observations: (N, ...), or a dict of such.
    :param index: of rows.
    :return: those rows.
    """
    if isinstance(observations, dict):
        return {key: values[index] for key, values in observations.items()}
    rows: Array = observations[index]
    return rows


def _function(encoder: Encoder, space: spaces.Space[Any]) -> Callable[[Any], Any]:
    policy = policy_of(encoder)
    if policy is not None:
        extractor = features_extractor_of(policy)

        def of_policy(batch: Any) -> Any:
            tensors, _ = policy.obs_to_tensor(batch)
            return extractor(preprocess_obs(tensors, policy.observation_space, policy.normalize_images))

        return of_policy
    if isinstance(encoder, nn.Module):
        parameter = next(encoder.parameters(), th.zeros(0))
        return lambda batch: encoder(preprocess_obs(obs_as_tensor(batch, parameter.device), space))
    if not callable(encoder):
        raise TypeError(f"{encoder!r} does not encode; pass an SB3 model or policy, a module, or a function of observations.")
    return encoder
