"""Frames are those that were played, on disk whatever happens, and read back as an encoder reads observations."""

import subprocess
import sys
import textwrap
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from sb3_latent import latent_kwargs
from sb3_latent.frames import FrameSet, collect_frames, open_frames

SIDE = 32
QUIET = {"progress_bar": False}
N_SURVIVORS = 30


class Clock(gym.Env):
    """Every pixel shows how many observations were made; the second channel-last channel is one more. Episodes last 7."""

    observation_space = spaces.Box(0, 255, (SIDE, SIDE, 2), np.uint8)
    action_space = spaces.Discrete(3)

    def __init__(self, start=0, fails_at=None, error=KeyboardInterrupt):
        self.count = start
        self.fails_at, self.error = fails_at, error
        self.actions = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return self.observe(), {}

    def step(self, action):
        self.actions.append(int(action))
        self.age += 1
        if self.count == self.fails_at:
            raise self.error
        return self.observe(), 0.0, self.age == 7, False, {}

    def observe(self):
        self.count += 1
        return np.broadcast_to(np.array([self.count, self.count + 1], np.uint8), (SIDE, SIDE, 2)).copy()


class Noise(Clock):
    """Images of the environment's own random numbers."""

    def observe(self):
        return self.np_random.integers(256, size=(SIDE, SIDE, 2), dtype=np.uint8)


class Boxed(Clock):
    """An environment that only has an observation space."""

    def __init__(self, space):
        super().__init__()
        self.observation_space = space


class Camera(Clock):
    """The clock under a key, beside a vector."""

    observation_space = spaces.Dict({"camera": Clock.observation_space, "speed": spaces.Box(-1, 1, (3,))})

    def observe(self):
        return {"camera": super().observe(), "speed": np.zeros(3, np.float32)}


class Remembering:
    """A policy with a memory, as RecurrentPPO has."""

    def __init__(self):
        self.calls = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.calls.append((observation.shape, state, episode_start.copy(), deterministic))
        return np.full(len(observation), 2), len(self.calls)


def image(*shape):
    return spaces.Box(0, 255, shape, np.uint8)


def values(frames):
    """The one value of each frame, which must be the same in all of its pixels."""
    assert (frames == frames[:, :, :1, :1]).all()
    return frames[:, 0, 0, 0].tolist()


def test_frames_are_the_observations_channels_first_from_a_reset_on(tmp_path):
    frames = collect_frames(Clock(), None, 20, tmp_path / "frames.npy", **QUIET)
    assert (frames.shape, frames.dtype, frames.flags.writeable) == ((20, 2, SIDE, SIDE), np.uint8, False)
    assert isinstance(frames, np.memmap)
    # The Clock counts the observation that ends an episode as well: its reset follows before SB3 shows anything.
    assert values(frames[:, :1]) == [count for count in range(1, 24) if count % 8 != 0][:20]
    np.testing.assert_array_equal(np.load(tmp_path / "frames.npy"), frames)
    assert [file.name for file in tmp_path.iterdir()] == ["frames.npy"]


def test_the_newest_frame_of_a_stack_is_kept_for_each_environment_in_turn(tmp_path):
    env = VecFrameStack(DummyVecEnv([Clock, lambda: Clock(100)]), 3)
    frames = collect_frames(env, None, 7, tmp_path / "frames.npy", n_stack=3, **QUIET)
    assert frames.shape == (7, 2, SIDE, SIDE)
    np.save(tmp_path / "saved.npy", frames)
    assert (tmp_path / "frames.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()
    assert values(frames[:, :1]) == [1, 101, 2, 102, 3, 103, 4]
    assert values(frames[:, 1:]) == [2, 102, 3, 103, 4, 104, 5]


def test_the_image_of_a_dict_observation_is_named(tmp_path):
    frames = collect_frames(Camera(), None, 3, tmp_path / "frames.npy", key="camera", **QUIET)
    assert values(frames[:, :1]) == [1, 2, 3]


def test_a_function_of_observations_acts(tmp_path):
    env = Clock()
    collect_frames(env, lambda observations: observations[:, 0, 0, 0] % 3, 6, tmp_path / "frames.npy", **QUIET)
    assert env.actions == [1, 2, 0, 1, 2]


def test_a_policy_is_told_its_state_and_where_episodes_start(tmp_path):
    policy = Remembering()
    env = DummyVecEnv([Clock, Clock])
    collect_frames(env, policy, 18, tmp_path / "frames.npy", deterministic=True, **QUIET)
    assert [state for _, state, _, _ in policy.calls] == [None, *range(1, 9)]
    assert [starts.tolist() for _, _, starts, _ in policy.calls] == [[i in (0, 7)] * 2 for i in range(9)]
    assert {(shape, deterministic) for shape, _, _, deterministic in policy.calls} == {((2, 2, SIDE, SIDE), True)}


@pytest.mark.parametrize("part", ["model", "policy"])
def test_a_model_acts_as_its_predict_says(tmp_path, part):
    kwargs = latent_kwargs("cnn", trunk="mlp", trunk_kwargs={"net_arch": [8]}, latent_dim=4)
    model = PPO("CnnPolicy", Clock(), policy_kwargs=kwargs, n_steps=8, batch_size=8, device="cpu")
    env = Clock()
    frames = collect_frames(
        env, model if part == "model" else model.policy, 12, tmp_path / "f.npy", deterministic=True, **QUIET
    )
    assert env.actions == model.predict(np.array(frames[:-1]), deterministic=True)[0].tolist()


def test_a_seed_decides_everything(tmp_path):
    def play(name, seed):
        env = Noise()
        return collect_frames(env, None, 30, tmp_path / name, seed=seed, **QUIET), env.actions

    first, actions = play("a", 1)
    again, actions_again = play("b", 1)
    other, other_actions = play("c", 2)
    np.testing.assert_array_equal(first, again)
    assert actions == actions_again != other_actions
    assert not (first == other).all()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError])
def test_an_interrupted_call_goes_on_where_it_was(tmp_path, error):
    path = tmp_path / "frames.npy"
    with pytest.raises(error):
        collect_frames(Clock(fails_at=5, error=error), None, 9, path, **QUIET)
    assert not path.exists() and len(list(tmp_path.iterdir())) == 2
    frames = collect_frames(Clock(start=200), None, 9, path, **QUIET)
    assert values(frames[:, :1]) == [1, 2, 3, 4, 5, 201, 202, 203, 204]
    assert list(tmp_path.iterdir()) == [path]


def test_going_on_with_a_seed_plays_other_episodes(tmp_path):
    path = tmp_path / "frames.npy"
    env = Noise()
    with pytest.raises(ZeroDivisionError):
        collect_frames(env, lambda _: [1 / (len(env.actions) < 9)], 20, path, seed=3, **QUIET)
    frames = collect_frames(Noise(), None, 20, path, seed=3, **QUIET)
    assert len(np.unique(frames, axis=0)) == 20


def test_a_killed_process_leaves_whole_frames_to_go_on_from(tmp_path):
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_frames import Clock, collect_frames
        env = Clock()
        def act(observations):
            if env.count == {N_SURVIVORS}:
                os.kill(os.getpid(), signal.SIGKILL)
            return [0]
        collect_frames(env, act, 40, {str(tmp_path / "frames.npy")!r}, progress_bar=False)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    frames = collect_frames(Clock(start=200), None, 40, tmp_path / "frames.npy", **QUIET)
    survivors = [value for value in values(frames[:, :1]) if value < 200]
    assert survivors == [count for count in range(1, N_SURVIVORS + 1) if count % 8 != 0][: len(survivors)]
    assert N_SURVIVORS // 2 < len(survivors) < N_SURVIVORS


def test_a_torn_frame_is_collected_again(tmp_path):
    path = tmp_path / "frames.npy"
    with pytest.raises(KeyboardInterrupt):
        collect_frames(Clock(fails_at=5), None, 6, path, **QUIET)
    partial = tmp_path / "frames.npy.partial"
    partial.write_bytes(partial.read_bytes()[:-10])
    assert values(collect_frames(Clock(start=200), None, 6, path, **QUIET)[:, :1]) == [1, 2, 3, 4, 201, 202]


@pytest.mark.parametrize(
    "changed", [{"n_frames": 8}, {"seed": 1}, {"n_stack": 2}, {"deterministic": True}], ids=lambda changed: next(iter(changed))
)
def test_going_on_with_other_arguments_names_them(tmp_path, changed):
    arguments = {"n_frames": 9, "path": tmp_path / "frames.npy", **QUIET}
    with pytest.raises(KeyboardInterrupt):
        collect_frames(Clock(fails_at=5), None, **arguments)
    before = (tmp_path / "frames.npy.partial").read_bytes()
    ((name, value),) = changed.items()
    with pytest.raises(ValueError, match=f"{name} is {value} here"):
        collect_frames(Clock(), None, **{**arguments, **changed})
    assert (tmp_path / "frames.npy.partial").read_bytes() == before


def test_a_file_begun_without_a_frame_does_not_bind(tmp_path):
    def refuse(observations):
        raise ValueError("unexpected observation shape")

    with pytest.raises(ValueError, match="unexpected"):
        collect_frames(Clock(), refuse, 9, tmp_path / "frames.npy", **QUIET)
    assert len(collect_frames(Clock(), None, 4, tmp_path / "frames.npy", **QUIET)) == 4


def test_a_complete_file_is_returned_without_playing(tmp_path):
    path = tmp_path / "frames.npy"
    frames = collect_frames(Clock(), None, 5, path, **QUIET)
    idle = Clock()
    np.testing.assert_array_equal(collect_frames(idle, None, 5, path, **QUIET), frames)
    assert idle.count == 0


@pytest.mark.parametrize(
    "array, named",
    [
        (np.zeros((4, 2, SIDE, SIDE), np.uint8), "n_frames is 5 here and 4"),
        (np.zeros((5, 1, SIDE, SIDE), np.uint8), "frame_shape is"),
        (np.zeros((5, 2, SIDE, SIDE), np.float32), "dtype is 'uint8' here and 'float32'"),
        (np.uint8(3), "n_frames is 5 here and 0"),
    ],
)
def test_a_file_with_other_frames_is_not_overwritten(tmp_path, array, named):
    np.save(tmp_path / "frames.npy", array)
    with pytest.raises(ValueError, match=named):
        collect_frames(Clock(), None, 5, tmp_path / "frames.npy", **QUIET)
    np.testing.assert_array_equal(np.load(tmp_path / "frames.npy"), array)


@pytest.mark.parametrize(
    "env, arguments, error, message",
    [
        (Boxed(spaces.Box(0, 1, (SIDE, SIDE, 1), np.float32)), {}, ValueError, "only uint8 images"),
        (Boxed(spaces.Box(-1, 1, (4,))), {}, ValueError, "only uint8 images"),
        (Boxed(spaces.Discrete(4)), {}, ValueError, "only uint8 images"),
        (Camera(), {}, ValueError, "Name the image"),
        (Camera(), {"key": "camra"}, ValueError, "did you mean 'camera'"),
        (Camera(), {"key": "speed"}, ValueError, "only uint8 images"),
        (Clock(), {"key": "camera"}, ValueError, "key='camera' chooses from a Dict"),
        (Clock(), {"n_stack": 3}, ValueError, "n_stack=3 does not divide the 2 channels"),
        (Clock(), {"n_stack": 0}, ValueError, "n_stack=0"),
        (Clock(), {"n_frames": 0}, ValueError, "n_frames=0"),
        (Clock(), {"policy": "ppo"}, TypeError, "policy='ppo' cannot act"),
    ],
)
def test_bad_input_fails_before_anything_is_written(tmp_path, env, arguments, error, message):
    with pytest.raises(error, match=message):
        collect_frames(env, **{"policy": None, "n_frames": 3, "path": tmp_path / "f.npy", **QUIET, **arguments})
    assert not list(tmp_path.iterdir())


def test_an_environment_that_is_not_as_it_declares_is_refused(tmp_path):
    class Lying(DummyVecEnv):
        def reset(self):
            return super().reset().astype(np.float32)

    with pytest.raises(ValueError, match="returned float32"):
        collect_frames(Lying([Clock]), None, 3, tmp_path / "f.npy", **QUIET)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array", b"\x80\x04K\x01."])
def test_a_file_that_is_no_array_is_refused(tmp_path, content):
    (tmp_path / "frames.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"frames\.npy is not a whole \.npy file"):
        open_frames(tmp_path / "frames.npy")


def test_a_truncated_array_and_a_missing_one_are_refused(tmp_path):
    np.save(tmp_path / "frames.npy", np.zeros((5, 1, SIDE, SIDE), np.uint8))
    (tmp_path / "half.npy").write_bytes((tmp_path / "frames.npy").read_bytes()[:2000])
    with pytest.raises(ValueError, match="not a whole"):
        open_frames(tmp_path / "half.npy")
    with pytest.raises(FileNotFoundError, match="collect_frames"):
        open_frames(tmp_path / "none.npy")


@given(rows=npst.arrays(np.uint8, st.tuples(st.integers(2, 9), st.just(1), st.just(4), st.just(5))), data=st.data())
def test_images_reach_the_encoder_as_sb3_scales_them(rows, data):
    rows[0] = 255 - rows[-1]  # so that they are not all the same
    indices = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, unique=True)))
    expected = th.as_tensor(rows[sorted(indices)]).float() / 255
    assert th.equal(FrameSet(rows).observations(indices, th.device("cpu")), expected)


def test_vectors_reach_the_encoder_as_they_are(tmp_path):
    rows = np.random.default_rng(0).normal(size=(6, 3))
    np.save(tmp_path / "rows.npy", rows)
    frames = FrameSet(tmp_path / "rows.npy")
    assert isinstance(frames.rows, np.memmap) and frames.space.shape == (3,)
    batch = frames.observations(np.array([4, 1]), th.device("cpu"))
    np.testing.assert_array_equal(batch.numpy(), rows[[1, 4]].astype(np.float32))


@pytest.mark.parametrize(
    "rows, error, message",
    [
        (np.zeros((0, 1, SIDE, SIDE), np.uint8), ValueError, "at least one row"),
        (np.zeros((5, SIDE, SIDE), np.uint8), ValueError, r"\(N, C, H, W\)"),
        (np.zeros((5, 1, SIDE, SIDE), np.float32), ValueError, "dataset of float32"),
        (np.zeros((5, 4), np.int64), ValueError, "dataset of int64"),
        (np.full((5, 1, SIDE, SIDE), 7, np.uint8), ValueError, "all the same"),
        (np.ones((3000, 4)), ValueError, "all the same"),
        (np.array([[1.0], [np.nan]]), ValueError, "not finite"),
        (np.append(np.arange(2999.0), np.inf)[:, None], ValueError, "not finite"),
        ([[1.0], [2.0]], TypeError, "not list"),
    ],
)
def test_a_data_set_that_cannot_be_learned_from_is_refused(rows, error, message):
    with pytest.raises(error, match=message):
        FrameSet(rows)


def test_a_fingerprint_tells_data_sets_apart():
    rows = np.random.default_rng(0).integers(256, size=(50, 1, 4, 4), dtype=np.uint8)
    assert FrameSet(rows).fingerprint == FrameSet(rows.copy()).fingerprint
    assert FrameSet(rows).fingerprint != FrameSet(rows[::-1]).fingerprint
    assert FrameSet(rows).fingerprint != FrameSet(rows[:-1]).fingerprint
