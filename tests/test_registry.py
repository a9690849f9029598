"""Names find classes; wrong names are told apart from right ones in one line."""

import pytest

from sb3_latent.auxiliary import TASKS
from sb3_latent.nn import AUGMENTATIONS, HEADS, LIKELIHOODS, TRUNKS, MlpTrunk, Trunk
from sb3_latent.registry import Registry, unknown

REGISTRIES = {registry.kind: registry for registry in (TRUNKS, HEADS, TASKS, LIKELIHOODS, AUGMENTATIONS)}


class Animal:
    pass


class Dog(Animal):
    pass


class Stone:
    pass


@pytest.fixture
def animals():
    registry = Registry("animal", Animal)
    registry.register("dog")(Dog)
    return registry


def test_a_class_is_found_by_its_name_and_by_its_dotted_path(animals):
    assert animals.get("dog") is Dog
    assert animals.get(f"{__name__}.Dog") is Dog


def test_the_decorator_returns_the_class_and_names_come_sorted(animals):
    assert animals.register("cat")(type("Cat", (Animal,), {})).__name__ == "Cat"
    assert animals.names() == ["cat", "dog"]


def test_a_name_is_given_once(animals):
    with pytest.raises(ValueError, match="animal 'dog' is already Dog"):
        animals.register("dog")(type("Poodle", (Dog,), {}))
    assert animals.get("dog") is Dog


@pytest.mark.parametrize("cls", [Stone, Dog(), "Dog"])
def test_only_classes_of_the_kind_are_registered(animals, cls):
    with pytest.raises(TypeError, match=r"animal 'stone' is .* does not extend .*Animal"):
        animals.register("stone")(cls)
    assert animals.names() == ["dog"]


@pytest.mark.parametrize(
    ("name", "error", "parts"),
    [
        ("dgo", ValueError, ["animal", "'dgo'", "did you mean 'dog'?", "Allowed: 'dog'."]),
        ("whale", ValueError, ["'whale'", "Allowed: 'dog'."]),
        ("no_such_package.Dog", ValueError, ["'no_such_package.Dog'", "cannot be imported", "['dog']"]),
        (f"{__name__}.Dgo", ValueError, ["Dgo", "cannot be imported", "['dog']"]),
        (f"{__name__}.Stone", TypeError, ["Stone", "does not extend", "Animal"]),
        (f"{__name__}.REGISTRIES", TypeError, ["REGISTRIES", "does not extend", "Animal"]),
        (None, TypeError, ["animal", "not None", "['dog']"]),
        (Dog, TypeError, ["animal", "Dog", "['dog']"]),
    ],
)
def test_a_wrong_name_is_explained_in_one_line(animals, name, error, parts):
    with pytest.raises(error) as raised:
        animals.get(name)
    assert all(part in str(raised.value) for part in parts)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("path", [".Dog", "..Dog", "dog."])
def test_a_path_that_is_no_path_is_explained_too(animals, path):
    with pytest.raises(ValueError, match=r"animal .* cannot be imported .* registered: \['dog'\]"):
        animals.get(path)


def test_capitals_do_not_hide_the_nearest_match():
    assert "did you mean 'vae'?" in unknown("preset", "VAE", ["ae", "vae", "cnn"])


def test_a_message_reads_as_sentences_with_and_without_a_hint():
    assert unknown("animal", "dgo", ["dog"]) == "unknown animal 'dgo'; did you mean 'dog'? Allowed: 'dog'."
    assert unknown("animal", "whale", ["dog"]) in (
        "unknown animal 'whale'. Allowed: 'dog'.",
        "unknown animal 'whale'; allowed: 'dog'.",
    )


def test_each_name_is_listed_once_and_none_is_said_so():
    assert unknown("key", "x", ["b", "a", "b"]).endswith("Allowed: 'a', 'b'.")
    assert unknown("key", "x", []).endswith("Allowed: none.")


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_entry_is_documented_and_of_its_kind(kind):
    registry = REGISTRIES[kind]
    assert registry.names()
    for name in registry.names():
        cls = registry.get(name)
        assert issubclass(cls, registry.base)
        assert cls.__doc__ and cls.__doc__ != registry.base.__doc__
        assert registry.get(f"{cls.__module__}.{cls.__qualname__}") is cls


def test_registries_do_not_share_names():
    assert TRUNKS.get("mlp") is MlpTrunk and TRUNKS.base is Trunk
    with pytest.raises(ValueError, match="unknown head 'mlp'"):
        HEADS.get("mlp")
