"""A file is written whole or not at all."""

import os
import stat

import numpy as np
import pytest

from sb3_latent.files import atomic_path


def test_the_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "deeper" / "curve.json"
    with atomic_path(path) as temporary:
        temporary.write_text("{}")
        assert temporary.parent == path.parent and not path.exists()
    assert path.read_text() == "{}"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupt_leaves_the_old_file_and_no_litter(tmp_path, error):
    path = tmp_path / "encoder.safetensors"
    path.write_text("old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_before_anything_is_written_is_the_error_one_sees(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "x"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_the_old_file_is_replaced_by_renaming(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old and longer")
    with path.open() as reader:
        with atomic_path(str(path)) as temporary:
            temporary.write_text("new")
        assert reader.read() == "old and longer"
    assert path.read_text() == "new"


def test_writers_that_append_a_suffix_do_not(tmp_path):
    with atomic_path(tmp_path / "frames.npy") as temporary:
        np.save(temporary, np.arange(3))
    np.testing.assert_array_equal(np.load(tmp_path / "frames.npy"), np.arange(3))


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "atomic") as temporary:
        temporary.touch()
    assert stat.S_IMODE(os.stat(tmp_path / "atomic").st_mode) == stat.S_IMODE(os.stat(tmp_path / "plain").st_mode)


def test_nested_writers_of_one_name_do_not_meet(tmp_path):
    path = tmp_path / "x"
    with atomic_path(path) as outer:
        outer.write_text("outer")
        with atomic_path(path) as inner:
            inner.write_text("inner")
        assert path.read_text() == "inner"
    assert path.read_text() == "outer"
