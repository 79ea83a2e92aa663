"""A real Ray cluster of several nodes on the loopback: the same bytes whatever is lost, and clear words."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import rasterio

# Before Ray is imported: nothing is reported, addresses stay on the loopback instead of becoming the machine's own,
# and nobody else on this machine may give the cluster tasks.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
pytest.importorskip("ray", reason="no ray: install swath[ray]")

from ray.cluster_utils import Cluster

import swath
from swath.errors import InputError, MissingExtraError, SwathError
from swath.mapping.work import WorkFolder

SWATH = Path(sys.executable).with_name("swath")
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}
OPTIONS: dict[str, Any] = {"stride": 8, "tile": 48, "batch_size": 16}


@pytest.fixture(scope="module")
def cluster(make: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head that computes nothing, and two machines of one processor each; they stand in another folder."""
    quick = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 500,
        "health_check_failure_threshold": 8,
    }
    head = {**NODE, "num_cpus": 0, "include_dashboard": False, "_system_config": quick}
    there = tmp_path_factory.mktemp("there")
    make.reflectance(there / "other.tif", make.noise(200, 230, seed=1))
    with contextlib.chdir(there):
        started = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            started.add_node(**NODE)
        started.wait_for_nodes()
    yield started
    started.shutdown()


@pytest.fixture(scope="module")
def mapped(make: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, bytes]]:
    """A run, a scene, and the files of its map by one process."""
    folder = tmp_path_factory.mktemp("mapped")
    run = make.run(folder / "run", make.model("small_resnet"))
    scene = make.reflectance(folder / "scene.tif", make.noise(200, 230))
    swath.map_scenes(run, [scene], out=folder / "maps", **OPTIONS)
    return run, scene, make.products(folder / "maps")


@pytest.fixture
def out(mapped: tuple[Path, Path, dict[str, bytes]]) -> Iterator[Path]:
    """An empty folder for maps, beside the one that is compared with: the item names the scene relative to it."""
    folder = Path(tempfile.mkdtemp(dir=mapped[0].parent))
    yield folder
    shutil.rmtree(folder)


def at_chunk(number: int, act: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Do something when so many chunks are kept, in the middle of a map."""
    real, left = WorkFolder.write, [number]

    def write(self: Any, *arguments: Any) -> None:
        real(self, *arguments)
        left[0] -= 1
        if left[0] == 0:
            act()

    patch.setattr(WorkFolder, "write", write)


def computing() -> list[psutil.Process]:
    """Return the processes that are computing a chunk now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "ray::_compute" in " ".join(process.cmdline()):
                found.append(process)
    return found


def test_the_bytes_are_those_of_one_process(cluster: Cluster, make: Any, mapped: Any, out: Path) -> None:
    run, scene, expected = mapped
    summary = swath.map_scenes(run, [scene], out=out, ray=cluster.address, **OPTIONS)
    assert summary.maps[0].windows > 0
    assert make.products(out) == expected
    assert len(list(out.iterdir())) == len(expected)


def test_killed_workers_lose_nothing(
    cluster: Cluster, make: Any, mapped: Any, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, scene, expected = mapped
    killed: list[int] = []
    mapped_all = threading.Event()

    def kill() -> None:
        while not killed and not mapped_all.is_set():
            for process in computing():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
                    killed.append(process.pid)

    # Beside the map, which must go on meanwhile: where nothing computes, only it can hand out the next chunk.
    killer = threading.Thread(target=kill)
    at_chunk(4, killer.start, monkeypatch)
    try:
        swath.map_scenes(run, [scene], out=out, ray=cluster.address, **OPTIONS)
    finally:
        mapped_all.set()
    killer.join()
    assert killed
    assert make.products(out) == expected


def test_a_machine_that_is_lost_loses_nothing(
    cluster: Cluster,
    make: Any,
    mapped: Any,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, scene, expected = mapped
    lost = cluster.add_node(**NODE)
    cluster.wait_for_nodes()

    def lose() -> None:
        cluster.remove_node(lost, allow_graceful=False)

    at_chunk(8, lose, monkeypatch)
    swath.map_scenes(run, [scene], out=out, ray=cluster.address, **OPTIONS)
    assert lost not in cluster.list_all_nodes()
    assert make.products(out) == expected
    assert capsys.readouterr().out == "", "what Ray says of lost machines has no place where the table goes"


def test_ctrl_c_ends_the_tasks_and_one_process_goes_on(
    cluster: Cluster, make: Any, mapped: Any, out: Path
) -> None:
    run, scene, expected = mapped
    words = [str(SWATH), "map", str(run), str(scene), "--out", str(out), "--ray", cluster.address]
    words += [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    # A shell in the background may have left Ctrl-C ignored for its children.
    hear = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", hear, *words], stderr=subprocess.PIPE, text=True)
    while len(list(out.glob(".scene.work/[0-9]*.safetensors"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "swath: stopped. Call the same command again to go on" in said
    until = time.monotonic() + 30
    while computing() and time.monotonic() < until:
        time.sleep(0.1)
    assert not computing(), "tasks of a map that was stopped go on"
    kept = len(list(out.glob(".scene.work/[0-9]*.safetensors")))
    assert kept >= 2
    rest = swath.map_scenes(run, [scene], out=out, stride=8)
    assert 0 < rest.maps[0].windows < 27 * 30
    assert make.products(out) == expected


def test_a_damaged_scene_is_skipped_and_the_others_are_mapped(
    cluster: Cluster, make: Any, mapped: Any, out: Path, tmp_path: Path
) -> None:
    run, scene, expected = mapped
    damaged = make.reflectance(tmp_path / "damaged.tif", make.noise(200, 230, seed=2), compress="deflate")
    with rasterio.open(damaged) as raster:
        place = int(raster.get_tag_item("BLOCK_OFFSET_2_2", "TIFF", bidx=1))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:place] + b"\xff" * 900 + content[place + 900 :])
    summary = swath.map_scenes(run, [damaged, scene], out=out, ray=cluster.address, **OPTIONS)
    assert "damaged or cut short" in summary.maps[0].skipped
    assert make.products(out) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("only-here.tif", r"cannot read the scene: .*only-here\.tif cannot be read: No such file"),
        ("other.tif", r"sees another file at .*other\.tif"),
    ],
)
def test_a_scene_that_a_machine_does_not_see(
    cluster: Cluster,
    make: Any,
    mapped: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    message: str,
) -> None:
    make.reflectance(tmp_path / name, make.noise(200, 230))
    monkeypatch.chdir(tmp_path)
    # The same path is another place for every process: as on a machine that does not share the disk.
    paths = [Path("/proc/self/cwd") / name, mapped[1]]
    with pytest.raises(SwathError, match=message) as caught:
        swath.map_scenes(mapped[0], paths, out=tmp_path / "maps", ray=cluster.address, **OPTIONS)
    assert "the same path" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_machine_with_another_version_is_refused(
    cluster: Cluster, mapped: Any, out: Path, tmp_path: Path
) -> None:
    from importlib.metadata import version

    metadata = tmp_path / "torch-99.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 99.0\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    strange = cluster.add_node(**NODE, env_vars={"PYTHONPATH": path})
    try:
        cluster.wait_for_nodes()
        with pytest.raises(SwathError, match=rf"has torch 99\.0 instead of {version('torch')}, which could"):
            swath.map_scenes(mapped[0], [mapped[1]], out=out, ray=cluster.address, **OPTIONS)
    finally:
        cluster.remove_node(strange)


@pytest.mark.parametrize(
    "address", ["", "local", "ray://127.0.0.1:10001", "10.0.0.1", "http://127.0.0.1:1", "a:b"]
)
def test_what_is_no_address_is_refused(mapped: Any, tmp_path: Path, address: str) -> None:
    with pytest.raises(InputError, match="expected HOST:PORT"):
        swath.map_scenes(mapped[0], [mapped[1]], out=tmp_path / "maps", ray=address)
    assert not (tmp_path / "maps").exists()


def test_workers_here_and_a_cluster_are_one_too_many(mapped: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give one of them"):
        swath.map_scenes(mapped[0], [mapped[1]], out=tmp_path / "maps", ray="127.0.0.1:6379", workers=2)


def test_where_nothing_listens_or_something_else_does(
    mapped: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr("swath.cluster._JOIN_SECONDS", 4)
        with pytest.raises(SwathError, match=f"joined at {address}: no answer within 4 seconds"):
            swath.map_scenes(mapped[0], [mapped[1]], out=tmp_path / "maps", ray=address)
    with pytest.raises(SwathError, match=f"No Ray cluster can be joined at {address}: .*refused.*ray status"):
        swath.map_scenes(mapped[0], [mapped[1]], out=tmp_path / "maps", ray=address)
    assert not (tmp_path / "maps").exists()


def test_without_the_cluster_s_token_nothing_is_computed(
    cluster: Cluster, mapped: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_NUM_REDIS_GET_RETRIES", "2")
    with pytest.raises(SwathError, match=r"it asks for a token.*RAY_AUTH_TOKEN"):
        swath.map_scenes(mapped[0], [mapped[1]], out=tmp_path / "maps", ray=cluster.address)
    assert not (tmp_path / "maps").exists()


def test_without_ray_the_extra_is_named(mapped: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'swath\[ray\]'"):
        swath.map_scenes(mapped[0], [mapped[1]], out=tmp_path / "maps", ray="127.0.0.1:6379")


def test_a_selection_is_computed_by_shards_on_the_cluster(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_CACHE", str(tmp_path / "cache"))
    swath.train(
        "earth:scenes=60,size=16", out=tmp_path / "run", method="all-known", epochs=1, encoder="small_resnet"
    )
    wanted: dict[str, Any] = {"run": str(tmp_path / "run"), "keep": 12, "by": "rs-prune"}
    alone = swath.select(**wanted, out=tmp_path / "alone.parquet").selection.table
    shutil.rmtree(tmp_path / "cache" / "measured")
    there = swath.select(**wanted, out=tmp_path / "there.parquet", ray=cluster.address).selection.table
    assert alone["index"][alone["kept"]].tolist() == there["index"][there["kept"]].tolist()
    assert len(list((tmp_path / "cache").glob("measured/*/*.safetensors"))) == 1
    with pytest.raises(InputError, match="computes nothing"):
        swath.select(
            run=str(tmp_path / "run"), keep=12, by="random", ray=cluster.address, out=tmp_path / "r.parquet"
        )
