"""One encoder for actor, critic and targets, and one pass through it with gradients in a gradient step."""

import weakref
from collections.abc import Sequence
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.utils import polyak_update
from torch import nn

from sb3_latent.extractor import LatentExtractor
from sb3_latent.nn import ObservationEncoder, ObservationHeads
from sb3_latent.policies.views import Encoding, ViewMaker, Views
from sb3_latent.sharing import Sharing
from sb3_latent.types import Latent, Observations


class SharedEncoder:
    """
    Encodes each batch once for all who read it, and takes their gradients home.

    SB3 hands the objects that ``sample()`` returned to actor, critic and target, and stock ``SAC.train`` asks for features
    of the same observations three times, of the next ones twice; the :class:`Views` that ride on them remember.

    :param extractor: encoder and tasks.
    :param target: what the target networks read; the extractor itself where they have no encoder of their own.
    :param space: observation space of the policy.
    :param normalize_images: as SB3's policies have it.
    :param sharing: the settings.
    :raises ValueError: if the settings do not fit the extractor.
    """

    def __init__(
        self,
        extractor: LatentExtractor,
        target: LatentExtractor,
        space: spaces.Space[Any],
        normalize_images: bool,
        sharing: Sharing,
    ) -> None:
        self.extractor = extractor
        self.target = target
        self.sharing = sharing
        self.task_is_due = True
        self.actor_is_due = True
        self._maker = ViewMaker(space, normalize_images, sharing)
        self._halves = {False: _Halves(extractor.encoders), True: _Halves(target.encoders)}
        self._step = _Step()
        if extractor.tasks.contrasts and (not sharing.augmentation or target is extractor):
            raise ValueError(
                "a task that contrasts two views needs augmentation={'random_shift': {}}, and target_encoder=True for its "
                "momentum encoder."
            )

    def critic_features(self, observations: Observations, is_target: bool, learns: bool) -> th.Tensor:
        """
        :param observations: (B, *observation shape), raw.
        :param is_target: whether the target critic asks.
        :param learns: whether the critic's loss is computed; the actor's loss reads the critic as it is.
        :return: (B, features_dim); several views one after the other.
        """
        if not self.extractor.training:
            return self._encoders(is_target).means(self._maker.preprocessed(observations))
        views = self._views(observations, is_next=is_target)
        if is_target:
            return self._target(views).for_critic
        if not learns:
            return self._online(views).for_critic[: views.batch_size].detach()
        if views.is_next or (views.online is not None and views.online.has_taught_critic):
            views = self._made(observations, is_next=False)
        if all(batch.online is None or batch.online.has_taught_critic for batch in self._step.batches):
            self._step.batches.clear()
        self._step.batches.append(views)
        return self._online(views).for_critic

    def n_critic_views(self, learns: bool) -> int:
        """
        :param learns: as for :meth:`critic_features`.
        :return: views that the critic is shown.
        """
        return self.sharing.n_q_views if learns and self.extractor.training else 1

    def actor_features(self, observations: Observations, heads: ObservationHeads | None, is_target: bool) -> th.Tensor:
        """
        :param observations: (B, *observation shape), raw.
        :param heads: of the actor; None where it reads the latent.
        :param is_target: whether TD3's target actor asks.
        :return: (B, features_dim); several views of the next observations one after the other.
        """
        if not self.extractor.training:
            encoders, inputs = self._encoders(is_target), self._maker.preprocessed(observations)
            return encoders.means(inputs) if heads is None else heads(encoders.hidden(inputs))
        views = self._views(observations, is_next=not th.is_grad_enabled())
        if th.is_grad_enabled() and views.online is not None and views.online.has_taught_actor:
            views = self._made(observations, is_next=False)
        encoding = self._target(views) if is_target else self._online(views)
        return encoding.for_actor if heads is None else heads(encoding.for_actor_heads)

    def backward(self) -> None:
        """Before the critic's step: the gradients of critic and tasks, through the encoder."""
        for views in self._step.batches:
            if views.online is not None and not views.online.has_taught_critic:
                self._backward(views, views.online)

    def _backward(self, views: Views, encoding: Encoding) -> None:
        balance = self.extractor.balance
        encoding.has_taught_critic = True
        keeps_graph = self.sharing.moves_encoder("actor")
        outputs: list[th.Tensor] = []
        gradients: list[th.Tensor | None] = []
        if encoding.for_critic.grad is not None:
            # The tasks read one view; a gradient of several is that of their sum.
            balance.see_rl(th.stack(th.split(encoding.for_critic.grad, views.batch_size)).sum(0))
            outputs.append(encoding.features)
            gradients.append(encoding.for_critic.grad * balance.kappa)
        loss = self._task_loss(views, encoding)
        if loss is not None and self.extractor.optimizer is not None:
            kept = bool(outputs) or keeps_graph
            self._step.task_gradients.append(self.extractor.optimizer.gradients(loss, retain_graph=kept))
        elif loss is not None:
            outputs.append(loss)
            gradients.append(None)
        if outputs:
            th.autograd.backward(outputs, gradients, retain_graph=keeps_graph)

    def step_tasks(self) -> None:
        """After the critic's step: the tasks' own, where they have an optimizer."""
        for views in self._step.views:
            # Nobody reads the next observations again in this gradient step, and the encoder is another one now.
            views.is_over |= views.is_next
        if self._step.task_gradients and self.extractor.optimizer is not None:
            self.extractor.optimizer.step([_sum(parts) for parts in zip(*self._step.task_gradients, strict=True)])
            self._step.task_gradients.clear()

    def backward_actor(self) -> None:
        """Before the actor's step: its gradient through the encoder, where it has one."""
        for views in self._step.batches:
            if views.online is None or views.online.has_taught_actor:
                continue
            views.online.has_taught_actor = True
            pairs = [(output, cut.grad) for output, cut in views.online.read_by_actor() if cut.grad is not None]
            if pairs:
                outputs, gradients = zip(*pairs, strict=True)
                th.autograd.backward(outputs, [gradient * self.extractor.balance.kappa for gradient in gradients])

    def end_step(self) -> None:
        """Observations that are handed out again are encoded again: their features are those of other weights."""
        for views in self._step.views:
            views.is_over = True
        self._step.views.clear()
        self._step.batches.clear()

    def update_target(self, tau: float) -> None:
        """
        Move the target encoder towards the encoder.

        :param tau: rate, in (0, 1].
        """
        if self.target is not self.extractor:
            online, target = self.extractor.encoders, self.target.encoders
            polyak_update(online.parameters(), target.parameters(), tau)
            for ours, theirs in zip(online.buffers(), target.buffers(), strict=True):
                theirs.copy_(ours)

    def __getstate__(self) -> dict[str, Any]:
        """What belongs to a gradient step stays behind."""
        return {name: value for name, value in vars(self).items() if name != "_step"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _step=_Step())

    def _encoders(self, is_target: bool) -> ObservationEncoder:
        return (self.target if is_target else self.extractor).encoders

    @property
    def _runs_tasks(self) -> bool:
        return self.task_is_due and bool(self.extractor.tasks.active) and not self.extractor.frozen

    @property
    def _learns(self) -> bool:
        moves = self.sharing.moves_encoder
        return not self.extractor.frozen and (moves("critic") or moves("actor") or (moves("task") and self._runs_tasks))

    def _views(self, observations: Observations, is_next: bool) -> Views:
        views = self._maker.find(observations)
        return self._made(observations, is_next) if views is None else views

    def _made(self, observations: Observations, is_next: bool) -> Views:
        """Also for observations whose graph is used up."""
        runs_tasks = self._runs_tasks and not is_next
        views = self._maker.make(observations, is_next, runs_tasks, runs_tasks and self.extractor.tasks.contrasts)
        self._step.views.add(views)
        return views

    def _online(self, views: Views) -> Encoding:
        if views.online is None:
            with_graph = self._learns and not views.is_next
            views.online = self._encoding(views, False, with_graph)
        return views.online

    def _target(self, views: Views) -> Encoding:
        if self.target is self.extractor:
            return self._online(views)
        if views.target is None:
            views.target = self._encoding(views, True, False)
        return views.target

    def _encoding(self, views: Views, is_target: bool, with_graph: bool) -> Encoding:
        halves = self._halves[is_target]
        weights = None
        if with_graph and self.sharing.moves_encoder("actor"):
            # The critic's step changes weights in place, and the actor's gradient needs them as they were.
            weights = {name: parameter.clone() for name, parameter in halves.named_parameters()}
        execution = self.extractor.execution
        with th.set_grad_enabled(with_graph), execution.precision(self.extractor):
            hidden, latent = execution.run(halves.encoders.has_checked_pixels, _encode, halves, weights, views.inputs)
            hidden = {name: part.float() for name, part in hidden.items()}
            latent = latent.map(th.Tensor.float)
            features = latent.sample() if self.sharing.sample_latent else latent.mean
        return Encoding(hidden, latent, features, views, self.sharing)

    def _task_loss(self, views: Views, encoding: Encoding) -> th.Tensor | None:
        """None where no task is due, or none learns anything."""
        if not self._runs_tasks:
            return None
        latent = encoding.task_latent
        if not self.sharing.moves_encoder("task"):
            latent = latent.map(th.Tensor.detach)
        loss = self.extractor.training_loss(latent, views.task_inputs, self._positives(views))
        return loss if loss.requires_grad else None

    def _positives(self, views: Views) -> dict[str, th.Tensor] | None:
        if views.positive_inputs is None:
            return None
        with th.no_grad(), self.extractor.execution.precision(self.extractor):
            mean = self.target.encoders.means(views.positive_inputs)
        return {name: latent.mean for name, latent in self.target.encoders.split(Latent(mean, None)).items()}


class _Step:
    """
    What a gradient step leaves for its end: the batches that the critic learns from, kept until the optimizers step; all
    views, which live as long as their observations; and the tasks' gradients for each batch.
    """

    def __init__(self) -> None:
        self.batches: list[Views] = []
        self.views: weakref.WeakSet[Views] = weakref.WeakSet()
        self.task_gradients: list[Sequence[th.Tensor | None]] = []


class _Halves(nn.Module):
    """Both halves of an encoding in one call, for ``functional_call`` and ``torch.compile``."""

    def __init__(self, encoders: ObservationEncoder) -> None:
        super().__init__()
        self.encoders = encoders

    def forward(self, inputs: Observations) -> tuple[dict[str, th.Tensor], Latent]:
        hidden = self.encoders.hidden(inputs)
        return hidden, self.encoders.latent(hidden)


def _encode(halves: _Halves, weights: dict[str, th.Tensor] | None, inputs: Observations) -> Any:
    return halves(inputs) if weights is None else th.func.functional_call(halves, weights, (inputs,))


def _sum(gradients: Sequence[th.Tensor | None]) -> th.Tensor | None:
    """Of several batches before one step; None where no loss reached the parameter."""
    given = [gradient for gradient in gradients if gradient is not None]
    return th.stack(given).sum(0) if len(given) > 1 else next(iter(given), None)
