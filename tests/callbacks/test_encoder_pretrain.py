"""The callback that trains an encoder before the agent: the same encoder as by hand, and the same run afterwards."""

import copy
import random
import threading
import time
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml
from algorithms import NoiseImageEnv
from filelock import FileLock
from gymnasium import spaces
from interrupted_runs import flat, rng_states
from sb3_contrib import TRPO, MaskablePPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.atari_wrappers import EpisodicLifeEnv
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecMonitor, VecNormalize

from sb3_latent import (
    FrameReplayBuffer,
    HistoryWrapper,
    LatentActorCriticPolicy,
    LatentDQNPolicy,
    LatentMaskableActorCriticPolicy,
    LatentSACPolicy,
    collect_frames,
    get_extractor,
    get_extractors,
    load_encoder,
    pretrain_encoder,
    save_encoder,
)
from sb3_latent import frames as frames_module
from sb3_latent import pretrain as pretrain_module
from sb3_latent.callbacks import EncoderPretrainCallback, encoder_pretrain

N_FRAMES = 30
MLP = {"latent_dim": 4, "trunk": "mlp", "trunk_kwargs": {"net_arch": [16]}}
POLICY = {"preset": "ppo_fixed", **MLP, "net_arch": [8]}
ON_POLICY = {"n_steps": 16, "batch_size": 8, "n_epochs": 1}
REPLAY = {"buffer_size": 60, "learning_starts": 10, "batch_size": 8, "train_freq": 1}
ARGUMENTS = {"n_frames": N_FRAMES, "n_epochs": 2, "batch_size": 8, "progress_bar": False}


def stacked(n_envs=2, discrete=True, monitor=None):
    """Frames of one channel; two of them in an observation."""

    def env(rank):
        file = None if monitor is None else str(monitor / str(rank))
        return Monitor(NoiseImageEnv(discrete), file)

    return VecFrameStack(DummyVecEnv([lambda rank=rank: env(rank) for rank in range(n_envs)]), n_stack=2)


def ppo(env=None, policy_kwargs=None, **kwargs):
    run = {**ON_POLICY, "seed": 5, "device": "cpu", **kwargs}
    return PPO(LatentActorCriticPolicy, env or stacked(), policy_kwargs={**POLICY, **(policy_kwargs or {})}, **run)


def sac(env=None, seed=5):
    kwargs = {"preset": "rae", **MLP, "net_arch": [8]}
    env = env or stacked(1, discrete=False)
    return SAC(LatentSACPolicy, env, policy_kwargs=kwargs, seed=seed, device="cpu", **REPLAY)


def normalized_sac(seed=5):
    return sac(VecNormalize(stacked(1, discrete=False), norm_obs=False), seed)


def dqn(env=None):
    kwargs = {"preset": "vae", **MLP, "net_arch": [8]}
    return DQN(LatentDQNPolicy, env or stacked(1), policy_kwargs=kwargs, seed=5, device="cpu", **REPLAY)


def callback(**arguments):
    return EncoderPretrainCallback(**{**ARGUMENTS, **arguments})


def state_of(model):
    return copy.deepcopy(flat(model.get_parameters()))


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for path, leaf in theirs.items():
        assert th.equal(ours[path], leaf) if isinstance(leaf, th.Tensor) else ours[path] == leaf, path


class AtStart(BaseCallback):
    """What the model is, and looks at, when training begins."""

    def _on_rollout_start(self):
        if self.num_timesteps == 0:
            self.encoder = copy.deepcopy(get_extractor(self.model).encoders.state_dict())
            self.observation, self.starts = self.model._last_obs.copy(), self.model._last_episode_starts
            self.rng = rng_states()

    def _on_step(self):
        return True


@pytest.fixture
def calls(monkeypatch):
    """How often frames were played and an encoder trained."""
    made = []
    for name in ("collect_frames", "pretrain_encoder"):
        function = getattr(encoder_pretrain, name)
        monkeypatch.setattr(
            encoder_pretrain, name, lambda *a, name=name, function=function, **k: made.append(name) or function(*a, **k)
        )
    return made


# ---------------------------------------------------------------------- the encoder


@pytest.mark.filterwarnings("ignore:decoders of")
@pytest.mark.parametrize(
    ("policy_kwargs", "preset", "n_stack", "settings"),
    [
        ({}, "ppo_vae", 2, {}),
        ({"preset": "ppo_adapt", "latent_dim": 3}, "ppo_vae", 2, {"beta": None}),
        ({"preset": "cnn"}, "ae", 1, {}),
        ({"preset": "vae", "share_features_extractor": False}, "vae", 1, {"coefs": {"kl": 0.5}}),
        ({"preset": "vae"}, "vae", 1, {"beta": 2.0, "tasks": {"recon": {"loss": "bernoulli"}, "kl": {}}}),
    ],
    ids=["ppo_fixed", "ppo_adapt", "cnn", "two extractors", "tasks"],
)
def test_it_is_the_encoder_of_pretrain_encoder_to_the_bit(policy_kwargs, preset, n_stack, settings, tmp_path):
    """The file of each is the same; what the model holds is in it."""
    settings = {name: value for name, value in settings.items() if value is not None}
    start, path = AtStart(), tmp_path / "folder" / "ours.safetensors"
    model = ppo(policy_kwargs=policy_kwargs)
    initial = copy.deepcopy(get_extractor(model).encoders.state_dict())
    model.learn(32, callback=[callback(preset=preset, path=str(path), seed=3, **settings), start])

    collect_frames(stacked(), None, N_FRAMES, tmp_path / "frames.npy", n_stack=n_stack, seed=3, progress_bar=False)
    encoder = {**MLP, **{name: policy_kwargs[name] for name in ("latent_dim",) if name in policy_kwargs}}
    by_hand = {"head": "deterministic" if preset == "ae" else "gaussian", "per_frame": n_stack == 2, **encoder, **settings}
    run = {"n_epochs": 2, "batch_size": 8, "seed": 3, "device": "cpu", "progress_bar": False}
    theirs = pretrain_encoder(tmp_path / "frames.npy", preset, path=tmp_path / "theirs.safetensors", **run, **by_hand)

    assert path.read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()
    assert_same(start.encoder, theirs.encoders.state_dict())
    assert not any(th.equal(initial[name], weight) for name, weight in start.encoder.items() if "weight" in name)
    frozen = POLICY["preset"] == {**POLICY, **policy_kwargs}["preset"]
    for extractor in get_extractors(model):
        same = all(th.equal(weight, start.encoder[name]) for name, weight in extractor.encoders.state_dict().items())
        assert same is frozen is extractor.frozen


class Coloured(NoiseImageEnv):
    """Frames of three channels."""

    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (3, 12, 12), np.uint8)


def test_coloured_frames_are_read_one_by_one(tmp_path):
    def env():
        return VecFrameStack(DummyVecEnv([Coloured]), n_stack=2)

    path = tmp_path / "encoder.safetensors"
    ppo(env(), {"n_frames": 2}).learn(16, callback=callback(path=path))
    frames = collect_frames(env(), None, N_FRAMES, tmp_path / "frames.npy", n_stack=2, seed=0, progress_bar=False)
    assert frames.shape == (N_FRAMES, 3, 12, 12)
    run = {"n_epochs": 2, "batch_size": 8, "device": "cpu", "progress_bar": False}
    pretrain_encoder(frames, "ppo_vae", path=tmp_path / "theirs.safetensors", n_frames=1, **run, **MLP)
    assert path.read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


def test_decoders_come_along_where_the_tasks_are_the_same(tmp_path):
    path = tmp_path / "encoder.safetensors"
    ours, theirs = ppo(policy_kwargs={"preset": "ppo_vae"}), ppo(policy_kwargs={"preset": "ppo_vae"})
    pretraining = callback(path=path)
    pretraining.init_callback(ours)
    ours._setup_learn(32)
    pretraining.on_training_start({}, {})
    load_encoder(theirs, path)
    assert_same(state_of(ours), state_of(theirs))


class ShowsItsActions(NoiseImageEnv):
    """The action is painted into the next image, so that frames tell who played."""

    def step(self, action):
        image, *rest = super().step(action)
        image[0, 0] = 100 + 40 * np.asarray(action).item()
        return image, *rest


def played(discrete):
    return VecFrameStack(DummyVecEnv([lambda: Monitor(ShowsItsActions(discrete))]), n_stack=2)


@pytest.mark.parametrize(("make", "preset", "n_stack"), [(ppo, "ppo_vae", 2), (sac, "rae", 1)], ids=["PPO", "SAC"])
def test_a_saved_model_plays(make, preset, n_stack, tmp_path):
    env = [played(make is ppo) for _ in range(4)]
    player = make(env[0])
    bias = player.policy.action_net.bias if make is ppo else player.policy.actor.mu.bias
    with th.no_grad():
        bias[-1] = 50.0
    player.save(tmp_path / "player.zip")
    make(env[1]).learn(
        16, callback=callback(preset=preset, path=tmp_path / "ours.safetensors", player=str(tmp_path / "player.zip"))
    )

    run = {"n_stack": n_stack, "seed": 0, "progress_bar": False}
    frames = collect_frames(env[2], type(player).load(tmp_path / "player.zip"), N_FRAMES, tmp_path / "played.npy", **run)
    largest = {PPO: 180, SAC: 140}[type(player)]
    assert (frames[:, -1, 0, 0] == largest).sum() >= N_FRAMES * 0.7, "not the actions of the player"
    settings = {"head": "gaussian" if make is ppo else "deterministic", "per_frame": n_stack == 2, **MLP}
    run = {"n_epochs": 2, "batch_size": 8, "device": "cpu", "progress_bar": False}
    pretrain_encoder(frames, preset, path=tmp_path / "theirs.safetensors", **run, **settings)
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


def test_a_player_has_no_replay_buffer_to_speak_of(tmp_path):
    """Whatever buffer it was trained with."""
    kwargs = {"preset": "rae", **MLP, "net_arch": [8]}
    env, run = stacked(1, discrete=False), {**REPLAY, "buffer_size": 5000, "replay_buffer_class": FrameReplayBuffer}
    SAC(LatentSACPolicy, env, policy_kwargs=kwargs, device="cpu", **run).save(tmp_path / "player.zip")
    pretraining = callback(preset="rae", player=tmp_path / "player.zip")
    pretraining.init_callback(sac())
    assert pretraining._load_player().replay_buffer.buffer_size == 1


def test_a_player_is_known_by_what_it_is_not_by_its_name(tmp_path, calls):
    path, players = tmp_path / "encoder.safetensors", [tmp_path / "player.zip", tmp_path / "elsewhere.zip"]
    ppo(seed=1).save(players[0])
    players[1].write_bytes(players[0].read_bytes())
    for player in players:
        ppo().learn(16, callback=callback(path=path, player=player))
    assert calls == ["collect_frames", "pretrain_encoder"]
    ppo(seed=2).save(players[0])
    with pytest.raises(ValueError, match="player is"):
        ppo().learn(16, callback=callback(path=path, player=players[0]))


# ---------------------------------------------------------------------- the run afterwards


@pytest.mark.parametrize(
    ("make", "preset"),
    [(ppo, "ppo_vae"), (sac, "rae"), (normalized_sac, "rae"), (dqn, "vae")],
    ids=["PPO", "SAC", "norm", "DQN"],
)
def test_the_run_is_that_of_a_model_that_was_given_the_file(make, preset, tmp_path):
    """By ``load_encoder``, or by the callback that finds the file: weights, moments, observations and random streams."""
    path = tmp_path / "encoder.safetensors"
    runs = []
    for how in ("makes it", "finds it", "is given it"):
        model, start = make(), AtStart()
        if how == "is given it":
            load_encoder(model, path)
        model.learn(40, callback=[start] if how == "is given it" else [callback(preset=preset, path=path), start])
        runs.append((model, start, state_of(model)))
    (ours, first, our_state), *others = runs
    assert first.starts.all() and ours._n_updates > 0
    for theirs, start, state in others:
        assert_same(our_state, state)
        if make is not ppo:
            assert np.array_equal(ours.replay_buffer.observations, theirs.replay_buffer.observations)
        assert np.array_equal(first.observation, start.observation)
        assert first.rng[0] == start.rng[0] and np.array_equal(first.rng[1][1], start.rng[1][1])
        assert th.equal(first.rng[2], start.rng[2])
        returns = [[episode["r"] for episode in model.ep_info_buffer] for model in (ours, theirs)]
        assert returns[0] == returns[1] != []


def test_it_is_the_run_of_a_model_built_with_pretrained(tmp_path):
    """To the bit, where SB3 does not draw orthogonal weights for what comes behind the encoder."""
    path = tmp_path / "encoder.safetensors"
    ours = ppo(policy_kwargs={"ortho_init": False}).learn(32, callback=callback(path=path))
    theirs = ppo(policy_kwargs={"ortho_init": False, "pretrained": str(path)}).learn(32)
    assert_same(state_of(ours), state_of(theirs))


def test_with_orthogonal_weights_the_encoder_is_still_that_of_pretrained(tmp_path):
    path = tmp_path / "encoder.safetensors"
    ours = ppo().learn(32, callback=callback(path=path))
    theirs = ppo(policy_kwargs={"pretrained": str(path)}).learn(32)
    assert_same(*(get_extractor(model).encoders.state_dict() for model in (ours, theirs)))


def test_without_a_seed_the_streams_go_on_where_they_were():
    model = ppo(seed=None)
    pretraining = callback()
    model._setup_learn(16)
    pretraining.init_callback(model)
    random.seed(1), np.random.seed(2), th.manual_seed(3), model.action_space.seed(4)
    twin = ppo(seed=None)
    random.seed(1), np.random.seed(2), th.manual_seed(3), twin.action_space.seed(4)
    pretraining.on_training_start({}, {})
    # The environment's new seed is drawn from numpy's stream.
    np.random.randint(0, 2)
    after = random.getstate(), th.get_rng_state(), model.action_space.sample()
    random.seed(1), th.manual_seed(3)
    before = random.getstate(), th.get_rng_state(), twin.action_space.sample()
    assert after[0] == before[0] and th.equal(after[1], before[1]) and after[2] == before[2]


@pytest.mark.parametrize("make", [sac, normalized_sac])
def test_a_replay_buffer_begins_with_the_new_episode(make):
    """Which is another than the one before the recording, where there is no seed."""
    model, start = make(seed=None), AtStart()
    model.learn(12, callback=[callback(preset="rae"), start])
    assert np.array_equal(model.replay_buffer.observations[0], start.observation)


class Lives(gym.Env):
    """Three lives of two steps each; the picture shows how many steps the game has lasted."""

    observation_space = spaces.Box(0, 255, (1, 12, 12), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.ale = SimpleNamespace(lives=lambda: 3 - self.n_steps // 2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n_steps = 0
        return self._picture(), {}

    def step(self, action):
        self.n_steps += 1
        return self._picture(), 1.0, self.n_steps == 6, False, {}

    def _picture(self):
        return np.full((1, 12, 12), 40 * self.n_steps + 10, np.uint8)


@pytest.mark.parametrize("n_frames", [9, 10, 11, 12, 13])
def test_a_game_of_several_lives_starts_over(n_frames):
    """Whatever life the recording ended in: an episode of the monitor is a whole game of training."""
    env = DummyVecEnv([lambda: EpisodicLifeEnv(Monitor(Lives()))])
    start = AtStart()
    model = ppo(env, {"preset": "cnn"})
    model.learn(16, callback=[callback(preset="ae", n_frames=n_frames), start])
    assert (start.observation == 10).all()
    assert {episode["l"] for episode in model.ep_info_buffer} == {6}


def test_monitors_record_training_alone(tmp_path):
    path = tmp_path / "encoder.safetensors"
    results = []
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        env = stacked(monitor=tmp_path / name)
        model = ppo(env)
        if name == "theirs":
            load_encoder(model, path)
        model.learn(64, callback=callback(path=path) if name == "ours" else None)
        env.close()
        monitors = [one.get_wrapper_attr("get_episode_rewards")() for one in env.unwrapped.envs]
        totals = [one.get_wrapper_attr("get_total_steps")() for one in env.unwrapped.envs]
        results.append((load_results(str(tmp_path / name))[["r", "l"]].sort_values(["r", "l"]).to_numpy(), monitors, totals))
    assert len(results[0][0]) == 12
    assert np.array_equal(results[0][0], results[1][0]) and results[0][1:] == results[1][1:]


def test_a_strict_monitor_is_no_obstacle():
    env = DummyVecEnv([lambda: Monitor(NoiseImageEnv(), allow_early_resets=False)])
    model = ppo(env, {"preset": "cnn"})
    model.learn(16, callback=callback(preset="ae"))
    assert env.envs[0].allow_early_resets is False


def test_vec_monitor_and_vec_normalize_see_training_alone(tmp_path):
    path, states = tmp_path / "encoder.safetensors", []
    for name in ("ours", "theirs"):
        monitor = VecMonitor(DummyVecEnv([NoiseImageEnv] * 2), str(tmp_path / name))
        env = VecNormalize(VecFrameStack(monitor, 2), norm_obs=False, gamma=0.9)
        model = ppo(env)
        if name == "theirs":
            load_encoder(model, path)
        model.learn(64, callback=callback(path=path) if name == "ours" else None)
        assert env.training
        n_rows = len((tmp_path / f"{name}.monitor.csv").read_text().splitlines())
        states.append((monitor.episode_count, n_rows, env.ret_rms.mean, env.ret_rms.var, env.ret_rms.count))
        states.append(model._last_original_obs.sum())
    assert states[:2] == states[2:] and states[0][0] == 12


def test_sb3_does_not_count_the_time_it_takes(monkeypatch):
    pretrain = encoder_pretrain.pretrain_encoder
    monkeypatch.setattr(encoder_pretrain, "pretrain_encoder", lambda *a, **k: time.sleep(0.5) or pretrain(*a, **k))
    model = ppo()
    model.learn(32, callback=callback())
    assert 0 <= time.time_ns() - model.start_time < 0.5e9


def test_environments_in_processes_of_their_own(tmp_path):
    def env():
        return VecFrameStack(SubprocVecEnv([lambda: Monitor(NoiseImageEnv())] * 2, start_method="fork"), n_stack=2)

    states, path = [], tmp_path / "encoder.safetensors"
    for make in (env, stacked):
        vec_env = make()
        model = ppo(vec_env).learn(32, callback=callback(path=path))
        vec_env.close()
        states.append(state_of(model))
    assert_same(*states)


# ---------------------------------------------------------------------- once


def test_it_comes_once_for_a_model(calls, tmp_path):
    pretraining, model = callback(), ppo()
    model.learn(32, callback=pretraining)
    model.learn(32, callback=pretraining)
    model.learn(32, callback=callback(), reset_num_timesteps=False)
    model.save(tmp_path / "model")
    for reset in (True, False):
        loaded = PPO.load(tmp_path / "model", env=stacked())
        before = copy.deepcopy(get_extractor(loaded).encoders.state_dict())
        loaded.learn(32, callback=callback(seed=1), reset_num_timesteps=reset)
        assert_same(before, get_extractor(loaded).encoders.state_dict())
    assert calls == ["collect_frames", "pretrain_encoder"]


def test_a_model_that_has_taken_steps_alone_is_not_pretrained_again(calls):
    """SAC learns from its tenth step on."""
    model = sac().learn(5, callback=callback(preset="rae"))
    assert model._n_updates == 0
    model.learn(5, callback=callback(preset="rae"), reset_num_timesteps=False)
    assert calls == ["collect_frames", "pretrain_encoder"]


def test_a_file_is_made_once_for_all_runs(calls, tmp_path, capsys):
    path = tmp_path / "encoder.safetensors"
    for seed in (1, 2):
        ppo(seed=seed).learn(32, callback=callback(path=path, verbose=1))
    assert calls == ["collect_frames", "pretrain_encoder"]
    out = capsys.readouterr().out
    assert f"pretrained on {N_FRAMES} frames" in out and f"loaded from {path}" in out
    names = [f"encoder.{end}" for end in ("arguments.json", "json", "png", "safetensors", "safetensors.lock")]
    assert sorted(file.name for file in tmp_path.iterdir()) == names


def interrupt(*arguments, **kwargs):
    raise KeyboardInterrupt


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    ppo().learn(16, callback=callback(path=whole))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(encoder_pretrain, "pretrain_encoder", interrupt)
        ppo().learn(16, callback=callback(path=broken))
    assert not broken.exists()
    with pytest.raises(ValueError, match="n_epochs is 7 here and 2 in the file"):
        ppo().learn(16, callback=callback(path=broken, n_epochs=7))
    frames = broken.with_suffix(".frames.npy")
    assert frames.exists()
    ours = ppo().learn(32, callback=callback(path=broken))
    theirs = ppo().learn(32, callback=callback(path=whole))
    assert not frames.exists()
    assert broken.read_bytes() == whole.read_bytes()
    assert_same(state_of(ours), state_of(theirs))


@pytest.mark.parametrize("step", ["collect_frames", "pretrain_encoder"])
def test_leftovers_of_other_arguments_do_not_come_back(step, tmp_path, monkeypatch):
    """Nobody knows what frames and checkpoints were made with after their sidecar has been deleted, as the error asks."""
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    ppo().learn(16, callback=callback(path=whole))
    module = frames_module if step == "collect_frames" else pretrain_module
    function = {"collect_frames": "_newest", "pretrain_encoder": "_report"}[step]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, function, interrupt)
        ppo().learn(16, callback=callback(path=broken, seed=7))
    assert list(tmp_path.glob("broken.frames.npy*"))
    broken.with_suffix(".arguments.json").unlink()
    ppo().learn(16, callback=callback(path=broken))
    assert broken.read_bytes() == whole.read_bytes()


def test_runs_wait_for_the_one_that_makes_the_file(calls, tmp_path):
    theirs, path = tmp_path / "theirs.safetensors", tmp_path / "encoder.safetensors"
    ppo().learn(16, callback=callback(path=theirs))
    calls.clear()
    waiting = threading.Thread(target=lambda: ppo().learn(16, callback=callback(path=path)), daemon=True)
    with FileLock(f"{path}.lock"):
        waiting.start()
        waiting.join(0.7)
        assert waiting.is_alive() and not calls
        for end in (".arguments.json", ".safetensors"):
            path.with_suffix(end).write_bytes(theirs.with_suffix(end).read_bytes())
    waiting.join(20)
    assert not waiting.is_alive() and not calls


@pytest.mark.parametrize(
    ("arguments", "policy_kwargs", "env", "parts"),
    [
        ({"n_epochs": 3}, {}, None, ["n_epochs is 3 here and 2 in the file"]),
        ({"n_frames": 31}, {}, None, ["n_frames is 31 here and 30 in the file"]),
        ({"batch_size": 4}, {}, None, ["batch_size is 4 here"]),
        ({"learning_rate": 0.5}, {}, None, ["learning_rate is 0.5 here"]),
        ({"seed": 9}, {}, None, ["seed is 9 here and 0 in the file"]),
        ({"beta": 2.0, "preset": "vae"}, {}, None, ["settings.beta is 2.0 here and 'absent' in the file"]),
        ({}, {"latent_dim": 5}, None, ["settings.latent_dim is 5 here and 4 in the file"]),
        ({}, {}, "ShowsItsActions", ["environment is '<Monitor<ShowsItsActions", "NoiseImageEnv"]),
        ({"player": "player.zip"}, {}, None, ["player is", "None in the file"]),
    ],
    ids=str,
)
def test_a_file_of_other_arguments_is_refused_in_one_line(arguments, policy_kwargs, env, parts, calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "player.zip").write_bytes(b"a player")
    path = tmp_path / "encoder.safetensors"
    ppo().learn(16, callback=callback(path=path))
    calls.clear()
    vec_env = env and VecFrameStack(DummyVecEnv([lambda: Monitor(ShowsItsActions())] * 2), 2)
    model = ppo(vec_env, policy_kwargs)
    with pytest.raises(ValueError) as raised:
        model.learn(16, callback=callback(path=path, **arguments))
    message = str(raised.value)
    assert all(part in message for part in [*parts, "made otherwise", "Choose another path"]) and "\n" not in message
    assert not calls and model.num_timesteps == 0


def test_a_foreign_file_is_refused(tmp_path):
    path = save_encoder(ppo(), tmp_path / "encoder.safetensors")
    with pytest.raises(ValueError, match=r"is not of EncoderPretrainCallback; .* pretrained=\.\.\."):
        ppo().learn(16, callback=callback(path=path))


def test_another_number_of_environments_shares_the_file(calls, tmp_path):
    for n_envs in (1, 2):
        ppo(stacked(n_envs)).learn(16, callback=callback(path=tmp_path / "encoder.safetensors"))
    assert calls == ["collect_frames", "pretrain_encoder"]


# ---------------------------------------------------------------------- YAML, and what cannot work


def test_it_is_written_in_yaml():
    text = "{n_frames: 30, n_epochs: 1, batch_size: 8, preset: vae, tasks: {recon: {}, kl: {}}, progress_bar: false}"
    ppo().learn(16, callback=EncoderPretrainCallback(**yaml.safe_load(text)))


def test_the_defaults_are_those_of_the_paper():
    """Section 4.1 and Table 1 of seed document 000."""
    ours = EncoderPretrainCallback()
    assert (ours.n_frames, ours.preset, ours.player, ours.path) == (25_000, "ppo_vae", None, None)
    assert ours.schedule == {"n_epochs": 100, "batch_size": 128, "learning_rate": 1e-4, "seed": 0}


@pytest.mark.parametrize("shown", [True, False])
def test_progress_bars(shown, capsys):
    ppo().learn(16, callback=callback(progress_bar=shown))
    err = capsys.readouterr().err
    assert ("30/30" in err and "epoch 2/2" in err) == shown


def test_trpo_takes_a_preset_without_kappa():
    kwargs = {"preset": "cnn", **MLP, "net_arch": [8]}
    model = TRPO(LatentActorCriticPolicy, stacked(), policy_kwargs=kwargs, n_steps=16, batch_size=8, seed=0, device="cpu")
    model.learn(32, callback=callback(preset="ae"))


@pytest.mark.parametrize(
    ("arguments", "error", "parts"),
    [
        ({"n_frames": 0}, ValueError, ["n_frames=0", "integer of at least 1"]),
        ({"n_epochs": "3"}, ValueError, ["n_epochs='3'"]),
        ({"batch_size": 0}, ValueError, ["batch_size=0"]),
        ({"seed": -1}, ValueError, ["seed=-1"]),
        ({"learning_rate": 0}, ValueError, ["learning_rate=0"]),
        ({"learning_rate": "1e-4"}, TypeError, ["learning_rate='1e-4'", "number"]),
        ({"preset": "ppo_vea"}, ValueError, ["'ppo_vea'", "did you mean 'ppo_vae'?"]),
        ({"preset": "slac"}, ValueError, ["'slac' encodes windows"]),
        ({"path": "encoder.zip"}, ValueError, ["path='encoder.zip'", ".safetensors"]),
        ({"player": "nobody.zip"}, FileNotFoundError, ["no player nobody.zip", "random play"]),
        ({"latent_dim": 3}, TypeError, ["'latent_dim'", "Allowed: 'beta', 'coefs', 'tasks'"]),
        ({"coefs": {"klll": 1}}, ValueError, ["'klll'", "did you mean 'kl'?"]),
    ],
    ids=str,
)
def test_wrong_arguments_are_told_at_once(arguments, error, parts):
    with pytest.raises(error) as raised:
        EncoderPretrainCallback(**arguments)
    assert all(part in str(raised.value) for part in parts) and "\n" not in str(raised.value)


def windows():
    states = {"z1_dim": 2, "z2_dim": 2, "hidden": [4]}
    kwargs = {"preset": "slac", "trunk": "mlp", "dynamics_kwargs": states, "hidden": 4}
    return PPO(LatentActorCriticPolicy, HistoryWrapper(NoiseImageEnv(), length=3), policy_kwargs=kwargs, device="cpu")


def vectors():
    kwargs = {"preset": "cnn", "latent_dim": 3, "net_arch": [8]}
    return PPO(LatentActorCriticPolicy, "CartPole-v1", policy_kwargs=kwargs, device="cpu")


def masked():
    return MaskablePPO(LatentMaskableActorCriticPolicy, NoiseImageEnv(), policy_kwargs={"preset": "cnn", **MLP}, device="cpu")


def stock():
    return PPO("MlpPolicy", "CartPole-v1", device="cpu")


def given(tmp_path):
    return ppo(policy_kwargs={"pretrained": str(save_encoder(ppo(), tmp_path / "encoder.safetensors"))})


@pytest.mark.parametrize(
    ("make", "error", "parts"),
    [
        (stock, TypeError, ["PPO has no LatentExtractor"]),
        (windows, TypeError, ["not for models of windows", "ModelPretrainCallback"]),
        (vectors, TypeError, ["records images", "pretrain_encoder and pretrained=..."]),
        (masked, TypeError, ["MaskablePPO", "leave it out"]),
        (given, ValueError, ["already gives an encoder"]),
    ],
)
def test_models_that_it_is_not_for(make, error, parts, tmp_path, calls):
    model = make(tmp_path) if make is given else make()
    with pytest.raises(error) as raised:
        model.learn(16, callback=callback())
    assert all(part in str(raised.value) for part in parts) and "\n" not in str(raised.value)
    assert not calls and model.num_timesteps == 0


@pytest.mark.parametrize(
    ("policy_kwargs", "preset", "parts"),
    [
        ({"preset": "cnn"}, "vae", ["gaussian"]),
        ({}, "cnn", ["preset 'cnn' has no task", "'ppo_vae'"]),
    ],
)
def test_what_does_not_fit_is_told_before_the_first_frame(policy_kwargs, preset, parts, calls):
    with pytest.raises(ValueError) as raised:
        ppo(policy_kwargs=policy_kwargs).learn(16, callback=callback(preset=preset))
    assert all(part in str(raised.value) for part in parts) and "\n" not in str(raised.value)
    assert not calls


def test_a_model_given_an_encoder_may_go_on_with_the_callback(tmp_path, calls):
    model = given(tmp_path).learn(32)
    model.learn(32, callback=callback(), reset_num_timesteps=False)
    assert not calls
