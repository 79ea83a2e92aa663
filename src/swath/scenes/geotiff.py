"""Reading georeferenced rasters through rasterio, with one allowed driver and no way to the network."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile
from rasterio.warp import transform as transform_points

from swath.errors import SceneError
from swath.scenes.images import ImageHeader, band_names, check_size
from swath.scenes.remote import RemoteFile

__all__ = ["ENVIRONMENT", "RASTER_ERRORS", "common_coordinates", "data_bands", "header", "opened", "pixels"]

# Files beside a raster (.aux.xml, .ovr, .msk) can change what it means or point elsewhere: they are not
# looked at. The allowed extension is one that no address has, which closes GDAL's way to servers.
ENVIRONMENT: Final = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".nothing",
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "nothing",
    "PROJ_NETWORK": "OFF",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
}
EQUAL_AREA: Final = "EPSG:6933"
"""World-wide metres, for scenes whose coordinates are in several systems."""

# GDAL's own errors (CPLE) reach the caller from some functions as they are.
RASTER_ERRORS: Final = (RasterioError, CPLE_BaseError, OSError, ValueError)

# warnings.catch_warnings changes the filters of the whole process, so only one thread may be inside.
_opening = threading.Lock()


@contextlib.contextmanager
def opened(
    source: Path | bytes | RemoteFile, driver: str, where: str, *, whole: bool = True
) -> Iterator[Any]:
    """Open a raster with a single driver.

    Args:
        source: Path of an existing local file, a file's whole content, or a file on a server that may be asked.
        driver: The only GDAL driver that may open it.
        where: How to call it in messages.
        whole: Whether it is to be decoded at once; rasters of any size can be read in parts.

    Yields:
        The rasterio data set. Its size has been checked.

    Raises:
        SceneError: It cannot be opened or read as this kind of raster, or is too large.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(rasterio.Env(**ENVIRONMENT))
        try:
            with _opening, warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                if isinstance(source, bytes):
                    memory = stack.enter_context(MemoryFile(source))
                    raster = stack.enter_context(memory.open(driver=driver))
                elif isinstance(source, RemoteFile):
                    stack.enter_context(rasterio.Env(**source.environment))
                    raster = stack.enter_context(rasterio.open(source.gdal_name, driver=driver))
                else:
                    # Absolute, so that no name can read as one of GDAL's connection strings.
                    raster = stack.enter_context(rasterio.open(source.absolute(), driver=driver))
        except RASTER_ERRORS as error:
            if isinstance(source, RemoteFile):  # the reason names it whole, with what may be secret
                reason = str(error).replace(source.gdal_name, where).replace(source.address, where)
                raise SceneError(f"{where} cannot be opened as {_NAMES[driver]}: {reason}.") from None
            raise SceneError(
                f"{where} starts like a {_NAMES[driver]} file but cannot be opened: {error}. Copy or "
                f"download it again, or leave it out."
            ) from error
        # First by the number of bands alone: asking about each of many bands takes long.
        check_size(raster.height, raster.width, raster.count, 1, where, whole=whole)
        check_size(raster.height, raster.width, raster.count, _itemsize(raster, where), where, whole=whole)
        yield raster


_NAMES: Final = {"GTiff": "TIFF", "JP2OpenJPEG": "JPEG 2000", "PNG": "PNG", "JPEG": "JPEG", "VRT": "VRT"}


def header(raster: Any, where: str) -> ImageHeader:
    """Return what an opened raster says about itself.

    Raises:
        SceneError: Its bands have several number types or nodata values, or complex numbers.
    """
    kept = data_bands(raster)

    # Each property asks GDAL about every band, so it is read once.
    def of_kept(values: Sequence[Any]) -> list[Any]:
        return [values[band - 1] for band in kept]

    dtypes, nodatavals = set(of_kept(raster.dtypes)), of_kept(raster.nodatavals)
    nodata = {_plain(value) for value in nodatavals}
    if len(dtypes) > 1 or len(nodata) > 1:
        raise SceneError(
            f"{where} has bands of several number types ({', '.join(sorted(dtypes))}) or nodata values "
            f"({', '.join(sorted(nodata))}). Write it with one type and one nodata value."
        )
    dtype = dtypes.pop()
    described = of_kept(raster.descriptions)
    scale = tuple(map(float, of_kept(raster.scales)))
    offset = tuple(map(float, of_kept(raster.offsets)))
    units = {unit or "" for unit in of_kept(raster.units)}
    unit = units.pop() if len(units) == 1 else ""
    names = tuple(described) if all(described) else band_names(len(kept), dtype)
    if len(set(names)) < len(names):
        raise SceneError(
            f"{where} has bands of the same name: {', '.join(names)}. Give each its own description."
        )
    if dtype == "uint8" and not any(described) and not unit and set(scale) == {1.0} and set(offset) == {0.0}:
        scale, unit = (1 / 255,) * len(kept), "display"
    if not np.isfinite([*scale, *offset]).all() or 0 in scale:
        raise SceneError(
            f"{where} states scales {scale} and offsets {offset}; they must be finite, scales not 0."
        )
    gsd_m, crs, centre = _georeference(raster)
    value = nodatavals[0]
    return ImageHeader(
        names,
        dtype,
        raster.height,
        raster.width,
        scale,
        offset,
        unit=unit,
        nodata=None if value is None else float(value),
        gsd_m=gsd_m,
        crs=crs,
        centre=centre,
    )


def pixels(raster: Any, where: str) -> npt.NDArray[Any]:
    """Return (bands, height, width) of an opened raster, alpha bands left out.

    Raises:
        SceneError: The file is truncated or damaged.
    """
    try:
        image: npt.NDArray[Any] = raster.read(data_bands(raster))
    except RASTER_ERRORS as error:
        raise SceneError(
            f"{where} is damaged or cut short: {error}. Copy or download it again, or leave it out."
        ) from error
    return image


def common_coordinates(headers: list[ImageHeader | None]) -> dict[str, npt.NDArray[Any]]:
    """Return where scenes lie, in one coordinate system.

    Args:
        headers: One per scene; None where a scene could not be read.

    Returns:
        ``x`` and ``y`` of the centres (NaN where nobody said) and ``crs``. Scenes in several systems, such as
        neighbouring UTM zones, are brought to world-wide equal-area metres (EPSG:6933).
    """
    x, y = np.full(len(headers), np.nan), np.full(len(headers), np.nan)
    rows: dict[str, list[int]] = {}
    for row, found in enumerate(headers):
        if found is not None and found.centre is not None:
            rows.setdefault(found.crs, []).append(row)
            x[row], y[row] = found.centre
    common = next(iter(rows), "") if len(rows) < 2 else EQUAL_AREA
    for crs, members in rows.items():
        if crs == common:
            continue
        try:
            x[members], y[members] = transform_points(crs, common, x[members], y[members])
        except RASTER_ERRORS:  # such as a coordinate system of another planet
            x[members], y[members] = np.nan, np.nan
            warnings.warn(
                f"{len(members)} scenes have coordinates in {crs[:100]}, which cannot be brought to {common}; they "
                f"count as without coordinates.",
                stacklevel=2,
            )
    return {"x": x, "y": y, "crs": np.where(np.isnan(x), "", common)}


def data_bands(raster: Any) -> list[int]:
    """Return the numbers of the bands that hold data: all but alpha bands."""
    kept = [band for band, kind in enumerate(raster.colorinterp, start=1) if kind != ColorInterp.alpha]
    return kept or list(raster.indexes)


def _itemsize(raster: Any, where: str) -> int:
    try:
        sizes = [np.dtype(name) for name in set(raster.dtypes)]
    except TypeError as error:
        raise SceneError(
            f"{where} has numbers of type {raster.dtypes[0]!r}, which swath does not read."
        ) from error
    if any(size.kind not in "uif" for size in sizes):
        raise SceneError(
            f"{where} has complex numbers ({raster.dtypes[0]}). Store amplitude and phase, or real and "
            f"imaginary part, as separate bands."
        )
    return max(int(size.itemsize) for size in sizes)


def _georeference(raster: Any) -> tuple[float | None, str, tuple[float, float] | None]:
    grid = raster.transform
    crs = raster.crs
    placed = crs is not None and (crs.is_projected or crs.is_geographic)
    if not placed or grid.is_identity or not np.isfinite(grid[:6]).all():
        return None, "", None
    column, row = raster.width / 2, raster.height / 2
    x, y = grid.a * column + grid.b * row + grid.c, grid.d * column + grid.e * row + grid.f
    in_metres = crs.is_projected and crs.linear_units_factor[1] == 1.0
    # The root of a pixel's area, which also holds for rotated grids.
    gsd_m = float(abs(grid.determinant) ** 0.5) if in_metres and grid.determinant else None
    return gsd_m, crs.to_string(), (float(x), float(y))


def _plain(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"
