"""The label map as polygons, with class and area, in a GeoParquet file; strip by strip, dissolved over the strips."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely
from rasterio.enums import WktVersion
from rasterio.features import shapes
from rasterio.windows import Window
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from swath.mapping.finished import FinishedRasters
from swath.mapping.header import place
from swath.mapping.products import Place

__all__ = ["Dissolver", "areas_ha", "write_polygons"]

CELLS_IN_STRIP: Final = 2**18
MOST_CORNERS: Final = 200_000
"""A polygon that has more corners at a strip's end is cut there: memory stays bounded, whatever the map."""
MOST_HELD: Final = 4_000_000
"""The same for all polygons that go on into the next strip, together."""
_ROWS_AT_ONCE: Final = 20_000

_SCHEMA: Final = pa.schema(
    [
        ("class", pa.string()),
        ("class_number", pa.int32()),
        ("area_ha", pa.float64()),
        ("geometry", pa.binary()),
        ("bbox", pa.struct([(side, pa.float64()) for side in ("xmin", "ymin", "xmax", "ymax")])),
    ]
)


def write_polygons(rasters: FinishedRasters, path: Path) -> None:
    """Write a GeoParquet 1.1 file: a row for each connected area of a class (cells that share a side).

    Polygons follow the cells' sides and end where the scene does. Where classes may hold together, each has its own
    polygons, and they overlap. Areas are geodesic in degrees, planar otherwise.

    Args:
        rasters: The map.
        path: Where to.
    """
    writer = _Writer(rasters, path)
    height, width = rasters.place.grid.cells
    step = max(1, CELLS_IN_STRIP // width)
    with writer, rasters.opened("labels") as raster:
        exclusive = rasters.contract.exclusive
        layers = [Dissolver(width) for _ in range(raster.count)]
        for first in range(0, height, step):
            stop = min(first + step, height)
            stored = raster.read(window=Window(0, first, width, stop - first))
            for number, (labels, layer) in enumerate(zip(stored, layers, strict=True)):
                shown = labels != raster.nodata if exclusive else labels == 1
                values = labels.astype(np.int32) if exclusive else np.full(labels.shape, number, np.int32)
                writer.write(*layer.add(values, shown, last=stop == height))


class Dissolver:
    """Turns one strip of labels after the other into polygons that do not show where the strips end.

    Args:
        width: Cells across.
        most_corners: Of a polygon that goes on into the next strip; one with more is cut.
    """

    def __init__(self, width: int, most_corners: int = MOST_CORNERS) -> None:
        self._width, self._most = width, most_corners
        self._row = 0
        # Of each unfinished polygon its pieces and value, and for each column which of them has the cell above.
        self._pieces: list[npt.NDArray[np.object_]] = []
        self._values = np.empty(0, np.int32)
        self._above = np.full(width, -1)

    def add(
        self, labels: npt.NDArray[np.int32], shown: npt.NDArray[np.bool_], *, last: bool
    ) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int32]]:
        """Take the next rows.

        Args:
            labels: (rows, width) value of each cell.
            shown: (rows, width) cells that belong to a polygon.
            last: Whether no more rows follow.

        Returns:
            Polygons that cannot grow any more, in cells from the map's upper left corner, and their values.
        """
        first, self._row = self._row, self._row + len(labels)
        polygons, values, top, bottom = _vectorised(labels, shown, first)
        known = len(self._pieces)
        every = np.concatenate([self._values, values])
        meets = (self._above >= 0) & (top >= 0)
        meets[meets] = self._values[self._above[meets]] == values[top[meets]]
        graph = sparse.coo_array(
            (np.ones(meets.sum(), np.int8), (self._above[meets], known + top[meets])), shape=(len(every),) * 2
        )
        count, group = connected_components(graph, directed=False)
        goes_on = np.zeros(count, bool)
        if not last:
            goes_on[group[known + np.unique(bottom[bottom >= 0])]] = True
        # Most polygons are whole in one strip; the others are put together from their pieces.
        members = np.bincount(group, minlength=count)
        single = (members[group[known:]] == 1) & ~goes_on[group[known:]]
        done, done_values = [polygons[single]], [values[single]]
        joined: dict[int, list[npt.NDArray[np.object_]]] = {}
        for position in range(known):
            joined.setdefault(int(group[position]), []).append(self._pieces[position])
        for position in np.flatnonzero(~single).tolist():
            joined.setdefault(int(group[known + position]), []).append(polygons[position : position + 1])
        value_of = np.empty(count, np.int32)
        value_of[group] = every
        pieces = {key: np.concatenate(parts) for key, parts in joined.items()}
        corners = {key: int(shapely.get_num_coordinates(parts).sum()) for key, parts in pieces.items()}
        too_many = sum(corners[key] for key in pieces if goes_on[key]) > MOST_HELD
        for key in pieces:
            if goes_on[key] and (too_many or corners[key] > self._most):
                goes_on[key] = False
        new = np.full(count, -1)
        kept = [key for key in pieces if goes_on[key]]
        new[kept] = np.arange(len(kept))
        for key, parts in pieces.items():
            if not goes_on[key]:
                whole = shapely.get_parts(shapely.simplify(shapely.union_all(parts), 0))
                done.append(whole)
                done_values.append(np.full(len(whole), value_of[key]))
        self._pieces, self._values = [pieces[key] for key in kept], value_of[kept]
        self._above = np.where(bottom >= 0, new[group[known + bottom.clip(0)]] if len(values) else -1, -1)
        return np.concatenate(done), np.concatenate(done_values)


def _vectorised(
    labels: npt.NDArray[np.int32], shown: npt.NDArray[np.bool_], first: int
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return a strip's polygons, their values, and which of them has each cell of its first and of its last row."""
    rings: list[npt.NDArray[np.float64]] = []
    rings_before, values = [0], []
    for outline, value in shapes(labels, mask=shown, connectivity=4):
        rings += [np.array(ring) for ring in outline["coordinates"]]
        rings_before.append(len(rings))
        values.append(value)
    ends = np.full((2, labels.shape[1]), -1)
    if not values:
        return np.empty(0, object), np.empty(0, np.int32), ends[0], ends[1]
    lengths = np.array([len(ring) for ring in rings])
    points = np.concatenate(rings)
    # A side on the strip's border is above or below the cells of its own polygon.
    owner = np.repeat(np.repeat(np.arange(len(values)), np.diff(rings_before)), lengths)
    same_ring = np.diff(np.repeat(np.arange(len(rings)), lengths)) == 0
    for end, row in enumerate((0, labels.shape[0])):
        sides = np.flatnonzero(same_ring & (points[:-1, 1] == row) & (points[1:, 1] == row))
        for side in sides:
            left, right = sorted((int(points[side, 0]), int(points[side + 1, 0])))
            ends[end, left:right] = owner[side]
    points[:, 1] += first
    polygons = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON,
        points,
        (np.concatenate([[0], np.cumsum(lengths)]), np.array(rings_before)),
    )
    return polygons, np.array(values).astype(np.int32), ends[0], ends[1]


def areas_ha(polygons: npt.NDArray[np.object_], where: Place) -> npt.NDArray[np.float64]:
    """Return the area of polygons in hectares.

    Args:
        polygons: In cells from the map's upper left corner.
        where: What a cell is.

    Returns:
        Exact planar areas in a projected CRS. In degrees the geodesic area, on the ellipsoid of the CRS, of each
        polygon with a corner at every cell it passes, so that polygons that share a side share it on the ellipsoid too.
    """
    if where.crs.is_projected:
        metres = float(where.crs.linear_units_factor[1])
        return np.asarray(
            shapely.area(_in_pixels(polygons, where)) * abs(where.transform.determinant) * metres**2 / 1e4,
            np.float64,
        )
    geod = _crs(where).get_geod() or pyproj.Geod(ellps="WGS84")
    fine = shapely.transform(shapely.segmentize(polygons, 1.0), np.rint)
    return np.array([abs(geod.geometry_area_perimeter(one)[0]) / 1e4 for one in _on_the_ground(fine, where)])


def _in_pixels(polygons: npt.NDArray[np.object_], where: Place) -> npt.NDArray[np.object_]:
    """Return polygons in the scene's pixels; the last cells end where the scene does."""
    grid = where.grid
    ends = [grid.width, grid.height]
    return np.asarray(shapely.transform(polygons, lambda points: np.minimum(points * grid.stride, ends)))


def _on_the_ground(polygons: npt.NDArray[np.object_], where: Place) -> npt.NDArray[np.object_]:
    """Return polygons in the units of the CRS, outlines counterclockwise."""
    placed = shapely.transform(
        _in_pixels(polygons, where),
        lambda points: np.column_stack(place(where.transform, points[:, 0], points[:, 1])),
    )
    return np.asarray(shapely.orient_polygons(placed))


def _crs(where: Place) -> pyproj.CRS:
    authority = where.crs.to_authority()
    return pyproj.CRS.from_user_input(
        ":".join(authority) if authority else where.crs.to_wkt(version=WktVersion.WKT2_2019)
    )


class _Writer:
    """Writes rows as they come, in groups of about the same size."""

    def __init__(self, rasters: FinishedRasters, path: Path) -> None:
        self._rasters = rasters
        self._path = path
        self._waiting: list[tuple[npt.NDArray[np.object_], npt.NDArray[np.int32]]] = []
        self._bounds: list[npt.NDArray[np.float64]] = []

    def __enter__(self) -> _Writer:
        self._file = pq.ParquetWriter(self._path, _SCHEMA, compression="zstd")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
            self._file.add_key_value_metadata(
                {"geo": json.dumps(self._description()), "swath_job": self._rasters.stamp}
            )
        self._file.close()

    def write(self, polygons: npt.NDArray[np.object_], values: npt.NDArray[np.int32]) -> None:
        self._waiting.append((polygons, values))
        if sum(len(values) for _, values in self._waiting) >= _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        polygons, values = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        for part in _pieces(len(polygons)):
            self._file.write_table(self._table(polygons[part], values[part]))

    def _table(self, polygons: npt.NDArray[np.object_], values: npt.NDArray[np.int32]) -> pa.Table:
        where, classes = self._rasters.place, np.array(self._rasters.contract.classes, object)
        placed = _on_the_ground(polygons, where)
        bounds = shapely.bounds(placed)
        self._bounds.append(np.concatenate([bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)]))
        columns = [
            pa.array(classes[values], pa.string()),
            pa.array(values),
            pa.array(areas_ha(polygons, where)),
            pa.array(shapely.to_wkb(placed, byte_order=1), pa.binary()),
            pa.StructArray.from_arrays(list(bounds.T), fields=list(_SCHEMA.field("bbox").type)),
        ]
        return pa.Table.from_arrays(columns, schema=_SCHEMA)

    def _description(self) -> dict[str, Any]:
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": ["Polygon"],
            "crs": _crs(self._rasters.place).to_json_dict(),
            "edges": "planar",
            "orientation": "counterclockwise",
            "covering": {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}},
        }
        if self._bounds:
            every = np.array(self._bounds)
            column["bbox"] = [*every[:, :2].min(axis=0).tolist(), *every[:, 2:].max(axis=0).tolist()]
        return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _pieces(length: int) -> Iterator[slice]:
    for first in range(0, length, _ROWS_AT_ONCE):
        yield slice(first, min(first + _ROWS_AT_ONCE, length))
