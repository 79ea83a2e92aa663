"""The rasters of a map that are at their place, as everything beside them is made from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import Resampling

from swath.mapping.cog import finished
from swath.mapping.header import Source
from swath.mapping.naming import product_paths
from swath.mapping.products import Place
from swath.mapping.settings import MapSettings
from swath.scenes.contract import BandContract

__all__ = ["FinishedRasters", "thumbnail_shape"]


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
