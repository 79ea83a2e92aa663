"""A page that shows a map: pan, zoom, switch classes, move the threshold; one file that needs nothing else."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from swath.mapping.colours import class_colours
from swath.mapping.finished import FinishedRasters, thumbnail_shape
from swath.mapping.products import SCALE, SCALED_NODATA
from swath.mapping.quick_look import cell_metres

__all__ = ["LONGEST", "MOST_PIXELS", "viewer_shape", "write_viewer"]

LONGEST: Final = 1024
"""Pixels along the longer side of a layer, at most."""
MOST_PIXELS: Final = 2**24
"""Of all layers together: with many classes each is smaller."""
STEPS: Final = 254
"""Probability 1 in a layer; 255 is no data."""


def viewer_shape(cells: tuple[int, int], classes: int) -> tuple[int, int]:
    """Return rows and columns of each layer.

    Example:
        >>> viewer_shape((5000, 10000), classes=10), viewer_shape((5000, 10000), classes=200)
        ((512, 1024), (204, 409))
    """
    height, width = thumbnail_shape(cells, LONGEST)
    too_many = classes * height * width / MOST_PIXELS
    return thumbnail_shape(cells, max(1, int(max(height, width) / max(1.0, too_many) ** 0.5)))


def write_viewer(rasters: FinishedRasters, path: Path) -> None:
    """Write the page. It loads nothing from anywhere; names are shown as they are, markup and all.

    Args:
        rasters: The map.
        path: Where to.
    """
    where, classes = rasters.place, rasters.contract.classes
    shape = viewer_shape(where.grid.cells, len(classes))
    shrunk = [many / few for many, few in zip(where.grid.cells, shape, strict=True)]
    width_m, height_m = cell_metres(where)
    cell = where.cell_transform
    content: dict[str, Any] = {
        "classes": list(classes),
        "colours": class_colours(classes),
        "exclusive": rasters.contract.exclusive,
        "threshold": 0 if rasters.contract.exclusive else rasters.settings.threshold,
        "height": shape[0],
        "width": shape[1],
        "steps": STEPS,
        "metres": [width_m * shrunk[1], height_m * shrunk[0]],
        "transform": [
            cell.a * shrunk[1],
            cell.b * shrunk[0],
            cell.c,
            cell.d * shrunk[1],
            cell.e * shrunk[0],
            cell.f,
        ],
        "digits": 1 if where.crs.is_projected else 5,
        "ground": rasters.areas[""],
        "layers": [_layer(stored) for stored in rasters.thumbnails(shape)],
    }
    environment = Environment(
        loader=PackageLoader("swath.mapping"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    authority = where.crs.to_authority()
    page = environment.get_template("viewer.html.j2").render(
        name=rasters.name,
        stamp=rasters.stamp,
        content=content,
        cells=where.grid.cells,
        shape=shape,
        crs=":".join(authority) if authority else "the map's coordinate system",
    )
    path.write_text(page, encoding="utf-8")


def _layer(stored: npt.NDArray[np.uint16]) -> str:
    """Return the probability of a class as a grey PNG, in base64."""
    # Rounded down, so that a probability below one half stays below it.
    steps = stored.astype(np.uint32) * STEPS // round(1 / SCALE)
    values = np.where(stored == SCALED_NODATA, 255, steps).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="png", compress_level=9)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
