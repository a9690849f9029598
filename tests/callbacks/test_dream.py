"""The dream callback: what it logs and writes, and that it changes nothing."""

import csv
import io
import warnings

import numpy as np
import pytest
import torch as th
from algorithms import NoiseImageEnv
from gymnasium import spaces
from PIL import Image
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_latent import HistoryWrapper, SequenceReplayBuffer, SLACPolicy, latent_kwargs
from sb3_latent.callbacks import DreamCallback
from sb3_latent.dreams import dream, open_loop_errors, play_episode
from sb3_latent.videos import dream_video, gif

LENGTH = 3


class TimedImages(NoiseImageEnv):
    """
    :param lengths: steps of the episodes by seed; without a seed they have 9.
    :param size: height and width in pixels.
    """

    def __init__(self, lengths=(), size=12):
        super().__init__(discrete=False, size=size)
        self.lengths = lengths

    def reset(self, *, seed=None, options=None):
        self.last = 9 if seed is None or seed >= len(self.lengths) else self.lengths[seed]
        return super().reset(seed=seed, options=options)

    def step(self, action):
        observation, reward, _, _, info = super().step(action)
        return observation, reward, self._n_steps == self.last, False, info


class Vectors(TimedImages):
    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Box(0, 1, (4,), np.float32)

    def _draw(self):
        self._image = self.np_random.uniform(0, 1, 4).astype(np.float32)
        return self._image


def world(n_envs=0, cls=TimedImages, **kwargs):
    env = DummyVecEnv([lambda: cls(**kwargs)] * n_envs) if n_envs else cls(**kwargs)
    return HistoryWrapper(env, length=LENGTH)


def make(algorithm, env=None):
    kwargs = {
        **latent_kwargs("slac", trunk="mlp", trunk_kwargs={"net_arch": (6,)}, hidden=8, model_batch_size=4),
        "net_arch": [8],
    }
    kwargs["features_extractor_kwargs"]["dynamics_kwargs"] = {"z1_dim": 3, "z2_dim": 4, "hidden": (8,)}
    if algorithm == "PPO":
        del kwargs["model_batch_size"]
        env = env or world(2)
        return PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, n_epochs=1, policy_kwargs=kwargs, seed=0)
    settings = {"buffer_size": 50, "learning_starts": 5, "batch_size": 6, "seed": 0}
    return SAC(SLACPolicy, env or world(), replay_buffer_class=SequenceReplayBuffer, policy_kwargs=kwargs, **settings)


def learn(model, n_timesteps, folder, callback, formats=("csv", "tensorboard", "stdout", "log", "json")):
    model.set_logger(configure(str(folder), list(formats)))
    model.learn(n_timesteps, callback=callback)
    model.logger.close()
    return EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()


def rows_of(folder):
    rows = list(csv.DictReader((folder / "progress.csv").open()))
    return [row for row in rows if row.get("dream/error_1")]


@pytest.fixture
def without_pictures(monkeypatch):
    """They take the most time."""
    monkeypatch.setattr(DreamCallback, "_draw", lambda *_: None)


@pytest.mark.parametrize("algorithm, n_timesteps, n_envs", [("SAC", 14, 0), ("PPO", 48, 2)])
def test_training_is_the_same_bits_with_it(algorithm, n_timesteps, n_envs, tmp_path):
    outcomes = []
    for name in ("with", "without"):
        model = make(algorithm)
        callback = DreamCallback(world(n_envs), every=12, n_prefix=3, horizon=4) if name == "with" else None
        events = learn(model, n_timesteps, tmp_path / name, callback, ["tensorboard"])
        assert len(events.Images("dream/video") if callback else [0, 0]) > 1
        weights = [parameter.detach().clone() for parameter in model.policy.parameters()]
        optimizer = model.policy.features_extractor.optimizer.state_dict()
        flags = [module.training for module in model.policy.modules()]
        outcomes.append((weights, optimizer, flags, th.get_rng_state(), np.random.get_state()[1], model._last_obs["frames"]))
    (weights, optimizer, flags, *others), (stock_weights, stock_optimizer, stock_flags, *stock_others) = outcomes
    assert all(map(th.equal, weights, stock_weights))
    assert str(optimizer) == str(stock_optimizer) and flags == stock_flags
    for ours, stock in zip(others, stock_others, strict=True):
        np.testing.assert_array_equal(ours, stock)


@pytest.mark.parametrize("algorithm", ["SAC", "PPO"])
def test_the_numbers_are_those_of_the_functions(algorithm, tmp_path, without_pictures):
    model, n_steps = make(algorithm), {"SAC": 9, "PPO": 16}[algorithm]
    lengths = [40, 25]
    settings = {"n_prefix": 4, "horizon": 18, "n_episodes": 3}
    # Of nine steps, the third is too short.
    learn(model, n_steps, tmp_path, DreamCallback(world(lengths=lengths), **settings))
    episodes = [play_episode(world(lengths=lengths), model, seed=seed) for seed in range(2)]
    assert [len(episode.rewards) for episode in episodes] == lengths
    errors = open_loop_errors([dream(model, episode, 4, 18) for episode in episodes])
    (row,) = rows_of(tmp_path)
    expected = {}
    for step in (1, 4, 16, 18):
        expected[f"dream/error_{step}"] = errors.frames["dream"][step - 1]
        expected[f"dream/posterior_error_{step}"] = errors.frames["posterior"][step - 1]
        expected[f"dream/repeat_error_{step}"] = errors.frames["repeat"][step - 1]
        if algorithm == "SAC":
            expected[f"dream/reward_error_{step}"] = errors.rewards["dream"][step - 1]
    logged = {name: float(value) for name, value in row.items() if name.startswith("dream/")}
    assert logged == pytest.approx(expected, rel=1e-5)
    assert len(set(logged.values())) == len(logged)


@pytest.mark.parametrize("horizon, steps", [(1, {1}), (4, {1, 4}), (5, {1, 4, 5})])
def test_errors_are_told_at_powers_of_four_and_at_the_end(horizon, steps, tmp_path, without_pictures):
    learn(make("SAC"), 8, tmp_path, DreamCallback(world(), n_prefix=2, horizon=horizon), ["csv"])
    (row,) = rows_of(tmp_path)
    assert {int(name.rpartition("_")[2]) for name in row if name.startswith("dream/error")} == steps


def test_pictures_go_to_tensorboard_and_files_and_only_numbers_to_text(tmp_path, capsys):
    model = make("SAC")
    folder = tmp_path / "pictures"
    events = learn(model, 14, tmp_path, DreamCallback(world(), 7, 3, 4, 2, folder, verbose=1))
    steps = (7, 14)
    names = {f"dream_{step}.{ending}" for step in steps for ending in ("png", "gif")}
    assert {path.name for path in folder.iterdir()} == names | {f"dream_errors_{step}.png" for step in steps}
    for tag, file in (("dream/images", "dream_14.png"), ("dream/errors", "dream_errors_14.png")):
        logged = {image.step: image.encoded_image_string for image in events.Images(tag)}
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(logged[14]))), np.asarray(Image.open(folder / file)))
    videos = {image.step: image for image in events.Images("dream/video")}
    assert sorted(videos) == list(steps)
    for step, video in videos.items():
        assert video.encoded_image_string == (folder / f"dream_{step}.gif").read_bytes()
    dreams = dream(model, play_episode(world(), model, seed=0), 3, 4)
    assert videos[14].encoded_image_string == gif(dream_video(dreams))
    assert Image.open(folder / "dream_14.gif").n_frames == 7
    assert (videos[14].width, videos[14].height) == Image.open(folder / "dream_14.gif").size
    assert not {"dream/images", "dream/errors", "dream/video"} & set(rows_of(tmp_path)[0])
    assert f"Dreams written to {folder / 'dream_14.png'}" in capsys.readouterr().out


def test_every_look_has_the_same_seeds_whatever_was_played_before(tmp_path, without_pictures):
    model, callback = make("SAC"), DreamCallback(world(2), n_prefix=3, horizon=4)
    learn(model, 8, tmp_path, callback, [])
    looks = []
    for _ in range(2):
        model.logger.name_to_value.clear()
        callback._look_now()
        looks.append({name: value for name, value in model.logger.name_to_value.items() if np.isscalar(value)})
        callback.env.reset()
        callback.env.step(np.zeros((2, 1), np.float32))
    assert looks[0] == looks[1] and looks[0]


def test_episodes_that_are_too_short_give_a_warning_and_no_dream(tmp_path, without_pictures):
    callback = DreamCallback(world(lengths=[5, 5]), n_prefix=3, horizon=4)
    model = make("SAC")
    with pytest.warns(UserWarning, match=r"no dream at step 8: every episode played has less than 3 \+ 4 frames"):
        learn(model, 8, tmp_path, callback, ["csv"])
    assert not rows_of(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learn(make("SAC"), 8, tmp_path, DreamCallback(world(lengths=[5, 6]), n_prefix=3, horizon=4), ["csv"])
    assert len(rows_of(tmp_path)) == 1


@pytest.mark.parametrize("is_vectorised", [False, True])
def test_the_environment_of_training_is_not_to_be_played_in(is_vectorised, without_pictures):
    env = world(2) if is_vectorised else world()
    model = make("PPO", env)
    for same in (env, model.get_env()):
        with pytest.raises(ValueError, match="the environment that the model trains in; make another one"):
            model.learn(16, DreamCallback(same, n_prefix=3, horizon=4))
    model.learn(16, DreamCallback(world(2) if is_vectorised else world(), n_prefix=3, horizon=4))


def test_bad_input_is_named():
    model = make("SAC")
    other = HistoryWrapper(TimedImages(), length=LENGTH + 1)
    with pytest.raises(ValueError, match=r"the environment observes WindowSpec\(length=4, .* wrap both alike"):
        model.learn(8, DreamCallback(other))
    with pytest.raises(ValueError, match="HistoryWrapper"):
        model.learn(8, DreamCallback(TimedImages()))
    with pytest.raises(ValueError, match=r"draws images, but a frame has shape \(4,\); use open_loop_errors"):
        make("SAC", world(cls=Vectors)).learn(8, DreamCallback(world(cls=Vectors)))
    with pytest.raises(ValueError, match="n_channels=3 must be 1"):
        model.learn(8, DreamCallback(world(), n_channels=3))
    with pytest.raises(TypeError, match="no latent model"):
        kwargs = latent_kwargs("cnn", trunk="mlp")
        PPO("CnnPolicy", NoiseImageEnv(), policy_kwargs=kwargs, n_steps=8, batch_size=4).learn(8, DreamCallback(world()))
    for name, value, least in (("every", 0, 1), ("n_prefix", 1, 2), ("horizon", 2.5, 1), ("n_episodes", 0, 1)):
        with pytest.raises(ValueError, match=f"{name}={value} must be an integer of at least {least}"):
            DreamCallback(world(), **{name: value})
    with pytest.raises(ValueError, match="n_prefix=8 and horizon=244 are more than the 251 frames"):
        DreamCallback(world(), horizon=244)
    DreamCallback(world(), horizon=243)
