"""Policies that take our settings by plain names, for YAML."""

import inspect
from typing import Any

from gymnasium import spaces
from sb3_contrib import QRDQN, CrossQ, MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3 import DQN
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_latent.policies.algorithms import AlgorithmPolicy
from sb3_latent.policies.named_classes import with_classes
from sb3_latent.presets import POLICY_SETTINGS, SETTINGS, WINDOW_SETTINGS, latent_kwargs
from sb3_latent.recipes import WINDOW_PRESETS
from sb3_latent.registry import unknown

_OURS = ("features_extractor_class", "features_extractor_kwargs")
_POSITIONAL = ("observation_space", "action_space", "lr_schedule")


class PresetPolicy(AlgorithmPolicy):
    """
    Mixin in front of an SB3 policy with :func:`latent_kwargs` built in, so that a YAML file needs names alone:
    ``policy: sb3_latent.LatentActorCriticPolicy`` and ``policy_kwargs: {preset: vae, latent_dim: 20}``.

    Beyond what ``PPO("CnnPolicy", ..., policy_kwargs=latent_kwargs(...))`` does, its ``save`` and ``load`` keep every
    argument, of which those of SB3 2.9.2 forget some, such as ``share_features_extractor`` and ``lstm_hidden_size``.

    :param observation_space: observation space.
    :param action_space: action space.
    :param lr_schedule: learning rate.
    :param preset: a name from ``list_presets()``.
    :param settings: settings of :class:`LatentExtractor`, for presets of windows of :class:`DynamicsExtractor`, and arguments
        of SB3's policy such as ``net_arch``; ``activation_fn`` and ``optimizer_class`` may be names, e.g. ``"relu"``, or
        dotted paths.
    :raises ValueError: if a name or value is wrong, or the algorithm is one that the policy is not for.
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
        self._check_algorithm()
        of_policy = set(inspect.signature(super().__init__).parameters) - {*_OURS, *_POSITIONAL}
        of_extractor = WINDOW_SETTINGS if isinstance(preset, str) and preset in WINDOW_PRESETS else SETTINGS
        for name in settings:
            if name not in of_policy and name not in of_extractor:
                raise TypeError(unknown("setting", name, [*of_extractor, *of_policy]))
        self._given = {"preset": preset, **settings}
        latent_settings = {name: value for name, value in settings.items() if name not in of_policy}
        policy_settings = {name: value for name, value in settings.items() if name in of_policy}
        of_preset = latent_kwargs(preset, **latent_settings)
        if "optimizer_class" in policy_settings:
            # Arguments of Adam.
            of_preset.pop("optimizer_kwargs", None)
        merged = {**of_preset, **with_classes(policy_settings)}
        if any(name in POLICY_SETTINGS for name in merged):
            raise ValueError(
                f"preset {preset!r} is for LatentSACPolicy, LatentTQCPolicy or LatentTD3Policy; choose another here."
            )
        super().__init__(observation_space, action_space, lr_schedule, **merged)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        """The very arguments again: what SB3 collects here differs from policy to policy, and is never all of them."""
        collected = super()._get_constructor_parameters()
        return {**{name: collected[name] for name in _POSITIONAL}, **self._given}


class LatentActorCriticPolicy(PresetPolicy, ActorCriticPolicy):
    """:class:`PresetPolicy` for PPO, A2C and TRPO."""

    algorithm_class = OnPolicyAlgorithm


class LatentRecurrentActorCriticPolicy(PresetPolicy, RecurrentActorCriticPolicy):
    """:class:`PresetPolicy` for RecurrentPPO of sb3-contrib, ``ppo_lstm`` in rl_zoo3."""

    algorithm_class = RecurrentPPO


class LatentMaskableActorCriticPolicy(PresetPolicy, MaskableActorCriticPolicy):
    """:class:`PresetPolicy` for MaskablePPO of sb3-contrib."""

    algorithm_class = MaskablePPO


class LatentDQNPolicy(PresetPolicy, DQNPolicy):
    """:class:`PresetPolicy` for DQN."""

    algorithm_class = DQN


class LatentQRDQNPolicy(PresetPolicy, QRDQNPolicy):
    """:class:`PresetPolicy` for QR-DQN of sb3-contrib."""

    algorithm_class = QRDQN


class LatentCrossQPolicy(PresetPolicy, CrossQPolicy):
    """:class:`PresetPolicy` for CrossQ of sb3-contrib."""

    algorithm_class = CrossQ
