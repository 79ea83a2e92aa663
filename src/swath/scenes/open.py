"""One function that opens scenes, whatever they are."""

from __future__ import annotations

import difflib
import glob
import os
import posixpath
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from swath.errors import InputError, SceneError, UnknownNameError
from swath.labels.states import UNKNOWN
from swath.labels.table import LabelTable
from swath.scenes.archive import Archive
from swath.scenes.files import FileScenes
from swath.scenes.folder import TABLE_SUFFIXES, Folder, Layout, class_folders, find_layout, is_image
from swath.scenes.images import IMAGE_SUFFIXES
from swath.scenes.source import SceneSource

__all__ = ["open_images", "open_scenes"]

TABLE_BYTES = 2**31
"""Largest table that is read."""


def open_scenes(
    where: str | os.PathLike[str] | SceneSource,
    *,
    image_column: str | None = None,
    label_columns: Sequence[str] | None = None,
    complete: bool = False,
    images: str | os.PathLike[str] | None = None,
    nodata: float | None = None,
    classes: Sequence[str] | None = None,
) -> SceneSource:
    """Open scenes with labels, and find out what kind of source they are.

    Args:
        where: One of

            - a folder with one folder per class (below ``train``, ``val`` and ``test`` if you have them);
            - a folder with one table, CSV or Parquet, and images beside it; or the table itself;
            - a zip archive of either;
            - ``"earth"`` or ``"earth:scenes=2000,size=64,seed=0"``, the synthetic Earth;
            - ``"torchgeo:NAME,root=FOLDER"``, a classification data set of TorchGeo;
            - a scene source, which is returned as it is.

            To open a folder that is itself called ``earth``, write ``./earth``.
        image_column: Column of image paths; if None, ``image``, ``path``, ``file`` or ``filename``.
        label_columns: Columns that hold labels; if None, all that are not known to be something else.
        complete: Whether a class that a ``|`` list of labels leaves out is absent. If False it is unknown.
        images: Folder that the table's paths are relative to; if None, the table's own.
        nodata: Number that marks pixels without data, instead of what the files say; NaN is allowed.
        classes: Classes of which nothing is known yet, for scenes that are to be labelled. What a folder's layout or
            a table says about labels is then not looked at: a folder without a table may hold images anywhere.

    Returns:
        The scenes. Images are opened when they are read, labels are there at once.

    Raises:
        SceneError: Nothing is there, an archive is refused, or no image can be read.
        InputError: It is none of the above; the message says what was found.
        LabelError: A value in the table is no label; the message names row, column and value.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("field", "water"):
        ...     (folder / name).mkdir()
        ...     Image.new("RGB", (8, 8)).save(folder / name / "a.png")
        >>> scenes = open_scenes(folder)
        >>> scenes.labels.classes, scenes.read(0).shape
        (('field', 'water'), (3, 8, 8))
    """
    if isinstance(where, SceneSource):
        return where
    name = os.fspath(where)
    kind, _, options = name.partition(":")
    if kind in ("earth", "torchgeo") and (":" in name or kind == name):
        given = {
            "image_column": image_column,
            "label_columns": label_columns,
            "images": images,
            "nodata": nodata,
            "classes": classes,
        }
        unused = [key for key, value in given.items() if value is not None] + ["complete"] * complete
        if unused:
            raise InputError(
                f"{name} takes no {' and no '.join(unused)}; these are for tables and image files."
            )
        return _earth(options) if kind == "earth" else _torchgeo(options)
    path = Path(name).expanduser()
    files, names, layout = _look(path)
    if layout.table is None:
        if image_column or label_columns or images or complete:
            raise InputError(
                f"{path} is a folder of class folders without a table; image_column, label_columns, images "
                f"and complete say how to read a table."
            )
        if classes is not None:
            return _unlabelled(files, [name for name in names if is_image(name)], classes, nodata)
        found = class_folders(names, layout.prefix, str(path))
        columns = {} if found.split is None else {"split": found.split}
        return FileScenes(files, found.images, found.labels, name=files.name, columns=columns, nodata=nodata)

    from swath.scenes.table import read_table

    where_table = files.where(layout.table)
    with files.open(layout.table) as file:
        content = file.read(TABLE_BYTES + 1)
    if len(content) > TABLE_BYTES:
        raise InputError(
            f"{where_table} is larger than {TABLE_BYTES} bytes. Split it into several data sets."
        )
    table = read_table(
        content,
        where_table,
        image_column=image_column,
        label_columns=label_columns,
        complete=complete,
        classes=classes,
    )
    name, beside = files.name, posixpath.dirname(layout.table)
    if isinstance(files, Archive):
        members = _inside(table.images, posixpath.join(beside, os.fspath(images or "")), where_table)
    else:
        files = Folder(files.root / beside if images is None else Path(images).expanduser())
        members = table.images
    return FileScenes(files, members, table.labels, name=name, columns=table.columns, nodata=nodata)


def open_images(
    where: Sequence[str | os.PathLike[str]],
    classes: Sequence[str],
    *,
    exclusive: bool = False,
    nodata: float | None = None,
) -> SceneSource:
    """Open images of which nothing is known, to predict what is in them.

    Args:
        where: Image files, folders (all images below them), and patterns with ``*`` and ``?``, which stand
            for the files they match.
        classes: Classes to be predicted; all labels are unknown.
        exclusive: Whether the classes exclude each other.
        nodata: Number that marks pixels without data, instead of what the files say.

    Returns:
        The scenes in the order given; the images of a folder or pattern sorted by name.

    Raises:
        SceneError: A file or folder does not exist, or no image can be read.
        InputError: A folder or pattern holds no image.
    """
    members: list[str] = []
    for item in where:
        path = Path(item).expanduser().absolute()
        if path.is_dir():
            found = [str(path / name) for name in Folder(path).names() if is_image(name)]
        elif path.exists():
            found = [str(path)]
        elif glob.has_magic(str(path)):
            found = sorted(name for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
        else:
            raise _missing(path)
        if not found:
            raise InputError(
                f"{item} holds no image ({', '.join(IMAGE_SUFFIXES)}). Give image files or a folder."
            )
        members += found
    members = list(dict.fromkeys(members))
    state = np.full((len(members), len(classes)), UNKNOWN, np.int8)
    labels = LabelTable(tuple(classes), state, exclusive=exclusive)
    return FileScenes(Folder(Path.cwd()), members, labels, name="images", nodata=nodata)


def _unlabelled(
    files: Folder | Archive, members: list[str], classes: Sequence[str], nodata: float | None
) -> SceneSource:
    if not members:
        raise InputError(
            f"{files.name} holds no image ({', '.join(IMAGE_SUFFIXES)}). Give a folder of images or a table of them."
        )
    state = np.full((len(members), len(classes)), UNKNOWN, np.int8)
    return FileScenes(files, members, LabelTable(tuple(classes), state), name=files.name, nodata=nodata)


def _look(path: Path) -> tuple[Folder | Archive, list[str], Layout]:
    """Return the files at a path, their names and how they are laid out."""
    if path.is_dir():
        folder = Folder(path)
        names = folder.names()
        return folder, names, find_layout(names, str(path))
    if not path.exists():
        raise _missing(path)
    if path.name.lower().endswith(TABLE_SUFFIXES) and path.is_file():
        return Folder(path.parent), [], Layout("", path.name)
    if path.is_file() and zipfile.is_zipfile(path):
        archive = Archive(path)
        names = archive.names()
        return archive, names, find_layout(names, str(path))
    raise InputError(
        f"{path} is neither a folder, nor a table ({', '.join(TABLE_SUFFIXES)}), nor a whole zip archive. If it "
        f"should be one, copy or download it again. Archives of other kinds: unpack them and give the folder. A "
        f"single image has no labels: give a folder or a table."
    )


def _missing(path: Path) -> SceneError:
    beside = [] if not path.parent.is_dir() else [other.name for other in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, beside, n=1)
    hint = f" Did you mean {path.parent / near[0]}?" if near else " Check the path."
    return SceneError(f"There is no file or folder {path}.{hint}")


def _inside(images: Sequence[str], base: str, where: str) -> list[str]:
    """Return names inside an archive; none may lead out of it."""
    members = []
    for image in images:
        member = posixpath.normpath(posixpath.join(base, image))
        if member.startswith(("/", "../")) or image.startswith("/"):
            raise InputError(
                f"{where} names the image {image!r}, which lies outside the archive. Paths are relative to "
                f"the table's folder."
            )
        members.append(member)
    return members


def _options(text: str) -> dict[str, str]:
    """Split ``key=value,key=value``."""
    options: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or key in options:
            problem = "is given twice" if equals else "has no value"
            raise InputError(
                f"The option {key!r} {problem} in {text!r}. Write options as key=value,key=value."
            )
        options[key.strip()] = value.strip()
    return options


def _earth(text: str) -> SceneSource:
    from swath.scenes.earth import SyntheticEarth

    options = _options(text)
    known = ("scenes", "size", "seed")
    for key, value in options.items():
        if key not in known:
            raise UnknownNameError("option of the synthetic Earth", key, known)
        if not value.removeprefix("-").isdecimal():
            raise InputError(f"The option {key} of the synthetic Earth is a whole number; given {value!r}.")
    return SyntheticEarth(**{key: int(value) for key, value in options.items()})  # type: ignore[arg-type]


def _torchgeo(text: str) -> SceneSource:
    from swath.scenes.torchgeo import open_torchgeo

    name, _, options = text.partition(",")
    return open_torchgeo(name.strip(), _options(options))
