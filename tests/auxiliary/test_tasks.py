"""The contract of every task, and what recon, kl and latent_l2 compute."""

import copy
import pickle

import pytest
import torch as th

from sb3_latent import losses
from sb3_latent.auxiliary import TASKS, AuxiliaryTask, KLTask, LatentL2Task, ReconstructionTask
from sb3_latent.images import ArraySpec
from sb3_latent.nn import Encoder

ALL = TASKS.names()
ROW_BY_ROW = [name for name in ALL if not TASKS.get(name).contrasts]
IMAGE, VECTOR = ArraySpec("camera", (2, 32, 36)), ArraySpec("speed", (6,))


def encoder_of(spec, head="gaussian"):
    trunk_kwargs = {"hidden_dim": 32} if spec.is_image else {"net_arch": (16,)}
    return Encoder(spec, 5, None, trunk_kwargs, head, {})


def frames_of(spec, batch=4):
    return th.rand(batch, *spec.frame_shape)


def rows_of(task, latent, sample, frames):
    """What a task makes of a batch; those that contrast get a positive near the mean."""
    positive = [latent.mean + 0.1] if task.contrasts else []
    return task(latent, sample, frames, *positive)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("spec", [IMAGE, VECTOR], ids=["image", "vector"])
def test_a_loss_is_one_finite_value_a_row_and_trains_encoder_and_task(name, spec):
    encoder, frames = encoder_of(spec), frames_of(spec)
    task = TASKS.get(name)(encoder)
    latent = encoder(frames)
    rows = rows_of(task, latent, latent.sample(), frames)
    assert rows.shape == (4,) and rows.isfinite().all()
    rows.mean().backward()
    assert all(parameter.grad.any() for parameter in encoder.trunk.parameters())
    assert encoder.head.mean.weight.grad.any()
    assert all(parameter.grad.any() for parameter in task.parameters())


@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_rows_do_not_know_of_each_other(name):
    encoder, frames = encoder_of(IMAGE), frames_of(IMAGE)
    task = TASKS.get(name)(encoder)

    def rows(part):
        latent = encoder(part)
        return task(latent, latent.mean, part)

    alone = th.cat([rows(frame[None]) for frame in frames])
    th.testing.assert_close(rows(frames), alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_a_task_does_not_keep_the_encoder(name):
    encoder = encoder_of(IMAGE)
    task = TASKS.get(name)(encoder)
    ours, theirs = ({id(p) for p in module.parameters()} for module in (task, encoder))
    assert not ours & theirs
    assert not any(isinstance(value, Encoder) for value in vars(task).values())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_say_the_same(name, copied):
    encoder, frames = encoder_of(IMAGE), frames_of(IMAGE)
    task = TASKS.get(name)(encoder)
    latent = encoder(frames)
    assert th.equal(rows_of(copied(task), latent, latent.mean, frames), rows_of(task, latent, latent.mean, frames))


@pytest.mark.parametrize("name", ALL)
def test_the_default_coefficient_is_a_positive_number(name):
    assert 0 < TASKS.get(name)(encoder_of(VECTOR)).default_coef(1.0) <= 1


def test_defaults_divide_by_the_number_of_features():
    encoder = encoder_of(IMAGE)
    n_features = 2 * 32 * 36
    assert ReconstructionTask(encoder).default_coef(4.0) == pytest.approx(1 / n_features)
    assert KLTask(encoder).default_coef(4.0) == pytest.approx(4 / n_features)
    assert LatentL2Task(encoder).default_coef(4.0) == 1e-6


@pytest.mark.parametrize(("loss", "function"), [("squared_error", losses.squared_error), ("bernoulli", losses.bernoulli_nll)])
def test_recon_compares_the_decoded_sample_with_the_frame(loss, function):
    encoder, frames = encoder_of(IMAGE), frames_of(IMAGE)
    task = ReconstructionTask(encoder, loss=loss)
    latent = encoder(frames)
    sample = latent.sample()
    assert th.equal(task(latent, sample, frames), function(task.decoder(sample), frames))
    assert not th.equal(task(latent, sample, frames), task(latent, latent.mean, frames))


def test_decode_is_in_units_of_the_frames():
    task, z = ReconstructionTask(encoder_of(IMAGE), loss="bernoulli"), 100 * th.randn(3, 5)
    assert th.equal(task.decode(z), task.decoder(z).sigmoid())
    task = ReconstructionTask(encoder_of(IMAGE), loss="gaussian", std=0.1)
    assert th.equal(task.decode(z), task.decoder(z))


def test_arguments_of_the_loss_reach_it():
    task = ReconstructionTask(encoder_of(VECTOR), loss="gaussian", std=0.2, learn_std=True)
    assert task.likelihood.log_std.exp().item() == pytest.approx(0.2)
    assert any(parameter is task.likelihood.log_std for parameter in task.parameters())


@pytest.mark.parametrize("free_bits", [0.0, 0.4])
def test_kl_passes_its_free_bits_on(free_bits):
    encoder, frames = encoder_of(VECTOR), frames_of(VECTOR)
    latent = encoder(frames)
    rows = KLTask(encoder, free_bits=free_bits)(latent, latent.sample(), frames)
    assert th.equal(rows, losses.free_bits_kl(latent.mean, latent.log_var, free_bits))


def test_latent_l2_punishes_the_mean_and_not_the_sample():
    encoder, frames = encoder_of(VECTOR), frames_of(VECTOR)
    latent = encoder(frames)
    rows = LatentL2Task(encoder)(latent, 100 * latent.sample(), frames)
    th.testing.assert_close(rows, 0.5 * (latent.mean**2).sum(1))


@pytest.mark.parametrize("head", ["deterministic", "identity"])
def test_kl_of_a_deterministic_head_is_refused(head):
    with pytest.raises(ValueError, match=r"task 'kl' needs a stochastic head, e.g. head='gaussian'"):
        KLTask(encoder_of(VECTOR, head))


@pytest.mark.parametrize("free_bits", [-0.1, float("nan")])
def test_free_bits_are_nats(free_bits):
    with pytest.raises(ValueError, match=f"free_bits={free_bits} must be 0 or more nats"):
        KLTask(encoder_of(VECTOR), free_bits=free_bits)


@pytest.mark.parametrize("loss", ["bernoulli", "sb3_latent.nn.Bernoulli"])
def test_bernoulli_of_a_vector_is_refused(loss):
    with pytest.raises(ValueError, match="'speed' is a vector; use 'gaussian'"):
        ReconstructionTask(encoder_of(VECTOR), loss=loss)


@pytest.mark.parametrize(("loss", "function"), [("squared_error", losses.squared_error), ("gaussian", None)])
def test_recon_of_few_bits_compares_with_fresh_noise(loss, function):
    encoder, frames = encoder_of(IMAGE), th.randint(256, (4, 2, 32, 36)) / 255
    task, twin = (ReconstructionTask(encoder, loss=loss, bits=bits) for bits in (5, None))
    twin.load_state_dict(task.state_dict())
    latent = encoder(frames)
    sample, untouched = latent.sample(), frames.clone()
    th.manual_seed(3)
    first, second = task(latent, sample, frames), task(latent, sample, frames)
    th.manual_seed(3)
    target = losses.quantize(frames, 5, losses.dequantization_noise(frames))
    assert th.equal(first, twin(latent, sample, target)) and not th.equal(first, second)
    assert function is None or th.equal(first, function(task.decoder(sample), target))
    assert th.equal(frames, untouched)


def test_pictures_of_few_bits_come_back_in_units_of_the_frames():
    task, z = ReconstructionTask(encoder_of(IMAGE), bits=5), th.randn(3, 5)
    th.testing.assert_close(task.decode(z), task.decoder(z) + 0.5)


@pytest.mark.parametrize(
    ("spec", "kwargs", "message"),
    [
        (VECTOR, {"bits": 5}, "bits=5 needs pixels, but 'speed' is a vector; drop bits or exclude it"),
        (IMAGE, {"bits": 5, "loss": "bernoulli"}, "outside loss 'bernoulli'; use 'squared_error' or 'gaussian'"),
        (IMAGE, {"bits": 9}, "bits=9 must lie between 1 and 8"),
        (IMAGE, {"bits": 0}, "bits=0 must be an integer of at least 1"),
        (IMAGE, {"bits": 5.0}, "bits=5.0 must be an integer"),
    ],
)
def test_bits_that_make_no_sense_are_refused(spec, kwargs, message):
    with pytest.raises(ValueError, match=message):
        ReconstructionTask(encoder_of(spec), **kwargs)


def test_a_task_is_an_abstract_class():
    with pytest.raises(TypeError, match="abstract"):
        AuxiliaryTask(encoder_of(VECTOR))
