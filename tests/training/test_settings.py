"""Settings: ranges, and learning rates against closed forms."""

import math

import numpy as np
import pytest

from swath.errors import InputError, UnknownNameError
from swath.training.settings import Settings


def test_cosine_follows_its_formula_after_a_linear_rise():
    settings = Settings(epochs=10, learning_rate=0.5, warmup_epochs=2)
    rates = np.array([settings.rate(step, 30) for step in range(300)])
    np.testing.assert_allclose(rates[:60], 0.5 * np.arange(1, 61) / 60)
    np.testing.assert_allclose(rates[60:], 0.25 * (1 + np.cos(np.pi * np.arange(240) / 240)))
    assert rates.max() == 0.5
    assert rates[-1] > 0  # the last step still learns a little


def test_constant_stays_after_the_rise():
    settings = Settings(epochs=3, learning_rate=0.5, schedule="constant", warmup_epochs=0.5)
    assert [settings.rate(step, 4) for step in range(12)] == [0.25] + [0.5] * 11


@pytest.mark.parametrize("warmup", [0, 0.1, 1, 3, 100])
def test_rates_are_finite_and_positive_whatever_the_rise(warmup):
    settings = Settings(epochs=3, warmup_epochs=warmup)
    assert all(0 < settings.rate(step, 1) <= settings.learning_rate for step in range(3))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("seed", -1),
        ("learning_rate", 0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("weight_decay", -0.1),
        ("weight_decay", math.nan),
        ("warmup_epochs", -1),
        ("warmup_epochs", math.inf),
        ("clip_norm", 0),
        ("patience", 0),
        ("schedule", "linear"),
        ("precision", "int8"),
    ],
)
def test_values_out_of_range_are_named(name, value):
    with pytest.raises(InputError, match=name):
        Settings(**{name: value})


def test_unknown_augmentations_are_named():
    with pytest.raises(UnknownNameError, match=r"'jiter'.*'jitter'"):
        Settings(augment=("jiter",))
