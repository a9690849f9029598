"""Encoder files carry weights between models, say what does not fit, and run no code."""

import json
import pickle
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import DQN, PPO, SAC

from sb3_latent import LatentExtractor, get_extractor, get_extractors, latent_kwargs, load_encoder, save_encoder
from sb3_latent.presets import extractor_settings
from sb3_latent.weights import FORMAT, read_weights, write_weights

IMAGE = spaces.Box(0, 255, (1, 32, 32), np.uint8)
DICT = spaces.Dict({"camera": IMAGE, "speed": spaces.Box(-1, 1, (3,))})
SMALL = {"trunk": "mlp", "trunk_kwargs": {"net_arch": [16]}, "latent_dim": 4}


class Idle(gym.Env):
    """An environment that only has spaces; no test here steps it."""

    def __init__(self, observation_space, continuous):
        self.observation_space = observation_space
        self.action_space = spaces.Box(-1, 1, (2,)) if continuous else spaces.Discrete(3)


def make_model(algorithm, space=IMAGE, preset="vae", **overrides):
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "CnnPolicy"
    kwargs = {} if algorithm is PPO else {"buffer_size": 1}
    policy_kwargs = {**latent_kwargs(preset, **{**SMALL, **overrides}), "net_arch": [8]}
    return algorithm(policy, Idle(space, algorithm is SAC), policy_kwargs=policy_kwargs, device="cpu", **kwargs)


def make_extractor(space=IMAGE, preset="vae", **overrides):
    return LatentExtractor(space, **extractor_settings(preset, **{**SMALL, **overrides}))


def sample(space, n=5):
    """A batch as SB3 preprocesses it."""
    if isinstance(space, spaces.Dict):
        return {key: sample(part, n) for key, part in space.spaces.items()}
    return th.rand(n, *space.shape)


def weights_of(module):
    return {name: value.clone() for name, value in module.state_dict().items() if isinstance(value, th.Tensor)}


def equal(first, second):
    return first.keys() == second.keys() and all(th.equal(first[name], second[name]) for name in first)


@pytest.fixture
def file(tmp_path):
    return save_encoder(make_extractor(), tmp_path / "encoder.safetensors")


def rewritten(file, text):
    """The same tensors with other metadata."""
    with safetensors.safe_open(str(file), framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    safetensors.torch.save_file(tensors, file, {FORMAT: text})


@pytest.mark.parametrize("space", [IMAGE, DICT], ids=["image", "dict"])
@pytest.mark.parametrize("source, target", [(PPO, SAC), (SAC, PPO), (PPO, DQN)])
def test_features_survive_the_way_to_another_algorithm(tmp_path, space, source, target):
    before, after = make_model(source, space), make_model(target, space)
    observations = sample(space)
    features = get_extractor(before).encode(observations)
    assert not th.allclose(features.mean, get_extractor(after).encode(observations).mean)
    assert save_encoder(before, tmp_path / "e.safetensors") == tmp_path / "e.safetensors"
    load_encoder(after, tmp_path / "e.safetensors")
    for extractor in get_extractors(after):
        for here, there in zip(extractor.encode(observations), features, strict=True):
            assert th.equal(here, there)


@pytest.mark.parametrize("algorithm, count", [(SAC, 3), (DQN, 2)])
def test_target_networks_are_loaded_as_well(file, algorithm, count):
    model = make_model(algorithm)
    load_encoder(model.policy, file)
    extractors = get_extractors(model)
    assert len(extractors) == count
    wanted, _ = read_weights(file)
    assert all(equal(weights_of(extractor.encoders), weights_of(extractors[0].encoders)) for extractor in extractors)
    assert th.equal(
        extractors[-1].encoders.by_key.observation.head.mean.weight, wanted["encoders.by_key.observation.head.mean.weight"]
    )


def test_an_encoder_of_single_frames_reads_stacks_of_any_length(tmp_path):
    single = make_extractor(spaces.Box(0, 255, (1, 32, 32), np.uint8))
    save_encoder(single, tmp_path / "e.safetensors")
    for n_frames in (2, 4):
        stacked = make_extractor(spaces.Box(0, 255, (n_frames, 32, 32), np.uint8), per_frame=True)
        load_encoder(stacked, tmp_path / "e.safetensors")
        observations = th.rand(5, n_frames, 32, 32)
        expected = [single.encode(observations[:, [frame]]).mean for frame in range(n_frames)]
        th.testing.assert_close(stacked.encode(observations).mean, th.cat(expected, 1))


def test_pretrained_is_the_same_as_loading(file):
    loaded = make_model(PPO)
    load_encoder(loaded, file)
    built = make_model(PPO, pretrained=file)
    assert equal(weights_of(get_extractor(built)), weights_of(get_extractor(loaded)))


def test_a_frozen_encoder_is_loaded_and_stays_frozen(file):
    extractor = make_extractor(frozen=True)
    before = weights_of(extractor.encoders)
    load_encoder(extractor, file)
    assert extractor.frozen and not equal(before, weights_of(extractor.encoders))


def test_decoders_are_taken_over_where_they_fit(tmp_path):
    source, target = make_extractor(), make_extractor()
    save_encoder(source, tmp_path / "e.safetensors")
    load_encoder(target, tmp_path / "e.safetensors")
    z = th.randn(5, 4)
    assert th.equal(source.decode(z), target.decode(z))


@pytest.mark.parametrize(
    "tasks",
    [{"recon": {"loss": "gaussian", "learn_std": True}, "kl": {}}, {"kl": {}}, {}],
    ids=["other decoder", "no decoder", "no task"],
)
def test_decoders_are_left_alone_where_they_do_not_fit(file, tasks):
    target = make_extractor(tasks=tasks)
    before, encoder = weights_of(target.tasks), weights_of(target.encoders)
    load_encoder(target, file)
    assert equal(before, weights_of(target.tasks)) and not equal(encoder, weights_of(target.encoders))


def test_a_file_without_decoders_gives_the_encoder(tmp_path):
    save_encoder(make_extractor(tasks={}), tmp_path / "e.safetensors")
    target = make_extractor()
    before = weights_of(target.tasks)
    load_encoder(target, tmp_path / "e.safetensors")
    assert equal(before, weights_of(target.tasks))


@pytest.mark.parametrize(
    "overrides, named",
    [
        ({"latent_dim": 5}, "observation.latent_dim is 5 here and 4 in the file"),
        ({"trunk": "nature", "trunk_kwargs": {}}, "observation.trunk is 'nature' here and 'mlp' in the file"),
        ({"trunk_kwargs": {"net_arch": [32]}}, "observation.trunk_kwargs.net_arch is [32] here and [16] in the file"),
        ({"preset": "ae"}, "observation.head is 'deterministic' here and 'gaussian' in the file"),
        (
            {"space": spaces.Box(0, 255, (3, 32, 32), np.uint8)},
            "observation.frame_shape is [3, 32, 32] here and [1, 32, 32] in the file",
        ),
        ({"space": DICT}, "camera is {"),
    ],
    ids=["latent_dim", "trunk", "net_arch", "head", "frame_shape", "keys"],
)
def test_a_mismatch_names_what_differs_and_changes_nothing(file, overrides, named):
    extractor = make_extractor(**overrides)
    before = weights_of(extractor)
    with pytest.raises(ValueError, match="does not fit this encoder") as caught:
        load_encoder(extractor, file)
    assert named in str(caught.value) and "\n" not in str(caught.value)
    assert equal(before, weights_of(extractor))


def test_a_missing_file_says_how_to_write_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="save_encoder"):
        load_encoder(make_extractor(), tmp_path / "none.safetensors")


def test_a_model_without_our_extractor_is_refused(tmp_path):
    plain = PPO("CnnPolicy", Idle(spaces.Box(0, 255, (1, 36, 36), np.uint8), False), device="cpu")
    with pytest.raises(TypeError, match="has no LatentExtractor"):
        save_encoder(plain, tmp_path / "e.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    safetensors.torch.save_file({"weight": th.zeros(3)}, tmp_path / "e.safetensors")
    with pytest.raises(ValueError, match="is no sb3_latent encoder"):
        load_encoder(make_extractor(), tmp_path / "e.safetensors")


class Payload:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


@pytest.mark.parametrize(
    "write", [th.save, lambda payload, path: path.write_bytes(pickle.dumps(payload))], ids=["torch", "pickle"]
)
def test_a_pickle_is_refused_and_not_run(tmp_path, write):
    path, victim = tmp_path / "encoder.safetensors", tmp_path / "victim"
    write(Payload(victim), path)
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        load_encoder(make_extractor(), path)
    assert not victim.exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "{}", '{"architecture": [], "checksum": ""}', '{"architecture": {}}', "[" * 100_000],
    ids=lambda text: text[:40],
)
def test_metadata_that_are_no_architecture_are_refused(file, text):
    rewritten(file, text)
    with pytest.raises(ValueError, match="its metadata is no architecture"):
        load_encoder(make_extractor(), file)


def test_the_same_weights_make_the_same_file(tmp_path):
    extractor = make_extractor(DICT)
    contents = {save_encoder(extractor, tmp_path / f"{i}.safetensors").read_bytes() for i in range(5)}
    assert len(contents) == 1


def test_one_changed_bit_of_a_weight_is_noticed(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="do not have their checksum"):
        load_encoder(make_extractor(), file)


@settings(max_examples=150)
@given(data=st.data())
def test_damage_of_any_kind_is_a_value_error_and_changes_nothing(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    whole = save_encoder(TINY, path).read_bytes()
    kind = data.draw(st.sampled_from(["random", "truncated", "changed"]))
    if kind == "random":
        content = data.draw(st.binary(max_size=200))
    elif kind == "truncated":
        content = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        content = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    before = weights_of(TINY)
    try:
        load_encoder(TINY, path)
    except ValueError as error:
        assert str(path) in str(error)
    assert equal(before, weights_of(TINY))


TINY = make_extractor(spaces.Box(-1, 1, (2,)), trunk_kwargs={"net_arch": [2]}, latent_dim=1)


def test_the_architecture_can_be_read_without_a_model(file):
    assert read_weights(file)[1] == json.loads(json.dumps(make_extractor().architecture))


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_save_leaves_the_old_file(file, monkeypatch, error):
    before = file.read_bytes()

    def interrupted(path, content):
        with path.open("wb") as stream:
            stream.write(content[:100])
        raise error

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(error):
        save_encoder(make_extractor(), file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_everybody_may_read_the_file_who_may_read_a_new_one(file):
    (file.parent / "plain").touch()
    assert file.stat().st_mode == (file.parent / "plain").stat().st_mode


def test_every_kind_of_tensor_is_written_and_read(tmp_path):
    shared = th.arange(6.0).reshape(2, 3)
    tensors = {
        "scalar": th.tensor(3.0, requires_grad=True),
        "transposed": shared.T,
        "shared": shared,
        "empty": th.zeros(0, 2),
        "half": th.ones(2, dtype=th.bfloat16),
        "flag": th.tensor([True, False]),
    }
    write_weights(tmp_path / "e.safetensors", tensors, {"encoders": {"b": (1, 2)}, "tasks": {}})
    back, architecture = read_weights(tmp_path / "e.safetensors")
    assert architecture == {"encoders": {"b": [1, 2]}, "tasks": {}}
    assert equal({name: tensor.detach() for name, tensor in tensors.items()}, back)


def test_a_decoder_of_another_loss_is_left_out_and_told(tmp_path):
    """Its weights have the same shapes, but its output means logits."""
    file = save_encoder(make_extractor(tasks={"recon": {"loss": "bernoulli"}}), tmp_path / "e.safetensors")
    extractor = make_extractor(tasks={"recon": {}})
    before = {name: tensor.clone() for name, tensor in extractor.tasks.state_dict().items()}
    with pytest.warns(UserWarning, match="decoders of .* left out, .*bernoulli"):
        load_encoder(extractor, file)
    assert all(tensor.equal(before[name]) for name, tensor in extractor.tasks.state_dict().items())
