"""The label table that is made from the answers: what ``swath train`` reads."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from swath.errors import LabelError, OutputError
from swath.files import writing
from swath.labels import UNKNOWN, LabelTable, is_known
from swath.scenes.columns import IMAGE_COLUMNS
from swath.scenes.files import FileScenes
from swath.scenes.table import ABOUT_ANSWERS, CARRIED, LIST_COLUMNS, SINGLE_COLUMNS, SOURCE_COLUMNS
from swath.selection.labelling.answers import Answer, Mode
from swath.selection.labelling.session import Session

__all__ = ["FROM_DATA", "LabelFile", "check_classes", "label_rows"]

FROM_DATA: Final = "data"
"""The source of labels that the data set had before anybody answered."""


def check_classes(classes: Sequence[str], mode: Mode) -> None:
    """Check that a table can hold the classes under their names.

    Raises:
        LabelError: There is none, one comes twice, or a name would be read as something else.

    Example:
        >>> check_classes(["water", "forest"], "full")
        >>> try:
        ...     check_classes(["water", "city"], "full")
        ... except LabelError as error:
        ...     print(str(error).partition(";")[0])
        A column called 'city' is not read as a class
    """
    if not classes or any(not name or name != name.strip() or not name.isprintable() for name in classes):
        raise LabelError(
            f"The classes are {list(classes)}; expected names separated by commas, such as --classes water,forest"
        )
    twice = sorted({name for name in classes if list(classes).count(name) > 1})
    if twice:
        raise LabelError(f"Classes are named more than once: {', '.join(twice)}. Name each once.")
    listed = [name for name in classes if "|" in name]
    if listed:
        raise LabelError(f"The class {listed[0]!r} holds '|', which separates classes in tables. Rename it.")
    others = {*CARRIED, *IMAGE_COLUMNS, *LIST_COLUMNS, *SINGLE_COLUMNS, *SOURCE_COLUMNS}
    for name in classes if mode != "one-class" else ():
        if name.lower() in others or name.startswith(ABOUT_ANSWERS) or name.endswith((".score", ".source")):
            raise LabelError(
                f"A column called {name!r} is not read as a class; rename it, such as to '{name}_'."
            )


def label_rows(
    images: Sequence[str],
    data: LabelTable,
    carried: Mapping[str, npt.NDArray[Any]],
    answers: Mapping[int, Mapping[str, Answer]],
    mode: Mode,
    *,
    only_known: bool = False,
) -> pa.Table:
    """Return a table with one row for each scene and each person who spoke of it, and one for every other scene.

    Args:
        images: (scenes,) paths.
        data: What the data set knew before; its classes are the table's.
        carried: Columns that say something else about the scenes.
        answers: What people said, by position of the scene and person.
        mode: How the scenes were labelled; one class a scene becomes one column ``class``.
        only_known: Leave out scenes of which no label is known.

    Returns:
        The columns ``image``, ``source``, the labels, the carried ones, and ``answer.time``, ``answer.seconds``,
        ``answer.round``, ``answer.suggested`` (JSON).
    """
    given = [(position, said[user]) for position, said in answers.items() for user in sorted(said)]
    known = is_known(data.state).any(axis=1)
    rest = np.setdiff1d(np.arange(len(images)), np.fromiter(answers, np.int64, len(answers)))
    if only_known:
        given, rest = [entry for entry in given if entry[1].labels], rest[known[rest]]
    order = np.argsort([*(position for position, _ in given), *rest.tolist()], kind="stable")
    positions = np.array([*(position for position, _ in given), *rest.tolist()], np.int64)[order]
    state = np.full((len(given), len(data.classes)), UNKNOWN, np.int8)
    column_of = {name: column for column, name in enumerate(data.classes)}
    for row, (_, answer) in enumerate(given):
        for name, value in answer.labels.items():
            state[row, column_of[name]] = value
    state = np.concatenate([state, data.state[rest]])[order]
    nobody: list[None] = [None] * len(rest)

    def about(values: list[Any], kind: pa.DataType) -> pa.Array:
        return pa.array([*values, *nobody], kind).take(pa.array(order))

    sources = [answer.user for _, answer in given] + [FROM_DATA if known[row] else None for row in rest]
    columns: dict[str, Any] = {
        "image": pa.array([images[position] for position in positions], pa.string()),
        "source": pa.array(sources, pa.string()).take(pa.array(order)),
    }
    if mode == "one-class":
        present = state == 1
        names = np.array(data.classes, object)[present.argmax(axis=1)] if len(state) else np.array([], object)
        columns["class"] = pa.array(names, pa.string(), mask=~present.any(axis=1))
    else:
        for column, name in enumerate(data.classes):
            columns[name] = pa.array(state[:, column], pa.int8(), mask=~is_known(state[:, column]))
    columns |= {name: pa.array(np.asarray(values)[positions]) for name, values in carried.items()}
    columns[f"{ABOUT_ANSWERS}time"] = about([answer.at for _, answer in given], pa.string())
    columns[f"{ABOUT_ANSWERS}seconds"] = about([answer.seconds for _, answer in given], pa.float64())
    columns[f"{ABOUT_ANSWERS}round"] = about([answer.round for _, answer in given], pa.int32())
    columns[f"{ABOUT_ANSWERS}suggested"] = about(
        [
            None if answer.suggested is None else json.dumps(list(answer.suggested), ensure_ascii=False)
            for _, answer in given
        ],
        pa.string(),
    )
    return pa.table(columns)


@dataclass
class LabelFile:
    """The label table on disk, made anew from the answers whenever it is written.

    Args:
        path: The Parquet file.
        source: The data set.
        data: What is known of its scenes before anybody answered.
        session: Where the answers are.
    """

    path: Path
    source: FileScenes
    data: LabelTable
    session: Session
    _written: int = -1
    _known_images: dict[Path, list[str]] = field(default_factory=dict)

    def write(self) -> bool:
        """Write the table if there are answers that it lacks.

        Returns:
            Whether it was written.

        Raises:
            OutputError: It cannot be written.
        """
        changes = self.session.changes
        if changes == self._written or (self._written < 0 and not changes):
            return False
        self._keep_foreign()
        with writing(self.path) as temporary:
            self.write_to(temporary, self.path.parent)
            digest = _digest(temporary)
            # Before the table is in place: after a crash in between, the older one is still known as ours.
            self.session.note_table(digest)
        self.session.digests.add(digest)
        self._written = changes
        return True

    def write_to(self, path: Path, folder: Path, *, only_known: bool = False) -> None:
        """Write the answers as they stand to any file.

        Args:
            path: The file.
            folder: What the paths of images are relative to.
            only_known: Leave out scenes of which no label is known.
        """
        images, carried = self._images(folder), self._carried()
        rows = label_rows(
            images, self.data, carried, self.session.answers(), self.session.job.mode, only_known=only_known
        )
        pyarrow.parquet.write_table(rows, path)

    def known_scenes(self) -> npt.NDArray[np.bool_]:
        """Return of which scenes (scenes,) any label is known, now or from the data set."""
        known = np.asarray(is_known(self.data.state).any(axis=1))
        for position, said in self.session.answers().items():
            known[position] |= any(answer.labels for answer in said.values())
        return known

    def _images(self, folder: Path) -> list[str]:
        """Return the paths of all images from a folder; with many that takes a while, so it is done once."""
        if folder not in self._known_images:
            self._known_images[folder] = self._relative(folder)
        return self._known_images[folder]

    def _relative(self, folder: Path) -> list[str]:
        base = os.path.realpath(folder)
        # Folders are resolved, not files: a link to an image stays the name that people know.
        homes: dict[str, str] = {}
        found = []
        for position in range(len(self.source)):
            home, name = os.path.split(str(self.source.image_path(position)))
            if home not in homes:
                homes[home] = os.path.relpath(os.path.realpath(home), base)
            found.append(f"{homes[home]}/{name}".replace(os.sep, "/").removeprefix("./"))
        return found

    def _carried(self) -> dict[str, npt.NDArray[Any]]:
        columns = self.source.columns
        # Coordinates that stand in the images themselves are found there again.
        names = [name for name in columns if name in CARRIED and not self.source.is_lazy(name)]
        return {name: np.asarray(columns[name]) for name in names}

    def _keep_foreign(self) -> None:
        """Move a table away that was not written here: somebody's work, or one of another labelling."""
        if not self.path.exists() or _digest(self.path) in self.session.digests:
            return
        number = 1
        while (kept := self.path.with_name(f"{self.path.stem}.kept-{number}{self.path.suffix}")).exists():
            number += 1
        try:
            self.path.rename(kept)
        except OSError as error:
            raise OutputError(f"Cannot move {self.path} away: {error.strerror or error}.") from error
        self.session.tell(
            f"{self.path.name} was changed by somebody else since it was last written here. It is kept as "
            f"{kept.name}; the new one is made from the answers given on this page."
        )


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
