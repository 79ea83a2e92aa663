"""Packing as processes meet it: killed, at the same time, on a full disk, with little memory."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from swath.scenes.packed import PackedScenes

PROLOGUE = """
import resource, sys, time
import numpy as np
from swath.labels import LabelTable
from swath.scenes.contract import BandContract
from swath.scenes.packing import pack
from swath.scenes.source import SceneSource

class Slow(SceneSource):
    name, columns = "slow", {}
    def __init__(self, count, shape, pause, log=None):
        self.labels = LabelTable(("class",), np.zeros((count, 1), np.int8))
        self.contract = BandContract(tuple("abcdefghijkl"[: shape[0]]))
        self.shape, self.pause, self.log = shape, pause, log
    def read(self, index):
        time.sleep(self.pause)
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{index}\\n")
        return np.random.default_rng(index).integers(0, 255, self.shape, dtype=np.uint8)
    def describe(self, index):
        return str(index)
    def fingerprint(self):
        return "slow"
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROLOGUE + textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_killed_packing_leaves_nothing_half_made(tmp_path: Path) -> None:
    script = "pack(Slow(200, (3, 64, 64), 0.01), folder=sys.argv[1]); print('packed')"
    for moment in range(3):
        process = start(script, tmp_path / "store")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:  # wait until it has written something
            partial = list(tmp_path.glob(".store-*/images.npy"))
            if any(file.stat().st_size > moment * 100_000 for file in partial):
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "store").exists()
        assert len(list(tmp_path.glob(".store-*"))) == 1
    finished = start(script, tmp_path / "store")
    output, errors = finished.communicate(timeout=120)
    assert output == "packed\n", errors
    assert len(PackedScenes(tmp_path / "store")) == 200
    assert list(tmp_path.glob(".store-*")) == []


def test_processes_that_pack_the_same_scenes_share_the_work(tmp_path: Path) -> None:
    script = """
    store = pack(Slow(60, (3, 16, 16), 0.01, sys.argv[2]), folder=sys.argv[1])
    print(len(store), int(store.images.astype(np.int64).sum()))
    """
    processes = [start(script, tmp_path / "store", tmp_path / "log") for _ in range(3)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert all(process.returncode == 0 for process in processes), outputs
    assert len({output for output, _ in outputs}) == 1
    assert sorted(map(int, (tmp_path / "log").read_text().split())) == list(range(60))


def test_a_full_disk_is_an_error_with_the_path(tmp_path: Path) -> None:
    script = """
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # no file grows further, as on a full disk
    try:
        pack(Slow(200, (3, 64, 64), 0), folder=sys.argv[1])
    except OSError as error:
        print(type(error).__name__, error)
    """
    output, errors = start(script, tmp_path / "store").communicate(timeout=120)
    assert output.startswith("OutputError"), errors
    assert str(tmp_path / "store") in output
    assert list(tmp_path.glob("*store*")) in ([], [tmp_path / ".store.lock"])


def test_resident_memory_stays_flat(tmp_path: Path) -> None:
    script = """
    import psutil, torch
    import swath.scenes.packed as packed
    allowed = 100 * 2**20
    packed._RESIDENT_BYTES = allowed // 2  # otherwise a store of this size stays mapped whole
    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    class Large(Slow):
        def read(self, index):
            return np.full(self.shape, index % 251, np.uint8)
    warm = pack(Large(64, (12, 64, 64), 0), folder=sys.argv[1] + "-small")
    contract = warm.contract.with_statistics((1,) * 12, (2,) * 12)
    warm.batch(np.arange(64), contract)
    before = peak()
    store = pack(Large(8600, (12, 64, 64), 0), folder=sys.argv[1])
    assert (store.folder / "images.npy").stat().st_size > 4 * allowed * 0.99
    packing = peak() - before
    random = np.random.default_rng(0)
    order = random.permutation(len(store))
    for start in range(0, len(order), 64):
        batch = store.batch(order[start : start + 64], contract)
        assert (batch[:, 0, 0, 0] == (torch.from_numpy(order[start : start + 64] % 251) - 1) / 2).all()
    print(packing < allowed, peak() - before < allowed, packing, peak() - before)
    """
    output, errors = start(script, tmp_path / "store").communicate(timeout=300)
    assert output.startswith("True True"), (output, errors)
