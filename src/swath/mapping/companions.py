"""What stands beside the rasters of a map, made from them when they are finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from swath.files import writing
from swath.mapping.finished import FinishedRasters
from swath.mapping.item import write_item
from swath.mapping.polygons import write_polygons
from swath.mapping.quick_look import LONGEST, write_quick_look
from swath.mapping.style import write_style
from swath.mapping.viewer import viewer_shape, write_viewer

__all__ = ["companion_bytes", "write_companions"]


def companion_bytes(cells: tuple[int, int], classes: int, exclusive: bool) -> int:
    """Return how much disk the companions take, polygons as far as that can be known before."""
    picture = 4 * LONGEST**2
    text = 2**20 + 4096 * classes  # style and item
    # A polygon for every eighth cell; one alone takes about 50 bytes, and maps are smoother than that.
    polygons = 2**16 + 8 * cells[0] * cells[1] * (1 if exclusive else classes)
    height, width = viewer_shape(cells, classes)
    page = 2**16 + int(1.4 * classes * (height * width + 100))  # base64 takes four bytes for three
    return picture + text + polygons + page


def write_companions(rasters: FinishedRasters, work: Path) -> None:
    """Write everything that is made from the rasters.

    Args:
        rasters: The map.
        work: Folder for temporary files, on the same disk.

    Raises:
        OutputError: A file cannot be written, or a raster not read.
    """
    writers: dict[str, Callable[[FinishedRasters, Path], None]] = {
        "quick_look": write_quick_look,
        "style": write_style,
        "polygons": write_polygons,
        "viewer": write_viewer,
        "item": write_item,  # the last one: it holds the others' checksums
    }
    for kind, write in writers.items():
        with writing(rasters.paths[kind], folder=work) as temporary:
            write(rasters, temporary)
