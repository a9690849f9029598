"""Act for a model: one way for all that collect frames, probe or draw."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.distributions import make_masked_proba_distribution
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.vec_env import VecEnv

Actions: TypeAlias = npt.NDArray[Any]
Actor: TypeAlias = Callable[[Any, npt.NDArray[np.bool_]], Actions]
"""From observations of a ``VecEnv``, and where an episode starts, to actions."""


def make_actor(policy: object, env: VecEnv, deterministic: bool) -> Actor:
    """
    :param policy: an SB3 model or policy, a function from a batch of observations to actions, or None for random actions.
    :param env: where it acts; its random actions are those of ``env.action_space``, or those that the ``action_masks`` of its
        environments allow.
    :param deterministic: passed to ``predict``.
    :return: one that remembers what an LSTM remembers, from one call to the next.
    :raises TypeError: if the policy cannot act.
    """
    # Masks forbid choices; a Box offers none.
    is_masked = not isinstance(env.action_space, spaces.Box) and is_masking_supported(env)
    if policy is None:
        return lambda *_: _random_actions(env, is_masked)
    predict: Any = getattr(policy, "predict", None)
    if predict is None:
        if not callable(policy):
            raise TypeError(f"policy={policy!r} cannot act; pass an SB3 model or policy, a function of observations, or None.")
        return lambda observations, _: policy(observations)
    is_masked = is_masked and isinstance(policy, MaskablePPO)
    states: Any = None

    def act(observations: Any, starts: npt.NDArray[np.bool_]) -> Actions:
        nonlocal states
        masks = {"action_masks": get_action_masks(env)} if is_masked else {}
        actions: Actions
        actions, states = predict(observations, state=states, episode_start=starts, deterministic=deterministic, **masks)
        return actions

    return act


def _random_actions(env: VecEnv, is_masked: bool) -> Actions:
    if not is_masked:
        return np.stack([env.action_space.sample() for _ in range(env.num_envs)])
    masks = get_action_masks(env)
    distribution = make_masked_proba_distribution(env.action_space)
    distribution.proba_distribution(th.zeros(masks.shape)).apply_masking(masks)
    actions: Actions = distribution.sample().numpy()
    return actions
