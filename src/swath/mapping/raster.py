"""A whole scene of any size, read in parts, on the grid of pixels that the model was trained for."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from swath.errors import InputError, SceneError
from swath.mapping.bands import BandMapping, Reading, map_bands
from swath.mapping.header import PixelGrid, RasterFile, Source, bounds, look, openable, scaled
from swath.scenes.contract import BandContract
from swath.scenes.geotiff import RASTER_ERRORS, opened

__all__ = ["CACHE_BYTES", "RasterReader", "RasterScene", "bounded_cache"]

SAME_GSD: Final = 0.01
"""Grids whose ground sampling distances differ by less than this share count as the same."""

CACHE_BYTES: Final = 256 * 2**20
"""GDAL's cache of decoded blocks, for the whole process; its own default is a share of the machine's memory."""


@contextlib.contextmanager
def bounded_cache() -> Iterator[None]:
    """Bound GDAL's cache, and leave it as it was.

    It is one for all threads. So it is bounded once around them: threads that each did it would take each other's bound
    for what was there before, and leave it behind.
    """
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        yield


@dataclass(frozen=True)
class _Layer:
    """Bands of one file: which of the model's bands they are, and whether the file must be resampled."""

    file: RasterFile
    indexes: tuple[int, ...]
    positions: tuple[int, ...]
    resampling: Resampling | None


class RasterScene:
    """One GeoTIFF, or several files of one scene that together hold the model's bands.

    Only headers are read here. Files are opened with a single allowed driver, files beside them are not looked
    at, and no server is ever asked.

    Args:
        paths: The files.
        contract: The model's band contract; its ground sampling distance decides the grid.
        reading: What to use instead of what the files say.
        names: A band name for each file, if each holds one band; empty if the files say it themselves.

    Raises:
        SceneError: A file is damaged, not georeferenced, or not a raster that swath reads; or files do not fit.
        ContractError: Bands, units or scales are not what the model was trained on.
        InputError: ``reading`` does not fit the files.
    """

    def __init__(
        self,
        paths: Sequence[Source],
        contract: BandContract,
        reading: Reading | None = None,
        names: Sequence[str] = (),
    ) -> None:
        reading = reading or Reading()
        files = [look(path, reading.nodata) for path in paths]
        if names:
            files = [replace(file, names=(name,)) for file, name in zip(files, names, strict=True)]
        self.what = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        self.mapping: BandMapping = map_bands(files, contract, reading, self.what)
        used = sorted({file for file, _ in self.mapping.sources})
        self.notes: list[str] = [*self.mapping.notes]
        self._check_together([files[number] for number in used], reading)
        finest = min((files[number] for number in used), key=lambda file: file.gsd_m)
        if reading.grid is not None:
            self._adopt(reading.grid)
        else:
            self._place(finest, contract.gsd_m, reading.crs)
        self._layers = [self._layer(files[number], number) for number in used]

    height: int
    width: int
    transform: Affine
    crs: CRS
    gsd_m: float

    @property
    def grid(self) -> PixelGrid:
        """The pixels it is read on."""
        return PixelGrid(self.height, self.width, self.transform, self.crs, self.gsd_m)

    @contextlib.contextmanager
    def reading(self) -> Iterator[RasterReader]:
        """Yield a reader; it belongs to the thread that opened it. Call it inside :func:`bounded_cache`."""
        with contextlib.ExitStack() as stack:
            parts = []
            for layer in self._layers:
                file = layer.file
                raster = stack.enter_context(
                    opened(openable(file.path), file.driver, str(file.path), whole=False)
                )
                if layer.resampling is not None:
                    raster = stack.enter_context(self._warped(raster, layer))
                parts.append((layer, raster))
            yield RasterReader(self, parts)

    def _warped(self, raster: Any, layer: _Layer) -> WarpedVRT:
        # Without a fixed scale GDAL takes it from each request, and pixels would depend on how they are asked for.
        extra = {"XSCALE": 1, "YSCALE": 1} if layer.resampling == Resampling.bilinear else {}
        return WarpedVRT(
            raster,
            crs=self.crs,
            transform=self.transform,
            width=self.width,
            height=self.height,
            resampling=layer.resampling,
            tolerance=1e-9,  # pixels; 0 is refused
            src_nodata=layer.file.nodata,
            src_alpha=layer.file.alpha,
            dtype="float32",
            nodata=math.nan,
            **extra,
        )

    def _check_together(self, files: Sequence[RasterFile], reading: Reading) -> None:
        first = files[0]
        for other in files[1:]:
            if other.crs != first.crs and not reading.crs:
                raise SceneError(
                    f"{first.path} and {other.path} are in different coordinate systems ({_short(first.crs)}, "
                    f"{_short(other.crs)}). Name the one to map in with --crs EPSG:NUMBER."
                )
            mine, theirs = bounds(first, other.crs), bounds(other, other.crs)
            if mine[0] >= theirs[2] or theirs[0] >= mine[2] or mine[1] >= theirs[3] or theirs[1] >= mine[3]:
                raise SceneError(
                    f"{first.path} and {other.path} do not overlap; files of one scene show the same ground. Map "
                    f"them as separate scenes, each with all bands."
                )

    def _adopt(self, grid: PixelGrid) -> None:
        self.height, self.width, self.transform = grid.height, grid.width, grid.transform
        self.crs, self.gsd_m = grid.crs, grid.gsd_m

    def _place(self, finest: RasterFile, wanted_m: float | None, crs: str) -> None:
        """Choose the grid: the finest file's, scaled to the model's ground sampling distance."""
        self.crs, self.transform = finest.crs, finest.transform
        self.height, self.width, self.gsd_m = finest.height, finest.width, finest.gsd_m
        if wanted_m is None:
            self.notes.append(
                "The model's ground sampling distance is not known: every pixel counts as one of its pixels."
            )
        factor = 1.0 if wanted_m is None else wanted_m / finest.gsd_m
        if abs(factor - 1) <= SAME_GSD:
            factor = 1.0
        if crs:
            self._reproject(finest, crs, factor)
        elif factor != 1:
            self.transform = scaled(finest.transform, factor)
            self.height, self.width = (max(1, round(side / factor)) for side in (self.height, self.width))
            self.gsd_m = finest.gsd_m * factor

    def _reproject(self, finest: RasterFile, crs: str, factor: float) -> None:
        if not re.fullmatch(r"[A-Za-z]+:\d+", crs):
            raise InputError(f"crs is {crs!r}; expected an authority's code such as EPSG:32632.")
        try:
            self.crs = CRS.from_string(crs)
            if not (self.crs.is_projected or self.crs.is_geographic):
                raise InputError(f"{crs} is no coordinate system for maps; expected one such as EPSG:32632.")
            west, south, east, north = bounds(finest, finest.crs)
            transform, width, height = rasterio.warp.calculate_default_transform(
                finest.crs, self.crs, finest.width, finest.height, west, south, east, north
            )
        except RASTER_ERRORS as error:
            raise InputError(f"{finest.path} cannot be brought to {crs}: {error}. Choose another.") from error
        self.transform = scaled(transform, factor)
        self.height, self.width = max(1, round(height / factor)), max(1, round(width / factor))
        self.gsd_m = finest.gsd_m * factor
        self.notes.append(f"Reprojected from {_short(finest.crs)} to {crs}.")

    def _layer(self, file: RasterFile, number: int) -> _Layer:
        chosen = [
            (band, position)
            for position, (source, band) in enumerate(self.mapping.sources)
            if source == number
        ]
        same = (
            file.crs == self.crs
            and (file.height, file.width) == (self.height, self.width)
            and file.transform.almost_equals(self.transform, precision=1e-9 * abs(file.transform.a or 1))
        )
        resampling = None
        if not same:
            shrinks = self.gsd_m > file.gsd_m * (1 + SAME_GSD)
            resampling = Resampling.average if shrinks else Resampling.bilinear
            bands = ", ".join(self.mapping.names[position] for _, position in chosen)
            self.notes.append(
                f"{bands}: resampled from {file.gsd_m:.4g} m to {self.gsd_m:.4g} m ({resampling.name})."
            )
        indexes = tuple(file.indexes[band] for band, _ in chosen)
        return _Layer(file, indexes, tuple(position for _, position in chosen), resampling)


class RasterReader:
    """Reads parts of a scene; made by :meth:`RasterScene.reading`."""

    def __init__(self, scene: RasterScene, parts: Sequence[tuple[_Layer, Any]]) -> None:
        self._bands = len(scene.mapping.sources)
        self._what = scene.what
        self._parts = parts

    def read(self, rows: slice, columns: slice) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Read a rectangle of the scene's grid.

        Args:
            rows: Rows of pixels.
            columns: Columns of pixels.

        Returns:
            (bands, height, width) stored numbers in the order of the model's bands, and (height, width) which
            pixels are data in every band.

        Raises:
            SceneError: The file is damaged there.
        """
        shape = rows.stop - rows.start, columns.stop - columns.start
        window = Window(columns.start, rows.start, shape[1], shape[0])
        values = np.empty((self._bands, *shape), np.float32)
        valid = np.ones(shape, bool)
        for layer, raster in self._parts:
            file, warped = layer.file, layer.resampling is not None
            try:
                stored = raster.read(list(layer.indexes), window=window)
                if file.masked and not warped:
                    valid &= raster.dataset_mask(window=window) > 0
            except RASTER_ERRORS as error:
                raise SceneError(
                    f"{file.path} is damaged or cut short in rows {rows.start} to {rows.stop} and columns "
                    f"{columns.start} to {columns.stop}: {error}. Copy or download it again."
                ) from error
            for position, band in zip(layer.positions, stored, strict=True):
                valid &= _is_data(band, math.nan if warped else file.nodata)
                with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which is no data
                    values[position] = band
                if band.dtype == np.float64:
                    valid &= np.isfinite(values[position])
        return values, valid


def _is_data(band: npt.NDArray[Any], nodata: float | None) -> npt.NDArray[np.bool_]:
    data: npt.NDArray[np.bool_]
    if band.dtype.kind == "f":
        data = np.isfinite(band)
        return data if nodata is None or math.isnan(nodata) else data & (band != nodata)
    if nodata is None:
        return np.ones(band.shape, bool)
    data = band != int(nodata)
    return data


def _short(crs: CRS) -> str:
    return str(crs.to_string())[:60]
