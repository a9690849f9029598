"""Targets of few bits against the authors' formula on bytes."""

import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st

from sb3_latent import losses

BYTES = th.arange(256, dtype=th.uint8)


def of_the_authors(image, bits, noise):
    """SAC+AE's target, typed anew: integers throughout, one pixel at a time."""
    steps = 2 ** (8 - bits)
    return [(byte // steps) / 2**bits + u / 2**bits - 0.5 for byte, u in zip(image.tolist(), noise.tolist(), strict=True)]


@given(st.integers(1, 8), st.integers(0, 1000))
def test_every_byte_is_the_authors_target(bits, seed):
    noise = th.rand(256, generator=th.Generator().manual_seed(seed))
    expected = th.tensor(of_the_authors(BYTES, bits, noise), dtype=th.float64)
    target = losses.quantize(BYTES / 255, bits, noise)
    th.testing.assert_close(target.double(), expected, rtol=0, atol=2**-24)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("scaled", [BYTES / 255, BYTES * (1 / 255), th.nextafter(BYTES / 255, th.zeros(256))])
def test_the_rounding_of_scaled_bytes_never_costs_a_step(bits, scaled):
    target = losses.quantize(scaled, bits, th.zeros(256))
    assert th.equal((target + 0.5) * 2**bits, (BYTES >> (8 - bits)).float())


def test_targets_lie_within_half_around_0():
    lowest, highest = losses.quantize(th.tensor([0.0, 1.0]), 5, th.tensor([0.0, 1 - 2**-24])).tolist()
    assert lowest == -0.5 and 0.49 < highest <= 0.5


def test_images_and_noise_stay_as_they_are():
    images, noise = th.rand(2, 3, 4, 4), th.rand(2, 3, 4, 4)
    before = images.clone(), noise.clone()
    losses.quantize(images, 5, noise)
    assert th.equal(images, before[0]) and th.equal(noise, before[1])


@pytest.mark.parametrize("shape", [(3, 5, 7, 9), (64, 3, 32, 32)])
@pytest.mark.parametrize("layout", [th.contiguous_format, th.channels_last])
def test_noise_is_uniform_bytes_in_the_layout_of_the_images(shape, layout):
    images = th.zeros(shape).contiguous(memory_format=layout)
    th.manual_seed(0)
    noise = losses.dequantization_noise(images)
    th.manual_seed(0)
    assert th.equal(noise, losses.dequantization_noise(images)) and not th.equal(noise, losses.dequantization_noise(images))
    assert noise.shape == images.shape and noise.stride() == images.stride() and noise.dtype == images.dtype
    assert th.equal(noise * 256, (noise * 256).round()) and 0 <= noise.min() and noise.max() < 1


def test_every_byte_of_the_noise_is_as_likely_as_any_other():
    """The eighth of each number too, which holds its sign."""
    th.manual_seed(0)
    noise = (losses.dequantization_noise(th.zeros(2**20)) * 256).long()
    for part in (noise, noise[7::8], noise[::8]):
        counts = th.bincount(part, minlength=256).double()
        expected = len(part) / 256
        chi_square = float(((counts - expected) ** 2 / expected).sum())
        assert 150 < chi_square < 380  # 255 degrees of freedom, more than 4 standard deviations either way
