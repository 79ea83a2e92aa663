"""The file of a selection: one row for each scene of the pool, and what it was made from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from swath.errors import InputError
from swath.files import writing
from swath.scenes.packed import PackedScenes
from swath.scenes.source import SceneSource
from swath.selection.pool import Choice, Rows

__all__ = ["Selection", "images_identity", "kept_rows", "read_selection", "scene_names", "write_selection"]

_NOTES = b"swath"
_COLUMNS = pa.schema(
    [
        ("index", pa.int64()),
        ("scene", pa.string()),
        ("score", pa.float32()),
        ("stage", pa.string()),
        ("cluster", pa.int64()),
        ("kept", pa.bool_()),
    ]
)


@dataclass(frozen=True, eq=False)
class Selection:
    """What a selection file says.

    Args:
        table: One row for each scene of the pool: ``index`` (its position in the data set), ``scene`` (its name),
            ``score`` (higher is kept first, NaN where there is none), ``stage`` (the step that decided), ``cluster``
            (-1 where there is none) and ``kept``.
        notes: How it was made: ``by``, ``options``, ``keep``, ``seed``, ``pool``, ``images`` (identity of the images).
    """

    table: pd.DataFrame
    notes: Mapping[str, Any]

    @property
    def kept(self) -> Rows:
        """Positions in the data set of the scenes that are kept, in the order of the file."""
        return np.asarray(self.table.loc[self.table["kept"], "index"], np.int64)


def write_selection(
    path: str | os.PathLike[str],
    choice: Choice,
    index: npt.ArrayLike,
    scenes: list[str],
    notes: Mapping[str, Any],
) -> Selection:
    """Write a selection whole or not at all.

    Args:
        path: The Parquet file.
        choice: What was chosen.
        index: (scenes,) position of each scene of the pool in the data set.
        scenes: Its names.
        notes: How it was made, plain JSON values.

    Returns:
        The same, as it would be read.

    Raises:
        OutputError: It cannot be written.
    """
    table = pd.DataFrame(
        {
            "index": np.asarray(index, np.int64),
            "scene": scenes,
            "score": choice.score,
            "stage": choice.stage,
            "cluster": choice.cluster,
            "kept": choice.kept,
        }
    )
    arrays = [pa.array(table[field.name].to_numpy(), field.type, from_pandas=False) for field in _COLUMNS]
    written = pa.Table.from_arrays(arrays, schema=_COLUMNS)
    written = written.replace_schema_metadata({_NOTES: json.dumps(dict(notes), allow_nan=False).encode()})
    with writing(path) as temporary:
        pq.write_table(written, temporary, compression="zstd")
    return Selection(table, notes)


def read_selection(path: str | os.PathLike[str]) -> Selection:
    """Read a selection.

    Args:
        path: A file that `swath select` wrote.

    Raises:
        InputError: There is no such file, it is none, or it was edited into something that is none; it is left as it
            is.

    Example:
        >>> import tempfile
        >>> choice = Choice.of(3, [2], stage="random")
        >>> path = tempfile.mkdtemp() + "/selection.parquet"
        >>> _ = write_selection(path, choice, [5, 7, 9], ["a.tif", "b.tif", "c.tif"], {"images": "0", "by": "random"})
        >>> read_selection(path).kept.tolist()
        [9]
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"There is no selection {path}. Make one: swath select DATA --keep 15% --by rs-prune --run RUN --out {path}"
        )
    try:
        read = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{path} is no Parquet file: {error}. Expected one that `swath select` wrote."
        ) from error
    try:
        notes = json.loads((read.schema.metadata or {})[_NOTES])
        if not isinstance(notes, dict) or not isinstance(notes["images"], str):
            raise ValueError
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path} does not say what data it was made from; another program has written it. Make the selection "
            f"again, or keep the schema's metadata when you change the file."
        ) from error
    missing = [field.name for field in _COLUMNS if field.name not in read.column_names]
    if missing:
        raise InputError(f"{path} lacks the column {', '.join(missing)}. Make the selection again.")
    wrong = _wrong(read)
    if wrong:
        raise InputError(f"{path} was changed into something that is no selection: {wrong}. Make it again.")
    return Selection(read.select(_COLUMNS.names).cast(_COLUMNS).to_pandas(), notes)


def _wrong(table: pa.Table) -> str:
    """Return what makes a table no selection, or nothing."""
    for field in _COLUMNS:
        column = table.column(field.name)
        try:
            column.cast(field.type)
        except pa.ArrowException:
            return f"the column {field.name} holds {column.type}, and {field.type} was expected"
        if column.null_count:
            return f"the column {field.name} has {column.null_count} empty cells"
    index = table.column("index").cast(pa.int64()).to_numpy()
    if not len(index) or index.min() < 0:
        return "it has no scene" if not len(index) else "a position in the data set is negative"
    if len(np.unique(index)) < len(index):
        return "a scene stands in it twice"
    if not table.column("kept").cast(pa.bool_()).to_numpy().any():
        return "it keeps no scene"
    return ""


def scene_names(source: SceneSource, rows: Rows) -> list[str]:
    """Return names of scenes that stay when the whole data set is moved: paths inside it, where it has files.

    Args:
        source: The data set.
        rows: Positions of the scenes in it.
    """
    if "path" in source.columns:
        return [str(path) for path in np.asarray(source.columns["path"])[rows]]
    return [source.describe(int(row)) for row in rows]


def images_identity(store: PackedScenes, rows: Rows) -> str:
    """Return what changes with the pixels of some scenes, wherever their files lie.

    Args:
        store: The packed scenes.
        rows: Rows of the store, in any order.
    """
    return hashlib.sha256(np.ascontiguousarray(store.digests[np.sort(rows)]).tobytes()).hexdigest()[:32]


def kept_rows(
    path: str | os.PathLike[str], source: SceneSource, store: PackedScenes
) -> tuple[Rows, dict[str, Any]]:
    """Return the rows of a store that a selection keeps, if it was made from the same scenes.

    Args:
        path: The selection.
        source: The data set.
        store: Its packed scenes.

    Returns:
        Rows of the store, ascending, and what to note of the selection, plain JSON values.

    Raises:
        InputError: The selection is damaged, or was made from other scenes.
    """
    selection = read_selection(path)
    index = selection.table["index"].to_numpy()
    place = np.full(int(max(store.kept.max(initial=-1), index.max())) + 1, -1)
    place[store.kept] = np.arange(len(store))
    rows = place[index]
    names = selection.table["scene"].to_list()
    there, here = rows >= 0, np.full(len(rows), "", object)
    here[there] = scene_names(source, store.kept[rows[there]])
    strange = next((name for name, other in zip(names, here, strict=True) if name != other), None)
    if strange is not None:
        raise InputError(
            f"{path} was made from another data set than {source.name}: its scene {strange!r} is not where it was. "
            f"Select again from this data."
        )
    if images_identity(store, rows) != selection.notes["images"]:
        raise InputError(
            f"{path} was made when the scenes of {source.name} had other pixels, though their names are the same, or "
            f"rows were taken out of it. Select again from this data."
        )
    noted = {name: selection.notes.get(name) for name in ("by", "options", "keep", "seed")}
    kept = np.sort(rows[selection.table["kept"].to_numpy()])
    return kept, {"file": str(path), **noted, "pool": len(index), "kept": len(kept)}
