"""Find our extractors in SB3's models."""

from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BaseModel
from torch import nn

from sb3_latent.dynamics import LatentModel
from sb3_latent.dynamics_extractor import DynamicsExtractor
from sb3_latent.extractor import LatentExtractor
from sb3_latent.hooked import HookedExtractor


def get_hooked_extractors(model: BaseAlgorithm | BaseModel | nn.Module) -> list[HookedExtractor[Any]]:
    """
    Every extractor in a model that learns from losses of its own, those of target networks included.

    :param model: an SB3 model, a policy or any module.
    :return: the extractors, the one that the critic or value function trains first.
    :raises TypeError: if there is none.
    """
    policy = model.policy if isinstance(model, BaseAlgorithm) else model
    online = [getattr(policy, name, None) for name in ("vf_features_extractor", "critic", "q_net", "quantile_net", "actor")]
    parts = [part for part in [*online, policy] if isinstance(part, nn.Module)]
    extractors = [module for part in parts for module in part.modules() if isinstance(module, HookedExtractor)]
    if not extractors:
        raise TypeError(f"{type(model).__name__} has no LatentExtractor; build it with policy_kwargs=latent_kwargs(...).")
    return list(dict.fromkeys(extractors))


def get_extractors(model: BaseAlgorithm | BaseModel | nn.Module) -> list[LatentExtractor]:
    """
    Every :class:`LatentExtractor` in a model, those of target networks included.

    :param model: an SB3 model, a policy or any module.
    :return: the extractors, the one that the critic or value function trains first.
    :raises TypeError: if there is none.
    """
    extractors = [one for one in get_hooked_extractors(model) if isinstance(one, LatentExtractor)]
    if not extractors:
        raise TypeError(f"{type(model).__name__} encodes windows; use get_latent_model(model) instead.")
    return extractors


def get_extractor(model: BaseAlgorithm | BaseModel | nn.Module) -> LatentExtractor:
    """
    The extractor that a model learns with; the critic's where actor and critic have one each.

    :param model: an SB3 model or policy.
    :return: the extractor.
    :raises TypeError: if there is none.
    """
    return get_extractors(model)[0]


def get_latent_model(model: BaseAlgorithm | BaseModel | nn.Module) -> LatentModel:
    """
    :param model: an SB3 model or policy that encodes windows.
    :return: its latent model; the critic's where actor and critic have one each.
    :raises TypeError: if there is none.
    """
    for extractor in get_hooked_extractors(model):
        if isinstance(extractor, DynamicsExtractor):
            return extractor.model
    raise TypeError(f'{type(model).__name__} has no latent model; build it with policy_kwargs=latent_kwargs("slac", ...).')
