"""What stands beside the rasters of a map, made from them when they are finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import Resampling

from swath.files import writing
from swath.mapping.cog import finished
from swath.mapping.header import Source
from swath.mapping.naming import product_paths
from swath.mapping.products import Place
from swath.mapping.settings import MapSettings
from swath.scenes.contract import BandContract

__all__ = ["FinishedRasters", "companion_bytes", "thumbnail_shape", "write_companions"]


@dataclass(frozen=True)
class FinishedRasters:
    """A map whose rasters are at their place.

    Args:
        folder: Where they are.
        name: The scene's.
        sources: The scene's files.
        place: Grid, transform and coordinate system.
        contract: Class names, and whether they exclude each other.
        settings: How it was made.
        areas: Hectares of each class, and of all valid ground under the empty name.
        stamp: Stands for everything the map depends on; every companion carries it.
    """

    folder: Path
    name: str
    sources: tuple[Source, ...]
    place: Place
    contract: BandContract
    settings: MapSettings
    areas: Mapping[str, float]
    stamp: str

    @property
    def paths(self) -> dict[str, Path]:
        """Every file of the map by kind."""
        return product_paths(self.folder, self.name)

    def opened(self, kind: str) -> AbstractContextManager[Any]:
        """Return one of the rasters, opened.

        Raises:
            OutputError: It cannot be read.
        """
        return finished(self.paths[kind])

    def thumbnails(self, shape: tuple[int, int]) -> Iterator[npt.NDArray[np.uint16]]:
        """Yield the stored probability of each class in turn, averaged to a small size.

        Args:
            shape: Rows and columns.

        Yields:
            (rows, columns) stored numbers, one array for each class.
        """
        with self.opened("probability") as raster:
            for band in range(1, raster.count + 1):
                yield raster.read(band, out_shape=shape, resampling=Resampling.average)


def thumbnail_shape(cells: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return the size of a map whose longer side is at most ``longest``; never larger than the map.

    Example:
        >>> thumbnail_shape((300, 400), 100), thumbnail_shape((3, 4), 100)
        ((75, 100), (3, 4))
    """
    factor = min(1.0, longest / max(cells))
    return max(1, round(cells[0] * factor)), max(1, round(cells[1] * factor))


def companion_bytes(cells: tuple[int, int], classes: int, exclusive: bool) -> int:
    """Return how much disk the companions take, polygons as far as that can be known before."""
    from swath.mapping.quick_look import LONGEST
    from swath.mapping.viewer import viewer_shape

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
    from swath.mapping.item import write_item
    from swath.mapping.polygons import write_polygons
    from swath.mapping.quick_look import write_quick_look
    from swath.mapping.style import write_style
    from swath.mapping.viewer import write_viewer

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
