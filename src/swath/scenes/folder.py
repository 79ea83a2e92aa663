"""A folder of files, and what its layout says: one folder per class, or a table with images beside it."""

from __future__ import annotations

import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Protocol

import numpy as np
import numpy.typing as npt

from swath.errors import InputError, SceneError
from swath.labels.table import LabelTable
from swath.scenes.images import IMAGE_SUFFIXES

__all__ = ["ClassFolders", "Files", "Folder", "Layout", "class_folders", "find_layout", "is_image"]

TABLE_SUFFIXES: Final = (".csv", ".tsv", ".parquet", ".pq")
SPLITS: Final = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
# Left by other programs beside images; they say nothing about the scenes.
_COMPANIONS: Final = (".xml", ".ovr", ".msk", ".tfw", ".jgw", ".pgw", ".wld", ".prj", ".db", ".ini")


class Files(Protocol):
    """Files that belong together, in a folder or an archive; names are relative, with ``/``."""

    name: str

    def names(self) -> Sequence[str]:
        """Return the names of all files, and of folders with a ``/`` at the end, in sorted order."""

    def open(self, name: str) -> BinaryIO:
        """Open one file for reading; it can be sought in. Safe from several threads at once."""

    def path(self, name: str) -> Path | None:
        """Return the file's own path, if it has one."""

    def where(self, name: str) -> str:
        """Return how to call the file in messages."""

    def stamps(self, names: Sequence[str]) -> Iterable[object]:
        """Return a value for each file that changes whenever its content may have changed."""


class Folder:
    """The files below a folder.

    Args:
        root: The folder. Names are relative to it; an absolute name stands for itself.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.name = root.absolute().name

    def names(self) -> list[str]:
        """Return files and folders below the root; hidden ones are left out, links are followed once."""
        found, seen = [], set()
        for folder, folders, files in os.walk(self.root, followlinks=True, onerror=self._unreadable):
            known = os.stat(folder)
            if (known.st_dev, known.st_ino) in seen:  # a link that leads back up
                folders.clear()
                continue
            seen.add((known.st_dev, known.st_ino))
            folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
            base = Path(folder).relative_to(self.root).as_posix()
            prefix = "" if base == "." else f"{base}/"
            found += [f"{prefix}{name}" for name in files if not name.startswith(".")]
            found += [f"{prefix}{name}/" for name in folders]
        return sorted(found)

    def open(self, name: str) -> BinaryIO:
        """Open one file; see :class:`Files`."""
        path = self.path(name)
        try:
            # Opening a pipe would wait for ever, and a device may never end.
            if not stat.S_ISREG(path.stat().st_mode):
                raise SceneError(f"{path} is not a regular file. Give the path of an image file.")
            return path.open("rb")
        except SceneError:
            raise
        except (OSError, ValueError) as error:
            problem = (
                "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be opened: {error}"
            )
            raise SceneError(
                f"{path} {problem}. Correct its name in the table or put the file there."
            ) from error

    def path(self, name: str) -> Path:
        """Return the file's path."""
        return self.root / name

    def where(self, name: str) -> str:
        """Return the file's path as text."""
        return str(self.path(name))

    def stamps(self, names: Sequence[str]) -> Iterable[tuple[str, int, int]]:
        """Yield name, size and time of change of each file; sizes of missing files are -1."""
        for name in names:
            try:
                known = os.stat(f"{self.root}/{name}" if not name.startswith("/") else name)
                yield name, known.st_size, known.st_mtime_ns
            except (OSError, ValueError):
                yield name, -1, -1

    def _unreadable(self, error: OSError) -> None:
        raise SceneError(f"The folder {error.filename} cannot be read: {error.strerror}.") from error


@dataclass(frozen=True)
class Layout:
    """Where the scenes stand among files.

    Args:
        prefix: Folder that holds everything, empty or ending with ``/``.
        table: Name of the one table, or None for a folder of class folders.
    """

    prefix: str
    table: str | None


@dataclass(frozen=True)
class ClassFolders:
    """Scenes in one folder per class.

    Args:
        images: Names of the image files.
        labels: The single-label table.
        split: (scenes,) ``"train"``, ``"val"`` or ``"test"`` if such folders stand above the classes, else
            None.
    """

    images: list[str]
    labels: LabelTable
    split: npt.NDArray[np.str_] | None


def find_layout(names: Sequence[str], where: str) -> Layout:
    """Find out whether files are a table with images or class folders, below any single top folders.

    Raises:
        InputError: There are several tables.
    """
    prefix = ""
    while True:
        inside = [name[len(prefix) :] for name in names if name.startswith(prefix) and name != prefix]
        here = [name for name in inside if "/" not in name]
        tables = [name for name in here if name.lower().endswith(TABLE_SUFFIXES)]
        folders = {name.split("/", 1)[0] for name in inside if "/" in name}
        if len(tables) > 1:
            raise InputError(
                f"{where} holds {len(tables)} tables ({', '.join(tables[:5])}), and only one can say what "
                f"the scenes are. Give the path of that table, or keep one in the folder."
            )
        if tables:
            return Layout(prefix, prefix + tables[0])
        only = next(iter(folders), "") + "/"
        # A single folder is unwrapped only if something other than images stands in it: else it is a class.
        deeper = any("/" in name[len(only) :] or name.lower().endswith(TABLE_SUFFIXES) for name in inside)
        if len(folders) != 1 or not deeper or any(is_image(name) for name in here):
            return Layout(prefix, None)
        prefix += only


def class_folders(names: Sequence[str], prefix: str, where: str) -> ClassFolders:
    """Read labels from folders: each folder is a class, each image in it one scene.

    Args:
        names: All file names.
        prefix: Folder that holds the class folders.
        where: How to call it in messages.

    Returns:
        Scenes in the order of their names.

    Raises:
        InputError: There are no class folders, or images lie beside or deeper than them.
    """
    inside = [name[len(prefix) :] for name in names if name.startswith(prefix) and name != prefix]
    folders = {name.rstrip("/") for name in inside if name.endswith("/")}
    images = [PurePosixPath(name) for name in inside if is_image(name)]
    tops = {path.parts[0] for path in images if len(path.parts) > 1}
    with_split = (
        bool(tops) and all(top.lower() in SPLITS for top in tops) and all(len(p.parts) == 3 for p in images)
    )
    depth = 3 if with_split else 2
    wrong = [path for path in images if len(path.parts) != depth]
    if not images or wrong:
        found = (
            f"{len(wrong)} images lie elsewhere, such as {prefix}{wrong[0]}"
            if wrong
            else "there are no images"
        )
        raise InputError(
            f"{where} has no table (CSV or Parquet) and is not a folder of class folders with the images "
            f"directly in them: {found}. Put each image into the folder of its class "
            f"({', '.join(IMAGE_SUFFIXES)}), or add a table with one row per image."
        )
    class_of = [path.parts[-2] for path in images]
    classes, index = np.unique(class_of, return_inverse=True)
    _say_what_is_left_out(inside, folders, set(class_of), depth, where)
    split = np.array([SPLITS[path.parts[0].lower()] for path in images]) if with_split else None
    labels = LabelTable.from_class_index([str(name) for name in classes], index)
    return ClassFolders([f"{prefix}{path}" for path in images], labels, split)


def _say_what_is_left_out(
    names: Sequence[str], folders: set[str], classes: set[str], depth: int, where: str
) -> None:
    """Warn of files that are no images and of folders that are empty: nothing is left out in silence."""
    others = [
        name
        for name in names
        if not name.endswith("/") and "/" in name and not name.lower().endswith(IMAGE_SUFFIXES + _COMPANIONS)
    ]
    if others:
        kinds = Counter(PurePosixPath(name).suffix or "no suffix" for name in others)
        counted = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common(5))
        warnings.warn(
            f"{where}: {len(others)} files are not images by their names and are left out ({counted}), such "
            f"as {others[0]}.",
            stacklevel=4,
        )
    empty = sorted(
        name for name in folders if name.count("/") == depth - 2 and Path(name).name not in classes
    )
    if empty:
        warnings.warn(
            f"{where}: {len(empty)} folders hold no image and are no classes: {', '.join(empty[:5])}.",
            stacklevel=4,
        )


def is_image(name: str) -> bool:
    """Whether a file is called like an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)
