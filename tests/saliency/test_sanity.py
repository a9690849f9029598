"""The randomisation test of Adebayo et al.: it passes gradients, fails an edge detector, and leaves the model alone."""

import copy
import math
import sys

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from saliency.models import BATCH, CASES, IMAGE, VECTOR, Idle, ReluCnn, images, make_model, mix_flags_and_grads
from scipy.ndimage import gaussian_filter
from stable_baselines3 import PPO
from torch import nn
from unchanged import assert_unchanged, snapshot

from sb3_latent.saliency import METHODS, saliency, sanity_check

EDGES = "saliency.models.EdgeDetector"
LAYERS = [
    "value_net",
    "mlp_extractor.value_net.0",
    "features_extractor.head.0",
    "features_extractor.net.2",
    "features_extractor.net.0",
]
MODES = ["cascading", "independent"]


def relu_model(name="PPO", **policy_kwargs):
    return make_model(CASES[name], features_extractor_class=ReluCnn, **policy_kwargs)


def textures(n=BATCH):
    """Frames with edges: bright squares on a dark, noisy ground."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 40, (n, *IMAGE.shape), dtype=np.uint8)
    for i, channel in np.ndindex(n, IMAGE.shape[0]):
        top, left = rng.integers(0, 24, 2)
        frames[i, channel, top : top + 12, left : left + 12] += 180
    return frames


@pytest.mark.parametrize("mode", MODES)
def test_the_jacobian_passes_and_an_edge_detector_fails(mode):
    model = relu_model()
    jacobian = sanity_check(model, textures(), randomization=mode)
    edges = sanity_check(model, textures(), method=EDGES, randomization=mode)
    assert [row.layer for row in jacobian] == [row.layer for row in edges] == LAYERS
    for row in edges:
        assert row[1:] == pytest.approx((1, 1, 1), abs=1e-5)
    for row in jacobian[:1] if mode == "independent" else jacobian:
        assert row.spearman < 0.9 and row.spearman_signed < 0.9 and row.ssim < 0.9
    last = jacobian[-1]
    assert last.spearman < 0.4 and abs(last.spearman_signed) < 0.4 and last.ssim < 0.5


@pytest.mark.parametrize("method", [name for name in METHODS.names() if name != "jacobian"])
def test_every_method_can_be_checked(method):
    kwargs = {"smoothgrad": {"n_samples": 3}, "integrated_gradients": {"n_steps": 5}, "perturbation": {"stride": 12}}
    rows = sanity_check(relu_model(), textures(), method=method, method_kwargs=kwargs.get(method))
    assert [row.layer for row in rows] == LAYERS
    assert np.isfinite([row[1:] for row in rows]).all()
    assert all(isinstance(number, float) for row in rows for number in row[1:])
    assert rows[-1].spearman < 0.95


def spearman(one, other):
    ranks = []
    for part in (one, other):
        _, place, count = np.unique(part, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(count) - (count - 1) / 2)[place])  # those that tie share their mean rank
    return np.corrcoef(*ranks)[0, 1]


def ssim(one, other):
    """Wang et al. 2004, eq. 13, with a Gaussian window of 1.5 pixels, over (H, W)."""
    blur = lambda image: gaussian_filter(image, 1.5, truncate=3.5, mode="mirror")  # noqa: E731
    mean = blur(one), blur(other)
    variance = blur(one**2) - mean[0] ** 2, blur(other**2) - mean[1] ** 2
    covariance = blur(one * other) - mean[0] * mean[1]
    above = (2 * mean[0] * mean[1] + 0.01**2) * (2 * covariance + 0.03**2)
    return above / ((mean[0] ** 2 + mean[1] ** 2 + 0.01**2) * (variance[0] + variance[1] + 0.03**2))


def by_hand(model, x, layers, seeds):
    """The numbers of :func:`sanity_check`, from a copy of the model."""
    other = copy.deepcopy(model)
    for layer, seed in zip(layers, seeds, strict=True):
        th.manual_seed(seed)
        other.policy.get_submodule(layer).reset_parameters()
    before, after = (saliency(one, x, absolute=False).double().numpy() for one in (model, other))
    rows = []
    for i in range(len(x)):
        one, two = abs(before[i]), abs(after[i])
        scaled = [(part - part.min()) / (part.max() - part.min()) for part in (one, two)]
        similar = [ssim(scaled[0][channel], scaled[1][channel]).mean() for channel in range(x.shape[1])]
        rows.append([spearman(one.ravel(), two.ravel()), spearman(before[i].ravel(), after[i].ravel()), np.mean(similar)])
    return np.mean(rows, axis=0).tolist()


@pytest.mark.parametrize("mode", MODES)
def test_the_numbers_by_hand(mode):
    model, x = relu_model(activation_fn=nn.Tanh), textures()
    rows = sanity_check(model, x, randomization=mode, seed=5)
    for position, row in enumerate(rows):
        first = 0 if mode == "cascading" else position
        seeds = [5 + i for i in range(first, position + 1)]
        expected = by_hand(model, x, LAYERS[first : position + 1], seeds)
        assert list(row[1:]) == pytest.approx(expected, abs=1e-3), row.layer


def test_the_seed_counts():
    model = relu_model()
    assert sanity_check(model, textures(), seed=1) == sanity_check(model, textures(), seed=1)
    assert sanity_check(model, textures(), seed=1) != sanity_check(model, textures(), seed=2)


@pytest.mark.parametrize("name", ["PPO", "PPO-gSDE", "RecurrentPPO", "SAC", "QRDQN", "CrossQ"])
@pytest.mark.parametrize("mode", MODES)
def test_leaves_the_model_as_it_was(mode, name):
    model = relu_model(name)
    mix_flags_and_grads(model)
    before = snapshot(model)
    rows = sanity_check(model, images(), randomization=mode)
    assert len(rows) >= 5
    assert_unchanged(model, before)


class Failing(ReluCnn):
    n_passes = 0

    def forward(self, observations):
        type(self).n_passes += 1
        if self.n_passes == 5:
            raise RuntimeError("broken on purpose")
        return super().forward(observations)


@pytest.mark.parametrize("mode", MODES)
def test_leaves_the_model_as_it_was_after_an_error(mode):
    Failing.n_passes = 0
    model = make_model(CASES["PPO"], features_extractor_class=Failing)
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        sanity_check(model, images(), randomization=mode)
    assert_unchanged(model, before)


def test_greedy_actions_are_those_of_the_unchanged_model():
    model = relu_model("DQN")
    model.policy.train(False)
    with th.no_grad():
        greedy = model.policy.q_net(th.as_tensor(images())).argmax(1).numpy()
    assert sanity_check(model, images(), "q") == sanity_check(model, images(), "q", actions=greedy)


class Scaled(ReluCnn):
    """A layer that cannot initialize itself."""

    def __init__(self, observation_space):
        super().__init__(observation_space)
        self.scale = nn.Parameter(th.randn(6) * 3 + 1)
        self.shift = nn.Parameter(th.full((6,), 0.25))

    def forward(self, observations):
        return super().forward(observations) * self.scale + self.shift


def test_a_layer_that_cannot_initialize_itself_keeps_its_scale():
    model = make_model(CASES["PPO"], features_extractor_class=Scaled)
    seen = []
    extractor = model.policy.features_extractor
    extractor.register_forward_hook(
        lambda module, *_: seen.append((module.scale.detach().clone(), module.shift.mean().item()))
    )
    rows = {row.layer: row for row in sanity_check(model, images(), randomization="independent")}
    assert rows["features_extractor"].spearman < 0.99
    drawn = next(scale for scale, _ in seen if not th.equal(scale, extractor.scale))
    assert drawn.abs().max() < 20 and all(shift == pytest.approx(0.25) for _, shift in seen)


def test_vectors_have_no_structural_similarity():
    model = PPO("MlpPolicy", Idle(VECTOR, True), device="cpu", seed=0)
    x = np.random.default_rng(0).uniform(-1, 1, (BATCH, 5)).astype(np.float32)
    rows = sanity_check(model, x)
    assert [row.layer for row in rows] == ["value_net", "mlp_extractor.value_net.2", "mlp_extractor.value_net.0"]
    assert all(math.isnan(row.ssim) and -1 <= row.spearman <= 1 for row in rows)


def test_a_map_that_vanishes_is_not_similar():
    """Without its first bias, nothing gets through: a constant map has no ranks."""

    class Silent(nn.Linear):
        def reset_parameters(self):
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)

    model = relu_model()
    layer = Silent(8, 1)
    nn.init.normal_(layer.weight)
    model.policy.value_net = layer
    row = sanity_check(model, textures())[0]
    assert row.layer == "value_net" and row.spearman == row.spearman_signed == 0 and row.ssim < 0.5


def test_bad_requests_are_named(monkeypatch):
    model = relu_model()
    with pytest.raises(ValueError, match="unknown randomization 'cascade'; did you mean 'cascading'"):
        sanity_check(model, images(), randomization="cascade")
    with pytest.raises(ValueError, match=r"method 'jacobian' explains one number, and target 'logit/\*' is a vector"):
        sanity_check(model, images(), "logit/*")
    with th.no_grad():
        model.policy.value_net.weight.zero_()
    with pytest.raises(ValueError, match="the jacobian map of 'value' is constant for an observation"):
        sanity_check(model, images())
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    with pytest.raises(ImportError, match=r"sanity_check needs torchmetrics, .* pip install 'sb3_latent\[inspect\]'"):
        sanity_check(relu_model(), images())


def test_frames_too_small_for_structural_similarity():
    space = spaces.Box(0, 255, (1, 5, 5), np.uint8)
    model = PPO("MlpPolicy", Idle(space, True), device="cpu", seed=0)
    rows = sanity_check(model, images(space=space))
    assert all(math.isnan(row.ssim) for row in rows)
