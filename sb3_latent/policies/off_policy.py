"""What the policies for SAC, TQC, TD3 and DDPG share: one encoder, its optimizers and cadences."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, ClassVar, TypeVar

import torch as th
from gymnasium import spaces
from sb3_contrib import TQC
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from sb3_latent.dynamics_extractor import DynamicsExtractor
from sb3_latent.execution import SWITCHES
from sb3_latent.extractor import LatentExtractor
from sb3_latent.link import is_being_loaded
from sb3_latent.nn import INITIALIZATIONS, ObservationHeads
from sb3_latent.policies.algorithms import AlgorithmPolicy
from sb3_latent.policies.named_classes import with_classes
from sb3_latent.policies.networks import Reader, SharingActor, SharingCritic, SharingNetwork, TanhSquash
from sb3_latent.policies.parts import Parts
from sb3_latent.policies.shared_encoder import SharedEncoder
from sb3_latent.presets import ENCODER_SETTINGS, POLICY_SETTINGS, SETTINGS, check_policy_settings, latent_kwargs
from sb3_latent.registry import unknown
from sb3_latent.sharing import Sharing
from sb3_latent.tasks import forked_rng

T = TypeVar("T", bound=nn.Module)


class SharedEncoderPolicy(AlgorithmPolicy):
    """
    Mixin in front of an SB3 policy with an actor and a critic: one :class:`LatentExtractor` for both.

    The critic's loss and the tasks train the encoder, all others read it; see :class:`Sharing`. SB3's ``train`` stays as it
    is: what it has no place for happens in hooks around the steps of its optimizers.

    :param observation_space: observation space.
    :param action_space: action space.
    :param lr_schedule: learning rate of every part that has none of its own.
    :param preset: a name from ``list_presets()``, for YAML; its settings may stand beside it. None takes ``latent_kwargs``'s
        result, as ``policy_kwargs`` of a script gives it.
    :param kwargs: the settings of :class:`Sharing`, arguments of SB3's policy (``activation_fn`` and ``optimizer_class`` may
        be names, e.g. ``"relu"``, or dotted paths), and

        ``optimizers``: arguments of the optimizer for ``"critic"``, ``"encoder"``, ``"decoder"``, ``"actor"`` and
        ``"ent_coef"``; ``lr`` may be a schedule;

        ``init``: ``"delta_orthogonal"`` (SAC+AE) or ``"orthogonal"`` (DrQ) weights for all networks; None leaves torch's;

        ``log_std_bounds``: tanh squashes the actor's log standard deviation into them; None clamps it to SB3's [-20, 2]. gSDE
        has a parameter there instead, which stays as it is; TD3 has neither.
    :raises ValueError: if a value is wrong, or the algorithm is one that the policy is not for.
    :raises TypeError: if an argument is unknown.
    """

    actor_class: ClassVar[type[SharingActor]]
    critic_class: ClassVar[type[SharingCritic]]

    # SB3's classes, another for each algorithm.
    actor: Any
    critic: Any
    critic_target: Any
    actor_kwargs: dict[str, Any]
    critic_kwargs: dict[str, Any]
    features_extractor: LatentExtractor
    features_extractor_target: LatentExtractor | None

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        preset: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._check_algorithm()
        given = with_classes(kwargs)
        known = {*inspect.signature(super().__init__).parameters, *POLICY_SETTINGS, "preset"}
        if preset is not None:
            if "features_extractor_kwargs" in given:
                raise TypeError("features_extractor_kwargs means nothing beside preset; write its entries beside it as well.")
            known |= set(SETTINGS)
            settings = {name: given.pop(name) for name in list(given) if name in (*SETTINGS, *POLICY_SETTINGS)}
            given = {**latent_kwargs(preset, **settings), **given}
        _check_extractor(type(self).__name__, given.get("features_extractor_class", LatentExtractor))
        for name in given:
            if name not in known:
                raise TypeError(unknown(f"argument of {type(self).__name__}:", name, known))
        self._arguments = {name: given.pop(name) for name in list(given) if name in POLICY_SETTINGS}
        if given.pop("share_features_extractor", False):
            raise ValueError(f"{type(self).__name__} always shares its encoder; drop share_features_extractor=True.")
        names = {field.name for field in fields(Sharing)}
        self.sharing = Sharing(**{name: value for name, value in self._arguments.items() if name in names})
        self._check_sharing(self.sharing)
        self._n_updates_before = 0
        self._n_critic_steps = 0
        super().__init__(
            observation_space, action_space, lr_schedule, **{"features_extractor_class": LatentExtractor, **given}
        )

    def _build(self, lr_schedule: Schedule) -> None:
        check_policy_settings(self._arguments)
        optimizers = self._arguments.get("optimizers") or {}
        self._parts = Parts(self.optimizer_class, optimizers)
        self.features_extractor = self._make_extractor()
        self.features_extractor_target = self._make_target_extractor() if self.sharing.target_encoder else None
        self._shared = SharedEncoder(
            self.features_extractor,
            self.features_extractor_target or self.features_extractor,
            self.observation_space,
            self.normalize_images,
            self.sharing,
        )
        super()._build(lr_schedule)  # type: ignore[misc]  # SB3's policy behind this mixin
        for target in self._target_networks():
            target.is_target = True
        encoder = list(self.features_extractor.encoders.parameters())
        tasks = list(self.features_extractor.tasks.parameters()) if self.features_extractor.optimizer is None else []
        if "decoder" in optimizers and not tasks:
            raise ValueError(
                "optimizers['decoder']: there is no decoder in the critic's optimizer; with gradient_mode='own_optimizer' its "
                "arguments go into auxiliary_optimizer_kwargs, without tasks nowhere."
            )
        critic = {"critic": list(self.critic.parameters()), "encoder": encoder, "decoder": tasks}
        actor = {"actor": list(self.actor.parameters()), "encoder": encoder if self.sharing.moves_encoder("actor") else []}
        self.critic.optimizer = self._make_optimizer(critic, lr_schedule)
        self.actor.optimizer = self._make_optimizer(actor, lr_schedule)
        self.set_training_mode(False)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """
        :param features_extractor: not used: there is one encoder.
        :return: an actor that reads it.
        """
        del features_extractor
        reads_trunk = self.sharing.actor_reads == "trunk"
        heads = ObservationHeads(self.features_extractor.encoders) if reads_trunk else None
        reader = Reader(self.observation_space, self._shared, heads)
        actor = self.actor_class(**self._update_features_extractor(self.actor_kwargs, reader))
        bounds = self._arguments.get("log_std_bounds")
        log_std = getattr(actor, "log_std", None)
        if bounds is not None and isinstance(log_std, nn.Module):
            actor.log_std = nn.Sequential(log_std, TanhSquash(*bounds))
        return self._initialized(actor).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """
        :param features_extractor: not used: there is one encoder.
        :return: a critic that reads it.
        """
        del features_extractor
        reader = Reader(self.observation_space, self._shared)
        critic = self.critic_class(**self._update_features_extractor(self.critic_kwargs, reader))
        return self._initialized(critic).to(self.device)

    def set_training_mode(self, mode: bool) -> None:
        """
        SB3 calls this when it begins to train and when it begins to act.

        :param mode: training or evaluation.
        """
        super().set_training_mode(mode)
        self.features_extractor.train(mode)
        if mode:
            self._bind()
        else:
            self._shared.end_step()

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self._arguments}

    def _check_sharing(self, sharing: Sharing) -> None:
        """What the algorithm cannot do."""

    def _make_extractor(self) -> LatentExtractor:
        kwargs = dict(self.features_extractor_kwargs)
        pretrained = kwargs.pop("pretrained", None)
        assert issubclass(self.features_extractor_class, LatentExtractor)
        extractor = self.features_extractor_class(self.observation_space, **kwargs)
        self._initialized(extractor.encoders)
        with forked_rng():
            self._initialized(extractor.tasks)
        if pretrained is not None and not is_being_loaded():
            extractor.load_weights(pretrained)
        return extractor

    def _make_target_extractor(self) -> LatentExtractor:
        settings = (*ENCODER_SETTINGS, *SWITCHES)
        kwargs = {name: value for name, value in self.features_extractor_kwargs.items() if name in settings}
        target = LatentExtractor(self.observation_space, **kwargs)
        target.encoders.load_state_dict(self.features_extractor.encoders.state_dict())
        return target.eval()

    def _initialized(self, module: T) -> T:
        init = self._arguments.get("init")
        if init is not None:
            module.apply(INITIALIZATIONS[init])
        return module

    def _make_optimizer(self, parts: Mapping[str, list[nn.Parameter]], lr_schedule: Schedule) -> th.optim.Optimizer:
        groups = [self._parts.group(part, parameters) for part, parameters in parts.items() if parameters]
        return self.optimizer_class(groups, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _target_networks(self) -> Iterator[SharingNetwork]:
        yield self.critic_target

    def _bind(self) -> None:
        link = self.features_extractor.link
        algorithm = link.algorithm
        if not link.calls(self._before_critic_step):
            link.around_step(self.critic.optimizer, self._before_critic_step, self._after_critic_step)
            link.around_step(self.actor.optimizer, self._before_actor_step, self._after_actor_step)
            ent_coef_optimizer = getattr(algorithm, "ent_coef_optimizer", None)
            if ent_coef_optimizer is not None:
                self._parts.adopt(ent_coef_optimizer, "ent_coef")
                link.around_step(ent_coef_optimizer, self._before_ent_coef_step)
        self._n_updates_before = getattr(algorithm, "_n_updates", 0)
        self._n_critic_steps = 0
        self._shared.task_is_due = self._is_due(self.sharing.task_freq)
        self._shared.actor_is_due = self._is_due(self.sharing.actor_update_freq)

    def _is_due(self, freq: int) -> bool:
        """Counted over all of training, as the next critic's step will be."""
        return (self._n_updates_before + self._n_critic_steps) % freq == 0

    def _before_ent_coef_step(self) -> None:
        """The optimizer is the algorithm's, and stays with it when a user gives it another policy."""
        algorithm = self.features_extractor.link.algorithm
        if algorithm is not None and algorithm.policy is self:
            self._prepare(algorithm.ent_coef_optimizer, self._shared.actor_is_due)  # type: ignore[attr-defined]  # SAC, TQC

    def _before_critic_step(self) -> None:
        self._shared.backward()
        self._prepare(self.critic.optimizer, is_due=True)

    def _after_critic_step(self) -> None:
        self._shared.step_tasks()
        self._n_critic_steps += 1
        self._shared.task_is_due = self._is_due(self.sharing.task_freq)

    def _before_actor_step(self) -> None:
        if self._shared.actor_is_due:
            self._shared.backward_actor()
        self._prepare(self.actor.optimizer, self._shared.actor_is_due)

    def _after_actor_step(self) -> None:
        """SB3 moves its target networks now, or leaves them; the target encoder moves with them."""
        self._shared.actor_is_due = self._is_due(self.sharing.actor_update_freq)
        algorithm = self.features_extractor.link.algorithm
        if (self._n_critic_steps - 1) % getattr(algorithm, "target_update_interval", 1) == 0:
            self._shared.update_target(self.sharing.encoder_tau or self._tau(algorithm))
        self._shared.end_step()

    def _tau(self, algorithm: BaseAlgorithm | None) -> float:
        if not isinstance(algorithm, SAC | TQC | TD3):
            raise ValueError("encoder_tau=None takes tau of the algorithm, and none is training; give encoder_tau a number.")
        return algorithm.tau

    def _prepare(self, optimizer: th.optim.Optimizer, is_due: bool) -> None:
        """Without gradients, a step of a torch optimizer does nothing, and its state stays as it is."""
        progress_remaining = self.features_extractor.link.progress_remaining
        self._parts.set_learning_rates(optimizer, 1.0 if progress_remaining is None else progress_remaining)
        if not is_due:
            optimizer.zero_grad(set_to_none=True)


def _check_extractor(policy: str, extractor_class: type[BaseFeaturesExtractor]) -> None:
    if issubclass(extractor_class, DynamicsExtractor):
        raise ValueError(f"{policy} has no model of windows; use SLACPolicy for SAC or SLACTQCPolicy for TQC.")
    if not issubclass(extractor_class, LatentExtractor):
        raise ValueError(f"features_extractor_class={extractor_class.__name__} is no LatentExtractor; use latent_kwargs(...).")
