"""What the files of a map are called, and how one is known to be of a certain map."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

__all__ = [
    "CHANGE_SUFFIXES",
    "RASTERS",
    "SUFFIXES",
    "change_paths",
    "file_stamp",
    "job_stamp",
    "product_paths",
]

RASTERS: Final = ("probability", "labels", "uncertainty")
SUFFIXES: Final = {
    **{kind: f".{kind}.tif" for kind in RASTERS},
    "quick_look": ".png",
    "style": ".labels.qml",
    "polygons": ".parquet",
    "viewer": ".html",
    "item": ".json",
}
"""Every file of a map by kind, in the order they are written."""

CHANGE_SUFFIXES: Final = {
    "change": ".change.tif",
    "changed": ".changed.tif",
    "table": ".changed.csv",
    "picture": ".changed.png",
}
"""The files of a change between two maps."""

_STAMP: Final = re.compile(rb"swath-job-[0-9a-f]{32}")
_SEARCHED: Final = 2**16


def product_paths(folder: Path, name: str) -> dict[str, Path]:
    """Return where each file of a scene's map is, by kind."""
    return {kind: folder / f"{name}{suffix}" for kind, suffix in SUFFIXES.items()}


def change_paths(folder: Path, before: str, after: str) -> dict[str, Path]:
    """Return where each file of the change between two maps is, by kind."""
    return {kind: folder / f"{before}--{after}{suffix}" for kind, suffix in CHANGE_SUFFIXES.items()}


def job_stamp(job: Mapping[str, Any]) -> str:
    """Return a short text that stands for everything a map depends on; every file but the rasters carries it.

    Example:
        >>> job_stamp({"stride": 32})[:10], job_stamp({"stride": 32}) == job_stamp({"stride": 16})
        ('swath-job-', False)
    """
    content = json.dumps(job, sort_keys=True).encode()
    return f"swath-job-{hashlib.blake2b(content, digest_size=16).hexdigest()}"


def file_stamp(path: Path) -> str:
    """Return the stamp that stands at a file's beginning or end; empty if there is none."""
    try:
        with path.open("rb") as file:
            content = file.read(_SEARCHED)
            file.seek(max(file.tell(), file.seek(0, 2) - _SEARCHED))
            content += file.read()
    except OSError:
        return ""
    found = _STAMP.search(content)
    return found.group().decode() if found else ""
