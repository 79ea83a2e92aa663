"""Mapping several scenes at once, in Python and on the command line, and real scenes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

import swath
from swath.encoders import build_model
from swath.errors import InputError, SceneError
from swath.mapping.naming import SUFFIXES
from swath.scenes.contract import BandContract
from swath.scenes.earth import SyntheticEarth
from swath.training.run import save_model

SWATH = Path(sys.executable).with_name("swath")
PRODUCTS = ("probability", "labels", "uncertainty")


@pytest.fixture(scope="module")
def earth_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained on the synthetic Earth."""
    folder = tmp_path_factory.mktemp("map") / "run"
    swath.train("earth:scenes=60,size=16", out=folder, method="all-known", size=16, epochs=2)
    return folder


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A folder with two whole scenes and one that is broken."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    for number, (height, width) in enumerate([(60, 90), (100, 64)]):
        SyntheticEarth.scene(height, width, seed=number).write_scene(folder / f"scene-{number}.tif")
    (folder / "broken.tif").write_bytes(b"II*\x00nothing")
    return folder


def test_scenes_that_cannot_be_mapped_are_skipped_with_the_reason(
    earth_run: Path, scenes: Path, tmp_path: Path
) -> None:
    summary = swath.map_scenes(earth_run, [scenes], out=tmp_path / "maps", stride=8)
    assert [entry.name for entry in summary.maps] == ["broken", "scene-0", "scene-1"]
    broken, first, second = summary.maps
    assert "cannot be opened" in broken.skipped
    assert broken.files == {}
    assert (first.skipped, second.skipped) == ("", "")
    assert first.ground_ha == pytest.approx(60 * 90 / 100)
    table = summary.table
    assert table["scene"].tolist() == ["broken", "scene-0", "scene-1"]
    assert [name for name in table if name.endswith("(ha)")][:-1] == [
        f"{name} (ha)" for name in swath.load_run(earth_run).contract.classes
    ]
    assert list(table)[-3:] == ["ground (ha)", "seconds", "skipped"]
    assert table["skipped"][0] == broken.skipped
    assert str(tmp_path / "maps") in str(summary)
    assert f"SCENE{', '.join(SUFFIXES.values())}" in str(summary)
    written = {path.name for path in (tmp_path / "maps").iterdir()}
    assert written == {f"scene-{number}{suffix}" for number in (0, 1) for suffix in SUFFIXES.values()}


def test_maps_beside_their_scenes_are_not_mapped_again(earth_run: Path, scenes: Path) -> None:
    first = swath.map_scenes(earth_run, [scenes], out=scenes, stride=8)
    again = swath.map_scenes(earth_run, [scenes], out=scenes, stride=8)
    assert [entry.name for entry in again.maps] == [entry.name for entry in first.maps]
    assert [entry.windows for entry in again.maps] == [0, 0, 0]


def test_several_scenes_at_a_time_change_no_byte_and_no_order(
    earth_run: Path, scenes: Path, tmp_path: Path
) -> None:
    for number, (height, width) in enumerate([(40, 50), (70, 30), (16, 16)], start=2):
        SyntheticEarth.scene(height, width, seed=number).write_scene(scenes / f"scene-{number}.tif")
    one = swath.map_scenes(earth_run, [scenes], out=tmp_path / "one", stride=8)
    two = swath.map_scenes(earth_run, [scenes], out=tmp_path / "two", stride=8, tile=32, workers=2)
    assert [entry.name for entry in two.maps] == ["broken", *(f"scene-{number}" for number in range(5))]
    assert [(entry.area_ha, entry.skipped) for entry in one.maps] == [
        (entry.area_ha, entry.skipped) for entry in two.maps
    ]
    written = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()} == written
    assert len(written) == 5 * len(SUFFIXES)


def test_nothing_that_can_be_mapped_is_an_error(earth_run: Path, scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="starts like a TIFF"):
        swath.map_scenes(earth_run, [scenes / "broken.tif"], out=tmp_path / "maps")
    (scenes / "other.tif").write_bytes(b"")
    with pytest.raises(SceneError, match=r"None of the 2 scenes could be mapped\.(.|\n)*other: .*is empty"):
        swath.map_scenes(earth_run, [scenes / "broken.tif", scenes / "other.tif"], out=tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"stride": 0}, "stride is 0"),
        ({"stride": 17}, "a stride from 1 to 16"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"tile": 0}, "tile is 0"),
        ({"min_valid": 1.5}, "min_valid is 1.5"),
        ({"blend": "cosine"}, "blend is 'cosine'"),
        ({"edges": "wrap"}, "edges is 'wrap'"),
        ({"scale": "x"}, "scale is 'x'"),
        ({"scale": "0"}, "scales other than 0"),
        ({"nodata": "x"}, "nodata is 'x'"),
    ],
)
def test_options_out_of_range(
    earth_run: Path, scenes: Path, tmp_path: Path, option: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        swath.map_scenes(earth_run, [scenes / "scene-0.tif"], out=tmp_path / "maps", **option)  # type: ignore[arg-type]
    assert not (tmp_path / "maps").exists()


def test_numbers_and_words_reach_the_function_as_they_are_typed() -> None:
    from swath.cli import COMMANDS, _parse

    line = "RUN a.tif b --out F --bands B04,B03 --scale 1e-4 --offset -0.1 --nodata {} --crs EPSG:32632 --restart"
    for nodata in ("0", "-9999", "nan", "none", "1e3"):
        values = _parse("map", COMMANDS["map"], swath.map_scenes, line.format(nodata).split())
        assert values["nodata"] == nodata
        assert values["scenes"] == ["a.tif", "b"]
        assert (values["bands"], values["scale"], values["offset"]) == ("B04,B03", "1e-4", "-0.1")
        assert (values["crs"], values["restart"], values["workers"]) == ("EPSG:32632", True, 1)


def test_the_command_prints_the_table(earth_run: Path, scenes: Path, tmp_path: Path) -> None:
    words = ["map", str(earth_run), str(scenes / "scene-0.tif"), str(scenes / "broken.tif")]
    done = subprocess.run(
        [
            str(SWATH),
            *words,
            "--stride",
            "8",
            "--out",
            str(tmp_path / "maps"),
            "--batch-size",
            "16",
            "--tile",
            "64",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    header, row, skipped, *_ = done.stdout.splitlines()
    assert header.split()[0] == "scene"
    assert row.split()[0] == "scene-0"
    assert "cannot be opened" in skipped
    assert f"folder: {tmp_path / 'maps'}" in done.stdout
    for kind in PRODUCTS:
        assert (tmp_path / "maps" / f"scene-0.{kind}.tif").exists()


@pytest.mark.parametrize("others", [0, 3])
def test_ctrl_c_keeps_the_work_and_says_how_to_go_on(earth_run: Path, tmp_path: Path, others: int) -> None:
    for name in ("scene", *(f"other-{number}" for number in range(others))):
        SyntheticEarth.scene(200, 300).write_scene(tmp_path / "scenes" / f"{name}.tif")
    words = [str(SWATH), "map", str(earth_run), str(tmp_path / "scenes"), "--out", str(tmp_path / "maps")]
    words += ["--stride", "1", "--tile", "32", "--workers", "2" if others else "1"]
    # A shell in the background may have left Ctrl-C ignored for its children.
    hear = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", hear, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    work = tmp_path / "maps"
    while len(list(work.glob(".*.work/[0-9]*.safetensors"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()  # if it hangs, it does not stay
    assert process.returncode == 130, said
    assert "swath: stopped. Call the same command again to go on" in said
    assert said.count("\n") == 1, "nothing but the one line"
    assert len(list(work.glob(".*.work/[0-9]*.safetensors"))) >= 2


@pytest.mark.real_data
def test_a_real_scene_s_slanted_edges_stay_nodata(real_data: Path, tmp_path: Path) -> None:
    contract = BandContract(
        ("red", "green", "blue"),
        scale=(1 / 255,) * 3,
        unit="display",
        classes=("sea", "land", "cloud"),
        exclusive=True,
        mean=(0.2, 0.25, 0.3),
        std=(0.2, 0.2, 0.2),
    )
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("method: none\n")
    save_model(build_model("scene_mixer", contract, size=32).eval(), run, {})
    path = real_data / "scenes" / "bahamas-rgb-nodata.tif"
    entry = swath.map_scenes(run, [path], out=tmp_path / "maps", stride=8).maps[0]
    with rasterio.open(path) as raster:
        valid = (raster.read() != 0).all(axis=0)
        place, crs = raster.transform, raster.crs
    height, width = -(-718 // 8), -(-791 // 8)
    padded = np.zeros((height * 8, width * 8), bool)
    padded[:718, :791] = valid
    some = padded.reshape(height, 8, width, 8).any(axis=(1, 3))
    for kind in PRODUCTS:
        with rasterio.open(tmp_path / "maps" / f"bahamas-rgb-nodata.{kind}.tif") as raster:
            assert raster.shape == (height, width)
            assert raster.crs == crs
            assert list(raster.transform)[:6] == [8 * place.a, 0, place.c, 0, 8 * place.e, place.f]
            mapped = raster.read(1) != raster.nodata
        assert not (mapped & ~some).any(), "a value where there is no data"
        # Where at least half of every window is valid there is a value.
        assert (mapped & some).sum() > 0.85 * some.sum()
    assert 0.2 < mapped.mean() < 0.8
    assert entry.notes == (
        "The model's ground sampling distance is not known: every pixel counts as one of its pixels.",
    )
    assert 0 < entry.ground_ha <= valid.sum() * 300.04**2 / 1e4


@pytest.mark.real_data
def test_a_real_scene_in_degrees_by_the_bands_as_told(real_data: Path, tmp_path: Path) -> None:
    contract = BandContract(
        ("red", "green", "blue"),
        scale=(1 / 255,) * 3,
        unit="display",
        gsd_m=10.0,
        classes=("a", "b"),
        mean=(0.2, 0.25, 0.3),
        std=(0.2, 0.2, 0.2),
    )
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("method: none\n")
    save_model(build_model("small_resnet", contract, size=32).eval(), run, {})
    path = real_data / "scenes" / "aquileia-s2-l2a-2019-04-16.tif"
    entry = swath.map_scenes(
        run, [path], out=tmp_path / "maps", stride=32, bands="B04,B03,B02", scale="3e-4"
    ).maps[0]
    assert entry.notes[0] == "As told, the model's bands are the scene's: red = B04, green = B03, blue = B02."
    assert "resampled from 13.9" in entry.notes[1]
    with rasterio.open(path) as raster, rasterio.open(entry.files["labels"]) as labels:
        west, south, east, north = raster.bounds
        assert labels.crs == raster.crs
        assert labels.bounds.left == west
        assert labels.bounds.top == north
        cell = labels.transform.a
        assert east - cell <= labels.bounds.right <= east + cell
        assert south + labels.transform.e <= labels.bounds.bottom <= south - labels.transform.e
