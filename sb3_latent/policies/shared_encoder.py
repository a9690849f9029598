"""One encoder for actor, critic and targets, and one pass through it with gradients in a gradient step."""

import weakref
from collections.abc import Callable, Sequence
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
        self._encode: Callable[..., Any] = th.compile(_encode) if sharing.compile else _encode
        self._pending: weakref.ref[Views] | None = None
        self._task_gradients: Sequence[th.Tensor | None] | None = None
        if extractor.tasks.contrasts and (sharing.augmentation is None or target is extractor):
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
        self._pending = weakref.ref(views)
        return self._online(views, again=views.online is not None and views.online.has_taught_critic).for_critic

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
        if is_target:
            encoding = self._target(views)
        else:
            encoding = self._online(views, again=views.online is not None and views.online.has_taught_actor)
        return encoding.for_actor if heads is None else heads(encoding.for_actor_heads)

    def backward(self) -> None:
        """Before the critic's step: the gradients of critic and tasks, through the encoder."""
        views = None if self._pending is None else self._pending()
        if views is None or views.online is None or views.online.has_taught_critic:
            return
        encoding, balance = views.online, self.extractor.balance
        encoding.has_taught_critic = True
        keeps_graph = self.sharing.moves_encoder("actor")
        outputs: list[th.Tensor] = []
        gradients: list[th.Tensor | None] = []
        if encoding.for_critic.grad is not None:
            # The tasks read one view; a gradient of several is that of their sum.
            balance.see_rl(th.stack(th.split(encoding.for_critic.grad, views.batch_size)).sum(0))
            outputs.append(encoding.features)
            gradients.append(encoding.for_critic.grad * balance.kappa)
        loss = self._task_loss(views)
        if loss is not None and self.extractor.optimizer is not None:
            self._task_gradients = self.extractor.optimizer.gradients(loss, retain_graph=bool(outputs) or keeps_graph)
        elif loss is not None:
            outputs.append(loss)
            gradients.append(None)
        if outputs:
            th.autograd.backward(outputs, gradients, retain_graph=keeps_graph)

    def step_tasks(self) -> None:
        """After the critic's step: the tasks' own, where they have an optimizer."""
        gradients, self._task_gradients = self._task_gradients, None
        if gradients is not None and self.extractor.optimizer is not None:
            self.extractor.optimizer.step(gradients)

    def backward_actor(self) -> None:
        """Before the actor's step: its gradient through the encoder, where it has one."""
        views = None if self._pending is None else self._pending()
        if views is None or views.online is None or views.online.has_taught_actor:
            return
        views.online.has_taught_actor = True
        pairs = [(output, cut.grad) for output, cut in views.online.read_by_actor() if cut.grad is not None]
        if pairs:
            outputs, gradients = zip(*pairs, strict=True)
            th.autograd.backward(outputs, [gradient * self.extractor.balance.kappa for gradient in gradients])

    def update_target(self, tau: float) -> None:
        """
        Move the target encoder towards the encoder.

        :param tau: rate, in (0, 1].
        """
        if self.target is not self.extractor:
            online, target = self.extractor.encoders, self.target.encoders
            polyak_update(online.parameters(), target.parameters(), tau)
            polyak_update(online.buffers(), target.buffers(), 1.0)

    def __getstate__(self) -> dict[str, Any]:
        """What belongs to a gradient step stays behind."""
        return {**vars(self), "_pending": None, "_task_gradients": None}

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
        views = Views.of(observations)
        if views is None:
            runs_tasks = self._runs_tasks and not is_next
            views = self._maker.make(observations, is_next, runs_tasks, runs_tasks and self.extractor.tasks.contrasts)
        return views

    def _online(self, views: Views, again: bool = False) -> Encoding:
        """``again``: the same observations in another gradient step, after a graph was used up."""
        if views.online is None or again:
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
        with th.set_grad_enabled(with_graph), self._precision():
            hidden, latent = self._encode(halves, weights, views.inputs)
            hidden = {name: part.float() for name, part in hidden.items()}
            latent = latent.map(th.Tensor.float)
            features = latent.sample() if self.sharing.sample_latent else latent.mean
        return Encoding(hidden, latent, features, views, self.sharing)

    def _task_loss(self, views: Views) -> th.Tensor | None:
        """None where no task is due."""
        if not self._runs_tasks or views.online is None:
            return None
        latent = views.online.task_latent
        if not self.sharing.moves_encoder("task"):
            latent = latent.map(th.Tensor.detach)
        with self._precision():
            return self.extractor.training_loss(latent, views.task_inputs, self._positives(views))

    def _positives(self, views: Views) -> dict[str, th.Tensor] | None:
        if views.positive_inputs is None:
            return None
        with th.no_grad():
            mean = self.target.encoders.means(views.positive_inputs)
        return {name: latent.mean for name, latent in self.target.encoders.split(Latent(mean, None)).items()}

    def _precision(self) -> th.autocast:
        device = next(iter(self.extractor.parameters()), th.empty(0)).device
        return th.autocast(device.type, th.bfloat16, enabled=self.sharing.autocast)


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
