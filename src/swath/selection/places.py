"""Where scenes lie: strata of theme, climate and season, and regions for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.errors import InputError, SceneError, UnknownNameError
from swath.labels import LabelTable, is_present

__all__ = ["regions_of", "sampled", "strata_of"]

Columns = Mapping[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.str_]

_RASTERS = (".tif", ".tiff")
_GRID = 6  # regions along each axis where only coordinates say where a scene is
_NAMED = ("region", "country", "city")


def strata_of(
    what: Sequence[str], columns: Columns, rows: Rows, labels: LabelTable | None
) -> tuple[Rows, list[str]]:
    """Return the stratum of each scene: every combination of some descriptions that occurs is one.

    Args:
        what: Descriptions: ``class`` (the classes known to be present), the name of a column, or the path of a GeoTIFF
            (a thematic product, climate zones) that is looked up at the scenes' coordinates.
        columns: The columns of the data set.
        rows: Positions of the scenes in it.
        labels: What is known of these scenes; needed for ``class``.

    Returns:
        (rows,) number of the stratum, and the name of each.

    Raises:
        UnknownNameError: There is no such column.
        InputError: Nothing was named, or the data has no coordinates for a raster.
        SceneError: A raster cannot be read.

    Source:
        Sampling by theme, climate and season as for CSMoE (arXiv 2509.14104), from its abstract; even shares are our
        choice.

    Example:
        >>> columns = {"season": np.array(["dry", "wet", "dry"]), "climate": np.array(["A", "A", "A"])}
        >>> code, names = strata_of(["climate", "season"], columns, np.arange(3), None)
        >>> code.tolist(), names
        ([0, 1, 0], ['A, dry', 'A, wet'])
    """
    parts: list[Words] = []
    for name in what:
        if name == "class" and labels is not None and "class" not in columns:
            parts.append(_themes(labels))
        elif name.lower().endswith(_RASTERS):
            parts.append(sampled(Path(name), columns, rows))
        elif name in columns:
            parts.append(np.asarray(columns[name])[rows].astype(str))
        else:
            raise UnknownNameError("column to make strata of", name, ["class", *columns])
    if not parts:
        raise InputError(
            "strata needs to know by what: --strata class,season,climate.tif names the classes, columns of the table, "
            "and rasters that are looked up at the scenes' coordinates."
        )
    combined = np.array([", ".join(words) for words in zip(*parts, strict=True)])
    names, code = np.unique(combined, return_inverse=True)
    return code.reshape(-1).astype(np.int64), names.tolist()


def sampled(path: Path, columns: Columns, rows: Rows) -> Words:
    """Return the value of a raster's first band at each scene, ``outside`` where it has none there.

    Args:
        path: A GeoTIFF.
        columns: With ``lon`` and ``lat``, or with ``x``, ``y`` and ``crs``.
        rows: Positions of the scenes.

    Raises:
        InputError: There are no coordinates, or nobody says in which system.
        SceneError: The raster cannot be read, or says not where it lies.
    """
    from pyproj import Transformer
    from pyproj.exceptions import ProjError
    from rasterio.errors import RasterioError

    from swath.scenes.geotiff import opened

    x, y, crs = _coordinates(columns, rows, path)
    if not path.is_file():
        raise SceneError(f"There is no raster {path}. Check the path.")
    try:
        with opened(path, "GTiff", str(path), whole=False) as raster:
            if raster.crs is None:
                raise SceneError(f"{path} does not say which coordinate system it is in.")
            found = np.full(len(rows), "outside", "U32")
            there = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
            # What has no place in the raster's system becomes infinite, and so lies outside.
            to_raster = Transformer.from_crs(crs, raster.crs.to_wkt(), always_xy=True)
            px, py = to_raster.transform(x[there], y[there])
            inside = (px >= raster.bounds.left) & (px < raster.bounds.right)
            inside &= (py > raster.bounds.bottom) & (py <= raster.bounds.top)
            # Neighbours one after the other: GDAL then reads each of its blocks once.
            order = np.flatnonzero(inside)[np.lexsort((px[inside], -py[inside]))]
            points = zip(px[order], py[order], strict=True)
            values = [value[0] for value in raster.sample(points, indexes=1, masked=True)]
            found[there[order]] = ["outside" if np.ma.is_masked(value) else str(value) for value in values]
            return found
    except ProjError as error:
        raise InputError(
            f"The scenes' coordinate system {crs!r} cannot be brought to that of {path}: {error}."
        ) from error
    except RasterioError as error:
        raise SceneError(f"{path} cannot be read at the scenes' coordinates: {error}.") from error


def regions_of(columns: Columns, rows: Rows) -> Words | None:
    """Return the region of each scene for a report, or None where nothing says where scenes are.

    A column ``region``, ``country`` or ``city`` names it; else coordinates are divided into at most 6 by 6 squares.

    Args:
        columns: The columns of the data set.
        rows: Positions of the scenes in it.
    """
    for name in _NAMED:
        if name in columns:
            return np.asarray(columns[name])[rows].astype(str)
    for pair in (("lon", "lat"), ("x", "y")):
        if all(name in columns for name in pair):
            place = np.stack([_numbers(columns, name, rows) for name in pair], axis=1)
            known = np.asarray(np.isfinite(place).all(axis=1))
            if not known.any():
                return None
            low, size = place[known].min(axis=0), np.ptp(place[known], axis=0).max() / _GRID
            cell = np.floor((np.where(known[:, None], place, low) - low) / max(size, 1e-12)).clip(
                0, _GRID - 1
            )
            corner = low + cell * size
            words = np.array([f"{pair[0]} {x:.6g}, {pair[1]} {y:.6g}" for x, y in corner])
            return np.where(known, words, "unknown")
    return None


def _themes(labels: LabelTable) -> Words:
    present = is_present(labels.state)
    patterns, code = np.unique(present, axis=0, return_inverse=True)
    names = [
        "+".join(name for name, there in zip(labels.classes, row, strict=True) if there) or "unknown"
        for row in patterns
    ]
    return np.array(names)[code.reshape(-1)]


def _coordinates(
    columns: Columns, rows: Rows, path: Path
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], str]:
    if {"lon", "lat"} <= set(columns):
        return _numbers(columns, "lon", rows), _numbers(columns, "lat", rows), "EPSG:4326"
    if not {"x", "y"} <= set(columns):
        raise InputError(
            f"{path} is to be looked up at the scenes' coordinates, and the data has none: neither georeferenced files "
            f"nor columns lon and lat."
        )
    systems = (
        {str(name) for name in np.unique(np.asarray(columns["crs"])[rows]) if name}
        if "crs" in columns
        else set()
    )
    if len(systems) != 1:
        raise InputError(
            f"{path} is to be looked up at the scenes' coordinates x and y, and their coordinate system is "
            f"{'given as ' + ', '.join(sorted(systems)) if systems else 'not given'}; a column crs has to name one."
        )
    return _numbers(columns, "x", rows), _numbers(columns, "y", rows), systems.pop()


def _numbers(columns: Columns, name: str, rows: Rows) -> npt.NDArray[np.float64]:
    return np.asarray(columns[name], np.float64)[rows]
