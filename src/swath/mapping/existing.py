"""Whether a map is there already, or another one is in the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swath.errors import RunError
from swath.mapping.naming import file_stamp, job_stamp
from swath.mapping.products import read_tags
from swath.mapping.work import WorkFolder, differences

__all__ = ["existing"]


def existing(
    products: Mapping[str, Path],
    content: dict[str, Any],
    work: WorkFolder,
    entry: str,
    remedy: str = "Name another --out, or --restart to replace it",
) -> Any | None:
    """Return what the rasters of a finished map say about it, or None if it is not finished.

    Args:
        products: Its files by kind.
        content: What it depends on.
        work: Its work folder.
        entry: Which entry of the rasters' metadata to return; it holds JSON.
        remedy: What to do if another map is in the way.

    Returns:
        The entry, or None.

    Raises:
        RunError: A file is there that is no map, or the map of another job.
    """
    there = {kind: path for kind, path in products.items() if path.exists()}
    if not there or work.is_of_this_job():
        return None
    found = None
    for path in there.values():
        try:
            if path.suffix == ".tif":
                entries = read_tags(path)
                found = json.loads(entries[entry])
                changed = differences(json.loads(entries["SWATH_JOB"]), content)
            else:
                stamp = file_stamp(path)
                if not stamp:
                    raise ValueError
                changed = [] if stamp == job_stamp(content) else ["another scene, model or setting"]
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise RunError(f"{path} exists and is no map of swath. {remedy}.") from error
        if changed:
            raise RunError(f"{path} is the map of another job: {'; '.join(changed)}. {remedy}.")
    return found if len(there) == len(products) else None
