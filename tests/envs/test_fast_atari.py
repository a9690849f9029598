"""The fast Atari is SB3's Atari to the bit, in one process and in several."""

import json
import os
import signal

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.atari_wrappers import AtariWrapper, ClipRewardEnv
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecFrameStack, VecTransposeImage

from sb3_latent.envs import FastAtariVecEnv, fast_atari
from sb3_latent.envs.making import make_env

pytest.importorskip("ale_py")

BREAKOUT = "BreakoutNoFrameskip-v4"
OTHER = {
    "noop_max": 0,
    "terminal_on_life_loss": False,
    "clip_reward": False,
    "frame_skip": 3,
    "screen_size": 42,
    "action_repeat_probability": 0.25,
}


def same(told, wanted):
    assert told.keys() == wanted.keys()
    for name, value in wanted.items():
        if name == "episode":
            same(told[name], value)
        elif name != "t":  # seconds
            np.testing.assert_array_equal(told[name], value)


def compare(fast, stock, n_steps):
    """:return: how many episodes, and how many games, have ended."""
    assert (fast.observation_space, fast.action_space) == (stock.observation_space, stock.action_space)
    np.testing.assert_array_equal(fast.reset(), stock.reset())
    rng, n_ends, n_games = np.random.default_rng(0), 0, 0
    for _ in range(n_steps):
        for pair in zip(fast.reset_infos, stock.unwrapped.reset_infos, strict=True):
            same(*pair)
        actions = rng.integers(fast.action_space.n, size=fast.num_envs)
        *given, infos = fast.step(actions)
        *wanted, stock_infos = stock.step(actions)
        for mine, theirs in zip(given, wanted, strict=True):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)
        for pair in zip(infos, stock_infos, strict=True):
            same(*pair)
        n_ends += given[2].sum()
        n_games += sum("episode" in info for info in infos)
    fast.close(), stock.close()
    return n_ends, n_games


@pytest.mark.parametrize(
    ("env_id", "wrapper", "n_steps"),
    [
        # With FIRE and five lives; lives that flicker; no lives; neither lives nor FIRE; shots that flicker.
        (BREAKOUT, {}, 160),
        (BREAKOUT, OTHER, 60),
        ("QbertNoFrameskip-v4", {}, 80),
        ("PongNoFrameskip-v4", {}, 40),
        ("FreewayNoFrameskip-v4", {}, 40),
        ("FreewayNoFrameskip-v4", OTHER, 40),
        ("SpaceInvadersNoFrameskip-v4", {"frame_skip": 1}, 60),
        # Sticky actions, and a frame skip of the id.
        ("ALE/Breakout-v5", {}, 25),
    ],
)
def test_it_is_sb3s_atari_step_by_step(env_id, wrapper, n_steps):
    stock = VecTransposeImage(make_atari_env(env_id, 2, seed=7, wrapper_kwargs=wrapper))
    n_ends, n_games = compare(FastAtariVecEnv(env_id, 2, seed=7, n_processes=1, **wrapper), stock, n_steps)
    if env_id == BREAKOUT and not wrapper:
        assert n_games > 0 and n_ends > n_games, "lost lives and whole games"


def test_the_limit_of_frames_is_a_truncation_at_sb3s_frame():
    limit = {"max_num_frames_per_episode": 90}
    stock = VecTransposeImage(make_atari_env("PongNoFrameskip-v4", 2, seed=1, env_kwargs=limit))
    fast = FastAtariVecEnv("PongNoFrameskip-v4", 2, seed=1, env_kwargs=limit, n_processes=1)
    n_ends, n_games = compare(fast, stock, 40)
    assert n_ends == n_games > 1
    fast = FastAtariVecEnv("PongNoFrameskip-v4", env_kwargs=limit)
    fast.reset()
    infos = [fast.step([0])[-1][0] for _ in range(25)]
    truncated = [info for info in infos if info["TimeLimit.truncated"]]
    assert truncated and all(info["episode"]["l"] == 90 for info in truncated)


def stepped(env, n_steps=12):
    seen = [env.reset()]
    for step in range(n_steps):
        seen.append(env.step(np.full(env.num_envs, step % env.action_space.n))[0])
    return np.stack(seen)


@pytest.fixture(scope="module")
def several():
    """Three copies in two processes, in which a reset is that of the game, whenever it comes."""
    env = FastAtariVecEnv(BREAKOUT, 3, seed=7, n_processes=2, terminal_on_life_loss=False)
    yield env
    env.close()


def test_processes_change_nothing(several):
    alone = FastAtariVecEnv(BREAKOUT, 3, seed=7, n_processes=1, terminal_on_life_loss=False)
    several.seed(7)
    several.set_options({"unheard of": 0})
    np.testing.assert_array_equal(stepped(several, 30), stepped(alone, 30))
    for mine, theirs in zip(several.get_images(), alone.get_images(), strict=True):
        assert mine.shape == (210, 160, 3)
        np.testing.assert_array_equal(mine, theirs)
    assert several.render("rgb_array").shape == (420, 320, 3)


def test_seeds_decide_and_every_copy_has_its_own(several):
    several.seed(1)
    first = stepped(several)
    several.seed(1)
    again = stepped(several)
    unseeded = [stepped(several) for _ in range(2)]
    assert any((games != again).any() for games in unseeded), "a seed is for one reset"
    several.seed(2)
    other = stepped(several)
    assert (first == again).all() and (first[:, 1:] == other[:, :-1]).all() and (first != other).any()
    several.seed(2**32 - 1)
    several.reset()
    np.testing.assert_array_equal(stepped(FastAtariVecEnv(BREAKOUT, seed=2)), other[:, :1])


def test_attributes_and_methods_reach_the_copies_that_are_asked(several):
    several.reset()
    assert several.get_attr("spec", [2, 0])[0].id == BREAKOUT
    several.set_attr("mark", "last", indices=2)
    several.set_attr("mark", "first two", indices=[0, 1])
    assert several.get_attr("mark") == ["first two", "first two", "last"]
    assert several.get_attr("mark", -1) == ["last"] and several.get_attr("mark", [2, 0]) == ["last", "first two"]
    meanings = several.env_method("get_action_meanings", indices=[1, 2])
    assert meanings == [["NOOP", "FIRE", "RIGHT", "LEFT"]] * 2
    assert several.env_is_wrapped(Monitor) == several.env_is_wrapped(ClipRewardEnv) == [True] * 3
    assert several.env_is_wrapped(AtariWrapper, [0]) == [False]
    assert not several.has_attr("unheard_of") and several.has_attr("render_mode")
    assert several.render_mode == "rgb_array"


def test_a_failure_of_one_copy_leaves_the_others_in_step(several):
    several.seed(3)
    before = stepped(several, 3)
    with pytest.raises(AttributeError, match="unheard_of"):
        several.get_attr("unheard_of")
    with pytest.raises(TypeError, match=r"get_attr\('ale',\): the answer cannot leave its process"):
        several.get_attr("ale", 2)
    with pytest.raises(IndexError):
        several.step(np.array([0, 0, 99]))
    several.seed(3)
    np.testing.assert_array_equal(stepped(several, 3), before)


def test_observations_are_the_callers_to_keep(several):
    first, (second, *_) = several.reset(), several.step(np.ones(3, np.int64))
    kept = np.stack([first, second])
    several.step(np.ones(3, np.int64))
    assert (np.stack([first, second]) == kept).all()
    second[:] = 0
    assert several.step(np.ones(3, np.int64))[0].any()


def test_ctrl_c_is_not_for_the_processes_and_their_death_is_told():
    env = FastAtariVecEnv(BREAKOUT, 2, n_processes=2)
    env.reset()
    process = env._workers[1]._process
    os.kill(process.pid, signal.SIGINT)
    env.step(np.zeros(2, np.int64))
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"a process of FastAtariVecEnv has ended \(exit code -9\); make a new one"):
        for _ in range(2):
            env.step(np.zeros(2, np.int64))
    env.close()


def test_close_ends_the_processes_in_the_middle_of_a_step(tmp_path):
    env = FastAtariVecEnv(BREAKOUT, 2, n_processes=2, monitor_dir=str(tmp_path))
    env.reset()
    assert {path.name for path in tmp_path.iterdir()} == {"0.monitor.csv", "1.monitor.csv"}
    process = env._workers[1]._process
    env.step_async(np.zeros(2, np.int64))
    env.close()
    env.close()
    assert process.exitcode == 0


def test_sb3_trains_in_it():
    env = VecFrameStack(FastAtariVecEnv(BREAKOUT, 2, seed=0, n_processes=1), 4)
    model = PPO("CnnPolicy", env, n_steps=64, batch_size=64, n_epochs=1, seed=0, policy_kwargs={"net_arch": []})
    model.learn(384)
    assert len(model.ep_info_buffer) > 0, "returns of whole games"
    assert model.observation_space.shape == (4, 84, 84)


def test_files_of_the_zoo_take_it_in_the_place_of_another(tmp_path):
    venv = make_vec_env(BREAKOUT, 2, seed=5, monitor_dir=str(tmp_path), env_kwargs={"max_num_frames_per_episode": 60})
    fast = fast_atari(venv, noop_max=0, n_processes=1)
    fast.reset()
    ends = [info for _ in range(25) for info in fast.step(np.ones(2, np.int64))[-1][1:] if "episode" in info]
    rows = (tmp_path / "1.monitor.csv").read_text().splitlines()
    assert rows[1] == "r,l,t" and [row.split(",")[1] for row in rows[2:]] == ["60"] * len(ends) and len(ends) > 0
    assert fast.get_attr("spec")[0].kwargs["max_num_frames_per_episode"] == 60
    hyperparams = {"vec_env_wrapper": [{"sb3_latent.envs.fast_atari": {"n_processes": 1}}], "frame_stack": 4}
    stacked = VecFrameStack(FastAtariVecEnv(BREAKOUT, 2, seed=5, n_processes=1), 4)
    np.testing.assert_array_equal(stepped(make_env(BREAKOUT, hyperparams, 2, seed=5)), stepped(stacked))


def test_the_zoo_is_told_what_to_leave_out():
    wrapped = make_vec_env(BREAKOUT, 1, wrapper_class=AtariWrapper)
    with pytest.raises(ValueError, match="leave out env_wrapper and SubprocVecEnv"):
        fast_atari(wrapped)
    with pytest.raises(ValueError, match="CartPole-v1 is no game of Atari"):
        fast_atari(make_vec_env("CartPole-v1", 1))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"env_id": "CartPole-v1"}, "CartPole-v1 is no game of Atari; name one such as 'BreakoutNoFrameskip-v4'"),
        ({"env_id": "BreakoutNoFrameskip-v44"}, "did you mean 'BreakoutNoFrameskip-v4'"),
        ({"n_envs": 0}, "n_envs=0 must be an integer of at least 1"),
        ({"frame_skip": 0}, "frame_skip=0 must be"),
        ({"noop_max": -1}, "noop_max=-1 must be"),
        ({"n_processes": 0}, "n_processes=0 must be"),
    ],
)
def test_bad_input_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        FastAtariVecEnv(**{"env_id": BREAKOUT, **arguments})


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(FastAtariVecEnv.__init__.__globals__, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"Atari needs ale-py and OpenCV: pip install 'sb3_latent\[atari\]'"):
        FastAtariVecEnv(BREAKOUT)


def test_the_benchmark_compares_within_a_round_and_says_what_falls_short(monkeypatch, tmp_path, capsys):
    from benchmarks import fast_atari as benchmark

    speeds = {"SubprocVecEnv": iter([9.0, 100.0, 10.0, 1.0]), "FastAtariVecEnv": iter([9.0, 190.0, 19.0, 3.0])}

    class Env:
        def __init__(self, name):
            self.name, self.num_envs = name, 2

        def reset(self):
            pass

        close = reset

    envs = {name: lambda env_id, n_envs, seed, name=name: Env(name) for name in speeds}
    monkeypatch.setattr(benchmark, "ENVS", envs)
    monkeypatch.setattr(benchmark, "VecFrameStack", lambda env, n_stack: env)
    monkeypatch.setattr(benchmark, "frames_per_second", lambda env, rng: next(speeds[env.name]))
    monkeypatch.setattr(benchmark, "N_STEPS", 1)
    out = tmp_path / "fast_atari.json"
    monkeypatch.setattr("sys.argv", ["fast_atari", "--games", "Pong", "--rounds", "3", "--out", str(out), "--check"])
    with pytest.raises(SystemExit) as stop:
        benchmark.main()
    assert stop.value.code == 1 and "too slow: 1.90 times as fast in the mean, at least 2.0" in capsys.readouterr().out
    row = json.loads(out.read_text())["results"]["Pong"]
    assert row["ratio"] == 1.9
    assert row["frames_per_second"] == {"SubprocVecEnv": 10, "FastAtariVecEnv": 19}


def test_the_benchmark_counts_the_frames_of_all_copies(monkeypatch):
    from benchmarks import fast_atari as benchmark

    clock = iter([1.0, 5.0])
    monkeypatch.setattr(benchmark, "N_STEPS", 6)
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    env = FastAtariVecEnv(BREAKOUT, benchmark.N_ENVS, n_processes=1)
    env.reset()
    assert benchmark.frames_per_second(env, np.random.default_rng(0)) == 6 * 16 / 4
