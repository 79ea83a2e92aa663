"""A short text that stands for a scene's files, so that it is noticed when they change."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from rasterio.windows import Window

from swath.errors import SceneError
from swath.mapping.header import Source, look
from swath.mapping.virtual import VirtualFile
from swath.scenes.geotiff import RASTER_ERRORS, opened
from swath.scenes.remote import RemoteFile

__all__ = ["file_fingerprint", "file_samples"]

WHOLE_BYTES: Final = 2**28
"""Files up to this size are known by all their bytes; of larger ones the time of change and samples are taken."""

_SAMPLE: Final = 2**16


def file_fingerprint(sources: Sequence[Source]) -> str:
    """Return a hash of files' content: all of it, or for very large files samples and the time of change.

    Of a virtual raster the files it is made of count, too. Of a file on a server the header counts, the place and size
    of up to 1024 blocks, and the pixels of up to 16.

    Raises:
        SceneError: A file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for source in sources:
        if isinstance(source, RemoteFile):
            _add_remote(digest, source)
            continue
        _add_local(digest, source.path if isinstance(source, VirtualFile) else source)
        for part in source.checked()[1] if isinstance(source, VirtualFile) else ():
            _add_local(digest, part)
    return digest.hexdigest()


def file_samples(sources: Sequence[Source]) -> str:
    """Return a hash of files' sizes and of a few samples: whether another machine sees the same files.

    Files on a server are the same from everywhere.

    Raises:
        SceneError: A file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for source in sources:
        if isinstance(source, RemoteFile):
            digest.update(source.address.encode())
            continue
        for path in (source.path, *source.checked()[1]) if isinstance(source, VirtualFile) else (source,):
            try:
                with path.open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    digest.update(size.to_bytes(8, "little"))
                    for place in np.linspace(0, max(0, size - _SAMPLE), 16).astype(np.int64).tolist():
                        file.seek(place)
                        digest.update(file.read(_SAMPLE))
            except OSError as error:
                raise SceneError(f"{path} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()


def _add_local(digest: Any, path: Path) -> None:
    try:
        with path.open("rb") as file:
            known = os.fstat(file.fileno())
            digest.update(known.st_size.to_bytes(8, "little"))
            if known.st_size <= WHOLE_BYTES:
                digest.update(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest())
                return
            digest.update(known.st_mtime_ns.to_bytes(8, "little"))
            for place in np.linspace(0, known.st_size - _SAMPLE, 256).astype(np.int64).tolist():
                file.seek(place)
                digest.update(file.read(_SAMPLE))
    except OSError as error:
        raise SceneError(f"{path} cannot be read: {error.strerror or error}.") from error


def _add_remote(digest: Any, source: RemoteFile) -> None:
    file = look(source, "none")
    with opened(source, file.driver, str(source), whole=False) as raster:
        height, width = raster.block_shapes[0]
        whole = Window(0, 0, raster.width, raster.height)
        across, down = -(-raster.width // width), -(-raster.height // height)
        digest.update(repr((str(source), raster.profile, raster.tags(), raster.descriptions)).encode())
        try:
            for number in np.unique(np.linspace(0, across * down - 1, 1024).astype(np.int64)).tolist():
                row, column = divmod(number, across)
                for what in ("OFFSET", "SIZE"):
                    said = raster.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=1)
                    digest.update(str(said).encode())
            for number in np.unique(np.linspace(0, across * down - 1, 16).astype(np.int64)).tolist():
                row, column = divmod(number, across)
                block = Window(column * width, row * height, width, height)
                digest.update(raster.read(window=block.intersection(whole)).tobytes())
        except RASTER_ERRORS as error:
            raise SceneError(
                f"{source} cannot be read from its server: {error}. Try again, or download it."
            ) from error
