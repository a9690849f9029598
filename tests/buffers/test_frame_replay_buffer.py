"""FrameReplayBuffer against SB3's own buffers, fed with the same transitions."""

import copy
import pickle
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from buffers.episodes import HEIGHT, WIDTH, Episodes, assert_equal_arrays, dict_space, image_space, with_vectors
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_latent.buffers import FrameReplayBuffer
from sb3_latent.buffers.columns import StackColumn

ACTIONS = spaces.Box(-1, 1, (2,), np.float32)


def steps(n_steps, n_envs, episodes, rng):
    """Arguments of ``add`` for images alone."""
    for _ in range(n_steps):
        obs, next_obs, dones, truncated = zip(*(episodes[env].step() for env in range(n_envs)), strict=True)
        infos = [{"TimeLimit.truncated": flag} for flag in truncated]
        action = rng.normal(size=(n_envs, 2)).astype(np.float32)
        yield np.stack(obs), np.stack(next_obs), action, rng.normal(size=n_envs), np.array(dones), infos


def fill(buffers, n_steps, n_envs=1, n_frames=3, n_channels=1, padding="zeros", seed=0):
    rng = np.random.default_rng(seed)
    episodes = [Episodes(rng, n_frames, n_channels, padding, False) for _ in range(n_envs)]
    for arguments in steps(n_steps, n_envs, episodes, rng):
        for buffer in buffers:
            buffer.add(*copy.deepcopy(arguments))


def assert_equal_observations(ours, stock):
    """Every observation of every environment, by index."""
    index = np.ix_(np.arange(stock.size()), np.arange(stock.n_envs))
    for attribute in ("observations", "next_observations"):
        whole = getattr(stock, attribute)
        expected = {key: array[index] for key, array in whole.items()} if isinstance(whole, dict) else whole[index]
        assert_equal_arrays(getattr(ours, attribute)[index], expected)


def assert_equal_samples(ours, stock, seed):
    """The same draws, the same values, the same types."""
    for sample in (lambda buffer: buffer.sample(7), lambda buffer: buffer._get_samples(np.arange(buffer.size()).repeat(3))):
        np.random.seed(seed)
        a = sample(ours)
        state = np.random.get_state()[1]
        np.random.seed(seed)
        b = sample(stock)
        assert (np.random.get_state()[1] == state).all()
        assert type(a) is type(b) or isinstance(stock, DictReplayBuffer)
        for field, value in b._asdict().items():
            if value is None:
                assert getattr(a, field) is None
            else:
                assert_equal_arrays(getattr(a, field), value)


def assert_nothing_leaks(buffer):
    """The slots in use are those that the transitions name; the rest waits in the free list, once each."""
    for column in buffer._columns.values():
        if isinstance(column, StackColumn):
            named = set(column.rows.ravel().tolist()) - {0}
            free = column.stacks._pool._free
            assert len(set(free)) == len(free) and not named & set(free) and 0 not in free
            assert named | set(free) == set(range(1, column.stacks._pool._n_touched))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    n_envs=st.integers(1, 3),
    buffer_size=st.integers(1, 24),
    n_frames=st.integers(1, 4),
    n_channels=st.sampled_from([1, 3]),
    padding=st.sampled_from(["zeros", "first", "history"]),
    channels_last=st.booleans(),
    n_steps=st.integers(1, 5),
    handle_timeout_termination=st.booleans(),
    saves=st.sets(st.integers(0, 49), max_size=3),
    on_disk=st.booleans(),
)
def test_every_transition_equals_the_stock_buffers(
    tmp_path_factory, seed, n_envs, buffer_size, n_frames, n_channels, padding, channels_last, n_steps,
    handle_timeout_termination, saves, on_disk,
):  # fmt: skip
    rng = np.random.default_rng(seed)
    space = image_space(n_frames * n_channels, channels_last)
    shared = dict(n_envs=n_envs, device="cpu", handle_timeout_termination=handle_timeout_termination)
    path = tmp_path_factory.mktemp("frames") if on_disk else None
    ours = FrameReplayBuffer(buffer_size, space, ACTIONS, n_frames=n_frames, n_steps=n_steps, gamma=0.9, path=path, **shared)
    if n_steps == 1:
        stock = ReplayBuffer(buffer_size, space, ACTIONS, **shared)
    else:
        stock = NStepReplayBuffer(buffer_size, space, ACTIONS, n_steps=n_steps, gamma=0.9, **shared)
    episodes = [Episodes(rng, n_frames, n_channels, padding, channels_last) for _ in range(n_envs)]
    for i, arguments in enumerate(steps(50, n_envs, episodes, rng)):
        if i in saves:
            ours = pickle.loads(pickle.dumps(ours, protocol=pickle.HIGHEST_PROTOCOL))
        ours.add(*copy.deepcopy(arguments))
        stock.add(*copy.deepcopy(arguments))
        assert (ours.pos, ours.full, ours.size()) == (stock.pos, stock.full, stock.size())
        assert_equal_observations(ours, stock)
        assert_nothing_leaks(ours)
        if i % 7 == 0:
            assert_equal_samples(ours, stock, i)
    assert_equal_samples(ours, stock, 50)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), n_envs=st.integers(1, 3), buffer_size=st.integers(1, 30), save=st.integers(0, 39))
def test_dict_observations_equal_the_stock_dict_buffer(seed, n_envs, buffer_size, save):
    rng = np.random.default_rng(seed)
    space = dict_space(image_space(4))
    ours = FrameReplayBuffer(buffer_size, space, ACTIONS, device="cpu", n_envs=n_envs)
    stock = DictReplayBuffer(buffer_size, space, ACTIONS, device="cpu", n_envs=n_envs)
    episodes = [Episodes(rng, 4, 1, "zeros", False) for _ in range(n_envs)]
    for i, (obs, next_obs, *rest) in enumerate(steps(40, n_envs, episodes, rng)):
        if i == save:
            ours = pickle.loads(pickle.dumps(ours))
        dicts = with_vectors(obs, rng), with_vectors(next_obs, rng)
        ours.add(*copy.deepcopy(dicts), *rest)
        stock.add(*copy.deepcopy(dicts), *rest)
        assert_equal_observations(ours, stock)
    assert_equal_samples(ours, stock, 0)


def test_dict_observations_with_n_steps_equal_a_stock_n_step_buffer_for_each_key():
    rng = np.random.default_rng(0)
    space = dict_space(image_space(6))
    arguments = dict(device="cpu", n_envs=2, n_steps=3, gamma=0.8)
    ours = FrameReplayBuffer(20, space, ACTIONS, **arguments)
    stock = {key: NStepReplayBuffer(20, space[key], ACTIONS, **arguments) for key in space}
    episodes = [Episodes(rng, 2, 3, "first", False) for _ in range(2)]
    for obs, next_obs, *rest in steps(33, 2, episodes, rng):
        obs, next_obs = with_vectors(obs, rng), with_vectors(next_obs, rng)
        ours.add(obs, next_obs, *rest)
        for key, buffer in stock.items():
            buffer.add(obs[key], next_obs[key], *rest)
    np.random.seed(1)
    samples = ours.sample(64)
    for key, buffer in stock.items():
        np.random.seed(1)
        expected = buffer.sample(64)
        assert th.equal(samples.observations[key], expected.observations)
        assert th.equal(samples.next_observations[key], expected.next_observations)
        assert th.equal(samples.rewards, expected.rewards)
        assert th.equal(samples.dones, expected.dones)
        assert th.equal(samples.discounts, expected.discounts)


@pytest.mark.parametrize(
    "space, draw",
    [
        (spaces.Box(-1, 1, (3,), np.float32), lambda rng: rng.normal(size=(2, 3)).astype(np.float32)),
        (spaces.Box(0, 1, (3, 5, 5), np.float32), lambda rng: rng.uniform(size=(2, 3, 5, 5)).astype(np.float32)),
        (spaces.Discrete(7), lambda rng: rng.integers(0, 7, 2)),
    ],
)
def test_what_is_no_image_is_held_as_stock_buffers_hold_it(space, draw):
    rng = np.random.default_rng(0)
    buffers = [cls(10, space, spaces.Discrete(3), device="cpu", n_envs=2) for cls in (FrameReplayBuffer, ReplayBuffer)]
    for _ in range(8):
        obs, next_obs, action = draw(rng), draw(rng), rng.integers(0, 3, 2)
        for buffer in buffers:
            buffer.add(obs, next_obs, action, np.ones(2), np.zeros(2), [{}, {}])
    assert_equal_observations(*buffers)
    assert_equal_samples(*buffers, 0)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_a_vec_normalize_normalizes_as_it_does_for_stock_buffers(n_steps):
    space = dict_space(image_space(3))
    box = space["vector"]
    ours = FrameReplayBuffer(20, box, ACTIONS, device="cpu", n_steps=n_steps)
    stock = NStepReplayBuffer(20, box, ACTIONS, device="cpu", n_steps=n_steps)
    env = VecNormalize(DummyVecEnv([lambda: SpaceOnly(box)]))
    rng = np.random.default_rng(0)
    env.obs_rms.update(rng.normal(2.0, 3.0, (50, 3)))
    env.ret_rms.update(rng.normal(0.0, 9.0, 50))
    for _ in range(15):
        vector = rng.normal(size=(2, 1, 3))
        for buffer in (ours, stock):
            buffer.add(vector[0], vector[1], np.zeros((1, 2)), np.ones(1), np.zeros(1), [{}])
    np.random.seed(0)
    samples = ours.sample(9, env=env)
    np.random.seed(0)
    expected = stock.sample(9, env=env)
    for field in ("observations", "next_observations", "rewards"):
        assert th.equal(getattr(samples, field), getattr(expected, field))


class SpaceOnly(gym.Env):
    """As much of an environment as VecNormalize looks at."""

    action_space = ACTIONS

    def __init__(self, observation_space):
        self.observation_space = observation_space


@pytest.mark.parametrize(
    "n_channels, n_frames", [(1, 1), (2, 2), (3, 1), (4, 4), (6, 2), (9, 3), (12, 4)], ids=lambda value: str(value)
)
def test_the_number_of_frames_follows_from_the_channels(n_channels, n_frames):
    buffer = FrameReplayBuffer(5, image_space(n_channels), ACTIONS)
    assert buffer._columns["observation"].stacks.n_frames == n_frames


@pytest.mark.parametrize("padding", ["zeros", "first"])
def test_frames_are_held_once(padding):
    """100 transitions in one row of episodes: a frame for each, and one more for each episode."""
    buffer = FrameReplayBuffer(200, image_space(3), ACTIONS, n_frames=3)
    rng = np.random.default_rng(0)
    frames = rng.integers(1, 256, (200, HEIGHT, WIDTH), dtype=np.uint8)
    ends = []
    n = 0
    for length in (1, 2, 60, 37):
        first = frames[n] * (padding == "first")
        history = [first, first, *frames[n : n + length + 1]]
        for t in range(length):
            obs, next_obs = np.stack(history[t : t + 3]), np.stack(history[t + 1 : t + 4])
            buffer.add(obs[None], next_obs[None], np.zeros((1, 2)), np.zeros(1), np.array([t == length - 1]), [{}])
        n += length + 1
        ends.append(n)
    pool = buffer._columns["observation"].stacks._pool
    assert pool._n_touched - 1 == n == 104
    assert len(pool._spilled) == 0


def test_an_episode_longer_than_the_buffer_never_needs_more_room():
    buffer = FrameReplayBuffer(9, image_space(3), ACTIONS, n_frames=3)
    frames = np.random.default_rng(0).integers(1, 256, (60, HEIGHT, WIDTH), dtype=np.uint8)
    for t in range(57):
        obs, next_obs = frames[None, t : t + 3], frames[None, t + 1 : t + 4]
        buffer.add(obs, next_obs, np.zeros((1, 2)), np.zeros(1), np.zeros(1), [{}])
    assert len(buffer._columns["observation"].stacks._pool._spilled) == 0


def test_what_comes_in_is_copied():
    buffer = FrameReplayBuffer(4, image_space(2), ACTIONS)
    frames = np.random.default_rng(0).integers(1, 256, (3, HEIGHT, WIDTH), dtype=np.uint8)
    obs, next_obs = frames[None, :2].copy(), frames[None, 1:].copy()
    buffer.add(obs, next_obs, np.zeros((1, 2)), np.zeros(1), np.zeros(1), [{}])
    obs[:], next_obs[:] = 0, 0
    assert (buffer.observations[0, 0] == frames[:2]).all() and (buffer.next_observations[0, 0] == frames[1:]).all()


def test_samples_are_copies():
    buffer = FrameReplayBuffer(8, image_space(4), ACTIONS, device="cpu")
    fill([buffer], 8, n_frames=4)
    first = buffer._get_samples(np.arange(8))
    for tensor in (first.observations, first.next_observations, first.actions, first.rewards):
        tensor.zero_()
    assert buffer._get_samples(np.arange(8)).observations.any() and buffer.actions.all() and buffer.rewards.all()


def test_reset_forgets_everything():
    buffers = [cls(12, image_space(4), ACTIONS, device="cpu") for cls in (FrameReplayBuffer, ReplayBuffer)]
    fill(buffers, 30, n_frames=4)
    for buffer in buffers:
        buffer.reset()
    assert buffers[0].size() == 0
    fill(buffers, 7, n_frames=4, seed=1)
    assert_equal_observations(*buffers)
    assert_nothing_leaks(buffers[0])


def test_extend_adds_one_after_another():
    ours, stock = (cls(12, image_space(4), ACTIONS, device="cpu") for cls in (FrameReplayBuffer, ReplayBuffer))
    rng = np.random.default_rng(0)
    recorded = [*zip(*steps(5, 1, [Episodes(rng, 4, 1, "zeros", False)], rng), strict=True)]
    ours.extend(*recorded)
    stock.extend(*recorded)
    assert_equal_observations(ours, stock)


@pytest.mark.parametrize(
    "n_channels, true, said, others", [(6, 2, 3, "6 or 1"), (6, 2, 6, "1"), (6, 3, 2, "6 or 1"), (12, 12, None, "12 or 1")]
)
def test_a_stack_of_another_number_of_frames_is_refused_with_the_fix(n_channels, true, said, others):
    buffer = FrameReplayBuffer(9, image_space(n_channels), ACTIONS, n_frames=said)
    channels = np.random.default_rng(0).integers(1, 256, (1, 2 * n_channels, HEIGHT, WIDTH), dtype=np.uint8)
    shift = n_channels // true
    obs, next_obs = channels[:, :n_channels], channels[:, shift : n_channels + shift]
    with pytest.raises(ValueError) as error:
        buffer.add(obs, next_obs, np.zeros((1, 2)), np.zeros(1), np.zeros(1), [{}])
    (line,) = str(error.value).splitlines()
    assert f"'observation' of environment 0: next_obs is not obs moved on by one frame, so these {n_channels}" in line
    assert f"n_frames=...), e.g. {others} (1 holds stacks whole)." in line


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(optimize_memory_usage=True), "optimize_memory_usage=True"),
        (dict(n_frames=2), "n_frames=2 does not divide the 9 stacked channels"),
        (dict(n_frames=0), "n_frames=0 must be an integer of at least 1"),
        (dict(n_steps=0), "n_steps=0 must be"),
        (dict(buffer_size=0), "buffer_size=0 must be"),
        (dict(buffer_size=1e5), "buffer_size=100000.0 must be an integer"),
        (dict(gamma=1.5), "gamma=1.5"),
        (dict(path=__file__), "is a file; pass the folder"),
        (dict(n_frames=3, observation_space=spaces.Box(0, 1, (9, 84, 84))), "n_frames=3, path=None: Box.* holds no image"),
        (dict(path="x", observation_space=dict_space(image_space(9))["vector"]), "path='x': Box.* holds no image"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FrameReplayBuffer(**{"buffer_size": 5, "observation_space": image_space(9), "action_space": ACTIONS, **arguments})


def test_only_what_is_in_use_is_pickled():
    space = spaces.Dict({"image": image_space(9), "vector": spaces.Box(-1, 1, (500,), np.float32)})
    buffer, small = (FrameReplayBuffer(size, space, ACTIONS) for size in (50_000, 5))
    empty = len(pickle.dumps(small))
    assert len(pickle.dumps(buffer)) < empty + 100
    frames = np.random.default_rng(0).integers(1, 256, (1, 12, HEIGHT, WIDTH), dtype=np.uint8)
    vector = np.zeros((1, 500))
    obs, next_obs = {"image": frames[:, :9], "vector": vector}, {"image": frames[:, 3:], "vector": vector}
    buffer.add(obs, next_obs, np.zeros((1, 2)), np.zeros(1), np.zeros(1), [{}])
    assert len(pickle.dumps(buffer)) < empty + 12 * HEIGHT * WIDTH + 2 * 500 * 4 + 500
    again = pickle.loads(pickle.dumps(buffer))
    assert len(again.actions) == again.buffer_size == 50_000
    assert [len(column.rows) for column in again._columns.values()] == [50_000, 50_000]


def test_a_truncated_file_says_so():
    buffer = FrameReplayBuffer(20, image_space(4), ACTIONS)
    fill([buffer], 10, n_frames=4)
    with pytest.raises(pickle.UnpicklingError, match="truncated"):
        pickle.loads(pickle.dumps(buffer)[:-2000])


def test_a_copy_goes_its_own_way():
    buffer = FrameReplayBuffer(20, image_space(4), ACTIONS, device="cpu")
    stock = ReplayBuffer(20, image_space(4), ACTIONS, device="cpu")
    fill([buffer, stock], 30, n_frames=4)
    fill([copy.deepcopy(buffer)], 15, n_frames=4, seed=1)
    assert_equal_observations(buffer, stock)


@pytest.mark.parametrize("buffer_size", [8, 2000], ids=["full", "not full"])
def test_frames_on_a_disk_stay_there_and_leave_nothing_behind(tmp_path, buffer_size):
    folder = tmp_path / "new" / "deeper"
    buffer = FrameReplayBuffer(buffer_size, image_space(4), ACTIONS, path=str(folder))
    fill([buffer], 40, n_frames=4)
    for each in (buffer, pickle.loads(pickle.dumps(buffer))):
        assert isinstance(each._columns["observation"].stacks._pool._frames.base, np.memmap)
    assert list(folder.iterdir()) == []


def warnings_of(recwarn):
    return [str(warning.message) for warning in recwarn]


def make_large(**arguments):
    """1,000 transitions of 10 x 84 x 84 x 3 frames: 21.2 MB of frames, 0.1 MB of everything else."""
    return FrameReplayBuffer(1000, spaces.Box(0, 255, (9, 84, 84), np.uint8), ACTIONS, **arguments)


@pytest.mark.parametrize("available, warns", [(21_000_000, True), (21_500_000, False)])
def test_too_little_memory_is_said_before_training(monkeypatch, recwarn, available, warns):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=available))
    make_large()
    assert len(recwarn) == warns
    if warns:
        assert "asks for 0.02 GB of memory, of which 0.02 GB are free: pass a smaller buffer_size" in warnings_of(recwarn)[0]


@pytest.mark.parametrize("n_values, n_actions", [(1000, 1), (1, 2000)])
def test_room_for_vectors_and_actions_counts(monkeypatch, recwarn, n_values, n_actions):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=8_010_000))
    spaces_ = (spaces.Box(-1, 1, (n,), np.float32) for n in (n_values, n_actions))
    FrameReplayBuffer(1000, *spaces_)
    assert ["asks for 0.01 GB" in line for line in warnings_of(recwarn)] == [True]


def test_frames_on_a_disk_need_no_memory(monkeypatch, recwarn, tmp_path):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=500_000))
    make_large(path=tmp_path)
    assert len(recwarn) == 0


def test_too_small_a_disk_is_said_before_training(monkeypatch, recwarn, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10_000_000))
    make_large(path=tmp_path)
    (line,) = warnings_of(recwarn)
    assert f"asks for 0.02 GB on the disk of path={str(tmp_path)!r}, where 0.01 GB are free" in line


def test_a_full_disk_is_a_memory_error_with_the_numbers(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(MemoryError, match=r"asks for 0\.02 GB on the disk of path="):
        make_large(path=tmp_path)


def test_memory_that_the_system_refuses_is_a_memory_error_with_the_numbers():
    """240 TB are more than a processor can address."""
    with pytest.raises(MemoryError, match=r"asks for 240000\.\d\d GB of memory, of which"):
        FrameReplayBuffer(20_000_000, spaces.Box(0, 255, (3, 2000, 2000), np.uint8), spaces.Discrete(2))


def test_room_for_the_ends_of_episodes_is_checked_as_it_grows(monkeypatch, recwarn):
    buffer = FrameReplayBuffer(10, image_space(1), ACTIONS)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
    frames = np.random.default_rng(0).integers(1, 256, (60, 1, 1, HEIGHT, WIDTH), dtype=np.uint8)
    for i in range(0, 20, 2):
        buffer.add(frames[i], frames[i + 1], np.zeros((1, 2)), np.zeros(1), np.ones(1), [{}])
    (line,) = warnings_of(recwarn)
    assert "of memory, of which 0.00 GB are free" in line
    assert all((buffer.observations[i, 0] == frames[2 * i, 0]).all() for i in range(10))
