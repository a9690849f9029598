"""A features extractor that learns from losses of its own while an SB3 algorithm trains."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_latent.execution import STOCK, Execution
from sb3_latent.hook import GradientBalance, Kappa, check_gradient_mode, fixed_kappa, meet
from sb3_latent.link import AlgorithmLink, calling_algorithms, check_trust_region, is_being_loaded, link_to_algorithm
from sb3_latent.optimizer import AuxiliaryOptimizer
from sb3_latent.types import GradientMode, Observations
from sb3_latent.weighted_losses import WeightedLosses
from sb3_latent.weights import restore


class Code(Protocol):
    """What an encoder says about a batch."""

    @property
    def mean(self) -> th.Tensor:
        """:return: (B, features_dim), what a policy reads."""

    @property
    def log_var(self) -> th.Tensor | None:
        """:return: the same shape, log variance of a Gaussian posterior; None where there is none."""


C = TypeVar("C", bound=Code)


class HookedExtractor(BaseFeaturesExtractor, ABC, Generic[C]):
    """
    Encoders and losses, and the hook between them and SB3.

    Losses run in training mode with gradients enabled, so neither rollouts nor ``predict`` nor target networks ever
    compute one.

    :param observation_space: of the policy.
    :param features_dim: length of what the policy reads.
    :param encoders: from observations to codes; ``architecture`` says in plain data for whom their weights fit.
    :param tasks: the losses, with decoders and the like; ``architecture`` as well.
    :param kappa: factor on the RL gradient at the features: a number, a schedule or ``"auto"``.
    :param gradient_mode: ``"joint"`` or ``"own_optimizer"``.
    :param auxiliary_optimizer_kwargs: for ``"own_optimizer"``: arguments of Adam.
    :param frozen: the encoders do not learn.
    :param pretrained: encoder file to start from; survives ``ortho_init=True``.
    :param execution: how encoders and tasks are computed.
    :raises ValueError: if a value or a combination cannot work.
    :raises TypeError: if an argument is of the wrong kind.
    """

    encoders: Any
    tasks: WeightedLosses

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        features_dim: int,
        encoders: nn.Module,
        tasks: WeightedLosses,
        kappa: Kappa,
        gradient_mode: GradientMode,
        auxiliary_optimizer_kwargs: Mapping[str, Any] | None,
        frozen: bool,
        pretrained: str | Path | None,
        execution: Execution = STOCK,
    ) -> None:
        check_gradient_mode(gradient_mode)
        if auxiliary_optimizer_kwargs and gradient_mode != "own_optimizer":
            raise ValueError("auxiliary_optimizer_kwargs needs gradient_mode='own_optimizer'; pass it or drop the arguments.")
        super().__init__(observation_space, features_dim)
        self.encoders = encoders
        self.tasks = tasks
        self.balance = GradientBalance(automatic=kappa == "auto")
        self.gradient_mode = gradient_mode
        self.kappa = kappa
        self.execution = execution
        execution.lay_out(self)
        self.link = AlgorithmLink()
        self._is_pretrained = False
        self.frozen = frozen
        self.optimizer: AuxiliaryOptimizer | None = None
        if gradient_mode == "own_optimizer":
            self.optimizer = AuxiliaryOptimizer(self.encoders, self.tasks, auxiliary_optimizer_kwargs or {})
        self.set_progress_remaining(1.0)
        self._check_trust_region(next(calling_algorithms(), None))
        if pretrained is not None and not is_being_loaded():
            self.load_weights(pretrained)

    @abstractmethod
    def _means(self, observations: Observations) -> th.Tensor:
        """What acting needs of :meth:`encode`, without the rest."""

    @abstractmethod
    def training_loss(self, code: C, observations: Observations) -> th.Tensor:
        """
        :param code: of the observations.
        :param observations: as for :meth:`encode`.
        :return: scalar, the weighted losses of a gradient step, logged and looked at for values that are not finite.
        :raises FloatingPointError: names a loss that is not finite.
        """

    @abstractmethod
    def inputs(self, observations: Observations) -> dict[str, tuple[nn.Module, Observations]]:
        """
        :param observations: as for :meth:`encode`.
        :return: for each latent by name the module that makes a code with it, and what that takes.
        """

    @property
    def architecture(self) -> dict[str, Any]:
        """:return: what encoders and tasks are, as plain data; weights fit where it is the same."""
        return {"encoders": self.encoders.architecture, "tasks": self.tasks.architecture}

    def encode(self, observations: Observations) -> C:
        """
        :param observations: as SB3 preprocesses them: images in [0, 1], (B, *observation shape); a dict for a Dict space.
        :return: the code; its mean is (B, features_dim).
        """
        code: C
        if self.frozen:
            # Not `requires_grad_(False)`: TRPO asks every parameter of a policy for its gradient.
            weights = {name: parameter.detach() for name, parameter in self.encoders.named_parameters()}
            code = th.func.functional_call(self.encoders, weights, self._encoder_arguments(observations))
        else:
            code = self.encoders(*self._encoder_arguments(observations))
        return code

    def _encoder_arguments(self, observations: Observations) -> tuple[Any, ...]:
        return (observations,)

    def set_progress_remaining(self, progress_remaining: float) -> None:
        """
        Move every schedule on; SB3 algorithms do it by themselves, a training loop of your own calls this.

        :param progress_remaining: 1 at the start of training, 0 at its end.
        :raises TypeError: if a schedule does not return a number.
        :raises ValueError: if it returns a negative or infinite one.
        """
        self.tasks.set_progress_remaining(progress_remaining)
        self.balance.fixed = fixed_kappa(self.kappa, progress_remaining)
        if self.optimizer is not None:
            self.optimizer.set_progress_remaining(progress_remaining)

    def load_weights(self, path: str | Path) -> None:
        """
        Take over an encoder file, and its decoders where the tasks are the same; warns where they are not.

        :param path: a file written by ``save_encoder`` or ``pretrain_encoder``.
        :raises FileNotFoundError: if there is none.
        :raises ValueError: if it is corrupt, foreign or of another architecture; says what differs.
        """
        restore(path, self.encoders, self.tasks)
        self._is_pretrained = True

    def forward(self, observations: Observations) -> th.Tensor:
        """
        :param observations: as for :meth:`encode`.
        :return: (B, features_dim), the mean of the code.
        """
        if not th.is_grad_enabled():
            return self._means(observations)
        code = self.encode(observations)
        if self.frozen or not self.training:
            return code.mean
        loss = self._loss_now(code, observations) if self.tasks.active else None
        if self.link.is_trust_region or not (self.tasks.active or self.kappa != 1):
            return code.mean
        return meet(code.mean, loss, self.balance)

    def train(self, mode: bool = True) -> "HookedExtractor[C]":
        """
        SB3 calls this when it begins to train, where the algorithm is found, and when it begins to act. Both look whether
        the losses so far were finite.

        :param mode: training or evaluation.
        :return: self.
        """
        super().train(mode)
        self.tasks.raise_if_not_finite(self.link.num_timesteps)
        if mode:
            self._bind()
        return self

    def apply(self, fn: Callable[[nn.Module], None]) -> "HookedExtractor[C]":
        """
        PPO's and A2C's ``ortho_init`` arrives here, after the constructor. It reaches the encoders, as it reaches SB3's
        own ``NatureCNN``, but not the decoders and not pretrained weights, which it would destroy.

        :param fn: applied to every submodule.
        :return: self.
        """
        if getattr(fn, "func", None) is not BasePolicy.init_weights:
            super().apply(fn)
        elif not self._is_pretrained:
            self.encoders.apply(fn)
        return self

    def _apply(self, fn: Callable[[th.Tensor], th.Tensor], recurse: bool = True) -> "HookedExtractor[C]":
        """Every device move of torch ends here; Adam's moments go along."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # as torch has it
        if self.optimizer is not None:
            self.optimizer.load_state_dict(self.optimizer.state_dict())
        return self

    def get_extra_state(self) -> dict[str, Any]:
        """
        :return: what parameters and buffers do not hold; goes wherever the weights go.
        :raises FloatingPointError: after a loss that was not finite, so that no good checkpoint is overwritten.
        """
        self.tasks.raise_if_not_finite(self.link.num_timesteps)
        self.tasks.raise_if_failed()
        return {"frozen": self.frozen, "optimizer": None if self.optimizer is None else self.optimizer.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """
        :param state: from :meth:`get_extra_state`.
        """
        self.tasks.forget()
        self.frozen = state["frozen"]
        if self.optimizer is not None and state["optimizer"] is not None:
            self.optimizer.load_state_dict(state["optimizer"])

    @property
    def _tasks_step_apart(self) -> bool:
        return self.gradient_mode == "own_optimizer" or self.link.is_trust_region

    def _loss_now(self, code: C, observations: Observations) -> th.Tensor | None:
        """The tasks' loss on a training batch, or None after remembering the batch for a step of their own."""
        if not self._tasks_step_apart:
            return self.training_loss(code, observations)
        self.link.pending = observations
        return None

    def _bind(self) -> None:
        link = link_to_algorithm(self, self.link)
        if link is not self.link:
            self.link = link
            self._check_trust_region(link.algorithm)
            if self.gradient_mode == "own_optimizer":
                link.after_step(self.encoders, self._auxiliary_step)
            elif link.is_trust_region:
                link.before_step(self.encoders, self._add_gradients)
        if link.progress_remaining is not None:
            self.set_progress_remaining(link.progress_remaining)

    def _check_trust_region(self, algorithm: BaseAlgorithm | None) -> None:
        check_trust_region(algorithm, self.kappa, bool(self.tasks.active), self.execution)

    def _pending_loss(self) -> th.Tensor | None:
        observations, self.link.pending = self.link.pending, None
        if observations is None:
            return None
        with th.enable_grad():
            loss = self._own_loss(observations)
        return loss if loss.requires_grad else None

    def _own_loss(self, observations: Observations) -> th.Tensor:
        """The tasks' loss apart from the policy's."""
        return self.training_loss(self.encode(observations), observations)

    def _auxiliary_step(self) -> None:
        loss = self._pending_loss()
        if loss is not None and self.optimizer is not None:
            self.optimizer.step(self.optimizer.gradients(loss))

    def _add_gradients(self) -> None:
        """TRPO removes the critic's gradient from the encoder just before its step; what the tasks add then stays."""
        loss = self._pending_loss()
        if loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]  # as torch has it
