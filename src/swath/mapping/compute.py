"""Computing the chunks of a scene, in this process or in several."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from swath.encoders import SceneModel
from swath.errors import RunError, SwathError
from swath.mapping.bands import Reading
from swath.mapping.grid import Chunk, WindowGrid
from swath.mapping.raster import RasterReader, RasterScene
from swath.mapping.settings import MapSettings
from swath.mapping.windows import ChunkValues, Tile, predict_windows, read_tile
from swath.mapping.work import WorkFolder
from swath.training.run import load_model

__all__ = ["ChunkTask", "Machinery", "SceneFiles", "Worker", "ready"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class SceneFiles:
    """A scene to map.

    Args:
        name: What its map is called.
        paths: Its files.
        bands: A band name for each file if each holds one band, else empty.
    """

    name: str
    paths: tuple[Path, ...]
    bands: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChunkTask:
    """One chunk, with all that a process elsewhere has to know of it.

    Args:
        scene: The scene.
        reading: How it is read.
        settings: How it is mapped.
        chunk: Which windows.
        batch_size: Windows at a time.
    """

    scene: SceneFiles
    reading: Reading
    settings: MapSettings
    chunk: Chunk
    batch_size: int


def ready(model: SceneModel) -> SceneModel:
    """Return the model as the windows need it: evaluation mode, weights laid out as in training."""
    return model.eval().to(memory_format=torch.channels_last)


class Machinery:
    """Computes chunks, with one process or several; the values are the same.

    Args:
        run: The run's folder.
        model: Its model.
        workers: Processes. With 1 this one does all, reading the next chunk while the model is at the present one.
        batch_size: Windows at a time.
    """

    def __init__(self, run: Path, model: SceneModel, *, workers: int, batch_size: int) -> None:
        self._model = ready(model)
        self._batch_size = batch_size
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None
        if workers > 1:
            threads = max(1, torch.get_num_threads() // workers)
            self._pool = concurrent.futures.ProcessPoolExecutor(
                workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(run, threads),
            )

    def close(self) -> None:
        """End the other processes; what they are at is finished first."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

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
            SwathError: A process was ended from outside.
        """
        if self._pool is None:
            with contextlib.closing(_ahead(_tiles(scene, self._model, grid, chunks))) as tiles:
                for chunk, tile in tiles:
                    work.write(
                        chunk,
                        predict_windows(
                            tile, self._model, grid, chunk, settings, batch_size=self._batch_size
                        ),
                    )
                    done()
            return
        pending: set[concurrent.futures.Future[None]] = set()
        try:
            # Never more than a few in flight: a scene may have a million chunks.
            for chunk in chunks:
                task = ChunkTask(files, reading, settings, chunk, self._batch_size)
                pending.add(self._pool.submit(_compute, task, work))
                if len(pending) >= 4 * multiprocessing.cpu_count():
                    pending = _settle(pending, done)
            while pending:
                pending = _settle(pending, done)
        except BrokenProcessPool as error:
            # Not about this scene: those that follow would end in the same way.
            raise SwathError(
                "A worker process was ended from outside, perhaps because memory ran out. What is computed is kept; "
                "call the same command again to go on, with fewer --workers or a smaller --tile if it happens again."
            ) from error
        finally:
            for future in pending:
                future.cancel()


def _settle(
    pending: set[concurrent.futures.Future[None]], done: Callable[[], None]
) -> set[concurrent.futures.Future[None]]:
    finished, waiting = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
    for future in finished:
        future.result()
        done()
    return waiting


def _tiles(
    scene: RasterScene, model: SceneModel, grid: WindowGrid, chunks: Sequence[Chunk]
) -> Generator[tuple[Chunk, Tile], None, None]:
    with scene.reading() as reader:
        for chunk in chunks:
            yield chunk, read_tile(reader, scene, model, grid, chunk)


def _ahead(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """Yield from a generator that is kept one step ahead; all of it runs in one thread of its own."""
    ended = object()
    with concurrent.futures.ThreadPoolExecutor(1, "swath-read-ahead") as thread:
        coming: concurrent.futures.Future[Any] = thread.submit(next, items, ended)
        try:
            while (item := coming.result()) is not ended:
                coming = thread.submit(next, items, ended)
                yield item
        finally:
            concurrent.futures.wait([coming])
            thread.submit(items.close).result()


class Worker:
    """What a process keeps from task to task: the model, and the scene it is at.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: Path) -> None:
        self._model = ready(load_model(run))
        self._key = ""
        self._stack = contextlib.ExitStack()

    def compute(self, task: ChunkTask) -> ChunkValues:
        """Return the values of a chunk.

        Raises:
            SceneError: The scene is damaged.
        """
        scene, reader = self._opened(task.scene, task.reading)
        model, settings = self._model, task.settings
        grid = WindowGrid(scene.height, scene.width, model.size, settings.stride, settings.edges)
        tile = read_tile(reader, scene, model, grid, task.chunk)
        return predict_windows(tile, model, grid, task.chunk, settings, batch_size=task.batch_size)

    def _opened(self, files: SceneFiles, reading: Reading) -> tuple[RasterScene, RasterReader]:
        key = repr((files, reading))  # text, because NaN differs from itself
        if self._key != key:
            self._key = ""
            self._stack.close()
            scene = RasterScene(files.paths, self._model.contract, reading, files.bands)
            self._scene, self._reader = scene, self._stack.enter_context(scene.reading())
            self._key = key
        return self._scene, self._reader


_worker: Worker | None = None


def _start_worker(run: Path, threads: int) -> None:
    global _worker  # noqa: PLW0603 - one for the process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was called
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _worker = Worker(run)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _compute(task: ChunkTask, work: WorkFolder) -> None:
    if _worker is None:
        raise RunError("This process was not started as a worker of a map.")
    work.write(task.chunk, _worker.compute(task))
