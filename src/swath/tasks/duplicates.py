"""Which scenes of a data set show nearly the same, or the same ground in part."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from swath.scenes.near_duplicates import Rows
    from swath.scenes.packed import PackedScenes
    from swath.scenes.source import SceneSource

__all__ = ["Duplicates", "duplicates", "read_groups"]


@dataclass(frozen=True)
class Duplicates:
    """Groups of scenes that show nearly the same.

    Args:
        table: One row for each scene in a group: ``group``, ``index`` (position in the data set), ``scene``, ``split``
            where the data has one, and ``exact`` (whether another one of the group is equal pixel for pixel).
        scenes: How many were looked at.
        path: Where the table is, if it was written.
    """

    table: pd.DataFrame
    scenes: int
    path: Path | None

    def __str__(self) -> str:
        """Return the number of groups, the first ones, and where the table is."""
        groups = self.table["group"].nunique()
        lines = [
            f"{len(self.table):,} of {self.scenes:,} scenes are in {groups:,} groups that show nearly the same"
        ]
        lines += [self.table.head(20).to_string(index=False)] if groups else []
        return "\n".join([*lines, *([f"table: {self.path}"] if self.path else [])])


def duplicates(
    data: str | os.PathLike[str] | SceneSource,
    *,
    run: str | os.PathLike[str] | None = None,
    out: str | None = None,
    correlation: float = 0.95,
    overlap_correlation: float = 0.9,
    contrast: float = 2.0,
    size: int = 64,
    image_column: str | None = None,
    label_columns: str | None = None,
    complete: bool = False,
    images: str | None = None,
    nodata: float | None = None,
    skip_unreadable: bool = False,
) -> Duplicates:
    """List scenes that show nearly the same, also flipped or turned by quarters; nothing is changed.

    With ``run`` scenes that show the same ground in part, shifted by up to half a scene, are listed too: neighbours by
    the features of that run's encoder, confirmed by the pictures. ``swath train --near-duplicates`` takes the list and
    keeps each group on one side of the split; ``apart`` there looks for whole scenes only.

    Args:
        data: A folder of classes, a table, a zip, ``earth:...``, or an open source.
        run: A run of any data with these bands, to find scenes that overlap.
        out: A CSV file for the groups.
        correlation: From which on two scenes are taken to be the same, above 0, up to 1.
        overlap_correlation: From which on fine structure is taken to be the same ground, above 0, up to 1.
        contrast: Scenes whose grey levels have a smaller standard deviation (of 255) are not compared.
        size: Height and width in pixels to which images are resized.
        image_column: Column of image paths in a table; if None, found by its usual names.
        label_columns: Comma-separated columns that hold labels; if None, all that are not something else.
        complete: Whether a class that a table's ``|`` list leaves out is absent; otherwise it is unknown.
        images: Folder that a table's paths are relative to; if None, the table's own.
        nodata: Number that marks pixels without data, instead of what the files say.
        skip_unreadable: Leave out images that cannot be read.

    Returns:
        The groups.

    Raises:
        InputError: An option is out of its range.
        ContractError: Bands or units of the data are not the run's.
        SceneError: An image cannot be read.
        OutputError: ``out`` cannot be written.

    Example:
        >>> len(duplicates("earth:scenes=20,size=16", size=16).table)
        0
    """
    given: dict[str, Any] = locals()
    import numpy as np
    import pandas as pd

    from swath.files import writing
    from swath.scenes.near_duplicates import near_duplicates
    from swath.scenes.packing import pack
    from swath.tasks.prepare import open_source

    source = open_source(given)
    store = pack(source, size, skip_unreadable=skip_unreadable)
    found = near_duplicates(store, correlation=correlation, contrast=contrast)
    if run is not None:
        found = _joined(found, _overlapping(source, store, run, overlap_correlation), len(store))
    rows = np.concatenate([np.zeros(0, np.int64), *found])
    same = pd.Series([bytes(digest) for digest in store.digests[rows]], dtype=object)
    columns = {
        "group": np.repeat(np.arange(len(found)), [len(members) for members in found]),
        "index": store.kept[rows],
        "scene": [source.describe(int(row)) for row in store.kept[rows]],
    }
    if "split" in source.columns:
        columns["split"] = np.asarray(source.columns["split"])[store.kept[rows]]
    table = pd.DataFrame({**columns, "exact": same.duplicated(keep=False).to_numpy(bool)})
    if out is not None:
        with writing(out) as temporary:
            table.to_csv(temporary, index=False)
    return Duplicates(table, len(store), None if out is None else Path(out))


def read_groups(where: str | os.PathLike[str], source: SceneSource, store: PackedScenes) -> list[Rows]:
    """Read groups that :func:`duplicates` wrote and hold them against the data set they are for.

    Args:
        where: A CSV file with the columns ``group``, ``index`` (position in the data set, from 0) and ``scene``.
        source: The data set.
        store: Its packed scenes; those that are not among them are left out.

    Returns:
        Rows of the store of each group of two or more.

    Raises:
        InputError: It cannot be read, lacks a column, or is of another data set.
    """
    import numpy as np
    import pandas as pd

    from swath.errors import InputError
    from swath.tasks.labelled import refuse_other_scenes

    path = Path(where)
    try:
        table = pd.read_csv(path, dtype={"scene": str}, keep_default_na=False)
        groups = table[["group", "index", "scene"]]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} cannot be read as groups of scenes: {error}. Expected CSV with the columns group, index and "
            f"scene, as `swath duplicates --out` writes it."
        ) from error
    if len(groups) and groups["index"].dtype.kind not in "iu":
        raise InputError(f"The column index of {path} holds something else than whole numbers.")
    refuse_other_scenes(path, groups["index"].tolist(), groups["scene"].tolist(), source)
    place = pd.Series(np.arange(len(store)), index=store.kept)
    found = [
        place.reindex(members).dropna().to_numpy(np.int64) for _, members in groups.groupby("group")["index"]
    ]
    return [np.unique(rows) for rows in found if len(np.unique(rows)) > 1]


def _overlapping(
    source: SceneSource, store: PackedScenes, run: str | os.PathLike[str], correlation: float
) -> list[Rows]:
    import numpy as np

    from swath.scenes.overlaps import overlapping
    from swath.selection.measuring import measure
    from swath.training.run import load_run

    encoder = load_run(run)
    encoder.contract.check_fits(source.contract, what=source.name)
    found = measure(store, np.arange(len(store)), encoder.folder)
    return overlapping(store, np.asarray(found.features), correlation=correlation)


def _joined(one: list[Rows], other: list[Rows], scenes: int) -> list[Rows]:
    """Return groups that share a scene as one."""
    import numpy as np

    from swath.scenes.near_duplicates import groups_of_pairs

    pairs = [np.stack([members[:-1], members[1:]]) for members in (*one, *other)]
    return groups_of_pairs(np.concatenate([np.zeros((2, 0), np.int64), *pairs], axis=1), np.arange(scenes))
