"""The contract of every augmentation, and random shifts against padding and cropping one image at a time."""

import copy
import pickle

import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sb3_latent.nn import AUGMENTATIONS, RandomShift
from sb3_latent.registry import Registry

ALL = AUGMENTATIONS.names()


def images_of(dtype, channels_last=False, shape=(5, 3, 11, 14)):
    images = th.randint(256, shape, dtype=th.uint8)
    images = images if dtype == th.uint8 else images.to(dtype) / 255
    return images.contiguous(memory_format=th.channels_last) if channels_last else images


def crops(image, pad):
    """Every window of a padded image by its shift (down, right), with the functions DrQ uses."""
    height, width = image.shape[1:]
    padded = F.pad(image[None].double(), (pad,) * 4, mode="replicate")[0].to(image.dtype)
    return {
        (y - pad, x - pad): padded[:, y : y + height, x : x + width] for y in range(2 * pad + 1) for x in range(2 * pad + 1)
    }


def shifts_of(n, pad, seed):
    """(n, 2): shifts of images whose pixels say where they come from, read off the central one."""
    th.manual_seed(seed)
    side = 2 * pad + 1
    image = th.arange(side * side).reshape(1, 1, side, side)
    centre = RandomShift(pad)(image.expand(n, 1, side, side))[:, 0, pad, pad]
    return th.stack([centre // side, centre % side], 1) - pad


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [th.uint8, th.float32, th.float64, th.bfloat16])
def test_an_augmentation_keeps_shape_and_dtype_and_changes_rows_in_ways_of_their_own(name, dtype, channels_last):
    augmentation = AUGMENTATIONS.get(name)()
    images = images_of(dtype, channels_last)[:1].expand(40, -1, -1, -1)
    before = images.clone()
    views = augmentation(images)
    assert views.shape == images.shape and views.dtype == dtype
    assert len(views.flatten(1).double().unique(dim=0)) > 20
    assert th.equal(images, before)


@pytest.mark.parametrize("name", ALL)
def test_an_augmentation_is_the_same_for_a_seed_a_layout_and_a_copy(name):
    augmentation, images = AUGMENTATIONS.get(name)(), images_of(th.uint8)
    views = []
    for twin, batch in (
        (augmentation, images),
        (augmentation, images.contiguous(memory_format=th.channels_last)),
        (copy.deepcopy(augmentation), images),
        (pickle.loads(pickle.dumps(augmentation)), images.clone()),
        (augmentation.eval(), images),
    ):
        th.manual_seed(5)
        views.append(twin(batch))
    assert all(th.equal(view, views[0]) for view in views)
    assert not th.equal(augmentation(images), views[0])


def test_augmentations_have_a_registry():
    assert isinstance(AUGMENTATIONS, Registry) and AUGMENTATIONS.kind == "augmentation"
    assert AUGMENTATIONS.get("random_shift") is RandomShift


@given(st.integers(1, 6), st.tuples(*[st.integers(2, 12)] * 3), st.booleans(), st.booleans(), st.integers(0, 99))
@settings(max_examples=40)
def test_a_shifted_image_is_a_window_of_the_padded_one(pad, shape, is_float, channels_last, seed):
    th.manual_seed(seed)
    images = images_of(th.float32 if is_float else th.uint8, channels_last, (4, *shape))
    for image, view in zip(images, RandomShift(pad)(images), strict=True):
        assert any(th.equal(view, window) for window in crops(image, pad).values())


def test_a_pixel_goes_where_padding_and_cropping_take_it():
    pad, images = 3, images_of(th.uint8, shape=(30, 2, 9, 8))
    th.manual_seed(1)
    views = RandomShift(pad)(images)
    matches = [
        [shift for shift, window in crops(image, pad).items() if th.equal(view, window)]
        for image, view in zip(images, views, strict=True)
    ]
    assert all(len(found) == 1 for found in matches)
    assert len({found[0] for found in matches}) > 15


def test_shifts_are_uniform_and_independent():
    n, pad = 40_000, 2
    shifts = shifts_of(n, pad, seed=0)
    assert (shifts.min(), shifts.max()) == (-pad, pad)
    cells = (shifts[:, 0] + pad) * 5 + shifts[:, 1] + pad
    # A chi-square of 24 degrees of freedom passes 52 once in a thousand times.
    counts = th.bincount(cells, minlength=25).double()
    assert ((counts - n / 25) ** 2 / (n / 25)).sum() < 52
    columns = th.cat([shifts[:-1], shifts[1:]], 1).double()
    off_diagonal = th.corrcoef(columns.T) - th.eye(4)
    assert off_diagonal.abs().max() < 5 / n**0.5, "along the axes of an image and from one row to the next"


def test_no_shift_is_the_object_itself_and_draws_no_random_number():
    images, state = images_of(th.uint8), th.get_rng_state()
    assert RandomShift(0)(images) is images
    assert th.equal(th.get_rng_state(), state)
    RandomShift(1)(images)
    assert not th.equal(th.get_rng_state(), state)


def test_gradients_go_back_to_the_pixels_that_were_copied():
    images = images_of(th.float64, shape=(3, 2, 5, 5)).requires_grad_()

    def shifted(x):
        th.manual_seed(2)
        return RandomShift(2)(x)

    assert th.autograd.gradcheck(shifted, (images,))


@pytest.mark.parametrize("pad", [-1, 1.5, True, "4"])
def test_a_pad_is_a_whole_number(pad):
    with pytest.raises(ValueError, match=r"pad=.* must be an integer of at least 0"):
        RandomShift(pad)
