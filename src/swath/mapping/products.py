"""The rasters of a map: probability, labels and uncertainty, as Cloud-Optimised GeoTIFF."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window

from swath.errors import OutputError
from swath.mapping.blend import Blender
from swath.mapping.cog import block_edge, drafted, publish
from swath.mapping.colours import class_colours
from swath.mapping.grid import WindowGrid
from swath.mapping.header import metres_per_degree, place, scaled
from swath.mapping.naming import CHANGE_SUFFIXES, RASTERS, SUFFIXES, file_stamp
from swath.mapping.settings import MapSettings
from swath.mapping.windows import usable_windows
from swath.mapping.work import WorkFolder
from swath.scenes.contract import BandContract
from swath.scenes.geotiff import RASTER_ERRORS

__all__ = [
    "LABEL_NODATA",
    "SCALE",
    "SCALED_NODATA",
    "Place",
    "bytes_needed",
    "check_space",
    "is_map",
    "label_type",
    "read_tags",
    "write_products",
]

SCALE: Final = 1e-4
"""Probability and uncertainty are stored as whole numbers of this size."""
SCALED_NODATA: Final = 65535
LABEL_NODATA: Final = 255


@dataclass(frozen=True)
class Place:
    """Where a map lies.

    Args:
        grid: Windows and cells.
        transform: Of the scene's pixels; a cell's is this times ``scale(stride)``.
        crs: Coordinate system.
    """

    grid: WindowGrid
    transform: Affine
    crs: CRS

    @property
    def cell_transform(self) -> Affine:
        """Cell corner to CRS units."""
        return scaled(self.transform, self.grid.stride)

    def pixel_area_m2(self, rows: slice, columns: slice) -> npt.NDArray[np.float64]:
        """Return the area of a pixel in each cell of a block, in square metres, on the ellipsoid if in degrees."""
        area = abs(self.transform.determinant)
        shape = rows.stop - rows.start, columns.stop - columns.start
        if self.crs.is_projected:
            return np.full(shape, area * float(self.crs.linear_units_factor[1]) ** 2)
        x, y = np.meshgrid(
            self.grid.columns.cell_centres[columns], self.grid.rows.cell_centres[rows], copy=False
        )
        _, latitude = place(self.transform, x, y)
        east, north = metres_per_degree(latitude)
        return np.asarray(area * east * north, np.float64)


def bytes_needed(grid: WindowGrid, classes: int, exclusive: bool) -> int:
    """Return how much disk a map takes while it is made, at most: work, temporary rasters and products."""
    windows, cells = (height * width for height, width in (grid.windows, grid.cells))
    label_bytes = 1 if exclusive else classes
    raster = 2 * classes + label_bytes + 2
    chunks = len(grid.rows.pieces(1024)) * len(grid.columns.pieces(1024))
    overhead = 2**20 + 4096 * chunks  # each file takes a block of the disk at least
    # Temporary raster, overviews at a third, and the copy with its overviews.
    return windows * (4 * classes + 4) + cells * 4 + int(cells * raster * (1 + 1 / 3 + 4 / 3)) + overhead


def write_products(
    folder: Path,
    name: str,
    where: Place,
    work: WorkFolder,
    contract: BandContract,
    settings: MapSettings,
    tags: Mapping[str, str],
) -> dict[str, float]:
    """Blend the windows block by block and write ``NAME.probability.tif``, ``.labels.tif`` and ``.uncertainty.tif``.

    Args:
        folder: Where to.
        name: The scene's.
        where: Grid, transform and coordinate system.
        work: Holds every window.
        contract: Class names, and whether they exclude each other.
        settings: How to blend, and the threshold.
        tags: Further entries for the files' metadata.

    Returns:
        Valid ground of each class in hectares, and of all under the empty name.

    Raises:
        OutputError: A file cannot be written.
    """
    grid, classes = where.grid, len(contract.classes)
    blender = Blender(grid, settings.blend)
    edge = block_edge(classes)
    area = np.zeros(classes + 1)
    with contextlib.ExitStack() as stack:
        drafts = {kind: stack.enter_context(_draft(work, kind, where, contract)) for kind in RASTERS}
        for rows, columns in grid.blocks(edge):
            probability, valid = work.windows(grid, classes, *blender.needed(rows, columns))
            counted = work.cells(grid, rows, columns)
            blended, covered = blender(rows, columns, probability, usable_windows(valid, grid, settings))
            seen = covered & (counted > 0)
            labels = _labels(blended, seen, contract.exclusive, settings.threshold)
            window = Window(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
            drafts["probability"].write(_scaled(blended, seen), window=window)
            drafts["labels"].write(labels, window=window)
            drafts["uncertainty"].write(
                _scaled(_uncertainty(blended, contract.exclusive)[None], seen), window=window
            )
            hectares = np.where(seen, counted * where.pixel_area_m2(rows, columns) / 1e4, 0)
            area[-1] += hectares.sum()
            for position in range(classes):
                present = labels[0] == position if contract.exclusive else labels[position] == 1
                area[position] += hectares[present].sum()
        areas = dict(zip((*contract.classes, ""), area.tolist(), strict=True))
        written = {**tags, "AREA_HA": json.dumps(areas)}
        for kind, draft in drafts.items():
            _describe(draft, kind, contract, written)
    for kind in RASTERS:
        target = folder / f"{name}.{kind}.tif"
        publish(_draft_path(work, kind), target, block_edge(classes), codes=kind == "labels")
    return areas


def read_tags(path: Path) -> dict[str, str]:
    """Return a product's metadata; empty if there is no such file or it is no GeoTIFF."""
    try:
        with rasterio.Env(GDAL_PAM_ENABLED="NO"), rasterio.open(path, driver="GTiff") as raster:
            return dict(raster.tags())
    except RASTER_ERRORS:
        return {}


def is_map(path: Path) -> bool:
    """Say whether a file is a map that swath made."""
    rasters = tuple(suffix for suffix in (SUFFIXES | CHANGE_SUFFIXES).values() if suffix.endswith(".tif"))
    if path.suffix == ".tif":
        return path.name.endswith(rasters) and "SWATH_JOB" in read_tags(path)
    return bool(file_stamp(path))


def _labels(
    probability: npt.NDArray[np.float32], seen: npt.NDArray[np.bool_], exclusive: bool, threshold: float
) -> npt.NDArray[Any]:
    if exclusive:
        kind, nodata = label_type(len(probability))
        return np.where(seen, probability.argmax(axis=0), nodata).astype(kind)[None]
    return np.where(seen, probability >= threshold, LABEL_NODATA).astype(np.uint8)


def label_type(classes: int) -> tuple[str, int]:
    """Return number type and nodata value of a map of exclusive classes."""
    return ("uint8", LABEL_NODATA) if classes <= LABEL_NODATA else ("uint16", SCALED_NODATA)


def _uncertainty(probability: npt.NDArray[np.float32], exclusive: bool) -> npt.NDArray[np.float32]:
    """Return entropy as a share of the largest there can be; of classes that may hold together the mean of each."""
    p = probability.astype(np.float64)
    if exclusive:
        p /= np.maximum(p.sum(axis=0), 1e-12)  # blended in float32, they miss 1 by rounding
        largest = np.log(len(p)) if len(p) > 1 else 1.0
        return np.asarray(_entropy(p).sum(axis=0) / largest, np.float32)
    return np.asarray((_entropy(p) + _entropy(1 - p)).mean(axis=0) / np.log(2), np.float32)


def _entropy(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    positive = np.maximum(p, 1e-300)
    return -p * np.log(positive)


def _scaled(values: npt.NDArray[np.float32], seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint16]:
    whole = np.rint(values.astype(np.float64).clip(0, 1) / SCALE)
    return np.where(seen, whole, SCALED_NODATA).astype(np.uint16)


def _draft(work: WorkFolder, kind: str, where: Place, contract: BandContract) -> AbstractContextManager[Any]:
    """Return a tiled raster in the work folder, to be filled."""
    classes = len(contract.classes)
    dtype, nodata = "uint16", SCALED_NODATA
    count = {"probability": classes, "labels": 1 if contract.exclusive else classes, "uncertainty": 1}[kind]
    if kind == "labels":
        dtype, nodata = label_type(classes) if contract.exclusive else ("uint8", LABEL_NODATA)
    return drafted(
        _draft_path(work, kind),
        shape=where.grid.cells,
        count=count,
        dtype=dtype,
        nodata=nodata,
        crs=where.crs,
        transform=where.cell_transform,
        edge=block_edge(classes),
    )


def _describe(raster: Any, kind: str, contract: BandContract, tags: Mapping[str, str]) -> None:
    """Write names, scale, palette and notes into a draft; they have to be there before it is copied."""
    classes = contract.classes
    raster.update_tags(**tags, CLASSES="|".join(classes), PRODUCT=kind)
    if kind == "labels":
        if contract.exclusive:
            raster.descriptions = ("class",)
            raster.update_tags(1, **{f"CLASS_{value}": name for value, name in enumerate(classes)})
            if raster.dtypes[0] == "uint8":
                colours = {value: (*colour, 255) for value, colour in enumerate(class_colours(classes))}
                raster.write_colormap(1, {**colours, LABEL_NODATA: (0, 0, 0, 0)})
        else:
            raster.descriptions = classes
        return
    raster.descriptions = classes if kind == "probability" else ("uncertainty",)
    raster.scales = (SCALE,) * raster.count
    raster.offsets = (0.0,) * raster.count


def _draft_path(work: WorkFolder, kind: str) -> Path:
    return work.folder / f"{kind}.tif"


def check_space(folder: Path, work: Path, needed: int) -> None:
    """Raise if a map would not fit on the disk.

    Raises:
        OutputError: It would not; the message says how much is missing.
    """
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(existing).free
    there = sum(entry.stat().st_size for entry in os.scandir(work)) if work.is_dir() else 0
    if needed > free + there:
        raise OutputError(
            f"The map needs up to {needed / 2**30:.2f} GiB in {folder} while it is made; {free / 2**30:.2f} GiB are "
            f"free. Make room, choose another --out, or a larger --stride."
        )
