"""Virtual rasters: plain ones are mapped if that is allowed by name; of the others GDAL never sees anything."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil

import swath
from swath.errors import RunError, SceneError
from swath.mapping.virtual import SIZE_LIMIT, VirtualFile


def stack(make: Any, folder: Path, pixels: np.ndarray) -> str:
    """Write each band as a file of its own in a folder below, and return a VRT that puts them together."""
    bands = []
    for number, (name, values) in enumerate(zip(make.BANDS, pixels, strict=True), start=1):
        make.scene(folder / "bands" / f"{name}.tif", values[None], nodata=0)
        bands.append(
            f'<VRTRasterBand dataType="UInt16" band="{number}"><Description>{name}</Description><NoDataValue>0'
            f"</NoDataValue><Scale>0.0001</Scale><UnitType>reflectance</UnitType><SimpleSource>"
            f'<SourceFilename relativeToVRT="1">bands/{name}.tif</SourceFilename><SourceBand>1</SourceBand>'
            f'<SourceProperties RasterXSize="1" RasterYSize="1" DataType="Byte"/></SimpleSource></VRTRasterBand>'
        )
    height, width = pixels.shape[1:]
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>EPSG:32633</SRS><GeoTransform>500000, 10, 0, '
        f"5100000, 0, -10</GeoTransform>{''.join(bands)}</VRTDataset>"
    )


@pytest.mark.parametrize("name", ["scene.vrt", "scene.tif"])
def test_a_plain_one_is_mapped_like_a_geotiff(
    make: Any, tmp_path: Path, linear_run: Path, scene: Path, name: str
) -> None:
    pixels = make.read(scene)
    path = tmp_path / "virtual" / name
    text = stack(make, path.parent, pixels)
    path.write_text(text)
    entry = swath.map_scenes(
        linear_run, [path], out=tmp_path / "maps", stride=16, allow_vrt=True, allow_remote=True
    ).maps[0]
    plain = swath.map_scenes(linear_run, [scene], out=tmp_path / "plain", stride=16).maps[0]
    for kind in ("probability", "labels", "uncertainty"):
        np.testing.assert_array_equal(make.read(entry.files[kind]), make.read(plain.files[kind]))
    assert entry.ground_ha == plain.ground_ha
    again = swath.map_scenes(linear_run, [path], out=tmp_path / "maps", stride=16, allow_vrt=True).maps[0]
    assert again.windows == 0
    # Another pixel in a file that it is made of is another scene.
    pixels[1, 5, 5] += 1
    stack(make, path.parent, pixels)
    with pytest.raises(RunError, match="the scene has changed"):
        swath.map_scenes(linear_run, [path], out=tmp_path / "maps", stride=16, allow_vrt=True)
    with pytest.raises(SceneError, match=r"is a virtual raster \(VRT\).*--allow-vrt"):
        swath.map_scenes(linear_run, [path], out=tmp_path / "other", stride=16)


def test_what_gdal_itself_writes_is_read(make: Any, tmp_path: Path, linear_run: Path) -> None:
    pixels = make.noise(200, 230)
    alpha = np.full((1, 200, 230), 255, np.uint16)
    alpha[:, :40, :50] = 0
    options = {"nodata": None, "photometric": "RGB", "alpha": "yes"}
    path = make.scene(tmp_path / "alpha.tif", np.concatenate([pixels, alpha]), **options)
    with rasterio.open(path, "r+") as raster:
        raster.descriptions = (*make.BANDS, None)
    for name in ("alpha.vrt", "below/alpha.vrt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        rasterio.shutil.copy(path, tmp_path / name, driver="VRT")
    swath.map_scenes(linear_run, [path], out=tmp_path / "plain", stride=16, scale="1e-4")
    swath.map_scenes(
        linear_run, [tmp_path / "*.vrt"], out=tmp_path / "maps", stride=16, scale="1e-4", allow_vrt=True
    )
    for kind in ("probability", "labels"):
        found, wanted = (make.read(tmp_path / folder / f"alpha.{kind}.tif") for folder in ("maps", "plain"))
        np.testing.assert_array_equal(found, wanted)
    with pytest.raises(SceneError, match=r"points to .*alpha\.tif', which is not in its folder"):
        swath.map_scenes(
            linear_run, [tmp_path / "below" / "alpha.vrt"], out=tmp_path / "x", scale="1e-4", allow_vrt=True
        )


def hostile(make: Any, folder: Path, address: str) -> dict[str, tuple[str, str]]:
    """Return virtual rasters that want more than they should, and what is said about each."""
    plain = stack(make, folder, make.noise(64, 64))
    secret = folder.parent / "secret.tif"
    make.scene(secret, make.noise(64, 64, bands=1))
    (folder / "link.tif").symlink_to(secret)
    (folder / "folder.tif").mkdir()
    (folder / "text.tif").write_text("root:x:0:0")
    (folder / "inner.tif").write_text(plain)
    (folder / "raw.jp2").write_bytes(b"\xff\x4f\xff\x51<VRTDataset>" + plain.encode())

    def source(name: str, relative: int = 1) -> str:
        first = '<SourceFilename relativeToVRT="1">bands/B02.tif</SourceFilename>'
        return plain.replace(first, f'<SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>')

    def band(attributes: str, content: str) -> str:
        return plain.replace(
            "</VRTDataset>",
            f'<VRTRasterBand dataType="UInt16" band="4" {attributes}>{content}</VRTRasterBand></VRTDataset>',
        )

    python = (
        "<PixelFunctionType>run</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        "<PixelFunctionCode><![CDATA[open('ran', 'w')]]></PixelFunctionCode>"
    )
    raw = '<SourceFilename relativeToVRT="0">/etc/passwd</SourceFilename><ImageOffset>0</ImageOffset>'
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 9}">' for n in range(1, 9))
    remote, outside = "which is no local file", "which is not in its folder"
    return {
        **{
            f"remote {number}, {relative}": (source(name, relative), remote)
            for relative in (0, 1)
            for number, name in enumerate(
                (
                    f"{address}/a.tif",
                    f"/vsicurl/{address}/a.tif",
                    f" \n//vsicurl/{address}/a.tif",
                    "s3://bucket/a.tif",
                    "/vsis3/bucket/a.tif",
                    "/vsizip/inner.zip/a.tif",
                    f"GTIFF_DIR:1:/vsicurl/{address}/a.tif",
                    f"vrt:///vsicurl/{address}/a.tif",
                    f"WMS:{address}/",
                    "",
                )
            )
        },
        "outside": (source("../secret.tif"), outside),
        "outside, absolute": (source(str(secret), 0), outside),
        "outside by a link": (source("link.tif"), outside),
        "secret": (source("/etc/passwd", 0), outside),
        "missing": (source("bands/B99.tif"), "which is not there"),
        "folder": (source("folder.tif"), "which is no file"),
        "no raster": (source("text.tif"), "text.tif, to which .* points, is not an image"),
        "another VRT": (source("inner.tif"), "inner.tif, to which .* points, is not an image"),
        "itself": (source("itself.vrt"), "to which .* points, is not an image"),
        "bare codestream": (source("raw.jp2"), "which is neither GeoTIFF nor JPEG 2000"),
        "python": (band('subClass="VRTDerivedRasterBand"', python), "holds <PixelFunctionType>"),
        "python without its class": (band("", python), "holds <PixelFunctionType>"),
        "derived": (band('subClass="VRTDerivedRasterBand"', ""), "holds <VRTRasterBand subClass="),
        "raw": (band('subClass="VRTRawRasterBand"', raw), "holds <SourceFilename> in <VRTRasterBand>"),
        "warped": (plain.replace("<VRTDataset ", '<VRTDataset subClass="VRTWarpedDataset" '), "subClass="),
        "warped from afar": (
            plain.replace(
                "<SRS>", f"<GDALWarpOptions><SourceDataset>{address}</SourceDataset></GDALWarpOptions><SRS>"
            ),
            "holds <GDALWarpOptions>",
        ),
        "options": (
            source('x</SourceFilename><OpenOptions><OOI key="a">b</OOI></OpenOptions><SourceFilename>'),
            "",
        ),
        "two names": (source(f"bands/B02.tif</SourceFilename><SourceFilename>{address}/a.tif"), remote),
        "two good names": (
            source('bands/B02.tif</SourceFilename><SourceFilename relativeToVRT="1">bands/B03.tif'),
            "without exactly one <SourceFilename>",
        ),
        "no name": (
            band("", "<SimpleSource><SourceBand>1</SourceBand></SimpleSource>"),
            "without exactly one",
        ),
        "other case": (
            band("", f"<simplesource><sourcefilename>{address}/a.tif</sourcefilename></simplesource>"),
            "holds <simplesource>",
        ),
        "kernel": (
            band("", f"<KernelFilteredSource>{address}</KernelFilteredSource>"),
            "holds <KernelFilteredSource>",
        ),
        "another namespace": (
            plain.replace("<SRS>", '<SRS xmlns="a">').replace("</SRS>", "</SRS>"),
            "holds <{a}SRS>",
        ),
        "coordinate system from afar": (
            plain.replace("EPSG:32633", f"{address}/crs"),
            "neither WKT nor EPSG",
        ),
        "coordinate system in a file": (plain.replace("EPSG:32633", "/etc/passwd"), "neither WKT nor EPSG"),
        "no bands": ('<VRTDataset rasterXSize="9" rasterYSize="9"></VRTDataset>', "has 0 bands"),
        "many bands": (
            '<VRTDataset rasterXSize="9" rasterYSize="9">'
            + '<VRTRasterBand dataType="Byte"/>' * 65_535
            + "</VRTDataset>",
            "has 65535 bands",
        ),
        "other document": ("<html><VRTDataset/></html>", "in <html>"),
        "entity of a file": (
            f'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>{plain.replace("B02<", "&x;<")}',
            "document type declaration",
        ),
        "entities without end": (
            f'<!DOCTYPE a [<!ENTITY l0 "ha">{laughs}]>{plain.replace("B02<", "&l8;<")}',
            "document type declaration",
        ),
        "deep": ("<VRTDataset>" * 100_000, "more than 200000 elements, or some deeper than 12"),
        "wide": (f"<VRTDataset>{'<SRS/>' * 300_000}</VRTDataset>", "more than 200000 elements"),
        "large": (plain + " " * SIZE_LIMIT, "has more than 16 MiB"),
        "broken": (plain[:-30], "cannot be parsed"),
        "unknown encoding": (f'<?xml version="1.0" encoding="nope"?>{plain}', "cannot be parsed"),
    }


def test_one_that_wants_more_is_refused_and_nobody_is_asked(
    make: Any,
    tmp_path: Path,
    linear_run: Path,
    requests: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, asked = requests
    folder = tmp_path / "virtual"
    folder.mkdir()
    monkeypatch.chdir(folder)
    cases = hostile(make, folder, address)
    assert len(cases) > 50
    for what, (text, message) in cases.items():
        path = folder / ("itself.vrt" if what == "itself" else "case.vrt")
        path.write_text(text)
        with pytest.raises(SceneError) as caught:
            VirtualFile(path).checked()
        assert str(caught.value).count("\n") == 0, what
        assert re.search(message, str(caught.value)), (what, str(caught.value))
    # A few all the way, as a user meets them; permission for servers does not reach into files.
    for what in (
        "remote 0, 0",
        "remote 1, 1",
        "secret",
        "python",
        "raw",
        "entity of a file",
        "coordinate system from afar",
    ):
        (folder / "case.tif").write_text(cases[what][0])
        with pytest.raises(SceneError, match=cases[what][1]):
            swath.map_scenes(
                linear_run,
                [folder / "case.tif"],
                out=tmp_path / "maps",
                stride=16,
                allow_vrt=True,
                allow_remote=True,
            )
    assert asked == []
    assert not (folder / "ran").exists()
    assert not (tmp_path / "maps").exists()


def test_gdal_sees_only_what_was_checked(make: Any, tmp_path: Path) -> None:
    text = stack(make, tmp_path, make.noise(64, 64))
    hidden = "<!-- <SourceFilename>/etc/passwd</SourceFilename> --><?x <SourceFilename>/etc/passwd?>"
    path = tmp_path / "a.vrt"
    path.write_text(text.replace("<SimpleSource>", f"<SimpleSource>{hidden}"))
    written, parts = VirtualFile(path).checked()
    assert b"passwd" not in written
    assert b"SourceProperties" not in written
    assert [part.name for part in parts] == ["B02.tif", "B03.tif", "B04.tif"]
    assert all(str(part).encode() in written for part in parts)


def test_mixed_number_types_in_one_file(make: Any, tmp_path: Path, linear_run: Path) -> None:
    text = stack(make, tmp_path, make.noise(64, 64)).replace('"UInt16" band="2"', '"Float32" band="2"')
    (tmp_path / "mixed.vrt").write_text(text)
    with pytest.raises(SceneError, match=r"bands of several number types \(float32, uint16\)"):
        swath.map_scenes(linear_run, [tmp_path / "mixed.vrt"], out=tmp_path / "maps", allow_vrt=True)
    assert not (tmp_path / "maps").exists()


def test_a_source_that_goes_away_or_breaks_is_an_error(make: Any, tmp_path: Path, linear_run: Path) -> None:
    path = tmp_path / "a.vrt"
    path.write_text(stack(make, tmp_path, make.noise(128, 128)))
    source = tmp_path / "bands" / "B03.tif"
    with rasterio.open(source) as raster:
        place = int(raster.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    os.truncate(source, place + 100)
    with pytest.raises(SceneError, match=r"a\.vrt is damaged or cut short in rows"):
        swath.map_scenes(linear_run, [path], out=tmp_path / "maps", stride=16, allow_vrt=True)
    assert not list((tmp_path / "maps").glob("[!.]*"))
    shutil.rmtree(tmp_path / "bands")
    with pytest.raises(SceneError, match="which is not there"):
        swath.map_scenes(linear_run, [path], out=tmp_path / "other", stride=16, allow_vrt=True)
