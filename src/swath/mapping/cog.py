"""Rasters filled block by block as a draft in a work folder, then put in their final form and place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.transform import Affine

from swath.errors import OutputError, SwathError
from swath.files import writing
from swath.mapping.raster import CACHE_BYTES
from swath.scenes.geotiff import RASTER_ERRORS

__all__ = ["block_edge", "drafted", "finished", "publish"]

_BYTES_IN_BLOCK: Final = 2**24


def block_edge(bands: int) -> int:
    """Return the edge of a file's blocks, in which all bands (of uint16) lie together."""
    return next((edge for edge in (512, 256) if edge * edge * 2 * bands <= _BYTES_IN_BLOCK), 128)


@contextlib.contextmanager
def drafted(
    path: Path,
    *,
    shape: tuple[int, int],
    count: int,
    dtype: str,
    nodata: int,
    crs: CRS,
    transform: Affine,
    edge: int,
) -> Iterator[Any]:
    """Yield a new tiled raster, to be filled and described.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        with (
            rasterio.Env(GDAL_PAM_ENABLED="NO"),
            rasterio.open(
                path,
                "w",
                driver="GTiff",
                height=shape[0],
                width=shape[1],
                count=count,
                dtype=dtype,
                nodata=nodata,
                crs=crs,
                transform=transform,
                tiled=True,
                blockxsize=edge,
                blockysize=edge,
                interleave="pixel",
                bigtiff="if_safer",
            ) as raster,
        ):
            yield raster
    except SwathError:
        raise
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise _cannot(path, error) from error


def publish(draft: Path, target: Path, edge: int, *, codes: bool) -> None:
    """Copy a draft into a Cloud-Optimised GeoTIFF and move that to its place.

    Args:
        draft: The filled raster; it is removed.
        target: The final path, on the same disk.
        edge: Pixels along a block's side.
        codes: Whether its numbers are names of something, rather than amounts.

    Raises:
        OutputError: It cannot be written.
    """
    copy = draft.with_suffix(".cog.tif")
    try:
        with rasterio.Env(GDAL_PAM_ENABLED="NO", GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
            rasterio.shutil.copy(
                draft,
                copy,
                driver="COG",
                COMPRESS="DEFLATE",
                PREDICTOR="NO" if codes else "YES",
                BLOCKSIZE=edge,
                # A mean label means nothing: the most frequent one stands for its neighbours.
                OVERVIEW_RESAMPLING=(Resampling.mode if codes else Resampling.average).name,
                BIGTIFF="IF_SAFER",
            )
    except RASTER_ERRORS as error:
        raise _cannot(target, error) from error
    draft.unlink()
    with writing(target, folder=draft.parent) as temporary:
        copy.replace(temporary)


@contextlib.contextmanager
def finished(path: Path) -> Iterator[Any]:
    """Yield a raster of a map that is at its place.

    Raises:
        OutputError: It cannot be read.
    """
    options = {
        "GDAL_PAM_ENABLED": "NO",
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_CACHEMAX": CACHE_BYTES,
    }
    try:
        with rasterio.Env(**options), rasterio.open(path, driver="GTiff") as raster:
            yield raster
    except SwathError:
        raise
    except RASTER_ERRORS as error:
        raise OutputError(
            f"{path} cannot be read again: {error}. Delete it and call the same command again."
        ) from error


def _cannot(path: Path, error: Exception) -> OutputError:
    return OutputError(
        f"Cannot write {path}: {error}. Check free space and permissions of {path.parent}; the work so far is kept, "
        f"and the same command goes on with it."
    )
