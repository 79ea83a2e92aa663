"""Which scenes of a data set show nearly the same."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from swath.scenes.source import SceneSource

__all__ = ["Duplicates", "duplicates"]


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
    out: str | None = None,
    correlation: float = 0.95,
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

    ``swath train --near-duplicates apart`` keeps them on one side of the split.

    Args:
        data: A folder of classes, a table, a zip, ``earth:...``, or an open source.
        out: A CSV file for the groups.
        correlation: From which on two scenes are taken to be the same, above 0, up to 1.
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
