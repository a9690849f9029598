"""Windows: the last frames and actions of an episode as one observation, and batches of them with what came next."""

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_latent.checks import whole_number
from sb3_latent.registry import unknown

FRAMES, ACTIONS, MASK = "frames", "actions", "mask"
"""The keys of a window, see :func:`window_space`."""

Reads = Literal["history", "latent"]
"""What a network reads of a window: features of its frames and the actions between them, or the last state."""


@dataclass(frozen=True)
class WindowSpec:
    """
    What a window holds.

    :param length: T, its frames.
    :param frame_shape: (C, H, W) of an image, or (n,) of a vector.
    :param action_dim: numbers of an action.
    :param scale: what a raw frame is divided by: 255 for images of bytes, else 1.
    """

    length: int
    frame_shape: tuple[int, ...]
    action_dim: int
    scale: float

    @property
    def is_image(self) -> bool:
        """:return: whether a frame is (C, H, W)."""
        return len(self.frame_shape) == 3


@dataclass(frozen=True, eq=False)
class WindowBatch:
    """
    B windows of T frames, each with the transition out of it; nothing in a row crosses the end of an episode.

    :param frames: (B, T + 1, *frame_shape), raw; the last one followed the last action.
    :param actions: (B, T, action_dim), in [-1, 1]; the last one was taken in the window's last frame.
    :param rewards: (B, T), for these actions.
    :param terminals: (B,), 1 where the last action ended the episode other than by a time limit, else 0.
    :param mask: (B, T + 1), True for frames of the episode, False for padding before its start.
    """

    frames: th.Tensor
    actions: th.Tensor
    rewards: th.Tensor
    terminals: th.Tensor
    mask: th.Tensor

    def rows(self, index: slice) -> "WindowBatch":
        """
        :param index: of rows.
        :return: the batch with these rows, as views.
        """
        parts = (getattr(self, field.name) for field in fields(self))
        return WindowBatch(*(part[index] for part in parts))


class WindowObservations(dict[str, th.Tensor]):
    """
    Windows as a replay buffer hands them out: SB3 passes the very object on to its networks, which find the batch here.

    :param batch: what the windows were cut from.
    :param is_next: whether they are those one step later.
    """

    def __init__(self, batch: WindowBatch, is_next: bool) -> None:
        length = batch.actions.shape[1]
        first = int(is_next)
        super().__init__(
            {
                FRAMES: batch.frames[:, first : first + length],
                ACTIONS: batch.actions[:, first : first + length - 1],
                # As the environments have it, so that whoever reads windows meets one type.
                MASK: batch.mask[:, first : first + length].view(th.uint8),
            }
        )
        self.batch = batch
        self.is_next = is_next


def window_space(frame: spaces.Box, action: spaces.Space[Any], length: int) -> spaces.Dict:
    """
    The observation space of a window.

    :param frame: of one frame: an image with channels first, or a vector.
    :param action: of the environment: Box, whose actions are scaled to [-1, 1] where it is bounded, or Discrete, whose
        actions become one-hot vectors.
    :param length: T, frames of a window, at least 2.
    :return: Dict of ``"frames"`` (T, *frame_shape), ``"actions"`` (T - 1, action_dim), each between two frames, and ``"mask"``
        (T,), 1 for frames of the episode and 0 for padding before its start.
    :raises ValueError: if the length is below 2, the action space is another one, or a bounded one allows one value only.
    """
    length = whole_number("length", length, 2)
    if isinstance(action, spaces.Box) and not (action.low < action.high).all():
        raise ValueError(
            f"action space {describe(action)}: low is not below high everywhere, and a constant cannot be scaled to [-1, 1]; "
            "leave it out by gymnasium.wrappers.TransformAction."
        )
    shape = (length, *frame.shape)
    low, high = np.broadcast_to(frame.low, shape), np.broadcast_to(frame.high, shape)
    bound = 1.0 if isinstance(action, spaces.Discrete) or (isinstance(action, spaces.Box) and action.is_bounded()) else np.inf
    return spaces.Dict(
        {
            FRAMES: spaces.Box(low, high, shape, frame.dtype.type),
            ACTIONS: spaces.Box(-bound, bound, (length - 1, _action_dim(action)), np.float32),
            MASK: spaces.Box(0, 1, (length,), np.uint8),
        }
    )


def window_spec(space: spaces.Space[Any]) -> WindowSpec:
    """
    :param space: observation space of a policy.
    :return: what its windows hold.
    :raises ValueError: if it is none of :func:`window_space`.
    """
    parts = space.spaces if isinstance(space, spaces.Dict) else {}
    if set(parts) != {FRAMES, ACTIONS, MASK}:
        raise ValueError(
            f"{describe(space)} holds no windows of frames and actions; wrap the environment: HistoryWrapper(env, length=8)."
        )
    frames, actions = parts[FRAMES], parts[ACTIONS]
    assert isinstance(frames, spaces.Box)
    assert actions.shape is not None
    length, *frame_shape = frames.shape
    is_bytes = frames.dtype == np.uint8 and len(frame_shape) == 3
    return WindowSpec(length, tuple(frame_shape), actions.shape[1], 255.0 if is_bytes else 1.0)


def describe(space: spaces.Space[Any]) -> str:
    """
    :param space: of observations or actions.
    :return: one short line; gymnasium's own prints all bounds, over many lines.
    """
    inside = ", ".join(map(repr, space.spaces)) if isinstance(space, spaces.Dict) else f"shape={space.shape}"
    return f"{type(space).__name__}({inside})"


def _action_dim(action: spaces.Space[Any]) -> int:
    match action:
        case spaces.Box():
            return int(np.prod(action.shape))
        case spaces.Discrete():
            return int(action.n)
        case _:
            raise ValueError(
                f"action space {describe(action)} is neither Box nor Discrete; wrap the environment so that it has one."
            )


def check_reads(name: str, value: str) -> None:
    """
    :param name: of the argument.
    :param value: its value.
    :raises ValueError: if it is none of :data:`Reads`.
    """
    if value not in get_args(Reads):
        raise ValueError(unknown(name, value, get_args(Reads)))
