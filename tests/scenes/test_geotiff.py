"""Georeferenced rasters: bands, scales, nodata and place come from the file, and nothing else is opened."""

import http.server
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from swath.errors import ContractError, SceneError
from swath.scenes import open_scenes
from swath.scenes.geotiff import opened
from swath.scenes.images import read_image_file

UTM = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_100_000)}


def write(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    described = {
        key: options.pop(key) for key in ("descriptions", "scales", "offsets", "units") if key in options
    }
    colours = options.pop("colorinterp", None)
    bands, height, width = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=bands,
        height=height,
        width=width,
        dtype=pixels.dtype,
        **{**UTM, **options},
    ) as raster:
        raster.write(pixels)
        for key, value in described.items():
            setattr(raster, key, value)
        if colours:
            raster.colorinterp = colours
    return path


def test_bands_scales_and_place_come_from_the_file(tmp_path: Path) -> None:
    pixels = np.arange(4 * 6 * 8, dtype=np.uint16).reshape(4, 6, 8)
    path = write(
        tmp_path / "a.tif",
        pixels,
        nodata=7,
        descriptions=("B02", "B03", "B04", "B08"),
        scales=(1e-4,) * 4,
        offsets=(-0.1,) * 4,
        units=("reflectance",) * 4,
    )
    image, header = read_image_file(path)
    np.testing.assert_array_equal(image, pixels)
    contract = header.contract
    assert contract.names == ("B02", "B03", "B04", "B08")
    assert contract.scale == (1e-4,) * 4
    assert contract.offset == (-0.1,) * 4
    assert contract.unit == "reflectance"
    assert contract.nodata == 7
    assert contract.gsd_m == 10
    assert header.crs == "EPSG:32633"
    assert header.centre == (500_040, 5_099_970)


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"]
)
@pytest.mark.parametrize("bands", [1, 2, 13])
def test_any_number_type_and_band_count(tmp_path: Path, dtype: str, bands: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (bands, 5, 6)).astype(dtype)
    image, header = read_image_file(write(tmp_path / "a.tif", pixels))
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image, pixels)
    assert header.names == tuple(f"band_{band}" for band in range(1, bands + 1))
    assert header.unit == ("display" if dtype == "uint8" else "")


def test_8_bit_colours_without_names_are_red_green_blue_and_alpha_is_dropped(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6), np.uint8)
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    image, header = read_image_file(write(tmp_path / "a.tif", pixels, colorinterp=colours))
    np.testing.assert_array_equal(image, pixels[:3])
    assert header.names == ("red", "green", "blue")
    assert header.unit == "display"


def test_degrees_and_missing_places_have_no_ground_sampling_distance(tmp_path: Path) -> None:
    pixels = np.ones((1, 4, 4), np.uint8)
    degrees = {"crs": "EPSG:4326", "transform": rasterio.Affine(0.1, 0, 5, 0, -0.1, 50)}
    header = read_image_file(write(tmp_path / "a.tif", pixels, **degrees))[1]
    assert header.gsd_m is None
    assert header.centre == pytest.approx((5.2, 49.8))
    header = read_image_file(write(tmp_path / "b.tif", pixels, crs=None))[1]
    assert header.centre is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rasterio's own, while writing
        nowhere = write(tmp_path / "c.tif", pixels, crs=None, transform=None)
    assert read_image_file(nowhere)[1].gsd_m is None


def two_classes(folder: Path, **options: Any) -> None:
    for number, name in enumerate(("field", "water")):
        place = rasterio.Affine(10, 0, 500_000 + 1000 * number, 0, -10, 5_100_000)
        pixels = np.full((2, 4, 4), number + 1, np.uint16)
        write(folder / name / "a.tif", pixels, **{"transform": place, **options})


def test_centres_become_columns_when_somebody_asks(tmp_path: Path) -> None:
    two_classes(tmp_path)
    scenes = open_scenes(tmp_path)
    assert {"path", "x", "y", "crs"} == set(scenes.columns)
    assert scenes.columns["x"].tolist() == [500_020, 501_020]
    assert scenes.columns["y"].tolist() == [5_099_980, 5_099_980]
    assert scenes.columns["crs"].tolist() == ["EPSG:32633"] * 2
    assert scenes.contract.gsd_m == 10


def test_scenes_of_several_zones_share_one_plane_of_metres(tmp_path: Path) -> None:
    two_classes(tmp_path)
    # The same ground in the neighbouring zone: its centre must come out in the same place.
    x, y = rasterio.warp.transform("EPSG:32633", "EPSG:32632", [500_020], [5_099_980])
    write(
        tmp_path / "water" / "b.tif",
        np.ones((2, 4, 4), np.uint16),
        crs="EPSG:32632",
        transform=rasterio.Affine(10, 0, x[0] - 20, 0, -10, y[0] + 20),
    )
    columns = open_scenes(tmp_path).columns
    assert set(columns["crs"]) == {"EPSG:6933"}
    assert abs(columns["x"][0] - columns["x"][2]) < 0.01
    assert abs(columns["y"][0] - columns["y"][2]) < 0.01
    assert 500 < abs(columns["x"][1] - columns["x"][0]) < 1500


def test_a_table_s_own_places_win(tmp_path: Path) -> None:
    two_classes(tmp_path)
    (tmp_path / "t.csv").write_text("image,x,y,water\nfield/a.tif,1,2,0\nwater/a.tif,3,4,1\n")
    scenes = open_scenes(tmp_path)
    assert scenes.columns["x"].tolist() == [1, 3]
    assert scenes.labels.classes == ("water",)


def test_nan_pixels_without_a_nan_nodata_are_named_with_the_remedy(tmp_path: Path) -> None:
    pixels = np.ones((2, 4, 4), np.float32)
    pixels[1, 2, 3] = np.nan
    write(tmp_path / "field" / "a.tif", pixels)
    write(tmp_path / "water" / "a.tif", np.ones_like(pixels))
    with pytest.raises(SceneError, match=r"field/a\.tif has 1 NaN numbers among 32.*nodata=nan"):
        open_scenes(tmp_path).read(0)
    scenes = open_scenes(tmp_path, nodata=float("nan"))
    assert scenes.contract.valid(scenes.read(0)).sum() == 31
    assert scenes.read(1).shape == (2, 4, 4)
    pixels[1, 2, 3] = np.inf
    write(tmp_path / "field" / "a.tif", pixels)
    with pytest.raises(SceneError, match="1 infinite numbers"):
        open_scenes(tmp_path, nodata=float("nan")).read(0)


@pytest.mark.parametrize(("dtype", "nodata"), [("uint16", 0), ("float32", -9999), ("float32", float("nan"))])
def test_an_image_without_a_valid_pixel_is_an_error(tmp_path: Path, dtype: str, nodata: float) -> None:
    write(tmp_path / "field" / "a.tif", np.full((2, 4, 4), nodata, dtype), nodata=nodata)
    write(tmp_path / "water" / "a.tif", np.ones((2, 4, 4), dtype), nodata=nodata)
    scenes = open_scenes(tmp_path)
    with pytest.raises(SceneError, match=r"field/a\.tif has no valid pixel: all are nodata"):
        scenes.read(0)
    assert scenes.read(1).max() == 1


def test_files_that_differ_in_scale_or_nodata_are_not_mixed(tmp_path: Path) -> None:
    two_classes(tmp_path, scales=(1e-4, 1e-4), nodata=0)
    write(tmp_path / "water" / "b.tif", np.ones((2, 4, 4), np.uint16))
    with pytest.raises(
        ContractError, match=r"2 with .*scale 0\.0001 and offset 0, nodata 0.*; 1 with 2 bands"
    ):
        open_scenes(tmp_path).read(2)


def test_complex_numbers_and_mixed_nodata_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="complex numbers"):
        read_image_file(write(tmp_path / "a.tif", np.ones((1, 4, 4), np.complex64)))
    twice = write(tmp_path / "b.tif", np.ones((2, 4, 4), np.uint8), descriptions=("B1", "B1"))
    with pytest.raises(SceneError, match="bands of the same name: B1, B1"):
        read_image_file(twice)


def test_nodata_outside_the_number_type_does_no_harm(tmp_path: Path) -> None:
    two_classes(tmp_path)
    scenes = open_scenes(tmp_path, nodata=-9999)
    assert scenes.contract.valid(scenes.read(0)).all()


@pytest.fixture
def requests() -> Iterator[tuple[str, list[str]]]:
    """A server that answers nothing and counts who asked."""
    asked: list[str] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def virtual(source: str) -> str:
    return (
        '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )


def test_a_virtual_raster_called_tif_reaches_neither_a_server_nor_another_file(
    tmp_path: Path, requests: tuple[str, list[str]]
) -> None:
    address, asked = requests
    secret = write(tmp_path / "secret.tif", np.full((1, 4, 4), 42, np.uint8))
    for source in (f"/vsicurl/{address}/a.tif", f"{address}/a.tif", str(secret)):
        path = tmp_path / "scene.tif"
        path.write_text(virtual(source))
        with pytest.raises(SceneError, match=r"scene\.tif is not an image.*\(VRT\) and the like are refused"):
            read_image_file(path)
        # The second defence holds on its own: the allowed driver does not open it either.
        with pytest.raises(SceneError), opened(path, "GTiff", "scene"):
            pass
    assert asked == []


def test_names_that_gdal_reads_as_addresses_reach_no_server(
    tmp_path: Path, requests: tuple[str, list[str]]
) -> None:
    address, asked = requests
    names = [f"/vsicurl/{address}/a.tif", f"{address}/a.tif", f"GTIFF_DIR:1:/vsicurl/{address}/a.tif"]
    rows = "".join(f"{name},1\n" for name in names)
    (tmp_path / "t.csv").write_text(f"image,water\nreal.tif,1\n{rows}")
    write(tmp_path / "real.tif", np.ones((1, 4, 4), np.uint8))
    scenes = open_scenes(tmp_path)
    for index in range(1, len(scenes)):
        with pytest.raises(SceneError, match="does not exist"):
            scenes.read(index)
    for name in names:  # even where GDAL itself is asked
        with pytest.raises(SceneError), opened(Path(name), "GTiff", name):
            pass
    assert asked == []


def test_files_beside_a_raster_change_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.ones((1, 4, 4), np.uint8))
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><NoDataValue>1</NoDataValue>"
        "<Scale>9</Scale></PAMRasterBand></PAMDataset>"
    )
    header = read_image_file(path)[1]
    assert header.nodata is None
    assert header.scale == (1 / 255,)


@pytest.mark.real_data
def test_slovenia_has_13_named_bands_of_reflectance(real_data: Path, tmp_path: Path) -> None:
    dates = sorted((real_data / "landcover-slovenia").glob("s2-*.tif"))
    (tmp_path / "t.csv").write_text("image,forest\n" + "".join(f"{path},1\n" for path in dates))
    scenes = open_scenes(tmp_path)
    assert len(scenes) == 5
    names = (*(f"B{band:02}" for band in range(1, 9)), "B8A", "B09", "B10", "B11", "B12")
    assert scenes.contract.names == names
    assert scenes.contract.scale == (1e-4,) * 13
    assert scenes.contract.gsd_m == pytest.approx(10, rel=0.01)
    assert set(scenes.columns["crs"]) == {"EPSG:32633"}
    for index in range(5):
        assert scenes.read(index).shape == (13, 101, 100)
        assert scenes.read(index).dtype == np.uint16


@pytest.mark.real_data
def test_whole_real_scenes_open_with_their_nodata(real_data: Path) -> None:
    image, header = read_image_file(real_data / "scenes" / "bahamas-rgb-nodata.tif")
    assert header.nodata == 0
    assert header.gsd_m == pytest.approx(300.04, abs=0.01)
    assert 0 < header.contract.valid(image).mean() < 1
    assert read_image_file(real_data / "scenes" / "aquileia-s2-l2a-2019-04-16.tif")[1].gsd_m is None
    assert read_image_file(real_data / "scenes" / "olinda-landsat7.tif")[0].shape == (6, 352, 349)


@pytest.mark.parametrize(
    "place",
    [
        {"transform": rasterio.Affine(float("nan"), 0, 0, 0, -10, 0)},
        {"transform": rasterio.Affine(0, 0, 0, 0, 0, 0)},
        {"crs": 'LOCAL_CS["somewhere",UNIT["metre",1]]'},
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # while writing
def test_places_that_make_no_sense_count_as_none(tmp_path: Path, place: dict[str, Any]) -> None:
    header = read_image_file(write(tmp_path / "a.tif", np.ones((1, 4, 4), np.uint8), **place))[1]
    assert header.centre is None
    assert header.gsd_m is None


def test_another_planet_has_no_common_coordinates(tmp_path: Path) -> None:
    two_classes(tmp_path)
    moon = (
        'GEOGCS["Moon",DATUM["Moon",SPHEROID["Moon",1737400,0]],PRIMEM["Reference",0],'
        'UNIT["degree",0.0174532925199433]]'
    )
    write(tmp_path / "water" / "b.tif", np.ones((2, 4, 4), np.uint16), crs=moon)
    scenes = open_scenes(tmp_path)
    with pytest.warns(
        UserWarning, match=r"1 scenes have coordinates in .*Moon.* cannot be brought to EPSG:6933"
    ):
        columns = {name: scenes.columns[name] for name in scenes.columns}
    assert np.isfinite(columns["x"]).tolist() == [True, True, False]
    assert columns["crs"].tolist() == ["EPSG:6933", "EPSG:6933", ""]
