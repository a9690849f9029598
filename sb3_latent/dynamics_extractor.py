"""The features extractor for windows: a latent model, and the hook between it and SB3."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch as th
from gymnasium import spaces
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from sb3_latent.dynamics import OF_WINDOWS, LatentModel, ModelLosses, Trajectory, WindowCode, WindowEncoder, make_latent_model
from sb3_latent.hook import Kappa, fixed_kappa
from sb3_latent.hooked import HookedExtractor
from sb3_latent.link import calling_algorithms
from sb3_latent.nn import INITIALIZATIONS
from sb3_latent.registry import unknown
from sb3_latent.types import Coefficient, GradientMode, Observations
from sb3_latent.windows import ACTIONS, FRAMES, MASK, WindowBatch, window_spec


class DynamicsExtractor(HookedExtractor[WindowCode]):
    """
    Tells the policy what a latent model knows at the end of a window of :class:`~sb3_latent.HistoryWrapper`, and trains the
    model while an SB3 algorithm trains.

    The policy reads the likeliest state, without noise on the way to it, so that the same window gives the same features.
    Other algorithms train the model on the windows of their minibatches, which hold no rewards: heads of reward and
    continuation learn under :class:`~sb3_latent.SLACPolicy` alone.

    :param observation_space: windows.
    :param dynamics: name or dotted path, e.g. ``"slac"`` or ``"rssm"``.
    :param dynamics_kwargs: further arguments of the dynamics.
    :param trunk: name or dotted path; None takes ``"slac"`` for images and ``"mlp"`` for vectors.
    :param trunk_kwargs: further arguments of the trunk.
    :param loss: name or dotted path of the likelihood of frames.
    :param loss_kwargs: further arguments of it; the default is SLAC's standard deviation of a pixel, sqrt(0.1).
    :param coefs: coefficients of ``"recon"``, ``"kl"``, ``"reward"`` and ``"continuation"``, numbers or schedules; 1 for those
        not named, 0 for ``"continuation"``. Losses are sums over pixels and steps.
    :param hidden: width of the two hidden layers of the heads of reward and continuation.
    :param init: weights of model, actor and critic under SLACPolicy: ``"xavier_uniform"`` as tensorflow has them, and thus
        SLAC and Dreamer; None leaves torch's.
    :param kappa: factor on the RL gradient at the features: a number or a schedule. 0 leaves the model to its own losses.
    :param gradient_mode: ``"joint"`` or ``"own_optimizer"``, see :class:`LatentExtractor`.
    :param auxiliary_optimizer_kwargs: for ``"own_optimizer"``: arguments of Adam.
    :param frozen: the encoders do not learn.
    :param pretrained: encoder file to start from.
    :raises ValueError: if the observations are no windows, or a value or combination cannot work.
    :raises TypeError: if an argument is of the wrong kind.
    """

    encoders: WindowEncoder
    tasks: ModelLosses

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        *,
        dynamics: str = "slac",
        dynamics_kwargs: Mapping[str, Any] | None = None,
        trunk: str | None = None,
        trunk_kwargs: Mapping[str, Any] | None = None,
        loss: str = "gaussian",
        loss_kwargs: Mapping[str, Any] | None = None,
        coefs: Mapping[str, Coefficient] | None = None,
        hidden: int = 256,
        init: str | None = "xavier_uniform",
        kappa: Kappa = 1.0,
        gradient_mode: GradientMode = "joint",
        auxiliary_optimizer_kwargs: Mapping[str, Any] | None = None,
        frozen: bool = False,
        pretrained: str | Path | None = None,
    ) -> None:
        _check_algorithm()
        check_window_settings(kappa, init)
        model = make_latent_model(
            window_spec(observation_space), dynamics, dynamics_kwargs, trunk, trunk_kwargs, loss, loss_kwargs, coefs, hidden
        )
        if init is not None:
            model.apply(INITIALIZATIONS[init])
        super().__init__(
            observation_space,
            model.state_dim,
            model.encoders,
            model.tasks,
            kappa,
            gradient_mode,
            auxiliary_optimizer_kwargs,
            frozen,
            pretrained,
        )
        self.init = init

    @property
    def model(self) -> LatentModel:
        """:return: the model; its parts are those of this extractor."""
        return LatentModel(self.encoders, self.tasks)

    def forward(self, observations: Observations) -> th.Tensor:
        """
        :param observations: windows, as for :meth:`encode`.
        :return: (B, features_dim), the likeliest last state.
        """
        if not (self.kappa == 0 and self.optimizer is not None and th.is_grad_enabled()):
            return super().forward(observations)
        # No gradient comes back through the features, so that of the losses can be had at once, from the same encoding.
        assert isinstance(observations, dict)
        learns = self.training and not self.frozen and bool(self.tasks.active)
        with th.set_grad_enabled(learns):
            features = self.encoders.encode(observations[FRAMES])
        with th.no_grad():
            code = self.encoders.code(features, observations)
        loss = self._window_loss(features, observations) if learns else None
        self.link.gradients = self.optimizer.gradients(loss) if loss is not None and loss.requires_grad else None
        return code.mean

    def training_loss(self, code: WindowCode, observations: Observations) -> th.Tensor:
        """
        :param code: of the windows.
        :param observations: windows, as for :meth:`encode`.
        :return: scalar, the weighted losses of frames and states; logged, and looked at for values that are not finite.
        :raises FloatingPointError: names a loss that is not finite.
        """
        assert isinstance(observations, dict)
        return self._window_loss(code.features, observations)

    def _window_loss(self, features: th.Tensor, observations: dict[str, th.Tensor]) -> th.Tensor:
        rows = self.link.task_rows(observations)
        chosen = slice(None) if rows is None else rows
        features, frames, actions = features[chosen], observations[FRAMES][chosen], observations[ACTIONS][chosen]
        mask = observations[MASK][chosen].bool()
        trajectory = self.encoders.dynamics.observe(features, actions, mask)
        labels = [label for label in self.tasks.active if label in OF_WINDOWS]
        return self._recorded(self.tasks.frame_losses(trajectory, frames, mask, self.encoders, labels))

    def batch_loss(self, trajectory: Trajectory, batch: WindowBatch) -> th.Tensor:
        """
        :param trajectory: the noisy posterior over the windows of T + 1 frames.
        :param batch: the windows, with rewards.
        :return: scalar, all weighted losses; logged, and looked at for values that are not finite.
        :raises FloatingPointError: names a loss that is not finite.
        """
        return self._recorded(self.model.losses(trajectory, batch))

    def inputs(self, observations: Observations) -> dict[str, tuple[nn.Module, Observations]]:
        return {"state": (self.encoders, observations)}

    def apply(self, fn: Callable[[nn.Module], None]) -> "DynamicsExtractor":
        """
        PPO's and A2C's ``ortho_init`` arrives here, after the constructor, and is not for latent models.

        :param fn: applied to every submodule.
        :return: self.
        """
        if getattr(fn, "func", None) is not BasePolicy.init_weights:
            super().apply(fn)
        return self

    def _own_loss(self, observations: Observations) -> th.Tensor:
        assert isinstance(observations, dict)
        return self._window_loss(self.encoders.encode(observations[FRAMES]), observations)

    def _auxiliary_step(self) -> None:
        gradients, self.link.gradients = self.link.gradients, None
        if gradients is None:
            super()._auxiliary_step()
        elif self.optimizer is not None:
            self.optimizer.step(gradients)

    def _means(self, observations: Observations) -> th.Tensor:
        return self.encoders.means(observations)

    def _recorded(self, losses: dict[str, th.Tensor]) -> th.Tensor:
        self.tasks.record(losses, self.link.num_timesteps)
        return self.tasks.weighted_sum(losses)


def check_window_settings(kappa: Kappa, init: str | None) -> None:
    """
    :param kappa: see :class:`DynamicsExtractor`.
    :param init: likewise.
    :raises TypeError: if kappa is neither a number nor a schedule.
    :raises ValueError: if one of them is out of its range.
    """
    if kappa == "auto":
        raise ValueError("kappa='auto' compares gradients at one latent, and windows have no such place; use a number.")
    fixed_kappa(kappa, 1.0)
    if init is not None and init not in INITIALIZATIONS:
        raise ValueError(unknown("init", init, INITIALIZATIONS))


def _check_algorithm() -> None:
    """What would go wrong in silence under the algorithm that builds a policy."""
    algorithm = next(calling_algorithms(), None)
    statistics = getattr(algorithm, "_vec_normalize_env", None)
    if statistics is not None and statistics.norm_obs and isinstance(statistics.observation_space, spaces.Dict):
        raise ValueError("VecNormalize would normalize masks and bytes of windows; use VecNormalize(env, norm_obs=False).")
    if isinstance(algorithm, SAC | TQC | TD3 | CrossQ) and not getattr(algorithm.policy_class, "learns_from_sequences", False):
        raise ValueError(
            f"{type(algorithm).__name__} with {algorithm.policy_class.__name__} would train a model each for actor and "
            "critic, without rewards; use SLACPolicy for SAC or SLACTQCPolicy for TQC, and their SequenceReplayBuffer."
        )
