"""Computing the chunks of a scene on the machines of a Ray cluster.

A task is one chunk. The machine that runs it reads the scene from a path that all machines share and returns the
values; only the process that was called writes files. A task whose worker or machine is lost is computed elsewhere,
and it does not matter how often: a chunk is a pure function of scene, model and settings.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch

from swath.cluster import RETRIES, fetched, first_ready, join, processors, refuse_other_versions, versions
from swath.errors import SceneError, SwathError
from swath.mapping.bands import Reading
from swath.mapping.compute import ChunkTask, Processes, SceneFiles, Worker, together
from swath.mapping.fingerprint import file_samples
from swath.mapping.grid import Chunk, WindowGrid
from swath.mapping.raster import RasterScene
from swath.mapping.settings import MapSettings
from swath.mapping.windows import ChunkValues
from swath.mapping.work import WorkFolder

__all__ = ["Cluster"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_KEPT: Final = "What is computed is kept; call the same command again to go on."


@dataclass(frozen=True)
class _Job:
    """What all tasks of a map share.

    Args:
        versions: Of what decides the values, on the machine that was called.
        weights: Ray's reference to the model's file, in a tuple so that Ray does not send it along with every task.
    """

    versions: dict[str, str]
    weights: tuple[Any]


class Cluster:
    """Computes chunks on a Ray cluster; the values are those of one process.

    Args:
        address: ``HOST:PORT`` of the cluster's head, or ``auto`` for the cluster this machine belongs to.
        run: The run's folder; the model is sent to the machines.
        batch_size: Windows at a time on a GPU.

    Raises:
        InputError: The address is none, or this process is connected to a cluster already.
        MissingExtraError: Ray is not installed.
        SwathError: Nothing answers at the address, or this machine cannot join.
    """

    def __init__(self, address: str, run: Path, *, batch_size: int) -> None:
        self._batch_size = batch_size
        self._here: Processes | None = None
        self._stopped = False
        self._flying = 0
        self._lock = threading.Lock()  # several scenes are at hand at a time
        self._stack = contextlib.ExitStack()
        self._ray = join(address, self._stack)
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            weights = self._ray.put(np.fromfile(run / "model.safetensors", np.uint8))
            self._job = _Job(versions(), (weights,))
            self._compute = self._ray.remote(num_cpus=1, max_retries=RETRIES)(_compute)
            undo.pop_all()

    def close(self) -> None:
        """Leave the cluster, which ends what it is still computing for this process."""
        self._stack.close()

    def each(self, act: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
        """Return what comes of every scene, of several at a time: enough that small ones fill the cluster.

        Args:
            act: Maps one scene by means of this cluster.
            items: The scenes.
        """
        if len(items) == 1:
            return [act(items[0])]
        self._here = Processes(min(8, max(1, multiprocessing.cpu_count() // 2)), _start_here)
        self._stack.callback(self._here.close)
        return together(act, items, min(64, processors(self._ray) + self._here.number), self._stop)

    def finish(self, act: Callable[..., Answer], *arguments: Any) -> Answer:
        """Return what a function that writes a map's files returns; always called on this machine."""
        return self._here.call(act, *arguments) if self._here else act(*arguments)

    def _stop(self) -> None:
        self._stopped = True
        if self._here:
            self._here.close()

    def compute(
        self,
        files: SceneFiles,
        scene: RasterScene,
        grid: WindowGrid,
        chunks: Sequence[Chunk],
        settings: MapSettings,
        reading: Reading,
        work: WorkFolder,
        done: Callable[[], None],
    ) -> None:
        """Compute chunks and keep them in the work folder.

        Args:
            files: The scene.
            scene: The same, opened.
            grid: Its windows.
            chunks: What to compute.
            settings: How.
            reading: How the scene is read.
            work: Where the values go.
            done: Called after each chunk.

        Raises:
            SceneError: The scene is damaged.
            OutputError: The work folder cannot be written.
            SwathError: A machine of the cluster cannot do its part.
        """
        samples = file_samples(files.paths)
        pending: dict[Any, Chunk] = {}
        try:
            for chunk in chunks:
                while pending and self._flying >= self._room():
                    self._settle(pending, work, done)
                task = ChunkTask(files, reading, settings, chunk, self._batch_size)
                pending[self._compute.remote(self._job, task, samples)] = chunk
                self._count(1)
            while pending:
                self._settle(pending, work, done)
        finally:
            # What is left of a scene that cannot be mapped is computed for nothing; it is little.
            self._count(-len(pending))

    def _room(self) -> int:
        """Return how many chunks may be in flight: enough that no machine waits, few enough for memory."""
        return 2 * max(1, processors(self._ray))

    def _count(self, more: int) -> None:
        with self._lock:
            self._flying += more

    def _refuse_stopped(self) -> None:
        if self._stopped:
            raise SwathError(f"The map was stopped. {_KEPT}")

    def _settle(self, pending: dict[Any, Chunk], work: WorkFolder, done: Callable[[], None]) -> None:
        """Wait for a chunk and keep it. Values are fetched one at a time; the others wait where they were computed."""
        ready = first_ready(self._ray, pending, check=self._refuse_stopped, kept=_KEPT)
        for reference in ready:
            values = fetched(self._ray, reference, self._job.versions, smaller="a smaller --tile", kept=_KEPT)
            work.write(pending[reference], values)
            del pending[reference]
            self._count(-1)
            done()


def _start_here() -> None:
    torch.set_num_threads(1)


_worker: Worker | None = None
_scene: tuple[SceneFiles, str] | None = None


def _compute(job: _Job, task: ChunkTask, samples: str) -> ChunkValues:
    """Compute one chunk; runs in a worker of the cluster, which serves no other job."""
    global _worker, _scene  # noqa: PLW0603 - one for the process
    here = socket.gethostname()
    if _worker is None:
        refuse_other_versions(job.versions, kept=_KEPT)
        _worker = _start(job)
    if _scene != (task.scene, samples):
        paths = task.scene.paths
        try:
            seen = file_samples(paths)
        except SceneError as error:
            raise SwathError(
                f"{here} of the cluster cannot read the scene: {error} All machines need the scenes under the same "
                f"path. {_KEPT}"
            ) from error
        if seen != samples:
            raise SwathError(
                f"{here} of the cluster sees another file at {paths[0]}. All machines need the same scenes under the "
                f"same path. {_KEPT}"
            )
        _scene = task.scene, samples
    return _worker.compute(task)


def _start(job: _Job) -> Worker:
    import ray

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="swath-") as folder:
        ray.get(job.weights[0]).tofile(Path(folder) / "model.safetensors")
        return Worker(Path(folder))
