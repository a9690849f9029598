"""What a latent model makes of a real episode: reconstructions while it sees the frames, and dreams once it does not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, PolicyPredictor
from torch.nn import functional as F

from sb3_latent.checks import whole_number
from sb3_latent.dynamics import LatentModel
from sb3_latent.dynamics.window_encoder import in_chunks
from sb3_latent.dynamics_extractor import DynamicsExtractor
from sb3_latent.evaluation import evaluating
from sb3_latent.models import get_latent_model
from sb3_latent.policies import LatentModelPolicy
from sb3_latent.windows import ACTIONS, FRAMES, MASK, WindowSpec, window_spec

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Episode:
    """
    N steps of an environment of windows.

    :param frames: (N + 1, *frame_shape), raw.
    :param actions: (N, action_dim), as windows have them.
    :param rewards: (N,), as the environment handed them out.
    """

    frames: Array
    actions: Floats
    rewards: Floats


@dataclass(frozen=True, eq=False)
class Dreams:
    """
    B stretches of L frames of an episode, of which a model saw the first ``n_prefix`` before it dreamt the others. Images are
    in units of [0, 1], decoded ones unbounded.

    :param n_prefix: frames seen.
    :param frames: (B, L, *frame_shape), the truth.
    :param posterior: the same shape, decoded from states that have seen the frames up to their own.
    :param dreamt: the same shape, decoded from states that have seen none after the prefix.
    :param actions: (B, L - 1, action_dim), of the dreams.
    :param rewards: (B, L - 1), the truth.
    :param posterior_rewards: (B, L - 1), predicted from states that have seen the frames; None if the model learns no rewards.
    :param dreamt_rewards: (B, L - 1), predicted in the dreams; None as well.
    """

    n_prefix: int
    frames: Floats
    posterior: Floats
    dreamt: Floats
    actions: Floats
    rewards: Floats
    posterior_rewards: Floats | None
    dreamt_rewards: Floats | None


class OpenLoopErrors(NamedTuple):
    """
    Mean squared errors 1 to H steps after the last frame seen, by who predicts: ``"dream"`` (open loop), ``"posterior"``
    (closed loop: it sees each frame before it draws it) and ``"repeat"`` (the last one seen, again and again).

    :param frames: (H,) each, per pixel and channel of images in [0, 1], or per number of a vector.
    :param rewards: (H,) each; empty if the model learns no rewards.
    """

    frames: dict[str, npt.NDArray[np.float64]]
    rewards: dict[str, npt.NDArray[np.float64]]


def play_episode(
    env: GymEnv, policy: PolicyPredictor | None = None, max_steps: int = 1000, seed: int | None = None
) -> Episode:
    """
    Play one episode, of the first environment if there are several.

    :param env: environment of windows; it is left open.
    :param policy: an SB3 model or policy, which acts deterministically, or None for random actions.
    :param max_steps: where the episode is broken off, if it does not end before.
    :param seed: of environment and random actions.
    :return: the episode.
    :raises ValueError: if the environment observes no windows, or ``max_steps`` is no positive integer.
    """
    window_spec(env.observation_space)
    vec_env = BaseAlgorithm._wrap_env(env, monitor_wrapper=False)
    if seed is not None:
        vec_env.seed(seed)
        if policy is None:
            vec_env.action_space.seed(seed)
    observations: Any = vec_env.reset()
    frames, actions, rewards = [observations[FRAMES][0, -1]], [], []
    state, starts = None, np.ones(vec_env.num_envs, dtype=bool)
    for _ in range(whole_number("max_steps", max_steps)):
        if policy is None:
            chosen = np.stack([vec_env.action_space.sample() for _ in starts])
        else:
            chosen, state = policy.predict(observations, state, starts, deterministic=True)
        observations, step_rewards, starts, infos = vec_env.step(chosen)
        last = infos[0]["terminal_observation"] if starts[0] else {name: rows[0] for name, rows in observations.items()}
        frames.append(last[FRAMES][-1])
        actions.append(last[ACTIONS][-1])
        rewards.append(step_rewards[0])
        if starts[0]:
            break
    return Episode(np.stack(frames), np.stack(actions), np.array(rewards, np.float32))


def dream(model: BaseAlgorithm, episode: Episode, n_prefix: int = 8, horizon: int = 16, by_policy: bool = False) -> Dreams:
    """
    Cut an episode into stretches of ``n_prefix + horizon`` frames, one after the other, and dream the end of each.

    There is no noise: the state after the prefix is the likeliest one, and so is every state of the dream. The model sees
    whole prefixes, however long its windows are, and is left as it was.

    :param model: an SB3 model with a latent model. Rewards are predicted under SLACPolicy and its like, who alone learn them.
    :param episode: real, from :func:`play_episode`; what is left over at its end is not used.
    :param n_prefix: frames seen, at least 2. Default: SLAC's window (Lee et al. 2020, arXiv:1907.00953).
    :param horizon: H, frames dreamt. Own choice: about the 15 steps that Dreamer imagines (arXiv:1912.01603).
    :param by_policy: the policy acts in the dream, deterministically: on imagined states, or, if it reads windows
        (``actor_reads="history"``), on windows of decoded frames, cut off at black and white. Otherwise actions are those of
        the episode.
    :return: the dreams, one for each stretch.
    :raises TypeError: if the model has no latent model, or its policy is none that can act in a dream.
    :raises ValueError: if a number is too small, the episode has no such stretch, or the policy reads longer windows than
        the prefix.
    """
    latent_model, policy = get_latent_model(model), model.policy
    n_prefix, horizon = whole_number("n_prefix", n_prefix, 2), whole_number("horizon", horizon)
    rows = _stretches(len(episode.frames), n_prefix, horizon)
    rewards = episode.rewards[rows[:, :-1]]
    with evaluating(policy), th.no_grad():
        frames = th.as_tensor(episode.frames[rows], device=policy.device)
        actions = th.as_tensor(episode.actions[rows[:, :-1]], device=policy.device)
        before, after = actions[:, : n_prefix - 1], actions[:, n_prefix - 1 :]
        features = latent_model.encode(frames)
        seen = latent_model.observe(features, actions, noisy=False).states
        # Apart: dynamics of the user's own may look ahead.
        prefix = latent_model.observe(features[:, :n_prefix], before, noisy=False).states
        if by_policy:
            imagined, after = _imagined_by_policy(latent_model, policy, prefix[:, -1], frames[:, :n_prefix], before, horizon)
        else:
            imagined = latent_model.imagine(prefix[:, -1], after, noisy=False)
        dreamt, dreamt_actions = th.cat([prefix, imagined], 1), th.cat([before, after], 1)
        learns_rewards = isinstance(policy, LatentModelPolicy) and latent_model.tasks.learns("reward")
        return Dreams(
            n_prefix,
            frames=_array(latent_model.encoders.scaled(frames)),
            posterior=_decoded(latent_model, seen),
            dreamt=_decoded(latent_model, dreamt),
            actions=_array(dreamt_actions),
            rewards=rewards,
            posterior_rewards=_rewards(latent_model, seen, actions) if learns_rewards else None,
            dreamt_rewards=_rewards(latent_model, dreamt, dreamt_actions) if learns_rewards else None,
        )


def open_loop_errors(dreams: Sequence[Dreams]) -> OpenLoopErrors:
    """
    How far dreams stray, step by step: the mean over all stretches, next to two references.

    :param dreams: of one prefix and horizon, of one or several episodes; under the actions of the episodes, for otherwise the
        truth is not what they predict.
    :return: the errors.
    :raises ValueError: if there is none, or their lengths differ.
    """
    lengths = {(one.n_prefix, one.frames.shape[1] - one.n_prefix) for one in dreams}
    if len(lengths) != 1:
        raise ValueError(f"dreams of (n_prefix, horizon) {sorted(lengths)} have no error together; pass some of one length.")
    frames, rewards = [], []
    for one in dreams:
        n = one.n_prefix
        guesses = {"dream": one.dreamt[:, n:], "posterior": one.posterior[:, n:], "repeat": one.frames[:, n - 1 : n]}
        frames.append(_squared_errors(one.frames[:, n:], guesses))
        if one.dreamt_rewards is not None and one.posterior_rewards is not None:
            of_dream, of_posterior = one.dreamt_rewards[:, n - 1 :], one.posterior_rewards[:, n - 1 :]
            guesses = {"dream": of_dream, "posterior": of_posterior, "repeat": one.rewards[:, n - 2 : n - 1]}
            rewards.append(_squared_errors(one.rewards[:, n - 1 :], guesses))
    return OpenLoopErrors(_means(frames), _means(rewards))


def _stretches(n_frames: int, n_prefix: int, horizon: int) -> npt.NDArray[np.int64]:
    """(B, L), numbers of frames."""
    length = n_prefix + horizon
    if n_frames < length:
        raise ValueError(
            f"an episode of {n_frames} frames has no stretch of n_prefix={n_prefix} and horizon={horizon}; pass less than "
            "that, or a longer episode."
        )
    return np.arange(n_frames // length * length).reshape(-1, length)


def _imagined_by_policy(
    model: LatentModel, policy: BasePolicy, state: th.Tensor, frames: th.Tensor, actions: th.Tensor, horizon: int
) -> tuple[th.Tensor, th.Tensor]:
    """
    :param state: (B, state_dim), after the prefix.
    :param frames: (B, n_prefix, *frame_shape), raw.
    :param actions: (B, n_prefix - 1, action_dim).
    :return: (B, H, state_dim) and (B, H, action_dim), the states after each action and the actions.
    """
    spec = model.encoders.spec
    reader: Any = policy.get_submodule("actor.features_extractor") if isinstance(policy, LatentModelPolicy) else None
    reads_history = reader is not None and reader.reads == "history"
    if reads_history and frames.shape[1] < spec.length:
        raise ValueError(
            f"n_prefix={frames.shape[1]} is shorter than the windows of {spec.length} frames that the policy reads; pass "
            f"n_prefix={spec.length} or more."
        )
    frames, actions = frames[:, -spec.length :].float(), actions[:, 1 - spec.length :]
    mask = th.ones(frames.shape[:2], dtype=th.uint8, device=frames.device)
    states, chosen = [], []
    for _ in range(horizon):
        features = reader({FRAMES: frames, ACTIONS: actions, MASK: mask}) if reads_history else state
        action = _action(policy, features)
        state = model.imagine(state, action[:, None], noisy=False)[:, 0]
        states.append(state)
        chosen.append(action)
        if reads_history:
            frames = th.cat([frames[:, 1:], _raw(spec, model.decode(state))[:, None]], 1)
            actions = th.cat([actions[:, 1:], action[:, None]], 1)
    return th.stack(states, 1), th.stack(chosen, 1)


def _action(policy: BasePolicy, features: th.Tensor) -> th.Tensor:
    """What it does where its networks get these features: (B, action_dim), as windows have actions."""
    if isinstance(policy, LatentModelPolicy):
        actor: Any = policy.actor
        action: th.Tensor = actor.mu(actor.latent_pi(features)).tanh()
        return action
    if (
        not isinstance(policy, ActorCriticPolicy)
        or isinstance(policy, RecurrentActorCriticPolicy)
        or not (policy.share_features_extractor and isinstance(policy.features_extractor, DynamicsExtractor))
    ):
        raise TypeError(
            f"{type(policy).__name__} cannot act in a dream as it is; SLACPolicy and SLACTQCPolicy can, and policies of PPO "
            "and A2C that share one DynamicsExtractor. Pass by_policy=False."
        )
    distribution = policy._get_action_dist_from_latent(policy.mlp_extractor.forward_actor(features))
    return _as_in_windows(policy, distribution.get_actions(deterministic=True))


def _as_in_windows(policy: BasePolicy, actions: th.Tensor) -> th.Tensor:
    space = policy.action_space
    if isinstance(space, spaces.Discrete):
        return F.one_hot(actions, int(space.n)).float()
    assert isinstance(space, spaces.Box)
    if space.is_bounded() and not policy.squash_output:
        array = policy.scale_action(np.clip(actions.cpu().numpy(), space.low, space.high))
        actions = th.as_tensor(array, dtype=th.float32, device=actions.device)
    return actions.flatten(1)


def _raw(spec: WindowSpec, decoded: th.Tensor) -> th.Tensor:
    return decoded if spec.scale == 1 else (spec.scale * decoded).clamp(0, spec.scale)


def _decoded(model: LatentModel, states: th.Tensor) -> Floats:
    frames = th.cat([model.decode(part) for part in in_chunks(states.flatten(0, 1))])
    return _array(frames.reshape(*states.shape[:2], *frames.shape[1:]))


def _rewards(model: LatentModel, states: th.Tensor, actions: th.Tensor) -> Floats:
    return _array(model.reward(states[:, :-1], actions, states[:, 1:]))


def _array(tensor: th.Tensor) -> Floats:
    array: Floats = tensor.cpu().numpy()
    return array


def _squared_errors(truth: Floats, guesses: dict[str, Floats]) -> dict[str, Floats]:
    """(B, H, ...) against arrays like it, or of one step -> (B, H)"""
    return {name: ((guess - truth) ** 2).reshape(*truth.shape[:2], -1).mean(-1) for name, guess in guesses.items()}


def _means(parts: list[dict[str, Floats]]) -> dict[str, npt.NDArray[np.float64]]:
    names = parts[0] if parts else []
    return {name: np.concatenate([part[name] for part in parts]).mean(0, dtype=np.float64) for name in names}
