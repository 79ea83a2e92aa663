"""Zip archives: read in place, and refused, with nothing unpacked, when they mean harm."""

import io
import multiprocessing
import stat
import struct
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from swath.errors import InputError, SceneError, SwathError
from swath.scenes import SceneSource, open_scenes
from swath.scenes.archive import Archive


def png(value: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(file, "PNG")
    return file.getvalue()


def pack(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_class_folders_in_an_archive_with_hidden_files_of_other_programs(tmp_path: Path) -> None:
    members = {f"set/{name}/{number}.png": png(number) for name in ("water", "field") for number in range(3)}
    path = pack(
        tmp_path / "a.zip", {**members, "__MACOSX/set/._x": b"", "set/.DS_Store": b"", "set/README": b"x"}
    )
    scenes = open_scenes(path)
    assert scenes.labels.classes == ("field", "water")
    assert scenes.labels.class_index.tolist() == [0, 0, 0, 1, 1, 1]
    assert scenes.describe(0).endswith("a.zip:set/field/0.png")
    assert scenes.read(5).max() == 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_in_an_archive_with_geotiffs(tmp_path: Path) -> None:
    pixels = np.arange(2 * 4 * 4, dtype=np.uint16).reshape(2, 4, 4)
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=2,
            height=4,
            width=4,
            dtype="uint16",
            crs="EPSG:32633",
            transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
        ) as raster:
            raster.write(pixels)
        memory.seek(0)
        content = memory.read()
    table = "image,water\nimages/a.tif,1\n./images/ü.tif,\n".encode()
    path = pack(
        tmp_path / "a.zip",
        {"top/labels.csv": table, "top/images/a.tif": content, "top/images/ü.tif": content},
    )
    scenes = open_scenes(path)
    assert scenes.labels.state.tolist() == [[1], [-1]]
    np.testing.assert_array_equal(scenes.read(1), pixels)
    assert scenes.contract.gsd_m == 10
    assert scenes.columns["x"].tolist() == [20, 20]


def test_the_fingerprint_follows_the_archive(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"water/a.png": png(1), "field/a.png": png(2)})
    before = open_scenes(path).fingerprint()
    assert open_scenes(path).fingerprint() == before
    pack(path, {"water/a.png": png(1), "field/a.png": png(3)})
    assert open_scenes(path).fingerprint() != before


@pytest.mark.parametrize(
    "name", ["../a.png", "water/../../a.png", "/etc/a.png", "C:/a.png", "..\\a.png", "\\a.png"]
)
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / "a.zip", {"water/a.png": png(), "field/a.png": png(), name: png()})
    with pytest.raises(SceneError, match="a name that leads outside the archive") as caught:
        open_scenes(path)
    assert "a.zip is refused" in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (stat.S_IFLNK, "a link"),
        (stat.S_IFCHR, "a device"),
        (stat.S_IFIFO, "special file"),
        (stat.S_IFSOCK, "special"),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: int, said: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("water/a.png", png())
        member = zipfile.ZipInfo("field/a.png")
        member.create_system = 3
        member.external_attr = (kind | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(SceneError, match=f"field/a.png', which is .*{said}"):
        open_scenes(path)


def test_growing_a_thousandfold_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"water/a.png": png(), "field/a.png": png() + bytes(50 * 2**20)})
    assert path.stat().st_size < 2**17
    with pytest.raises(SceneError, match=r"field/a\.png', whose \d+ bytes would unpack to 52428\d+"):
        open_scenes(path)


def test_a_stated_size_that_is_a_lie_stays_within_the_statement(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"water/a.png": png(), "field/a.png": png() + bytes(50 * 2**20)})
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")  # the entry of field/a.png in the directory
    content[at + 24 : at + 28] = struct.pack("<L", 1000)
    path.write_bytes(content)
    scenes = open_scenes(path)
    with pytest.raises(SceneError, match=r"field/a\.png cannot be unpacked"):
        scenes.read(0)


def test_a_million_files_are_refused_before_the_directory_is_read(tmp_path: Path) -> None:
    count = 1_000_001
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"a"
    directory = entry * count
    path = tmp_path / "a.zip"
    with path.open("wb") as file:
        file.write(directory)
        end = file.tell()
        file.write(
            b"PK\x06\x06" + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, count, count, len(directory), 0)
        )
        file.write(b"PK\x06\x07" + struct.pack("<LQL", 0, end, 1))
        file.write(b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
    with pytest.raises(SceneError, match="holds 1000001 files; at most 1000000"):
        open_scenes(path)


def test_names_equal_after_case_folding_are_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"water/a.png": png(), "Water/A.png": png()})
    with pytest.raises(
        SceneError, match=r"'water/a\.png' and 'Water/A\.png', which many systems take for one"
    ):
        open_scenes(path)


def test_encrypted_archives_are_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"water/a.png": png()})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(SceneError, match="is encrypted"):
        open_scenes(path)


def test_an_archive_within_an_archive_is_not_opened(tmp_path: Path) -> None:
    inner = pack(tmp_path / "inner.zip", {"water/a.png": png()}).read_bytes()
    path = pack(tmp_path / "a.zip", {"inner.zip": inner})
    with pytest.raises(InputError, match="there are no images"):
        open_scenes(path)


def test_a_table_may_not_name_images_outside_its_archive(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png())
    for name in ("../secret.png", str(tmp_path / "secret.png"), "x/../../secret.png"):
        path = pack(tmp_path / "a.zip", {"labels.csv": f"image,water\n{name},1\n".encode()})
        with pytest.raises(InputError, match="lies outside the archive"):
            open_scenes(path)


def test_damage_is_named_by_archive_and_file(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"field/a.png": png(), "water/a.png": png()}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(content)
    scenes = open_scenes(path)
    with pytest.raises(SceneError, match=r"a\.zip:field/a\.png cannot be unpacked: Bad CRC"):
        scenes.read(0)
    assert scenes.read(1).shape == (3, 8, 8)


@pytest.mark.filterwarnings("ignore::UserWarning")  # a damaged name may end as another suffix
def test_cut_archives_and_other_files_are_errors_of_swath(tmp_path: Path) -> None:
    whole = pack(tmp_path / "a.zip", {"field/a.png": png(), "water/a.png": png()}).read_bytes()
    path = tmp_path / "cut.zip"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(SwathError, match=r"cut\.zip"):
            open_scenes(path)
    random = np.random.default_rng(0)
    for _ in range(200):
        content = bytearray(whole)
        for at in random.integers(0, len(content), 4):
            content[at] = random.integers(256)
        path.write_bytes(content)
        try:
            scenes = open_scenes(path)
            for index in range(len(scenes)):
                scenes.read(index)
        except SwathError:
            continue


def expected(count: int) -> dict[str, bytes]:
    return {f"{name}/{number:03}.png": png(number) for name in ("field", "water") for number in range(count)}


def wrong_images(scenes: SceneSource) -> list[int]:
    names = [str(scenes.columns["path"][index]) for index in range(len(scenes))]
    return [index for index, name in enumerate(names) if scenes.read(index).max() != int(name[-7:-4])]


def test_threads_read_the_right_images(tmp_path: Path) -> None:
    scenes = open_scenes(pack(tmp_path / "a.zip", expected(60)))
    wrong: list[int] = []
    threads = [threading.Thread(target=lambda: wrong.extend(wrong_images(scenes))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def check_in_child(scenes: SceneSource, result: "multiprocessing.Queue[int]") -> None:
    result.put(sum(len(wrong_images(scenes)) for _ in range(3)))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_processes_do_not_move_each_other_s_position(tmp_path: Path) -> None:
    scenes = open_scenes(pack(tmp_path / "a.zip", expected(60)))
    scenes.read(0)
    context = multiprocessing.get_context("fork")
    result = context.Queue()
    children = [context.Process(target=check_in_child, args=(scenes, result)) for _ in range(2)]
    for child in children:
        child.start()
    own = sum(len(wrong_images(scenes)) for _ in range(3))
    assert [result.get(timeout=60) for _ in children] == [0, 0]
    assert own == 0
    for child in children:
        child.join()


def test_files_of_an_archive_are_listed_with_their_folders(tmp_path: Path) -> None:
    archive = Archive(pack(tmp_path / "a.zip", {"a/b/c.png": b"x", "d.csv": b"", "e/": b""}))
    assert archive.names() == ["a/", "a/b/", "a/b/c.png", "d.csv", "e/"]


@pytest.mark.real_data
def test_eurosat_is_read_in_place(real_data: Path) -> None:
    scenes = open_scenes(real_data / "eurosat-rgb.zip")
    assert len(scenes) == 27_000
    assert len(scenes.labels.classes) == 10
    assert scenes.labels.exclusive
    assert np.bincount(scenes.labels.class_index).min() == 2000
    for index in range(0, 27_000, 900):
        assert scenes.read(index).shape == (3, 64, 64)
    assert scenes.contract.names == ("red", "green", "blue")
