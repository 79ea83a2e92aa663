"""Killed at any moment and called again, a map ends with the same bytes; other work is never mixed in."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rasterio.env import get_gdal_config

import swath
from swath.errors import OutputError, RunError
from swath.mapping.naming import SUFFIXES

PRODUCTS = sorted(f"scene{suffix}" for suffix in SUFFIXES.values())


@pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_the_bytes_are_the_same(make: Any, tmp_path: Path, kills: int) -> None:
    run = make.run(tmp_path / "run", make.model("small_resnet"))
    scene = make.reflectance(tmp_path / "scene.tif", make.noise(200, 230))
    script = Path(__file__).with_name("killed.py")
    done = subprocess.run(
        [sys.executable, str(script), str(run), str(scene), str(tmp_path), str(kills), str(kills)],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["killed"] == kills
    assert max(found["kept"]) > 3, "it was never killed with work done, which would prove little"
    assert found["files"] == PRODUCTS
    assert found["windows_again"] == 0


def interrupted(make: Any, folder: Path, run: Path, scene: Path, **options: Any) -> Path:
    """Start a map and stop it after a few chunks, as a full disk would."""
    from swath.mapping.work import WorkFolder

    out, real, places = folder / "maps", WorkFolder.write, [4, 3, 2, 1]

    def write(self: Any, *arguments: Any) -> None:
        # Chunks that other threads are at when the disk is full find it full too.
        try:
            places.pop()
        except IndexError:
            raise OutputError("enough") from None
        real(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkFolder, "write", write)
        with pytest.raises(OutputError, match="enough"):
            swath.map_scenes(run, [scene], out=out, **{"stride": 16, "tile": 64, **options})
    assert len(list((out / ".scene.work").glob("*.safetensors"))) == 4
    return out


def test_a_started_map_goes_on_and_computes_only_what_is_missing(
    make: Any, tmp_path: Path, linear_run: Path, scene: Path
) -> None:
    out = interrupted(make, tmp_path, linear_run, scene)
    # Another batch, tile and number of workers are no other job; the chunks keep the tile they were started with.
    entry = swath.map_scenes(linear_run, [scene], out=out, stride=16, tile=1024, batch_size=3).maps[0]
    whole = swath.map_scenes(linear_run, [scene], out=tmp_path / "whole", stride=16).maps[0]
    assert 0 < entry.windows < whole.windows
    assert make.products(out) == make.products(tmp_path / "whole")
    assert sorted(path.name for path in out.iterdir()) == PRODUCTS


def test_an_interrupted_map_leaves_the_process_as_it_was(
    tmp_path: Path, linear_run: Path, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swath.mapping.work import WorkFolder

    real, sent = WorkFolder.write, threading.Event()

    def write(*arguments: Any) -> None:
        if not sent.is_set():
            sent.set()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        real(*arguments)

    monkeypatch.setattr(WorkFolder, "write", write)
    # Whoever runs the tests in several processes may have SIGINT ignored there.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    before, threads = torch.get_num_threads(), threading.active_count()
    cache = get_gdal_config("GDAL_CACHEMAX")
    torch.set_num_threads(3)
    try:
        with pytest.raises(KeyboardInterrupt):
            swath.map_scenes(linear_run, [scene], out=tmp_path / "maps", stride=16, tile=64)
        assert torch.get_num_threads() == 3
        until = time.monotonic() + 60  # a chunk under way is computed to its end
        while threading.active_count() > threads and time.monotonic() < until:
            time.sleep(0.01)
        assert threading.active_count() == threads
        assert get_gdal_config("GDAL_CACHEMAX") == cache > 2**24
    finally:
        signal.signal(signal.SIGINT, handler)
        torch.set_num_threads(before)


@pytest.mark.parametrize("damage", ["cut", "emptied", "gone", "other"])
def test_a_damaged_chunk_is_computed_anew(
    make: Any, tmp_path: Path, linear_run: Path, scene: Path, damage: str
) -> None:
    out = interrupted(make, tmp_path, linear_run, scene)
    chunk = sorted((out / ".scene.work").glob("*.safetensors"))[1]
    content = chunk.read_bytes()
    chunk.write_bytes({"cut": content[:-7], "emptied": b"", "gone": b"", "other": b"PK\x03\x04" * 50}[damage])
    if damage == "gone":
        chunk.unlink()
    swath.map_scenes(linear_run, [scene], out=out, stride=16)
    swath.map_scenes(linear_run, [scene], out=tmp_path / "whole", stride=16)
    assert make.products(out) == make.products(tmp_path / "whole")


CHANGES = {
    "stride": ({"stride": 8}, "stride was 16 and is now 8"),
    "blend": ({"blend": "flat"}, "blend was 'hann' and is now 'flat'"),
    "edges": ({"edges": "reflect"}, "edges was 'shift' and is now 'reflect'"),
    "min_valid": ({"min_valid": 0.9}, r"min_valid was 0\.5 and is now 0\.9"),
    "nodata": ({"nodata": "7"}, r"nodata was None and is now '7\.0'"),
    "scale": ({"scale": "2e-4"}, r"scale was \[\] and is now \[0\.0002\]"),
    "model": ({}, "the model has changed"),
    "scene": ({}, "the scene has changed"),
}


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_another_model_scene_or_setting_is_refused_and_restart_replaces(
    make: Any, tmp_path: Path, linear_run: Path, scene: Path, change: str, finished: bool
) -> None:
    out = tmp_path / "maps"
    if finished:
        swath.map_scenes(linear_run, [scene], out=out, stride=16)
    else:
        interrupted(make, tmp_path, linear_run, scene)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    options, message = CHANGES[change]
    if change == "model":
        make.run(linear_run, make.model(sharp=1.0))
    if change == "scene":
        pixels = make.read(scene)
        pixels[0, 100, 100] += 1
        make.reflectance(scene, pixels)
    options = {"stride": 16, **options}
    with pytest.raises(RunError, match=f"another job: {message}.*--restart"):
        swath.map_scenes(linear_run, [scene], out=out, **options)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    swath.map_scenes(linear_run, [scene], out=out, restart=True, **options)
    swath.map_scenes(linear_run, [scene], out=tmp_path / "fresh", **options)
    assert make.products(out) == make.products(tmp_path / "fresh")
    assert sorted(path.name for path in out.iterdir()) == PRODUCTS


def test_a_description_of_the_work_that_cannot_be_read(
    make: Any, tmp_path: Path, linear_run: Path, scene: Path
) -> None:
    out = interrupted(make, tmp_path, linear_run, scene)
    for content in ("", "[]", '{"job": 3, "tile": 4}', '{"job": {}}'):
        (out / ".scene.work" / "job.json").write_text(content)
        with pytest.raises(RunError, match=r"job\.json cannot be read: .*--restart"):
            swath.map_scenes(linear_run, [scene], out=out, stride=16)
    swath.map_scenes(linear_run, [scene], out=out, stride=16, restart=True)
    assert sorted(path.name for path in out.iterdir()) == PRODUCTS


def test_a_finished_map_is_not_computed_again(
    make: Any, tmp_path: Path, linear_run: Path, scene: Path
) -> None:
    first = swath.map_scenes(linear_run, [scene], out=tmp_path / "maps", stride=16).maps[0]
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "maps").iterdir()}
    again = swath.map_scenes(linear_run, [scene], out=tmp_path / "maps", stride=16).maps[0]
    assert (again.windows, again.seconds) == (0, 0.0)
    assert (again.area_ha, again.ground_ha) == (first.area_ha, first.ground_ha)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "maps").iterdir()} == stamps
    (tmp_path / "maps" / "scene.labels.tif").unlink()
    assert swath.map_scenes(linear_run, [scene], out=tmp_path / "maps", stride=16).maps[0].windows > 0


def test_somebody_else_s_file_is_not_replaced(tmp_path: Path, linear_run: Path, scene: Path) -> None:
    (tmp_path / "maps").mkdir()
    theirs = shutil.copy(scene, tmp_path / "maps" / "scene.labels.tif")
    with pytest.raises(RunError, match=r"scene\.labels\.tif exists and is no map of swath"):
        swath.map_scenes(linear_run, [scene], out=tmp_path / "maps", stride=16)
    assert Path(theirs).read_bytes() == scene.read_bytes()
    assert len(list((tmp_path / "maps").iterdir())) == 1


def test_two_processes_do_not_work_on_one_map(
    make: Any, tmp_path: Path, linear_run: Path, scene: Path
) -> None:
    from filelock import FileLock

    out = interrupted(make, tmp_path, linear_run, scene)
    with (
        FileLock(out / ".scene.work" / "lock"),
        pytest.raises(RunError, match="Another process is working in"),
    ):
        swath.map_scenes(linear_run, [scene], out=out, stride=16)


@pytest.mark.slow
def test_the_death_of_workers_and_of_their_parent(make: Any, tmp_path: Path, scene: Path) -> None:
    import psutil

    run = make.run(tmp_path / "run", make.model("small_resnet"))
    code = (
        "import sys, swath\nif __name__ == '__main__':\n"
        "    swath.map_scenes(sys.argv[1], [sys.argv[2]], out=sys.argv[3], stride=3, tile=48, workers=2)\n"
    )
    script = tmp_path / "map.py"
    script.write_text(code)

    def started() -> tuple[subprocess.Popen[str], list[psutil.Process]]:
        """A map by two workers that have begun to compute."""
        process = subprocess.Popen(
            [sys.executable, str(script), str(run), str(scene), str(tmp_path / "maps")],
            stderr=subprocess.PIPE,
            text=True,
        )
        before = len(list(tmp_path.glob("maps/.scene.work/*.safetensors")))
        while len(list(tmp_path.glob("maps/.scene.work/*.safetensors"))) < before + 2:
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        return process, [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    process, workers = started()
    workers[0].send_signal(signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "A worker process was ended from outside" in said
    process, workers = started()
    process.kill()
    process.communicate(timeout=60)
    assert not psutil.wait_procs(workers, timeout=30)[1], "workers outlive their parent"
    swath.map_scenes(run, [scene], out=tmp_path / "maps", stride=3, workers=2)
    swath.map_scenes(run, [scene], out=tmp_path / "whole", stride=3)
    assert make.products(tmp_path / "maps") == make.products(tmp_path / "whole")


def test_a_disk_that_ends_in_the_middle_keeps_the_work(make: Any, tmp_path: Path) -> None:
    run = make.run(tmp_path / "run", make.model("small_resnet"))
    scene = make.reflectance(tmp_path / "scene.tif", make.noise(200, 230))
    code = (
        "import resource, sys, swath\n"
        "from swath.errors import OutputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)\n"
        "try:\n"
        "    swath.map_scenes(sys.argv[1], [sys.argv[2]], out=sys.argv[3], stride=4, tile=60)\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    # Too small for a chunk's file, and then for a raster of the map but not for the chunks.
    for limit in ("1000", "40000"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(run), str(scene), str(tmp_path / "maps"), limit],
            capture_output=True,
            text=True,
            check=False,
        )
        assert f"Cannot write {tmp_path / 'maps'}" in done.stdout, done.stderr
        assert [path.name for path in (tmp_path / "maps").iterdir()] == [".scene.work"]
    entry = swath.map_scenes(run, [scene], out=tmp_path / "maps", stride=4).maps[0]
    assert entry.windows == 0, "all chunks were there"
    swath.map_scenes(run, [scene], out=tmp_path / "whole", stride=4)
    assert make.products(tmp_path / "maps") == make.products(tmp_path / "whole")


def test_a_disk_that_is_too_small_is_told_before_starting(
    make: Any, tmp_path: Path, linear_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make.reflectance(tmp_path / "scene.tif", np.ones((3, 64, 64), np.uint16))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(
        OutputError, match=r"needs up to .* GiB in .*maps while it is made; 0\.00 GiB are free"
    ):
        swath.map_scenes(linear_run, [scene], out=tmp_path / "maps", stride=1)
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("stride", [4, 32])
def test_the_files_take_no_more_of_the_disk_than_was_told(
    make: Any, tmp_path: Path, scene: Path, stride: int, exclusive: bool
) -> None:
    from swath.mapping.companions import companion_bytes
    from swath.mapping.naming import RASTERS

    run = make.run(tmp_path / "run", make.model(exclusive=exclusive))
    entry = swath.map_scenes(run, [scene], out=tmp_path / "maps", stride=stride).maps[0]
    taken = sum(path.stat().st_size for kind, path in entry.files.items() if kind not in RASTERS)
    assert taken <= companion_bytes((-(-200 // stride), -(-230 // stride)), 4, exclusive)


def test_a_folder_that_cannot_be_made(tmp_path: Path, linear_run: Path, scene: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=f"Cannot write {tmp_path / 'file' / 'maps'}"):
        swath.map_scenes(linear_run, [scene], out=tmp_path / "file" / "maps", stride=16)


def test_a_folder_that_is_read_only(make: Any, tmp_path: Path, linear_run: Path, scene: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here (needs root)")
    try:
        out = interrupted(make, disk, linear_run, scene)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for folder in (out, disk / "other"):
            with pytest.raises(OutputError, match=f"Cannot write {folder}.*Read-only"):
                swath.map_scenes(linear_run, [scene], out=folder, stride=16)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        swath.map_scenes(linear_run, [scene], out=out, stride=16)
        assert sorted(path.name for path in out.iterdir()) == PRODUCTS
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
