"""The STAC item: what STAC 1.1 and its extensions ask for, with paths that move and a place that is right."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from shapely.geometry import Point, shape

import swath
from swath.mapping.header import place
from swath.mapping.item import acquired, footprint


def check_item(item: dict[str, Any], folder: Path) -> None:
    """Check what the schemas of STAC 1.1.0 and of the extensions it names require."""
    assert item["type"] == "Feature"
    assert item["stac_version"] == "1.1.0"
    assert item["id"]
    assert all(
        re.fullmatch(r"https://stac-extensions\.github\.io/[a-z]+/v[\d.]+/schema\.json", url)
        for url in item["stac_extensions"]
    )
    used = {key.split(":")[0] for key in re.findall(r'"([a-z]+:[a-z_\d]+)": ', json.dumps(item))}
    named = {url.split("/")[3] for url in item["stac_extensions"]}
    prefixes = {"proj": "projection", "processing": "processing", "file": "file", "raster": "raster"}
    prefixes["classification"] = "classification"
    assert {prefixes[prefix] for prefix in used - {"swath"}} == named
    properties = item["properties"]
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    if properties["datetime"] is None:
        assert re.fullmatch(moment, properties["start_datetime"])
        assert re.fullmatch(moment, properties["end_datetime"])
    else:
        assert re.fullmatch(moment, properties["datetime"])
    assert properties["proj:code"] is None or re.fullmatch(r"\w+:\d+", properties["proj:code"])
    assert len(properties["proj:shape"]) == 2
    assert len(properties["proj:transform"]) == 6
    assert properties["processing:software"] == {"swath": swath.__version__}
    geometry = shape(item["geometry"])
    assert geometry.is_valid
    assert all(part.exterior.is_ccw for part in getattr(geometry, "geoms", [geometry]))
    west, south, east, north = item["bbox"]
    assert -180 <= west <= 180
    assert -180 <= east <= 180
    assert -90 <= south <= north <= 90
    for link in item["links"]:
        assert set(link) >= {"rel", "href"}
        assert (folder / unquote(link["href"])).exists()
    for asset in item["assets"].values():
        path = folder / unquote(asset["href"])
        assert not os.path.isabs(asset["href"])
        assert asset["file:size"] == path.stat().st_size
        assert asset["file:checksum"] == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()
        for holder in [asset, *asset.get("bands", [])]:
            for entry in holder.get("classification:classes", []):
                assert isinstance(entry["value"], int)
                assert re.fullmatch(r"[0-9A-Za-z_-]+", entry["name"])
                assert re.fullmatch(r"[0-9a-f]{6}", entry.get("color_hint", "000000"))


@pytest.mark.parametrize("exclusive", [True, False])
def test_an_item_has_what_is_required_and_moves_with_its_folder(
    make: Any, tmp_path: Path, exclusive: bool
) -> None:
    names = ("open water", "水", 'a"b</script>', "d")
    from swath.encoders import build_model

    contract = make.model().contract.with_classes(names, exclusive=exclusive)
    run = make.run(tmp_path / "run", build_model("window_mean", contract, size=32).eval())
    path = make.reflectance(tmp_path / "data" / "a scene 20190416T101031.tif", make.noise(100, 130))
    swath.map_scenes(run, [path], out=tmp_path / "data" / "the maps", stride=16)
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    folder = tmp_path / "elsewhere" / "the maps"
    text = (folder / f"{path.stem}.json").read_text()
    assert str(tmp_path) not in text
    item = json.loads(text)
    check_item(item, folder)
    assert item["properties"]["datetime"] == "2019-04-16T10:10:31Z"
    assert {folder / unquote(asset["href"]) for asset in item["assets"].values()} == {
        entry for entry in folder.iterdir() if entry.suffix != ".json"
    }
    with rasterio.open(folder / f"{path.stem}.labels.tif") as raster:
        assert list(raster.transform)[:6] == item["properties"]["proj:transform"]
        assert list(raster.shape) == item["properties"]["proj:shape"]
        assert item["properties"]["proj:code"] == "EPSG:32633"
        labels = item["assets"]["labels"]
        assert (labels["data_type"], labels["nodata"]) == (raster.dtypes[0], raster.nodata)
    entries = (
        labels["classification:classes"]
        if exclusive
        else [band["classification:classes"][1] for band in labels["bands"]]
    )
    assert [entry["title"] for entry in entries] == list(names)
    assert len({entry["name"] for entry in entries}) == 4


PLACES = {
    "utm": ("EPSG:32633", (10, 0, 500_000, 0, -10, 5_100_000), (15.02, 46.03), 1),
    "rotated": ("EPSG:32633", (9, 4, 500_000, 4, -9, 5_100_000), (15.03, 46.04), 1),
    "across the antimeridian": ("EPSG:32601", (1000, 0, 100_000, 0, -1000, 7_000_000), (-179.5, 62), 2),
    "numbered on": ("EPSG:4326", (0.03, 0, 176, 0, -0.03, 10), (-178.0, 5.0), 2),
    "around the pole": ("EPSG:3031", (10_000, 0, -2e6, 0, -10_000, 2e6), (77.0, -89.0), 1),
}


@pytest.mark.parametrize("which", PLACES)
def test_a_footprint_is_where_the_scene_is(which: str) -> None:
    crs, numbers, inside, parts = PLACES[which]
    grid, height, width = rasterio.Affine(*numbers), 400, 400
    geometry = footprint(grid, height, width, CRS.from_string(crs))
    assert geometry is not None
    found = shape(geometry)
    assert found.is_valid
    assert len(getattr(found, "geoms", [found])) == parts
    assert found.contains(Point(inside))
    # Any place in the scene is in the footprint, and any place around it is not.
    random = np.random.default_rng(0)
    for columns, rows, wanted in (
        (random.uniform(0.01, 0.99, 200) * width, random.uniform(0.01, 0.99, 200) * height, True),
        (random.uniform(1.02, 1.1, 50) * width, random.uniform(0, 1, 50) * height, False),
    ):
        x, y = place(grid, columns, rows)
        longitude, latitude = rasterio.warp.transform(crs, "EPSG:4326", x, y)
        longitude = (np.array(longitude) + 180) % 360 - 180
        assert all(found.contains(Point(spot)) == wanted for spot in zip(longitude, latitude, strict=True))


def test_the_bounds_of_what_crosses_the_antimeridian_start_in_the_east(make: Any, tmp_path: Path) -> None:
    grid = rasterio.Affine(8e-5, 0, 179.998, 0, -8e-5, 45)
    path = make.reflectance(tmp_path / "s.tif", make.noise(64, 64), crs="EPSG:4326", transform=grid)
    run = make.run(tmp_path / "run", make.model())
    swath.map_scenes(run, [path], out=tmp_path / "maps", stride=16)
    item = json.loads((tmp_path / "maps" / "s.json").read_text())
    check_item(item, tmp_path / "maps")
    west, _, east, _ = item["bbox"]
    assert west == pytest.approx(179.998)
    assert east == pytest.approx(179.998 + 64 * 8e-5 - 360)


def test_a_coordinate_system_without_a_number_is_written_out(make: Any, tmp_path: Path) -> None:
    own = "+proj=laea +lat_0=47 +lon_0=11 +x_0=0 +y_0=0 +datum=WGS84 +units=m"
    path = make.reflectance(
        tmp_path / "s.tif", make.noise(64, 64), crs=own, transform=rasterio.Affine(10, 0, 0, 0, -10, 0)
    )
    run = make.run(tmp_path / "run", make.model())
    swath.map_scenes(run, [path], out=tmp_path / "maps", stride=16)
    item = json.loads((tmp_path / "maps" / "s.json").read_text())
    check_item(item, tmp_path / "maps")
    assert item["properties"]["proj:code"] is None
    assert CRS.from_wkt(item["properties"]["proj:wkt2"]) == CRS.from_string(own)


def test_the_time_is_the_name_s_then_the_file_s_then_its_last_change(make: Any, tmp_path: Path) -> None:
    def of(name: str) -> dict[str, Any]:
        return acquired([tmp_path / name])

    for name in ("a", "b", "20191341", "1234567890123", "S2_20190416T101031_x", "x-2019-04-16", "20190230"):
        make.reflectance(tmp_path / f"{name}.tif", np.ones((3, 8, 8), np.uint16))
        os.utime(tmp_path / f"{name}.tif", (10**9, 10**9))
    with rasterio.open(tmp_path / "b.tif", "r+") as raster:
        raster.update_tags(TIFFTAG_DATETIME="2020:02:29 12:30:00")
    assert of("S2_20190416T101031_x.tif")["datetime"] == "2019-04-16T10:10:31Z"
    assert of("x-2019-04-16.tif")["datetime"] is None
    assert of("x-2019-04-16.tif")["end_datetime"] == "2019-04-16T23:59:59Z"
    assert of("b.tif") == {"datetime": "2020-02-29T12:30:00Z", "swath:datetime_from": "TIFFTAG_DATETIME"}
    for name in ("a.tif", "20191341.tif", "1234567890123.tif", "20190230.tif"):
        assert of(name)["datetime"] == "2001-09-09T01:46:40Z", name
