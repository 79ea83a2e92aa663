"""Statistics of bands: what NumPy says about the valid training pixels."""

from pathlib import Path

import numpy as np
import pytest

from swath.errors import SceneError
from swath.labels import LabelTable
from swath.scenes.contract import BandContract
from swath.scenes.memory import ArrayScenes
from swath.scenes.packed import PackedScenes
from swath.scenes.packing import pack
from swath.scenes.statistics import statistics


def packed(images: np.ndarray, folder: Path, contract: BandContract) -> PackedScenes:
    labels = LabelTable(("class",), np.zeros((len(images), 1), np.int8))
    return pack(ArrayScenes(images, labels, contract), folder=folder / "store")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("nodata", [None, 7])
def test_they_are_those_of_the_valid_pixels_of_the_rows(
    tmp_path: Path, dtype: str, nodata: int | None
) -> None:
    random = np.random.default_rng(0)
    # Large enough for several pieces, with a mean far above the spread.
    images = random.integers(200, 250, (300, 2, 64, 64)).astype(dtype)
    images[:, 1] -= 100
    if nodata is not None:
        images[random.random(images.shape) < 0.2] = nodata
    scale, offset = np.array([1e-4, -2.0]), np.array([-0.1, 5.0])
    contract = BandContract(("a", "b"), scale=tuple(scale), offset=tuple(offset), nodata=nodata)
    store = packed(images, tmp_path, contract)
    rows = random.permutation(300)[:190]
    mean, std = statistics(store, rows)
    for band in range(2):
        values = images[rows, band].astype(np.float64)
        if nodata is not None:
            values = values[values != nodata]
        values = values * scale[band] + offset[band]
        assert mean[band] == pytest.approx(values.mean(), rel=1e-12)
        assert std[band] == pytest.approx(values.std(), rel=1e-10)


def test_a_normalised_epoch_has_mean_zero_and_spread_one(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 9000, (80, 3, 16, 16)).astype(np.uint16)
    store = packed(images, tmp_path, BandContract(("a", "b", "c"), scale=(1e-4, 2e-4, 3.0)))
    batch = store.batch(np.arange(80), store.contract.with_statistics(*statistics(store, np.arange(80))))
    np.testing.assert_allclose(batch.mean(dim=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(batch.std(dim=(0, 2, 3), correction=0), 1, atol=1e-5)


@pytest.mark.parametrize("value", [0, 3, 0.1])
def test_a_band_without_variance_says_so_and_gets_one(tmp_path: Path, value: float) -> None:
    images = np.random.default_rng(0).random((9, 2, 16, 16))
    images[:, 1] = value
    store = packed(images, tmp_path, BandContract(("varied", "flat")))
    with pytest.warns(UserWarning, match="Band flat has the same value"):
        mean, std = statistics(store, np.arange(9))
    assert std[1] == 1
    assert mean[1] == pytest.approx(value)
    batch = store.batch([0], store.contract.with_statistics(mean, std))
    assert abs(batch[0, 1]).max() < 1e-6


def test_no_valid_pixel_at_all_is_an_error(tmp_path: Path) -> None:
    images = np.ones((4, 2, 8, 8), np.uint8)
    images[:2, 1] = 0
    store = packed(images, tmp_path, BandContract(("a", "b"), nodata=0))
    with pytest.raises(SceneError, match="band b of the 2 scenes"):
        statistics(store, [0, 1])
    with pytest.raises(SceneError, match="band a, b of the 0 scenes"):
        statistics(store, [])
