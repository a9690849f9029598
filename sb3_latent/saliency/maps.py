"""Saliency maps of any model of SB3 or sb3-contrib."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_latent.evaluation import evaluating
from sb3_latent.saliency.inputs import Array, Frames, make_scene
from sb3_latent.saliency.methods import METHODS, Method
from sb3_latent.saliency.scene import Scene
from sb3_latent.saliency.situation import LstmStates
from sb3_latent.types import Observations


def saliency(
    model: BaseAlgorithm,
    observations: Array | Mapping[str, Array],
    target: str = "value",
    method: str = "jacobian",
    *,
    actions: Array | None = None,
    lstm_states: LstmStates | None = None,
    episode_starts: npt.NDArray[np.bool_] | None = None,
    action_masks: npt.NDArray[np.bool_] | None = None,
    frames: Frames = "all",
    n_channels: int | None = None,
    absolute: bool = True,
    method_kwargs: Mapping[str, Any] | None = None,
) -> Observations:
    """
    How much each entry of the observations matters for one number that the model computes from them.

    The model is left as it was: parameters, their ``.grad``, training flags, torch's and numpy's random states.

    :param model: any model of SB3 or sb3-contrib that learns a value, with or without an encoder of this package.
    :param observations: observations as the ``VecEnv`` returns them (raw: SB3 scales images inside the policy), an array
        or a dict of arrays with a leading batch axis. A Box of three axes is an image, one of four a window of images.
    :param target: what is explained; :func:`list_targets` says what there is.
    :param method: ``"jacobian"``, ``"smoothgrad"``, ``"integrated_gradients"``, ``"guided_backprop"``, ``"occlusion"``,
        ``"perturbation"``, or the dotted path of a :class:`Method`.
    :param actions: those taken, as the ``VecEnv`` gets them; None takes the greedy ones.
    :param lstm_states: hidden and cell state of the LSTM that the target reads (the critic's for ``"value"`` if it has one,
        else the actor's), each (n_layers, B, hidden_size); RecurrentPPO only. Default: zeros, the start of an episode.
    :param episode_starts: (B,), where ``lstm_states`` count as zeros; default: nowhere.
    :param action_masks: (B, n_actions), False where an action is not allowed; MaskablePPO only. Default: all are.
    :param frames: ``"all"`` frames of a stack, or ``"newest"``: the older ones stay as they are, and their map is zero.
    :param n_channels: channels of one frame, see :func:`newest_frame`.
    :param absolute: False keeps the sign, where the method knows one.
    :param method_kwargs: arguments of the method's class.
    :return: float32, the shape of the batch in the layout of ``model.observation_space`` (channel-first for images); for Dict
        observations a dict of the keys that the method explains: Box keys, for ``"perturbation"`` those of images. Gradients
        are in units of the target per unit of the observation (grey level for uint8 images).
    :raises ValueError: if the model has no such target, the method is unknown or cannot explain it, or an argument does not
        fit the model.
    :raises TypeError: if the method has no such argument.
    :raises ImportError: if the method needs a library that is not installed.
    """
    chosen = METHODS.make(method, kwargs=method_kwargs or {})
    with evaluating(model.policy):
        scene = make_scene(
            model,
            observations,
            target,
            actions=actions,
            lstm_states=lstm_states,
            episode_starts=episode_starts,
            action_masks=action_masks,
            frames=frames,
            n_channels=n_channels,
        )
        check_vector(scene, method, chosen)
        attributions = {key: part.detach() for key, part in chosen.attribute(scene).items()}
    return scene.maps({key: part.abs() for key, part in attributions.items()} if absolute else attributions)


def value_jacobian(
    model: BaseAlgorithm,
    observations: Array | Mapping[str, Array],
    lstm_states: LstmStates | None = None,
    episode_starts: npt.NDArray[np.bool_] | None = None,
) -> Observations:
    """
    The absolute Jacobian |dV/dx| of a batch, exact, in one backward pass: :func:`saliency` with its defaults.

    :param model: see :func:`saliency`, as for the others.
    :param observations: a batch, raw.
    :param lstm_states: RecurrentPPO only.
    :param episode_starts: RecurrentPPO only.
    :return: in the shape of the batch.
    :raises ValueError: if the model has no value function, no continuous observation, or a value cut off from its input.
    """
    return saliency(model, observations, lstm_states=lstm_states, episode_starts=episode_starts)


def check_vector(scene: Scene, name: str, method: Method) -> None:
    """
    :param scene: has the target.
    :param name: of the method, for the message.
    :param method: what shall explain it.
    :raises ValueError: if the target is a vector and the method cannot explain one.
    """
    if scene.target.is_vector and not method.takes_vectors:
        raise ValueError(
            f"method {name!r} explains one number, and target {scene.target.name!r} is a vector; name one entry, or take "
            "method='perturbation'."
        )
