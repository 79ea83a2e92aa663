"""The trigger finds the end of early learning on curves that have one, and fires in time on the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from swath.errors import InputError
from swath.methods.trigger import EarlyLearningTrigger, unknown_confidence


def learn_then_memorise(epochs: int, turn: int) -> np.ndarray:
    """Start near a half, sink within a few epochs, rise while learning, fall while memorising."""
    epoch = np.arange(epochs)
    rise = 0.27 - 0.1 * np.exp(-epoch / (0.3 * turn))
    fall = 0.004 * np.maximum(0, epoch - turn)
    return 0.25 * np.exp(-epoch / 1.5) + rise - fall


def fire(trigger: EarlyLearningTrigger, curve: np.ndarray) -> int | None:
    """Return the epoch in which the trigger fires."""
    fired = [epoch for epoch, value in enumerate(curve) if trigger.update(float(value))]
    assert len(fired) <= 1
    return fired[0] if fired else None


@pytest.mark.parametrize(("epochs", "turn"), [(60, 12), (60, 20), (100, 30), (200, 40)])
def test_fires_soon_after_the_turn(epochs: int, turn: int) -> None:
    trigger = EarlyLearningTrigger(epochs)
    fired = fire(trigger, learn_then_memorise(epochs, turn))
    assert fired is not None
    assert turn <= fired <= turn + trigger.patience + trigger.window
    assert trigger.reason == "peak"
    assert trigger.starts_at == fired + 1
    peak = trigger.peak()
    assert peak is not None
    assert abs(peak - turn) <= trigger.window


def test_noise_of_the_size_seen_in_training_does_not_fire_it_early() -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(0, 0.0005, 60)
        fired = fire(EarlyLearningTrigger(60), learn_then_memorise(60, 25) + noise)
        assert fired is not None
        assert 15 <= fired <= 32


@pytest.mark.parametrize("slope", [0.0, 0.002], ids=["flat", "rising"])
def test_fires_at_the_latest_epoch_without_a_peak(slope: float) -> None:
    trigger = EarlyLearningTrigger(40, latest=0.5)
    fired = fire(trigger, 0.2 + slope * np.arange(40))
    assert (fired, trigger.reason) == (19, "latest")


def test_a_fall_below_where_it_rose_from_does_not_hide_the_peak() -> None:
    trigger = EarlyLearningTrigger(40)
    assert fire(trigger, np.array([0.5, 0.1, 0.2, 0.3, 0.3, 0.3, 0.2, 0.1, *[0.0] * 32])) == 8
    assert (trigger.reason, trigger.peak()) == ("peak", 5)


def test_falling_all_the_time_waits_for_the_latest_epoch() -> None:
    # Nothing rises, so nothing was learned that could be calibrated with.
    trigger = EarlyLearningTrigger(40, latest=0.5)
    assert fire(trigger, np.linspace(0.5, 0.1, 40)) == 19
    assert trigger.reason == "latest"


def test_never_fires_before_the_earliest_epoch() -> None:
    curve = np.array([0.1, 0.2, *np.linspace(0.2, 0.0, 58)])
    assert fire(EarlyLearningTrigger(60, earliest=0.5, latest=0.8), curve) >= 29


@pytest.mark.parametrize("epochs", [1, 2, 3, 5])
def test_always_fires_in_very_short_runs(epochs: int) -> None:
    assert fire(EarlyLearningTrigger(epochs), np.full(epochs, 0.3)) is not None


def test_a_restored_trigger_decides_as_the_uninterrupted_one() -> None:
    curve = learn_then_memorise(60, 20)
    whole = EarlyLearningTrigger(60)
    expected = fire(whole, curve)
    for cut in (1, 10, 22, 24, 40):
        first, second = EarlyLearningTrigger(60), EarlyLearningTrigger(60)
        early = fire(first, curve[:cut])
        second.load_state_dict(first.state_dict())
        late = fire(second, curve[cut:])
        assert (early if early is not None else late + cut) == expected
        for name, value in whole.state_dict().items():
            assert torch.equal(value, second.state_dict()[name]), name


def test_state_is_finite_so_that_checkpoints_take_it() -> None:
    assert all(
        torch.isfinite(value.double()).all() for value in EarlyLearningTrigger(5).state_dict().values()
    )


def test_refuses_what_is_no_signal() -> None:
    trigger = EarlyLearningTrigger(2)
    with pytest.raises(InputError, match="finite"):
        trigger.update(float("nan"))
    trigger.update(0.1)
    trigger.update(0.1)
    with pytest.raises(InputError, match="after 2 of 2 epochs"):
        trigger.update(0.1)
    with pytest.raises(InputError, match="earliest"):
        EarlyLearningTrigger(10, earliest=0.8, latest=0.2)


def test_confidence_looks_only_at_unknown_classes() -> None:
    probability = torch.tensor([[0.9, 0.3, 0.1], [0.2, 0.8, 0.4], [0.5, 0.5, 0.5]])
    unknown = torch.tensor([[False, True, True], [True, False, True], [False, False, False]])
    assert unknown_confidence(probability, unknown) == pytest.approx((0.3 + 0.4) / 2)
    assert unknown_confidence(probability, torch.zeros_like(unknown)) == 0.0
