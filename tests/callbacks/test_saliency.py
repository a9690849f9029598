"""The saliency callback: when it draws, what reaches TensorBoard, CSV and the folder, and what it leaves alone."""

import csv

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from PIL import Image
from sb3_contrib import QRDQN, TQC, RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_latent.callbacks.saliency import JacobianSaliencyCallback
from sb3_latent.figures import contact_sheet
from sb3_latent.saliency import newest_frame, render, saliency, value_jacobian

ON_POLICY = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "device": "cpu", "seed": 0}
OFF_POLICY = {"buffer_size": 32, "learning_starts": 8, "batch_size": 4, "device": "cpu", "seed": 0}


def tiny(**kwargs):
    """A new dict each time: SAC and TQC write into the one they get."""
    return {"features_extractor_kwargs": {"features_dim": 8}, "net_arch": [8], **kwargs}


def image_env(n_envs=1, discrete=True, **kwargs):
    kwargs = {"screen_height": 36, "screen_width": 36, "discrete": discrete, **kwargs}
    env = make_vec_env(FakeImageEnv, n_envs, seed=0, env_kwargs=kwargs)
    for index, copy in enumerate(env.envs):
        copy.observation_space.seed(index)
    return env


def ppo(env, **kwargs):
    return PPO("CnnPolicy", env, policy_kwargs=tiny(), **{**ON_POLICY, **kwargs})


def learn(model, folder, steps, callback, formats=("tensorboard", "csv", "json", "log")):
    model.set_logger(configure(str(folder / "log"), list(formats)))
    model.learn(steps, callback=callback)
    model.logger.close()
    return EventAccumulator(str(folder / "log")).Reload()


def images_of(events):
    return {image.step: image.encoded_image_string for image in events.Images("saliency/jacobian")}


def test_ppo_writes_png_tensorboard_and_csv(tmp_path):
    model = ppo(VecFrameStack(image_env(2), 3))
    events = learn(model, tmp_path, 32, JacobianSaliencyCallback(every=8, folder=tmp_path / "png", n_channels=1))
    names = sorted(path.name for path in (tmp_path / "png").iterdir())
    assert names == ["saliency_16.png", "saliency_24.png", "saliency_32.png", "saliency_8.png"]
    assert set(images_of(events)) == {16, 32}
    assert set(events.Tags()["scalars"]) >= {"saliency/mean", "saliency/max", "train/value_loss"}
    rows = list(csv.DictReader((tmp_path / "log" / "progress.csv").open()))
    written = [float(row["saliency/max"]) for row in rows if row["saliency/max"]]
    assert len(written) == 3 and min(written) > 0
    assert "saliency/jacobian" not in rows[0]


def test_the_last_picture_is_of_the_trained_model(tmp_path):
    model = ppo(image_env(3))
    events = learn(model, tmp_path, 24, JacobianSaliencyCallback(every=1_000, n_frames=2, folder=tmp_path))
    observations = model._last_obs[:2]
    jacobian = [newest_frame(image) for image in value_jacobian(model, observations).numpy()]
    frames = [newest_frame(image) for image in observations]
    expected = contact_sheet({"newest frame": frames, "|dV/dx|, above its mean in blue": list(map(render, frames, jacobian))})
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "saliency_24.png")), expected)
    assert set(images_of(events)) == {24}
    assert events.Scalars("saliency/mean")[-1].value == pytest.approx(np.mean(jacobian))
    assert events.Scalars("saliency/max")[-1].value == pytest.approx(np.max(jacobian))
    assert events.Scalars("train/value_loss")[-1].step == 24  # the values of the last update are no longer lost


def test_another_target_method_and_style(tmp_path, monkeypatch):
    rows = {}
    monkeypatch.setattr(
        "sb3_latent.callbacks.saliency.contact_sheet", lambda r, path: rows.update(r) or contact_sheet(r, path)
    )
    model = ppo(image_env())
    callback = JacobianSaliencyCallback(target="logit/1", method="occlusion", style="signed")
    events = learn(model, tmp_path, 8, callback, ["tensorboard"])
    observation = model._last_obs[:1]
    (expected,) = saliency(model, observation, "logit/1", "occlusion", absolute=False).numpy()
    assert expected.min() < 0
    drawn = render(newest_frame(observation[0]), newest_frame(expected), "signed")
    (picture,) = rows["occlusion of logit/1, orange where positive, blue where negative"]
    np.testing.assert_array_equal(picture, drawn)
    assert [image.step for image in events.Images("saliency/occlusion")] == [8]
    assert events.Scalars("saliency/mean")[-1].value == pytest.approx(np.abs(newest_frame(expected)).mean())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "q"}, "unknown target of PPO 'q'"),
        ({"method": "jacobi"}, "unknown saliency method 'jacobi'; did you mean 'jacobian'"),
        ({"target": "logit/*"}, "explains one number"),
        ({"style": "green"}, "unknown style 'green'"),
    ],
)
def test_what_cannot_be_explained_is_refused_before_training(settings, message):
    model = ppo(image_env())
    with pytest.raises(ValueError, match=message):
        model.learn(8, callback=JacobianSaliencyCallback(**settings))
    assert model.num_timesteps == 0


def test_draws_once_per_period_whatever_the_number_of_environments(tmp_path):
    model = ppo(image_env(3))
    model.learn(48, callback=JacobianSaliencyCallback(every=8, folder=tmp_path))
    steps = sorted(int(path.stem.split("_")[1]) for path in tmp_path.iterdir())
    assert steps == [9, 18, 24, 33, 42, 48]


MODELS = {
    "SAC": lambda: SAC("CnnPolicy", image_env(discrete=False), policy_kwargs=tiny(), **OFF_POLICY),
    "TQC": lambda: TQC("CnnPolicy", image_env(discrete=False), policy_kwargs=tiny(), **OFF_POLICY),
    "DQN": lambda: DQN("CnnPolicy", image_env(), policy_kwargs=tiny(), **OFF_POLICY),
    "QRDQN": lambda: QRDQN("CnnPolicy", image_env(), policy_kwargs=tiny(), **OFF_POLICY),
    "RecurrentPPO": lambda: RecurrentPPO("CnnLstmPolicy", image_env(5), policy_kwargs=tiny(lstm_hidden_size=8), **ON_POLICY),
}


@pytest.mark.parametrize("name", MODELS)
def test_draws_for_any_algorithm(name, tmp_path):
    callback = JacobianSaliencyCallback(every=10, folder=tmp_path / "png", verbose=1)
    events = learn(MODELS[name](), tmp_path, 40, callback)
    assert {10, 20, 30, 40} <= {int(path.stem.split("_")[1]) for path in (tmp_path / "png").iterdir()}
    assert 40 in images_of(events)


def test_recurrent_model_is_drawn_in_the_state_it_acts_in(tmp_path):
    model = MODELS["RecurrentPPO"]()
    callback = JacobianSaliencyCallback(every=1_000)
    events = learn(model, tmp_path, 40, callback, ["tensorboard"])
    hidden, cell = (state[:, :4] for state in model._last_lstm_states.vf)
    starts = model._last_episode_starts[:4]
    assert hidden.abs().max() > 0 and not starts.any()
    result = value_jacobian(model, model._last_obs[:4], (hidden, cell), starts)
    assert events.Scalars("saliency/mean")[-1].value == pytest.approx(result.mean().item())
    assert result.mean().item() != pytest.approx(value_jacobian(model, model._last_obs[:4]).mean().item(), rel=1e-4)


def test_an_action_of_a_recurrent_model_is_explained_in_the_state_of_the_actor(tmp_path):
    model = MODELS["RecurrentPPO"]()
    events = learn(model, tmp_path, 40, JacobianSaliencyCallback(every=1_000, target="logit"), ["tensorboard"])
    actor, critic = (tuple(state[:, :4].contiguous() for state in memory) for memory in model._last_lstm_states)
    means = [
        saliency(model, model._last_obs[:4], "logit", lstm_states=states, episode_starts=model._last_episode_starts[:4]).mean()
        for states in (actor, critic)
    ]
    assert events.Scalars("saliency/mean")[-1].value == pytest.approx(means[0].item())
    assert means[0].item() != pytest.approx(means[1].item(), rel=1e-4)


def test_training_is_the_same_with_and_without(tmp_path):
    plain = ppo(image_env(2)).learn(32)
    watched = ppo(image_env(2)).learn(32, callback=JacobianSaliencyCallback(every=2, folder=tmp_path))
    for key, value in plain.policy.state_dict().items():
        assert th.equal(value, watched.policy.state_dict()[key]), key


class DictEnv(gym.Env):
    """Two cameras of different size and depth, and a vector."""

    observation_space = spaces.Dict(
        {
            "near": spaces.Box(0, 255, (36, 40, 3), np.uint8),
            "far": spaces.Box(0, 255, (48, 48, 1), np.uint8),
            "joints": spaces.Box(-1, 1, (4,), np.float32),
        }
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


def test_every_image_of_a_dict_is_drawn_and_vectors_are_not(tmp_path, monkeypatch):
    rows = {}
    monkeypatch.setattr(
        "sb3_latent.callbacks.saliency.contact_sheet", lambda r, path: rows.update(r) or contact_sheet(r, path)
    )
    env = VecNormalize(make_vec_env(DictEnv, 2), norm_obs_keys=["joints"])
    model = PPO("MultiInputPolicy", env, policy_kwargs={"net_arch": [8]}, **ON_POLICY)
    learn(model, tmp_path, 16, JacobianSaliencyCallback(every=10), ["tensorboard"])
    assert {title: [image.shape for image in images] for title, images in rows.items()} == {
        "far: newest frame": [(48, 48, 1)] * 2,
        "far: |dV/dx|, above its mean in blue": [(48, 48, 3)] * 2,
        "near: newest frame": [(36, 40, 3)] * 2,
        "near: |dV/dx|, above its mean in blue": [(36, 40, 3)] * 2,
    }


def test_normalised_images_are_drawn_as_the_agent_sees_them(tmp_path):
    env = VecNormalize(image_env(channel_first=True))
    model = PPO("CnnPolicy", env, policy_kwargs=tiny(normalize_images=False), **ON_POLICY)
    learn(model, tmp_path, 16, JacobianSaliencyCallback(every=10, folder=tmp_path / "png"), ["csv"])
    picture = np.asarray(Image.open(tmp_path / "png" / "saliency_16.png"))
    frame = picture[42 : 42 + 7 * 36, 16 : 16 + 7 * 36]
    assert frame.min() == 0 and frame.max() == 255


def test_a_loaded_model_is_drawn_by_the_same_callback(tmp_path):
    env = image_env()
    model = ppo(env)
    callback = JacobianSaliencyCallback(every=8, folder=tmp_path)
    model.learn(8, callback=callback)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=env, device="cpu")
    loaded.learn(8, callback=callback, reset_num_timesteps=False)
    assert callback.model is loaded
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["saliency_16.png", "saliency_8.png"]


def test_an_observation_without_an_image_is_refused_before_training():
    model = PPO("MlpPolicy", DummyVecEnv([lambda: gym.make("CartPole-v1")]), **ON_POLICY)
    with pytest.raises(ValueError, match=r"draws images, but the observation is Box\(.*leave the callback out"):
        model.learn(8, callback=JacobianSaliencyCallback())
    assert model.num_timesteps == 0


@pytest.mark.parametrize("settings", [{"every": 0}, {"n_frames": 0}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match="=0 must be an integer of at least 1"):
        JacobianSaliencyCallback(**settings)


def test_channels_are_checked_before_training():
    model = ppo(image_env())
    with pytest.raises(ValueError, match="n_channels=3 must be 1"):
        model.learn(8, callback=JacobianSaliencyCallback(n_channels=3))
    assert model.num_timesteps == 0
