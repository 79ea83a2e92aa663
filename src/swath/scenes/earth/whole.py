"""A whole synthetic scene, and writing it as a GeoTIFF."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swath.files import writing
from swath.scenes.contract import BandContract

__all__ = ["WholeScene"]


@dataclass(frozen=True, eq=False)
class WholeScene:
    """A scene of any size with its truth.

    Args:
        image: Reflectance times 10,000, uint16 (bands, height, width), 0 is nodata.
        land_cover: Class of each pixel, uint8 (height, width), an index into ``contract.classes``.
        contract: Band names, scale, nodata, ground sampling distance and classes.
        x: Easting of the left edge in metres.
        y: Northing of the upper edge in metres.
    """

    image: NDArray[np.uint16]
    land_cover: NDArray[np.uint8]
    contract: BandContract
    x: float
    y: float

    def write_scene(self, path: str | os.PathLike[str]) -> None:
        """Write the image as a tiled, georeferenced GeoTIFF with band names, scale and nodata.

        Coordinates are those of UTM zone 32 north, so that other programs can open it; the place is made up.

        Args:
            path: Where to; an existing file is replaced.

        Raises:
            OutputError: The file cannot be written.

        Example:
            >>> import tempfile, pathlib, rasterio
            >>> from swath.scenes.earth import SyntheticEarth
            >>> path = pathlib.Path(tempfile.mkdtemp()) / "scene.tif"
            >>> SyntheticEarth.scene(40, 60).write_scene(path)
            >>> with rasterio.open(path) as raster:
            ...     raster.descriptions[0], raster.nodata, raster.res
            ('B02', 0.0, (10.0, 10.0))
        """
        self._write(path, self.image, self.contract.names, self.contract.scale, nodata=self.contract.nodata)

    def write_truth(self, path: str | os.PathLike[str]) -> None:
        """Write the class map as a GeoTIFF; a tag ``CLASSES`` lists the names, ``|``-separated.

        Args:
            path: Where to; an existing file is replaced.

        Raises:
            OutputError: The file cannot be written.
        """
        self._write(path, self.land_cover[None], ("land cover",), (1.0,), nodata=None)

    def _write(
        self,
        path: str | os.PathLike[str],
        values: NDArray[np.uint16] | NDArray[np.uint8],
        names: tuple[str, ...],
        scales: tuple[float, ...],
        nodata: float | None,
    ) -> None:
        import rasterio
        from rasterio.transform import Affine

        gsd_m = self.contract.gsd_m or 10.0
        # False origin of the zone, and a northing in the mid-latitudes.
        origin = Affine(gsd_m, 0, 500_000 + self.x, 0, -gsd_m, 5_500_000 + self.y)
        count, height, width = values.shape
        with (
            writing(path) as temporary,
            rasterio.open(
                temporary,
                "w",
                driver="GTiff",
                count=count,
                height=height,
                width=width,
                dtype=values.dtype,
                crs="EPSG:32632",
                transform=origin,
                nodata=nodata,
                compress="deflate",
                tiled=True,
                blockxsize=256,
                blockysize=256,
            ) as raster,
        ):
            raster.write(values)
            raster.descriptions = names
            raster.scales = scales
            raster.units = (self.contract.unit if nodata is not None else "",) * count
            raster.offsets = (0.0,) * count
            raster.update_tags(CLASSES="|".join(self.contract.classes), SOURCE="swath synthetic Earth")
