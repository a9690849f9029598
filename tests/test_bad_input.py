"""What cannot work is refused when the extractor is built, or at its first batch, in one line that says what to do."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.envs import FakeImageEnv

from sb3_latent import LatentExtractor, latent_kwargs

GREY = spaces.Box(0, 255, (4, 36, 36), np.uint8)
VECTOR = spaces.Box(-1, 1, (6,), np.float32)
DICT = spaces.Dict(camera=GREY, speed=VECTOR)
VAE = {"head": "gaussian", "tasks": {"recon": {}, "kl": {}}}


def image(low, high, shape=(1, 36, 36), dtype=np.float32):
    return spaces.Box(low, high, shape, dtype)


def refusal(error, space=GREY, **settings):
    with pytest.raises(error) as raised:
        LatentExtractor(space, **{"latent_dim": 4, **settings})
    message = str(raised.value)
    assert "\n" not in message and len(message) < 400
    return message


def one_bound_off():
    high = np.full((1, 36, 36), 255, np.uint8)
    high[0, 3, 3] = 254
    return spaces.Box(np.zeros_like(high), high, dtype=np.uint8)


@pytest.mark.parametrize(
    ("space", "parts"),
    [
        (image(0, 255), ["float image", "[0, 255]", "uint8", "Box(0, 1, shape, np.float32)"]),
        (image(-1, 1), ["float image", "[-1, 1]"]),
        (image(-np.inf, np.inf), ["float image", "[-inf, inf]", "VecNormalize: norm_obs=False"]),
        (image(0, 254, dtype=np.uint8), ["uint8 image", "[0, 254]", "Box(0, 255, shape, np.uint8)"]),
        (image(1, 255, dtype=np.uint8), ["uint8 image", "[1, 255]"]),
        (one_bound_off(), ["uint8 image", "every bound"]),
        (image(0, 255, dtype=np.int32), ["dtype int32", "uint8 with bounds 0 and 255"]),
        (image(0, 255, (13, 36, 36), np.uint8), ["(13, 36, 36)", "1 to 12 channels", "stack fewer frames"]),
        (image(0, 255, (36, 36, 16), np.uint8), ["(36, 36, 16)", "1 to 12 channels"]),
        (image(0, 255, (1, 31, 64), np.uint8), ["31x64", "at least 32x32", "trunk='mlp'"]),
        (image(0, 255, (64, 20, 3), np.uint8), ["64x20", "at least 32x32"]),
        (image(0, 255, (2, 4, 36, 36), np.uint8), ["(2, 4, 36, 36)", "3 axes", "VecFrameStack"]),
        (image(0, 255, (36, 36), np.uint8), ["(36, 36)", "3 axes"]),
        (image(0, 1, ()), ["()", "3 axes"]),
    ],
)
@pytest.mark.parametrize("key", [None, "camera"])
def test_observations_that_cannot_be_encoded(space, parts, key):
    message = refusal(ValueError, space if key is None else spaces.Dict(camera=space, speed=VECTOR))
    assert all(part in message for part in parts)
    assert repr(key or "observation") in message or "trunk 'nature'" in message


@pytest.mark.parametrize(
    ("channels", "n_frames", "parts"),
    [
        (4, 3, ["n_frames=3", "does not divide the 4", "divisor"]),
        (4, 0, ["n_frames=0"]),
        (4, -2, ["n_frames=-2"]),
        (4, 8, ["n_frames=8"]),
        (3, None, ["3 channels may be 1 colour or 3 grey frames", "n_frames=1", "n_frames=3"]),
        (6, None, ["6 channels may be 2 colour or 6 grey frames", "n_frames=2", "n_frames=6"]),
        (12, None, ["12 channels", "n_frames=4", "n_frames=12"]),
    ],
)
def test_frame_stacks_that_cannot_be_told_apart(channels, n_frames, parts):
    space = image(0, 255, (channels, 36, 36), np.uint8)
    message = refusal(ValueError, space, per_frame=True, n_frames=n_frames)
    assert all(part in message for part in parts)


def test_n_frames_without_per_frame():
    assert "per_frame=True" in refusal(ValueError, n_frames=4)
    assert "does not divide the 6" in refusal(ValueError, VECTOR, per_frame=True, n_frames=4)


@pytest.mark.parametrize(
    ("space", "settings", "parts"),
    [
        (GREY, {"latent_dim": 513}, ["latent_dim=513", "512 features"]),
        (VECTOR, {"latent_dim": 257}, ["latent_dim=257", "256 features"]),
        (GREY, {"latent_dim": 17, "trunk_kwargs": {"hidden_dim": 16}}, ["latent_dim=17", "16 features"]),
        (GREY, {"latent_dim": 0}, ["latent_dim=0", "at least 1"]),
        (GREY, {"latent_dim": 4.0}, ["latent_dim=4.0", "integer"]),
        (GREY, {"latent_dim": "4"}, ["latent_dim='4'", "integer"]),
        (VECTOR, {"trunk": "nature"}, ["trunk 'nature' needs an image", "trunk='mlp'"]),
        (GREY, {"tasks": {"kl": {}}}, ["task 'kl'", "head='gaussian'"]),
        (GREY, {"head": "identity", "tasks": {"kl": {}}}, ["task 'kl'", "head='gaussian'"]),
        (VECTOR, {"tasks": {"recon": {"loss": "bernoulli"}}}, ["'bernoulli'", "is a vector", "'gaussian'"]),
        (DICT, {"tasks": {"recon": {"loss": "bernoulli"}}}, ["'bernoulli'", "'speed'", "is a vector"]),
        (GREY, {"tasks": {"recon": {"loss": "bernouli"}}}, ["'bernouli'", "did you mean 'bernoulli'", "squared_error"]),
        (GREY, {"tasks": {"recon": {"loss": "gaussian", "std": 0}}}, ["std=0", "positive"]),
        (GREY, {"head": "gaussian", "tasks": {"kl": {"free_bits": -1}}}, ["free_bits=-1"]),
        (GREY, {"trunk": "impalla"}, ["trunk 'impalla'", "did you mean 'impala'", "seed84"]),
        (GREY, {"head": "determinist"}, ["head 'determinist'", "did you mean 'deterministic'", "gaussian"]),
        (GREY, {"tasks": {"recno": {}}}, ["task 'recno'", "did you mean 'recon'", "latent_l2"]),
        (GREY, {"gradient_mode": "own"}, ["gradient_mode 'own'", "own_optimizer"]),
        (GREY, {"coefs": {"recon": 1.0}}, ["coefficient 'recon'", "none"]),
        (GREY, {**VAE, "coefs": {"recon/camera": 1.0}}, ["coefficient 'recon/camera'", "'recon'"]),
        (DICT, {**VAE, "coefs": {"recon/camra": 1.0}}, ["'recon/camra'", "did you mean 'recon/camera'", "kl/speed"]),
        (DICT, {**VAE, "exclude": ["speed"], "coefs": {"kl/speed": 1.0}}, ["'kl/speed'", "kl/camera"]),
        (DICT, {**VAE, "include": ["camra"]}, ["key 'camra'", "did you mean 'camera'", "'speed'"]),
        (DICT, {**VAE, "exclude": ["sped"]}, ["key 'sped'", "did you mean 'speed'", "'camera'"]),
        (GREY, {"auxiliary_optimizer_kwargs": {"lr": 1e-3}}, ["auxiliary_optimizer_kwargs", "gradient_mode='own_optimizer'"]),
    ],
)
def test_settings_that_do_not_go_together(space, settings, parts):
    message = refusal(ValueError, space, **settings)
    assert all(part in message for part in parts)


def with_weight(name, value):
    return {**VAE, "coefs": {"kl": value}} if name == "coefs['kl']" else {**VAE, name: value}


@pytest.mark.parametrize("value", [True, "1", "fast", None, [1.0], 1j], ids=str)
@pytest.mark.parametrize("name", ["kappa", "beta", "coefs['kl']"])
def test_weights_that_are_no_numbers(name, value):
    message = refusal(TypeError, **with_weight(name, value))
    assert f"{name}={value!r}" in message and "number" in message


@pytest.mark.parametrize("value", [True, "a lot", None], ids=str)
@pytest.mark.parametrize("name", ["kappa", "coefs['kl']"])
def test_schedules_that_return_no_numbers(name, value):
    message = refusal(TypeError, **with_weight(name, lambda left: value))
    assert name in message and repr(value) in message and "number" in message


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("-inf"), float("nan")], ids=str)
@pytest.mark.parametrize("name", ["kappa", "beta", "coefs['kl']"])
def test_weights_that_no_loss_can_have(name, value):
    assert f"{name}={value} must be finite and not negative" in refusal(ValueError, **with_weight(name, value))


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")], ids=str)
@pytest.mark.parametrize("name", ["kappa", "coefs['kl']"])
def test_schedules_that_return_what_no_loss_can_have(name, value):
    message = refusal(ValueError, **with_weight(name, lambda left: value))
    assert f"{name}={value} must be finite and not negative" in message


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.int64(1), 1])
def test_numbers_of_numpy_are_numbers(value):
    extractor = LatentExtractor(GREY, **VAE, coefs={"kl": value, "recon": lambda left: value}, kappa=value)
    assert extractor.tasks.coefs == {"kl": float(value), "recon": float(value)}


def test_a_schedule_that_goes_wrong_later_is_told_then():
    extractor = LatentExtractor(GREY, **VAE, coefs={"kl": lambda left: left - 0.5}, kappa=lambda left: 1.0 if left else "x")
    with pytest.raises(ValueError, match=r"coefs\['kl'\]=-0.25 must be finite and not negative"):
        extractor.set_progress_remaining(0.25)
    extractor = LatentExtractor(GREY, kappa=lambda left: 1.0 if left else "x")
    with pytest.raises(TypeError, match="kappa"):
        extractor.set_progress_remaining(0.0)


@pytest.mark.parametrize("tasks", [["recon"], {"recon": "bernoulli"}], ids=str)
def test_tasks_that_are_no_names_with_arguments(tasks):
    message = refusal(TypeError, tasks=tasks)
    assert "recon" in message and (repr(tasks) in message or "'bernoulli'" in message)


def test_beta_is_a_number_and_no_schedule():
    assert "beta" in refusal(TypeError, **VAE, beta=lambda left: 4.0)


@pytest.mark.parametrize("tasks", [{}, {"latent_l2": {}}])
def test_decoding_without_a_decoder(tasks):
    extractor = LatentExtractor(GREY, latent_dim=4, tasks=tasks)
    with pytest.raises(ValueError, match=r"no task reconstructs .*use a preset with 'recon', e.g. 'vae'"):
        extractor.decode(th.zeros(1, 4))


# ---------------------------------------------------------------------- the first batch


@pytest.mark.parametrize("value", [-0.5, 1.5, 255.0, float("nan")])
def test_pixels_outside_0_and_1(value):
    extractor = LatentExtractor(DICT, latent_dim=4)
    observations = {"camera": th.rand(2, 4, 36, 36), "speed": 100 * th.randn(2, 6)}
    observations["camera"][0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"'camera': pixels .* in \[0, 1\].*normalize_images=True"):
        extractor.encode(observations)


def test_a_refused_batch_is_refused_again():
    extractor = LatentExtractor(GREY, latent_dim=4)
    for _ in range(2):
        with pytest.raises(ValueError, match="pixels"):
            extractor.encode(th.full((1, 4, 36, 36), 255.0))


def test_a_black_first_frame_does_not_hide_unscaled_pixels():
    extractor = LatentExtractor(GREY, latent_dim=4)
    extractor.encode(th.zeros(1, 4, 36, 36))
    with pytest.raises(ValueError, match="pixels"):
        extractor.encode(th.full((1, 4, 36, 36), 255.0))


@pytest.mark.parametrize("shape", [(2, 36, 36, 4), (4, 2, 36, 36), (2, 4, 36, 18), (4, 36, 36)])
def test_a_batch_of_other_shape_is_refused_rather_than_rearranged(shape):
    with pytest.raises(ValueError, match=r"\(4, 36, 36\)"):
        LatentExtractor(GREY, latent_dim=4).encode(th.rand(shape))


def test_unscaled_images_stop_ppo_at_its_first_step():
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1)
    policy_kwargs = {**latent_kwargs("vae", latent_dim=4), "normalize_images": False}
    model = PPO("CnnPolicy", env, n_steps=4, batch_size=4, policy_kwargs=policy_kwargs)
    with pytest.raises(ValueError, match=r"pixels reach \[0, 2\d\d\].*normalize_images=True"):
        model.learn(4)
    assert model.num_timesteps == 0
