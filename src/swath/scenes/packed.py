"""The packed store: every image decoded once, then read a whole batch at a time."""

from __future__ import annotations

import concurrent.futures
import io
import json
import math
import mmap
import os
import threading
import weakref
import zipfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from swath.errors import ContractError, InputError, SceneError
from swath.scenes.contract import BandContract

if TYPE_CHECKING:
    import torch

__all__ = ["FORMAT", "PackedScenes", "UnreadableScene"]

# Part of every store's key: a store that another version of this code wrote differently is packed again.
FORMAT: Final = 1
IMAGES: Final = "images.npy"
ROWS: Final = "rows.npz"
RECORD: Final = "store.json"
# A piece of a batch is finished while it lies in a core's cache.
_PIECE_BYTES: Final = 3 * 1024 * 1024
# Stores up to this size stay mapped whole; of larger ones so much is touched before the pages are given back.
_RESIDENT_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class UnreadableScene:
    """A scene that was left out of a store.

    Args:
        row: Its row in the source.
        name: What the source calls it, such as its path.
        reason: Why it was left out.
    """

    row: int
    name: str
    reason: str


class PackedScenes:
    """Images of one size and number type in one file, read by row.

    Made by :func:`swath.scenes.packing.pack`. Batches are copied out of a memory map whose pages are given back
    as they add up, so resident memory does not grow with the store; :attr:`images` maps the file for everything
    else.

    Args:
        folder: A store's folder.

    Attributes:
        folder: Where the store lies.
        key: Changes with the source, the size and the format.
        contract: The band contract of the source, without statistics.
        kept: (scenes,) row in the source of each row of the store.
        digests: (scenes, 16) uint8, a hash of each decoded image before it was resized.
        unreadable: The scenes of the source that were left out.
        image_sizes: How many source images had which size, such as ``{"256x256": 2056}`` (height x width).

    Raises:
        SceneError: The store is missing or damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        try:
            record = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
            if record["format"] != FORMAT:
                raise ValueError(f"it has format {record['format']}, this version reads format {FORMAT}")
            self.key: str = record["key"]
            self.contract = BandContract.from_json(record["contract"])
            self.unreadable = tuple(UnreadableScene(**entry) for entry in record["unreadable"])
            self.image_sizes: dict[str, int] = dict(record["image_sizes"])
            with np.load(io.BytesIO((self.folder / ROWS).read_bytes()), allow_pickle=False) as rows:
                self.kept: npt.NDArray[np.int64] = rows["kept"]
                self.digests: npt.NDArray[np.uint8] = rows["digests"]
            self._handle = os.open(self.folder / IMAGES, os.O_RDONLY)
            self._close = weakref.finalize(self, os.close, self._handle)
            with open(self._handle, "rb", closefd=False) as file:
                self.shape, self.dtype, self._start = _read_header(file)
            self._size = self._start + math.prod(self.shape) * self.dtype.itemsize
            if os.fstat(self._handle).st_size != self._size or self.shape[0] != len(self.kept):
                raise ValueError(f"{IMAGES} has not the {self._size} bytes that its header promises")
            self._map = mmap.mmap(self._handle, 0, access=mmap.ACCESS_READ)
            self._mapped = np.frombuffer(self._map, self.dtype, offset=self._start).reshape(self.shape)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, ContractError) as error:
            raise SceneError(
                f"{self.folder} is no usable packed store: {error}. Remove it and pack the scenes again."
            ) from error
        self._touched = 0
        self._own = threading.local()
        # A few are enough: one in the model, one being made, and those a caller still holds.
        self._free: deque[npt.NDArray[np.float32]] = deque(maxlen=4)

    def __len__(self) -> int:
        """Return the number of scenes in the store."""
        return self.shape[0]

    def __enter__(self) -> PackedScenes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Let other processes open the store themselves."""
        return {"folder": self.folder, "contract": self.contract}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]
        self.contract = state["contract"]

    def close(self) -> None:
        """Close the file; the store cannot be read after it."""
        self._close()
        del self._mapped, self._map

    @property
    def images(self) -> npt.NDArray[Any]:
        """All images as a read-only memory map, (scenes, bands, height, width), stored numbers."""
        return np.load(self.folder / IMAGES, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]

    def read(self, rows: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the stored numbers of some rows.

        Args:
            rows: Rows of the store, in any order, also repeated.

        Returns:
            (rows, bands, height, width) in the stored number type.
        """
        chosen = self._checked(rows)
        images = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        self._fill(images, chosen)
        return images

    def pieces(self, rows: npt.ArrayLike, at_most_bytes: int = 16 * 2**20) -> Iterator[npt.NDArray[Any]]:
        """Yield the stored numbers of some rows piece by piece, each of bounded size."""
        chosen = self._checked(rows)
        step = max(1, at_most_bytes // self._row_bytes)
        for start in range(0, len(chosen), step):
            yield self.read(chosen[start : start + step])

    def batch(self, rows: npt.ArrayLike, contract: BandContract) -> torch.Tensor:
        """Return scenes as a model sees them: ``(value - mean) / std``, and 0 where a pixel is invalid.

        The memory of a batch that is no longer referred to is used again, which saves a third of the time.

        Args:
            rows: Rows of the store, in any order.
            contract: A contract with statistics; its bands are found in the store by name.

        Returns:
            (rows, bands, height, width) float32 on the CPU.

        Raises:
            ContractError: The contract has no statistics, or names a band that the store lacks.
            InputError: A row is outside the store.
        """
        import torch

        if not contract.mean or not contract.std:
            raise ContractError(
                "A band contract without mean and standard deviation was given; compute them on the training "
                "rows with `statistics(store, rows)` and keep them with `contract.with_statistics`."
            )
        normalise = _Normaliser(contract, self.contract, what=f"The packed store {self.folder}")
        chosen = self._checked(rows)
        batch = self._recycled((len(chosen), len(contract.names), *self.shape[2:]))
        piece = max(1, _PIECE_BYTES // max(self._row_bytes, 4 * batch[:1].size))

        def work(start: int, stop: int) -> None:
            buffer = self._buffer(piece)
            for first in range(start, stop, piece):
                part = chosen[first : min(first + piece, stop)]
                self._fill(buffer[: len(part)], part)
                normalise(buffer[: len(part)], batch[first : first + len(part)])

        # Own threads instead of torch's: those stall when another process wants the same cores.
        workers = _worker_count()
        share = -(-len(chosen) // workers)
        if share < piece:
            work(0, len(chosen))
        else:
            spans = [(start, min(start + share, len(chosen))) for start in range(share, len(chosen), share)]
            pending = [_threads().submit(work, *span) for span in spans]
            work(0, share)
            for future in pending:
                future.result()
        return torch.from_numpy(batch)

    def _recycled(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return an array in memory that gets free for the next batch when nothing refers to it any more."""
        size = math.prod(shape)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(0, np.float32)
        if memory.size < size:
            memory = np.empty(size, np.float32)
        batch = memory[:size].reshape(shape)
        # The tensor keeps exactly this array alive; views of the tensor keep the tensor's storage alive.
        weakref.finalize(batch, self._free.append, memory).atexit = False
        return batch

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def _checked(self, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        chosen = np.asarray(rows)
        if chosen.size == 0:
            return np.empty(0, np.int64)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise InputError(
                f"Rows must be a list of integers; given {chosen.dtype} of shape {chosen.shape}."
            )
        if chosen.min() < 0 or chosen.max() >= len(self):
            raise InputError(
                f"Rows {chosen.min()} to {chosen.max()} were asked for; the store {self.folder} has rows "
                f"0 to {len(self) - 1}."
            )
        return chosen.astype(np.int64, copy=False)

    def _buffer(self, rows: int) -> npt.NDArray[Any]:
        """Return this thread's room for a few images."""
        buffer: npt.NDArray[Any] | None = getattr(self._own, "buffer", None)
        if buffer is None or len(buffer) < rows:
            buffer = self._own.buffer = np.empty((rows, *self.shape[1:]), self.dtype)
        return buffer

    def _fill(self, images: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> None:
        """Copy rows into an array; several threads may at once."""
        if os.fstat(self._handle).st_size < self._size:
            # Touching a page behind the end of a mapped file would kill the process.
            raise SceneError(f"{self.folder / IMAGES} has been cut short; remove it and pack again.")
        # One copy of whole rows, without Python's lock, and with no temporary in between.
        np.take(self._mapped, rows, axis=0, out=images, mode="clip")
        if self._size > _RESIDENT_BYTES:
            self._touched += len(rows) * self._row_bytes
            if self._touched > _RESIDENT_BYTES:
                self._touched = 0
                self._map.madvise(mmap.MADV_DONTNEED)  # the system's cache keeps them if it has room


class _Normaliser:
    """Turns a piece of stored numbers into what a model sees."""

    def __init__(self, wanted: BandContract, stored: BandContract, what: str) -> None:
        self.order = wanted.order_of(stored.names, what=what)
        self.in_order = self.order == list(range(len(stored.names)))
        self.stored = stored
        # stored * scale + offset - mean, over std, is one multiplication and one addition.
        std = np.asarray(wanted.std)
        self.factor = (np.asarray(wanted.scale) / std).astype(np.float32)
        self.shift = ((np.asarray(wanted.offset) - np.asarray(wanted.mean)) / std).astype(np.float32)

    def __call__(self, images: npt.NDArray[Any], batch: npt.NDArray[np.float32]) -> None:
        if not self.in_order:
            images = images[:, self.order]
        batch[...] = images
        for band, (factor, shift) in enumerate(zip(self.factor, self.shift, strict=True)):
            values = batch[:, band]  # a band at a time: a scalar is much faster than broadcasting
            values *= factor
            values += shift
        if self.stored.nodata is not None:
            np.copyto(batch, 0, where=~self.stored.valid(images))


def _read_header(file: Any) -> tuple[tuple[int, int, int, int], np.dtype[Any], int]:
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"{IMAGES} has version {version}; expected (1, 0)")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if len(shape) != 4 or fortran or dtype.kind not in "uif":
        raise ValueError(f"{IMAGES} holds {dtype} of shape {shape}; expected (scenes, bands, height, width)")
    return shape, dtype, file.tell()


def _worker_count() -> int:
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


_pool: tuple[int, concurrent.futures.ThreadPoolExecutor] | None = None


def _threads() -> concurrent.futures.ThreadPoolExecutor:
    """Return this process's threads (a forked process starts its own)."""
    global _pool  # noqa: PLW0603 - one pool for the process
    if _pool is None or _pool[0] != os.getpid():
        _pool = (os.getpid(), concurrent.futures.ThreadPoolExecutor(_worker_count(), "swath-read"))
    return _pool[1]
