"""Strata and regions: from columns, from classes, and from rasters at the scenes' coordinates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.transform import from_origin

from swath.errors import InputError, SceneError, UnknownNameError
from swath.labels import LabelTable
from swath.selection.places import regions_of, sampled, strata_of


def zones(folder: Path) -> tuple[Path, np.ndarray]:
    """Climate zones on a grid of one degree, one cell without data."""
    values = np.arange(24, dtype=np.uint8).reshape(4, 6) + 1
    values[0, 0] = 0
    path = folder / "zones.tif"
    options = {"driver": "GTiff", "height": 4, "width": 6, "count": 1, "dtype": "uint8", "nodata": 0}
    with rasterio.open(path, "w", crs="EPSG:4326", transform=from_origin(10, 50, 1, 1), **options) as raster:
        raster.write(values, 1)
    return path, values


def test_a_raster_is_looked_up_at_the_scenes_in_any_system(tmp_path: Path) -> None:
    path, values = zones(tmp_path)
    random = np.random.default_rng(0)
    lon, lat = random.uniform(9.5, 16.5, 200), random.uniform(45.5, 50.5, 200)
    lon[3] = np.nan
    expected = []
    for x, y in zip(lon, lat, strict=True):
        row, column = (np.floor(50 - y), np.floor(x - 10)) if np.isfinite(x) else (-1, -1)
        inside = 0 <= row < 4 and 0 <= column < 6 and values[int(row), int(column)]
        expected.append(str(values[int(row), int(column)]) if inside else "outside")
    rows = np.arange(200)
    assert sampled(path, {"lon": lon, "lat": lat}, rows).tolist() == expected
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(lon, lat)
    x[3] = np.nan
    placed = {"x": x, "y": y, "crs": np.full(200, "EPSG:3857")}
    assert sampled(path, placed, rows[::-1]).tolist() == expected[::-1]
    code, names = strata_of(
        ["season", str(path)], {**placed, "season": np.resize(["dry", "wet"], 200)}, rows, None
    )
    assert names[code[0]] == f"dry, {expected[0]}"
    for columns, reason in (({}, "the data has none"), ({"x": x, "y": y}, "is not given")):
        with pytest.raises(InputError, match=reason):
            sampled(path, columns, rows)
    with pytest.raises(InputError, match="coordinate system 'EPSG:none'"):
        sampled(path, {**placed, "crs": np.full(200, "EPSG:none")}, rows)
    with pytest.raises(SceneError, match="no raster"):
        sampled(tmp_path / "none.tif", placed, rows)
    (tmp_path / "bad.tif").write_bytes(b"II*\x00nonsense")
    with pytest.raises(SceneError):
        sampled(tmp_path / "bad.tif", placed, rows)


def test_themes_are_the_classes_known_to_be_present() -> None:
    labels = LabelTable(("a", "b"), np.array([[1, -1], [1, 1], [-1, -1], [1, 0]]))
    code, names = strata_of(["class"], {}, np.arange(4), labels)
    assert [names[number] for number in code] == ["a", "a+b", "unknown", "a"]
    with pytest.raises(UnknownNameError, match="season"):
        strata_of(["season"], {}, np.arange(4), labels)


def test_regions_are_named_or_squares() -> None:
    rows = np.arange(3)
    assert regions_of({}, rows) is None
    assert regions_of({"country": np.array(["x", "y", "z"])}, rows[::-1]).tolist() == ["z", "y", "x"]
    lon, lat = np.array([0.0, 59.9, np.nan]), np.array([0.0, 10.0, 0.0])
    found = regions_of({"lon": lon, "lat": lat}, rows)
    assert found[2] == "unknown"
    assert found[0] != found[1]
