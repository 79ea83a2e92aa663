"""Writing files so that nothing at a final path is ever partial."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swath.errors import OutputError, SwathError

__all__ = ["append_line", "new_folder", "write_json", "write_text", "writing"]


@contextlib.contextmanager
def writing(target: str | os.PathLike[str], *, folder: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that becomes ``target`` when the block succeeds.

    The temporary file is fsynced and moved into place in one step; when the block raises, it is removed and
    an older ``target`` stays as it was.

    Args:
        target: The final path. Its folder is made if it is missing.
        folder: Where the temporary file is, on the same disk, if not beside ``target``: a killed process leaves
            it behind.

    Yields:
        The path to write to, with the same suffix.

    Raises:
        OutputError: The folder cannot be written, or the disk is full.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
        >>> with writing(path) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> path.read_text()
        'whole'
    """
    target = Path(target)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.stem}-", suffix=target.suffix, dir=folder or target.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _sync(temporary)
        # mkstemp makes files that only the owner reads; results are to be shared like any other file.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
        _sync(target.parent)
    except SwathError:
        raise
    except OSError as error:
        raise OutputError(
            f"Cannot write {target}: {error.strerror or error}. Check free space and permissions of "
            f"{target.parent}; what was there before is unchanged."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``target`` that becomes ``target`` when the block succeeds.

    An existing ``target`` is replaced. A killed process leaves at most a hidden folder, never a partial target.

    Args:
        target: The final folder.

    Yields:
        The folder to fill.

    Raises:
        OutputError: The folder cannot be written, or the disk is full.
    """
    target = Path(target)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                _sync(path)
        temporary.chmod(0o777 & ~_umask())
        if target.exists():
            shutil.rmtree(target)
        temporary.replace(target)
        _sync(target.parent)
    except SwathError:
        raise
    except OSError as error:
        raise OutputError(
            f"Cannot write the folder {target}: {error.strerror or error}. Check free space and permissions of "
            f"{target.parent}."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write a text file whole or not at all."""
    with writing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: str | os.PathLike[str], content: Any) -> None:
    """Write strict JSON (no NaN: unknown figures are null) whole or not at all."""
    write_text(target, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def append_line(target: str | os.PathLike[str], line: str) -> None:
    """Append one line and fsync it; a line is on disk before the call returns."""
    try:
        with open(target, "a", encoding="utf-8") as file:
            file.write(line.rstrip("\n") + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"Cannot append to {target}: {error.strerror or error}.") from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
