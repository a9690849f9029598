"""Encode, decode and the losses, for every preset and every kind of observation; no algorithm runs here."""

import copy
import pickle

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from sb3_latent import (
    Latent,
    LatentExtractor,
    get_extractor,
    get_extractors,
    latent_kwargs,
    load_encoder,
    save_encoder,
)
from sb3_latent.auxiliary import TASKS, AuxiliaryTask, ReconstructionTask
from sb3_latent.nn import HEADS, LIKELIHOODS, TRUNKS, Head, Likelihood, Trunk
from sb3_latent.presets import PRESETS, extractor_settings

SMALL = spaces.Box(0, 255, (1, 36, 36), np.uint8)
STACK = spaces.Box(0, 255, (4, 36, 40), np.uint8)
VECTOR = spaces.Box(-np.inf, np.inf, (6,), np.float32)
DICT = spaces.Dict(camera=STACK, map=spaces.Box(0, 255, (40, 36, 2), np.uint8), speed=VECTOR)
VAE = {"head": "gaussian", "tasks": {"recon": {}, "kl": {}}}
RECONSTRUCTING = [name for name in PRESETS if "recon" in PRESETS[name].get("tasks", {})]
# Bits are those of a byte.
FOR_VECTORS = [name for name in PRESETS if "bits" not in PRESETS[name].get("tasks", {}).get("recon", {})]
NARROW = {"nature": {"hidden_dim": 32}, "seed84": {"hidden_dim": 32}, "dmc": {"channels": 4}, "flatten": {}}
"""Arguments that make each trunk of a preset small."""


def batch_of(space, n=3):
    if isinstance(space, spaces.Dict):
        return {name: batch_of(part, n) for name, part in space.spaces.items()}
    return th.rand(n, *space.shape)


def row_of(observations, i):
    if isinstance(observations, dict):
        return {name: row_of(part, i) for name, part in observations.items()}
    return observations[i : i + 1]


def build(space, preset="ae", **settings):
    return LatentExtractor(space, **extractor_settings(preset, **settings))


def tiny(space, preset="ae", **settings):
    kwargs = {"latent_dim": 5, "trunk": "nature", "trunk_kwargs": {"hidden_dim": 16}, **settings}
    return build(space, preset, **kwargs)


def width_of(preset, n_hidden):
    """Of the latent of a frame; a preset without a bottleneck keeps the trunk's features."""
    return n_hidden if PRESETS[preset]["head"] == "identity" else PRESETS[preset].get("latent_dim", 20)


def losses_of(extractor, observations):
    """Every unweighted loss; tasks that contrast take each frame for another view of itself."""
    if not extractor.tasks.contrasts:
        return extractor.auxiliary_losses(observations)
    latents = extractor.encoders.split(extractor.encode(observations))
    positives = {name: latent.mean for name, latent in latents.items()}
    return extractor.tasks(latents, extractor.encoders.frames(observations), extractor.tasks.labels, positives)


def total(losses, coefs):
    return sum(coefs[label] * loss for label, loss in losses.items())


# ---------------------------------------------------------------------- every preset, trunk and head


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(1, 36, 36), (4, 84, 84), (84, 84, 4)], ids=str)
def test_every_preset_works_on_images(preset, shape):
    space = spaces.Box(0, 255, shape, np.uint8)
    extractor = build(space, preset, trunk_kwargs=NARROW[PRESETS[preset].get("trunk", "nature")])
    observations = batch_of(space, 2)
    latent, losses = extractor.encode(observations), losses_of(extractor, observations)
    assert latent.mean.shape == (2, extractor.features_dim)
    n_frames = min(shape) if PRESETS[preset].get("per_frame") else 1
    assert extractor.features_dim == n_frames * width_of(preset, np.prod(shape))
    assert set(losses) == set(PRESETS[preset].get("tasks", {}))
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    if preset in RECONSTRUCTING:
        assert extractor.decode(latent.mean).shape == observations.shape


@pytest.mark.parametrize("preset", FOR_VECTORS)
def test_every_preset_that_can_works_on_vectors(preset):
    extractor = build(VECTOR, preset, trunk="mlp", per_frame=False)
    latent = extractor.encode(batch_of(VECTOR))
    assert latent.mean.shape == (3, width_of(preset, 256))
    if preset in RECONSTRUCTING:
        assert extractor.decode(latent.mean).shape == (3, 6)
    assert all(loss.isfinite() for loss in losses_of(extractor, batch_of(VECTOR)).values())


@pytest.mark.parametrize("preset", [name for name in PRESETS if name not in FOR_VECTORS])
def test_a_preset_that_cannot_says_so(preset):
    with pytest.raises(ValueError, match="bits=5 needs pixels"):
        build(VECTOR, preset, trunk="mlp")


def test_states_are_features_as_they_are():
    extractor, observations = build(VECTOR, "sac_state"), batch_of(VECTOR)
    assert th.equal(extractor(observations), observations) and not list(extractor.parameters())


@pytest.mark.parametrize("trunk", TRUNKS.names())
@pytest.mark.parametrize("head", HEADS.names())
@pytest.mark.parametrize("loss", LIKELIHOODS.names())
def test_every_trunk_head_and_loss_go_together(trunk, head, loss):
    extractor = build(SMALL, trunk=trunk, head=head, latent_dim=3, tasks={"recon": {"loss": loss}})
    observations = batch_of(SMALL)
    extractor.auxiliary_loss(observations).backward()
    assert all(p.grad is not None for name, p in extractor.encoders.named_parameters())
    assert extractor.decode(extractor.encode(observations).mean).shape == observations.shape


@pytest.mark.parametrize(
    ("preset", "space"),
    [(preset, space) for preset in RECONSTRUCTING for space in (SMALL, VECTOR) if space is SMALL or preset in FOR_VECTORS],
)
def test_every_reconstruction_is_learned(preset, space):
    trunk = {"trunk": "nature", "trunk_kwargs": {"hidden_dim": 64}} if space is SMALL else {"trunk": "mlp"}
    extractor = build(space, preset, **trunk, per_frame=False)
    observations = th.zeros(8, *space.shape)
    for row, observation in enumerate(observations):
        observation.view(-1)[:: row + 2] = 1.0
    optimizer = th.optim.Adam(extractor.parameters(), lr=1e-3)
    goal = 0.5 * extractor.auxiliary_losses(observations)["recon"].item()
    n_steps = 0
    while extractor.auxiliary_losses(observations)["recon"] > goal and n_steps < 200:
        optimizer.zero_grad()
        extractor.auxiliary_loss(observations).backward()
        optimizer.step()
        n_steps += 1
    assert n_steps < 200


# ---------------------------------------------------------------------- what the policy reads


def test_features_are_the_mean_and_never_a_sample():
    extractor, observations = tiny(STACK, "vae"), batch_of(STACK)
    latent = extractor.encode(observations)
    for mode in (True, False):
        extractor.train(mode)
        assert th.equal(extractor(observations), latent.mean)
        assert th.equal(extractor(observations), extractor(observations))
        with th.no_grad():
            assert th.equal(extractor(observations), latent.mean)
    assert latent.log_var is not None and latent.log_var.shape == latent.mean.shape


def test_a_deterministic_extractor_has_no_log_var():
    assert tiny(SMALL, "ae").encode(batch_of(SMALL)).log_var is None


def test_decoders_learn_from_samples():
    extractor, observations = tiny(SMALL, "vae"), batch_of(SMALL)
    first, second = (extractor.auxiliary_losses(observations) for _ in range(2))
    assert first["recon"] != second["recon"] and first["kl"] == second["kl"]


def test_all_tasks_of_a_key_see_one_sample():
    class Spy(AuxiliaryTask):
        def forward(self, latent, sample, frames):
            seen.append(sample)
            return sample.sum(1)

    seen: list[th.Tensor] = []
    extractor = tiny(SMALL, "vae")
    for label in extractor.tasks.labels:
        extractor.tasks.by_key["observation"][label] = Spy(extractor.encoders["observation"])
    extractor.auxiliary_losses(batch_of(SMALL))
    assert len(seen) == 2 and seen[0] is seen[1]


def test_a_frozen_extractor_computes_no_gradient_for_its_encoder():
    extractor, observations = tiny(SMALL, "vae", frozen=True), batch_of(SMALL)
    assert not extractor.train()(observations).requires_grad
    extractor.frozen = False
    assert extractor(observations).requires_grad


def test_saliency_sees_through_a_frozen_extractor_in_evaluation_mode():
    extractor, observations = tiny(SMALL, "vae", frozen=True).eval(), batch_of(SMALL).requires_grad_()
    (gradient,) = th.autograd.grad(extractor(observations).sum(), observations)
    assert gradient.any()


# ---------------------------------------------------------------------- frames


@pytest.mark.parametrize(
    ("shape", "n_frames", "count"),
    [((4, 36, 40), None, 4), ((36, 40, 4), None, 4), ((6, 36, 40), 2, 2), ((36, 40, 9), 3, 3), ((12, 36, 36), 12, 12)],
    ids=str,
)
@pytest.mark.parametrize("preset", ["ae", "vae"])
def test_per_frame_encodes_each_frame_by_itself(shape, n_frames, count, preset):
    space = spaces.Box(0, 255, shape, np.uint8)
    stacked = tiny(space, preset, per_frame=True, n_frames=n_frames)
    observations = batch_of(space)
    axis = 3 if shape[2] < 36 else 1
    frames = observations.chunk(count, axis)
    frame_shape = tuple(frames[0].shape[1:])
    single = tiny(spaces.Box(0, 255, frame_shape, np.uint8), preset)
    single.encoders.load_state_dict(stacked.encoders.state_dict())
    single.tasks.load_state_dict(stacked.tasks.state_dict())
    latent, alone = stacked.encode(observations), [single.encode(frame) for frame in frames]
    assert stacked.features_dim == count * 5
    th.testing.assert_close(latent.mean, th.cat([one.mean for one in alone], 1))
    if latent.log_var is not None:
        th.testing.assert_close(latent.log_var, th.cat([one.log_var for one in alone], 1))
    pictures = th.cat([single.decode(one.mean) for one in alone], axis)
    th.testing.assert_close(stacked.decode(latent.mean), pictures)


def test_per_frame_losses_are_means_over_frames_of_single_frames():
    extractor, observations = tiny(STACK, per_frame=True), batch_of(STACK)
    single = tiny(spaces.Box(0, 255, (1, 36, 40), np.uint8))
    single.load_state_dict(extractor.state_dict())
    expected = np.mean([single.auxiliary_losses(frame)["recon"].item() for frame in observations.chunk(4, 1)])
    assert extractor.auxiliary_losses(observations)["recon"].item() == pytest.approx(expected, rel=1e-5)
    assert extractor.tasks.coefs == {"recon": pytest.approx(1 / (36 * 40))}


@pytest.mark.parametrize("per_frame", [False, True])
def test_the_order_of_axes_changes_nothing(per_frame):
    first, last = (tiny(spaces.Box(0, 255, shape, np.uint8), per_frame=per_frame) for shape in [(4, 36, 40), (36, 40, 4)])
    last.load_state_dict(first.state_dict())
    observations = batch_of(STACK)
    turned = observations.permute(0, 2, 3, 1)
    assert th.equal(first.encode(observations).mean, last.encode(turned).mean)
    z = th.randn(2, first.features_dim)
    assert th.equal(first.decode(z).permute(0, 2, 3, 1), last.decode(z))
    th.testing.assert_close(first.auxiliary_loss(observations), last.auxiliary_loss(turned))


def test_per_frame_of_a_vector_needs_the_number_of_frames():
    extractor = build(VECTOR, trunk="mlp", per_frame=True, n_frames=3, latent_dim=2)
    assert extractor.encode(batch_of(VECTOR)).mean.shape == (3, 6)
    with pytest.raises(ValueError, match="n_frames"):
        build(VECTOR, trunk="mlp", per_frame=True, latent_dim=2)


# ---------------------------------------------------------------------- losses and coefficients


@pytest.mark.parametrize("space", [SMALL, STACK, VECTOR, DICT], ids=["grey", "stack", "vector", "dict"])
def test_a_loss_is_the_mean_of_the_losses_of_single_rows(space):
    extractor = tiny(space, "rae", trunk=None, trunk_kwargs=None)
    observations = batch_of(space)
    rows = [
        {name: part[i : i + 1] for name, part in observations.items()}
        if isinstance(observations, dict)
        else observations[i : i + 1]
        for i in range(3)
    ]
    alone = [extractor.auxiliary_losses(row) for row in rows]
    for label, loss in extractor.auxiliary_losses(observations).items():
        assert loss.item() == pytest.approx(np.mean([one[label].item() for one in alone]), rel=1e-4)


def test_a_reconstruction_loss_sums_over_the_pixels():
    extractor, observations = tiny(STACK), batch_of(STACK)
    picture = extractor.decode(extractor.encode(observations).mean)
    expected = (picture - observations).square().sum().item() / 3
    assert extractor.auxiliary_losses(observations)["recon"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("settings", [{}, {"coefs": {"recon": 0.3, "kl": 2.0}}, {"beta": 7.0}, {"coefs": {"kl": 0.0}}])
def test_the_loss_is_the_sum_of_the_losses_by_coefficient(settings):
    extractor, observations = tiny(STACK, "vae", **settings), batch_of(STACK)
    th.manual_seed(1)
    losses = extractor.auxiliary_losses(observations)
    th.manual_seed(1)
    expected = total(losses, extractor.tasks.coefs)
    th.testing.assert_close(extractor.auxiliary_loss(observations), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("space", "n_features"), [(SMALL, 36 * 36), (STACK, 4 * 36 * 40), (VECTOR, 6)], ids=["grey", "stack", "vector"]
)
def test_default_coefficients(space, n_features):
    vae, beta_vae, rae = (tiny(space, name, trunk=None, trunk_kwargs=None) for name in ("vae", "beta_vae", "rae"))
    assert vae.tasks.coefs == pytest.approx({"recon": 1 / n_features, "kl": 1 / n_features})
    assert beta_vae.tasks.coefs == pytest.approx({"recon": 1 / n_features, "kl": 4 / n_features})
    assert rae.tasks.coefs == pytest.approx({"recon": 1 / n_features, "latent_l2": 1e-6})


def test_coefficients_follow_schedules():
    extractor = tiny(
        SMALL, "vae", coefs={"recon": lambda left: 2 * left, "kl": lambda left: 1 - left}, kappa=lambda left: 10 * left
    )
    for left, recon, kl, kappa in [(1.0, 2.0, 0.0, 10.0), (0.25, 0.5, 0.75, 2.5), (0.0, 0.0, 1.0, 0.0)]:
        extractor.set_progress_remaining(left)
        assert extractor.tasks.coefs == {"recon": recon, "kl": kl}
        assert extractor.tasks.active == [label for label, value in [("recon", recon), ("kl", kl)] if value]
        assert extractor.balance.kappa == kappa


def test_a_coefficient_of_0_keeps_a_task_from_running():
    extractor, calls = tiny(SMALL, "vae", coefs={"recon": 0.0}), []
    recon, kl = extractor.tasks.by_key["observation"].values()
    recon.register_forward_hook(lambda *_: calls.append("recon"))
    kl.register_forward_hook(lambda *_: calls.append("kl"))
    extractor.auxiliary_loss(batch_of(SMALL))
    extractor.train()
    extractor(batch_of(SMALL))
    assert calls == ["kl", "kl"]
    assert set(extractor.auxiliary_losses(batch_of(SMALL))) == {"recon", "kl"}


@pytest.mark.parametrize("settings", [{"preset": "cnn"}, {"preset": "vae", "coefs": {"recon": 0.0, "kl": 0}}])
def test_without_active_tasks_the_loss_is_0_and_draws_no_random_number(settings):
    extractor, state = tiny(SMALL, **settings), th.get_rng_state()
    observations = th.full((2, 1, 36, 36), 0.5)
    extractor.train()
    extractor(observations)
    assert extractor.auxiliary_loss(observations).item() == 0
    assert th.equal(th.get_rng_state(), state)


@pytest.mark.parametrize("mode", ["training", "evaluation", "no_grad"])
def test_tasks_run_in_training_with_gradients_alone(mode):
    extractor, calls = tiny(SMALL), []
    extractor.tasks.register_forward_hook(lambda *_: calls.append(1))
    extractor.train(mode != "evaluation")
    with th.set_grad_enabled(mode != "no_grad"):
        extractor(batch_of(SMALL))
    assert calls == ([1] if mode == "training" else [])


def test_the_hook_adds_kappa_times_rl_and_the_tasks():
    extractor, observations = tiny(SMALL, kappa=3.0).train(), batch_of(SMALL)
    extractor(observations).square().sum().backward()
    parameters = list(extractor.encoders.parameters())
    by_hand = 3.0 * extractor.encode(observations).mean.square().sum() + extractor.auxiliary_loss(observations)
    for parameter, gradient in zip(parameters, th.autograd.grad(by_hand, parameters), strict=True):
        th.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_decoders_do_not_move_the_random_numbers_of_what_is_built_after_them():
    def next_number(tasks):
        th.manual_seed(3)
        LatentExtractor(SMALL, latent_dim=4, tasks=tasks)
        return th.rand(1)

    assert next_number({}) == next_number({"recon": {}}) == next_number({"latent_l2": {}, "recon": {}})


# ---------------------------------------------------------------------- dictionaries


def test_keys_have_encoders_and_decoders_of_their_own():
    extractor, observations = tiny(DICT, "vae"), batch_of(DICT)
    latent = extractor.encode(observations)
    assert latent.mean.shape == (3, 15)
    for i, (name, spec) in enumerate(extractor.encoders.specs.items()):
        alone = extractor.encoders[name](spec.fold(observations[name]))
        assert th.equal(latent.mean[:, 5 * i : 5 * i + 5], alone.mean)
        assert th.equal(latent.log_var[:, 5 * i : 5 * i + 5], alone.log_var)
    pictures = extractor.decode(latent.mean)
    assert {name: part.shape for name, part in pictures.items()} == {name: part.shape for name, part in observations.items()}
    assert list(extractor.auxiliary_losses(observations)) == [
        f"{task}/{key}" for key in ("camera", "map", "speed") for task in ("recon", "kl")
    ]


def test_the_order_of_keys_in_a_batch_does_not_matter():
    extractor, observations = tiny(DICT), batch_of(DICT)
    turned = dict(reversed(observations.items()))
    assert th.equal(extractor.encode(observations).mean, extractor.encode(turned).mean)
    assert extractor.auxiliary_losses(observations) == extractor.auxiliary_losses(turned)


def test_a_key_is_reconstructed_from_its_own_part_of_the_latent():
    extractor, z = tiny(DICT), th.randn(1, 15)
    other = z.clone()
    other[:, 5:10] += 1
    before, after = extractor.decode(z), extractor.decode(other)
    assert [name for name in before if not th.equal(before[name], after[name])] == ["map"]


def test_per_frame_of_a_dict():
    extractor = tiny(DICT, "vae", per_frame=True)
    observations = batch_of(DICT)
    latent = extractor.encode(observations)
    assert latent.mean.shape == (3, 5 * 4 + 5 * 2 + 5)
    pictures = extractor.decode(latent.mean)
    assert {name: part.shape for name, part in pictures.items()} == {name: part.shape for name, part in observations.items()}
    assert extractor.tasks.coefs["recon/map"] == pytest.approx(1 / (40 * 36))


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({}, ["camera", "map", "speed"]),
        ({"include": ["map", "camera"]}, ["map", "camera"]),
        ({"exclude": ["speed"]}, ["camera", "map"]),
        ({"include": ["map", "speed"], "exclude": ["speed"]}, ["map"]),
        ({"include": []}, []),
    ],
)
def test_include_and_exclude_choose_what_has_tasks(settings, keys):
    extractor, observations = tiny(DICT, **settings), batch_of(DICT)
    assert extractor.tasks.labels == [f"recon/{key}" for key in keys]
    assert list(extractor.tasks.by_key) == keys, "a key without tasks has no decoder"
    assert extractor.encode(observations).mean.shape == (3, 15), "every key is encoded for the policy"
    if keys:
        assert list(extractor.decode(th.zeros(1, 15))) == keys


def test_coefficients_by_task_and_by_label():
    extractor = tiny(DICT, "vae", coefs={"recon": 0.5, "recon/map": 0.25, "kl/speed": lambda left: left})
    assert extractor.tasks.coefs == pytest.approx(
        {
            "recon/camera": 0.5,
            "recon/map": 0.25,
            "recon/speed": 0.5,
            "kl/camera": 1 / (4 * 36 * 40),
            "kl/map": 1 / (2 * 36 * 40),
            "kl/speed": 1.0,
        }
    )


def test_a_dict_of_one_key_labels_its_losses_as_a_single_array_does():
    space = spaces.Dict(camera=SMALL)
    extractor = tiny(space)
    assert extractor.tasks.labels == ["recon"]
    assert extractor.decode(th.zeros(1, 5))["camera"].shape == (1, 1, 36, 36)


@pytest.mark.parametrize("key", ["a/b", "front camera", "weights", "frames", "widths"])
def test_a_key_may_hold_a_slash_or_a_blank(key):
    space = spaces.Dict({key: SMALL, "speed": VECTOR})
    extractor = tiny(space, coefs={f"recon/{key}": 2.0})
    assert extractor.encode(batch_of(space)).mean.shape == (3, 10)
    assert extractor.tasks.coefs[f"recon/{key}"] == 2.0


@pytest.mark.parametrize("key", ["a.b", "type", "values"])
def test_a_key_that_torch_cannot_hold_is_told(key):
    with pytest.raises(ValueError, match=f"key {key!r} .*rename"):
        tiny(spaces.Dict({key: SMALL, "speed": VECTOR}))


# ---------------------------------------------------------------------- the user's own


class HalfTrunk(Trunk):
    """Every second value."""

    def __init__(self, frame_shape, scale=1.0):
        self.n = int(np.prod(frame_shape))
        super().__init__(frame_shape, (self.n + 1) // 2)
        self.scale = scale

    def forward(self, frames):
        return self.scale * frames.flatten(1)[:, ::2]

    def make_decoder(self, latent_dim):
        return nn.Sequential(nn.Linear(latent_dim, self.n), nn.Unflatten(1, self.frame_shape))


class TanhHead(Head):
    def __init__(self, in_dim, latent_dim, gain=1.0):
        super().__init__(in_dim, latent_dim)
        self.linear, self.gain = nn.Linear(in_dim, latent_dim), gain

    def forward(self, features):
        return Latent(self.gain * self.linear(features).tanh(), None)


class Sparsity(AuxiliaryTask):
    def __init__(self, encoder, power=1):
        super().__init__(encoder)
        self.power = power

    def forward(self, latent, sample, frames):
        return latent.mean.abs().pow(self.power).sum(1)


class recon(Sparsity):
    """Takes a name that is taken."""


class AbsoluteError(Likelihood):
    def forward(self, output, target):
        return (output - target).abs().flatten(1).sum(1)


def test_a_dotted_path_works_wherever_a_name_does():
    tasks = {"recon": {"loss": f"{__name__}.AbsoluteError"}, f"{__name__}.Sparsity": {"power": 2}}
    extractor = build(
        SMALL,
        trunk=f"{__name__}.HalfTrunk",
        trunk_kwargs={"scale": 2.0},
        head=f"{__name__}.TanhHead",
        head_kwargs={"gain": 0.1},
        latent_dim=4,
        tasks=tasks,
        coefs={"Sparsity": 0.5},
    )
    observations = batch_of(SMALL)
    encoder = extractor.encoders["observation"]
    mean = 0.1 * encoder.head.linear(2 * observations.flatten(1)[:, ::2]).tanh()
    losses = extractor.auxiliary_losses(observations)
    th.testing.assert_close(extractor.encode(observations).mean, mean)
    th.testing.assert_close(losses["Sparsity"], mean.square().sum(1).mean())
    th.testing.assert_close(losses["recon"], (extractor.decode(mean) - observations).abs().flatten(1).sum(1).mean())
    assert extractor.tasks.coefs == pytest.approx({"recon": 1 / 1296, "Sparsity": 0.5})


def test_two_tasks_of_one_name_are_refused():
    with pytest.raises(ValueError, match="recon"):
        tiny(SMALL, tasks={"recon": {}, f"{__name__}.recon": {}})


# ---------------------------------------------------------------------- copies


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_encode_and_decode_the_same(preset, copied):
    extractor, observations = tiny(SMALL, preset), batch_of(SMALL)
    extractor.train()
    extractor(observations)
    twin = copied(extractor)
    assert th.equal(twin.encode(observations).mean, extractor.encode(observations).mean)
    assert twin.tasks.coefs == extractor.tasks.coefs and twin.frozen == extractor.frozen
    if preset in RECONSTRUCTING:
        z = th.randn(2, 5)
        assert th.equal(twin.decode(z), extractor.decode(z))


def test_a_seed_is_a_model():
    def weights():
        th.manual_seed(5)
        return tiny(DICT, "vae").state_dict()

    first, second = weights(), weights()
    assert all(th.equal(first[name], second[name]) for name in first if isinstance(first[name], th.Tensor))


def test_policy_kwargs_name_the_extractor():
    kwargs = latent_kwargs("vae", latent_dim=7)
    extractor = kwargs["features_extractor_class"](SMALL, **kwargs["features_extractor_kwargs"])
    assert isinstance(extractor, LatentExtractor) and extractor.features_dim == 7
    assert isinstance(extractor.tasks.by_key["observation"]["recon"], ReconstructionTask) and "recon" in TASKS.names()


def test_the_extractor_of_a_model_is_the_one_its_value_function_trains():
    env = make_vec_env("sb3_latent/TinyBall-v0")
    kwargs = {**latent_kwargs("vae", latent_dim=4), "share_features_extractor": False}
    model = PPO("CnnPolicy", env, n_steps=16, policy_kwargs=kwargs)
    assert get_extractor(model) is model.policy.vf_features_extractor
    assert get_extractors(model) == [model.policy.vf_features_extractor, model.policy.pi_features_extractor]


def test_numbers_of_numpy_are_numbers(tmp_path):
    space = spaces.Box(0, 255, (4, 36, 36), np.uint8)
    settings = {"latent_dim": np.int64(4), "n_frames": np.int32(4), "per_frame": True, "kappa": np.float32(2.0)}
    extractor = LatentExtractor(space, **extractor_settings("vae", **settings))
    assert extractor.features_dim == 16
    save_encoder(extractor, tmp_path / "e.safetensors")
    load_encoder(extractor, tmp_path / "e.safetensors")


def test_beta_without_a_task_that_reads_it_is_told():
    with pytest.raises(ValueError, match=r"beta=4\.0 .* no task reads it"):
        tiny(SMALL, "ae", beta=4.0)
