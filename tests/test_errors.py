"""Errors can be caught as swath's, and as the built-in kind they resemble."""

import inspect
import pickle

import pytest

from swath import errors
from swath.errors import MissingKeyError, SwathError, UnknownNameError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, SwathError)]
BUILT_IN = {
    "InputError": ValueError,
    "LabelError": ValueError,
    "ContractError": ValueError,
    "SceneError": OSError,
    "OutputError": OSError,
    "RunError": OSError,
    "MissingKeyError": KeyError,
    "MissingExtraError": ImportError,
    "UnknownNameError": LookupError,
}


def test_every_error_is_public_and_tested():
    assert {kind.__name__ for kind in KINDS} == set(errors.__all__) == set(BUILT_IN) | {"SwathError"}


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_error_is_also_of_the_built_in_kind(name):
    assert issubclass(getattr(errors, name), (BUILT_IN[name]))
    assert issubclass(getattr(errors, name), SwathError)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not UnknownNameError])
def test_messages_are_shown_as_they_were_written(kind):
    message = "Two words: 'quoted' \n and a line"
    assert str(kind(message)) == message
    assert str(pickle.loads(pickle.dumps(kind(message)))) == message
    assert str(kind()) == ""


def test_a_missing_key_is_not_quoted_as_python_does():
    assert str(MissingKeyError("The batch has no 'x'.")) == "The batch has no 'x'."


def test_unknown_names_list_some_of_many():
    error = UnknownNameError("encoder", "resnet_50", [f"resnet{number}" for number in range(100)])
    assert str(error).endswith(", ....")
    assert error.name == "resnet_50"
    assert "Did you mean" not in str(UnknownNameError("class", "zzz", ["water", "forest"]))
