"""The table of scenes that were labelled so far: what a run may know when it is to learn from no others."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from swath.errors import InputError, LabelError, UnknownNameError
from swath.files import writing
from swath.labels import ABSENT, PRESENT, UNKNOWN, LabelTable
from swath.scenes.source import SceneSource

__all__ = ["only_labelled", "read_labelled", "write_labelled"]

Rows = npt.NDArray[np.int64]


def read_labelled(where: str | os.PathLike[str], source: SceneSource) -> pd.DataFrame:
    """Read a table of labelled scenes and hold it against the data set it is for.

    Args:
        where: A CSV or Parquet file with the columns ``row`` (position in the data set, from 0), ``scene`` (its name
            there) and perhaps ``class`` (the one present class that is known of the scene; empty if nobody knew one).
        source: The data set.

    Returns:
        The table; ``class`` holds text, empty where nothing is known.

    Raises:
        InputError: It cannot be read, lacks a column, names a scene twice, or is of another data set.
    """
    path = Path(where)
    try:
        # A class may be called "NA" or "1".
        table = (
            pd.read_parquet(path)
            if path.suffix.lower() == ".parquet"
            else pd.read_csv(path, dtype={"scene": str, "class": str}, keep_default_na=False)
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as a table of labelled scenes: {error}. Expected CSV or Parquet with the columns "
            f"row and scene."
        ) from error
    missing = [name for name in ("row", "scene") if name not in table]
    if missing or not len(table):
        raise InputError(
            f"{path} has {len(table)} rows and the columns {', '.join(map(str, table.columns))}; expected at least one "
            f"row, and the columns row and scene, as `swath active` writes them."
        )
    if table["row"].dtype.kind not in "iu":
        raise InputError(f"The column row of {path} holds something else than whole numbers.")
    rows = table["row"].to_numpy(np.int64)
    twice = table["row"][table["row"].duplicated()]
    if len(twice):
        raise InputError(f"{path} names row {twice.iloc[0]} more than once. Keep one line for each scene.")
    refuse_other_scenes(path, rows.tolist(), table["scene"].tolist(), source)
    if "class" in table:
        table["class"] = table["class"].fillna("").astype(str)
    return table


def write_labelled(where: Path, table: pd.DataFrame) -> None:
    """Write a table of labelled scenes as CSV, whole or not at all."""
    with writing(where) as temporary:
        table.to_csv(temporary, index=False)


def refuse_other_scenes(path: Path, rows: Sequence[int], names: Sequence[str], source: SceneSource) -> None:
    """Hold what a file says of scenes against the data set it is for.

    Args:
        path: The file, for the message.
        rows: Positions in the data set.
        names: What the file calls the scenes there.
        source: The data set.

    Raises:
        InputError: Another scene is there, or none.
    """
    for row, scene in zip(rows, names, strict=True):
        there = source.describe(row) if 0 <= row < len(source) else None
        if there != scene:
            found = f"has only {len(source)} scenes" if there is None else f"has {there!r} there"
            raise InputError(
                f"{path} is of another data set: it names {scene!r} in row {row}, and {source.name} {found}. Give the "
                f"data set that it was made from, or make it again."
            )


def only_labelled(
    labels: LabelTable, rows: Rows, table: pd.DataFrame, others: Sequence[int] | Rows
) -> LabelTable:
    """Return the labels as they are known when only the scenes of a table were labelled; all others are unknown.

    Where the table has a column ``class``, that class is known to be present and nothing else is known of the scene.

    Args:
        labels: What the data set says of the training scenes.
        rows: (scenes,) their positions in the data set.
        table: From :func:`read_labelled`.
        others: Positions that the table may name without effect, such as validation scenes.

    Returns:
        The labels, without votes.

    Raises:
        InputError: The table names a scene that is not a training scene.
        UnknownNameError: It names a class that the data set does not have.
        LabelError: The data set says that a class named in it is absent.

    Example:
        >>> labels = LabelTable(("water", "forest"), np.array([[1, 1], [0, 1]]))
        >>> table = pd.DataFrame({"row": [7], "scene": ["a.tif"], "class": ["forest"]})
        >>> only_labelled(labels, np.array([5, 7]), table, []).state.tolist()
        [[-1, -1], [-1, 1]]
    """
    named = table["row"].to_numpy(np.int64)
    strange = named[~np.isin(named, np.concatenate([rows, np.asarray(others, np.int64)]))]
    if len(strange):
        raise InputError(
            f"Row {strange[0]} ({table['scene'][named == strange[0]].iloc[0]}) is to be learned from, and it is no "
            f"training scene: it is a test scene, or could not be read. Keep seed, split and test share as they were."
        )
    position = {int(row): place for place, row in enumerate(rows)}
    state = np.full_like(labels.state, UNKNOWN)
    names = table["class"] if "class" in table else [None] * len(table)
    for row, name in zip(named.tolist(), names, strict=True):
        place = position.get(row)
        if place is None or name == "":
            continue
        if name is None:
            state[place] = labels.state[place]
            continue
        if name not in labels.classes:
            raise UnknownNameError("class", name, labels.classes)
        column = labels.classes.index(name)
        if labels.state[place, column] == ABSENT:
            raise LabelError(
                f"{name} is said to be present in row {row}, and the data set says that it is absent."
            )
        state[place, column] = PRESENT
    # Votes would still tell what is not to be known.
    return dataclasses.replace(labels, state=state, votes=None)
