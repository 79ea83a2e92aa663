"""Budgets are divided exactly, in proportion or evenly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swath.errors import InputError
from swath.selection.shares import kept_of, largest_remainder, water_filling

SIZES = st.lists(st.integers(0, 50), min_size=1, max_size=12)


@pytest.mark.parametrize("wanted", ["15%", "0.15", 0.15, "150", 150, " 15 % ", "15.0%"])
def test_a_budget_is_a_percentage_a_share_or_a_number(wanted: str | float) -> None:
    assert kept_of(wanted, 1000) == 150


@pytest.mark.parametrize("wanted", ["", "many", "-3", "1.5", "15%%", "nan", "inf", "1e3", None])
def test_what_is_no_budget_is_refused(wanted: str) -> None:
    with pytest.raises(InputError, match="expected a percentage such as 15%"):
        kept_of(wanted, 1000)


@pytest.mark.parametrize("wanted", [0, "0", "0%", "0.0001", 1001, "101%"])
def test_no_scene_and_more_than_there_are_are_refused(wanted: str | float) -> None:
    with pytest.raises(InputError, match="expected from 1 to 1000"):
        kept_of(wanted, 1000)


@given(SIZES, st.integers(0, 200))
def test_parts_in_proportion_are_within_one_of_their_share(weights: list[int], total: int) -> None:
    if sum(weights) == 0:
        with pytest.raises(InputError):
            largest_remainder(weights, total)
        return
    parts = largest_remainder(weights, total)
    assert parts.sum() == total
    assert (np.abs(parts - np.array(weights) / sum(weights) * total) < 1).all()


@given(SIZES, st.floats(0, 1))
def test_even_parts_are_the_most_even_ones(sizes: list[int], share: float) -> None:
    total = round(share * sum(sizes))
    parts = water_filling(sizes, total)
    assert parts.sum() == total
    assert (parts <= sizes).all()
    # Independently: scene by scene to a group that has fewest and is not full.
    slow = np.zeros(len(sizes), int)
    for _ in range(total):
        free = [k for k in range(len(sizes)) if slow[k] < sizes[k]]
        slow[min(free, key=lambda k: slow[k])] += 1
    assert sorted(np.array(parts)[np.argsort(sizes)].tolist()) == sorted(slow[np.argsort(sizes)].tolist())


def test_a_budget_beyond_the_groups_is_refused() -> None:
    with pytest.raises(InputError, match="groups of 5 scenes"):
        water_filling([2, 3], 6)
