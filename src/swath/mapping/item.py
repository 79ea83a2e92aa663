"""A map as a STAC item: what it shows, where, when, in which files, made from what by what."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import rasterio.warp
import shapely
from rasterio.crs import CRS
from rasterio.enums import WktVersion
from rasterio.transform import Affine
from shapely.geometry import mapping, shape

from swath.files import write_json
from swath.mapping.colours import class_colours
from swath.mapping.finished import FinishedRasters
from swath.mapping.header import Source, look, openable, place
from swath.mapping.naming import RASTERS
from swath.mapping.products import LABEL_NODATA, SCALE, SCALED_NODATA, label_type
from swath.mapping.quick_look import cell_metres
from swath.mapping.virtual import VirtualFile
from swath.scenes.geotiff import RASTER_ERRORS, opened
from swath.scenes.remote import RemoteFile

__all__ = ["acquired", "footprint", "write_item"]

_EXTENSIONS: Final = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
)
_COG: Final = "image/tiff; application=geotiff; profile=cloud-optimized"
_MEDIA_TYPES: Final = {
    "GTiff": "image/tiff; application=geotiff",
    "JP2OpenJPEG": "image/jp2",
    "VRT": "application/xml",
}
_ASSETS: Final[dict[str, tuple[str, str, list[str]]]] = {
    "probability": ("Probability of each class", _COG, ["data"]),
    "labels": ("Most likely class, or classes above the threshold", _COG, ["data"]),
    "uncertainty": ("Entropy as a share of the largest there can be", _COG, ["data"]),
    "quick_look": ("Quick look", "image/png", ["overview"]),
    "style": ("Class colours for QGIS", "text/xml", ["metadata"]),
    "polygons": ("Polygons of the labels with their areas", "application/vnd.apache.parquet", ["data"]),
    "viewer": ("Viewer that works from a file", "text/html", ["overview"]),
}
_DATE: Final = re.compile(
    r"(?<!\d)((?:19|20)\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])"
    r"(?:[T_-]?([01]\d|2[0-3])[:-]?([0-5]\d)[:-]?([0-5]\d))?(?!\d)"
)
_POINTS_ALONG_A_SIDE: Final = 21


def write_item(rasters: FinishedRasters, path: Path) -> None:
    """Write a STAC 1.1 item. Paths in it are relative, so the folder can be moved together with the scene.

    Args:
        rasters: The map; all its other files are at their place.
        path: Where to.
    """
    place, settings = rasters.place, rasters.settings
    geometry = footprint(place.transform, place.grid.height, place.grid.width, place.crs)
    authority = place.crs.to_authority()
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": rasters.name,
        "properties": {
            **acquired(rasters.sources),
            "title": f"Map of {rasters.name}",
            "gsd": round(float(np.sqrt(np.prod(cell_metres(place)))), 6),
            "proj:code": ":".join(authority) if authority else None,
            **({} if authority else {"proj:wkt2": place.crs.to_wkt(version=WktVersion.WKT2_2019)}),
            "proj:shape": list(place.grid.cells),
            "proj:transform": list(place.cell_transform)[:6],
            "processing:software": {"swath": version("swath")},
            "processing:lineage": f"Windows of {place.grid.size} px, {settings.stride} px apart, "
            + ("pooled from feature maps that they share (approximate), " if settings.shared else "")
            + f"blended ({settings.blend}), edges {settings.edges}.",
            "swath:shared_features": settings.shared is not None,
            "swath:job": rasters.stamp,
            "swath:area_ha": {name: area for name, area in rasters.areas.items() if name},
            "swath:ground_ha": rasters.areas[""],
        },
        "geometry": geometry,
        "links": [
            {"rel": "derived_from", "href": _relative(source, rasters.folder), "type": _media_type(source)}
            for source in rasters.sources
        ],
        "assets": dict(_assets(rasters)),
    }
    if geometry is not None:
        item["bbox"] = _bbox(geometry)
    write_json(path, item)


def footprint(transform: Affine, height: int, width: int, crs: CRS) -> dict[str, Any] | None:
    """Return a raster's outline in longitude and latitude, as GeoJSON; None if it has no place on Earth.

    Sides are divided before they are reprojected, as straight lines become curves. What crosses the antimeridian is
    split there (RFC 7946, 3.1.9).
    """
    steps = np.linspace(0, 1, _POINTS_ALONG_A_SIDE)[:-1]
    zeros, ones = np.zeros_like(steps), np.ones_like(steps)
    columns = width * np.concatenate([steps, ones, 1 - steps, zeros])
    rows = height * np.concatenate([zeros, steps, ones, 1 - steps])
    ring = np.column_stack(place(transform, columns, rows)).tolist()
    outline = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    try:
        found = shape(rasterio.warp.transform_geom(crs, "EPSG:4326", outline))
    except RASTER_ERRORS:
        return None
    west, _, east, _ = found.bounds
    if not np.isfinite(found.bounds).all():
        return None
    if west < -180 or east > 180:  # in degrees already, and numbered on across the antimeridian
        turns = range(int(np.floor((west + 180) / 360)), int(np.ceil((east - 180) / 360)) + 1)
        parts = [
            shapely.transform(
                found.intersection(shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90)),
                lambda points, turn=turn: points - [360 * turn, 0],
            )
            for turn in turns
        ]
        found = shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon" and part.area])
    polygons = shapely.orient_polygons(shapely.set_precision(found, 1e-9))
    return dict(mapping(polygons))


def acquired(sources: Sequence[Source]) -> dict[str, Any]:
    """Return when a scene was taken, as the fields of a STAC item.

    A date in the file's name comes first, then the file's own, then when the file was last changed (of one on a server
    that is not known); which of them it was is said. A date without a time is the whole day.

    Example:
        >>> acquired([Path("T33_20190416_B04.tif")])["start_datetime"]
        '2019-04-16T00:00:00Z'
    """
    for source in sources:
        if found := _DATE.search(source.stem):
            year, month, day, *clock = (int(part) for part in found.groups() if part)
            with_time = _moment(year, month, day, *clock)
            if with_time and clock:
                return {"datetime": with_time, "swath:datetime_from": "file name"}
            if with_time:
                return {
                    "datetime": None,
                    "start_datetime": with_time,
                    "end_datetime": with_time.replace("00:00:00", "23:59:59"),
                    "swath:datetime_from": "file name",
                }
    file = sources[0]
    with opened(openable(file), look(file, "none").driver, str(file), whole=False) as raster:
        written = re.findall(r"\d+", str(raster.tags().get("TIFFTAG_DATETIME", "")))
    if len(written) == 6 and (moment := _moment(*map(int, written))):
        return {"datetime": moment, "swath:datetime_from": "TIFFTAG_DATETIME"}
    if isinstance(file, RemoteFile):
        return {
            "datetime": None,
            "start_datetime": "0001-01-01T00:00:00Z",
            "end_datetime": "9999-12-31T23:59:59Z",
            "swath:datetime_from": "not known",
        }
    local = file.path if isinstance(file, VirtualFile) else file
    changed = dt.datetime.fromtimestamp(int(local.stat().st_mtime), dt.UTC)
    return {"datetime": f"{changed:%Y-%m-%dT%H:%M:%SZ}", "swath:datetime_from": "last change of the file"}


def _moment(*numbers: int) -> str:
    """Return a moment as text; empty if there is no such day or time."""
    try:
        return f"{dt.datetime(*numbers, tzinfo=dt.UTC):%Y-%m-%dT%H:%M:%SZ}"  # type: ignore[arg-type,misc]
    except (ValueError, TypeError):
        return ""


def _bbox(geometry: dict[str, Any]) -> list[float]:
    """Return west, south, east, north; west is the larger number if the antimeridian lies between."""
    parts = [part.bounds for part in getattr(shape(geometry), "geoms", [shape(geometry)])]
    south, north = min(part[1] for part in parts), max(part[3] for part in parts)
    west, east = min(part[0] for part in parts), max(part[2] for part in parts)
    if len(parts) > 1:
        west = min((part[0] for part in parts if part[2] == 180), default=west)
        east = max((part[2] for part in parts if part[0] == -180), default=east)
    return [west, south, east, north]


def _assets(rasters: FinishedRasters) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, path in rasters.paths.items():
        if kind not in _ASSETS:
            continue
        title, media_type, roles = _ASSETS[kind]
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        asset = {
            "href": _relative(path, rasters.folder),
            "title": title,
            "type": media_type,
            "roles": roles,
            "file:size": path.stat().st_size,
            "file:checksum": f"1220{checksum}",  # multihash: sha2-256, 32 bytes
        }
        yield kind, asset | (_bands(rasters, kind) if kind in RASTERS else {})


def _bands(rasters: FinishedRasters, kind: str) -> dict[str, Any]:
    classes = rasters.contract.classes
    if kind != "labels":
        names = classes if kind == "probability" else ("uncertainty",)
        return {
            "data_type": "uint16",
            "nodata": SCALED_NODATA,
            "raster:scale": SCALE,
            "raster:offset": 0,
            "bands": [{"name": name} for name in names],
        }
    colours = [f"{red:02x}{green:02x}{blue:02x}" for red, green, blue in class_colours(classes)]
    described = [
        {"name": _identifier(name, value), "title": name, "description": name, "color_hint": colours[value]}
        for value, name in enumerate(classes)
    ]
    if rasters.contract.exclusive:
        kind_of_number, nodata = label_type(len(classes))
        return {
            "data_type": kind_of_number,
            "nodata": nodata,
            "bands": [{"name": "class"}],
            "classification:classes": [{"value": value, **one} for value, one in enumerate(described)],
        }
    absent = {"value": 0, "name": "absent", "description": "The class is not there."}
    return {
        "data_type": "uint8",
        "nodata": LABEL_NODATA,
        "bands": [
            {"name": name, "classification:classes": [absent, {"value": 1, **one}]}
            for name, one in zip(classes, described, strict=True)
        ],
    }


def _identifier(name: str, value: int) -> str:
    """Return a class's name of letters, digits, ``-`` and ``_`` alone, as the classification extension asks."""
    plain = re.sub(r"[^0-9A-Za-z_-]+", "-", name).strip("-")
    return plain if plain == name else f"{plain or 'class'}-{value}"


def _relative(path: Source, folder: Path) -> str:
    if isinstance(path, RemoteFile):
        return str(path)
    path = path.path if isinstance(path, VirtualFile) else path
    try:
        relative = os.path.relpath(path.resolve(), folder.resolve())
    except ValueError:  # another drive: no relative path leads there
        return path.resolve().as_uri()
    relative = Path(relative).as_posix()
    return quote(relative if relative.startswith("..") else f"./{relative}")


def _media_type(source: Source) -> str:
    return _MEDIA_TYPES[look(source, "none").driver]
