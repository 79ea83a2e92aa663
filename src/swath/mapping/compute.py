"""Computing the chunks of a scene, in this process or in several."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import torch

from swath.encoders import SceneModel
from swath.errors import RunError, SwathError
from swath.mapping.bands import Reading
from swath.mapping.grid import Chunk, WindowGrid
from swath.mapping.header import Source
from swath.mapping.raster import RasterReader, RasterScene, bounded_cache
from swath.mapping.settings import MapSettings
from swath.mapping.windows import ChunkValues, predict_windows, read_tile
from swath.mapping.work import WorkFolder
from swath.scenes.remote import RemoteFile
from swath.training.run import load_model

__all__ = ["ChunkTask", "Machinery", "Processes", "SceneFiles", "Worker", "ready", "together"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_STREAMS: Final = 4
"""Most chunks of a process in memory at a time: more would not stay in the memory that a map is allowed."""


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
class ChunkTask:
    """One chunk, with all that a process elsewhere has to know of it.

    Args:
        scene: The scene.
        reading: How it is read.
        settings: How it is mapped.
        chunk: Which windows.
        batch_size: Windows at a time on a GPU.
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
        workers: Processes. With 1 this one does all, in threads.
        batch_size: Windows at a time on a GPU.
    """

    def __init__(self, run: Path, model: SceneModel, *, workers: int, batch_size: int) -> None:
        self._model = ready(model)
        self._batch_size = batch_size
        self._several = False
        self._pool: Processes | None = None
        if workers > 1:
            threads = max(1, torch.get_num_threads() // workers)
            self._pool = Processes(workers, _start_worker, run, threads)

    def close(self) -> None:
        """End the other processes."""
        if self._pool is not None:
            self._pool.close()

    def each(self, act: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
        """Return what comes of every scene; with several processes, of several scenes at a time.

        Args:
            act: Maps one scene by means of this machinery.
            items: The scenes.
        """
        if self._pool is None or len(items) == 1:
            return [act(item) for item in items]
        self._several = True
        return together(act, items, self._pool.number + 1, self.close)

    def finish(self, act: Callable[..., Answer], *arguments: Any) -> Answer:
        """Return what a function that writes a map's files returns; of several scenes another process calls it."""
        return self._pool.call(act, *arguments) if self._pool and self._several else act(*arguments)

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
            self._here(files, scene, grid, chunks, settings, work, done)
            return
        pending: set[concurrent.futures.Future[None]] = set()
        try:
            # Never more than a few in flight: a scene may have a million chunks.
            for chunk in chunks:
                task = ChunkTask(files, reading, settings, chunk, self._batch_size)
                pending.add(self._pool.executor.submit(_compute, task, work))
                if len(pending) >= 4 * multiprocessing.cpu_count():
                    pending = _settle(pending, done)
            while pending:
                pending = _settle(pending, done)
        except BrokenProcessPool as error:
            # What is pending is not cancelled, here or after another error: an executor whose processes end trips
            # over cancelled futures (Python 3.11) and then never fails the others, for which other scenes wait.
            raise _broken() from error

    def _here(
        self,
        files: SceneFiles,
        scene: RasterScene,
        grid: WindowGrid,
        chunks: Sequence[Chunk],
        settings: MapSettings,
        work: WorkFolder,
        done: Callable[[], None],
    ) -> None:
        """Compute chunks in threads of which each reads, computes and writes one at a time.

        Threads that share the work on every batch wait for each other all the time; those that have their own do not.
        """
        if not chunks:
            return
        processors = torch.get_num_threads()
        number = min(max(2, processors), _STREAMS, len(chunks))
        coming, turn, stopped = iter(chunks), threading.Lock(), threading.Event()
        # GDAL hangs where two threads read the same file on a server.
        remote = any(isinstance(path, RemoteFile) for path in files.paths)
        reading: contextlib.AbstractContextManager[Any] = (
            threading.Lock() if remote else contextlib.nullcontext()
        )

        def check() -> None:
            if stopped.is_set():
                raise SwathError("Stopped.")

        def stream(_: int) -> None:
            torch.set_num_threads(max(1, processors // number))
            with contextlib.ExitStack() as stack:
                with reading:
                    reader = stack.enter_context(scene.reading())
                while True:
                    check()
                    with turn:
                        chunk = next(coming, None)
                    if chunk is None:
                        return
                    with reading:
                        tile = read_tile(reader, scene, self._model, grid, chunk)
                    values = predict_windows(
                        tile, self._model, grid, chunk, settings, batch_size=self._batch_size, check=check
                    )
                    work.write(chunk, values)
                    done()

        try:
            together(stream, range(number), number, stopped.set)
        finally:
            # Threads that start later take it from the one that set it last.
            torch.set_num_threads(processors)


def _settle(
    pending: set[concurrent.futures.Future[None]], done: Callable[[], None]
) -> set[concurrent.futures.Future[None]]:
    finished, waiting = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
    for future in finished:
        future.result()
        done()
    return waiting


def _broken() -> SwathError:
    # Not about one scene: those that follow would end in the same way.
    return SwathError(
        "A worker process was ended from outside, perhaps because memory ran out. What is computed is kept; call the "
        "same command again to go on, with fewer --workers or a smaller --tile if it happens again."
    )


class Processes:
    """Processes on this machine, which end when they are told to or when this process does, whatever they are at.

    Args:
        number: How many; they start when they are needed.
        start: Called first in each.
        arguments: What it is called with.
    """

    def __init__(self, number: int, start: Callable[..., None], *arguments: Any) -> None:
        self.number = number
        context = multiprocessing.get_context("spawn")
        # The other end of the pipe closes with this process, even if it is killed.
        theirs, self._alive = context.Pipe(duplex=False)
        self.executor = concurrent.futures.ProcessPoolExecutor(
            number, mp_context=context, initializer=_start_process, initargs=(theirs, start, *arguments)
        )

    def call(self, act: Callable[..., Answer], *arguments: Any) -> Answer:
        """Return what a function returns that one of them calls.

        Raises:
            SwathError: The process was ended from outside.
        """
        try:
            return self.executor.submit(act, *arguments).result()
        except BrokenProcessPool as error:
            raise _broken() from error

    def close(self) -> None:
        """End them now: whatever they write is written whole or not at all."""
        self._alive.close()
        # The executor fails what is pending when its processes end. Cancelling would leave those who wait waiting.
        self.executor.shutdown(wait=True)


def _start_process(
    alive: multiprocessing.connection.Connection, start: Callable[..., None], *arguments: Any
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was called
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    start(*arguments)


def _end_with(alive: multiprocessing.connection.Connection) -> None:
    multiprocessing.connection.wait([alive])
    os._exit(1)


def together(
    act: Callable[[Item], Answer], items: Sequence[Item], number: int, stop: Callable[[], None]
) -> list[Answer]:
    """Return what a function returns for every item, several at a time; the first error ends all.

    Args:
        act: Waits for other processes most of the time; it is called in threads.
        items: What it is called with.
        number: How many at a time.
        stop: Makes calls under way end.
    """
    with concurrent.futures.ThreadPoolExecutor(number, "swath-scene") as threads:
        futures = [threads.submit(act, item) for item in items]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            stop()
            raise
    return [future.result() for future in futures]


class Worker:
    """What a process keeps from task to task: the model, and the scene it is at.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: Path) -> None:
        self._model = ready(load_model(run))
        self._key = ""
        self._stack = contextlib.ExitStack()
        self._bound = contextlib.ExitStack()
        self._bound.enter_context(bounded_cache())

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
    torch.set_num_threads(threads)
    _worker = Worker(run)


def _compute(task: ChunkTask, work: WorkFolder) -> None:
    if _worker is None:
        raise RunError("This process was not started as a worker of a map.")
    work.write(task.chunk, _worker.compute(task))
