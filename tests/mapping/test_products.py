"""The rasters: valid COGs whose grid is exact and which say what is in them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rio_cogeo import cog_validate

import swath
from swath.mapping.naming import SUFFIXES

KINDS = ("probability", "labels", "uncertainty")


@pytest.mark.parametrize("stride", [4, 7, 32])
@pytest.mark.parametrize("exclusive", [True, False])
def test_each_raster_is_a_valid_cog_on_the_exact_grid(
    make: Any, tmp_path: Path, stride: int, exclusive: bool
) -> None:
    origin = rasterio.Affine(9.99, 0.25, 512_345.678, 0.1, -10.01, 4_987_654.321)
    path = make.reflectance(tmp_path / "scene.tif", make.noise(150, 170), transform=origin)
    run = make.run(tmp_path / "run", make.model(exclusive=exclusive))
    swath.map_scenes(run, [path], out=tmp_path / "maps", stride=stride)
    for kind in KINDS:
        product = tmp_path / "maps" / f"scene.{kind}.tif"
        valid, errors, warnings = cog_validate(product, strict=True, quiet=True)
        assert valid, (errors, warnings)
        with rasterio.open(product) as raster:
            assert raster.shape == (-(-150 // stride), -(-170 // stride))
            assert raster.crs == rasterio.crs.CRS.from_epsg(32633)
            cell = [
                origin.a * stride,
                origin.b * stride,
                origin.c,
                origin.d * stride,
                origin.e * stride,
                origin.f,
            ]
            np.testing.assert_allclose(list(raster.transform)[:6], cell, rtol=1e-15)
    assert sorted(entry.name for entry in (tmp_path / "maps").iterdir()) == sorted(
        f"scene{suffix}" for suffix in SUFFIXES.values()
    )


def test_large_maps_have_overviews_and_are_valid_too(make: Any, tmp_path: Path) -> None:
    path = make.reflectance(tmp_path / "scene.tif", make.noise(530, 640))
    run = make.run(tmp_path / "run", make.model(size=8))
    swath.map_scenes(run, [path], out=tmp_path / "maps", stride=1, edges="reflect")
    for kind in KINDS:
        product = tmp_path / "maps" / f"scene.{kind}.tif"
        valid, errors, warnings = cog_validate(product, strict=True, quiet=True)
        assert valid, (errors, warnings)
        with rasterio.open(product) as raster:
            assert raster.shape == (530, 640)
            assert raster.overviews(1)


def test_names_scale_nodata_and_palette_are_inside_the_files(
    make: Any, tmp_path: Path, linear_run: Path, scene: Path
) -> None:
    swath.map_scenes(linear_run, [scene], out=tmp_path / "maps", stride=16)
    with rasterio.open(tmp_path / "maps" / "scene.probability.tif") as raster:
        assert raster.descriptions == make.CLASSES
        assert raster.scales == (1e-4,) * 4
        assert raster.offsets == (0.0,) * 4
        assert raster.nodata == 65535
        assert set(raster.dtypes) == {"uint16"}
        np.testing.assert_allclose(raster.read().sum(axis=0) * 1e-4, 1, atol=3e-4)
    with rasterio.open(tmp_path / "maps" / "scene.labels.tif") as raster:
        assert raster.nodata == 255
        assert raster.tags()["CLASSES"] == "|".join(make.CLASSES)
        assert [raster.tags(1)[f"CLASS_{value}"] for value in range(4)] == list(make.CLASSES)
        palette = raster.colormap(1)
        assert len({palette[value] for value in range(4)}) == 4
        assert all(palette[value][3] == 255 for value in range(4))
        assert palette[255][3] == 0
    with rasterio.open(tmp_path / "maps" / "scene.uncertainty.tif") as raster:
        assert raster.descriptions == ("uncertainty",)
        assert raster.scales == (1e-4,)
        values = raster.read() * raster.scales[0]
        assert 0 <= values.min() <= values.max() <= 1


def test_several_labels_are_a_band_for_each_class(make: Any, tmp_path: Path, scene: Path) -> None:
    run = make.run(tmp_path / "multi", make.model(exclusive=False))
    swath.map_scenes(run, [scene], out=tmp_path / "maps", stride=16, threshold=0.7)
    with rasterio.open(tmp_path / "maps" / "scene.labels.tif") as raster:
        assert raster.descriptions == make.CLASSES
        assert set(np.unique(raster.read())) <= {0, 1, 255}
        probability = make.read(tmp_path / "maps" / "scene.probability.tif").astype(int)
        away = np.abs(probability - 7000) > 1
        np.testing.assert_array_equal(raster.read()[away] == 1, probability[away] >= 7000)


@pytest.mark.parametrize(("classes", "kind"), [(255, "uint8"), (300, "uint16")])
def test_more_classes_than_a_byte_holds(
    make: Any, tmp_path: Path, scene: Path, classes: int, kind: str
) -> None:
    from swath.encoders import build_model

    contract = make.model().contract.with_classes([f"class {n}" for n in range(classes)], True)
    run = make.run(tmp_path / "many", build_model("window_mean", contract, size=32).eval())
    swath.map_scenes(run, [scene], out=tmp_path / "maps", stride=32)
    with rasterio.open(tmp_path / "maps" / "scene.labels.tif") as raster:
        assert raster.dtypes == (kind,)
        assert raster.read().max() < classes
        assert raster.tags(1)[f"CLASS_{classes - 1}"] == f"class {classes - 1}"
    with rasterio.open(tmp_path / "maps" / "scene.probability.tif") as raster:
        assert raster.count == classes


def test_degrees_are_measured_on_the_ellipsoid(make: Any, tmp_path: Path, linear_run: Path) -> None:
    # 10 m by 10 m at 45 degrees, by the textbook lengths of a degree there: 78,846.8 m and 111,131.7 m.
    grid = rasterio.Affine(10 / 78_846.8, 0, 13, 0, -10 / 111_131.7, 45)
    path = make.reflectance(tmp_path / "scene.tif", make.noise(100, 100), crs="EPSG:4326", transform=grid)
    entry = swath.map_scenes(linear_run, [path], out=tmp_path / "maps", stride=16).maps[0]
    assert entry.ground_ha == pytest.approx(100, rel=1e-3)
    assert entry.notes == ()


def test_a_map_says_what_it_was_made_from(make: Any, tmp_path: Path, linear_run: Path, scene: Path) -> None:
    swath.map_scenes(linear_run, [scene], out=tmp_path / "maps", stride=16)
    for kind in KINDS:
        with rasterio.open(tmp_path / "maps" / f"scene.{kind}.tif") as raster:
            job = json.loads(raster.tags()["SWATH_JOB"])
            assert job["stride"] == 16
            assert str(tmp_path) not in raster.tags()["SWATH_JOB"]
            assert raster.tags()["PRODUCT"] == kind
