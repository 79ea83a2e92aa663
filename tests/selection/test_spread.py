"""Greedy k-centre is exact, and what is taken already counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swath.errors import InputError
from swath.selection.spread import farthest_first


def check_picks(points: np.ndarray, rows: list[int], taken: list[int]) -> None:
    """Hold each pick against the definition, with all distances in float64."""
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    for position, row in enumerate(rows):
        chosen = [*taken, *rows[:position]]
        if not chosen:
            from_mean = np.linalg.norm(points - points.mean(axis=0), axis=1)
            assert from_mean[row] == pytest.approx(from_mean.min(), abs=1e-4)
            continue
        nearest = distance[:, chosen].min(axis=1)
        nearest[chosen] = -1
        assert nearest[row] == pytest.approx(nearest.max(), abs=2e-3)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 6), st.booleans())
def test_every_pick_is_the_farthest(seed: int, scenes: int, width: int, some_taken: bool) -> None:
    random = np.random.default_rng(seed)
    points = random.normal(50, 1, (scenes, width))  # far from 0, where rounding is worst
    taken = [1] if some_taken else []
    rows, distance = farthest_first(points, scenes - len(taken), taken=taken)
    check_picks(points, rows.tolist(), taken)
    assert (np.diff(distance[1:]) <= 2e-3).all()  # ever nearer
    assert sorted([*rows.tolist(), *taken]) == list(range(scenes))


def test_copies_are_not_picked_twice() -> None:
    rows, distance = farthest_first(np.ones((6, 3), np.float16), 6)
    assert sorted(rows.tolist()) == list(range(6))
    assert (distance[1:] == 0).all()


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match="3 points were asked for, and 2 of 3"):
        farthest_first(np.ones((3, 2)), 3, taken=[0])
