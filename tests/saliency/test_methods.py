"""Every method against closed forms, slow versions and hand formulas; and what all methods have in common."""

import subprocess
import sys

import numpy as np
import pytest
import torch as th
from algorithms import NoiseImageEnv
from gymnasium import spaces
from saliency.models import BATCH, CASES, IMAGE, VECTOR, Idle, ReluCnn, images, linear_model, make_model, mix_flags_and_grads
from scipy.ndimage import gaussian_filter
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from unchanged import assert_unchanged, snapshot

from sb3_latent import HistoryWrapper, SequenceReplayBuffer, SLACPolicy, latent_kwargs
from sb3_latent.saliency import METHODS, saliency, value_jacobian

ALL = METHODS.names()
GRADIENTS = ["guided_backprop", "integrated_gradients", "jacobian", "smoothgrad"]
QUICK = {"smoothgrad": {"n_samples": 3, "noise": 0.0}, "integrated_gradients": {"n_steps": 5}, "perturbation": {"stride": 12}}
SMALL = spaces.Box(0, 255, (2, 9, 7), np.uint8)


def test_the_methods_have_these_names():
    assert ALL == ["guided_backprop", "integrated_gradients", "jacobian", "occlusion", "perturbation", "smoothgrad"]


# ---------------------------------------------------------------------- a linear value


def test_gradients_of_a_linear_value_are_its_weights():
    model, weights = linear_model(SMALL)
    x = images(space=SMALL)
    expected = weights.expand(BATCH, *weights.shape)
    for method in ("jacobian", "smoothgrad"):
        th.testing.assert_close(saliency(model, x, method=method, absolute=False), expected, rtol=1e-4, atol=1e-9)
        th.testing.assert_close(saliency(model, x, method=method), expected.abs(), rtol=1e-4, atol=1e-9)
    squared = saliency(model, x, method="smoothgrad", method_kwargs={"squared": True})
    th.testing.assert_close(squared, expected.square(), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("baseline", [0.0, 100.0])
def test_integrated_gradients_of_a_linear_value(baseline):
    model, weights = linear_model(SMALL)
    x = images(space=SMALL)
    result = saliency(model, x, method="integrated_gradients", absolute=False, method_kwargs={"baseline": baseline})
    th.testing.assert_close(result, weights * (th.as_tensor(x).float() - baseline), rtol=1e-4, atol=1e-6)
    assert result.dtype == th.float32


@pytest.mark.parametrize("baseline", [0.0, 30.0])
def test_occlusion_of_a_linear_value(baseline):
    model, weights = linear_model(SMALL)
    x = images(space=SMALL)
    lost = (weights * (th.as_tensor(x).float() - baseline)).numpy()
    total, count = np.zeros(lost.shape), np.zeros(lost.shape)
    for frame in range(2):
        for top in [0, 2, 4, 6]:  # the last patch is the first that reaches the border
            for left in [0, 2, 4]:
                window = np.s_[:, frame, top : top + 3, left : left + 3]
                total[window] += lost[window].sum((1, 2), keepdims=True)
                count[window] += 1
    kwargs = {"patch": 3, "stride": 2, "baseline": baseline}
    result = saliency(model, x, method="occlusion", absolute=False, method_kwargs=kwargs)
    np.testing.assert_allclose(result.numpy(), total / count, rtol=1e-3, atol=1e-6)


def test_occlusion_of_vectors_covers_one_entry_at_a_time():
    model, weights = linear_model(VECTOR)
    x = np.random.default_rng(0).uniform(-1, 1, (BATCH, 5)).astype(np.float32)
    expected = weights * th.as_tensor(x)
    result = saliency(model, x, method="occlusion", absolute=False)
    th.testing.assert_close(result, expected, rtol=1e-3, atol=1e-6)


def spot(row, column, shape, sigma):
    """The authors' mask: a disc of radius 1, blurred, its largest value 1."""
    disc = np.zeros(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            disc[i, j] = (i - row) ** 2 + (j - column) ** 2 <= 1
    blurred = gaussian_filter(disc, sigma=sigma)
    return blurred / blurred.max()


@pytest.mark.parametrize("kwargs", [{}, {"mask_sigma": 2.0, "blur_sigma": 1.0}])
def test_perturbation_of_a_linear_value(kwargs):
    space = spaces.Box(0, 255, (2, 11, 16), np.uint8)  # the grid of stride 5 fits it
    model, weights = linear_model(space)
    x = images(space=space)
    result = saliency(model, x, method="perturbation", method_kwargs=kwargs).numpy()
    for batch, frame in np.ndindex(BATCH, 2):
        image = x[batch, frame].astype(float)
        change = gaussian_filter(image, sigma=kwargs.get("blur_sigma", 3)) - image
        for row, column in np.ndindex(3, 4):
            mask = spot(5 * row, 5 * column, (11, 16), kwargs.get("mask_sigma", 5))
            score = 0.5 * (weights[frame].numpy() * mask * change).sum() ** 2
            assert result[batch, frame, 5 * row, 5 * column] == pytest.approx(score, rel=1e-2, abs=1e-6)
    between = result[:, :, 0, 0] * 0.4 + result[:, :, 0, 5] * 0.6
    np.testing.assert_allclose(result[:, :, 0, 3], between, rtol=1e-4)


# ---------------------------------------------------------------------- each method


class Squares(BaseFeaturesExtractor):
    """The sum of x^2 / 2, whose gradient is x."""

    def __init__(self, observation_space):
        super().__init__(observation_space, 1)

    def forward(self, observations):
        return observations.square().flatten(1).sum(1, keepdim=True) / 2


def test_smoothgrad_adds_noise_of_a_share_of_each_rows_range():
    space = spaces.Box(-100, 100, (4000,), np.float32)
    model = PPO("MlpPolicy", Idle(space, True), policy_kwargs={"features_extractor_class": Squares}, device="cpu")
    x = np.zeros((3, 4000), np.float32)
    x[0, :2], x[1, :2], x[2] = (-0.1, 0.1), (-30, 10), 7
    kwargs = {"n_samples": 30, "noise": 0.1, "squared": True}
    noise = (saliency(model, x, "latent/0", "smoothgrad", method_kwargs=kwargs)[:, 2:].mean(1)).sqrt()
    assert noise[0].item() == pytest.approx(0.1 * 0.2, rel=0.02)
    assert noise[1].item() == pytest.approx(0.1 * 40, rel=0.02)
    assert noise[2].item() == pytest.approx(7, rel=1e-4)  # a constant has no range, and keeps its gradient


def test_smoothgrad_is_seeded():
    model = make_model(CASES["PPO"])

    def run(seed):
        return saliency(model, images(), method="smoothgrad", method_kwargs={"seed": seed})

    first = run(1)
    th.rand(3)
    th.testing.assert_close(run(1), first, rtol=0, atol=0)
    assert not th.equal(run(2), first)


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_integrated_gradients_are_complete(name):
    model = make_model(CASES[name])
    x = images()
    result = saliency(model, x, method="integrated_gradients", absolute=False)
    values = [value(model, pixels) for pixels in (x, np.zeros_like(x))]
    th.testing.assert_close(result.flatten(1).sum(1), values[0] - values[1], rtol=1e-2, atol=1e-4)


def value(model, x):
    policy = model.policy
    policy.set_training_mode(False)
    with th.no_grad():
        observations = policy.obs_to_tensor(x)[0]
        if isinstance(model, PPO):
            return policy.predict_values(observations).squeeze(1)
        return th.cat(policy.critic(observations, policy.actor(observations, deterministic=True)), 1).amin(1)


def test_guided_backprop_by_hand():
    kwargs = {"net_arch": [16, 8], "activation_fn": nn.ReLU}
    model = PPO("MlpPolicy", Idle(VECTOR, True), policy_kwargs=kwargs, device="cpu", seed=2)
    x = np.random.default_rng(0).uniform(-1, 1, (BATCH, 5)).astype(np.float32)
    first, _, second, _ = model.policy.mlp_extractor.value_net
    with th.no_grad():
        below = first(th.as_tensor(x))
        above = second(below.relu())
        signal = model.policy.value_net.weight.expand(BATCH, -1)
        signal = (signal * (above > 0)).relu() @ second.weight
        signal = (signal * (below > 0)).relu() @ first.weight
    result = saliency(model, x, method="guided_backprop", absolute=False)
    th.testing.assert_close(result, signal, rtol=1e-4, atol=1e-7)
    assert not th.allclose(result, saliency(model, x, absolute=False))


def test_guided_backprop_without_a_relu_would_be_the_plain_gradient():
    with pytest.raises(ValueError, match=r"guides nn.ReLU modules, and ActorCriticPolicy has none; take method='jacobian'"):
        saliency(make_model(CASES["PPO"]), images(), method="guided_backprop")


def test_perturbation_of_a_vector_is_the_sum_over_its_entries():
    model = make_model(CASES["PPO"])
    whole = saliency(model, images(), "logit/*", "perturbation")
    parts = sum(saliency(model, images(), f"logit/{i}", "perturbation") for i in range(3))
    th.testing.assert_close(whole, parts, rtol=1e-3, atol=1e-9)
    assert whole.flatten(1).amax(1).min() > 0


def test_perturbation_needs_images():
    x = np.zeros((1, 5), np.float32)
    with pytest.raises(ValueError, match="perturbation blurs images, but the observation is Box"):
        saliency(linear_model(VECTOR)[0], x, method="perturbation")


# ---------------------------------------------------------------------- all methods


def relu_model(name, **policy_kwargs):
    return make_model(CASES[name], features_extractor_class=ReluCnn, activation_fn=nn.ReLU, **policy_kwargs)


class OnePatch(BaseFeaturesExtractor):
    """Looks at how bright 8x8 pixels of the newest frame are, from row 16 and column 8."""

    def __init__(self, observation_space):
        super().__init__(observation_space, 6)
        self.net = nn.Sequential(nn.Linear(1, 6), nn.ReLU())

    def forward(self, observations):
        return self.net(observations[:, -1, 16:24, 8:16].mean(dim=(1, 2)).unsqueeze(1))


@pytest.mark.parametrize("name", ["PPO", "DQN", "SAC"])
@pytest.mark.parametrize("method", ALL)
def test_every_method_finds_the_one_patch_that_counts(method, name):
    space = spaces.Box(0, 255, (2, 40, 40), np.uint8)
    model = make_model(CASES[name], space, features_extractor_class=OnePatch, activation_fn=nn.ReLU)
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.abs_()  # brighter is better, for all layers
    result = saliency(model, images(space=space), method=method)
    patches = result.reshape(BATCH, 2, 5, 8, 5, 8).mean(dim=(3, 5)).flatten(1)
    assert patches.argmax(1).tolist() == [1 * 25 + 2 * 5 + 1] * BATCH
    if method in GRADIENTS:
        outside = patches.clone()
        outside[:, 36] = 0
        assert outside.max() == 0 < patches[:, 36].min()


@pytest.mark.parametrize("name", ["PPO", "RecurrentPPO", "QRDQN", "SAC", "TD3", "CrossQ"])
@pytest.mark.parametrize("method", ALL)
def test_no_method_changes_the_model(method, name):
    model = relu_model(name)
    mix_flags_and_grads(model)
    next(model.policy.parameters()).requires_grad_(False)
    before = snapshot(model)
    x = images()
    for target in ("value", "logit" if "PPO" in name else "q"):
        saliency(model, x, target, method, method_kwargs=QUICK.get(method))
    assert_unchanged(model, before)
    np.testing.assert_array_equal(x, images())


@pytest.mark.parametrize("method", ALL)
def test_a_failing_model_is_left_as_it_was(method):
    model = relu_model("PPO")
    before = snapshot(model)

    def fail(module, inputs, output):
        raise RuntimeError("broken on purpose")

    handle = model.policy.value_net.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        saliency(model, images(), method=method)
    handle.remove()
    assert_unchanged(model, before)


SITUATIONS = {
    "RecurrentPPO": ("logit/1", {"lstm_states": True, "episode_starts": np.array([False, True, False])}),
    "DQN": ("q", {"actions": np.array([2, 0, 1])}),
    "SAC": ("q", {"actions": np.array([[-1.0, 2.0], [0.0, 0.0], [2.0, 1.0]], np.float32)}),
    "MaskablePPO": ("log_prob", {"actions": np.array([0, 1, 2]), "action_masks": ~np.eye(3, dtype=bool)[[1, 2, 0]]}),
}


@pytest.mark.parametrize("name", SITUATIONS)
@pytest.mark.parametrize("method", ALL)
def test_every_row_keeps_its_own_situation(method, name):
    """What a method repeats to fill its batches must not mix up actions and LSTM states: one row alone gives the same map."""
    model, x = relu_model(name), images()
    target, situation = SITUATIONS[name]
    situation = dict(situation)
    if "lstm_states" in situation:
        situation["lstm_states"] = tuple(th.randn(2, 1, BATCH, 7) * 3)

    def ask(rows, **given):
        return saliency(model, x[rows], target, method, method_kwargs=QUICK.get(method), **given)

    together = ask(slice(None), **situation)
    for i in range(BATCH):
        row = slice(i, i + 1)
        own = {key: part[row] for key, part in situation.items() if key != "lstm_states"}
        if "lstm_states" in situation:
            own["lstm_states"] = tuple(state[:, row] for state in situation["lstm_states"])
        th.testing.assert_close(together[row], ask(row, **own), rtol=2e-3, atol=2e-6 * together.max().item() + 1e-12)


class Everything(BaseFeaturesExtractor):
    def __init__(self, observation_space):
        super().__init__(observation_space, 9)
        self.image = ReluCnn(observation_space["image"])
        self.vector, self.mode = nn.Linear(5, 2), nn.Linear(3, 1)

    def forward(self, observations):
        parts = [self.image(observations["image"]), self.vector(observations["vector"]).relu()]
        return th.cat([*parts, self.mode(observations["mode"])], 1)


@pytest.mark.parametrize("method", ALL)
def test_dict_observations(method):
    space = spaces.Dict({"image": IMAGE, "mode": spaces.Discrete(3), "unread": VECTOR, "vector": VECTOR})
    rng = np.random.default_rng(0)
    observations = {
        "image": images(),
        "mode": np.array([[0], [1], [2]]),
        "unread": rng.uniform(-1, 1, (BATCH, 5)).astype(np.float32),
        "vector": rng.uniform(-1, 1, (BATCH, 5)).astype(np.float32),
    }
    model = PPO(
        "MultiInputPolicy", Idle(space, True), policy_kwargs={"features_extractor_class": Everything}, device="cpu", seed=1
    )
    result = saliency(model, observations, method=method, method_kwargs=QUICK.get(method))
    expected = {"image"} if method == "perturbation" else {"image", "unread", "vector"}
    assert set(result) == expected
    assert all(result[key].shape == observations[key].shape for key in expected)
    for i in range(BATCH):
        row = {key: array[i : i + 1] for key, array in observations.items()}
        alone = saliency(model, row, method=method, method_kwargs=QUICK.get(method))
        for key in expected:
            th.testing.assert_close(result[key][i : i + 1], alone[key], rtol=2e-3, atol=1e-6)
    if "unread" in expected:
        assert result["unread"].max() < 1e-6 < result["vector"].max()


@pytest.mark.parametrize("method", ALL)
def test_the_newest_frame_only(method):
    smooth = method == "integrated_gradients"
    model, x = make_model(CASES["PPO"]) if smooth else relu_model("PPO"), images()
    newest = saliency(model, x, method=method, frames="newest", absolute=False)
    assert newest.shape == x.shape and newest[:, 0].abs().max() == 0 < newest[:, 1].abs().amax(dim=(1, 2)).min()
    if smooth:  # the line to the baseline leaves the older frame as it is
        baseline = x.copy()
        baseline[:, 1] = 0
        difference = value(model, x) - value(model, baseline)
        th.testing.assert_close(newest.flatten(1).sum(1), difference, rtol=1e-2, atol=1e-4)
    elif method != "smoothgrad":  # whose noise reaches fewer pixels
        every = saliency(model, x, method=method, absolute=False)
        th.testing.assert_close(newest[:, 1], every[:, 1], rtol=1e-3, atol=1e-6 * every.abs().max().item() + 1e-12)


@pytest.mark.parametrize("method", ["jacobian", "occlusion", "perturbation"])
def test_channels_last_and_colour_frames(method):
    space = spaces.Box(0.0, 1.0, (12, 10, 6), np.float32)  # SB3 leaves floats in this order
    model, weights = linear_model(space)
    x = np.random.default_rng(0).uniform(0, 1, (BATCH, *space.shape)).astype(np.float32)
    result = saliency(model, x, method=method, frames="newest")
    assert result.shape == x.shape and result[..., :3].max() == 0
    if method == "jacobian":
        th.testing.assert_close(result[0, ..., 3:], weights[..., 3:].abs())
    else:  # the three colours are covered together
        first_first = spaces.Box(0.0, 1.0, (6, 12, 10), np.float32)
        other, other_weights = linear_model(first_first)
        with th.no_grad():
            other.policy.value_net.weight.copy_(weights.movedim(-1, 0).reshape(1, -1))
        assert other_weights.shape == (6, 12, 10)
        expected = saliency(other, np.moveaxis(x, -1, 1), method=method, frames="newest")
        th.testing.assert_close(result.movedim(-1, 1), expected, rtol=1e-3, atol=1e-6)
        colours = result[..., 3:]
        if method == "perturbation":
            assert (colours == colours[..., :1]).all()


def test_windows_of_frames():
    encoder = {"trunk": "mlp", "trunk_kwargs": {"net_arch": (16,)}, "hidden": 8}
    kwargs = latent_kwargs("slac", dynamics_kwargs={"z1_dim": 3, "z2_dim": 4, "hidden": (8,)}, **encoder)
    env = HistoryWrapper(NoiseImageEnv(discrete=False), length=3)
    settings = {"replay_buffer_class": SequenceReplayBuffer, "buffer_size": 20, "device": "cpu", "seed": 0}
    model = SAC(SLACPolicy, env, policy_kwargs={**kwargs, "net_arch": [8]}, **settings)
    x = model.env.reset()
    x["frames"][:, :2] = np.random.default_rng(0).integers(0, 256, x["frames"][:, :2].shape)
    x["mask"][:] = 1
    for method in ("occlusion", "perturbation"):
        every = saliency(model, x, method=method)["frames"]
        assert every.shape == x["frames"].shape and every.amax(dim=(0, 2, 3, 4)).min() > 0
        newest = saliency(model, x, method=method, frames="newest")["frames"]
        assert newest[:, :2].max() == 0
        th.testing.assert_close(newest[:, 2], every[:, 2])
    with pytest.raises(ValueError, match=r"'value' is cut off from the observation: .* take method='occlusion'"):
        saliency(model, x)  # SLAC's agent gives its model no gradient


@pytest.mark.parametrize(
    ("method", "kwargs", "message"),
    [
        ("smoothgrad", {"n_samples": 0}, "n_samples=0 must be an integer of at least 1"),
        ("smoothgrad", {"noise": -0.1}, "noise=-0.1 must not be negative"),
        ("integrated_gradients", {"n_steps": 1.5}, "n_steps=1.5 must be an integer"),
        ("occlusion", {"patch": 4, "stride": 5}, "stride=5 leaves pixels uncovered; use at most patch=4"),
        ("perturbation", {"stride": 0}, "stride=0 must be an integer of at least 1"),
        ("perturbation", {"mask_sigma": 0}, "mask_sigma=0 must be positive"),
        ("perturbation", {"blur_sigma": float("nan")}, "blur_sigma=nan must be positive"),
    ],
)
def test_bad_settings_are_named(method, kwargs, message):
    with pytest.raises(ValueError, match=message):
        saliency(linear_model(SMALL)[0], images(space=SMALL), method=method, method_kwargs=kwargs)


def test_unknown_settings_are_named():
    with pytest.raises(TypeError, match="unknown argument of saliency method 'perturbation': 'strid'; did you mean 'stride'"):
        saliency(linear_model(SMALL)[0], images(space=SMALL), method="perturbation", method_kwargs={"strid": 3})


@pytest.mark.parametrize("method", ["smoothgrad", "integrated_gradients", "guided_backprop", "occlusion"])
def test_captum_is_named_where_it_is_missing(method, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match=r"needs Captum, which is not installed: pip install 'sb3_latent\[inspect\]'"):
        saliency(relu_model("PPO"), images(), method=method)
    value_jacobian(relu_model("PPO"), images())


def test_scipy_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(ImportError, match=r"needs SciPy, which is not installed: pip install 'sb3_latent\[inspect\]'"):
        saliency(relu_model("PPO"), images(), method="perturbation")


def test_what_is_optional_is_imported_late():
    code = "import sys, sb3_latent.saliency; print([name for name in ('captum', 'torchmetrics') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"


def test_the_jacobian_costs_one_forward_and_one_backward_pass():
    """The measured figure is in docs/saliency.md; here what cannot flicker: how often the model runs, and on how many rows."""
    model, x = relu_model("PPO"), images(64)
    passes = []
    first = model.policy.vf_features_extractor.net[0]
    first.register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    first.register_full_backward_hook(lambda module, inputs, output: passes.append(-len(output[0])))
    value_jacobian(model, x)
    assert passes == [64, -64]
