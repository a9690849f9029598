"""The reconstruction callback: which pixels it draws, where they go, and that drawing changes nothing."""

import csv
import io

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from algorithms import NoiseImageEnv, control, make_model, tiny
from gymnasium import spaces
from PIL import Image
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_latent import latent_kwargs
from sb3_latent.callbacks import LatentMetricsCallback, ReconstructionCallback
from sb3_latent.figures import contact_sheet
from sb3_latent.models import get_extractor

SETTINGS = {"n_steps": 16, "batch_size": 8, "n_epochs": 1, "seed": 0, "device": "cpu"}


class ImageEnv(NoiseImageEnv):
    """:param shape: of the image, channels first or last."""

    def __init__(self, shape):
        super().__init__()
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)


def model_on(shape, preset="vae", **settings):
    return make_model("PPO", tiny(preset, **settings), env=ImageEnv(shape))


def learn(model, n_timesteps, folder, callback, formats=("csv", "tensorboard", "stdout", "log", "json")):
    model.set_logger(configure(str(folder), list(formats)))
    model.learn(n_timesteps, callback=callback)
    model.logger.close()
    return EventAccumulator(str(folder)).Reload()


@pytest.fixture
def sheets(monkeypatch):
    """The rows of every sheet that is drawn."""
    drawn = []

    def spy(rows, path=None):
        drawn.append(rows)
        return contact_sheet(rows, path)

    monkeypatch.setattr("sb3_latent.callbacks.reconstruction.contact_sheet", spy)
    return drawn


class KeepRollout(BaseCallback):
    """The observations of the latest rollout, as its buffer holds them."""

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        buffer = self.model.rollout_buffer
        self.observations = buffer.observations.reshape(-1, *buffer.obs_shape)


CASES = {
    "grey": ((1, 12, 12), {}, slice(0, 1)),
    "grey stack": ((4, 12, 14), {}, slice(3, 4)),
    "RGB": ((3, 12, 12), {}, slice(0, 3)),
    "RGB stack": ((6, 12, 12), {}, slice(3, 6)),
    "channels last": ((12, 12, 4), {}, slice(3, 4)),
    "grey frames": ((3, 12, 12), {"per_frame": True, "n_frames": 3}, slice(2, 3)),
    "RGB frames": ((6, 12, 12), {"per_frame": True, "n_frames": 2}, slice(3, 6)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_newest_frame_is_drawn_over_its_reconstruction(name, tmp_path, sheets):
    shape, settings, newest = CASES[name]
    model, rollout = model_on(shape, **settings), KeepRollout()
    learn(model, 16, tmp_path, [rollout, ReconstructionCallback(n_images=3)], ["csv"])
    observations = rollout.observations[[0, 7, 15]]
    inputs = th.as_tensor(observations).float() / 255
    with th.no_grad():
        reconstruction = get_extractor(model).decode(get_extractor(model).encode(inputs).mean)
    drawn = np.rint(255 * reconstruction.clamp(0, 1).numpy().astype(np.float64))
    (rows,) = sheets
    assert list(rows) == ["newest frame", "reconstruction"]
    np.testing.assert_array_equal(np.stack(rows["newest frame"]), np.moveaxis(observations[:, newest], 1, -1))
    np.testing.assert_allclose(np.stack(rows["reconstruction"]), np.moveaxis(drawn[:, newest], 1, -1), atol=1)


def test_sheets_go_to_tensorboard_and_png_and_only_numbers_to_text(tmp_path):
    model = model_on((1, 12, 12))
    events = learn(model, 64, tmp_path, ReconstructionCallback(every=32, n_images=2, folder=tmp_path / "png"))
    names = sorted(path.name for path in (tmp_path / "png").iterdir())
    assert names == ["reconstruction_32.png", "reconstruction_64.png"]
    images = {image.step: image.encoded_image_string for image in events.Images("reconstruction/images")}
    last = np.asarray(Image.open(io.BytesIO(images[64])))
    np.testing.assert_array_equal(last, np.asarray(Image.open(tmp_path / "png" / "reconstruction_64.png")))
    rows = list(csv.DictReader((tmp_path / "progress.csv").open()))
    assert "reconstruction/images" not in rows[0]
    errors = [float(row["reconstruction/mse"]) for row in rows if row["reconstruction/mse"]]
    assert len(errors) == 2 and all(0 < error < 1 for error in errors)


def test_the_error_is_that_of_the_images_drawn(tmp_path):
    model, rollout = model_on((4, 12, 12)), KeepRollout()
    events = learn(model, 16, tmp_path, [rollout, ReconstructionCallback(n_images=16)], ["tensorboard"])
    inputs = th.as_tensor(rollout.observations).float() / 255
    with th.no_grad():
        difference = get_extractor(model).decode(get_extractor(model).encode(inputs).mean) - inputs
    (error,) = events.Scalars("reconstruction/mse")
    assert error.value == pytest.approx(difference.square().mean().item(), rel=1e-5)


def test_a_perfect_decoder_draws_what_it_saw(tmp_path, sheets):
    model = model_on((1, 12, 12))
    extractor = get_extractor(model)
    seen = {}
    encode = extractor.encode
    extractor.encode = lambda observations: seen.update(images=observations) or encode(observations)
    extractor.decode = lambda z: seen.get("images", th.zeros(1, 1, 12, 12))
    events = learn(model, 16, tmp_path, ReconstructionCallback(), ["tensorboard"])
    np.testing.assert_array_equal(sheets[0]["newest frame"], sheets[0]["reconstruction"])
    assert events.Scalars("reconstruction/mse")[0].value == 0


class Cameras(gym.Env):
    """Two cameras of different depth, and a vector."""

    observation_space = spaces.Dict(
        {
            "near": spaces.Box(0, 255, (3, 12, 12), np.uint8),
            "far": spaces.Box(0, 255, (1, 14, 14), np.uint8),
            "joints": spaces.Box(-1, 1, (4,), np.float32),
        }
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.mark.parametrize("exclude, cameras", [((), {"near", "far"}), (("far", "joints"), {"near"})])
def test_every_image_with_a_decoder_is_drawn(exclude, cameras, tmp_path, sheets):
    kwargs = {**tiny("vae", exclude=exclude), "net_arch": [4]}
    model = PPO("MultiInputPolicy", Cameras(), policy_kwargs=kwargs, **SETTINGS)
    events = learn(model, 16, tmp_path, ReconstructionCallback(n_images=2))
    shapes = {"near": (12, 12, 3), "far": (14, 14, 1)}
    titles = {f"{name}: {part}": shapes[name] for name in cameras for part in ("newest frame", "reconstruction")}
    assert {title: {image.shape for image in images} for title, images in sheets[0].items()} == {
        title: {shape} for title, shape in titles.items()
    }
    assert {f"reconstruction/mse/{name}" for name in cameras} <= set(events.Tags()["scalars"])


@pytest.mark.parametrize("name", ["DQN", "SAC"])
def test_off_policy_models_are_drawn_from_their_replay(name, tmp_path, sheets):
    callback = ReconstructionCallback(every=4, n_images=2, verbose=1)
    learn(make_model(name, tiny("ae")), 20, tmp_path, callback, ["csv"])
    assert len(sheets) >= 2
    assert all(len(images) == 2 for rows in sheets for images in rows.values())


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_training_is_the_same_with_and_without(name):
    plain = make_model(name, tiny("vae")).learn(32)
    drawn = make_model(name, tiny("vae")).learn(32, callback=ReconstructionCallback(every=8, n_images=2))
    for key, value in plain.policy.named_parameters():
        assert th.equal(value, drawn.policy.get_parameter(key)), key


def test_no_row_of_the_log_is_empty_beside_other_callbacks(tmp_path):
    callbacks = [LatentMetricsCallback(), ReconstructionCallback(n_images=1)]
    learn(model_on((1, 12, 12)), 32, tmp_path, callbacks)
    rows = list(csv.reader((tmp_path / "progress.csv").open()))
    assert all(any(row) for row in rows)


def test_files_are_announced(tmp_path, capsys):
    model_on((1, 12, 12)).learn(16, callback=ReconstructionCallback(n_images=1, folder=tmp_path, verbose=1))
    assert f"Reconstructions written to {tmp_path / 'reconstruction_16.png'}" in capsys.readouterr().out


def test_a_preset_without_decoder_is_refused_before_training():
    model = make_model("PPO", control("vae"))
    with pytest.raises(ValueError, match=r"no task reconstructs .*use a preset with 'recon'"):
        model.learn(16, callback=ReconstructionCallback())
    assert model.num_timesteps == 0


def test_vectors_are_refused_before_training():
    kwargs = {**latent_kwargs("ae", latent_dim=2), "net_arch": [4]}
    model = PPO("MlpPolicy", gym.make("CartPole-v1"), policy_kwargs=kwargs, **SETTINGS)
    with pytest.raises(ValueError, match="draws images, but only vectors are reconstructed"):
        model.learn(16, callback=ReconstructionCallback())
    assert model.num_timesteps == 0


def test_channels_that_do_not_fit_are_refused_before_training():
    model = model_on((4, 12, 12))
    with pytest.raises(ValueError, match="n_channels=3 must be 1"):
        model.learn(16, callback=ReconstructionCallback(n_channels=3))
    assert model.num_timesteps == 0


@pytest.mark.parametrize("settings", [{"every": 0}, {"n_images": 0}, {"n_images": 2.5}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match="must be an integer of at least 1"):
        ReconstructionCallback(**settings)
