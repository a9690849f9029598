"""An episode to look at: what a model saw, did and remembered."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch as th
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from tqdm.auto import tqdm

from sb3_latent.checks import whole_number
from sb3_latent.evaluation import evaluating, own_actions
from sb3_latent.playing import make_actor

Array: TypeAlias = npt.NDArray[Any]
Memory: TypeAlias = tuple[Array, Array]
"""Hidden and cell state of an LSTM, each (n_layers, T, hidden_size)."""


@dataclass(frozen=True)
class Episode:
    """
    Of one environment, in the order of time.

    :param observations: (T, ...), raw, before each action; a dict of arrays for Dict observations.
    :param actions: (T, ...), as the environment got them.
    :param rewards: (T,), what each action was paid.
    :param starts: (T,), where an episode begins: the first, and with ``EpisodicLifeEnv`` each life.
    :param pictures: (T, H, W, 3), uint8, what the environment renders at each observation; None if it renders nothing.
    :param actor_memory: what the actor's LSTM remembers before each observation; RecurrentPPO only.
    :param critic_memory: the same of the critic, which may be the actor's.
    :param action_masks: (T, n_actions), False where an action is not allowed; MaskablePPO only.
    """

    observations: Array | dict[str, Array]
    actions: Array
    rewards: npt.NDArray[np.floating]
    starts: npt.NDArray[np.bool_]
    pictures: npt.NDArray[np.uint8] | None = None
    actor_memory: Memory | None = None
    critic_memory: Memory | None = None
    action_masks: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.rewards)

    def part(self, index: Any) -> "Episode":
        """
        :param index: of moments: a slice, or an array of whole numbers.
        :return: these moments.
        """

        def memory(states: Memory | None) -> Memory | None:
            return None if states is None else (states[0][:, index], states[1][:, index])

        observations = self.observations
        return Episode(
            {key: array[index] for key, array in observations.items()}
            if isinstance(observations, dict)
            else observations[index],
            self.actions[index],
            self.rewards[index],
            self.starts[index],
            None if self.pictures is None else self.pictures[index],
            memory(self.actor_memory),
            memory(self.critic_memory),
            None if self.action_masks is None else self.action_masks[index],
        )


def play_episode(
    model: BaseAlgorithm,
    env: VecEnv,
    max_steps: int = 500,
    *,
    deterministic: bool = True,
    render: bool = True,
    seed: int = 0,
    progress_bar: bool = False,
) -> Episode:
    """
    Let a model play, and keep what there was to see. Parameters, training flags and all random states of the process stay as
    they are; the environment is seeded and left open amid an episode.

    The end is that of SB3's ``Monitor``, where there is one: a game, not a life.

    :param model: any of SB3 or sb3-contrib.
    :param env: an environment of its own, wrapped as for training; the first of its environments is recorded.
    :param max_steps: moments at most.
    :param deterministic: passed to ``predict``.
    :param render: whether to keep what the environment renders, if it does.
    :param seed: of the environment and of all actions.
    :param progress_bar: show one.
    :return: at most ``max_steps`` moments.
    :raises ValueError: if ``max_steps`` is no positive integer.
    :raises OSError: if the environment cannot render here, though it has pictures.
    """
    whole_number("max_steps", max_steps)
    moments: list[dict[str, Any]] = []
    bar = tqdm(total=max_steps, unit="step", desc="playing", disable=not progress_bar)
    with bar, evaluating(model.policy, seed), th.no_grad(), own_actions(model, seed):
        env.seed(seed)
        env.action_space.seed(seed)
        act = make_actor(model, env, deterministic)
        remember = _Remembering(model, env)
        observations, starts = env.reset(), np.ones(env.num_envs, dtype=np.bool_)
        while len(moments) < max_steps:
            moment = {"observations": _first(observations), "starts": starts[0], "pictures": _picture(env) if render else None}
            moment |= remember(observations, starts)
            actions = act(observations, starts)
            observations, rewards, starts, infos = env.step(actions)
            moments.append({**moment, "actions": np.copy(actions[0]), "rewards": rewards[0]})
            bar.update()
            if starts[0] and ("episode" in infos[0] or not env.env_is_wrapped(Monitor, indices=0)[0]):
                break
    return _episode(moments)


class _Remembering:
    """What the LSTMs of actor and critic know before each observation; ``predict`` returns the actor's alone."""

    def __init__(self, model: BaseAlgorithm, env: VecEnv) -> None:
        self._model: Any = model
        self._env = env
        self._is_recurrent = isinstance(model, RecurrentPPO)
        self._is_masked = isinstance(model, MaskablePPO) and is_masking_supported(env)
        self._states: Any = None

    def __call__(self, observations: Any, starts: npt.NDArray[np.bool_]) -> dict[str, Any]:
        if self._is_masked:
            return {"action_masks": np.copy(get_action_masks(self._env)[0])}
        if not self._is_recurrent:
            return {}
        policy = self._model.policy
        if self._states is None:
            n_layers, _, hidden_size = policy.lstm_hidden_state_shape
            zeros = th.zeros(n_layers, len(starts), hidden_size, device=policy.device)
            self._states = RNNStates((zeros, zeros), (zeros, zeros))
        before = {f"{part}_memory": _of_first(states) for part, states in zip(("actor", "critic"), self._states, strict=True)}
        tensors, _ = policy.obs_to_tensor(observations)
        *_, self._states = policy(tensors, self._states, th.as_tensor(starts, dtype=th.float32, device=policy.device))
        return before


def _first(observations: Any) -> Any:
    if isinstance(observations, dict):
        return {key: np.copy(array[0]) for key, array in observations.items()}
    return np.copy(observations[0])


def _of_first(states: Any) -> Memory:
    hidden, cell = (state[:, 0].cpu().numpy() for state in states)
    return hidden, cell


def _picture(env: VecEnv) -> npt.NDArray[np.uint8] | None:
    if env.render_mode != "rgb_array":
        return None
    try:
        picture = env.get_images()[0]
    except Exception as error:
        # Every simulator has its own kinds of error for a machine without a display.
        raise OSError(
            f"the environment cannot render here ({str(error).splitlines()[0] if str(error) else type(error).__name__}); for "
            "MuJoCo set MUJOCO_GL=egl, else start under xvfb-run."
        ) from error
    return None if picture is None else np.array(picture, dtype=np.uint8)


def _episode(moments: list[dict[str, Any]]) -> Episode:
    first = moments[0]
    arrays: dict[str, Any] = {
        name: np.stack([moment[name] for moment in moments])
        for name in ("actions", "rewards", "starts", "action_masks")
        if name in first
    }
    for name in ("actor_memory", "critic_memory"):
        if name in first:
            arrays[name] = tuple(np.stack([moment[name][part] for moment in moments], 1) for part in range(2))
    seen = [moment["observations"] for moment in moments]
    observations = (
        {key: np.stack([one[key] for one in seen]) for key in seen[0]} if isinstance(seen[0], dict) else np.stack(seen)
    )
    pictures = [moment["pictures"] for moment in moments]
    drawn = None if any(picture is None for picture in pictures) else np.stack(pictures)
    return Episode(observations, pictures=drawn, **arrays)
