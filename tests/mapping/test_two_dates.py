"""Two dates from their files to a map of what changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

import swath
from swath.errors import InputError, OutputError, RunError, SceneError
from swath.mapping.naming import CHANGE_SUFFIXES, SUFFIXES, change_paths


@pytest.fixture
def sharp_run(make: Any, tmp_path: Path) -> Path:
    """A linear model that is sure of most windows."""
    return make.run(tmp_path / "run", make.model(sharp=40))


@pytest.fixture
def dates(make: Any, tmp_path: Path) -> tuple[Path, Path]:
    """The same ground twice; a part of it has changed, and each date lacks another corner."""
    before = make.noise(200, 230)
    after = before.copy()
    after[:, 64:112, 160:] = 4001 - after[:, 64:112, 160:]
    before[:, :40, :60], after[:, -30:, -70:] = 0, 0
    first = make.reflectance(tmp_path / "a.tif", before)
    return first, make.reflectance(tmp_path / "b.tif", after)


def change_files(folder: Path, before: str = "a", after: str = "b") -> dict[str, bytes]:
    return {kind: path.read_bytes() for kind, path in change_paths(folder, before, after).items()}


def test_change_is_found_where_it_was_made(
    make: Any, tmp_path: Path, sharp_run: Path, dates: tuple[Path, Path]
) -> None:
    out = tmp_path / "maps"
    pair = {"before": dates[0], "after": dates[1], "change_confidence": 0.7}
    summary = swath.map_scenes(sharp_run, out=out, stride=16, **pair)
    change = summary.change
    assert change is not None
    assert {path.name for path in out.iterdir()} == {
        *(f"{name}{suffix}" for name in "ab" for suffix in SUFFIXES.values()),
        *(f"a--b{suffix}" for suffix in CHANGE_SUFFIXES.values()),
    }
    changed = make.read(change.files["changed"])[0]
    known = changed != 255
    probability = [make.read(out / f"{name}.probability.tif") for name in "ab"]
    np.testing.assert_array_equal(known, (probability[0][0] != 65535) & (probability[1][0] != 65535))
    assert not known[:2, :3].any()
    assert not known[-1, -4:].any()
    # Windows of 32 px reach 32 px beyond what changed, and 16 px beyond cells.
    there = np.zeros_like(known)
    there[1:10, 7:] = True
    assert (changed[known & ~there] == 0).all()
    sure = known & (changed != 0)
    assert sure.sum() >= 2
    old, new = (make.read(out / f"{name}.labels.tif")[0].astype(int) for name in "ab")
    np.testing.assert_array_equal(changed[sure], (1 + 4 * old + new)[sure])
    cells = sum(one.cells for one in change.summary.changes)
    assert cells == (changed[known] != 0).sum()
    assert change.summary.cells == known.sum()
    table = change.table
    assert table["gained (ha)"].sum() == pytest.approx(table["lost (ha)"].sum())
    assert "a--b: " in str(summary)
    assert f"{cells} changes with a confidence of at least 0.7" in str(summary)
    assert change.notes[-1].startswith("Offset of b against a, by phase correlation of 1 patch: 0 px down")
    with Image.open(change.files["picture"]) as image:
        assert image.size[0] > 600


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_same_date_twice_has_no_change(make: Any, tmp_path: Path, exclusive: bool) -> None:
    run = make.run(tmp_path / "run", make.model(exclusive=exclusive))
    first = make.reflectance(tmp_path / "2019" / "scene.tif", make.noise(200, 230))
    (tmp_path / "2021").mkdir()
    second = shutil.copy(first, tmp_path / "2021" / "scene.tif")
    summary = swath.map_scenes(
        run, before=first, after=second, out=tmp_path / "maps", stride=16, change_confidence=1e-6
    )
    assert [entry.name for entry in summary.maps] == ["2019-scene", "2021-scene"]
    assert summary.change is not None
    assert summary.change.summary.changes == []
    assert (make.read(summary.change.files["changed"]) == 0).all()


def test_neither_tile_nor_batch_nor_workers_change_a_byte(
    make: Any, tmp_path: Path, dates: tuple[Path, Path]
) -> None:
    run, found = make.run(tmp_path / "resnet", make.model("small_resnet", sharp=12)), []
    for number, options in enumerate(
        ({}, {"tile": 48, "batch_size": 7}, {"tile": 256, "batch_size": 1, "workers": 2})
    ):
        out = tmp_path / str(number)
        swath.map_scenes(run, before=dates[0], after=dates[1], out=out, stride=8, **options)
        found.append(change_files(out))
    assert found[0] == found[1] == found[2]
    # Workers, too, read the second date on the first one's pixels.
    frame = make.UTM["transform"] @ rasterio.Affine.translation(16, 0)
    framed = make.reflectance(tmp_path / "c.tif", make.read(dates[1])[:, :, 16:], transform=frame)
    for workers in (1, 2):
        out = tmp_path / f"framed{workers}"
        swath.map_scenes(run, before=dates[0], after=framed, out=out, stride=16, workers=workers)
    assert change_files(tmp_path / "framed1", "a", "c") == change_files(tmp_path / "framed2", "a", "c")


def test_another_frame_and_another_system(
    make: Any, tmp_path: Path, sharp_run: Path, dates: tuple[Path, Path]
) -> None:
    pixels = make.read(dates[0])
    frame = make.UTM["transform"] @ rasterio.Affine.translation(64, 48)
    framed = make.reflectance(tmp_path / "framed.tif", pixels[:, 48:, 64:], transform=frame)
    summary = swath.map_scenes(sharp_run, before=dates[0], after=framed, out=tmp_path / "maps", stride=16)
    assert summary.change is not None
    assert summary.change.notes[0].startswith("framed is brought onto the pixels of a, of which")
    assert any("resampled from 10 m to 10 m (bilinear)" in note for note in summary.maps[1].notes)
    changed = make.read(summary.change.files["changed"])[0]
    assert not (changed[:3] != 255).any()
    assert not (changed[:, :4] != 255).any()
    assert (changed[4:, 5:][changed[4:, 5:] != 255] == 0).all()
    with rasterio.open(summary.maps[1].files["probability"]) as raster:
        assert raster.shape == (13, 15)
    # Alone, it is another map.
    with pytest.raises(RunError, match=r"pixels was .* and is now None"):
        swath.map_scenes(sharp_run, [framed], out=tmp_path / "maps", stride=16)


def test_a_shift_by_more_than_half_a_cell_is_warned_of(make: Any, tmp_path: Path, sharp_run: Path) -> None:
    pixels = make.noise(230, 260)
    first = make.reflectance(tmp_path / "a.tif", pixels[:, 20:220, 20:250])
    second = make.reflectance(tmp_path / "b.tif", pixels[:, 9:209, 26:256])
    with pytest.warns(UserWarning, match="11 px down and 6 px left .*more than half a cell"):
        summary = swath.map_scenes(sharp_run, before=first, after=second, out=tmp_path / "maps", stride=16)
    assert "a--b: Warning: Offset of b against a" in str(summary)
    swath.map_scenes(sharp_run, before=first, after=second, out=tmp_path / "large", stride=32)


def test_killed_at_any_moment_the_bytes_are_the_same(
    make: Any, tmp_path: Path, dates: tuple[Path, Path]
) -> None:
    run = make.run(tmp_path / "resnet", make.model("small_resnet"))
    script = Path(__file__).with_name("killed_change.py")
    done = subprocess.run(
        [sys.executable, str(script), str(run), *map(str, dates), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    # The description of the work, two rasters, table and picture, each with its folder.
    assert found["moments"] >= 2 * 5
    assert set(found["partial"]) >= {0, 1, 2, 3, 4}, found
    assert found["same_files"]
    assert found["work_again"] == 0


def test_a_finished_comparison_is_kept_and_another_one_refused(
    tmp_path: Path, sharp_run: Path, dates: tuple[Path, Path]
) -> None:
    def compare(**options: Any) -> Any:
        return swath.map_scenes(
            sharp_run, before=dates[0], after=dates[1], out=tmp_path / "maps", stride=16, **options
        )

    first = compare()
    before = change_files(tmp_path / "maps")
    again = compare()
    assert again.change.seconds == 0
    assert again.change.summary == first.change.summary
    with pytest.raises(
        RunError, match=r"change_confidence was 0\.95 and is now 0\.5.*delete .*maps/a--b\.\*"
    ):
        compare(change_confidence=0.5)
    assert change_files(tmp_path / "maps") == before
    for path in (tmp_path / "maps").glob("a--b.*"):
        path.unlink()
    fresh = compare(change_confidence=0.5)
    assert [entry.windows for entry in fresh.maps] == [0, 0], "the maps were there"
    assert fresh.change.summary.cells == first.change.summary.cells
    assert sum(one.cells for one in fresh.change.summary.changes) > sum(
        one.cells for one in first.change.summary.changes
    )
    (tmp_path / "maps" / "a--b.changed.csv").write_text("mine\n")
    with pytest.raises(RunError, match=r"a--b\.changed\.csv exists and is no map of swath"):
        compare(change_confidence=0.5)
    compare(restart=True)
    assert change_files(tmp_path / "maps") == before


def test_maps_and_changes_in_a_folder_are_no_scenes(
    tmp_path: Path, sharp_run: Path, dates: tuple[Path, Path]
) -> None:
    swath.map_scenes(sharp_run, before=dates[0], after=dates[1], out=tmp_path, stride=16)
    summary = swath.map_scenes(sharp_run, [tmp_path], out=tmp_path, stride=16)
    assert [entry.name for entry in summary.maps] == ["a", "b"]


def test_a_disk_too_small_for_all_of_it_is_told_before_starting(
    tmp_path: Path, sharp_run: Path, dates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    alone, low, high = tmp_path / "alone", 0, 2**34

    def fits(free: int, **scenes: Any) -> bool:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
        monkeypatch.setattr(
            "swath.mapping.compute.Machinery.compute", lambda *_: (_ for _ in ()).throw(KeyError)
        )
        try:
            swath.map_scenes(sharp_run, out=alone, stride=1, **scenes)
        except OutputError:
            return alone.exists()
        except KeyError:
            shutil.rmtree(alone)
            return True
        return False

    while high - low > 2**16:  # the least that one map needs
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle, scenes=[dates[0]]) else (middle, high)
    pair = {"before": dates[0], "after": dates[1]}
    assert not fits(2 * high, **pair), "two maps and the comparison need more than twice of one"
    assert fits(3 * high, **pair)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"before": "a.tif"}, "name two scenes and no others"),
        ({"after": "a.tif"}, "name two scenes and no others"),
        ({"before": "a.tif", "after": "b.tif", "scenes": ["a.tif"]}, "name two scenes and no others"),
        ({"before": "a.tif", "after": "a.tif"}, "--before and --after are both"),
        ({"before": ".", "after": "b.tif"}, r"--before \. holds 2 scenes"),
        ({"before": "a.tif", "after": "b.tif", "change_confidence": 0.0}, "change_confidence is 0.0"),
        ({"before": "a.tif", "after": "b.tif", "change_confidence": 1.5}, "change_confidence is 1.5"),
        (
            {"before": "a.tif", "after": "b.tif", "change_confidence": float("nan")},
            "change_confidence is nan",
        ),
        ({}, "No scene is given"),
    ],
)
def test_pairs_that_are_none(
    tmp_path: Path,
    sharp_run: Path,
    dates: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(dates[0].parent)
    with pytest.raises(InputError, match=message):
        swath.map_scenes(sharp_run, out=tmp_path / "maps", stride=16, **options)
    assert not (tmp_path / "maps").exists()


def test_dates_of_other_ground_or_without_common_data_leave_nothing(
    make: Any, tmp_path: Path, sharp_run: Path, dates: tuple[Path, Path]
) -> None:
    away = {"transform": rasterio.Affine(10, 0, 900_000, 0, -10, 5_100_000)}
    far = make.reflectance(tmp_path / "far.tif", make.noise(200, 230), **away)
    with pytest.raises(SceneError, match="do not overlap"):
        swath.map_scenes(sharp_run, before=dates[0], after=far, out=tmp_path / "maps", stride=16)
    assert not (tmp_path / "maps").exists()
    halves = []
    for number, part in enumerate((slice(0, 120), slice(120, 230))):
        pixels = make.noise(200, 230)
        pixels[:, :, part] = 0
        halves.append(make.reflectance(tmp_path / f"half{number}.tif", pixels))
    with pytest.raises(SceneError, match="No cell of half0 and half1 has data on both dates"):
        swath.map_scenes(
            sharp_run, before=halves[0], after=halves[1], out=tmp_path / "maps", stride=8, min_valid=1
        )
    assert not list((tmp_path / "maps").glob("*--*"))
    assert not list((tmp_path / "maps").glob(".*"))


def test_on_the_command_line(tmp_path: Path, sharp_run: Path, dates: tuple[Path, Path]) -> None:
    from swath.cli import main

    words = ["map", str(sharp_run), "--before", str(dates[0]), "--after", str(dates[1]), "--stride", "16"]
    words += ["--change-confidence", "0.9", "--out", str(tmp_path / "maps")]
    assert main(words) == 0
    with rasterio.open(tmp_path / "maps" / "a--b.changed.tif") as raster:
        assert raster.tags()["CHANGE_CONFIDENCE"] == "0.9"
