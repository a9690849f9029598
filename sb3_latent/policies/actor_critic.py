"""Policies that take our settings by plain names, for YAML."""

import inspect
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule

from sb3_latent.presets import POLICY_SETTINGS, SETTINGS, WINDOW_SETTINGS, latent_kwargs
from sb3_latent.recipes import WINDOW_PRESETS
from sb3_latent.registry import unknown

_OURS = {"features_extractor_class", "features_extractor_kwargs"}
_GIVEN = {"observation_space", "action_space", "lr_schedule"}


class LatentActorCriticPolicy(ActorCriticPolicy):
    """
    SB3's actor-critic policy for PPO, A2C and TRPO with :func:`latent_kwargs` built in, so that a YAML file needs names
    alone: ``policy: sb3_latent.LatentActorCriticPolicy`` and ``policy_kwargs: {preset: vae, latent_dim: 20}``.

    Beyond what ``PPO("CnnPolicy", ..., policy_kwargs=latent_kwargs(...))`` does, its ``save`` and ``load`` keep
    ``share_features_extractor``, which those of SB3 2.9.2 forget.

    :param observation_space: observation space.
    :param action_space: action space.
    :param lr_schedule: learning rate.
    :param preset: a name from ``list_presets()``.
    :param settings: settings of :class:`LatentExtractor`, and arguments of SB3's policy such as ``net_arch``.
    :raises ValueError: if a name or value is wrong.
    :raises TypeError: if a key is unknown.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        preset: str = "vae",
        **settings: Any,
    ) -> None:
        policy_parameters = set(inspect.signature(ActorCriticPolicy).parameters) - _OURS
        allowed = WINDOW_SETTINGS if preset in WINDOW_PRESETS else SETTINGS
        for name in settings:
            if name not in policy_parameters and name not in allowed:
                raise TypeError(unknown("setting", name, [*allowed, *(policy_parameters - _GIVEN)]))
        policy_settings = {name: value for name, value in settings.items() if name in policy_parameters}
        latent_settings = {name: value for name, value in settings.items() if name not in policy_parameters}
        self._latent_settings = {"preset": preset, **latent_settings}
        merged = {**latent_kwargs(preset, **latent_settings), **policy_settings}
        if any(name in POLICY_SETTINGS for name in merged):
            raise ValueError(
                f"preset {preset!r} is for LatentSACPolicy, LatentTQCPolicy or LatentTD3Policy; choose another here."
            )
        super().__init__(observation_space, action_space, lr_schedule, **merged)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        del data["features_extractor_class"], data["features_extractor_kwargs"]
        return {**data, **self._latent_settings, "share_features_extractor": self.share_features_extractor}
