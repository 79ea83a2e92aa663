"""Two dates on the same pixels: how far apart they lie, and what is brought where."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
from scipy import ndimage

from swath.errors import SceneError
from swath.mapping.bands import Reading
from swath.mapping.compute import SceneFiles
from swath.mapping.raster import RasterScene
from swath.mapping.registration import Registration, offset_between, register

UTM = rasterio.Affine(10, 0, 500_000, 0, -10, 5_100_000)


def ground(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth ground with edges, float64."""
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.normal(size=(3, height, width)), (0, 1.5, 1.5))
    fields = ndimage.gaussian_filter(random.normal(size=(3, height, width)), (0, 8, 8)) > 0
    return 2000 + 1500 * smooth + 600 * fields


def stored(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 1, 60_000).astype(np.uint16)


def registered(make: Any, folder: Path, first: Any, second: Any, **more: Any) -> Registration:
    """Register two scenes, each given as pixels and options."""
    files = []
    for name, (pixels, options) in (("a", first), ("b", second)):
        path = make.reflectance(folder / f"{name}.tif", pixels, **options)
        files.append(SceneFiles(name, (path,)))
    reading = more.get("reading", Reading())
    return register(files[0], files[1], make.model().contract, reading, more.get("stride", 8))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -5.0), (-20.0, 31.0), (0.5, 0.25), (-3.3, 7.6)])
def test_a_shift_is_measured_to_a_tenth_of_a_pixel(
    make: Any, tmp_path: Path, shift: tuple[float, float]
) -> None:
    wide = ground(300, 340)
    moved = np.stack([ndimage.shift(band, shift, order=3) for band in wide])
    # Another day: darker, with a season in one band and noise in all.
    moved = 0.8 * moved + np.array([0, 500, 0])[:, None, None]
    moved += np.random.default_rng(1).normal(0, 30, moved.shape)
    pair = [(stored(image[:, 60:240, 60:280]), {}) for image in (wide, moved)]
    found = registered(make, tmp_path, *pair)
    assert found.offset == pytest.approx(shift, abs=0.1)
    assert not found.brought
    assert found.shifted == (max(map(abs, shift)) > 4)
    assert found.notes[-1].startswith("Warning: " if found.shifted else "Offset of b against a")
    assert ("up" if found.offset[0] < 0 else "down") in found.notes[-1]
    assert ("left" if found.offset[1] < 0 else "right") in found.notes[-1]
    assert ("more than half a cell (4 px)" in found.notes[-1]) == found.shifted


@pytest.mark.parametrize("seed", range(4))
def test_nothing_in_common_has_no_offset(make: Any, tmp_path: Path, seed: int) -> None:
    first, second = (stored(ground(150, 170, seed=seed + 10 * date)) for date in (0, 1))
    found = registered(make, tmp_path, (first, {}), (second, {}))
    assert (found.offset, found.shifted) == (None, False)
    assert "cannot be told" in found.notes[-1]
    flat = np.full((3, 60, 60), 5, np.uint16)
    assert registered(make, tmp_path, (flat, {}), (flat, {})).offset is None


def test_the_shape_of_what_is_data_is_no_offset(make: Any, tmp_path: Path) -> None:
    pixels = stored(ground(300, 300))
    first, second = pixels[:, 40:240, 40:240].copy(), pixels[:, 33:233, 44:244].copy()
    corner = np.add.outer(np.arange(200), np.arange(200)) < 150
    first[:, corner], second[:, corner] = 0, 0
    found = registered(make, tmp_path, (first, {}), (second, {}))
    assert found.offset == pytest.approx((7, -4), abs=0.1)


def test_another_frame_is_brought_onto_the_first_ones_pixels(make: Any, tmp_path: Path) -> None:
    pixels = stored(ground(200, 220))
    frame = {"transform": UTM @ rasterio.Affine.translation(30, 50)}
    found = registered(make, tmp_path, (pixels[:, :150, :160], {}), (pixels[:, 50:, 30:], frame))
    assert found.brought
    assert (found.pixels.height, found.pixels.width, found.pixels.transform) == (150, 160, UTM)
    assert found.offset == pytest.approx((0, 0), abs=0.05)
    assert found.notes[0] == "b is brought onto the pixels of a, of which its frame covers 54%."
    scene = RasterScene([tmp_path / "b.tif"], make.model().contract, Reading(grid=found.pixels))
    with scene.reading() as reader:
        values, valid = reader.read(slice(0, 150), slice(0, 160))
    np.testing.assert_array_equal(valid, np.pad(np.ones((100, 130), bool), ((50, 0), (30, 0))))
    np.testing.assert_allclose(values[:, valid], pixels[:, :150, :160][:, valid], rtol=1e-5)
    # The same to the last digit whatever part is asked for.
    with scene.reading() as reader:
        parts = [reader.read(slice(row, row + 50), slice(0, 160))[0] for row in (0, 50, 100)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), values)


def test_another_resolution_is_brought_too(make: Any, tmp_path: Path) -> None:
    pixels = stored(ground(160, 200))
    coarse = pixels.reshape(3, 80, 2, 100, 2).mean(axis=(2, 4)).astype(np.uint16)
    wide = {"transform": UTM @ rasterio.Affine.scale(2)}
    found = registered(make, tmp_path, (pixels, {}), (coarse, wide))
    assert not found.brought, "both are read on the model's pixels, which are the same"
    assert found.offset == pytest.approx((0, 0), abs=0.1)


def test_grids_that_differ_by_rounding_alone_are_the_same(make: Any, tmp_path: Path) -> None:
    pixels = stored(ground(100, 100))
    near = {"transform": rasterio.Affine(10.000001, 0, 500_000.001, 0, -10, 5_100_000)}
    assert not registered(make, tmp_path, (pixels, {}), (pixels, near)).brought


def test_scenes_of_different_ground_or_system_are_refused(make: Any, tmp_path: Path) -> None:
    pixels = stored(ground(100, 100))
    for far in ((1000, 0), (0, -1000), (900_000, 0)):
        away = {"transform": rasterio.Affine.translation(*far) @ UTM}
        with pytest.raises(SceneError, match=r"a\.tif and .*b\.tif do not overlap"):
            registered(make, tmp_path, (pixels, {}), (pixels, away))
    (x,), (y,) = rasterio.warp.transform("EPSG:32633", "EPSG:32632", [500_200], [5_099_900])
    zone = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, x, 0, -10, y)}
    with pytest.raises(SceneError, match=r"different coordinate systems \(EPSG:32633, EPSG:32632\).*--crs"):
        registered(make, tmp_path, (pixels, {}), (pixels, zone))
    found = registered(make, tmp_path, (pixels, {}), (pixels, zone), reading=Reading(crs="EPSG:3035"))
    assert found.brought
    assert found.pixels.crs == rasterio.crs.CRS.from_epsg(3035)


def test_a_single_pair_of_images_needs_no_file() -> None:
    image = ground(100, 110)[0]
    image -= image.mean()
    assert offset_between([(image, np.roll(image, (9, -4), (0, 1)))]) == pytest.approx((9, -4), abs=0.05)


@pytest.mark.real_data
def test_real_dates_lie_within_a_pixel_and_a_shift_is_seen(
    make: Any, real_data: Path, tmp_path: Path
) -> None:
    pixels = []
    for date in ("2015-07-11", "2015-08-30"):
        with rasterio.open(real_data / "landcover-slovenia" / f"s2-l1c-{date}.tif") as raster:
            pixels.append(raster.read([2, 3, 4]))
    as_it_is = registered(make, tmp_path, (pixels[0], {}), (pixels[1], {}))
    assert as_it_is.offset is not None
    assert max(map(abs, as_it_is.offset)) < 1
    moved = registered(make, tmp_path, (pixels[0][:, 10:90, 10:90], {}), (pixels[1][:, 4:84, 15:95], {}))
    assert moved.offset == pytest.approx((as_it_is.offset[0] + 6, as_it_is.offset[1] - 5), abs=0.3)
    assert moved.shifted
