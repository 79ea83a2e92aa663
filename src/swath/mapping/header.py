"""What a raster file says about itself, and whether a map can be made of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio.shutil
import rasterio.warp
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from swath.errors import InputError, SceneError
from swath.mapping.virtual import VirtualFile, is_virtual
from swath.scenes.geotiff import RASTER_ERRORS, data_bands, header, opened
from swath.scenes.images import file_kind
from swath.scenes.remote import RemoteFile

__all__ = [
    "PixelGrid",
    "RasterFile",
    "Source",
    "bounds",
    "look",
    "metres_per_degree",
    "openable",
    "place",
    "scaled",
]

Source = Path | RemoteFile | VirtualFile
"""A raster: a local file, or one of the kinds that have to be allowed by name."""

BLOCK_BYTES: Final = 2**29
"""Largest block (tile or strip) of a file that is decoded, in bytes."""

_DRIVERS: Final = ("GTiff", "JP2OpenJPEG")


@dataclass(frozen=True)
class PixelGrid:
    """Where pixels lie.

    Args:
        height: Rows.
        width: Columns.
        transform: Pixel corner to CRS units.
        crs: Coordinate system.
        gsd_m: Root of a pixel's area at the centre, in metres.
    """

    height: int
    width: int
    transform: Affine
    crs: CRS
    gsd_m: float


@dataclass(frozen=True)
class RasterFile:
    """A file's header, checked.

    Args:
        path: Where it is.
        driver: The one GDAL driver that opens it.
        names: Band names, alpha bands left out.
        described: Whether the file itself names its bands.
        indexes: Number of each band in the file, from 1.
        dtype: Stored number type.
        height: Rows.
        width: Columns.
        transform: Pixel corner to CRS units.
        crs: Coordinate system.
        gsd_m: Root of a pixel's area at the centre, in metres.
        scale: Factor from stored numbers to units, one per band.
        offset: Added after scaling.
        unit: What a scaled value is.
        nodata: Stored number of pixels without data, or None.
        masked: Whether a mask or alpha band inside the file marks pixels without data.
        alpha: Number of the alpha band, 0 if there is none.
    """

    path: Source
    driver: str
    names: tuple[str, ...]
    described: bool
    indexes: tuple[int, ...]
    dtype: str
    height: int
    width: int
    transform: Affine
    crs: CRS
    gsd_m: float
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    unit: str
    nodata: float | None
    masked: bool
    alpha: int


def openable(source: Source) -> Path | bytes | RemoteFile:
    """Return what GDAL may open.

    Raises:
        SceneError: It is a virtual raster that is not plain.
    """
    return source.checked()[0] if isinstance(source, VirtualFile) else source


def look(path: Source, nodata: float | str | None = None) -> RasterFile:
    """Read and check a raster's header.

    Args:
        path: An existing file.
        nodata: Stored number of pixels without data instead of what the file says; ``"none"`` for nothing;
            None to believe the file.

    Returns:
        What it says.

    Raises:
        SceneError: It is no raster that swath reads, is damaged, or is not georeferenced.
        InputError: ``nodata`` cannot occur in the file.
    """
    where = str(path)
    driver = _driver(path, where)
    with opened(openable(path), driver, where, whole=False) as raster:
        _check_blocks(raster, driver, path)
        found = header(raster, where)
        _check_place(raster, where)
        flags = {flag for flags in raster.mask_flag_enums for flag in flags}
        kinds = list(raster.colorinterp)
        alpha = kinds.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in kinds else 0
        stated = found.nodata if found.nodata is not None else _stated_nodata(raster)
        return RasterFile(
            path=path,
            driver=driver,
            names=found.names,
            described=all(raster.descriptions[band - 1] for band in data_bands(raster)),
            indexes=tuple(data_bands(raster)),
            dtype=found.dtype,
            height=found.height,
            width=found.width,
            transform=raster.transform,
            crs=raster.crs,
            gsd_m=_gsd(raster.transform, raster.crs, found.height, found.width, where),
            scale=found.scale,
            offset=found.offset,
            unit=found.unit,
            nodata=_nodata(stated if nodata is None else nodata, found.dtype, where, nodata is not None),
            masked=MaskFlags.per_dataset in flags and MaskFlags.nodata not in flags,
            alpha=alpha,
        )


def bounds(file: RasterFile, crs: CRS) -> tuple[float, float, float, float]:
    """Return (west, south, east, north) of a file in a coordinate system."""
    x, y = place(
        file.transform, np.array([0, file.width, 0, file.width]), np.array([0, 0, file.height, file.height])
    )
    found = float(x.min()), float(y.min()), float(x.max()), float(y.max())
    if crs != file.crs:
        try:
            found = rasterio.warp.transform_bounds(file.crs, crs, *found)
        except RASTER_ERRORS as error:
            raise SceneError(
                f"{file.path} cannot be placed in {str(crs.to_string())[:60]}: {error}."
            ) from error
    return found


def place(grid: Affine, columns: Any, rows: Any) -> tuple[Any, Any]:
    """Return x and y, in CRS units, of places given in pixels from the upper left corner."""
    return grid.a * columns + grid.b * rows + grid.c, grid.d * columns + grid.e * rows + grid.f


def scaled(grid: Affine, factor: float) -> Affine:
    """Return the transform of pixels ``factor`` times as large, with the same upper left corner."""
    return Affine(grid.a * factor, grid.b * factor, grid.c, grid.d * factor, grid.e * factor, grid.f)


def metres_per_degree(latitude: Any) -> tuple[Any, Any]:
    """Return metres per degree of longitude and of latitude on the WGS 84 ellipsoid."""
    a, e2 = 6_378_137.0, 0.00669437999014
    phi = np.radians(latitude)
    root = np.sqrt(1 - e2 * np.sin(phi) ** 2)
    return np.pi / 180 * a * np.cos(phi) / root, np.pi / 180 * a * (1 - e2) / root**3


def _driver(path: Source, where: str) -> str:
    """Return the one driver that may open a file."""
    if isinstance(path, VirtualFile):
        return "VRT"
    if isinstance(path, RemoteFile):
        return _remote_driver(path, where)
    if is_virtual(path):
        raise SceneError(
            f"{where} is a virtual raster (VRT), which names other files to read. If you trust it, allow it with "
            f"--allow-vrt."
        )
    try:
        with path.open("rb") as file:
            driver = file_kind(file, where)
    except OSError as error:
        if isinstance(error, SceneError):
            raise
        raise SceneError(f"{where} cannot be opened: {error.strerror or error}.") from error
    if driver == "Pillow":
        driver = "PNG or JPEG"
    if driver not in _DRIVERS:
        raise SceneError(
            f"{where} is a {driver} file, which holds no place on the ground. Maps are made of GeoTIFF and JPEG 2000; "
            f"`swath predict` takes pictures."
        )
    return driver


def _remote_driver(path: RemoteFile, where: str) -> str:
    """Return the driver that opens a file on a server: its beginning cannot be read without one."""
    reasons = []
    for driver in _DRIVERS:
        try:
            with opened(path, driver, where, whole=False):
                return driver
        except SceneError as error:
            reasons.append(str(error))
    raise SceneError(
        f"{reasons[0]} Check the address, and that the server answers requests for parts of a file; or download it."
    )


def _check_blocks(raster: Any, driver: str, path: Source) -> None:
    """Raise if the header promises more than the file can hold or memory can take."""
    # By the first band alone: asking about each of many bands takes long.
    height, width = raster.block_shapes[0]
    itemsize = np.dtype(raster.dtypes[0]).itemsize
    pixel = str(raster.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE", "BAND")).upper() == "PIXEL"
    each = height * width * itemsize * (raster.count if pixel else 1)
    if each > BLOCK_BYTES:
        raise SceneError(
            f"{path} is stored in blocks of {width} x {height} px ({each / 2**30:.1f} GiB), too large to decode. Write "
            f"it again in tiles: gdal_translate -co TILED=YES {path.name} tiled.tif"
        )
    blocks = -(-raster.height // height) * -(-raster.width // width) * (1 if pixel else raster.count)
    # A TIFF holds an address for each block, even one that was left empty.
    if driver == "GTiff" and isinstance(path, Path) and path.stat().st_size < 4 * blocks:
        raise SceneError(
            f"{path} is cut short: its header says {raster.width} x {raster.height} px and {raster.count} bands in "
            f"{blocks} blocks, but the file has {path.stat().st_size} bytes. Copy or download it again."
        )


def _check_place(raster: Any, where: str) -> None:
    crs, grid = raster.crs, raster.transform
    if crs is None or not (crs.is_projected or crs.is_geographic):
        said = "no coordinate system" if crs is None else "a coordinate system that has no place on Earth"
        raise SceneError(
            f"{where} has {said}. A map needs one; if it is known, write it into the file: gdal_edit.py -a_srs "
            f"EPSG:NUMBER {Path(where).name}"
        )
    numbers = tuple(grid)[:6]
    if grid.is_identity or not np.isfinite(numbers).all() or not grid.determinant:
        raise SceneError(
            f"{where} has no usable place on the ground: its transform is {numbers}. Write the right one into the "
            f"file: gdal_edit.py -a_ullr WEST NORTH EAST SOUTH {Path(where).name}"
        )


def _gsd(grid: Affine, crs: CRS, height: int, width: int, where: str) -> float:
    area = abs(grid.determinant)
    if crs.is_projected:
        return float(math.sqrt(area) * crs.linear_units_factor[1])
    _, latitude = place(grid, width / 2, height / 2)
    if not abs(latitude) < 90:
        raise SceneError(
            f"{where} has its centre at latitude {latitude:g}. Correct its transform or its coordinate system."
        )
    east, north = metres_per_degree(latitude)
    return float(math.sqrt(area * east * north))


def _stated_nodata(raster: Any) -> float | None:
    """Return the nodata value that the file states although rasterio keeps it back, as no pixel can have it."""
    if raster.nodata is not None or np.dtype(raster.dtypes[0]).kind == "f":
        return None
    with MemoryFile(ext=".vrt") as memory:  # GDAL's own description of what it has opened
        rasterio.shutil.copy(raster, memory.name, driver="VRT")
        said = re.search(rb"<NoDataValue>([^<]+)</NoDataValue>", memory.read())
    return float(said.group(1)) if said else None


def _nodata(value: float | str | None, dtype: str, where: str, told: bool) -> float | None:
    if value is None or isinstance(value, str):
        return None
    kind = np.dtype(dtype)
    if kind.kind == "f":
        # As it is stored: a float32 file's value is the nearest float32.
        with np.errstate(over="ignore"):
            return float(kind.type(value))
    limits = np.iinfo(kind)
    if math.isfinite(value) and value == int(value) and limits.min <= value <= limits.max:
        return float(value)
    message = (
        f"{where} holds {dtype} numbers from {limits.min} to {limits.max}; the nodata value {value:g} "
        f"{'given' if told else 'in its header'} cannot occur among them. Say with --nodata which number marks pixels "
        f"without data, or --nodata none if none does."
    )
    raise InputError(message) if told else SceneError(message)
