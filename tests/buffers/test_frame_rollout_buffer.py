"""FrameRolloutBuffer against SB3's own buffers, fed with the same steps."""

import copy

import numpy as np
import pytest
import torch as th
from buffers.episodes import HEIGHT, WIDTH, Episodes, assert_equal_arrays, dict_space, image_space, with_vectors
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer

from sb3_latent import FrameRolloutBuffer, MaskableFrameRolloutBuffer

ACTIONS = spaces.Discrete(3)
KINDS = {
    "images": (FrameRolloutBuffer, RolloutBuffer),
    "dict": (FrameRolloutBuffer, DictRolloutBuffer),
    "masked images": (MaskableFrameRolloutBuffer, MaskableRolloutBuffer),
    "masked dict": (MaskableFrameRolloutBuffer, MaskableDictRolloutBuffer),
}


def steps(n_steps, n_envs, episodes, rng, kind):
    """Arguments of ``add``."""
    for _ in range(n_steps):
        obs = np.stack([episode.stack() for episode in episodes])
        for episode in episodes:
            episode.step()
        masks = {"action_masks": rng.integers(0, 2, (n_envs, 3))} if "masked" in kind else {}
        yield (
            (
                with_vectors(obs, rng) if "dict" in kind else obs,
                rng.integers(0, 3, n_envs),
                rng.normal(size=n_envs),
                rng.integers(0, 2, n_envs).astype(bool),
                th.as_tensor(rng.normal(size=(n_envs, 1))),
                th.as_tensor(rng.normal(size=n_envs)),
            ),
            masks,
        )


def filled(ours, stock, episodes, rng, kind):
    """Both with the same rollout."""
    for buffer in (ours, stock):
        buffer.reset()
    for args, masks in steps(stock.buffer_size, stock.n_envs, episodes, rng, kind):
        for buffer in (ours, stock):
            buffer.add(*copy.deepcopy(args), **copy.deepcopy(masks))
    last_values = th.as_tensor(rng.normal(size=(stock.n_envs, 1)))
    for buffer in (ours, stock):
        buffer.compute_returns_and_advantage(last_values, np.zeros(stock.n_envs))


def plain(observations):
    """Arrays of tensors."""
    if isinstance(observations, dict):
        return {name: tensor.numpy() for name, tensor in observations.items()}
    return observations.numpy()


def assert_equal_samples(ours, stock):
    assert set(stock._fields) <= set(ours._fields)
    for field in stock._fields:
        assert_equal_arrays(plain(getattr(ours, field)), plain(getattr(stock, field)))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(list(KINDS)),
    n_envs=st.integers(1, 3),
    buffer_size=st.integers(1, 12),
    n_frames=st.integers(1, 4),
    n_channels=st.sampled_from([1, 3]),
    padding=st.sampled_from(["zeros", "first", "history"]),
    channels_last=st.booleans(),
    batch_size=st.sampled_from([None, 1, 4, 7]),
)
def test_every_minibatch_equals_the_stock_buffers(
    seed, kind, n_envs, buffer_size, n_frames, n_channels, padding, channels_last, batch_size
):
    rng = np.random.default_rng(seed)
    channels_last = channels_last and "dict" not in kind
    image = image_space(n_frames * n_channels, channels_last)
    space = dict_space(image) if "dict" in kind else image
    arguments = (buffer_size, space, ACTIONS, "cpu", 0.9, 0.95, n_envs)
    cls, stock_cls = KINDS[kind]
    # The second image of a Dict has one channel, which any number of frames but one does not divide.
    ours = cls(*arguments, **({} if "dict" in kind else {"n_frames": n_frames}))
    stock = stock_cls(*arguments)
    episodes = [Episodes(rng, n_frames, n_channels, padding, channels_last) for _ in range(n_envs)]
    for _ in range(2):
        filled(ours, stock, episodes, rng, kind)
        for _ in range(2):
            batches = []
            for buffer in (ours, stock):
                np.random.seed(seed)
                batches.append(list(buffer.get(batch_size)))
            assert len(batches[0]) == len(batches[1])
            for pair in zip(*batches, strict=True):
                assert_equal_samples(*pair)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    n_envs=st.integers(1, 3),
    buffer_size=st.integers(1, 20),
    n_frames=st.integers(1, 4),
    chunk_length=st.integers(1, 9),
    batch_size=st.sampled_from([None, 4, 8]),
)
def test_numbers_are_those_of_equal_frames(seed, n_envs, buffer_size, n_frames, chunk_length, batch_size):
    rng = np.random.default_rng(seed)
    chunk_length = min(chunk_length, buffer_size)
    buffer = FrameRolloutBuffer(
        buffer_size, image_space(n_frames), ACTIONS, "cpu", n_envs=n_envs, n_frames=n_frames, chunk_length=chunk_length
    )
    stock = RolloutBuffer(buffer_size, image_space(n_frames), ACTIONS, "cpu", n_envs=n_envs)
    filled(buffer, stock, [Episodes(rng, n_frames, 1, "zeros", False) for _ in range(n_envs)], rng, "images")
    frames_of, rows, advantages = {}, [], []
    for samples in buffer.get(batch_size):
        assert buffer.minibatch.observations is samples.observations
        frames = samples.observations.reshape(-1, HEIGHT, WIDTH)
        for number, frame in zip(buffer.minibatch.numbers("observation", n_frames), frames, strict=True):
            assert th.equal(frames_of.setdefault(("frame", int(number)), frame), frame) or n_frames == 1
        for number, stack in zip(buffer.minibatch.numbers("observation", 1), samples.observations, strict=True):
            assert th.equal(frames_of.setdefault(("stack", int(number)), stack), stack)
        rows += buffer.minibatch.rows.tolist()
        advantages.append(samples.advantages)
    assert sorted(rows) == list(range(buffer_size * n_envs)), "every step once"
    assert (th.cat(advantages).numpy() == RolloutBuffer.swap_and_flatten(stock.advantages).ravel()[rows]).all()


def test_chunks_are_steps_that_follow_each_other():
    buffer = FrameRolloutBuffer(64, image_space(4), ACTIONS, "cpu", n_envs=2, chunk_length=8)
    stock = RolloutBuffer(64, image_space(4), ACTIONS, "cpu", n_envs=2)
    rng = np.random.default_rng(0)
    filled(buffer, stock, [Episodes(rng, 4, 1, "zeros", False) for _ in range(2)], rng, "images")
    np.random.seed(0)
    firsts = []
    for _ in range(20):
        rows = [buffer.minibatch.rows.reshape(2, 8) for _ in buffer.get(16)]
        for chunk in np.concatenate(rows):
            assert ((chunk - chunk[0]) % 128 == np.arange(8)).all()
        firsts.append(rows[0][0, 0])
    assert len({first % 8 for first in firsts}) > 3, "they begin elsewhere in every epoch"
    assert len({first // 8 for first in firsts}) > 3, "in random order"


def test_each_frame_is_held_once():
    n_steps, n_envs = 500, 3
    space = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    buffer = FrameRolloutBuffer(n_steps, space, ACTIONS, "cpu", n_envs=n_envs)
    stream = np.random.default_rng(0).integers(1, 256, (n_steps + 3, n_envs, 84, 84), dtype=np.uint8)
    for t in range(n_steps):
        obs = stream[t : t + 4].swapaxes(0, 1)
        buffer.add(obs, np.zeros(n_envs), np.zeros(n_envs), np.zeros(n_envs), th.zeros(n_envs, 1), th.zeros(n_envs))
    column = buffer._columns["observation"]
    assert len(np.unique(column.rows)) == n_envs * (n_steps + 3)
    buffer.reset()
    assert column._stacks._pool._n_touched == 1, "the blank frame"
    stock = RolloutBuffer(n_steps, space, ACTIONS, "cpu", n_envs=n_envs).observations.nbytes
    assert column._stacks.n_bytes + column.rows.nbytes < 0.26 * stock


def test_what_comes_in_is_copied():
    buffer = FrameRolloutBuffer(2, image_space(2), ACTIONS, "cpu")
    for value in (1, 2):
        obs = np.full((1, 2, HEIGHT, WIDTH), value, np.uint8)
        buffer.add(obs, np.zeros(1), np.zeros(1), np.zeros(1), th.zeros(1, 1), th.zeros(1))
        obs[:] = 9
    (samples,) = buffer.get()
    assert sorted(samples.observations[:, 0, 0, 0].tolist()) == [1, 2]


@pytest.mark.parametrize(
    "kwargs, line",
    [
        ({"chunk_length": 0}, "chunk_length=0 must be an integer of at least 1."),
        ({"chunk_length": 2.5}, "chunk_length=2.5 must be an integer of at least 1."),
        ({"n_frames": 3}, "n_frames=3 does not divide the 4 stacked channels"),
        ({"chunk_length": 5}, r"chunk_length=5 exceeds the 4 steps of a rollout \(n_steps\)."),
    ],
)
def test_bad_arguments_are_named(kwargs, line):
    with pytest.raises(ValueError, match=line):
        FrameRolloutBuffer(4, image_space(4), ACTIONS, **kwargs)


@pytest.mark.parametrize("kind", ["images", "dict"])
def test_observations_are_read_as_those_of_stock_buffers(kind):
    space = dict_space(image_space(4)) if kind == "dict" else image_space(4)
    cls, stock_cls = KINDS[kind]
    ours, stock = (each(6, space, ACTIONS, "cpu", n_envs=2) for each in (cls, stock_cls))
    rng = np.random.default_rng(0)
    filled(ours, stock, [Episodes(rng, 4, 1, "zeros", False) for _ in range(2)], rng, kind)
    steps = np.array([5, 0, 3]), np.array([1, 1, 0])
    for index in (steps, slice(None), (slice(1, 3), 0), 4):
        assert_equal_arrays(ours.observations[index], indexed(stock, index))
    for buffer in (ours, stock):
        next(buffer.get(4))
    for index in (np.array([11, 0, 3]), slice(2, 5), 7):
        assert_equal_arrays(ours.observations[index], indexed(stock, index))


def indexed(stock, index):
    observations = stock.observations
    if isinstance(observations, dict):
        return {name: array[index] for name, array in observations.items()}
    return observations[index]


def test_two_epochs_at_once_and_samples_by_index():
    buffer = FrameRolloutBuffer(8, image_space(4), ACTIONS, "cpu", n_envs=2, chunk_length=4)
    stock = RolloutBuffer(8, image_space(4), ACTIONS, "cpu", n_envs=2)
    rng = np.random.default_rng(0)
    filled(buffer, stock, [Episodes(rng, 4, 1, "zeros", False) for _ in range(2)], rng, "images")
    next(stock.get(4))
    rows = ([], [])
    for _ in zip(*(noted(buffer, seen) for seen in rows), strict=True):
        pass
    assert sorted(np.concatenate(rows[0])) == sorted(np.concatenate(rows[1])) == list(range(16))
    assert_equal_samples(buffer._get_samples(np.array([3, 3, 9])), stock._get_samples(np.array([3, 3, 9])))


def noted(buffer, seen):
    for samples in buffer.get(4):
        seen.append(buffer.minibatch.rows)
        yield samples


def test_what_stands_for_the_observations_is_an_array_to_read():
    buffer = FrameRolloutBuffer(6, dict_space(image_space(4)), ACTIONS, "cpu", n_envs=2)
    stock = DictRolloutBuffer(6, dict_space(image_space(4)), ACTIONS, "cpu", n_envs=2)
    rng = np.random.default_rng(0)
    filled(buffer, stock, [Episodes(rng, 4, 1, "zeros", False) for _ in range(2)], rng, "dict")
    for name, array in stock.observations.items():
        assert_equal_arrays(buffer.observations[name], array)
    alone = FrameRolloutBuffer(1, image_space(4), ACTIONS, "cpu")
    alone.add(np.ones((1, 4, HEIGHT, WIDTH), np.uint8), np.zeros(1), np.zeros(1), np.zeros(1), th.zeros(1, 1), th.zeros(1))
    assert np.asarray(alone.observations).shape == (1, 1, 4, HEIGHT, WIDTH)
    with pytest.raises(IndexError, match="too many indices"):
        alone.observations[0, 0, 0]
    with pytest.raises(TypeError, match="cannot be changed, for stacks share frames; use RolloutBuffer"):
        alone.observations[0] = 1
