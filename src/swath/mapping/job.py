"""What is to be mapped, and how: the same for all scenes of a call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swath.mapping.bands import Reading
from swath.mapping.settings import MapSettings

__all__ = ["MapJob"]


@dataclass(frozen=True)
class MapJob:
    """What maps of scenes have in common.

    Args:
        folder: Where they go.
        content: What they depend on beside the scene, plain JSON values by name.
        settings: How they are made.
        reading: How scenes are read.
        tile: Pixels along a side of what is read at a time.
        restart: Whether to start over.
        reserve: Bytes of disk that will be needed after this map.
    """

    folder: Path
    content: dict[str, Any]
    settings: MapSettings
    reading: Reading
    tile: int
    restart: bool
    reserve: int = 0
