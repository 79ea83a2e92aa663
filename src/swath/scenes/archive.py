"""A zip archive whose files are read in place: nothing of it is ever written to disk."""

from __future__ import annotations

import io
import os
import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Final, cast

from swath.errors import SceneError

__all__ = ["Archive"]

MEMBER_LIMIT: Final = 1_000_000
"""Most files in an archive."""
TOTAL_LIMIT: Final = 2**40
"""Most bytes of all files together, unpacked."""
FILE_LIMIT: Final = 4 * 2**30
"""Most bytes of one file, unpacked."""
RATIO_LIMIT: Final = 500
"""Most times that a file larger than 1 MiB may grow when it is unpacked; images stay far below."""

_REMEDY: Final = "Unpack it yourself after a look at where it comes from, and give the folder."


class Archive:
    """The files in a zip archive.

    Every member is checked once, from the archive's directory, before anything is unpacked. Then members are
    read one at a time into memory, never beyond the size that the directory states.

    Args:
        path: The archive.

    Raises:
        SceneError: It is damaged or encrypted, holds links, devices, names that lead outside or that differ
            only by case, or would grow beyond the limits.
    """

    def __init__(self, path: Path) -> None:
        self.file = path.absolute()
        self.name = path.stem
        self._local = threading.local()
        declared = _declared_members(self.file)
        if declared > MEMBER_LIMIT:
            raise self._refused(f"holds {declared} files; at most {MEMBER_LIMIT} are read")
        members = self._handle().infolist()
        if len(members) > MEMBER_LIMIT:
            raise self._refused(f"holds {len(members)} files; at most {MEMBER_LIMIT} are read")
        self._check(members)
        self._members = {member.filename: member for member in members}

    def names(self) -> list[str]:
        """Return files, and folders with a ``/`` at the end; hidden ones are left out."""
        shown = {name for name in self._members if not _hidden(name)}
        folder = {name.rpartition("/")[0] for name in shown}
        while folder := {name for name in folder if name}:
            shown |= {f"{name}/" for name in folder}
            folder = {name.rpartition("/")[0] for name in folder}
        return sorted(shown)

    def open(self, name: str) -> BinaryIO:
        """Open one file; see :class:`swath.scenes.folder.Files`."""
        member = self._members.get(name)
        if member is None:
            raise SceneError(
                f"{self.where(name)} does not exist. Correct its name in the table or add the file."
            )
        try:
            return io.BytesIO(self._handle().read(member))
        except (
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,
            RuntimeError,
            OSError,
            EOFError,
        ) as error:
            raise SceneError(
                f"{self.where(name)} cannot be unpacked: {error}. Make the archive again, or leave it out."
            ) from error

    def path(self, name: str) -> None:
        """Return None: the files of an archive have no path of their own."""

    def where(self, name: str) -> str:
        """Return archive and file as text."""
        return f"{self.file}:{name}"

    def stamps(self, names: Sequence[str]) -> Iterable[object]:
        """Yield the archive's size and time of change, then name, size and checksum of each file."""
        known = self.file.stat()
        yield known.st_size, known.st_mtime_ns
        for name in names:
            member = self._members.get(name)
            yield (name, member.file_size, member.CRC) if member else (name, -1)

    def _handle(self) -> zipfile.ZipFile:
        # One handle per thread and process: a position in a file that a fork shares would be moved by both.
        if getattr(self._local, "process", None) != os.getpid():
            try:
                self._local.handle = zipfile.ZipFile(self.file)
            except (zipfile.BadZipFile, OSError, struct.error, ValueError, NotImplementedError) as error:
                raise SceneError(
                    f"{self.file} cannot be read as a zip archive: {error}. Copy or download it again."
                ) from error
            self._local.process = os.getpid()
        return cast(zipfile.ZipFile, self._local.handle)

    def _check(self, members: Sequence[zipfile.ZipInfo]) -> None:
        total, folded = 0, dict[str, str]()
        for member in members:
            # orig_filename is what the archive says, before zipfile cuts it at a NUL.
            name = member.orig_filename.replace("\\", "/")
            kind = stat.S_IFMT(member.external_attr >> 16)
            if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":" or "\0" in name:
                raise self._refused(f"holds {name!r}, a name that leads outside the archive")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                what = "a link" if kind == stat.S_IFLNK else "a device or another special file"
                raise self._refused(f"holds {name!r}, which is {what}")
            if member.flag_bits & 0x1:
                raise self._refused(f"is encrypted ({name!r})")
            size = member.file_size
            if size > FILE_LIMIT or (size > 2**20 and size > RATIO_LIMIT * max(member.compress_size, 1)):
                raise self._refused(
                    f"holds {name!r}, whose {member.compress_size} bytes would unpack to {size} (at most "
                    f"{RATIO_LIMIT} times as much and {FILE_LIMIT} bytes are read)"
                )
            other = folded.setdefault(name.casefold(), name)
            if other is not name:
                raise self._refused(f"holds {other!r} and {name!r}, which many systems take for one file")
            total += size
        if total > TOTAL_LIMIT:
            raise self._refused(f"would unpack to {total} bytes; at most {TOTAL_LIMIT} are read")

    def _refused(self, reason: str) -> SceneError:
        return SceneError(f"The archive {self.file} is refused: it {reason}. {_REMEDY}")


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _declared_members(path: Path) -> int:
    """Return how many files an archive's end record declares, without reading its directory.

    zipfile makes an object of every entry of the directory, which a million entries would turn into
    gigabytes.
    """
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - (2**16 + 22 + 20 + 56)))
            tail = file.read()
    except OSError as error:
        raise SceneError(f"{path} cannot be opened: {error.strerror}.") from error
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        return 0  # zipfile says what is wrong
    (count,) = struct.unpack_from("<H", tail, at + 10)
    if count == 0xFFFF:  # the true number stands in the record for large archives
        at = tail.rfind(b"PK\x06\x06", 0, at)
        if at >= 0 and len(tail) >= at + 56:
            (count,) = struct.unpack_from("<Q", tail, at + 32)
    return int(count)
