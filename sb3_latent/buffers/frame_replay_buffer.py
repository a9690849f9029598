"""A replay buffer that holds every frame of stacked images once."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.preprocessing import get_obs_shape
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_latent.buffers.arrays import SINGLE, arrays_of, spaces_of, tensors_of
from sb3_latent.buffers.columns import NEXT, NOW, Column, PlainColumn, StackColumn
from sb3_latent.buffers.room import resized, warn_if_memory_is_short
from sb3_latent.checks import whole_number
from sb3_latent.windows import describe

STOCK_ARRAYS = ("actions", "rewards", "dones", "timeouts")


class ObservationsView:
    """
    Stands where stock buffers have an array (or a dictionary of arrays) of observations, so that their sampling code runs.

    :param columns: arrays of the observations by name.
    :param moment: ``NOW`` or ``NEXT``.
    :param is_dict: whether an index gives a dictionary.
    """

    def __init__(self, columns: dict[str, Column], moment: int, is_dict: bool) -> None:
        self._columns = columns
        self._moment = moment
        self._is_dict = is_dict

    def __getitem__(self, index: Any) -> npt.NDArray[Any] | dict[str, npt.NDArray[Any]]:
        """
        :param index: of numpy's, into (buffer_size, n_envs).
        :return: copies of the observations there.
        """
        arrays = {name: column.read(self._moment, index) for name, column in self._columns.items()}
        return arrays if self._is_dict else arrays[SINGLE]


class FrameReplayBuffer(NStepReplayBuffer):
    """
    A ``replay_buffer_class`` for every off-policy algorithm of SB3: each frame of a stack is held once, as uint8.

    Stock buffers hold a frame of a stack of k up to 2k times: 12.7 GB for 100,000 transitions of 84x84x9, here 2.1 GB. What is
    sampled is the same, bit for bit and draw for draw: stacks are rebuilt from their frames, and SB3's own code does the rest
    (``ReplayBuffer``'s for ``n_steps=1``, ``NStepReplayBuffer``'s above; of Dict observations as ``DictReplayBuffer``).
    Images are arrays of uint8 with three axes, as VecFrameStack and VecTransposeImage make them; everything else is held as
    stock buffers hold it.

    Pickling (``save_replay_buffer``) writes the frames that are in use, once, and from a file of ``path`` as well. Loading
    makes room for ``buffer_size`` again, in memory or in a new file in the same folder; a buffer that was not full needs its
    frames twice while it is being loaded.

    :param buffer_size: transitions, of all environments together.
    :param observation_space: of the environment; uint8 images need not have all bounds 0 and 255.
    :param action_space: of the environment.
    :param device: where samples go.
    :param n_envs: environments.
    :param optimize_memory_usage: must stay False: SB3's name for another way to save memory.
    :param handle_timeout_termination: bootstrap where an episode ended by a time limit, as in stock buffers.
    :param n_frames: frames in a stack, newest last; None takes three channels for a colour frame where 3 divides them, else
        each channel for a grey frame. 1 holds stacks whole, which is right for any image.
    :param n_steps: of n-step returns; SB3's algorithms do not pass theirs on, so say it in ``replay_buffer_kwargs``.
    :param gamma: discount of n-step returns; not read for ``n_steps=1``.
    :param path: folder on a disk for the frames, which are then mapped from a nameless file that vanishes with the buffer.
        Every episode costs one frame more than it has transitions; what exceeds ``buffer_size`` by that stays in memory.
        None holds all in memory.
    :raises ValueError: if an argument is out of its range, ``n_frames`` does not divide the channels, ``path`` is a file, or
        either is given though no observation is an image.
    :raises MemoryError: if there is no room, with the numbers. Where the system would grant more than is free, a warning
        says so.
    """

    observations: ObservationsView  # type: ignore[assignment]  # read like stock's arrays
    next_observations: ObservationsView  # type: ignore[assignment]

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        n_frames: int | None = None,
        n_steps: int = 1,
        gamma: float = 0.99,
        path: str | Path | None = None,
    ) -> None:
        if optimize_memory_usage:
            name = type(self).__name__
            raise ValueError(f"optimize_memory_usage=True: {name} always does, in its own way; drop the argument.")
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma={gamma!r} must lie between 0 and 1.")
        # With observations of length 0 the stock class makes everything else.
        super().__init__(
            whole_number("buffer_size", buffer_size),
            spaces.Box(0, 1, (0,)),
            action_space,
            device,
            n_envs=whole_number("n_envs", n_envs),
            handle_timeout_termination=handle_timeout_termination,
            n_steps=whole_number("n_steps", n_steps),
            gamma=gamma,
        )
        self.observation_space = observation_space
        self.obs_shape = get_obs_shape(observation_space)  # type: ignore[assignment]  # of Dict spaces too, as in SB3
        self.n_frames = None if n_frames is None else whole_number("n_frames", n_frames)
        self.path = path
        self._columns = {name: self._column(name, space) for name, space in self._arrays(observation_space).items()}
        self._make_views()
        if (n_frames, path) != (None, None) and not any(isinstance(c, StackColumn) for c in self._columns.values()):
            raise ValueError(
                f"n_frames={n_frames!r}, path={path!r}: {describe(observation_space)} holds no image, a uint8 array with "
                "three axes; drop both, or declare Box(0, 255, shape, np.uint8)."
            )
        stock = sum(getattr(self, name).nbytes for name in STOCK_ARRAYS)
        warn_if_memory_is_short(stock + sum(column.n_bytes for column in self._columns.values()))

    def reset(self) -> None:
        """Forget every transition."""
        super().reset()
        for column in self._columns.values():
            column.clear()

    def add(
        self,
        obs: npt.NDArray[Any] | dict[str, npt.NDArray[Any]],
        next_obs: npt.NDArray[Any] | dict[str, npt.NDArray[Any]],
        action: npt.NDArray[Any],
        reward: npt.NDArray[Any],
        done: npt.NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """
        Store one transition of each environment; everything is copied.

        :param obs: batch of n_envs observations.
        :param next_obs: what followed, which at the end of an episode is its last observation.
        :param action: shape (n_envs, \\*action_shape).
        :param reward: shape (n_envs,).
        :param done: shape (n_envs,), whether the episode ended.
        :param infos: ``TimeLimit.truncated`` says that it ended by a time limit.
        :raises ValueError: if a stack is none of ``n_frames``.
        """
        now, then = arrays_of(obs), arrays_of(next_obs)
        dones = np.asarray(done, bool)
        for name, column in self._columns.items():
            column.write(self.pos, np.asarray(now[name]), np.asarray(then[name]), dones)
        self.actions[self.pos] = np.reshape(action, (self.n_envs, self.action_dim))
        self.rewards[self.pos] = reward
        self.dones[self.pos] = done
        if self.handle_timeout_termination:
            self.timeouts[self.pos] = [info.get("TimeLimit.truncated", False) for info in infos]
        self.pos = (self.pos + 1) % self.buffer_size
        self.full = self.full or self.pos == 0

    def to_torch(self, array: Any, copy: bool = True) -> Any:
        """
        :param array: values gathered for a sample, or a dictionary of them.
        :param copy: not read: they were copied when they were gathered.
        :return: the same as tensors on the buffer's device.
        """
        return tensors_of(array, self.device)

    def _get_samples(self, batch_inds: npt.NDArray[np.int64], env: VecNormalize | None = None) -> ReplayBufferSamples:
        stock = NStepReplayBuffer if self.n_steps > 1 else ReplayBuffer
        return stock._get_samples(self, batch_inds, env)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["observations"], state["next_observations"]
        return {
            **state,
            **{name: resized(state[name], self.size()) for name in STOCK_ARRAYS},
            "_columns": {name: column.resized(self.size()) for name, column in self._columns.items()},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name in STOCK_ARRAYS:
            setattr(self, name, resized(state[name], self.buffer_size))
        self._columns = {name: column.resized(self.buffer_size) for name, column in self._columns.items()}
        self._make_views()

    def _make_views(self) -> None:
        is_dict = isinstance(self.observation_space, spaces.Dict)
        self.observations = ObservationsView(self._columns, NOW, is_dict)
        self.next_observations = ObservationsView(self._columns, NEXT, is_dict)

    def _arrays(self, space: spaces.Space[Any]) -> dict[str, spaces.Space[Any]]:
        return spaces_of(space)

    def _column(self, name: str, space: spaces.Space[Any]) -> Column:
        if isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3:
            return StackColumn(name, space, self.n_frames, self.buffer_size, self.n_envs, self.path)
        return PlainColumn(space, self.buffer_size, self.n_envs)
