"""What an agent's value looks at: the Jacobian of V with respect to the pixels (seed document 000, section 4.4)."""

from collections.abc import Mapping
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.preprocessing import is_image_space_channels_first
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from sb3_latent.evaluation import evaluating
from sb3_latent.types import Observations

Array: TypeAlias = npt.NDArray[np.generic] | th.Tensor
Scalar = TypeVar("Scalar", bound=np.generic)
LstmStates: TypeAlias = tuple[th.Tensor, th.Tensor]


def value_jacobian(
    model: BaseAlgorithm,
    observations: Array | Mapping[str, Array],
    lstm_states: LstmStates | None = None,
    episode_starts: npt.NDArray[np.bool_] | None = None,
) -> Observations:
    """
    The absolute Jacobian |dV/dx| of a batch, exact, in one backward pass.

    V is what the algorithm itself would bootstrap from: V(s) for PPO, A2C, TRPO, MaskablePPO and RecurrentPPO; max_a Q(s, a)
    for DQN and QR-DQN (mean over quantiles); Q(s, mu(s)) for the actor-critics with a Q-function, mu being the mean action:
    the smallest of the critics for SAC, TD3, DDPG and CrossQ, the mean over all quantiles for TQC. The Jacobian is that of
    V as a function of s, so it includes the path through mu.

    The model is left as it was: parameters, their ``.grad``, every module's training flag and torch's random state.

    :param model: any model of SB3 or sb3-contrib that learns a value, with or without an encoder of this package.
    :param observations: observations as the ``VecEnv`` returns them (raw: SB3 scales images inside the policy), an array
        or a dict of arrays with a leading batch axis.
    :param lstm_states: hidden and cell state of the LSTM that the value reads, each (n_layers, B, hidden_size); RecurrentPPO
        only. Default: zeros, the start of an episode.
    :param episode_starts: (B,), where ``lstm_states`` count as zeros; default: nowhere.
    :return: float32, the shape of the batch in the layout of ``model.observation_space`` (channel-first for images), in units
        of value per unit of the observation (grey level for uint8 images); for Dict observations a dict of its Box keys.
    :raises ValueError: if the model has no value function, no continuous observation, or a value cut off from its input.
    """
    policy = model.policy
    inputs = _policy_inputs(policy, observations)
    leaves = _differentiable(policy.observation_space, inputs)
    with evaluating(policy), th.enable_grad():
        for leaf in leaves.values():
            leaf.requires_grad_(True)
        values = _state_value(policy, _with_leaves(inputs, leaves), lstm_states, episode_starts)
        gradients = _gradients(values, list(leaves.values()))
    if gradients is None:
        raise ValueError(
            f"the value of {type(model).__name__} is cut off from the observation: its features extractor detaches or runs "
            "under no_grad; freeze it with requires_grad_(False) instead."
        )
    jacobians = {key: gradient.abs() for key, gradient in zip(leaves, gradients, strict=True)}
    return jacobians if isinstance(inputs, dict) else jacobians[_SINGLE]


def newest_frame(image: npt.NDArray[Scalar], n_channels: int | None = None) -> npt.NDArray[Scalar]:
    """
    Cut the newest frame out of a stack; ``VecFrameStack`` puts it last.

    :param image: (C, H, W) or (H, W, C), pixels or their Jacobian; the smallest axis is the channel, as in SB3.
    :param n_channels: channels of one frame, 1 or 3. Default: 3 where the channels are a multiple of three, else 1.
    :return: (H, W, n_channels).
    :raises ValueError: if ``n_channels`` is neither 1 nor 3 or does not divide the channels.
    """
    channels_first = is_image_space_channels_first(spaces.Box(-np.inf, np.inf, image.shape))
    channels_last = np.moveaxis(image, 0, -1) if channels_first else image
    total = channels_last.shape[-1]
    if n_channels is None:
        n_channels = 3 if total % 3 == 0 else 1
    if n_channels not in (1, 3) or total % n_channels:
        raise ValueError(f"n_channels={n_channels} must be 1 (grey) or 3 (RGB) and divide the {total} channels of the stack.")
    return channels_last[..., -n_channels:]


def to_uint8(frame: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """
    Make a frame drawable.

    :param frame: uint8 pixels, or floats: those within [0, 1] are multiplied by 255, others (``VecNormalize``) stretched
        from their smallest to their largest value.
    :return: the same shape, 0 to 255.
    """
    if frame.dtype == np.uint8:
        return frame.astype(np.uint8)
    pixels = frame.astype(np.float64)
    low, high = pixels.min(), pixels.max()
    if low < 0 or high > 1:
        pixels = (pixels - low) / max(high - low, np.finfo(np.float64).tiny)
    return np.rint(255 * pixels).astype(np.uint8)


def newest_pictures(images: th.Tensor, n_channels: int | None = None) -> list[npt.NDArray[np.uint8]]:
    """
    :param images: (B, C, H, W) or (B, H, W, C), preprocessed or reconstructed; values beyond [0, 1] are cut off.
    :param n_channels: see :func:`newest_frame`.
    :return: the newest frame of each.
    """
    arrays = images.detach().clamp(0, 1).cpu().numpy()
    return [to_uint8(newest_frame(image, n_channels)) for image in arrays]


def overlay(frame: npt.NDArray[np.generic], saliency: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """
    Draw a saliency map as seed document 000 does in figure 4: values above their mean are added to the blue channel.

    The paper does not say how the values are scaled; here the largest of the frame becomes 255. A colour frame has one value
    per pixel, the largest of its channels (Simonyan et al. 2013, arXiv:1312.6034, section 3.1).

    :param frame: (H, W, 1) or (H, W, 3), see :func:`to_uint8`.
    :param saliency: same shape, non-negative.
    :return: (H, W, 3), RGB.
    """
    strength = saliency.max(axis=-1)
    drawn = np.where(strength > strength.mean(), strength, 0)
    blue = np.rint(255 * drawn / max(strength.max(), np.finfo(strength.dtype).tiny))
    picture = np.broadcast_to(to_uint8(frame), (*frame.shape[:2], 3)).astype(np.int64)
    picture[..., 2] = np.minimum(picture[..., 2] + blue.astype(np.int64), 255)
    return picture.astype(np.uint8)


_SINGLE = "observation"


def _policy_inputs(policy: BasePolicy, observations: Array | Mapping[str, Array]) -> Observations:
    """SB3's own conversion: batch axis, channel order, device."""
    if isinstance(observations, Mapping):
        return policy.obs_to_tensor({key: _to_numpy(array) for key, array in observations.items()})[0]
    return policy.obs_to_tensor(_to_numpy(observations))[0]


def _to_numpy(array: Array) -> npt.NDArray[np.generic]:
    return array.detach().cpu().numpy() if isinstance(array, th.Tensor) else array


def _differentiable(space: spaces.Space[object], inputs: Observations) -> dict[str, th.Tensor]:
    """The arrays that have a derivative, as floats; SB3 turns the others (Discrete, ...) into one-hot vectors."""
    arrays = inputs if isinstance(inputs, dict) else {_SINGLE: inputs}
    subspaces = space.spaces if isinstance(space, spaces.Dict) else {_SINGLE: space}
    leaves = {key: array.detach().float() for key, array in arrays.items() if isinstance(subspaces[key], spaces.Box)}
    if not leaves:
        raise ValueError(f"a Jacobian needs a Box observation, got {space}.")
    return leaves


def _with_leaves(inputs: Observations, leaves: dict[str, th.Tensor]) -> Observations:
    return {**inputs, **leaves} if isinstance(inputs, dict) else leaves[_SINGLE]


def _gradients(values: th.Tensor, leaves: list[th.Tensor]) -> list[th.Tensor] | None:
    """
    In evaluation mode the rows are independent, so the gradient of the sum holds each row's own gradient.

    :return: zeros for an array that the value does not read (a key that an encoder leaves out), None if it reads none.
    """
    if not values.requires_grad:
        return None
    gradients = th.autograd.grad(values.sum(), leaves, allow_unused=True)
    if all(gradient is None for gradient in gradients):
        return None
    return [th.zeros_like(leaf) if gradient is None else gradient for leaf, gradient in zip(leaves, gradients, strict=True)]


def _state_value(
    policy: BasePolicy,
    observations: Observations,
    lstm_states: LstmStates | None,
    episode_starts: npt.NDArray[np.bool_] | None,
) -> th.Tensor:
    if isinstance(policy, RecurrentActorCriticPolicy):
        return _recurrent_value(policy, observations, lstm_states, episode_starts)
    if lstm_states is not None or episode_starts is not None:
        raise ValueError(f"lstm_states and episode_starts are for RecurrentPPO; {type(policy).__name__} has no LSTM.")
    if isinstance(policy, (ActorCriticPolicy, MaskableActorCriticPolicy)):
        return policy.predict_values(observations)
    if isinstance(policy, DQNPolicy):
        q_values: th.Tensor = policy.q_net(observations)
        return q_values.max(dim=1).values
    if isinstance(policy, QRDQNPolicy):
        quantiles: th.Tensor = policy.quantile_net(observations)
        return quantiles.mean(dim=1).max(dim=1).values
    if isinstance(policy, TQCPolicy):
        return _critic_outputs(policy, observations).mean(dim=(1, 2))
    if isinstance(policy, (SACPolicy, TD3Policy, CrossQPolicy)):
        return _critic_outputs(policy, observations).min(dim=1).values
    raise ValueError(
        f"no value function known for {type(policy).__name__}; policies of PPO, A2C, TRPO, MaskablePPO, RecurrentPPO, "
        "DQN, QR-DQN, SAC, TD3, DDPG, TQC and CrossQ have one."
    )


def _recurrent_value(
    policy: RecurrentActorCriticPolicy,
    observations: Observations,
    lstm_states: LstmStates | None,
    episode_starts: npt.NDArray[np.bool_] | None,
) -> th.Tensor:
    batch_size = len(next(iter(observations.values())) if isinstance(observations, dict) else observations)
    if lstm_states is None:
        n_layers, _, hidden_size = policy.lstm_hidden_state_shape
        zeros = th.zeros(n_layers, batch_size, hidden_size, device=policy.device)
        lstm_states = (zeros, zeros)
    if episode_starts is None:
        episode_starts = np.zeros(batch_size, dtype=np.bool_)
    starts = th.as_tensor(episode_starts, dtype=th.float32, device=policy.device)
    # cuDNN has no backward through an LSTM in evaluation mode.
    with th.backends.cudnn.flags(enabled=False):
        if not policy.shared_lstm:
            return policy.predict_values(observations, lstm_states, starts)  # type: ignore[arg-type]  # it takes dicts too
        # There `predict_values` detaches the output of the LSTM (sb3-contrib 2.9.2, common/recurrent/policies.py:303).
        features = BasePolicy.extract_features(policy, observations, policy.vf_features_extractor)
        latent, _ = policy._process_sequence(features, lstm_states, starts, policy.lstm_actor)
        value: th.Tensor = policy.value_net(policy.mlp_extractor.forward_critic(latent))
        return value


def _critic_outputs(policy: SACPolicy | TD3Policy | TQCPolicy | CrossQPolicy, observations: Observations) -> th.Tensor:
    """
    (B, n_critics, 1 or n_quantiles). ``critic.forward`` switches gradients off where the extractor is shared with the actor
    (SB3 2.9.2, common/policies.py:974), and a SAC actor's forward keeps its graph on the module, which breaks ``deepcopy``.
    """
    if isinstance(policy, TD3Policy):
        actions = policy.actor(observations)
    else:
        actions = th.tanh(policy.actor.get_action_dist_params(observations)[0])
    critic = policy.critic
    critic_input = th.cat([critic.extract_features(observations, critic.features_extractor), actions], dim=1)
    return th.stack([network(critic_input) for network in critic.q_networks], dim=1)
