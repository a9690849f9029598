"""What windows are made of: their space, what is read off it, and the two views of a batch."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_latent.windows import WindowBatch, WindowObservations, window_space, window_spec

IMAGE = spaces.Box(0, 255, (3, 8, 9), np.uint8)
VECTOR = spaces.Box(np.array([-1, 2], np.float32), np.array([5, np.inf], np.float32))
BOUNDED = spaces.Box(-2, 7, (2, 3), np.float32)


@pytest.mark.parametrize(
    "frame, scale, is_image", [(IMAGE, 255, True), (VECTOR, 1, False), (spaces.Box(0, 1, (1, 8, 9)), 1, True)]
)
@pytest.mark.parametrize(
    "action, action_dim, bound",
    [(BOUNDED, 6, 1), (spaces.Discrete(4, start=2), 4, 1), (spaces.Box(0, np.inf, (2,), np.float32), 2, np.inf)],
)
def test_a_space_says_what_its_windows_hold(frame, scale, is_image, action, action_dim, bound):
    space = window_space(frame, action, length=5)
    assert {name: part.shape for name, part in space.items()} == {
        "frames": (5, *frame.shape),
        "actions": (4, action_dim),
        "mask": (5,),
    }
    assert all((space["frames"].low[t] == frame.low).all() and (space["frames"].high[t] == frame.high).all() for t in range(5))
    assert space["frames"].dtype == frame.dtype and space["mask"].dtype == np.uint8 and space["actions"].dtype == np.float32
    assert (space["actions"].low == -bound).all() and (space["actions"].high == bound).all()
    spec = window_spec(space)
    assert (spec.length, spec.frame_shape, spec.action_dim) == (5, frame.shape, action_dim)
    assert (spec.scale, spec.is_image) == (scale, is_image)


@pytest.mark.parametrize(
    "space", [IMAGE, spaces.Discrete(3), spaces.Dict(frames=IMAGE), spaces.Box(np.eye(30), np.eye(30) + 1, dtype=np.float64)]
)
def test_what_holds_no_windows_is_refused_in_one_line(space):
    with pytest.raises(ValueError, match=r"holds no windows.*HistoryWrapper\(env, length=8\)") as error:
        window_spec(space)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [1, 0, -3, 2.0, True, "8"])
def test_a_window_has_at_least_two_frames(length):
    with pytest.raises(ValueError, match=f"length={length!r} must be an integer of at least 2"):
        window_space(IMAGE, BOUNDED, length)


def batch(n=4, length=3):
    generator = th.Generator().manual_seed(0)
    mask = th.arange(length + 1) >= th.tensor([[0], [1], [2], [1]])[:n]
    return WindowBatch(
        frames=th.randint(0, 256, (n, length + 1, 3, 8, 9), generator=generator, dtype=th.uint8),
        actions=th.rand(n, length, 2, generator=generator),
        rewards=th.rand(n, length, generator=generator),
        terminals=th.tensor([0.0, 1, 0, 1])[:n],
        mask=mask,
    )


def test_observations_are_the_first_and_the_last_windows_of_the_batch_as_views():
    b = batch()
    for first, observations in enumerate((WindowObservations(b, is_next=False), WindowObservations(b, is_next=True))):
        assert isinstance(observations, dict) and list(observations) == ["frames", "actions", "mask"]
        assert observations.batch is b and observations.is_next == bool(first)
        assert th.equal(observations["frames"], th.stack([b.frames[:, first + t] for t in range(3)], 1))
        assert th.equal(observations["actions"], th.stack([b.actions[:, first + t] for t in range(2)], 1))
        assert observations["mask"].dtype == th.uint8
        assert th.equal(observations["mask"], th.stack([b.mask[:, first + t] for t in range(3)], 1).to(th.uint8))
        for name, whole in (("frames", b.frames), ("actions", b.actions), ("mask", b.mask)):
            assert observations[name].untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()


def test_rows_of_a_batch_are_views():
    b = batch()
    part = b.rows(slice(1, 3))
    for name, some in vars(part).items():
        whole = getattr(b, name)
        assert th.equal(some, whole[1:3]) and some.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
