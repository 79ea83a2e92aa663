"""The work folder of a scene: what is computed so far, so that a killed map goes on where it was."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from swath.errors import OutputError, RunError
from swath.files import write_json, writing
from swath.mapping.grid import Chunk, WindowGrid
from swath.mapping.windows import ChunkValues

__all__ = ["WorkFolder", "differences"]


class WorkFolder:
    """What is computed of one scene's map: one file for each chunk, written whole or not at all.

    Args:
        folder: Where it is; a hidden folder beside the map.
        job: What the map depends on, plain JSON values by name; work of another job is not touched.
        tile: Pixels along a chunk's side; work that was started keeps its own.

    Attributes:
        tile: Pixels along a chunk's side.
    """

    def __init__(self, folder: Path, job: dict[str, Any], tile: int) -> None:
        self.folder = folder
        self.tile = tile
        self._job = job
        self._file = folder / "job.json"

    @contextlib.contextmanager
    def held(self, *, restart: bool = False) -> Iterator[None]:
        """Start the work, or take it up, and keep others away from it meanwhile.

        Args:
            restart: Whether to throw away what was computed for another job, or for this one.

        Raises:
            RunError: It was started for something else, or another process is at it.
            OutputError: The folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / "lock")
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(
                f"Another process is working in {self.folder}. Wait for it, or map into another folder."
            ) from error
        except OSError as error:
            raise OutputError(
                f"Cannot write {self.folder}: {error.strerror or error}. Check permissions and free space of "
                f"{self.folder.parent}."
            ) from error
        try:
            self._take_up(restart)
            yield
        finally:
            lock.release()

    def is_of_this_job(self) -> bool:
        """Say whether work on this very job was started and not finished."""
        before = self._before()
        return before is not None and not differences(before["job"], self._job)

    def has(self, chunk: Chunk) -> bool:
        """Say whether a chunk is computed and its file whole."""
        path = self._path(chunk)
        try:
            with safe_open(path, "numpy") as file:
                return set(file.keys()) == {"probability", "valid", "cells"}
        except (OSError, SafetensorError):
            return False

    def write(self, chunk: Chunk, values: ChunkValues) -> None:
        """Keep what was computed of a chunk.

        Raises:
            OutputError: It cannot be written.
        """
        content = save(
            {"probability": values.probability, "valid": values.valid, "cells": values.cells}, metadata=None
        )
        with writing(self._path(chunk)) as temporary:
            temporary.write_bytes(content)

    def windows(
        self, grid: WindowGrid, classes: int, rows: slice, columns: slice
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint32]]:
        """Return (classes, rows, columns) probability and (rows, columns) valid pixels of a block of windows.

        Raises:
            OutputError: A chunk's file is missing or damaged.
        """
        shape = rows.stop - rows.start, columns.stop - columns.start
        probability = np.zeros((classes, *shape), np.float32)
        valid = np.zeros(shape, np.uint32)
        for chunk, here, there in self._meeting(grid, "windows", rows, columns):
            with self._opened(chunk) as file:
                valid[here] = file.get_slice("valid")[there]
                stored = file.get_slice("probability")
                if stored.get_shape()[1]:
                    probability[:, *here] = stored[:, *there]
        return probability, valid

    def cells(self, grid: WindowGrid, rows: slice, columns: slice) -> npt.NDArray[np.uint32]:
        """Return (rows, columns) valid pixels of a block of cells.

        Raises:
            OutputError: A chunk's file is missing or damaged.
        """
        count = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint32)
        for chunk, here, there in self._meeting(grid, "cells", rows, columns):
            with self._opened(chunk) as file:
                count[here] = file.get_slice("cells")[there]
        return count

    def remove(self) -> None:
        """Remove the folder; the description of the job goes last, so that a kill leaves nothing misleading."""
        for path in self.folder.iterdir():
            if path != self._file:
                path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _take_up(self, restart: bool) -> None:
        before = None if restart else self._before()
        changed = differences(before["job"], self._job) if before else []
        if changed:
            raise RunError(
                f"{self.folder} holds the unfinished map of another job: {'; '.join(changed)}. Give the same again to "
                f"go on, or --restart to throw that work away."
            )
        if before is None:
            self._sweep(lambda name: name != "lock")
            write_json(self._file, {"job": self._job, "tile": self.tile})
        else:
            self.tile = int(before["tile"])
            # What a killed process was just writing.
            self._sweep(lambda name: name.startswith("."))

    def _before(self) -> dict[str, Any] | None:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            return {"job": dict(content["job"]), "tile": int(content["tile"])}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self._file} cannot be read: {error}. Start over with --restart.") from error

    def _sweep(self, gone: Any) -> None:
        for path in self.folder.iterdir():
            if gone(path.name):
                path.unlink(missing_ok=True)

    def _path(self, chunk: Chunk) -> Path:
        return self.folder / f"{chunk.name}.safetensors"

    @contextlib.contextmanager
    def _opened(self, chunk: Chunk) -> Iterator[Any]:
        try:
            with safe_open(self._path(chunk), "numpy") as file:
                yield file
        except (OSError, SafetensorError) as error:
            raise OutputError(
                f"{self._path(chunk)} is missing or damaged: {error}. Call the same command again; the chunk is then "
                f"computed anew."
            ) from error

    def _meeting(
        self, grid: WindowGrid, what: str, rows: slice, columns: slice
    ) -> Iterator[tuple[Chunk, tuple[slice, slice], tuple[slice, slice]]]:
        """Yield the chunks that meet a block, where they lie in it, and which part of them does."""
        across = [(piece, _common(getattr(piece, what), columns)) for piece in grid.columns.pieces(self.tile)]
        for piece in grid.rows.pieces(self.tile):
            down = _common(getattr(piece, what), rows)
            if down is None:
                continue
            for other, right in across:
                if right is not None:
                    yield Chunk(piece, other), (down[0], right[0]), (down[1], right[1])


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Say how two jobs differ, one short text for each difference.

    Example:
        >>> differences({"stride": 32, "model": "a"}, {"stride": 16, "model": "a"})
        ['stride was 32 and is now 16']
    """
    found = []
    for key in sorted({*before, *now}):
        mine, theirs = before.get(key), json.loads(json.dumps(now.get(key)))
        if mine == theirs:
            continue
        if key in ("model", "scene", "before", "after"):
            found.append(f"the {key} has changed")
        else:
            found.append(f"{key} was {mine!r} and is now {theirs!r}")
    return found


def _common(part: slice, wanted: slice) -> tuple[slice, slice] | None:
    """Return where a part of an axis lies within a wanted stretch, and which part of it that is."""
    first, last = max(part.start, wanted.start), min(part.stop, wanted.stop)
    if first >= last:
        return None
    return slice(first - wanted.start, last - wanted.start), slice(first - part.start, last - part.start)
