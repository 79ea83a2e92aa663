"""Reading a table of images and labels: CSV or Parquet, one row per scene, or one per scene and source.

A table has a column of image paths and says what is known in one of three ways:

- one column per class with ``1`` (present), ``0`` (absent) or nothing (unknown);
- one column ``labels`` with the present classes, separated by ``|``; what is not listed is unknown, unless
  the lists are said to be complete;
- one column ``class`` or ``label`` with one class, which then excludes the others.

Beside a column per class there may be ``<class>.confidence`` (0 to 1) and ``<class>.source`` (who said it). Beside
any of the three there may be ``<class>.score`` for every class (how much another model believes in it).

With a column ``source`` or ``annotator`` an image may stand in several rows, one for each source that labelled it.
The table's labels are then what they agree on, see :func:`swath.labels.consensus`, and its votes what each said.
Columns named in :data:`CARRIED` are not labels; they travel with the scenes. Columns whose name starts with
:data:`ABOUT_ANSWERS` say how a label came about (when, how long it took ...); they are for people and not read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swath.errors import InputError, LabelError, UnknownNameError
from swath.labels.states import ABSENT, PRESENT, UNKNOWN, is_known
from swath.labels.table import LabelTable
from swath.scenes.columns import TableColumns, natural
from swath.scenes.rows import SceneRows

__all__ = ["ABOUT_ANSWERS", "CARRIED", "SceneTable", "read_table"]

LIST_COLUMNS: Final = ("labels", "classes")
SINGLE_COLUMNS: Final = ("class", "label")
SOURCE_COLUMNS: Final = ("source", "annotator")
CARRIED: Final = frozenset(
    {
        "split",
        "fold",
        "group",
        "domain",
        "context",
        "scene",
        "id",
        "x",
        "y",
        "lon",
        "lat",
        "crs",
        "date",
        "time",
        "year",
        "month",
        "season",
        "sensor",
        "city",
        "region",
        "country",
    }
)
"""Columns that say something else about a scene than its labels, whatever stands in them."""
ABOUT_ANSWERS: Final = "answer."
_NUMBERS: Final = ("x", "y", "lon", "lat")


@dataclass(frozen=True)
class SceneTable:
    """What a table says, one row per scene.

    Args:
        images: Image paths as they stand in the table, with ``/``.
        labels: The labels.
        columns: The other columns; ``x``, ``y``, ``lon`` and ``lat`` as numbers, the rest as text.
    """

    images: list[str]
    labels: LabelTable
    columns: dict[str, npt.NDArray[Any]]


def read_table(
    content: bytes,
    where: str,
    *,
    image_column: str | None = None,
    label_columns: Sequence[str] | None = None,
    complete: bool = False,
    classes: Sequence[str] | None = None,
) -> SceneTable:
    r"""Read a table of images and labels.

    Args:
        content: The whole file: Parquet, or CSV in UTF-8 with commas, semicolons or tabs.
        where: Its path, for messages.
        image_column: Column of image paths; if None, the one named ``image``, ``path``, ``file`` or
            ``filename``.
        label_columns: Columns that hold labels; if None, they are found as the module says. All others are
            carried along.
        complete: Whether a class that a list of labels leaves out is absent instead of unknown.
        classes: Classes of which nothing is known yet; the table's labels are then not looked at.

    Returns:
        Images, labels and other columns, in the order of the rows.

    Raises:
        InputError: The table is empty, is not a table, lacks a column or names an image twice or not at all.
        LabelError: A value is no label; the message names row, column and value.

    Example:
        >>> table = read_table(b"image,water,forest\na.tif,1,\nb.tif,0,1\n", "labels.csv")
        >>> table.labels.state.tolist()
        [[1, -1], [0, 1]]
    """
    table = TableColumns(content, where)
    image = table.image_column(image_column)
    source = _source_column(table, image, label_columns or ())
    rows = SceneRows(table, image, source)
    others = [
        name for name in table.names if name not in (image, source) and not name.startswith(ABOUT_ANSWERS)
    ]
    if classes is not None:
        unknown = LabelTable(tuple(classes), np.full((len(rows.images), len(classes)), UNKNOWN, np.int8))
        kept = [name for name in others if name.lower() in CARRIED]
        return SceneTable(rows.images, unknown, _carried(table, rows, kept))
    labels, used = _labels(table, others, label_columns, complete)
    if source is not None and labels.source is not None:
        raise LabelError(
            f"{where} says who gave the labels in the column {source!r} and in columns such as "
            f"'{labels.classes[0]}.source'. Keep one of the two."
        )
    labels = rows.by_scene(labels)
    used |= {name for name in others if _score_of(name, labels.classes)}
    labels = dataclasses.replace(labels, scores=_scores(table, rows, labels.classes))
    return SceneTable(
        rows.images, labels, _carried(table, rows, [name for name in others if name not in used])
    )


def _carried(table: TableColumns, rows: SceneRows, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Return columns that are not labels, one value per scene."""
    keys = {name.lower() if name.lower() in CARRIED else name: name for name in names}
    return {
        key: (table.numbers(name) if key in _NUMBERS else np.array(table.text(name).to_pylist(), str))[
            rows.pick(name)
        ]
        for key, name in keys.items()
    }


def _source_column(table: TableColumns, image: str, chosen: Sequence[str]) -> str | None:
    found = [
        name
        for name in table.names
        if name.lower() in SOURCE_COLUMNS and name != image and name not in chosen
    ]
    if len(found) > 1:
        raise LabelError(
            f"{table.where} has the columns {' and '.join(map(repr, found))}; only one can say who labelled. Rename "
            f"the other."
        )
    return found[0] if found else None


def _labels(
    table: TableColumns, others: Sequence[str], chosen: Sequence[str] | None, complete: bool
) -> tuple[LabelTable, set[str]]:
    """Return the labels and the names of the columns that they were read from."""
    if chosen is not None:
        for name in chosen:
            if name not in others:
                raise UnknownNameError(f"label column in {table.where}", name, others)
        candidates = list(chosen)
        texts = candidates if len(candidates) == 1 and not table.is_states(candidates[0]) else []
    else:
        candidates = [name for name in others if name.lower() not in CARRIED]
        texts = [name for name in candidates if name.lower() in (*LIST_COLUMNS, *SINGLE_COLUMNS)]
        companions = {name for name in candidates if _companion_of(name, candidates)}
        companions |= {name for name in candidates if name.endswith(".score")}
        states = [name for name in candidates if name not in texts and name not in companions]
        if len(texts) > 1 or (texts and any(table.is_states(name) for name in states)):
            raise LabelError(
                f"{table.where} has a column {texts[0]!r} and also "
                f"{', '.join(map(repr, (texts[1:] or states)[:5]))}, "
                f"so it is not clear where the labels are. Name them with label_columns."
            )
    if texts:
        name = texts[0]
        lists = name.lower() in LIST_COLUMNS or table.holds_lists(name)
        return (_from_lists(table, name, complete) if lists else _from_single(table, name)), {name}
    classes = [
        name for name in candidates if not _companion_of(name, candidates) and not _score_of(name, candidates)
    ]
    if not classes:
        raise LabelError(
            f"{table.where} has no label column; its columns are {', '.join(table.names)}. Add a column per "
            f"class (1, 0 or empty), a column 'labels' of names separated by '|', or a column 'class'."
        )
    state = np.stack([table.states(name) for name in classes], axis=1)
    return _with_companions(table, classes, state), {*candidates, *_companions(table, classes)}


def _from_lists(table: TableColumns, name: str, complete: bool) -> LabelTable:
    index, values = table.distinct(name)
    lists = [[part.strip() for part in value.split("|") if part.strip()] for value in values]
    classes = sorted({part for parts in lists for part in parts})
    if not classes:
        raise LabelError(f"Column {name!r} of {table.where} names no class in any of its {len(index)} rows.")
    state = np.full((len(lists), len(classes)), ABSENT if complete else UNKNOWN, np.int8)
    position = {label: column for column, label in enumerate(classes)}
    for row, parts in enumerate(lists):
        state[row, [position[part] for part in parts]] = PRESENT
    return LabelTable(tuple(classes), state[index])


def _from_single(table: TableColumns, name: str) -> LabelTable:
    index, values = table.distinct(name)
    classes = sorted({value for value in values if value}, key=natural)
    if not classes:
        raise LabelError(f"Column {name!r} of {table.where} names no class in any of its {len(index)} rows.")
    position = {value: column for column, value in enumerate(classes)}
    return LabelTable.from_class_index(
        classes, np.array([position.get(value, UNKNOWN) for value in values])[index]
    )


def _companions(table: TableColumns, classes: Sequence[str]) -> list[str]:
    return [name for name in table.names if _companion_of(name, classes)]


def _companion_of(name: str, classes: Sequence[str]) -> str | None:
    """Return the class that a column such as ``water.confidence`` belongs to."""
    base, _, kind = name.rpartition(".")
    return base if kind in ("confidence", "source") and base in classes else None


def _score_of(name: str, classes: Sequence[str]) -> bool:
    """Whether a column such as ``water.score`` belongs to a class."""
    return name.endswith(".score") and name.removesuffix(".score") in classes


def _scores(table: TableColumns, rows: SceneRows, classes: Sequence[str]) -> npt.NDArray[np.float32] | None:
    """Return how much another model believes in each class of each scene, if the table says so."""
    missing = [name for name in classes if f"{name}.score" not in table.names]
    if len(missing) == len(classes):
        return None
    if missing:
        raise LabelError(
            f"{table.where} has scores for {len(classes) - len(missing)} of {len(classes)} classes; the columns "
            f"{', '.join(repr(f'{name}.score') for name in missing[:5])}{', ...' if len(missing) > 5 else ''} are "
            f"missing. Give a score for each class, or none."
        )
    scores = np.empty((len(rows.images), len(classes)), np.float32)
    for column, name in enumerate(f"{name}.score" for name in classes):
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, which is refused below
            scores[:, column] = table.numbers(name)[rows.pick(name)]
        empty = np.flatnonzero(~np.isfinite(scores[:, column]))
        if len(empty):
            raise InputError(
                f"{table.where}, column {name!r} has no finite number for the image {rows.images[empty[0]]!r} "
                f"({len(empty)} such images). Every image needs a score for each class."
            )
    return scores


def _with_companions(table: TableColumns, classes: Sequence[str], state: npt.NDArray[np.int8]) -> LabelTable:
    present = set(_companions(table, classes))
    confidence = source = None
    sources: list[str] = []
    if any(name.endswith(".confidence") for name in present):
        # A label whose confidence nobody stated is taken at its word.
        confidence = np.ones(state.shape, np.float32)
        for column, name in enumerate(classes):
            if f"{name}.confidence" in present:
                stated = table.numbers(f"{name}.confidence", low=0, high=1)
                confidence[:, column] = np.where(np.isnan(stated), 1, stated)
    if any(name.endswith(".source") for name in present):
        found = {name: table.distinct(f"{name}.source") for name in classes if f"{name}.source" in present}
        sources = sorted({value for _, values in found.values() for value in values} | {""})
        source = np.full(state.shape, sources.index(""), np.int16)
        for name, (index, values) in found.items():
            source[:, classes.index(name)] = np.array([sources.index(value) for value in values])[index]
        # The empty name sorts first. It stays only if a label has no other.
        if (is_known(state) & (source == 0)).any():
            sources[0] = "unnamed"
        else:
            sources, source = sources[1:], np.maximum(source - 1, 0).astype(np.int16)
    return LabelTable(tuple(classes), state, confidence=confidence, source=source, sources=tuple(sources))
