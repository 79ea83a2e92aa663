"""Packing: decoding every image of a source once into a store."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import hashlib
import io
import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import numpy.typing as npt
import rich.console
import rich.progress
from PIL import Image

from swath.errors import InputError, OutputError, SceneError, SwathError
from swath.files import new_folder, write_json
from swath.scenes.contract import BandContract
from swath.scenes.packed import FORMAT, IMAGES, RECORD, ROWS, PackedScenes, UnreadableScene
from swath.scenes.source import SceneSource

__all__ = ["cache_folder", "pack"]

# How many bytes of decoded images one thread works on before it hands them over.
_TASK_BYTES = 8 * 2**20


def cache_folder() -> Path:
    """Return where stores are kept: ``$SWATH_CACHE``, else ``swath`` in the user's cache folder."""
    own = os.environ.get("SWATH_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swath"


def pack(
    source: SceneSource,
    size: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    *,
    skip_unreadable: bool = False,
) -> PackedScenes:
    """Decode every image of a source once, resize it, and return the store.

    A store that is already there is used as it is if the source, the size and the format are the same, and is
    packed again otherwise. Eight-bit images are resized with a low-pass filter; images of other number types,
    or with nodata, by the mean of the valid pixels that a new pixel covers (a new pixel of which less than
    half is valid becomes nodata). Images that are not square become square.

    Args:
        source: Where the images come from. It is read from several threads.
        size: Height and width to store, in pixels; None keeps the images, which must then be of one size.
        folder: The store's folder; None for one in the cache, see :func:`cache_folder`.
        skip_unreadable: Leave out scenes that cannot be read or hold no data, and list them in the store.

    Returns:
        The store. Its ``kept`` says which rows of the source it holds.

    Raises:
        SceneError: Images cannot be read, hold NaN that is not declared as nodata or nothing but nodata, or
            differ in number type, bands or (with ``size=None``) size.
        OutputError: The folder cannot be written, is no store, or the disk has too little space.
        InputError: The size is not a positive number, or the source has no scenes.
    """
    if size is not None and (not isinstance(size, int | np.integer) or size < 1):
        raise InputError(f"A size of {size!r} pixels was given; expected a whole number above 0.")
    if len(source) == 0:
        raise InputError(f"{source.name} holds no scenes; there is nothing to pack.")
    key = _key(source, size)
    target = Path(folder) if folder is not None else cache_folder() / "packed" / key
    store = _open(target, key)
    if store is None:
        _check_replaceable(target)
        # Processes that want the same store take turns; the second finds the work of the first.
        with _turn(target):
            store = _open(target, key)
            if store is None:
                _remove_left_behind(target)
                with new_folder(target) as temporary:
                    _write(source, size, key, temporary, target, skip_unreadable)
                store = PackedScenes(target)
    if store.unreadable and not skip_unreadable:
        raise _unreadable_error(store.unreadable, len(source))
    store.contract = source.contract  # its classes may have changed since; the images did not
    return store


def _key(source: SceneSource, size: int | None) -> str:
    contract = source.contract.to_json()
    meaning = {name: contract[name] for name in ("names", "scale", "offset", "unit", "nodata", "gsd_m")}
    content = [FORMAT, source.fingerprint(), len(source), size, meaning]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def _open(target: Path, key: str) -> PackedScenes | None:
    try:
        store = PackedScenes(target)
    except SceneError:
        return None
    return store if store.key == key else None


def _check_replaceable(target: Path) -> None:
    if target.is_dir():
        foreign = sorted({path.name for path in target.iterdir()} - {IMAGES, ROWS, RECORD})
        if foreign:
            raise OutputError(
                f"The folder {target} is no packed store (it holds {foreign[0]!r}), and packing would "
                f"replace it. Name an empty or new folder."
            )
    elif target.exists():
        raise OutputError(f"{target} is a file; a packed store is a folder. Name an empty or new folder.")


@contextlib.contextmanager
def _turn(target: Path) -> Iterator[None]:
    """Hold the right to pack one store; the system ends it with the process, however that ends."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(target.parent / f".{target.name}.lock")
        lock.acquire()
    except OSError as error:
        raise OutputError(
            f"Cannot write the packed store {target}: {error.strerror or error}. Check permissions of "
            f"{target.parent}, or set SWATH_CACHE to a folder that can be written."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _remove_left_behind(target: Path) -> None:
    """Remove what killed packings of this store left; nobody else packs while the lock is held."""
    pattern = re.compile(re.escape(f".{target.name}-") + r"\w{8}")
    for path in target.parent.iterdir():
        if pattern.fullmatch(path.name) and {entry.name for entry in path.iterdir()} <= {
            IMAGES,
            ROWS,
            RECORD,
        }:
            shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class _Prepared:
    pixels: npt.NDArray[Any]
    digest: bytes
    height: int
    width: int
    read_bytes: int


def _write(
    source: SceneSource, size: int | None, key: str, temporary: Path, target: Path, skip_unreadable: bool
) -> None:
    layouts: Counter[tuple[int, str]] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    unreadable: list[UnreadableScene] = []
    kept: list[int] = []
    digests: list[bytes] = []
    first: npt.NDArray[Any] | None = None
    header = b""
    with open(temporary / IMAGES, "wb") as file:
        for row, scene in _progress(_prepared(source, size), len(source), source.name):
            if isinstance(scene, str):
                unreadable.append(UnreadableScene(row, source.describe(row), scene))
                continue
            layouts[(len(scene.pixels), scene.pixels.dtype.name)] += 1
            sizes[(scene.height, scene.width)] += 1
            if first is None:
                first = scene.pixels
                header = _header(len(source), first)
                _check_space(len(header) + len(source) * first.nbytes, target)
                file.write(header)
            # Once the packing has failed, the rest is only counted, for one message that says everything.
            failed = (unreadable and not skip_unreadable) or len(layouts) > 1
            if not failed and scene.pixels.shape == first.shape:
                kept.append(row)
                digests.append(scene.digest)
                file.write(scene.pixels.data)
        _check_alike(source, size, layouts, sizes)
        if first is None or (unreadable and not skip_unreadable):
            raise _unreadable_error(unreadable, len(source))
        final = _header(len(kept), first)
        if len(final) != len(header):  # NumPy leaves room for a number of any length
            raise SwathError(f"The header of {temporary / IMAGES} changed its length; please report this.")
        file.seek(0)
        file.write(final)
    np.savez(
        temporary / ROWS,
        kept=np.array(kept, np.int64),
        digests=np.frombuffer(b"".join(digests), np.uint8).reshape(len(kept), -1),
    )
    write_json(
        temporary / RECORD,
        {
            "format": FORMAT,
            "key": key,
            "source": source.name,
            "size": size,
            "contract": source.contract.to_json(),
            "unreadable": [asdict(scene) for scene in unreadable],
            "image_sizes": {f"{height}x{width}": count for (height, width), count in sizes.most_common()},
        },
    )


def _prepared(source: SceneSource, size: int | None) -> Iterator[tuple[int, _Prepared | str]]:
    """Yield each row with its image or with the reason why there is none, in order, decoded in parallel."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(8, workers)
    pending: collections.deque[tuple[range, concurrent.futures.Future[list[_Prepared | str]]]] = (
        collections.deque()
    )
    position, step = 0, 1
    with concurrent.futures.ThreadPoolExecutor(workers, "swath-pack") as threads:
        try:
            while position < len(source) or pending:
                # One scene alone at first, to learn how large they are; then a bounded number in flight.
                while position < len(source) and len(pending) < (1 if position == 0 else 2 * workers):
                    rows = range(position, min(position + step, len(source)))
                    pending.append((rows, threads.submit(_prepare, source, rows, size)))
                    position = rows.stop
                rows, future = pending.popleft()
                scenes = future.result()
                largest = max((scene.read_bytes for scene in scenes if not isinstance(scene, str)), default=0)
                if largest:
                    step = max(1, min(64, _TASK_BYTES // largest))
                yield from zip(rows, scenes, strict=True)
        finally:
            threads.shutdown(cancel_futures=True)


def _prepare(source: SceneSource, rows: range, size: int | None) -> list[_Prepared | str]:
    try:
        images: Sequence[npt.NDArray[Any]] = source.read_many(rows)
    except OSError:  # find out which, one by one
        return [_prepare_alone(source, row, size) for row in rows]
    return [_prepare_image(image, source.contract, size) for image in images]


def _prepare_alone(source: SceneSource, row: int, size: int | None) -> _Prepared | str:
    try:
        return _prepare_image(source.read(row), source.contract, size)
    except OSError as error:
        return str(error) or type(error).__name__


def _prepare_image(image: npt.NDArray[Any], contract: BandContract, size: int | None) -> _Prepared | str:
    image = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
    if image.ndim != 3 or image.dtype.kind not in "uif" or 0 in image.shape:
        return f"it holds {image.dtype} of shape {image.shape}; expected numbers, (bands, height, width)"
    if image.dtype.kind == "f":
        bad = ~np.isfinite(image)
        if contract.nodata is not None and math.isnan(contract.nodata):
            bad &= ~np.isnan(image)
        if bad.any():
            return f"{int(bad.sum())} of {bad.size} values are NaN or infinite, and no nodata value says so"
    valid = contract.valid(image)
    if not valid.any():
        return f"every pixel is nodata ({contract.nodata:g})"
    digest = hashlib.blake2b(f"{image.dtype.name}{image.shape}".encode(), digest_size=16)
    digest.update(image.data)
    _, height, width = image.shape
    pixels = (
        image if size is None or (height, width) == (size, size) else _resize(image, valid, contract, size)
    )
    return _Prepared(pixels, digest.digest(), height, width, image.nbytes)


def _resize(
    image: npt.NDArray[Any], valid: npt.NDArray[np.bool_], contract: BandContract, size: int
) -> npt.NDArray[Any]:
    shape = (size, size)
    complete = valid.all()
    if image.dtype == np.uint8 and complete:
        # Pillow's bilinear filter widens with the step, so fine detail is averaged instead of aliased.
        bands = [np.asarray(Image.fromarray(band).resize(shape, Image.Resampling.BILINEAR)) for band in image]
        return np.stack(bands)
    smaller = size <= min(image.shape[1:])
    how = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR

    def resized(band: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return np.asarray(Image.fromarray(band.astype(np.float32)).resize(shape, how))

    if complete:
        values = np.stack([resized(band) for band in image])
        return _as_stored(values, image.dtype)
    weight = np.stack([resized(band) for band in valid])
    values = np.stack([resized(band) for band in np.where(valid, image, 0)])
    values = _as_stored(values / np.maximum(weight, 1e-6), image.dtype)
    return np.where(weight >= 0.5, values, np.asarray(contract.nodata, image.dtype))


def _as_stored(values: npt.NDArray[np.floating[Any]], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values.astype(np.float64)), limits.min, limits.max).astype(dtype)


def _header(rows: int, first: npt.NDArray[Any]) -> bytes:
    content = io.BytesIO()
    description = {"descr": first.dtype.str, "fortran_order": False, "shape": (rows, *first.shape)}
    np.lib.format.write_array_header_1_0(content, description)
    return content.getvalue()


def _check_space(needed: int, target: Path) -> None:
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise OutputError(
            f"The packed store {target} needs {needed / 2**20:,.0f} MiB, and its disk has "
            f"{free / 2**20:,.0f} MiB free. Make room, choose a smaller size, or set SWATH_CACHE."
        )


def _check_alike(
    source: SceneSource,
    size: int | None,
    layouts: Counter[tuple[int, str]],
    sizes: Counter[tuple[int, int]],
) -> None:
    expected = len(source.contract.names)
    if len(layouts) > 1 or any(bands != expected for bands, _ in layouts):
        listed = ", ".join(
            f"{count} with {bands} bands of {dtype}" for (bands, dtype), count in layouts.most_common()
        )
        raise SceneError(
            f"The images of {source.name} must all have {expected} bands "
            f"({', '.join(source.contract.names)}) of one number type; found {listed}. "
            "Convert them, or keep the kinds apart."
        )
    if size is None and len(sizes) > 1:
        shown = [f"{count} of {height}x{width}" for (height, width), count in sizes.most_common(5)]
        more = f" and {len(sizes) - 5} other sizes" if len(sizes) > 5 else ""
        raise SceneError(
            f"The images of {source.name} have {len(sizes)} sizes: {', '.join(shown)}{more} "
            f"(height x width). Give a size (--size) to resize them to."
        )


def _unreadable_error(unreadable: Sequence[UnreadableScene], count: int) -> SceneError:
    first = unreadable[0]
    reason = first.reason if first.name in first.reason else f"{first.name}: {first.reason}"
    if len(unreadable) == count and count > 1:
        return SceneError(f"None of the {count} scenes can be read. The first: {reason}")
    more = f" {len(unreadable) - 1} more of {count} scenes cannot be read." if len(unreadable) > 1 else ""
    return SceneError(
        f"Cannot read a scene. {reason.rstrip('.')}.{more} Repair or remove them, or leave them out with "
        f"--skip-unreadable (skip_unreadable=True in Python)."
    )


def _progress(
    scenes: Iterator[tuple[int, _Prepared | str]], count: int, name: str
) -> Iterator[tuple[int, _Prepared | str]]:
    console = rich.console.Console(stderr=True)
    yield from rich.progress.track(
        scenes, f"Packing {name}", count, console=console, transient=True, disable=not console.is_terminal
    )
