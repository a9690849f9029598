"""A rollout buffer that holds every frame of stacked images once, and says which frames of a minibatch are the same."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.buffers import MaskableRolloutBuffer
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.preprocessing import get_obs_shape
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_latent.buffers.arrays import SINGLE, arrays_of, spaces_of, tensors_of
from sb3_latent.buffers.frame_stacks import FrameStacks, equal_rows
from sb3_latent.checks import whole_number
from sb3_latent.types import Observations


@dataclass(frozen=True)
class Minibatch:
    """
    What a rollout buffer served last.

    :param observations: the very tensors, (B, *shape); a dict for a Dict space.
    :param rows: (B,), which transitions of the rollout these are.
    :param slots: for each array of stacked frames (B, n_frames); frames in one slot are one and the same.
    """

    observations: Observations
    rows: npt.NDArray[np.int64]
    slots: Mapping[str, npt.NDArray[np.int32]]

    def numbers(self, name: str, n_frames: int) -> npt.NDArray[np.integer[Any]]:
        """
        Numbers for what an encoder reads, equal in this rollout only where it reads the same.

        :param name: of the array.
        :param n_frames: how many frames of it are encoded one at a time; 1 for an array that is encoded as a whole.
        :return: (B * n_frames,).
        :raises ValueError: if the array was split into another number of frames.
        """
        if n_frames == 1 or name not in self.slots:
            return (self.rows[:, None] * n_frames + np.arange(n_frames)).ravel()
        slots = self.slots[name]
        n_parts, rest = divmod(n_frames, slots.shape[1])
        if rest:
            raise ValueError(
                f"{name!r}: the encoder reads {n_frames} frames, the rollout buffer holds stacks of {slots.shape[1]}; pass "
                f"rollout_buffer_kwargs=dict(n_frames={n_frames})."
            )
        numbers: npt.NDArray[np.integer[Any]] = slots[..., None] * n_parts + np.arange(n_parts)
        return numbers.ravel()


class ObservationsView:
    """
    Stands where stock buffers have an array (or a dictionary of arrays) of observations.

    :param buffer: with the observations.
    """

    def __init__(self, buffer: "FrameRolloutBuffer") -> None:
        self._buffer = buffer

    def __getitem__(self, index: Any) -> Any:
        """
        :param index: of numpy's, into (buffer_size, n_envs); into (buffer_size * n_envs), one environment after the other, as
            soon as a minibatch was asked for. Or the key of an array of a Dict space.
        :return: copies of the observations there; of a key, of all of them.
        """
        return self._buffer.stacks(slice(None))[index] if isinstance(index, str) else self._buffer.stacks(index)

    def __array__(self, *args: Any, **kwargs: Any) -> npt.NDArray[Any]:
        """:return: a copy of all observations, in the size of a stock buffer."""
        return np.asarray(self[:], *args, **kwargs)

    def __setitem__(self, index: Any, value: Any) -> None:
        """Stock buffers write nothing here, for :meth:`FrameRolloutBuffer.add` has stored it; nobody else may write."""
        if np.size(value):
            raise TypeError(
                "the observations of FrameRolloutBuffer cannot be changed, for stacks share frames; use RolloutBuffer."
            )


class FrameRolloutBuffer(RolloutBuffer):
    """
    A ``rollout_buffer_class`` for PPO, A2C and TRPO: each frame of a stack is held once, as uint8.

    What it serves is what SB3's ``RolloutBuffer`` (or ``DictRolloutBuffer``) serves, bit for bit and draw for draw, unless
    ``chunk_length`` asks for steps that follow each other. An extractor with ``per_frame=True`` then encodes each frame of a
    minibatch once, though several stacks have it: for stacks of 4 in chunks of 16 it is 19 frames in place of 64. The tasks
    see each frame once as well, weighted by how often it occurs, with one draw of noise for all its occurrences. A frozen
    :class:`~sb3_latent.LatentExtractor`, whatever it reads, encodes everything once an update in place of once an epoch.

    Chunks make the samples of a minibatch resemble each other; docs/evidence.md has runs with and without.

    :param buffer_size: steps of each environment.
    :param observation_space: of the environment; uint8 images are held in frames, everything else as stock buffers hold it.
    :param action_space: of the environment.
    :param device: where samples go.
    :param gae_lambda: of the advantages.
    :param gamma: discount.
    :param n_envs: environments.
    :param n_frames: frames in a stack, newest last; None takes three channels for a colour frame where 3 divides them, else
        each channel for a grey frame.
    :param chunk_length: steps, one after the other, that stay together in a minibatch; a divisor of ``batch_size``, or chunks
        are cut. Rollouts lie end to end, one environment's after the other's, and where the first chunk begins is drawn anew
        for each epoch, so that some hold the end of one and the beginning of the next. None draws every step by itself.
    :raises ValueError: if an argument is out of its range, or ``n_frames`` does not divide the channels.
    :raises MemoryError: if there is no room, with the numbers.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: th.device | str = "auto",
        gae_lambda: float = 1,
        gamma: float = 0.99,
        n_envs: int = 1,
        n_frames: int | None = None,
        chunk_length: int | None = None,
    ) -> None:
        self._columns: dict[str, _Column] = {}
        self._view = ObservationsView(self)
        # With observations of length 0 the stock class makes everything else.
        super().__init__(buffer_size, spaces.Box(0, 1, (0,)), action_space, device, gae_lambda, gamma, n_envs)
        self.observation_space = observation_space
        self.n_frames = None if n_frames is None else whole_number("n_frames", n_frames)
        self.chunk_length = None if chunk_length is None else whole_number("chunk_length", chunk_length)
        if self.chunk_length is not None and self.chunk_length > buffer_size:
            raise ValueError(f"chunk_length={chunk_length} exceeds the {buffer_size} steps of a rollout (n_steps).")
        self._is_dict = isinstance(observation_space, spaces.Dict)
        self._columns = {name: self._column(name, space) for name, space in spaces_of(observation_space).items()}

    @property  # type: ignore[override]  # read like stock's array
    def observations(self) -> ObservationsView:
        """:return: what was stored, to be read by index."""
        return self._view

    @observations.setter
    def observations(self, value: npt.NDArray[Any]) -> None:
        # Stock buffers lay out anew what they find here.
        self.__dict__["observations"] = value

    def stacks(self, index: Any) -> Any:
        """
        :param index: as for :class:`ObservationsView`.
        :return: copies of the observations there.
        """
        steps = self._steps(index)
        arrays = {name: column.read(steps) for name, column in self._columns.items()}
        return arrays if self._is_dict else arrays[SINGLE]

    def _steps(self, index: Any) -> Any:
        """Steps and environments."""
        rows = np.arange(self.buffer_size * self.n_envs)
        if self.generator_ready:
            environments, steps = np.divmod(rows[index], self.buffer_size)
        else:
            steps, environments = np.divmod(rows.reshape(self.buffer_size, self.n_envs)[index], self.n_envs)
        return steps, environments

    def reset(self) -> None:
        """Forget the rollout."""
        super().reset()
        self.minibatch: Minibatch | None = None
        for column in self._columns.values():
            column.clear()

    def add(self, obs: npt.NDArray[Any] | dict[str, npt.NDArray[Any]], *args: Any, **kwargs: Any) -> None:
        """
        Store one step of each environment; everything is copied.

        :param obs: batch of n_envs observations.
        :param args: as for stock buffers: actions, rewards, whether the episode began, values, log probabilities.
        :param kwargs: likewise.
        """
        arrays = arrays_of(obs)
        for name, column in self._columns.items():
            column.write(self.pos, np.asarray(arrays[name]))
        super().add(np.zeros((self.n_envs, 0)), *args, **kwargs)

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """
        :param batch_size: steps of a minibatch; None for all.
        :return: every step once.
        """
        if self.chunk_length is None:
            yield from super().get(batch_size)
            return
        if not self.generator_ready:
            # Lays out the arrays anew, before the first of its samples.
            next(super().get(1))
        rows = self._chunks(self.chunk_length)
        for batch in np.split(rows, range(batch_size or len(rows), len(rows), batch_size or len(rows))):
            yield self._get_samples(batch)

    def _chunks(self, length: int) -> npt.NDArray[np.int64]:
        n_rows = self.buffer_size * self.n_envs
        # Stock buffers lay one environment's steps after the other's.
        rows = np.roll(np.arange(n_rows), np.random.randint(length))
        chunks = np.split(rows, range(length, n_rows, length))
        return np.concatenate([chunks[i] for i in np.random.permutation(len(chunks))])

    def _get_samples(self, batch_inds: npt.NDArray[np.int64], env: VecNormalize | None = None) -> RolloutBufferSamples:
        samples = super()._get_samples(batch_inds, env)
        stacked = {name: column for name, column in self._columns.items() if isinstance(column, _Stacks)}
        slots = {name: column.rows[self._steps(batch_inds)] for name, column in stacked.items()}
        self.minibatch = Minibatch(samples.observations, batch_inds, slots)
        return samples

    def to_torch(self, array: Any, copy: bool = True) -> Any:
        """
        :param array: values gathered for a minibatch, or a dictionary of them.
        :param copy: not read: they were copied when they were gathered.
        :return: the same as tensors on the buffer's device.
        """
        return tensors_of(array, self.device)

    def _column(self, name: str, space: spaces.Space[Any]) -> "_Column":
        if isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3:
            return _Stacks(name, space, self.n_frames, self.buffer_size, self.n_envs)
        return _Plain(space, self.buffer_size, self.n_envs)


class MaskableFrameRolloutBuffer(FrameRolloutBuffer, MaskableRolloutBuffer):  # type: ignore[misc]  # samples of another name
    """:class:`FrameRolloutBuffer` for MaskablePPO."""


class _Plain:
    """An array of every step as it came."""

    def __init__(self, space: spaces.Space[Any], buffer_size: int, n_envs: int) -> None:
        shape = get_obs_shape(space)
        assert isinstance(shape, tuple), "SB3 has no nested Dict spaces"
        self.rows = np.zeros((buffer_size, n_envs, *shape), space.dtype)

    def write(self, pos: int, arrays: npt.NDArray[Any]) -> None:
        # SB3 hands out Discrete observations without the axis that it stores them with.
        self.rows[pos] = arrays.reshape(self.rows.shape[1:])

    def read(self, index: Any) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = self.rows[index]
        return values

    def clear(self) -> None:
        """Every row is written before it is read."""


class _Stacks:
    """Slots of the frames of every step, shape (buffer_size, n_envs, n_frames); sharing goes by content."""

    def __init__(self, name: str, space: spaces.Box, n_frames: int | None, buffer_size: int, n_envs: int) -> None:
        self._stacks = FrameStacks(name, space, n_frames, n_envs, buffer_size, None)
        self.rows = np.zeros((buffer_size, n_envs, self._stacks.n_frames), np.int32)

    def write(self, pos: int, arrays: npt.NDArray[Any]) -> None:
        frames, last = self._stacks.split(arrays), self.rows[pos - 1]
        moved_on = equal_rows(self._stacks.frames(last[:, 1:]), frames[:, :-1])
        for env, stack in enumerate(frames):
            self.rows[pos, env] = self._stacks.put(stack, after=last[env].tolist() if moved_on[env] else None)

    def read(self, index: Any) -> npt.NDArray[Any]:
        return self._stacks.join(self._stacks.frames(self.rows[index]))

    def clear(self) -> None:
        self.rows[:] = 0
        self._stacks.clear()


_Column = _Plain | _Stacks
