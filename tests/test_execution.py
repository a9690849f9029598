"""Bfloat16, torch.compile and channels last: the same gradient steps, computed otherwise."""

import copy
import pickle
import traceback

import numpy as np
import pytest
import torch as th
from algorithms import ALGORITHMS, NoiseImageEnv, make_model, tiny
from gradient_steps import assert_equal_gradients, record_steps
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecFrameStack
from torch import nn
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from sb3_latent import (
    FrameRolloutBuffer,
    LatentActorCriticPolicy,
    LatentExtractor,
    LatentSACPolicy,
    get_extractor,
    get_extractors,
    latent_kwargs,
)
from sb3_latent.execution import SWITCHES, Execution
from sb3_latent.known_batches import ArrivalCheck
from sb3_latent.nn import TRUNKS
from sb3_latent.weighted_losses import WeightedLosses

SIZE = 36
CONVOLUTIONS = {"trunk": "nature", "trunk_kwargs": {"hidden_dim": 32}}
LINEAR = {"trunk": "mlp", "trunk_kwargs": {"net_arch": (16,)}}
BFLOAT16 = 3e-2
"""
Of the norm of a linear layer's gradients in a run: bfloat16 has 8 bits, and errors of many products average out. Kernels of
convolutions on images of noise are 5 to 10 % off: what the positions say cancels, and the rounding stays.
"""
OTHER_ORDER = 1e-5
"""Of the norm of a layer's gradient: float32 sums in another order."""
GROWTH = {"CrossQ": 4}
"""Its critic divides features, and their errors, by the little that they differ in a batch of so few."""
ONCE = {"rollout_buffer_class": FrameRolloutBuffer, "rollout_buffer_kwargs": {"chunk_length": 4}}
"""Each frame of a minibatch is encoded once, and minibatches have different numbers of them."""


def model_of(name, preset="vae", policy=None, n_frames=1, rollout_buffer=None, learning_rate=0.0, **settings):
    """Unless told otherwise its weights stand still, so that each gradient step of two runs is taken at the same point."""
    env = make_vec_env(lambda: NoiseImageEnv(ALGORITHMS[name].discrete, SIZE), 1, seed=0)
    env = VecFrameStack(env, n_frames) if n_frames > 1 else env
    kwargs = tiny(preset, **{**CONVOLUTIONS, **settings})
    return make_model(name, kwargs, policy=policy, env=env, learning_rate=learning_rate, **(rollout_buffer or {}))


def steps_of(model, name):
    steps = [record_steps(model, optimizer) for optimizer in ALGORITHMS[name].optimizers]
    model.learn(ALGORITHMS[name].n_timesteps)
    return [step for each in steps for step in each]


def assert_same_steps(actual, expected, rtol):
    assert len(actual) == len(expected) >= 2
    for ours, theirs in zip(actual, expected, strict=True):
        assert all(gradient.dtype == th.float32 for gradient in ours.gradients.values())
        assert th.equal(ours.observations, theirs.observations)
        if rtol < BFLOAT16:
            assert_equal_gradients(ours.gradients, theirs.gradients, rtol)
    assert_equal_gradients(all_gradients(actual), all_gradients(expected), rtol)


def all_gradients(steps):
    """Of a run, by parameter. A single step may be nothing but rounding."""
    found = {}
    for step in steps:
        for name, gradient in step.gradients.items():
            found.setdefault(name, []).append(gradient.flatten())
    return {name: th.cat(parts) for name, parts in found.items()}


@pytest.fixture
def compiled(monkeypatch):
    """Functions that were compiled, cheaply."""
    th._dynamo.reset()
    counters.clear()
    compile_with, functions = th.compile, []
    monkeypatch.setattr(
        th, "compile", lambda function: functions.append(function) or compile_with(function, backend="aot_eager")
    )
    yield functions
    th._dynamo.reset()


# ---------------------------------------------------------------------- the same gradients


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "TRPO"])
def test_autocast_takes_the_same_steps_in_other_precision(name):
    expected = steps_of(model_of(name, "rae", **LINEAR), name)
    model = model_of(name, "rae", autocast=True, **LINEAR)
    seen = {"learning": set(), "acting": set(), "features": set()}

    def see(module, _, output):
        learns = module.training and th.is_grad_enabled()
        seen["features" if isinstance(module, LatentExtractor) else "learning" if learns else "acting"].add(output.dtype)

    for extractor in get_extractors(model):
        decoder = extractor.tasks.by_key["observation"]["recon"].decoder
        for module in (extractor, extractor.encoders["observation"].trunk, decoder):
            module.register_forward_hook(see)
    actual = steps_of(model, name)
    assert_same_steps(actual, expected, BFLOAT16 * GROWTH.get(name, 1))
    with pytest.raises(AssertionError):
        assert_same_steps(actual, expected, OTHER_ORDER)
    assert seen == {"learning": {th.bfloat16}, "acting": {th.float32}, "features": {th.float32}}
    assert all(parameter.dtype == th.float32 for parameter in model.policy.parameters())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_channels_last_takes_the_same_steps(name):
    expected = steps_of(model_of(name), name)
    assert_same_steps(steps_of(model_of(name, channels_last=True), name), expected, OTHER_ORDER * GROWTH.get(name, 1))


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "TRPO"])
def test_compiled_encoders_take_the_same_steps(name, compiled):
    expected = steps_of(model_of(name), name)
    assert not compiled
    assert_same_steps(steps_of(model_of(name, compile=True), name), expected, OTHER_ORDER * GROWTH.get(name, 1))
    assert compiled and not counters["graph_break"]


@pytest.mark.parametrize("gradient_mode", ["joint", "own_optimizer"])
def test_frames_that_are_encoded_once_compile_twice(gradient_mode, compiled):
    """Once for the first minibatch, once for any number of different frames; and never again in later updates."""
    settings = {"n_frames": 4, "per_frame": True, "gradient_mode": gradient_mode, "channels_last": True}
    model = model_of("PPO", rollout_buffer=ONCE, compile=True, **settings)
    n_different = []
    model.policy.optimizer.register_step_pre_hook(
        lambda *_: n_different.append(len(np.unique(model.rollout_buffer.minibatch.numbers("observation", 4))))
    )
    model.learn(96)
    assert len(n_different) == 12 and len(set(n_different)) > 2
    assert counters["stats"]["unique_graphs"] == 2 and not counters["graph_break"]
    assert len(compiled) == 1


@pytest.mark.parametrize("switch", SWITCHES)
def test_frames_that_are_encoded_once_give_the_same_gradients(switch, compiled, monkeypatch):
    monkeypatch.setattr("sb3_latent.types.Latent.sample", lambda self: self.mean)
    settings = {"per_frame": True, "kappa": 3.0, **(LINEAR if switch == "autocast" else {})}
    runs = [
        steps_of(model_of("PPO", n_frames=4, rollout_buffer=ONCE, **settings, **{switch: on}), "PPO") for on in (False, True)
    ]
    assert_same_steps(runs[1], runs[0], BFLOAT16 if switch == "autocast" else OTHER_ORDER)
    assert len(compiled) == (switch == "compile")


def test_losses_of_frames_that_are_encoded_once_are_summed_in_float32(monkeypatch):
    """Only the networks are coarse: what comes out of the decoder in bfloat16 is compared and averaged in float32."""
    weights = th.full((50,), 1 / 50)
    rows = th.rand(50) * 1000
    extractor = get_extractor(model_of("PPO", "ae", autocast=True))
    monkeypatch.setattr(extractor.tasks.by_key["observation"]["recon"], "forward", lambda *_: rows)
    extractor.train()
    with extractor.execution.precision(extractor):
        latents = extractor.encoders.split(extractor.encode(th.rand(50, 1, SIZE, SIZE)))
        losses = extractor.tasks(latents, {"observation": rows}, ["recon"], None, {"observation": weights})
    th.testing.assert_close(losses["recon"], rows.mean())


# ---------------------------------------------------------------------- when, and when not


def test_a_frozen_encoder_is_computed_as_an_acting_one():
    model = model_of("PPO", "cnn", frozen=True, autocast=True)
    dtypes = set()
    get_extractor(model).encoders["observation"].trunk.register_forward_hook(lambda _, __, output: dtypes.add(output.dtype))
    model.learn(32)
    assert dtypes == {th.float32}


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_off_is_off(name, monkeypatch):
    monkeypatch.setattr(th, "compile", lambda *_: pytest.fail("compiled"))
    model = model_of(name)
    extractor = get_extractor(model)
    entered = []
    extractor.encoders["observation"].trunk.register_forward_hook(lambda *_: entered.append(th.is_autocast_enabled("cpu")))
    assert not [module for module in model.policy.modules() if module._forward_pre_hooks]
    model.learn(ALGORITHMS[name].n_timesteps)
    assert entered and not any(entered)


@pytest.mark.parametrize("off_policy", [False, True])
def test_the_first_pixels_are_looked_at_before_anything_is_compiled(off_policy, compiled):
    model = model_of("SAC", policy=LatentSACPolicy, compile=True) if off_policy else model_of("PPO", compile=True)
    extractor = get_extractor(model)
    extractor.train()
    extractor.encode(th.zeros(2, 1, SIZE, SIZE))
    assert not compiled
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        extractor.encode(th.full((2, 1, SIZE, SIZE), 255.0))
    extractor.encode(th.rand(2, 1, SIZE, SIZE))
    assert not compiled
    extractor.encode(th.rand(2, 1, SIZE, SIZE))
    assert len(compiled) == 1


class HostReads(TorchDispatchMode):
    """Collects the places in the package that wait for values."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal")

    def __init__(self):
        super().__init__()
        self.places = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(index is not None and index.dtype == th.bool for index in args[1])
        if name in self.WAITING or by_mask:
            callers = [frame for frame in traceback.extract_stack()[:-1] if "/torch/" not in frame.filename]
            if "/sb3_latent/" in callers[-1].filename:
                self.places.add((callers[-1].name, name))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("settings", [{}, {"autocast": True}, {"channels_last": True}], ids=str)
@pytest.mark.parametrize("name", ["PPO", "A2C", "DQN", "SAC", "shared SAC"])
def test_no_gradient_step_waits_for_the_device(name, settings, monkeypatch):
    # Asked at once on a CPU alone.
    monkeypatch.setattr(WeightedLosses, "raise_if_not_finite", lambda *_: None)
    monkeypatch.setattr(ArrivalCheck, "raise_if_different", lambda *_: None)
    policy = LatentSACPolicy if name == "shared SAC" else None
    name = name.rpartition(" ")[2]
    buffer = ONCE if name == "PPO" else None
    stacked = {"n_frames": 4, "per_frame": True} if buffer else {}
    model = model_of(name, policy=policy, rollout_buffer=buffer, **stacked, **settings)
    model.learn(ALGORITHMS[name].n_timesteps)
    with HostReads() as reads:
        model.train(4, 8) if name in ("SAC", "DQN") else model.train()
    assert not reads.places


def test_reads_are_found():
    extractor = get_extractor(model_of("PPO"))
    with HostReads() as reads:
        extractor.encode(th.rand(2, 1, SIZE, SIZE))
    assert ("<genexpr>", "_local_scalar_dense") in reads.places


# ---------------------------------------------------------------------- channels last


@pytest.mark.parametrize("trunk", [name for name in TRUNKS.names() if name not in ("mlp", "flatten")])
@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("copied", [lambda one: one, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_every_convolution_reads_and_writes_channels_last(trunk, n_channels, copied):
    space = spaces.Box(0, 255, (n_channels, 40, SIZE), np.uint8)
    plain, ours = (
        LatentExtractor(space, latent_dim=4, trunk=trunk, tasks={"recon": {}}, channels_last=on) for on in (False, True)
    )
    ours.load_state_dict(plain.state_dict())
    ours = copied(ours)
    strides = []
    for module in ours.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert module.weight.is_contiguous()  # as SB3's ortho_init and parameters_to_vector need it
            module.register_forward_hook(lambda _, inputs, output: strides.extend([inputs[0].stride(1), output.stride(1)]))
    for frames in (th.rand(2, n_channels, 40, SIZE), th.rand(2, 40, SIZE, n_channels).permute(0, 3, 1, 2)):
        th.testing.assert_close(ours(frames), plain(frames), rtol=1e-4, atol=1e-5)
        th.testing.assert_close(ours.auxiliary_losses(frames), plain.auxiliary_losses(frames), rtol=1e-4, atol=1e-5)
    # The last map of a decoder is a picture of its own, whose layout no convolution reads.
    assert strides.count(1) >= len(strides) - 4


def test_vectors_stay_as_they_are():
    space = spaces.Box(-1, 1, (5,), np.float32)
    extractor = LatentExtractor(space, latent_dim=3, tasks={"recon": {}}, channels_last=True)
    assert not [module for module in extractor.modules() if module._forward_pre_hooks]
    assert extractor(th.rand(2, 5)).shape == (2, 3)


# ---------------------------------------------------------------------- settings


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_saved_model_keeps_its_switch(switch, tmp_path):
    model = model_of("PPO", **{switch: True})
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", device="cpu")
    expected = Execution(**{switch: True})
    for one in (loaded, model):
        assert get_extractor(one).execution == expected
    policy = LatentActorCriticPolicy(
        model.observation_space, model.action_space, lambda _: 0.0, preset="vae", **CONVOLUTIONS, **{switch: True}
    )
    policy.save(tmp_path / "policy")
    again = LatentActorCriticPolicy.load(tmp_path / "policy", device="cpu")
    assert again.features_extractor.execution == policy.features_extractor.execution == expected


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["deepcopy", "pickle"])
def test_what_was_compiled_stays_behind(copied, compiled):
    extractor = get_extractor(model_of("PPO", compile=True).learn(32))
    assert len(compiled) == 1
    twin = copied(extractor)
    assert twin.execution == extractor.execution and twin.execution.compile
    images = th.rand(2, 1, SIZE, SIZE)
    th.testing.assert_close(twin.train().encode(images).mean, extractor.eval().encode(images).mean)
    assert len(compiled) == 2


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("value", [1, "yes", None])
def test_a_bad_value_is_named(switch, value):
    for build in (
        lambda: latent_kwargs("vae", **{switch: value}),
        lambda: latent_kwargs("sac_ae", **{switch: value}),
        lambda: LatentExtractor(spaces.Box(-1, 1, (5,), np.float32), **{switch: value}),
    ):
        with pytest.raises(ValueError) as raised:
            build()
        assert str(raised.value) == f"{switch}={value!r} must be True or False."


@pytest.mark.parametrize("switch", SWITCHES)
def test_presets_of_windows_have_no_such_setting(switch):
    with pytest.raises(TypeError, match=f"setting of 'slac': '{switch}'"):
        latent_kwargs("slac", **{switch: True})


@pytest.mark.parametrize("switch", ["autocast", "compile"])
def test_trpo_refuses_what_it_cannot_differentiate_twice(switch):
    with pytest.raises(ValueError, match=f"{switch}=True.*TRPO differentiates twice") as raised:
        model_of("TRPO", **{switch: True})
    assert "\n" not in str(raised.value)
