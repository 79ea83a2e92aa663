"""Scenes that show the same ground in part are found whatever the shift; look-alikes and flat ones are not."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from swath.errors import InputError
from swath.labels import LabelTable
from swath.scenes.memory import ArrayScenes
from swath.scenes.overlaps import overlapping, shifted_correlation
from swath.scenes.packed import PackedScenes
from swath.scenes.packing import pack


def test_the_best_shift_is_that_of_the_formula() -> None:
    random = np.random.default_rng(0)
    one, other = random.normal(0, 5, (2, 3, 9, 9)).astype(np.float32)
    other[2] = 4  # nothing to correlate with
    expected = np.full(3, -1.0)
    for pair in range(2):
        for down in range(-8, 9):
            for right in range(-8, 9):
                if (9 - abs(down)) * (9 - abs(right)) < 0.5 * 81:
                    continue
                mine = one[pair, max(0, down) : 9 + min(0, down), max(0, right) : 9 + min(0, right)]
                theirs = other[pair, max(0, -down) : 9 + min(0, -down), max(0, -right) : 9 + min(0, -right)]
                expected[pair] = max(expected[pair], np.corrcoef(mine.ravel(), theirs.ravel())[0, 1])
    np.testing.assert_allclose(shifted_correlation(one, other), expected, atol=1e-4)


def landscape(seed: int, side: int = 160) -> np.ndarray:
    """Ground with large forms and fine ones."""
    random = np.random.default_rng(seed)
    coarse, fine = (gaussian_filter(random.normal(size=(side, side)), sigma) for sigma in (8, 1.5))
    return 128 + 40 * coarse / coarse.std() + 12 * fine / fine.std()


def cut(ground: np.ndarray, row: int, column: int) -> np.ndarray:
    return np.repeat(ground[row : row + 64, column : column + 64][None], 3, axis=0)


def packed(images: list[np.ndarray], folder: Path) -> PackedScenes:
    stacked = np.clip(np.stack(images), 0, 255).astype(np.uint8)
    return pack(
        ArrayScenes(stacked, LabelTable(("class",), np.zeros((len(images), 1), np.int8))), None, folder
    )


def test_shifted_and_brightened_ground_is_found_and_nothing_else(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    grounds = [landscape(seed) for seed in range(24)]
    images = [cut(ground, 40, 40) for ground in grounds]
    images += [
        cut(grounds[0], 40, 60),
        cut(grounds[1], 20, 55) * 0.8 + 20,
        cut(grounds[2], 47, 33) + random.normal(0, 3, (3, 64, 64)),
        cut(grounds[3], 40, 85),  # a third in common
        cut(
            gaussian_filter(grounds[4], 6) + landscape(90) - gaussian_filter(landscape(90), 6), 40, 40
        ),  # other detail
    ]
    images += [np.full((3, 64, 64), 90.0) + random.integers(0, 2, (3, 64, 64)) for _ in range(2)]
    # What an encoder should say: the partners are near each other, all in one unknown turn.
    numbers = random.normal(size=(len(images), 16))
    numbers[24:29] = numbers[:5] + random.normal(0, 0.05, (5, 16))
    numbers[30] = numbers[29]
    store = packed(images, tmp_path / "store")
    found = [group.tolist() for group in overlapping(store, numbers)]
    assert found == [[0, 24], [1, 25], [2, 26]]
    # The order of the scenes and the scale of the features do not matter.
    order = random.permutation(len(images))
    again = overlapping(packed([images[row] for row in order], tmp_path / "other"), 7 * numbers[order] - 3)
    assert sorted(sorted(order[group].tolist()) for group in again) == found


def test_what_is_no_row_of_features_for_each_scene_is_refused(tmp_path: Path) -> None:
    store = packed([cut(landscape(seed), 0, 0) for seed in range(3)], tmp_path / "store")
    for wrong in (np.zeros((2, 4)), np.zeros(3), np.full((3, 4), np.nan)):
        with pytest.raises(InputError, match="expected 3 finite rows"):
            overlapping(store, wrong)
    with pytest.raises(InputError, match="above 0 and up to 1, and 1 or more"):
        overlapping(store, np.zeros((3, 4)), correlation=0)
    assert overlapping(store, np.zeros((3, 4))) == []
    assert overlapping(packed([cut(landscape(0), 0, 0)], tmp_path / "one"), np.zeros((1, 4))) == []
