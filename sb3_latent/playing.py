"""Act for a model: one way for all that collect frames, probe or draw."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.vec_env import VecEnv

Actions: TypeAlias = npt.NDArray[Any]
Actor: TypeAlias = Callable[[Any, npt.NDArray[np.bool_]], Actions]
"""From observations of a ``VecEnv``, and where an episode starts, to actions."""


def make_actor(policy: object, env: VecEnv, deterministic: bool) -> Actor:
    """
    :param policy: an SB3 model or policy, a function from a batch of observations to actions, or None for random actions.
    :param env: where it acts; its random actions are those of ``env.action_space``, its masks those of its environments.
    :param deterministic: passed to ``predict``.
    :return: one that remembers what an LSTM remembers, from one call to the next.
    :raises TypeError: if the policy cannot act.
    """
    if policy is None:
        return lambda *_: np.stack([env.action_space.sample() for _ in range(env.num_envs)])
    predict: Any = getattr(policy, "predict", None)
    if predict is None:
        if not callable(policy):
            raise TypeError(f"policy={policy!r} cannot act; pass an SB3 model or policy, a function of observations, or None.")
        return lambda observations, _: policy(observations)
    is_masked = isinstance(policy, MaskablePPO) and is_masking_supported(env)
    states: Any = None

    def act(observations: Any, starts: npt.NDArray[np.bool_]) -> Actions:
        nonlocal states
        masks = {"action_masks": get_action_masks(env)} if is_masked else {}
        actions: Actions
        actions, states = predict(observations, state=states, episode_start=starts, deterministic=deterministic, **masks)
        return actions

    return act
