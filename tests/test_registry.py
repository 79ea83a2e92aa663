"""One name, one thing."""

import pytest

from swath.errors import InputError, UnknownNameError
from swath.registry import Registry


@pytest.fixture
def methods():
    registry = Registry("method")

    @registry.register("adagc")
    class AdaGC:
        """A method."""

    registry.found = AdaGC
    return registry


def test_it_is_a_mapping(methods):
    assert methods["adagc"] is methods.found
    assert "adagc" in methods
    assert "other" not in methods
    assert (list(methods), len(methods)) == (["adagc"], 1)
    assert dict(methods.items()) == {"adagc": methods.found}


def test_a_name_used_twice_is_an_error(methods):
    with pytest.raises(InputError, match=r"'adagc' is taken by .*AdaGC"):
        methods.register("adagc")(lambda: None)
    assert methods["adagc"] is methods.found


def test_the_same_class_loaded_anew_replaces_itself(methods):
    again = type(
        "AdaGC", (), {"__module__": methods.found.__module__, "__qualname__": methods.found.__qualname__}
    )
    methods.register("adagc")(again)
    assert methods["adagc"] is again


@pytest.mark.parametrize("name", ["adacg", "ada-gc", "AdaGC"])
def test_an_unknown_name_names_the_nearest(methods, name):
    with pytest.raises(UnknownNameError, match="no method named") as caught:
        methods[name]
    assert ("Did you mean 'adagc'" in str(caught.value)) == (name != "AdaGC")


def test_an_empty_registry_says_so():
    with pytest.raises(UnknownNameError, match="Known: none"):
        Registry("encoder")["resnet"]
