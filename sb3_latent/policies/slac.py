"""Policies that learn in the states of a latent model: SLAC for SAC, and the same for TQC."""

import inspect
from typing import Any, ClassVar

from gymnasium import spaces
from sb3_contrib import TQC
from sb3_contrib.tqc.policies import Actor as TQCActor
from sb3_contrib.tqc.policies import Critic as TQCCritic
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3 import SAC
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BaseModel, ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.sac.policies import Actor as SACActor
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor, nn

from sb3_latent.buffers import SequenceReplayBuffer
from sb3_latent.dynamics_extractor import DynamicsExtractor
from sb3_latent.link import calling_algorithms
from sb3_latent.nn import INITIALIZATIONS
from sb3_latent.policies.algorithms import AlgorithmPolicy
from sb3_latent.policies.named_classes import with_classes
from sb3_latent.policies.window_reader import ModelLearner, WindowReader
from sb3_latent.presets import WINDOW_POLICY_SETTINGS, WINDOW_SETTINGS, latent_kwargs
from sb3_latent.recipes import WINDOW_PRESETS
from sb3_latent.registry import unknown
from sb3_latent.windows import Reads, WindowBatch, check_reads

_NAMES = f"use latent_kwargs() of {', '.join(WINDOW_PRESETS)}, or LatentSACPolicy for those of single observations"


class WindowNetwork(BaseModel):
    """A network that reads windows as they are; SB3's preprocessing would make another object of them."""

    def extract_features(self, obs: PyTorchObs, features_extractor: BaseFeaturesExtractor) -> Tensor:
        """
        :param obs: windows, raw.
        :param features_extractor: a :class:`WindowReader`.
        :return: (B, features_dim).
        """
        return features_extractor(obs)  # type: ignore[no-any-return]  # a module's call


class SLACActor(WindowNetwork, SACActor):
    """SB3's actor of SAC."""


class SLACCritic(WindowNetwork, ContinuousCritic):
    """SB3's critic of SAC."""


class SLACTQCActor(WindowNetwork, TQCActor):
    """sb3-contrib's actor of TQC."""


class SLACTQCCritic(WindowNetwork, TQCCritic):
    """sb3-contrib's critic of TQC."""


class LatentModelPolicy(AlgorithmPolicy):
    """
    Mixin in front of an SB3 policy with an actor and a critic, for windows of :class:`~sb3_latent.HistoryWrapper`.

    A latent model learns from its own losses alone, with its own optimizer, from some rows of each batch; actor and critic
    read it without moving it (SLAC, Lee et al. 2020, arXiv:1907.00953). They learn from samples of the posterior and act on
    the likeliest state, so that a window has one deterministic action.

    :param observation_space: windows.
    :param action_space: action space.
    :param lr_schedule: learning rate of actor and critic.
    :param preset: a name from ``list_presets()``, for YAML; its settings may stand beside it.
    :param kwargs: arguments of SB3's policy (``activation_fn`` and ``optimizer_class`` may be names, e.g. ``"relu"``, or
        dotted paths), and

        ``actor_reads``: ``"history"`` (SLAC: features and actions of the window) or ``"latent"``;

        ``critic_reads``: ``"latent"`` (SLAC) or ``"history"``; figure 6b compares the four combinations;

        ``model_batch_size``: rows of a batch that the model learns from, 32 in SLAC (authors' ``slac.gin``);

        ``n_model_updates``: steps of the model in a gradient step, 1 in SLAC; figure 6d raises those of the agent as well,
        which is SB3's ``gradient_steps``.
    :raises ValueError: if a value is wrong, or algorithm or replay buffer are others than the policy is for.
    :raises TypeError: if an argument is unknown.
    """

    learns_from_sequences = True
    others = 'SLACPolicy (SAC) and SLACTQCPolicy (TQC), and "MultiInputPolicy" with latent_kwargs("slac") for PPO and A2C'
    actor_class: ClassVar[type[nn.Module]]
    critic_class: ClassVar[type[nn.Module]]

    # SB3's classes, another for each algorithm.
    actor_kwargs: dict[str, Any]
    critic_kwargs: dict[str, Any]
    features_extractor: DynamicsExtractor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        preset: str | None = None,
        actor_reads: Reads = "history",
        critic_reads: Reads = "latent",
        model_batch_size: int = 32,
        n_model_updates: int = 1,
        **kwargs: Any,
    ) -> None:
        self._check_algorithm()
        if not issubclass(kwargs.get("features_extractor_class", DynamicsExtractor), DynamicsExtractor):
            raise ValueError(f"{type(self).__name__} has no {kwargs['features_extractor_class'].__name__}; {_NAMES}.")
        check_reads("actor_reads", actor_reads)
        check_reads("critic_reads", critic_reads)
        self._arguments: dict[str, Any] = {
            "actor_reads": actor_reads,
            "critic_reads": critic_reads,
            "model_batch_size": model_batch_size,
            "n_model_updates": n_model_updates,
        }
        of_policy = list(inspect.signature(super().__init__).parameters)
        known = of_policy if preset is None else [*of_policy, *WINDOW_SETTINGS]
        for name in kwargs:
            if name not in known:
                raise TypeError(
                    unknown(f"argument of {type(self).__name__}:", name, [*known, *WINDOW_POLICY_SETTINGS, "preset"])
                )
        given = with_classes(kwargs if preset is None else self._of_preset(preset, kwargs))
        if given.pop("share_features_extractor", False):
            raise ValueError(f"{type(self).__name__} always shares its model; drop share_features_extractor=True.")
        super().__init__(
            observation_space, action_space, lr_schedule, **{"features_extractor_class": DynamicsExtractor, **given}
        )

    @property
    def model_batch_size(self) -> int:
        """:return: windows that the model learns from in a step."""
        return self._learner.model_batch_size

    def update_model(self, batch: WindowBatch) -> None:
        """
        One step of the model outside of the algorithm's gradient steps, e.g. before them.

        :param batch: windows, from :class:`~sb3_latent.SequenceReplayBuffer`.
        :raises FloatingPointError: names a loss that is not finite.
        """
        self._learner.update(batch)

    def _build(self, lr_schedule: Schedule) -> None:
        assert issubclass(self.features_extractor_class, DynamicsExtractor)
        self.features_extractor = self.features_extractor_class(self.observation_space, **self.features_extractor_kwargs)
        if self.features_extractor.optimizer is None or self.features_extractor.kappa != 0:
            raise ValueError(
                f"{type(self).__name__} trains its model by the model's losses alone; pass gradient_mode='own_optimizer' and "
                "kappa=0, as the presets do."
            )
        self._learner = ModelLearner(
            self.features_extractor, self._arguments["model_batch_size"], self._arguments["n_model_updates"]
        )
        super()._build(lr_schedule)  # type: ignore[misc]  # SB3's policy behind this mixin
        self.set_training_mode(False)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """
        :param features_extractor: not used: there is one model.
        :return: an actor that reads it.
        """
        del features_extractor
        reader = WindowReader(self.observation_space, self._learner, self._arguments["actor_reads"])
        return self._initialized(self.actor_class(**self._update_features_extractor(self.actor_kwargs, reader)))

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """
        :param features_extractor: not used: there is one model.
        :return: a critic that reads it.
        """
        del features_extractor
        reader = WindowReader(self.observation_space, self._learner, self._arguments["critic_reads"])
        return self._initialized(self.critic_class(**self._update_features_extractor(self.critic_kwargs, reader)))

    def set_training_mode(self, mode: bool) -> None:
        """
        SB3 calls this when it begins to train and when it begins to act.

        :param mode: training or evaluation.
        """
        super().set_training_mode(mode)
        self.features_extractor.train(mode)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self._arguments}

    def _initialized(self, network: nn.Module) -> nn.Module:
        if self.features_extractor.init is not None:
            network.apply(INITIALIZATIONS[self.features_extractor.init])
        return network.to(self.device)

    def _of_preset(self, preset: str, kwargs: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(preset, str) or preset not in WINDOW_PRESETS:
            raise ValueError(f"preset {preset!r} has no latent model of windows; {_NAMES}.")
        if "features_extractor_kwargs" in kwargs:
            raise TypeError("features_extractor_kwargs means nothing beside preset; write its entries beside it as well.")
        of_model = {name: value for name, value in kwargs.items() if name in WINDOW_SETTINGS}
        return {**latent_kwargs(preset, **of_model), **{name: kwargs[name] for name in kwargs if name not in of_model}}

    def _check_algorithm(self) -> None:
        super()._check_algorithm()
        algorithm = next(calling_algorithms(), None)
        if algorithm is None:
            return
        assert isinstance(algorithm, OffPolicyAlgorithm)
        buffer_class = algorithm.replay_buffer_class
        if buffer_class is None or not issubclass(buffer_class, SequenceReplayBuffer):
            raise ValueError(
                f"{type(self).__name__} learns its model from sequences, and replay_buffer_class is "
                f"{getattr(buffer_class, '__name__', None)}; pass replay_buffer_class=SequenceReplayBuffer."
            )


class SLACPolicy(LatentModelPolicy, SACPolicy):
    """:class:`LatentModelPolicy` for SAC: ``SAC(SLACPolicy, env, replay_buffer_class=SequenceReplayBuffer, ...)``."""

    algorithm_class = SAC
    actor_class = SLACActor
    critic_class = SLACCritic


class SLACTQCPolicy(LatentModelPolicy, TQCPolicy):
    """:class:`LatentModelPolicy` for TQC of sb3-contrib."""

    algorithm_class = TQC
    actor_class = SLACTQCActor
    critic_class = SLACTQCCritic
