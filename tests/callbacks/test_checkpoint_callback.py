"""Checkpoints: what they hold, whole or absent wherever a real process is killed, and how training goes on."""

import errno
import hashlib
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from algorithms import ALGORITHMS, NoiseImageEnv, make_model, tiny
from stable_baselines3 import DDPG, DQN, PPO, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.save_util import load_from_pkl
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

from sb3_latent import resume
from sb3_latent.buffers import FrameReplayBuffer
from sb3_latent.callbacks import CrashSafeCheckpointCallback
from sb3_latent.policies import LatentSACPolicy
from sb3_latent.resume import has_checkpoint, list_checkpoints, load_checkpoint, save_checkpoint

SAVE_FREQ = 4
TOTAL = 28


def new_model(env=None, **kwargs):
    """SAC with the shared encoder; its replay buffer is larger than what Python holds back before it writes."""
    settings = {"buffer_size": 600, "learning_starts": 4, "env": env, **kwargs}
    return make_model("SAC", {**tiny("sac_ae"), "net_arch": [8]}, LatentSACPolicy, **settings)


def new_env(n_envs=1):
    return make_vec_env(NoiseImageEnv, n_envs=n_envs, env_kwargs={"discrete": False})


def steps(folder):
    return [int(path.name.removeprefix("checkpoint_")) for path in list_checkpoints(folder)]


def hidden(folder):
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def leaves(tree):
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree, key=str) for leaf in (key, *leaves(tree[key]))]
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, list | tuple) else [tree]


def transitions(buffer):
    """All that can be sampled, in order; whether an episode in progress goes on is the one thing that loading changes."""
    rows = slice(None, buffer.size())
    dones, timeouts = buffer.dones.copy(), buffer.timeouts.copy()
    dones[buffer.pos - 1] = timeouts[buffer.pos - 1] = 0
    seen = [buffer.observations] + ([] if buffer.optimize_memory_usage else [buffer.next_observations])
    arrays = [part for one in seen for part in (one.values() if isinstance(one, dict) else [one])]
    arrays += [buffer.actions, buffer.rewards, dones, timeouts]
    return [buffer.pos, buffer.full, *(array[rows] for array in arrays)]


def digest(model):
    """Of every number that training changes: counts, weights, moments of the optimizers, replay buffer."""
    state = [model.num_timesteps, model._n_updates, *leaves(model.get_parameters()), getattr(model, "log_ent_coef", None)]
    state += transitions(model.replay_buffer) if hasattr(model, "replay_buffer") else []
    parts = (leaf.detach().numpy() if th.is_tensor(leaf) else leaf for leaf in state)
    values = (part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode() for part in parts)
    return hashlib.sha256(b"|".join(values)).hexdigest()


class Truth(BaseCallback):
    """
    Notes in a folder what a model was at each step, right before it may be saved.

    :param pipe: gets one byte for each.
    """

    def __init__(self, folder, pipe=None):
        super().__init__()
        self.folder = folder
        self.pipe = pipe

    def _on_step(self):
        return True

    def _on_rollout_start(self):
        (self.folder / f"truth_{self.num_timesteps}").write_text(digest(self.model))
        if self.pipe is not None:
            os.write(self.pipe, b".")

    _on_training_end = _on_rollout_start

    @staticmethod
    def read(folder, step):
        return (folder / f"truth_{step}").read_text()


# --- processes that are killed ---


class Halfway:
    """In a replay buffer, tells the audit hooks when it is pickled."""

    def __reduce__(self):
        sys.audit("halfway")
        return dict, ()


def kill_before(n, folder):
    """Kill this process right before the n-th time that a file of the folder would be made, opened, renamed or removed."""
    count = itertools.count()
    everywhere = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "halfway"}

    def hook(event, args):
        if (event in everywhere or (event == "open" and str(folder) in str(args[0]))) and next(count) == n:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def forked(function):
    """Run a function in a process of its own and return the process."""
    process = os.fork()
    if process == 0:
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return process


def was_killed(process):
    status = os.waitpid(process, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0, "the training itself failed"
    return os.WIFSIGNALED(status)


def crash_everywhere(root):
    """Train to step 8 with checkpoints of 4 and 8; then to 12 as often as there are places where the process may die."""
    th.set_num_threads(1)
    model = new_model()
    buffer = vars(model.replay_buffer)
    buffer["halfway"] = Halfway()
    buffer["next_observations"] = buffer.pop("next_observations")
    model.learn(8, [Truth(root), CrashSafeCheckpointCallback(root / "begun", SAVE_FREQ)])
    for n in itertools.count():
        folder = root / f"killed_{n}"
        shutil.copytree(root / "begun", folder)
        callbacks = [Truth(root), CrashSafeCheckpointCallback(folder, SAVE_FREQ)]

        def go_on(n=n, folder=folder, callbacks=callbacks):
            kill_before(n, folder)
            model.learn(4, callbacks, reset_num_timesteps=False)

        if not was_killed(forked(go_on)):
            break


def train_script(root, pipe):
    """What a user writes, and a look at what was loaded."""
    folder, env = root / "checkpoints", new_env()
    if has_checkpoint(folder):
        model = load_checkpoint(SAC, folder, env)
        assert digest(model) == Truth.read(root, model.num_timesteps)
    else:
        model = new_model(env, replay_buffer_class=FrameReplayBuffer)
    callbacks = [Truth(root, pipe), CrashSafeCheckpointCallback(folder, SAVE_FREQ)]
    model.learn(TOTAL - model.num_timesteps, callbacks, reset_num_timesteps=False)


def crash_at_random(root):
    """Run the script until it reaches its end, killing it a few steps and milliseconds later; print what is left each time."""
    th.set_num_threads(1)
    new_model().learn(6)  # what torch imports at its first gradient step takes a second of each process
    moments = random.Random(0)
    was_running = True
    while was_running:
        ours, theirs = os.pipe()
        process = forked(lambda pipe=theirs: train_script(root, pipe))
        os.close(theirs)
        for _ in range(moments.randrange(3, 10)):
            os.read(ours, 1)
        time.sleep(moments.uniform(0, 0.02))
        os.kill(process, signal.SIGKILL)
        was_running = was_killed(process)
        os.close(ours)
        print(*steps(root / "checkpoints"), flush=True)


def run_script(name, folder):
    """In a fresh interpreter: a process with pytest in it, and with torch's threads, is none to fork."""
    code = f"import pathlib, test_checkpoint_callback as t; t.{name}(pathlib.Path({str(folder)!r}))"
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), str(tests / "callbacks")])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    process = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_killed_at_any_file_operation_of_a_checkpoint(tmp_path):
    run_script("crash_everywhere", tmp_path)
    folders = sorted(tmp_path.glob("killed_*"), key=lambda path: int(path.name.partition("_")[2]))
    newest, halves = [], []
    for folder in folders:
        halves += [path.stat().st_size for path in folder.glob(".checkpoint_12-*/replay_buffer.pkl")]
        for path in list_checkpoints(folder):
            assert {file.name for file in path.iterdir()} == {"SAC.zip", "replay_buffer.pkl"}
            assert zipfile.ZipFile(path / "SAC.zip").testzip() is None
            assert isinstance(load_from_pkl(path / "replay_buffer.pkl"), ReplayBuffer)
        before = hidden(folder)
        model = load_checkpoint(SAC, folder, new_env())
        assert hidden(folder) == before, "loading touches nothing: another process may be writing"
        assert digest(model) == Truth.read(tmp_path, model.num_timesteps)
        newest.append(model.num_timesteps)
        model.learn(SAVE_FREQ, CrashSafeCheckpointCallback(folder, SAVE_FREQ), reset_num_timesteps=False)
        assert steps(folder) == [newest[-1], newest[-1] + SAVE_FREQ]
        assert hidden(folder) == []
    # Those killed before the new checkpoint had its name, and those killed while an old one was deleted.
    assert newest == sorted(newest) and set(newest) == {8, 12}
    assert newest.count(8) > 5 and newest.count(12) > 4
    whole = (list_checkpoints(folders[-1])[0] / "replay_buffer.pkl").stat().st_size
    assert any(0 < half < 0.9 * whole for half in halves), "none died in the middle of the replay buffer"


def test_killed_at_random_moments_of_training(tmp_path):
    printed = run_script("crash_at_random", tmp_path)
    reached = [max(map(int, line.split()), default=0) for line in printed.splitlines()]
    assert reached == sorted(reached) and reached[-1] == TOTAL
    assert len(set(reached)) > 2, "it was killed on the way"
    model = load_checkpoint(SAC, tmp_path / "checkpoints", new_env())
    assert model.replay_buffer.size() == TOTAL and model._n_updates == TOTAL - 4
    assert hidden(tmp_path / "checkpoints") == []
    assert len(steps(tmp_path / "checkpoints")) == 2


# --- what a checkpoint holds ---


def her_model():
    env = BitFlippingEnv(n_bits=3, continuous=True)
    policy_kwargs = {"net_arch": [8]}
    kwargs = {"replay_buffer_class": HerReplayBuffer, "learning_starts": 4, "buffer_size": 50, "batch_size": 8, "seed": 0}
    return SAC("MultiInputPolicy", env, policy_kwargs=policy_kwargs, device="cpu", **kwargs)


MODELS = {
    "shared encoder": new_model,
    "frames once": lambda: new_model(replay_buffer_class=FrameReplayBuffer),
    "full": lambda: new_model(buffer_size=7),
    "frames once, full": lambda: new_model(buffer_size=7, replay_buffer_class=FrameReplayBuffer),
    "two environments": lambda: new_model(new_env(2)),
    "stacks": lambda: new_model(VecFrameStack(new_env(), 3), replay_buffer_class=FrameReplayBuffer),
    "her": her_model,
    "half the memory": lambda: new_model(
        optimize_memory_usage=True, replay_buffer_kwargs={"handle_timeout_termination": False}
    ),
    **{name: (lambda name=name: make_model(name, tiny("vae"))) for name in ("DQN", "TD3", "TQC", "PPO", "RecurrentPPO")},
}


@pytest.mark.filterwarnings("ignore:The last trajectory in the replay buffer will be truncated")
@pytest.mark.parametrize("name", MODELS)
def test_what_is_loaded_is_what_was_saved(name, tmp_path):
    model = MODELS[name]()
    model.learn(17, Truth(tmp_path))
    save_checkpoint(model, tmp_path)
    loaded = load_checkpoint(type(model), tmp_path, model.get_env())
    assert digest(loaded) == digest(model) == Truth.read(tmp_path, model.num_timesteps)
    assert type(loaded) is type(model)
    if hasattr(model, "replay_buffer"):
        assert type(loaded.replay_buffer) is type(model.replay_buffer)
        if isinstance(model.replay_buffer, HerReplayBuffer):
            model.replay_buffer.truncate_last_trajectory()
        for one in (model, loaded):
            resume._end_episodes(one.replay_buffer)
            set_random_seed(3)
            one.set_logger(Logger(None, []))
            one.train(gradient_steps=3, batch_size=8)
        assert digest(loaded) == digest(model)
    already = model.num_timesteps
    loaded.learn(8, reset_num_timesteps=False)
    assert loaded.num_timesteps >= already + 8


def test_statistics_of_vec_normalize(tmp_path):
    def make_env():
        return VecNormalize(new_env(), norm_obs=False)

    model = new_model(make_env())
    model.learn(9, CrashSafeCheckpointCallback(tmp_path, SAVE_FREQ))
    env = make_env()
    load_checkpoint(SAC, tmp_path, env)
    saved = model.get_vec_normalize_env()
    assert (env.ret_rms.mean, env.ret_rms.var, env.ret_rms.count) == (
        saved.ret_rms.mean,
        saved.ret_rms.var,
        saved.ret_rms.count,
    )
    assert env.ret_rms.count > 9
    with pytest.raises(ValueError, match=r"written with VecNormalize\(norm_obs=False\) and env has no VecNormalize"):
        load_checkpoint(SAC, tmp_path, new_env())
    load_checkpoint(SAC, tmp_path)


def test_statistics_of_observations(tmp_path):
    def make_env(**kwargs):
        return VecNormalize(make_vec_env("Pendulum-v1"), **kwargs)

    def make(env):
        return TD3("MlpPolicy", env, policy_kwargs={"net_arch": [4]}, learning_starts=100, device="cpu")

    model = make(make_env())
    model.learn(9)
    save_checkpoint(model, tmp_path)
    env = make_env(training=False)
    loaded = load_checkpoint(TD3, tmp_path, env)
    assert loaded.get_vec_normalize_env() is env and not env.training
    assert np.array_equal(env.obs_rms.mean, model.get_vec_normalize_env().obs_rms.mean)
    with pytest.raises(ValueError, match=r"VecNormalize\(norm_obs=True\) and env has VecNormalize\(norm_obs=False\)"):
        load_checkpoint(TD3, tmp_path, make_env(norm_obs=False))
    plain = make("Pendulum-v1")
    save_checkpoint(plain, tmp_path / "plain")
    with pytest.raises(ValueError, match="no VecNormalize and env has VecNormalize"):
        load_checkpoint(TD3, tmp_path / "plain", make_env())


# --- when it saves ---


def saved_steps(model, n_timesteps, folder, **kwargs):
    """Every checkpoint that was written."""
    model.learn(n_timesteps, CrashSafeCheckpointCallback(folder, keep=100, **kwargs))
    return steps(folder)


def test_every_save_freq_steps_and_at_the_end(tmp_path):
    assert saved_steps(new_model(), 10, tmp_path / "every", save_freq=4) == [4, 8, 10]
    assert saved_steps(new_model(), 8, tmp_path / "even", save_freq=4) == [4, 8]
    assert saved_steps(new_model(new_env(3)), 21, tmp_path / "envs", save_freq=5) == [6, 12, 15, 21]
    assert saved_steps(new_model(train_freq=(1, "episode")), 20, tmp_path / "episodes", save_freq=7) == [10, 15, 20]
    assert saved_steps(make_model("PPO", tiny("ae")), 64, tmp_path / "rollouts", save_freq=20) == [32, 48, 64]


def test_a_checkpoint_has_every_step_and_update_up_to_it(tmp_path):
    model = new_model()
    model.learn(8, CrashSafeCheckpointCallback(tmp_path, save_freq=6, keep=3))
    shutil.rmtree(tmp_path / "checkpoint_8")
    loaded = load_checkpoint(SAC, tmp_path)
    assert (loaded.num_timesteps, loaded.replay_buffer.size(), loaded._n_updates) == (6, 6, 2)


def test_a_second_learn_goes_on(tmp_path):
    model, callback = new_model(), CrashSafeCheckpointCallback(tmp_path, SAVE_FREQ)
    model.learn(6, callback)
    model.learn(3, callback, reset_num_timesteps=False)
    model.learn(0, callback, reset_num_timesteps=False)  # a script that is run again after its end
    assert steps(tmp_path) == [8, 9]
    with pytest.raises(ValueError, match=r"checkpoint_9' exists, and this model is at step 0: go on with load_checkpoint"):
        model.learn(3, callback)
    with pytest.raises(ValueError, match="choose another folder"):
        new_model().learn(3, callback)
    assert steps(tmp_path) == [8, 9]


def test_it_says_what_it_wrote(tmp_path, capsys):
    new_model().learn(4, CrashSafeCheckpointCallback(tmp_path, SAVE_FREQ, verbose=1))
    size = sum(path.stat().st_size for path in (tmp_path / "checkpoint_4").iterdir()) / 1e6
    assert f"Checkpoint written to {tmp_path / 'checkpoint_4'}: {size:.1f} MB in " in capsys.readouterr().out
    new_model().learn(4, CrashSafeCheckpointCallback(tmp_path / "silent", SAVE_FREQ))
    assert capsys.readouterr().out == ""


def test_numbers_are_kept_in_order(tmp_path):
    for name in ("checkpoint_9", "checkpoint_10", "checkpoint_100", "checkpoint_x", ".checkpoint_200-0", "checkpoint_300.zip"):
        (tmp_path / name).mkdir()
    assert steps(tmp_path) == [9, 10, 100]
    assert not has_checkpoint(tmp_path / "nowhere")


# --- the disk ---


def test_a_disk_without_room_costs_a_warning(tmp_path, monkeypatch):
    model, callback = new_model(), CrashSafeCheckpointCallback(tmp_path, SAVE_FREQ)
    model.learn(7, callback)
    shutil.rmtree(tmp_path / "checkpoint_4")
    needed = sum(path.stat().st_size for path in (tmp_path / "checkpoint_7").iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=int(0.99 * needed)))
    line = (
        rf"No checkpoint of step 8: it takes 0.3 MB and 0.3 MB are free in '{tmp_path}'; make room, or save to another disk\."
    )
    with pytest.warns(UserWarning, match=line), monkeypatch.context() as patch:
        patch.setattr(resume, "_whole_folder", lambda path: pytest.fail("it began to write"))
        model.learn(1, callback, reset_num_timesteps=False)
    assert model.num_timesteps == 8
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_7"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=int(1.01 * needed)))
    model.learn(1, callback, reset_num_timesteps=False)
    assert steps(tmp_path) == [7, 9]


def test_a_disk_that_fills_up_meanwhile_costs_a_warning(tmp_path):
    model, callback = new_model(), CrashSafeCheckpointCallback(tmp_path, SAVE_FREQ)
    model.learn(4, callback)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limits[1]))
    try:
        with pytest.warns(UserWarning, match="No checkpoint of step 8: File too large"):
            model.learn(4, callback, reset_num_timesteps=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_4"]


def test_other_errors_stop_training_and_leave_nothing(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.EIO, "broken disk")

    model = new_model()
    model.learn(4, CrashSafeCheckpointCallback(tmp_path, SAVE_FREQ))
    monkeypatch.setattr(model, "save_replay_buffer", lambda *args: fail() if isinstance(args[0], Path) else None)
    with pytest.raises(OSError, match="broken disk"):
        model.learn(4, CrashSafeCheckpointCallback(tmp_path, SAVE_FREQ), reset_num_timesteps=False)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_4"]


def test_the_disk_has_everything_before_the_name_and_the_name_before_the_old_one_goes(tmp_path, monkeypatch):
    model = new_model(VecNormalize(new_env(), norm_obs=False))
    model.learn(4)
    save_checkpoint(model, tmp_path, keep=1)
    model.learn(4, reset_num_timesteps=False)
    log, fsync, rename = [], os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda file: log.append(os.fstat(file).st_ino) or fsync(file))
    monkeypatch.setattr(os, "rename", lambda old, new: log.append(str(new)) or rename(old, new))
    path = save_checkpoint(model, tmp_path, keep=1)
    named, unnamed = (log.index(entry) for entry in log if isinstance(entry, str))
    files = {entry.stat().st_ino for entry in (path, *path.iterdir())}
    assert len(files) == 4 and files <= set(log[:named])
    assert tmp_path.stat().st_ino in log[named:unnamed]
    assert steps(tmp_path) == [8]


# --- going on ---


@pytest.mark.parametrize("buffer_class", [NStepReplayBuffer, FrameReplayBuffer])
def test_n_step_returns_stop_at_the_break(buffer_class, tmp_path):
    model = new_model(replay_buffer_class=buffer_class, replay_buffer_kwargs={"n_steps": 3, "gamma": 0.5})
    model.learn(8)  # in the middle of an episode of 5
    save_checkpoint(model, tmp_path)
    loaded = load_checkpoint(SAC, tmp_path, new_env())
    loaded.learn(6, reset_num_timesteps=False)
    buffer = loaded.replay_buffer
    sampled = buffer._get_samples(np.array([6, 7, 8]))
    r = buffer.rewards[:, 0]
    expected = [r[6] + 0.5 * r[7], r[7], r[8] + 0.5 * r[9] + 0.25 * r[10]]
    assert np.allclose(sampled.rewards[:, 0], expected)
    assert np.allclose(sampled.discounts[:, 0], [0.25, 0.5, 0.125])
    assert sampled.dones[:, 0].tolist() == [0, 0, 0]
    assert np.array_equal(sampled.next_observations[1], buffer.next_observations[7, 0])


def test_an_episode_that_ended_by_itself_stays_so(tmp_path):
    model = new_model()
    model.learn(5)
    save_checkpoint(model, tmp_path)
    buffer = load_checkpoint(SAC, tmp_path, new_env()).replay_buffer
    assert (buffer.dones[4, 0], buffer.timeouts[4, 0]) == (1, 0)


def test_without_a_place_for_time_limits_the_break_ends_the_episode_as_they_do(tmp_path):
    model = new_model(optimize_memory_usage=True, replay_buffer_kwargs={"handle_timeout_termination": False})
    model.learn(8)
    save_checkpoint(model, tmp_path)
    buffer = load_checkpoint(SAC, tmp_path, new_env()).replay_buffer
    assert buffer._get_samples(np.array([6, 7])).dones[:, 0].tolist() == [0, 1]


def observations_from(model, n_timesteps):
    start = model.replay_buffer.pos
    model.learn(n_timesteps, reset_num_timesteps=False)
    return np.array(model.replay_buffer.observations[start : start + n_timesteps])


def test_the_same_checkpoint_goes_on_the_same_way_and_not_as_the_run_began(tmp_path):
    model = new_model(new_env())
    began = observations_from(model, 8)
    save_checkpoint(model, tmp_path, keep=9)
    once, again = (load_checkpoint(SAC, tmp_path, new_env()) for _ in range(2))
    assert np.random.get_state()[1].tolist() != np.random.RandomState(0).get_state()[1].tolist()
    then = observations_from(once, 8)
    again = load_checkpoint(SAC, tmp_path, new_env())
    assert np.array_equal(observations_from(again, 8), then)
    assert digest(once) == digest(again)
    assert not (then[0] == began[0]).all()
    save_checkpoint(once, tmp_path, keep=9)
    later = observations_from(load_checkpoint(SAC, tmp_path, new_env()), 8)
    assert not (later[0] == then[0]).all() and not (later[0] == began[0]).all()


def test_without_a_seed_nothing_is_seeded(tmp_path):
    save_checkpoint(new_model(seed=None), tmp_path)
    first, second = (np.random.rand() for _ in range(2) if load_checkpoint(SAC, tmp_path, new_env()))
    assert first != second


def test_the_empty_buffer_is_gone_before_the_full_one_is_read(tmp_path, monkeypatch):
    save_checkpoint(new_model(replay_buffer_class=FrameReplayBuffer), tmp_path)
    load = SAC.load_replay_buffer
    seen = []
    monkeypatch.setattr(SAC, "load_replay_buffer", lambda self, path: seen.extend(vars(self)) or load(self, path))
    load_checkpoint(SAC, tmp_path, new_env())
    assert "policy" in seen and "replay_buffer" not in seen


def test_arguments_of_load_pass_through(tmp_path):
    model = new_model()
    save_checkpoint(model, tmp_path)
    assert load_checkpoint(SAC, tmp_path, new_env(), gamma=0.5).gamma == 0.5
    assert load_checkpoint(SAC, str(tmp_path)).env is None


# --- bad use ---


def test_bad_use_is_refused_with_one_line(tmp_path):
    folder = tmp_path / "none"
    with pytest.raises(FileNotFoundError, match=rf"no checkpoint in '{folder}': train with CrashSafeCheckpointCallback"):
        load_checkpoint(SAC, folder)
    assert not folder.exists()
    model = new_model()
    save_checkpoint(model, folder)
    for other in (TD3, DDPG, PPO, DQN):
        with pytest.raises(ValueError, match=rf"checkpoint_0' was written by SAC, not {other.__name__}; pass the class"):
            load_checkpoint(other, folder)
    with pytest.raises(FileExistsError, match=r"checkpoint_0' exists: train on before you save again"):
        save_checkpoint(model, folder)
    with pytest.raises(ValueError, match="written with 1 environments and env has 2; make env as it was"):
        load_checkpoint(SAC, folder, new_env(2))
    (folder / "checkpoint_0" / "replay_buffer.pkl").unlink()
    with pytest.raises(FileNotFoundError, match=r"replay_buffer\.pkl"):
        load_checkpoint(SAC, folder)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match=rf"folder='{file}' is a file; pass the folder"):
        model.learn(1, CrashSafeCheckpointCallback(file, 1))
    for name in ("save_freq", "keep"):
        with pytest.raises(ValueError, match=f"{name}=0 must be an integer of at least 1"):
            CrashSafeCheckpointCallback(folder, **{name: 0})


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "SAC"])
def test_every_algorithm_is_saved_by_its_name(name, tmp_path):
    model = make_model(name, tiny("ae"))
    path = save_checkpoint(model, tmp_path)
    assert (path / f"{name}.zip").exists() and (path / "replay_buffer.pkl").exists() == hasattr(model, "replay_buffer")
    assert type(load_checkpoint(type(model), tmp_path)) is type(model)
