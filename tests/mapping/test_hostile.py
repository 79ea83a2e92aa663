"""Broken and hostile rasters: one clear message, nothing written, no server asked, no other file read."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

import swath
from swath.errors import ContractError, InputError, OutputError, SceneError, SwathError


def refused(
    run: Path,
    scene: Path | str,
    out: Path,
    error: type[SwathError],
    message: str,
    *,
    started: bool = False,
    **options: Any,
) -> None:
    """Map a scene that is refused: one line says why, and nothing is written (or nothing but work, once started)."""
    with pytest.raises(error, match=message) as caught:
        swath.map_scenes(run, [scene], out=out, **{"stride": 16, **options})
    assert "\n" not in str(caught.value)
    assert not list(out.glob("[!.]*")) if started else not out.exists()


def virtual(source: str, kind: str = "") -> str:
    """Return a virtual raster with a plain source, a Python pixel function, or the bytes of a file as its pixels."""
    if kind == "raw":
        return (
            '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1" '
            f'subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="0">{source}</SourceFilename><ImageOffset>0'
            "</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>4</LineOffset></VRTRasterBand></VRTDataset>"
        )
    function = (
        "<PixelFunctionType>run</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        "<PixelFunctionCode><![CDATA[open('ran', 'w')]]></PixelFunctionCode>"
    )
    derived = 'subClass="VRTDerivedRasterBand"' if kind else ""
    return (
        '<VRTDataset rasterXSize="64" rasterYSize="64"><SRS>EPSG:32633</SRS>'
        "<GeoTransform>500000, 10, 0, 5100000, 0, -10</GeoTransform>"
        f'<VRTRasterBand dataType="UInt16" band="1" {derived}>'
        f'{function if kind else ""}<SimpleSource><SourceFilename relativeToVRT="0">{source}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def test_virtual_rasters_reach_neither_a_server_nor_another_file_nor_python(
    tmp_path: Path,
    linear_run: Path,
    scene: Path,
    requests: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, asked = requests
    monkeypatch.chdir(tmp_path)
    for name in ("named.tif", "plain.vrt"):
        for source in (f"/vsicurl/{address}/a.tif", f"{address}/a.tif", str(scene), "/etc/passwd"):
            for kind in ("", "python", "raw"):
                path = tmp_path / name
                path.write_text(virtual(source, kind))
                refused(
                    linear_run,
                    path,
                    tmp_path / "maps",
                    SceneError,
                    r"is a virtual raster \(VRT\), which names other files.*--allow-vrt",
                )
    assert asked == []
    assert not (tmp_path / "ran").exists()


def test_remote_names_reach_no_server(
    tmp_path: Path, linear_run: Path, requests: tuple[str, list[str]]
) -> None:
    address, asked = requests
    for name in (
        f"{address}/a.tif",
        f"/vsicurl/{address}/a.tif",
        "s3://bucket/a.tif",
        f"GTIFF_DIR:1:{address}/a.tif",
    ):
        refused(linear_run, name, tmp_path / "maps", SceneError, "is not a local file")
    assert asked == []


def edit_tag(path: Path, tag: int, values: bytes) -> None:
    """Overwrite the value of a TIFF tag in place (classic, little-endian, value inside the entry or not longer)."""
    data = bytearray(path.read_bytes())
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", data, entry)[0] == tag:
            kind, count = struct.unpack_from("<HI", data, entry + 2)
            size = {1: 1, 2: 1, 3: 2, 4: 4, 12: 8}[kind] * count
            place = entry + 8 if size <= 4 else struct.unpack_from("<I", data, entry + 8)[0]
            data[place : place + len(values)] = values
            path.write_bytes(data)
            return
    raise AssertionError(f"no tag {tag}")


def plain(make: Any, path: Path, **options: Any) -> Path:
    return make.reflectance(path, make.noise(128, 128), **options)


def test_headers_that_claim_more_than_there_is(make: Any, tmp_path: Path, linear_run: Path) -> None:
    path = plain(make, tmp_path / "scene.tif")
    for tag in (256, 257):  # width and height; the tiles stay as they are
        edit_tag(path, tag, struct.pack("<I", 1_000_000))
    refused(linear_run, path, tmp_path / "maps", SceneError, r"scene\.tif (is cut short|starts like a TIFF)")
    strip = make.reflectance(
        tmp_path / "strip.tif", make.noise(128, 128), tiled=False, blockysize=128, interleave="band"
    )
    for tag in (256, 257, 278):
        edit_tag(strip, tag, struct.pack("<I", 1_000_000) if tag != 278 else struct.pack("<H", 60_000))
    refused(
        linear_run,
        strip,
        tmp_path / "maps",
        SceneError,
        r"strip\.tif (is stored in blocks|is cut|starts like)",
    )


def test_as_many_bands_as_a_header_can_claim(make: Any, tmp_path: Path, linear_run: Path) -> None:
    path = make.scene(tmp_path / "scene.tif", np.zeros((1, 64, 64), np.uint8))
    edit_tag(path, 277, struct.pack("<H", 65_535))
    refused(linear_run, path, tmp_path / "maps", SceneError, "has 65535 bands by its header; at most 4096")


def test_an_empty_million_by_million_scene_is_too_large_for_the_disk(
    make: Any, tmp_path: Path, linear_run: Path
) -> None:
    path = tmp_path / "scene.tif"
    profile = {**make.UTM, "count": 3, "height": 1_000_000, "width": 1_000_000, "dtype": "uint16"}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        tiled=True,
        blockxsize=4096,
        blockysize=4096,
        sparse_ok=True,
        bigtiff="yes",
        **profile,
    ) as raster:
        raster.descriptions = make.BANDS
        raster.scales = (1e-4,) * 3
    refused(linear_run, path, tmp_path / "maps", OutputError, r"needs up to [\d.]+ GiB", stride=1)
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize("damage", ["rubbish", "cut off"])
def test_a_block_that_is_damaged_in_the_middle(
    make: Any, tmp_path: Path, linear_run: Path, damage: str
) -> None:
    compress = "deflate" if damage == "rubbish" else None
    path = make.reflectance(tmp_path / "scene.tif", make.noise(256, 256), compress=compress)
    with rasterio.open(path) as raster:
        place = int(raster.get_tag_item("BLOCK_OFFSET_2_2", "TIFF", bidx=1))
        size = int(raster.get_tag_item("BLOCK_SIZE_2_2", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    if damage == "rubbish":
        content[place : place + size] = b"\xff" * size
        path.write_bytes(content)
    else:  # the block's address lies where the file ends in the middle of it
        addresses = struct.pack("<I", place)
        at = content.index(addresses, 0)
        content[at : at + 4] = struct.pack("<I", len(content) - size // 2)
        path.write_bytes(content)
    message = r"scene\.tif is damaged or cut short in rows \d+ to \d+ and columns"
    refused(linear_run, path, tmp_path / "maps", SceneError, message, tile=64, started=True)
    # What could be read is kept for when the file is repaired under the same name; it then counts as another scene.
    assert list((tmp_path / "maps" / ".scene.work").glob("*.safetensors"))


@pytest.mark.parametrize("crs", [None, 'LOCAL_CS["somewhere",UNIT["metre",1]]'])
def test_no_coordinate_system(make: Any, tmp_path: Path, linear_run: Path, crs: str | None) -> None:
    path = plain(make, tmp_path / "scene.tif", crs=crs)
    refused(linear_run, path, tmp_path / "maps", SceneError, r"coordinate system.*gdal_edit\.py -a_srs")


@pytest.mark.parametrize(
    "transform",
    [
        rasterio.Affine(float("nan"), 0, 0, 0, -10, 0),
        rasterio.Affine(10, 0, float("inf"), 0, -10, 0),
        rasterio.Affine(10, 10, 0, 10, 10, 0),
        None,
    ],
)
def test_a_transform_that_leads_nowhere(make: Any, tmp_path: Path, linear_run: Path, transform: Any) -> None:
    path = plain(make, tmp_path / "scene.tif", transform=transform)
    refused(linear_run, path, tmp_path / "maps", SceneError, "no usable place on the ground")


def test_degrees_beyond_the_pole(make: Any, tmp_path: Path, linear_run: Path) -> None:
    path = plain(
        make, tmp_path / "scene.tif", crs="EPSG:4326", transform=rasterio.Affine(1e-4, 0, 5, 0, -1e-4, 95)
    )
    refused(linear_run, path, tmp_path / "maps", SceneError, "centre at latitude 94.99")


def test_rotated_scenes_are_mapped_as_they_lie(make: Any, tmp_path: Path, linear_run: Path) -> None:
    turn = rasterio.Affine(8, 6, 500_000, 6, -8, 5_100_000)  # 10 m pixels, turned
    pixels = make.noise(128, 150)
    path = make.reflectance(tmp_path / "scene.tif", pixels, transform=turn)
    entry = swath.map_scenes(linear_run, [path], out=tmp_path / "maps", stride=16).maps[0]
    expected = make.by_hand(pixels, make.model(), 16)
    found = make.read(tmp_path / "maps" / "scene.probability.tif")
    np.testing.assert_allclose(found * 1e-4, expected, atol=0.5e-4 + 1e-6)
    with rasterio.open(tmp_path / "maps" / "scene.labels.tif") as raster:
        np.testing.assert_allclose(
            list(raster.transform)[:6], [128, 96, 500_000, 96, -128, 5_100_000], rtol=1e-15
        )
    assert entry.ground_ha == pytest.approx(128 * 150 / 100)


def test_nodata_that_cannot_occur(make: Any, tmp_path: Path, linear_run: Path) -> None:
    path = plain(make, tmp_path / "scene.tif", nodata=12_345)
    content = path.read_bytes()
    assert b"12345\0" in content
    path.write_bytes(content.replace(b"12345\0", b"-9999\0"))
    message = r"holds uint16 numbers from 0 to 65535; the nodata value -9999 {}.*--nodata none"
    refused(linear_run, path, tmp_path / "maps", SceneError, message.format("in its header"))
    for told in ("-9999", "nan", "0.5", "inf"):
        refused(linear_run, path, tmp_path / "maps", InputError, "given cannot occur", nodata=told)
    swath.map_scenes(linear_run, [path], out=tmp_path / "maps", stride=16, nodata="none")


def test_mixed_number_types_and_complex_numbers(make: Any, tmp_path: Path, linear_run: Path) -> None:
    bands = []
    for name, dtype in (("B02", "uint16"), ("B03", "float32"), ("B04", "int32")):
        pixels = make.noise(100, 100, bands=1, seed=len(bands)).astype(dtype)
        bands.append(
            make.scene(tmp_path / "split" / f"x_{name}.tif", pixels, scales=(1e-4,), units=("reflectance",))
        )
    # In separate files they are no contradiction.
    assert swath.map_scenes(linear_run, bands, out=tmp_path / "maps", stride=16).maps[0].name == "x"
    path = make.scene(tmp_path / "complex.tif", np.ones((3, 64, 64), np.complex64))
    refused(linear_run, path, tmp_path / "other", SceneError, "complex numbers")
    # In one file they are one, even if each has a size of its own.
    for tag, values in ((258, (16, 8, 16)), (339, (1, 3, 2))):
        path = plain(make, tmp_path / f"{tag}.tif")
        edit_tag(path, tag, struct.pack("<3H", *values))
        refused(
            linear_run,
            path,
            tmp_path / "other",
            SceneError,
            rf"{tag}\.tif starts like a TIFF file but cannot",
        )


def test_files_of_one_scene_that_do_not_overlap(make: Any, tmp_path: Path, linear_run: Path) -> None:
    for number, band in enumerate(make.BANDS):
        grid = rasterio.Affine(10, 0, 500_000 + 1_000_000 * (number == 2), 0, -10, 5_100_000)
        pixels = make.noise(100, 100, bands=1)
        make.scene(
            tmp_path / "split" / f"x_{band}.tif",
            pixels,
            transform=grid,
            scales=(1e-4,),
            units=("reflectance",),
        )
    message = r"x_B02\.tif and .*x_B04\.tif do not overlap; files of one scene show the same ground"
    refused(linear_run, tmp_path / "split", tmp_path / "maps", SceneError, message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.tif", b"", "is empty"),
        ("text.tif", b"hello", "is not an image"),
        ("cut.tif", b"II*\x00\x08\x00\x00\x00", "starts like a TIFF file but cannot be opened"),
        ("zip.tif", b"PK\x03\x04" + bytes(100), "is not an image"),
    ],
)
def test_files_that_are_no_raster(
    tmp_path: Path, linear_run: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    refused(linear_run, tmp_path / name, tmp_path / "maps", SceneError, message)


def test_pictures_have_no_place(tmp_path: Path, linear_run: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    refused(
        linear_run, tmp_path / "a.png", tmp_path / "maps", SceneError, "no place on the ground.*swath predict"
    )


def test_zero_size(make: Any, tmp_path: Path, linear_run: Path) -> None:
    path = plain(make, tmp_path / "scene.tif")
    for tag in (257, 256):
        edit_tag(path, tag, struct.pack("<I", 0))
        refused(
            linear_run, path, tmp_path / "maps", SceneError, r"scene\.tif (starts like a TIFF|has no pixels)"
        )


def test_wrong_bands(make: Any, tmp_path: Path, linear_run: Path) -> None:
    path = plain(make, tmp_path / "scene.tif", descriptions=("red", "green", "blue"))
    refused(
        linear_run, path, tmp_path / "maps", ContractError, "Missing: B02, B03, B04. Found: red, green, blue"
    )
    twice = plain(make, tmp_path / "twice.tif", descriptions=("B02", "B02", "B04"))
    refused(linear_run, twice, tmp_path / "maps", SceneError, "bands of the same name")


def test_files_beside_a_raster_change_nothing(
    make: Any, tmp_path: Path, linear_run: Path, scene: Path
) -> None:
    swath.map_scenes(linear_run, [scene], out=tmp_path / "one", stride=16)
    (tmp_path / "scene.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><NoDataValue>1000</NoDataValue><Scale>9</Scale>"
        "</PAMRasterBand></PAMDataset>"
    )
    make.reflectance(tmp_path / "scene.tif.ovr", make.noise(100, 115))
    make.scene(tmp_path / "scene.tif.msk", np.zeros((1, 200, 230), np.uint8))
    swath.map_scenes(linear_run, [scene], out=tmp_path / "two", stride=16)
    assert make.products(tmp_path / "one") == make.products(tmp_path / "two")


def test_a_model_without_sense(make: Any, tmp_path: Path, scene: Path) -> None:
    from swath.errors import RunError

    model = make.model()
    model.head.weight.data[:] = 3e38  # finite, but its products are not
    refused(
        make.run(tmp_path / "broken", model),
        scene,
        tmp_path / "maps",
        RunError,
        "not finite on this scene",
        started=True,
    )
