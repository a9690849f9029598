"""The features extractor for images and vectors: encoders and auxiliary tasks."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch as th
from gymnasium import spaces
from torch import nn

from sb3_latent.execution import Execution
from sb3_latent.hook import Kappa, watch
from sb3_latent.hooked import HookedExtractor
from sb3_latent.known_batches import KnownBatch, served_by
from sb3_latent.nn import ObservationEncoder
from sb3_latent.nn.frame_memory import FrameMemory
from sb3_latent.nn.frozen_memory import FrozenMemory
from sb3_latent.nn.repeats import Repeats
from sb3_latent.tasks import TaskSet
from sb3_latent.types import Coefficient, GradientMode, Latent, Observations


class LatentExtractor(HookedExtractor[Latent]):
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
    :param autocast: layers of encoder and tasks compute in bfloat16 while the encoder learns; latents and losses are float32
        again before RL meets them. An agent acts in float32, so PPO's first ratios are not exactly 1. Not for TRPO.
    :param compile: the encoder goes through ``torch.compile`` while it learns: seconds at the first gradient steps, then
        fewer and larger kernels. Not for TRPO.
    :param channels_last: convolutions of encoder and decoders read images whose channels lie last in memory; other sums, so
        other rounding. Vectors stay as they are.
    :raises ValueError: if a value or a combination cannot work.
    :raises TypeError: if an argument is of the wrong kind.
    """

    encoders: ObservationEncoder
    tasks: TaskSet

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
        autocast: bool = False,
        compile: bool = False,
        channels_last: bool = False,
    ) -> None:
        encoders = ObservationEncoder(
            observation_space, per_frame, n_frames, latent_dim, trunk, trunk_kwargs or {}, head, head_kwargs or {}
        )
        super().__init__(
            observation_space,
            encoders.features_dim,
            encoders,
            TaskSet(encoders, tasks or {}, include, exclude, coefs or {}, beta),
            kappa,
            gradient_mode,
            auxiliary_optimizer_kwargs,
            frozen,
            pretrained,
            Execution(autocast, compile, channels_last),
        )
        stacked = {name: spec.n_frames for name, spec in encoders.specs.items() if spec.n_frames > 1}
        self._acting_memories = {name: FrameMemory(encoders[name], n) for name, n in stacked.items()}
        self._frozen_memories = {name: FrozenMemory() for name in encoders}

    def train(self, mode: bool = True) -> "LatentExtractor":
        """
        :param mode: see :meth:`HookedExtractor.train`; what was encoded before an update is forgotten.
        :return: self.
        """
        if mode:
            self._forget_acting()
            for memory in self._frozen_memories.values():
                memory.forget()
        self.link.arrival_check.raise_if_different()
        super().train(mode)
        return self

    def _forget_acting(self) -> None:
        for memory in self._acting_memories.values():
            memory.forget()

    def _bind(self) -> None:
        previous = self.link
        super()._bind()
        if self._acting_memories and self.link is not previous:
            # Whoever takes a step outside of `train()`, perhaps with an optimizer whose steps torch does not count.
            self.link.after_step(self.encoders, self._forget_acting)

    def forward(self, observations: Observations) -> th.Tensor:
        """
        :param observations: as for :meth:`encode`.
        :return: (B, features_dim), the mean of the code.
        """
        is_training = self.training and th.is_grad_enabled()
        self.link.known = self._known(observations) if is_training else None
        if self.frozen and self.link.known is not None:
            numbers = self.link.known.numbers
            recalled = {name: partial(one.means, numbers=numbers[name]) for name, one in self._frozen_memories.items()}
            with th.no_grad():
                return self.encoders.means(observations, recalled)
        return super().forward(observations)

    def encode(self, observations: Observations) -> Latent:
        """
        :param observations: see :meth:`HookedExtractor.encode`.
        :return: (B, features_dim) each part.
        """
        if not self._is_learning:
            return super().encode(observations)
        arguments = self._encoder_arguments(observations)
        with self._precision():
            latent = self.execution.run(self.encoders.has_checked_pixels, _encode, self.encoders, *arguments)
        return latent.map(th.Tensor.float) if self.execution.autocast else latent

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
        self, code: Latent, observations: Observations, positives: Mapping[str, th.Tensor] | None = None
    ) -> th.Tensor:
        """
        :meth:`auxiliary_loss` of a gradient step: logged, looked at for values that are not finite, its gradient measured.

        :param code: (B, features_dim) each part, of the observations.
        :param observations: as for :meth:`encode`.
        :param positives: for each key (B * n_frames, latent_dim), for tasks that contrast.
        :return: scalar.
        :raises FloatingPointError: names a loss that is not finite.
        """
        code = Latent(watch(code.mean, self.balance), code.log_var)
        repeats = self._repeats(observations)
        latent, observations = self.link.select(code, observations)
        latents, frames = self.encoders.split(latent), self.encoders.frames(observations)
        for name, repeated in repeats.items():
            latents[name] = latents[name].map(repeated.mean)
            frames[name] = repeated.once(frames[name])
        weights = {name: repeated.weights for name, repeated in repeats.items()}
        with self._precision():
            losses = self.tasks(latents, frames, self.tasks.active, positives, weights)
        self.tasks.record(losses, self.link.num_timesteps)
        return self.tasks.weighted_sum(losses)

    def inputs(self, observations: Observations) -> dict[str, tuple[nn.Module, Observations]]:
        frames = self.encoders.frames(observations)
        return {name: (self.encoders[name], frames[name]) for name in self.encoders}

    def _means(self, observations: Observations) -> th.Tensor:
        """Stacks follow each other where an algorithm acts with the encoder it trains, not in batches of a target network."""
        is_acting = self.link.algorithm is not None and not self.training and not th.compiler.is_compiling()
        memories = self._acting_memories if is_acting else {}
        return self.encoders.means(observations, {name: memory.means for name, memory in memories.items()})

    def _encoder_arguments(self, observations: Observations) -> tuple[Any, ...]:
        return observations, self._repeats(observations)

    def _repeats(self, observations: Observations) -> dict[str, Repeats]:
        """Of the batch that the policy handed in last, and of no other."""
        known = self.link.known
        return known.repeats if known is not None and known.observations is observations else {}

    def _known(self, observations: Observations) -> KnownBatch | None:
        algorithm = self.link.algorithm
        minibatch = served_by(algorithm, observations)
        is_of_use = self.frozen or bool(self._acting_memories)
        if algorithm is None or minibatch is None or not is_of_use:
            return None
        self.link.arrival_check.compare(observations, minibatch, self._observation_space, algorithm.policy.normalize_images)
        return KnownBatch(observations, minibatch, self.encoders.specs)

    def _losses(self, latent: Latent, observations: Observations, labels: Iterable[str]) -> dict[str, th.Tensor]:
        with self._precision():
            losses: dict[str, th.Tensor] = self.tasks(self.encoders.split(latent), self.encoders.frames(observations), labels)
        return losses

    @property
    def _is_learning(self) -> bool:
        return self.training and th.is_grad_enabled() and not self.frozen

    def _precision(self) -> AbstractContextManager[Any]:
        return self.execution.precision(self) if self._is_learning else nullcontext()


def _encode(encoders: ObservationEncoder, *arguments: Any) -> Latent:
    latent: Latent = encoders(*arguments)
    return latent
