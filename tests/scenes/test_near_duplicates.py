"""Scenes that show nearly the same are found, however they lie; others and flat ones are not."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from swath.errors import InputError
from swath.labels import LabelTable
from swath.scenes.contract import BandContract
from swath.scenes.memory import ArrayScenes
from swath.scenes.near_duplicates import _proposed, _ranges, difference_hash, joined_groups, near_duplicates
from swath.scenes.packing import pack


def scenes(count: int, seed: int = 0) -> np.ndarray:
    """Blobs, as landscapes have them."""
    random = np.random.default_rng(seed)
    blobs = gaussian_filter(random.normal(size=(count, 3, 48, 48)), (0, 0, 4, 4))
    blobs *= 40 / blobs.std(axis=(2, 3), keepdims=True)
    return np.clip(blobs + 128, 0, 255).astype(np.uint8)


def store_of(images: np.ndarray, folder: Path):
    labels = LabelTable(("class",), np.zeros((len(images), 1), np.int8))
    return pack(ArrayScenes(images, labels, BandContract(("r", "g", "b"))), None, folder)


def test_turned_brightened_and_noisy_copies_are_found_and_nothing_else(tmp_path: Path) -> None:
    images, random = scenes(80), np.random.default_rng(1)
    images[40] = np.rot90(images[3], 1, axes=(1, 2))
    images[41] = images[4][:, ::-1]
    images[42] = np.rot90(images[5], 2, axes=(1, 2))[:, :, ::-1]
    images[43] = np.clip(images[6] * 0.8 + 30, 0, 255).astype(np.uint8)
    images[44] = np.clip(images[7] + random.normal(0, 6, images[7].shape), 0, 255).astype(np.uint8)
    images[45] = images[44]
    images[60:64] = 90 + random.integers(0, 2, (4, 3, 48, 48)).astype(np.uint8)  # flat, and alike
    images[70] = images[71] = 7  # flat and equal, pixel for pixel
    store = store_of(images, tmp_path / "store")
    groups = [group.tolist() for group in near_duplicates(store)]
    assert groups == [[3, 40], [4, 41], [5, 42], [6, 43], [7, 44, 45], [70, 71]]
    some = near_duplicates(store, [44, 7, 3, 12])
    assert [group.tolist() for group in some] == [[7, 44]]
    assert near_duplicates(store, []) == []


def test_no_pair_within_four_bits_is_missed() -> None:
    random = np.random.default_rng(2)
    small = gaussian_filter(random.normal(size=(150, 32, 32)), (0, 5, 5)).astype(np.float32)
    plain = difference_hash(small)
    expected = set()
    for turn in range(8):
        turned = np.rot90(small, turn % 4, axes=(1, 2))
        turned = difference_hash(np.ascontiguousarray(turned[:, :, ::-1] if turn >= 4 else turned))
        distance = np.bitwise_count(turned[:, None] ^ plain[None])
        expected |= {(int(i), int(j), turn) for i, j in np.argwhere(distance <= 4) if i != j}
    found = {
        (int(i), int(j), turn) for one, two, turn in _proposed(small) for i, j in zip(one, two, strict=True)
    }
    assert found == expected
    assert expected  # such smooth pictures collide


def test_long_ranges_are_cut_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swath.scenes.near_duplicates._PAIRS", 4)
    begin, count = np.array([5, 0, 2, 9, 1]), np.array([3, 0, 9, 1, 2])
    found = [
        (int(s), int(p)) for scene, place in _ranges(begin, count) for s, p in zip(scene, place, strict=True)
    ]
    assert found == [(s, b + k) for s, (b, c) in enumerate(zip(begin, count, strict=True)) for k in range(c)]


def test_groups_grow_together() -> None:
    assert joined_groups(4, []).tolist() == [0, 1, 2, 3]
    assert joined_groups(6, [[0, 1], [1, 2]]).tolist() == [0, 0, 0, 1, 2, 3]
    joined = joined_groups(6, [[0, 5]], [7, 7, 8, 8, 9, 9])
    assert joined[0] == joined[1] == joined[4] == joined[5]
    assert joined[2] == joined[3] != joined[0]


def test_constants_out_of_range_are_refused(tmp_path: Path) -> None:
    store = store_of(scenes(2), tmp_path / "store")
    with pytest.raises(InputError, match="correlation of 2"):
        near_duplicates(store, correlation=2)
