"""The one features extractor: encoders, auxiliary tasks, and the hook between them and SB3."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_latent.hook import GradientBalance, Kappa, check_gradient_mode, fixed_kappa, meet, watch
from sb3_latent.link import AlgorithmLink, calling_algorithms, check_trust_region, is_being_loaded, link_to_algorithm
from sb3_latent.nn import ObservationEncoder
from sb3_latent.optimizer import AuxiliaryOptimizer
from sb3_latent.tasks import TaskSet
from sb3_latent.types import Coefficient, GradientMode, Latent, Observations
from sb3_latent.weights import restore


class LatentExtractor(BaseFeaturesExtractor):
    """
    Encodes observations for the policy and, while an SB3 algorithm trains, learns from auxiliary tasks as well.

    The policy reads the mean of the latent, never a sample. Tasks run in training mode with gradients enabled, so
    neither rollouts nor ``predict`` nor target networks ever run a decoder. Drop-in for ``features_extractor_class`` of
    every SB3 and sb3-contrib algorithm; :func:`sb3_latent.latent_kwargs` writes the arguments.

    :param observation_space: image, vector or Dict of them. Every key of a Dict has an encoder of its own. Pixels are looked
        at once, in the first batch that is not black.
    :param latent_dim: length of a latent; 20 in Table 1 of seed document 000.
    :param trunk: name or dotted path for images; None takes ``"nature"`` for images. Vectors take ``"mlp"``.
    :param trunk_kwargs: further arguments of the trunk of images.
    :param head: name or dotted path.
    :param head_kwargs: further arguments of the head.
    :param per_frame: encode each frame of a stack with the one encoder and concatenate the means, as seed 000 does;
        tasks then see single frames.
    :param n_frames: frames in a stack, with ``per_frame``; None takes one grey frame a channel.
    :param tasks: tasks by name or dotted path, each with its arguments.
    :param include: keys of a Dict observation that have tasks; None for all.
    :param exclude: keys of a Dict observation that have none.
    :param coefs: coefficient of each loss, a number or a schedule; what is not named keeps its task's default, 1 / number
        of features of a frame for reconstruction. ``"recon/camera"`` is the reconstruction of key ``camera``, ``"recon"``
        that of all keys.
    :param beta: weight of the KL against the reconstruction in the default coefficients (beta-VAE, Higgins et al. 2017).
    :param kappa: factor on the RL gradient at the latent (seed 000, eq. 3): a number, a schedule or ``"auto"``.
    :param gradient_mode: ``"joint"``: one backward, one clip, one optimizer; ``"own_optimizer"``: after each step of the
        RL optimizer the tasks take a step of their own on the same batch, as SAC+AE does.
    :param auxiliary_optimizer_kwargs: for ``"own_optimizer"``: arguments of Adam (``lr`` may be a schedule), with
        optional ``"encoder"`` and ``"decoder"`` entries for either alone.
    :param frozen: the encoder does not learn and no gradient is computed for it (PPOfixed); the attribute of that name
        may be set at any time.
    :param pretrained: encoder file to start from; survives ``ortho_init=True``.
    :raises ValueError: if a value or a combination cannot work.
    :raises TypeError: if an argument is of the wrong kind.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        *,
        latent_dim: int = 20,
        trunk: str | None = None,
        trunk_kwargs: Mapping[str, Any] | None = None,
        head: str = "deterministic",
        head_kwargs: Mapping[str, Any] | None = None,
        per_frame: bool = False,
        n_frames: int | None = None,
        tasks: Mapping[str, Mapping[str, Any]] | None = None,
        include: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        coefs: Mapping[str, Coefficient] | None = None,
        beta: float = 1.0,
        kappa: Kappa = 1.0,
        gradient_mode: GradientMode = "joint",
        auxiliary_optimizer_kwargs: Mapping[str, Any] | None = None,
        frozen: bool = False,
        pretrained: str | Path | None = None,
    ) -> None:
        check_gradient_mode(gradient_mode)
        if auxiliary_optimizer_kwargs and gradient_mode != "own_optimizer":
            raise ValueError("auxiliary_optimizer_kwargs needs gradient_mode='own_optimizer'; pass it or drop the arguments.")
        encoders = ObservationEncoder(
            observation_space, per_frame, n_frames, latent_dim, trunk, trunk_kwargs or {}, head, head_kwargs or {}
        )
        super().__init__(observation_space, encoders.features_dim)
        self.encoders = encoders
        self.tasks = TaskSet(encoders, tasks or {}, include, exclude, coefs or {}, beta)
        self.balance = GradientBalance(automatic=kappa == "auto")
        self.gradient_mode = gradient_mode
        self._kappa = kappa
        self.link = AlgorithmLink()
        self._is_pretrained = False
        self.frozen = frozen
        self.optimizer: AuxiliaryOptimizer | None = None
        if gradient_mode == "own_optimizer":
            self.optimizer = AuxiliaryOptimizer(self.encoders, self.tasks, auxiliary_optimizer_kwargs or {})
        self.set_progress_remaining(1.0)
        check_trust_region(next(calling_algorithms(), None), kappa, bool(self.tasks.active))
        if pretrained is not None and not is_being_loaded():
            self.load_weights(pretrained)

    def encode(self, observations: Observations) -> Latent:
        """
        :param observations: as SB3 preprocesses them: images in [0, 1], (B, *observation shape); a dict for a Dict space.
        :return: (B, features_dim) each part: keys one after the other, frames of a stack side by side within.
        """
        latent: Latent
        if self.frozen:
            # Not `requires_grad_(False)`: TRPO asks every parameter of a policy for its gradient.
            weights = {name: parameter.detach() for name, parameter in self.encoders.named_parameters()}
            latent = th.func.functional_call(self.encoders, weights, (observations,))
        else:
            latent = self.encoders(observations)
        return latent

    def decode(self, z: th.Tensor) -> Observations:
        """
        :param z: (B, features_dim), a mean or a sample.
        :return: reconstruction in the shape of the observation; for a Dict, of the keys that have a decoder.
        :raises ValueError: if there is no decoder.
        """
        latents = self.encoders.split(Latent(z, None))
        return self.encoders.observations(self.tasks.decode({name: latent.mean for name, latent in latents.items()}))

    def auxiliary_losses(self, observations: Observations) -> dict[str, th.Tensor]:
        """
        :param observations: as for :meth:`encode`.
        :return: every unweighted loss, a scalar: summed over features, mean over frames of the batch.
        """
        return self._losses(self.encode(observations), observations, self.tasks.labels)

    def auxiliary_loss(self, observations: Observations) -> th.Tensor:
        """
        :param observations: as for :meth:`encode`.
        :return: scalar, the losses weighted by their present coefficients.
        """
        return self.tasks.weighted_sum(self._losses(self.encode(observations), observations, self.tasks.active))

    def training_loss(
        self, latent: Latent, observations: Observations, positives: Mapping[str, th.Tensor] | None = None
    ) -> th.Tensor:
        """
        :meth:`auxiliary_loss` of a gradient step: logged, looked at for values that are not finite, its gradient measured.

        :param latent: (B, features_dim) each part, of the observations.
        :param observations: as for :meth:`encode`.
        :param positives: for each key (B * n_frames, latent_dim), for tasks that contrast.
        :return: scalar.
        :raises FloatingPointError: names a loss that is not finite.
        """
        latent = Latent(watch(latent.mean, self.balance), latent.log_var)
        latent, observations = self.link.select(latent, observations)
        frames = self.encoders.frames(observations)
        losses = self.tasks(self.encoders.split(latent), frames, self.tasks.active, positives)
        self.tasks.record(losses, self.link.num_timesteps)
        return self.tasks.weighted_sum(losses)

    def set_progress_remaining(self, progress_remaining: float) -> None:
        """
        Move every schedule on; SB3 algorithms do it by themselves, a training loop of your own calls this.

        :param progress_remaining: 1 at the start of training, 0 at its end.
        :raises TypeError: if a schedule does not return a number.
        :raises ValueError: if it returns a negative or infinite one.
        """
        self.tasks.set_progress_remaining(progress_remaining)
        self.balance.fixed = fixed_kappa(self._kappa, progress_remaining)
        if self.optimizer is not None:
            self.optimizer.set_progress_remaining(progress_remaining)

    @property
    def architecture(self) -> dict[str, Any]:
        """:return: what encoders and tasks are, as plain data; weights fit where it is the same."""
        return {"encoders": self.encoders.architecture, "tasks": self.tasks.architecture}

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
        :return: (B, features_dim), the mean of the latent.
        """
        if not th.is_grad_enabled():
            return self.encoders.means(observations)
        latent = self.encode(observations)
        if self.frozen or not self.training:
            return latent.mean
        loss = self._loss_now(latent, observations) if self.tasks.active else None
        if self.link.is_trust_region or not (self.tasks.active or self._kappa != 1):
            return latent.mean
        return meet(latent.mean, loss, self.balance)

    def train(self, mode: bool = True) -> "LatentExtractor":
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

    def apply(self, fn: Callable[[nn.Module], None]) -> "LatentExtractor":
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

    def _apply(self, fn: Callable[[th.Tensor], th.Tensor], recurse: bool = True) -> "LatentExtractor":
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

    def _losses(self, latent: Latent, observations: Observations, labels: Iterable[str]) -> dict[str, th.Tensor]:
        losses: dict[str, th.Tensor] = self.tasks(self.encoders.split(latent), self.encoders.frames(observations), labels)
        return losses

    @property
    def _tasks_step_apart(self) -> bool:
        return self.gradient_mode == "own_optimizer" or self.link.is_trust_region

    def _loss_now(self, latent: Latent, observations: Observations) -> th.Tensor | None:
        """The tasks' loss on a training batch, or None after remembering the batch for a step of their own."""
        if not self._tasks_step_apart:
            return self.training_loss(latent, observations)
        self.link.pending = observations
        return None

    def _bind(self) -> None:
        link = link_to_algorithm(self, self.link)
        if link is not self.link:
            self.link = link
            check_trust_region(link.algorithm, self._kappa, bool(self.tasks.active))
            if self.gradient_mode == "own_optimizer":
                link.after_step(self.encoders, self._auxiliary_step)
            elif link.is_trust_region:
                link.before_step(self.encoders, self._add_gradients)
        if link.progress_remaining is not None:
            self.set_progress_remaining(link.progress_remaining)

    def _pending_loss(self) -> th.Tensor | None:
        observations, self.link.pending = self.link.pending, None
        if observations is None:
            return None
        with th.enable_grad():
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
