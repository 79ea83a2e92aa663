"""Exact duplicates across a split."""

from pathlib import Path

import numpy as np

from swath.labels import LabelTable
from swath.scenes.contract import BandContract
from swath.scenes.duplicates import exact_duplicates
from swath.scenes.memory import ArrayScenes
from swath.scenes.packing import pack


def test_copies_that_cross_the_split_are_found_and_others_not(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (60, 3, 16, 16)).astype(np.uint8)
    images[50] = images[3]  # crosses
    images[51] = images[52] = images[4]  # crosses twice
    images[53] = images[54]  # both in the test part
    images[6] = images[5]  # both in the training part
    images[55] = images[7]
    images[55, 0, 0, 0] ^= 1  # one bit
    labels = LabelTable(("class",), np.zeros((60, 1), np.int8))
    # Resized so far that the one bit is lost: the images as they were decoded count.
    store = pack(ArrayScenes(images, labels, BandContract(("r", "g", "b"))), 2, tmp_path / "store")
    training, test = random.permutation(50), random.permutation(np.arange(50, 60))
    groups = [group.tolist() for group in exact_duplicates(store, [training, test])]
    assert groups == [[3, 50], [4, 51, 52]]
    assert exact_duplicates(store, [np.arange(60)]) == []
    assert exact_duplicates(store, [[], []]) == []


def test_the_same_bytes_in_another_shape_are_no_duplicate(tmp_path: Path) -> None:
    images = [np.full((3, 4, 8), 9, np.uint8), np.full((3, 8, 4), 9, np.uint8)]
    labels = LabelTable(("class",), np.zeros((2, 1), np.int8))
    store = pack(ArrayScenes(images, labels, BandContract(("r", "g", "b"))), 4, tmp_path / "store")
    assert exact_duplicates(store, [[0], [1]]) == []
