"""From what a user passes to a :class:`Scene`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim, is_image_space_channels_first

from sb3_latent.registry import unknown
from sb3_latent.saliency.pictures import frame_channels
from sb3_latent.saliency.scene import SINGLE, Scene, Varied
from sb3_latent.saliency.situation import LstmStates, Situation
from sb3_latent.saliency.targets import Target, find_target
from sb3_latent.types import Observations

Array: TypeAlias = npt.NDArray[np.generic] | th.Tensor
Frames: TypeAlias = Literal["all", "newest"]


def make_scene(
    model: BaseAlgorithm,
    observations: Array | Mapping[str, Array],
    target: str,
    *,
    actions: Array | None = None,
    lstm_states: LstmStates | None = None,
    episode_starts: npt.NDArray[np.bool_] | None = None,
    action_masks: npt.NDArray[np.bool_] | None = None,
    frames: Frames = "all",
    n_channels: int | None = None,
) -> Scene:
    """
    To be called in evaluation mode, for greedy actions come from the policy. The parameters are those of
    :func:`~sb3_latent.saliency.saliency`.

    :return: the scene.
    :raises ValueError: if the model has no such target, or an argument does not fit it.
    """
    policy, found = model.policy, find_target(model, target)
    if frames not in get_args(Frames):
        raise ValueError(unknown("frames", frames, get_args(Frames)))
    inputs = _policy_inputs(policy, observations)
    varied = _varied(policy.observation_space, inputs, frames, n_channels)
    n_rows = len(next(iter(varied.values())).array)
    situation = _memory(policy, n_rows, lstm_states, episode_starts)
    if action_masks is not None:
        situation = replace(situation, action_masks=_masks(policy, n_rows, action_masks))
    if actions is not None:
        situation = replace(situation, actions=_given_actions(policy, found, n_rows, actions))
    elif found.reads_action:
        situation = replace(situation, actions=_greedy_actions(found, inputs, situation))
    return Scene(policy, inputs, found, situation, varied)


def black(space: spaces.Space[Any]) -> Any:
    """
    What methods are tried on, so that what is wrong is said before anything is played or trained.

    :param space: of observations.
    :return: a batch of one of them, all zeros; a dict for a Dict space.
    """
    if isinstance(space, spaces.Dict):
        return {key: black(subspace) for key, subspace in space.spaces.items()}
    return np.zeros((1, *(space.shape or ())), space.dtype)


def _policy_inputs(policy: BasePolicy, observations: Array | Mapping[str, Array]) -> Observations:
    """SB3's own conversion: batch axis, channel order, device."""
    if isinstance(observations, Mapping):
        return policy.obs_to_tensor({key: _to_numpy(array) for key, array in observations.items()})[0]
    return policy.obs_to_tensor(_to_numpy(observations))[0]


def _to_numpy(array: Array) -> npt.NDArray[np.generic]:
    return array.detach().cpu().numpy() if isinstance(array, th.Tensor) else array


def _varied(space: spaces.Space[Any], inputs: Observations, frames: Frames, n_channels: int | None) -> dict[str, Varied]:
    """The arrays that have a derivative; SB3 turns the others (Discrete, ...) into one-hot vectors."""
    arrays = inputs if isinstance(inputs, dict) else {SINGLE: inputs}
    subspaces = space.spaces if isinstance(space, spaces.Dict) else {SINGLE: space}
    boxes = {key: subspace for key, subspace in subspaces.items() if isinstance(subspace, spaces.Box)}
    varied = {key: _varied_array(box, arrays[key].detach().float(), frames, n_channels) for key, box in boxes.items()}
    if not varied:
        raise ValueError(f"saliency needs a Box observation, got {space}.")
    return varied


def _varied_array(space: spaces.Box, array: th.Tensor, frames: Frames, n_channels: int | None) -> Varied:
    window, is_channels_last = None, False
    if len(space.shape) == 4:
        window = space.shape[:2]
        stack, of_frame = array.flatten(1, 2), space.shape[1]
    elif len(space.shape) == 3:
        is_channels_last = not is_image_space_channels_first(space)
        stack = array.movedim(-1, 1) if is_channels_last else array
        of_frame = frame_channels(stack.shape[1], n_channels)
    else:
        return Varied(array)
    n_older = stack.shape[1] - of_frame if frames == "newest" else 0
    return Varied(stack[:, n_older:], stack[:, :n_older] if n_older else None, of_frame, is_channels_last, window)


def _memory(
    policy: BasePolicy, n_rows: int, lstm_states: LstmStates | None, episode_starts: npt.NDArray[np.bool_] | None
) -> Situation:
    if not isinstance(policy, RecurrentActorCriticPolicy):
        if lstm_states is not None or episode_starts is not None:
            raise ValueError(f"lstm_states and episode_starts are for RecurrentPPO; {type(policy).__name__} has no LSTM.")
        return Situation()
    n_layers, _, hidden_size = policy.lstm_hidden_state_shape
    shape = (n_layers, n_rows, hidden_size)
    if lstm_states is None:
        zeros = th.zeros(shape, device=policy.device)
        lstm_states = (zeros, zeros)
    if episode_starts is None:
        episode_starts = np.zeros(n_rows, dtype=np.bool_)
    starts = th.as_tensor(episode_starts, dtype=th.float32, device=policy.device)
    hidden, cell = (th.as_tensor(state, dtype=th.float32, device=policy.device) for state in lstm_states)
    for name, array, expected in (
        ("lstm_states", hidden, shape),
        ("lstm_states", cell, shape),
        ("episode_starts", starts, shape[1:2]),
    ):
        if array.shape != expected:
            raise ValueError(f"{name} of shape {tuple(array.shape)} must have shape {expected} for these observations.")
    return Situation(lstm_states=(hidden, cell), episode_starts=starts)


def _masks(policy: BasePolicy, n_rows: int, action_masks: npt.NDArray[np.bool_]) -> th.Tensor:
    if not isinstance(policy, MaskableActorCriticPolicy):
        raise ValueError(f"action_masks are for MaskablePPO; {type(policy).__name__} masks no action.")
    masks = np.asarray(action_masks, dtype=np.bool_)
    n_actions: Any = policy.action_net.out_features
    shape = (n_rows, n_actions)
    if masks.size != np.prod(shape):
        raise ValueError(f"action_masks of shape {masks.shape} must have shape {shape} for these observations.")
    return th.as_tensor(masks, device=policy.device).reshape(shape)


def _given_actions(policy: BasePolicy, target: Target, n_rows: int, actions: Array) -> th.Tensor:
    """As the networks read them."""
    if not target.reads_action:
        raise ValueError(f"target {target.name!r} reads no action; drop actions=.")
    space = policy.action_space
    array = np.asarray(_to_numpy(actions))
    if isinstance(space, spaces.Discrete):
        shape: tuple[int, ...] = (n_rows,)
    else:
        shape = (n_rows, get_action_dim(space))
    if array.size != np.prod(shape):
        raise ValueError(f"actions of shape {array.shape} must be one for each of the {n_rows} observations: {shape}.")
    array = array.reshape(shape)
    if isinstance(space, spaces.Discrete) and not ((array >= 0) & (array < space.n)).all():
        raise ValueError(f"actions {array.tolist()} must lie between 0 and {space.n - 1}.")
    if isinstance(space, spaces.Box) and policy.squash_output:
        array = policy.scale_action(array)
    dtype = th.float32 if isinstance(space, spaces.Box | spaces.MultiBinary) else th.int64
    return th.as_tensor(array, dtype=dtype, device=policy.device)


def _greedy_actions(target: Target, inputs: Observations, situation: Situation) -> th.Tensor:
    if target.is_flat_when_greedy:
        raise ValueError(
            f"target {target.name!r}: the mean of a Gaussian is its likeliest action, wherever it lies, so the gradient there "
            "says nothing; pass actions=, those that were taken."
        )
    with th.no_grad():
        return target.agent.greedy(inputs, situation)
