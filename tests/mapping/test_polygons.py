"""The polygons: the label map exactly, whatever the strips, with areas that add up, in a file others can read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyproj
import pytest
import rasterio
import shapely
from rasterio.features import shapes
from scipy import ndimage

import swath
from swath.mapping import polygons
from swath.mapping.polygons import Dissolver


def read(path: Path) -> pd.DataFrame:
    table = pq.read_table(path).to_pandas()
    return table.assign(geometry=shapely.from_wkb(table["geometry"].to_numpy()))


def dissolved(labels: np.ndarray, rows: int, **options: int) -> list[tuple[int, Any]]:
    """Polygons of a map (values below 0 are nodata) that is handed over a few rows at a time."""
    layer, found = Dissolver(labels.shape[1], **options), []
    for first in range(0, len(labels), rows):
        strip = labels[first : first + rows].astype(np.int32)
        shapes_of, values = layer.add(strip, strip >= 0, last=first + rows >= len(labels))
        found += list(zip(values.tolist(), shapes_of, strict=True))
    return found


def canonical(found: list[tuple[int, Any]]) -> list[tuple[int, str]]:
    return sorted((value, shapely.to_wkt(shapely.normalize(one))) for value, one in found)


def spiral(side: int) -> np.ndarray:
    """One thin polygon that goes through every row again and again."""
    labels = np.zeros((side, side), int)
    row, column, down, right = 0, 0, 0, 1
    labels[0, 0] = 1
    while True:
        for _ in range(2):
            ahead, beyond = (row + down, column + right), (row + 2 * down, column + 2 * right)
            inside = all(0 <= place < side for place in ahead)
            if inside and not (all(0 <= place < side for place in beyond) and labels[beyond]):
                break
            down, right = right, -down
        else:
            return labels
        if labels[ahead]:
            return labels
        row, column = ahead
        labels[row, column] = 1


def maps() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(random.normal(size=(60, 47)), 2)
    rings = np.maximum(*np.abs(np.mgrid[-15:16, -15:16])) % 3
    board = np.indices((12, 13)).sum(axis=0) % 2
    return {
        "noise": random.integers(-1, 3, (40, 33)),
        "smooth": np.digitize(smooth, np.quantile(smooth, [0.3, 0.6, 0.8])) - 1,
        "percolating": (random.random((50, 50)) < 0.6).astype(int),
        "rings": rings,
        "spiral": spiral(23),
        "board": board,
        "one": np.zeros((9, 9), int),
        "nothing": np.full((9, 9), -1),
        "column": random.integers(0, 2, (30, 1)),
        "row": random.integers(0, 2, (1, 30)),
    }


@pytest.mark.parametrize("rows", [1, 2, 7, 1000])
@pytest.mark.parametrize("which", maps())
def test_polygons_do_not_show_the_strips(which: str, rows: int) -> None:
    labels = maps()[which]
    found = dissolved(labels, rows)
    whole = [
        (int(value), shapely.geometry.shape(outline))
        for outline, value in shapes(labels.astype(np.int32), mask=labels >= 0, connectivity=4)
    ]
    assert canonical(found) == canonical(whole)
    assert all(one.is_valid and one.geom_type == "Polygon" for _, one in found)
    # As many as there are connected areas, and each cell in one of its own class.
    count = 0
    for value in np.unique(labels[labels >= 0]):
        _, areas = ndimage.label(labels == value)
        count += areas
        assert sum(one.area for kind, one in found if kind == value) == (labels == value).sum()
    assert len(found) == count


@pytest.mark.parametrize("rows", [1, 5])
def test_a_polygon_with_too_many_corners_is_cut_and_no_ground_is_lost(rows: int) -> None:
    labels = maps()["percolating"]
    found = dissolved(labels, rows, most_corners=100)
    assert len(found) > len(dissolved(labels, rows))
    for value in (0, 1):
        mine = [one for kind, one in found if kind == value]
        assert sum(one.area for one in mine) == shapely.union_all(mine).area == (labels == value).sum()
    assert all(one.is_valid for _, one in found)


def cell_areas(where: rasterio.Affine, stride: int, height: int, width: int, geod: Any = None) -> np.ndarray:
    """Hectares of each cell of a map, cell by cell; cells end where the scene does."""
    rows, columns = -(-height // stride), -(-width // stride)
    areas = np.empty((rows, columns))
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride, column * stride
            low, right = min(top + stride, height), min(left + stride, width)
            corners = [where @ corner for corner in ((left, top), (left, low), (right, low), (right, top))]
            if geod is None:
                areas[row, column] = shapely.Polygon(corners).area / 1e4
            else:
                areas[row, column] = abs(geod.polygon_area_perimeter(*zip(*corners, strict=True))[0]) / 1e4
    return areas


GRIDS = {
    "metres": ("EPSG:32633", rasterio.Affine(10, 0, 500_000, 0, -10, 5_100_000)),
    "rotated": ("EPSG:32633", rasterio.Affine(8, 6, 500_000, 6, -8, 5_100_000)),
    "feet": ("EPSG:2263", rasterio.Affine(33, 0, 1e6, 0, -33, 2e5)),
    "degrees": ("EPSG:4326", rasterio.Affine(1e-4, 0, 13, 0, -8e-5, 60)),
}


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("grid", GRIDS)
def test_areas_are_those_of_the_cells(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grid: str, exclusive: bool
) -> None:
    crs, where = GRIDS[grid]
    pixels = make.noise(150, 170)
    pixels[:, 20:60, 30:90] = 0
    path = make.reflectance(tmp_path / "scene.tif", pixels, crs=crs, transform=where)
    run = make.run(tmp_path / "run", make.model(exclusive=exclusive, gsd_m=None))
    monkeypatch.setattr(polygons, "CELLS_IN_STRIP", 60)
    entry = swath.map_scenes(run, [path], out=tmp_path / "maps", stride=8).maps[0]
    table = read(entry.files["polygons"])
    assert shapely.is_valid(table["geometry"].to_numpy()).all()
    assert [make.CLASSES[number] for number in table["class_number"]] == table["class"].tolist()
    with rasterio.open(entry.files["labels"]) as raster:
        labels = raster.read()
        cells = raster.transform
    assert cells.almost_equals(where @ rasterio.Affine.scale(8))
    geod = pyproj.Geod(ellps="WGS84") if grid == "degrees" else None
    foot = 0.3048006096012192 if grid == "feet" else 1
    areas = cell_areas(where, 8, 150, 170, geod) * foot**2
    for number, name in enumerate(make.CLASSES):
        present = labels[0] == number if exclusive else labels[number] == 1
        mine = table[table["class"] == name]
        assert mine["area_ha"].sum() == pytest.approx(areas[present].sum(), rel=1e-9)
        if geod is None:
            planar = shapely.area(mine["geometry"].to_numpy()) * foot**2 / 1e4
            np.testing.assert_allclose(planar, mine["area_ha"], rtol=1e-9)
        assert len(mine) == ndimage.label(present)[1]
        # Each polygon is where its cells are: the last cells are narrow, as the scene ends in them.
        spots = [cells @ (column + 0.1, row + 0.1) for row, column in np.argwhere(present)]
        inside = shapely.union_all(mine["geometry"].to_numpy())
        assert all(inside.contains(shapely.Point(spot)) for spot in spots)


def test_the_file_says_what_geoparquet_asks_for(tmp_path: Path, linear_run: Path, scene: Path) -> None:
    geopandas = pytest.importorskip("geopandas", reason="no geopandas: it comes with swath[torchgeo]")
    entry = swath.map_scenes(linear_run, [scene], out=tmp_path / "maps", stride=8).maps[0]
    file = pq.ParquetFile(entry.files["polygons"])
    said = json.loads(file.metadata.metadata[b"geo"])
    column = said["columns"][said["primary_column"]]
    assert said["version"] == "1.1.0"
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Polygon"]
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 32633}
    table = geopandas.read_parquet(entry.files["polygons"])
    assert table.crs == pyproj.CRS("EPSG:32633")
    assert table.geometry.map(lambda one: one.exterior.is_ccw).all()
    assert column["bbox"] == pytest.approx(table.total_bounds.tolist())
    rows = file.read().to_pylist()
    assert [tuple(row["bbox"].values()) for row in rows] == [one.bounds for one in table.geometry]
    # Every cell is valid here, so polygons and the summary count the same ground.
    sums = table.groupby("class")["area_ha"].sum()
    for name, area in entry.area_ha.items():
        assert sums.get(name, 0) == pytest.approx(area)
    part = geopandas.read_parquet(entry.files["polygons"], bbox=(500_000, 5_099_900, 500_100, 5_100_000))
    assert 0 < len(part) < len(table)


def test_a_map_without_labels_has_a_file_without_rows(make: Any, tmp_path: Path, linear_run: Path) -> None:
    path = make.reflectance(tmp_path / "scene.tif", np.zeros((3, 64, 64), np.uint16))
    entry = swath.map_scenes(linear_run, [path], out=tmp_path / "maps", stride=16).maps[0]
    table = read(entry.files["polygons"])
    assert len(table) == 0
    assert list(table.columns) == ["class", "class_number", "area_ha", "geometry", "bbox"]
