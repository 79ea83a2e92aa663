"""Single image files: every kind that is read, and every way in which a file can be wrong."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from PIL import Image

from swath.errors import SceneError
from swath.scenes.images import PIXEL_LIMIT, read_header, read_image, read_image_file


def picture(mode: str) -> Image.Image:
    colours = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    return Image.fromarray(colours).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1"])
def test_png_of_every_8_bit_mode_is_grey_or_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    picture(mode).save(path)
    image, header = read_image_file(path)
    plain = picture(mode).convert("L" if mode in ("L", "LA", "1") else "RGB")
    expected = np.asarray(plain)
    expected = expected[None] if expected.ndim == 2 else expected.transpose(2, 0, 1)
    np.testing.assert_array_equal(image, expected)
    assert image.dtype == np.uint8
    assert header.names == (("band_1",) if len(image) == 1 else ("red", "green", "blue"))
    assert header.scale == (1 / 255,) * len(image)
    assert header.unit == "display"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_is_read_as_pillow_reads_it(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.jpg"
    picture(mode).save(path, quality=95)
    image, header = read_image_file(path)
    assert image.shape == ((1, 9, 7) if mode == "L" else (3, 9, 7))
    assert (header.height, header.width) == (9, 7)
    expected = np.asarray(Image.open(path).convert("L" if mode == "L" else "RGB"))
    np.testing.assert_array_equal(image.transpose(1, 2, 0).squeeze(), expected)


def test_the_camera_s_rotation_mark_is_ignored(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    picture("RGB").save(tmp_path / "a.jpg", exif=turned)
    assert read_image_file(tmp_path / "a.jpg")[0].shape == (3, 9, 7)


@pytest.mark.parametrize(("driver", "suffix"), [("GTiff", "tif"), ("PNG", "png"), ("JP2OpenJPEG", "jp2")])
def test_16_bit_images_keep_their_bits(tmp_path: Path, driver: str, suffix: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 2**16, (3, 64, 64), np.uint16)
    path = tmp_path / f"a.{suffix}"
    options = {"QUALITY": 100, "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            height=64,
            width=64,
            count=3,
            dtype="uint16",
            transform=rasterio.Affine(2, 0, 5, 0, -2, 5),
        ) as raster:
            raster.write(pixels)
        with memory.open() as raster:
            rasterio.shutil.copy(raster, path, driver=driver, **options)
    image, header = read_image_file(path)
    np.testing.assert_array_equal(image, pixels)
    assert header.dtype == "uint16"
    assert header.names == ("band_1", "band_2", "band_3")
    assert header.unit == ""
    assert header.scale == (1.0, 1.0, 1.0)


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    picture("RGB").save(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", tmp_path / "a.tif")
    assert read_image_file(tmp_path / "a.tif")[0].shape == (3, 9, 7)


def tiff_header(width: int, height: int, bands: int = 1) -> bytes:
    """Return a TIFF whose header promises much and that holds nothing."""
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, bands),
        (278, 4, 1, height),
        (279, 4, 1, min(width * height, 2**32 - 1)),
    ]
    body = b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<LH", 8, len(entries)) + body + struct.pack("<L", 0)


def png_header(width: int, height: int, depth: int = 8) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))
        )

    shape = struct.pack(">LLBBBBB", width, height, depth, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", shape)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def jpeg_header(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    content = file.getvalue()
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


@pytest.mark.parametrize(
    "content",
    [
        png_header(100_000, 100_000),
        png_header(100_000, 100_000, depth=16),
        tiff_header(100_000, 100_000),
        tiff_header(1_000_000, 1_000_000),
        jpeg_header(60_000, 60_000),
    ],
    ids=["png", "png-16-bit", "tiff", "tiff-huge", "jpeg"],
)
def test_a_header_that_promises_too_much_is_refused_before_decoding(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "huge.img"
    path.write_bytes(content)
    with pytest.raises(SceneError, match=r"huge\.img") as caught:
        read_image_file(path)
    assert "too large" in str(caught.value) or "cannot be opened" in str(caught.value)
    with pytest.raises(SceneError):
        read_header(io.BytesIO(content), "huge")


def test_a_real_sparse_raster_of_100_000_by_100_000_is_refused_with_its_size(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=100_000,
        height=100_000,
        count=1,
        dtype="uint8",
        tiled=True,
        blockxsize=4096,
        blockysize=4096,
        SPARSE_OK=True,
        transform=rasterio.Affine(1, 0, 9, 0, -1, 9),
    ):
        pass
    with pytest.raises(SceneError, match=r"100000 x 100000 px and 1 bands.*At most 100 million px"):
        read_image_file(path)
    assert PIXEL_LIMIT < 100_000 * 100_000


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "JPEG2000"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_an_error_and_never_half_an_image(kind: str, share: float) -> None:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    if kind == "JPEG2000":
        with rasterio.MemoryFile(ext=".jp2") as memory:
            with memory.open(
                driver="JP2OpenJPEG",
                height=200,
                width=200,
                count=3,
                dtype="uint8",
                transform=rasterio.Affine(1, 0, 9, 0, -1, 9),
                QUALITY=100,
                REVERSIBLE="YES",
            ) as raster:
                raster.write(noise.transpose(2, 0, 1))
            memory.seek(0)
            file.write(memory.read())
    else:
        Image.fromarray(noise).save(file, kind)
    content = file.getvalue()
    assert read_image(io.BytesIO(content), "whole")[0].shape == (3, 200, 200)
    with pytest.raises(SceneError, match=r"cut short|cannot be opened|cannot be read") as caught:
        read_image(io.BytesIO(content[: int(len(content) * share)]), "folder/cut.img")
    assert "folder/cut.img" in str(caught.value)
    assert "leave it out" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"<html><body>not found</body></html>",
        b"<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>",
        b"GIF89a\x01\x00\x01\x00",
        b"%PDF-1.7",
        b"\x80\x04\x95pickle",
        b"II*\0",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"\xff\x4f\xff\x51",
        bytes(1000),
    ],
)
def test_what_is_no_image_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "strange.tif"
    path.write_bytes(content)
    with pytest.raises(SceneError, match=r"strange\.tif (is not an image|starts like|is damaged)"):
        read_image_file(path)


def test_random_damage_never_escapes_as_another_error() -> None:
    random = np.random.default_rng(3)
    file = {kind: io.BytesIO() for kind in ("PNG", "JPEG", "TIFF")}
    for kind, target in file.items():
        picture("RGB").resize((40, 40)).save(target, kind)
    for kind, target in file.items():
        for _ in range(150):
            content = bytearray(target.getvalue())
            for at in random.integers(0, min(len(content), 400), 6):
                content[at] = random.integers(256)
            try:
                image, _ = read_image(io.BytesIO(bytes(content)), kind)
            except SceneError:
                continue
            assert image.ndim == 3


def test_pipes_devices_and_folders_are_no_images(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero"), tmp_path):
        with pytest.raises(SceneError, match="not a regular file"):
            read_image_file(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (tiff_header(4, 4, bands=65_535), "65535 bands by its header; at most 4096"),
        (tiff_header(0, 0), "cannot be opened"),
        (png_header(0, 0), r"no pixels|cannot be read"),
    ],
    ids=["65535-bands", "tiff-zero-size", "png-zero-size"],
)
def test_headers_that_make_no_sense_end_at_once(content: bytes, said: str) -> None:
    with pytest.raises(SceneError, match=said):
        read_image(io.BytesIO(content), "strange")


def test_a_chain_of_images_that_leads_back_to_itself_ends() -> None:
    content = tiff_header(4, 4)[:-4] + struct.pack("<L", 8)
    assert read_image(io.BytesIO(content), "endless")[0].shape == (1, 4, 4)
