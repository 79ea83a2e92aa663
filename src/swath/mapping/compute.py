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
from swath.mapping.header import Source
from swath.mapping.raster import RasterReader, RasterScene
from swath.mapping.settings import MapSettings
from swath.mapping.windows import Tile, predict_windows, read_tile
from swath.mapping.work import WorkFolder
from swath.training.run import load_model

__all__ = ["Machinery", "SceneFiles", "ready"]

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
    paths: tuple[Source, ...]
    bands: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Task:
    scene: SceneFiles
    reading: Reading
    settings: MapSettings
    work: WorkFolder
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
        waiting = iter(_Task(files, reading, settings, work, chunk, self._batch_size) for chunk in chunks)
        pending: set[concurrent.futures.Future[None]] = set()
        try:
            # Never more than a few in flight: a scene may have a million chunks.
            for task in waiting:
                pending.add(self._pool.submit(_compute, task))
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


class _Worker:
    """What a process keeps from task to task: the model, and the scene it is at."""

    def __init__(self, run: Path) -> None:
        self.model = ready(load_model(run))
        self._key = ""
        self._stack = contextlib.ExitStack()

    def opened(self, files: SceneFiles, reading: Reading) -> tuple[RasterScene, RasterReader]:
        key = repr((files, reading))  # text, because NaN differs from itself
        if self._key != key:
            self._stack.close()
            self._key = ""
            scene = RasterScene(files.paths, self.model.contract, reading, files.bands)
            self._scene, self._reader = scene, self._stack.enter_context(scene.reading())
            self._key = key
        return self._scene, self._reader


_worker: _Worker | None = None


def _start_worker(run: Path, threads: int) -> None:
    global _worker  # noqa: PLW0603 - one for the process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was called
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _worker = _Worker(run)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _compute(task: _Task) -> None:
    if _worker is None:
        raise RunError("This process was not started as a worker of a map.")
    scene, reader = _worker.opened(task.scene, task.reading)
    model = _worker.model
    grid = WindowGrid(scene.height, scene.width, model.size, task.settings.stride, task.settings.edges)
    tile = read_tile(reader, scene, model, grid, task.chunk)
    task.work.write(
        task.chunk, predict_windows(tile, model, grid, task.chunk, task.settings, batch_size=task.batch_size)
    )
