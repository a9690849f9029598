"""What actor and critic read of windows, and the one pass of the latent model that it comes from."""

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch as th
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_latent.checks import whole_number
from sb3_latent.dynamics_extractor import DynamicsExtractor
from sb3_latent.types import Observations
from sb3_latent.windows import ACTIONS, FRAMES, Reads, WindowBatch, WindowObservations


class Belief(NamedTuple):
    """
    What the model makes of a batch of windows of T + 1 frames; without a graph.

    :param features: (B, T + 1, features_dim), of the frames.
    :param states: (B, T + 1, state_dim), a sample of the posterior.
    """

    features: th.Tensor
    states: th.Tensor


class ModelLearner:
    """
    Observes each batch once for all who read it, and trains the model on its first rows on the way.

    Model, critic, target and actor share one posterior pass; the model's step comes right after it, so that they read what the
    weights before that step made.

    :param extractor: holds the model, its losses and its optimizer.
    :param model_batch_size: rows that the model learns from.
    :param n_model_updates: steps of the model in a gradient step; those after the first draw windows of their own.
    :raises ValueError: if a number is no positive integer.
    """

    def __init__(self, extractor: DynamicsExtractor, model_batch_size: int, n_model_updates: int) -> None:
        self.extractor = extractor
        self.model_batch_size = whole_number("model_batch_size", model_batch_size)
        self.n_model_updates = whole_number("n_model_updates", n_model_updates)
        self._beliefs: WeakKeyDictionary[WindowBatch, Belief] = WeakKeyDictionary()

    def belief(self, batch: WindowBatch) -> Belief:
        """
        :param batch: windows; the first to ask for one has the model learn from it.
        :return: what the model makes of it.
        """
        if batch not in self._beliefs:
            self._beliefs[batch] = self._observe(batch, 0 if self.extractor.frozen else self.model_batch_size)
            if not self.extractor.frozen:
                for _ in range(self.n_model_updates - 1):
                    self.update(self._sample())
        return self._beliefs[batch]

    def update(self, batch: WindowBatch) -> None:
        """
        One step of the model.

        :param batch: windows, all of which it learns from.
        :raises FloatingPointError: names a loss that is not finite.
        :raises ValueError: if the model is frozen.
        """
        if self.extractor.frozen:
            raise ValueError("the model is frozen and learns nothing; set frozen=False, or leave it as it is.")
        self._observe(batch, len(batch.terminals))

    def _observe(self, batch: WindowBatch, n_learning: int) -> Belief:
        model = self.extractor.model
        loss = None
        parts = []
        for rows, learns in ((batch.rows(slice(n_learning)), True), (batch.rows(slice(n_learning, None)), False)):
            if len(rows.terminals) == 0:
                continue
            with th.set_grad_enabled(learns):
                features = model.encode(rows.frames)
                trajectory = model.observe(features, rows.actions, rows.mask)
                if learns:
                    loss = self.extractor.batch_loss(trajectory, rows)
            parts.append(Belief(features.detach(), trajectory.states.detach()))
        if loss is not None and loss.requires_grad:
            self._step(loss)
        return Belief(*(th.cat(pair) for pair in zip(*parts, strict=True)))

    def _step(self, loss: th.Tensor) -> None:
        optimizer = self.extractor.optimizer
        assert optimizer is not None
        optimizer.step(optimizer.gradients(loss))

    def _sample(self) -> WindowBatch:
        algorithm = self.extractor.link.algorithm
        if not isinstance(algorithm, OffPolicyAlgorithm) or algorithm.replay_buffer is None:
            raise ValueError(
                f"n_model_updates={self.n_model_updates} draws from a replay buffer, and no algorithm is training."
            )
        samples = algorithm.replay_buffer.sample(self.model_batch_size, env=algorithm._vec_normalize_env)
        return batch_of(samples.observations)[0]

    def __getstate__(self) -> dict[str, Any]:
        """What belongs to a gradient step stays behind."""
        return {name: value for name, value in vars(self).items() if name != "_beliefs"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _beliefs=WeakKeyDictionary())


class WindowReader(BaseFeaturesExtractor):
    """
    Stands where SB3 wants a features extractor, and holds no network.

    :param observation_space: windows.
    :param learner: has the model.
    :param reads: ``"latent"``: the last state; ``"history"``: the features of all frames and the actions between them.
    """

    def __init__(self, observation_space: spaces.Space[Any], learner: ModelLearner, reads: Reads) -> None:
        encoders = learner.extractor.encoders
        spec = encoders.spec
        history = spec.length * encoders.trunk.out_dim + (spec.length - 1) * spec.action_dim
        super().__init__(observation_space, history if reads == "history" else encoders.dynamics.state_dim)
        self.learner = learner
        self.reads = reads

    def forward(self, observations: Observations) -> th.Tensor:
        """
        :param observations: windows, raw; those of a replay buffer in a gradient step.
        :return: (B, features_dim), without a graph.
        """
        with th.no_grad():
            if not self.learner.extractor.training:
                return self._acting(observations)
            batch, is_next = batch_of(observations)
            belief = self.learner.belief(batch)
            length = batch.actions.shape[1]
            if self.reads == "latent":
                return belief.states[:, length - 1 + is_next]
            frames, actions = slice(is_next, is_next + length), slice(is_next, is_next + length - 1)
            return self._history(belief.features[:, frames], batch.actions[:, actions])

    def _acting(self, windows: Observations) -> th.Tensor:
        assert isinstance(windows, dict)
        encoders = self.learner.extractor.encoders
        if self.reads == "latent":
            return encoders.means(windows)
        return self._history(encoders.encode(windows[FRAMES]), windows[ACTIONS])

    def _history(self, features: th.Tensor, actions: th.Tensor) -> th.Tensor:
        return th.cat([features.flatten(1), actions.flatten(1)], 1)


def batch_of(observations: Observations) -> tuple[WindowBatch, int]:
    """
    :param observations: from a replay buffer.
    :return: the batch they are cut from, and by how many steps they are later than it.
    :raises ValueError: if the buffer is no SequenceReplayBuffer.
    """
    if not isinstance(observations, WindowObservations):
        raise ValueError(
            "these windows carry no batch to learn a model from; pass replay_buffer_class=SequenceReplayBuffer, or "
            "call policy.set_training_mode(False) to ask outside of training."
        )
    return observations.batch, int(observations.is_next)
