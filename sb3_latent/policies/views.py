"""A batch as the networks of an off-policy agent see it, and what was made of it."""

from collections.abc import Iterator
from typing import Any, cast

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs

from sb3_latent.nn import AUGMENTATIONS
from sb3_latent.sharing import Sharing
from sb3_latent.types import Latent, Observations

_ATTRIBUTE = "_sb3_latent_views"


class Views:
    """
    A batch, augmented and preprocessed, with its encodings. Rides on the observations that a replay buffer hands out, is
    found again wherever SB3 passes them on, and is freed with them.

    :param inputs: (n_rows, *observation shape): the views for RL, one after the other, then the tasks' own if they have one.
    :param batch_size: rows of a view.
    :param n_views: views for RL.
    :param is_next: whether these are next observations, which nobody learns from.
    :param positive_inputs: (batch_size, *observation shape), a further view for tasks that contrast.
    """

    def __init__(
        self, inputs: Observations, batch_size: int, n_views: int, is_next: bool, positive_inputs: Observations | None
    ) -> None:
        self.inputs = inputs
        self.batch_size = batch_size
        self.is_next = is_next
        self.n_rows = batch_size_of(inputs)
        self.n_rl_rows = batch_size * n_views
        self.positive_inputs = positive_inputs
        self.is_over = False
        self.online: Encoding | None = None
        self.target: Encoding | None = None

    @property
    def n_actor_rows(self) -> int:
        """:return: the actor learns from the first view, and chooses next actions in all of them."""
        return self.n_rl_rows if self.is_next else self.batch_size

    @property
    def task_rows(self) -> slice:
        """:return: the rows that tasks read: their own view, or the first."""
        start = self.n_rl_rows if self.n_rows > self.n_rl_rows else 0
        return slice(start, start + self.batch_size)

    @property
    def task_inputs(self) -> Observations:
        """:return: (batch_size, *observation shape)."""
        if isinstance(self.inputs, dict):
            return {name: array[self.task_rows] for name, array in self.inputs.items()}
        return self.inputs[self.task_rows]


class Encoding:
    """
    What an encoder makes of :class:`Views`. Actor and critic read copies cut off from the graph, where their gradients wait
    until the encoder takes them all.

    :param hidden: for each key (n_rows * n_frames, trunk's out_dim).
    :param latent: (n_rows, features_dim) each part.
    :param features: (n_rows, features_dim), mean or sample of the latent.
    :param views: what was encoded.
    :param sharing: whose gradients the encoder takes.
    """

    def __init__(
        self, hidden: dict[str, th.Tensor], latent: Latent, features: th.Tensor, views: Views, sharing: Sharing
    ) -> None:
        self.has_taught_critic = False
        self.has_taught_actor = False
        self.task_latent = latent.map(lambda part: part[views.task_rows])
        self.features = features[: views.n_rl_rows]
        actor_share = {name: len(part) * views.n_actor_rows // views.n_rows for name, part in hidden.items()}
        self._actor_features = features[: views.n_actor_rows]
        self._actor_hidden = {name: part[: actor_share[name]] for name, part in hidden.items()}
        teaches = features.requires_grad
        self.for_critic = self.features.detach().requires_grad_(teaches and sharing.moves_encoder("critic"))
        self.for_actor = self._actor_features.detach().requires_grad_(teaches and sharing.moves_encoder("actor"))
        self.for_actor_heads = {
            name: part.detach().requires_grad_(teaches and sharing.moves_encoder("actor"))
            for name, part in self._actor_hidden.items()
        }

    def read_by_actor(self) -> Iterator[tuple[th.Tensor, th.Tensor]]:
        """:return: what the encoder made, and the copy that the actor read."""
        yield self._actor_features, self.for_actor
        for name, part in self._actor_hidden.items():
            yield part, self.for_actor_heads[name]


class ViewMaker:
    """
    Augments raw observations, as bytes where they are, and preprocesses them as SB3 does.

    :param space: observation space of the policy.
    :param normalize_images: as SB3's policies have it.
    :param sharing: which batches are augmented, and how often.
    :raises ValueError: if the augmentation is unknown.
    """

    def __init__(self, space: spaces.Space[Any], normalize_images: bool, sharing: Sharing) -> None:
        self.space = space
        self.normalize_images = normalize_images
        self.sharing = sharing
        made = [AUGMENTATIONS.make(name, kwargs=kwargs) for name, kwargs in (sharing.augmentation or {}).items()]
        self._augmentations = [augmentation for augmentation in made if not augmentation.is_off]

    def preprocessed(self, observations: Observations) -> Observations:
        """
        :param observations: (B, *observation shape), raw.
        :return: the same shape, images in [0, 1].
        """
        if isinstance(observations, dict):
            spaces_by_key = cast(spaces.Dict, self.space).spaces
            return {name: self._preprocessed_array(array, spaces_by_key[name]) for name, array in observations.items()}
        return self._preprocessed_array(observations, self.space)

    def find(self, observations: Observations) -> Views | None:
        """
        :param observations: raw.
        :return: the views that ride on them; None if they were not seen before in this gradient step.
        """
        riding = {id(rider): rider for rider in (getattr(array, _ATTRIBUTE, None) for array in _arrays(observations))}
        (rider,) = riding.values() if len(riding) == 1 else (None,)
        if rider is None or rider[0] is not self:
            return None
        views = cast(Views, rider[1])
        return None if views.is_over else views

    def make(self, observations: Observations, is_next: bool, for_tasks: bool, for_contrast: bool) -> Views:
        """
        :param observations: (B, *observation shape), raw; the views will ride on them.
        :param is_next: whether these are next observations.
        :param for_tasks: whether tasks read them.
        :param for_contrast: whether a task contrasts two views.
        :return: the views.
        """
        n_views = self.sharing.n_target_views if is_next else self.sharing.n_q_views
        rl, task = (bool(self._augmentations) and batch in self.sharing.augmented for batch in ("rl", "task"))
        kinds = [rl] * n_views + [task] * (for_tasks and task != rl)
        parts = [self._augmented(observations) if augments else observations for augments in kinds]
        positives = self.preprocessed(self._augmented(observations)) if for_contrast else None
        views = Views(self.preprocessed(_stacked(parts)), batch_size_of(observations), n_views, is_next, positives)
        rider = (self, views)
        for array in _arrays(observations):
            setattr(array, _ATTRIBUTE, rider)
        return views

    def _preprocessed_array(self, array: th.Tensor, space: spaces.Space[Any]) -> th.Tensor:
        if self.normalize_images and is_image_space(space):
            # The numbers of SB3's `preprocess_obs`, in one pass over memory and in the layout that convolutions like.
            return array.to(th.float32, memory_format=th.channels_last, copy=True).div_(255.0)
        inputs = cast(th.Tensor, preprocess_obs(array, space, self.normalize_images))
        # What is floats already comes back as it is, and a batch must not hold itself: torch's views hide that from Python.
        return inputs.detach() if inputs is array else inputs

    def _augmented(self, observations: Observations) -> Observations:
        if isinstance(observations, dict):
            return {
                name: self._augmented_array(array, cast(spaces.Dict, self.space).spaces[name])
                for name, array in observations.items()
            }
        return self._augmented_array(observations, self.space)

    def _augmented_array(self, array: th.Tensor, space: spaces.Space[Any]) -> th.Tensor:
        if is_image_space(space, normalized_image=True):
            for augmentation in self._augmentations:
                array = augmentation(array)
        return array


def batch_size_of(observations: Observations) -> int:
    """
    :param observations: (B, ...), or a dict of such.
    :return: B.
    """
    return len(_arrays(observations)[0])


def _arrays(observations: Observations) -> list[th.Tensor]:
    return list(observations.values()) if isinstance(observations, dict) else [observations]


def _stacked(parts: list[Observations]) -> Observations:
    if len(parts) == 1:
        return parts[0]
    arrays = [part if isinstance(part, dict) else {"": part} for part in parts]
    stacked = {name: th.cat([part[name] for part in arrays]) for name in arrays[0]}
    return stacked if isinstance(parts[0], dict) else stacked[""]
