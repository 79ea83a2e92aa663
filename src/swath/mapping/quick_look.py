"""The picture of a map: the classes in their colours, a legend with hectares, a scale bar and where north is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from swath.evaluation.report.drawing import shortened
from swath.mapping.change import ChangeSummary, DatePair, change_colour
from swath.mapping.colours import class_colours
from swath.mapping.finished import FinishedRasters, thumbnail_shape
from swath.mapping.header import metres_per_degree, place
from swath.mapping.products import SCALE, SCALED_NODATA, Place

__all__ = ["LONGEST", "cell_metres", "draw_changes", "round_length", "top_class", "write_quick_look"]

LONGEST: Final = 1000
"""Pixels along the longer side of the map in the picture, at most."""
MOST_CLASSES: Final = 24
"""A legend with more classes than this shows the largest ones."""

_NONE: Final = (0.85, 0.85, 0.85)
_INCHES: Final = 7.0


def write_quick_look(rasters: FinishedRasters, path: Path) -> None:
    """Draw a map as a PNG. It is read at the size it is drawn, so memory does not depend on the map's size.

    Where classes may hold together, a cell shows the most probable of those above the threshold.

    Args:
        rasters: The map.
        path: Where to.
    """
    shape = thumbnail_shape(rasters.place.grid.cells, LONGEST)
    top, probability = top_class(rasters, shape)
    colours = np.array([*class_colours(rasters.contract.classes), (255, 255, 255)]) / 255
    image = colours[top]
    if not rasters.contract.exclusive:
        image[(top >= 0) & (probability < rasters.settings.threshold)] = _NONE
    words = (
        "most likely class"
        if rasters.contract.exclusive
        else f"the most likely class where one reaches {rasters.settings.threshold:g}; ground counts for each it holds"
    )
    entries, more = _legend(rasters)
    above = f"{len(rasters.contract.classes)} classes, largest first" if more else None
    _save(path, rasters.stamp, rasters.place, image, rasters.name, words, entries, above)


def draw_changes(
    pair: DatePair, summary: ChangeSummary, codes: npt.NDArray[np.int32], stamp: str, path: Path
) -> None:
    """Draw what changed between two maps as a PNG.

    Args:
        pair: The maps.
        summary: What changed.
        codes: (rows, columns, 2) number of the change, 0 for none and -1 where there is no data, and its band.
        stamp: What the picture carries.
        path: Where to.
    """
    kinds, which = np.unique(codes.reshape(-1, 2), axis=0, return_inverse=True)
    special = {0: _NONE, -1: (1.0, 1.0, 1.0)}
    colours = [special.get(code) or _share(change_colour(pair, code, band)) for code, band in kinds.tolist()]
    image = np.array(colours)[which.reshape(codes.shape[:2])]
    entries = [
        Patch(
            facecolor=_share(change_colour(pair, change.code, change.band)),
            label=f"{shortened(str(change), 32)}  {_hectares(change.hectares)}",
        )
        for change in summary.changes[:MOST_CLASSES]
    ]
    entries.append(Patch(facecolor=_NONE, label="no significant change"))
    entries.append(Patch(facecolor="white", edgecolor="#999999", label="no data on a date"))
    above = (
        f"{len(summary.changes)} kinds of change, largest first"
        if len(summary.changes) > MOST_CLASSES
        else None
    )
    words = f"changes with a confidence of at least {pair.level:g}"
    _save(path, stamp, pair.place, image, f"{pair.before} to {pair.after}", words, entries, above)


def _save(path: Path, stamp: str, *drawn: Any) -> None:
    with mpl.rc_context({"font.size": 9, "text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # names in a script the font lacks
        _draw(*drawn).savefig(path, format="png", dpi=120, metadata={"Software": None, "Comment": stamp})


def top_class(
    rasters: FinishedRasters, shape: tuple[int, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the most probable class of each place (-1 where there is no data) and its probability."""
    top, largest = np.full(shape, -1), np.full(shape, -1.0)
    for number, stored in enumerate(rasters.thumbnails(shape)):
        value = np.where(stored == SCALED_NODATA, -1, stored * SCALE)
        larger = value > largest
        top[larger], largest[larger] = number, value[larger]
    return top, largest


def cell_metres(where: Place) -> tuple[float, float]:
    """Return width and height of a cell at the map's centre, in metres."""
    cell = where.cell_transform
    east = north = float(where.crs.linear_units_factor[1]) if where.crs.is_projected else 0.0
    if not where.crs.is_projected:
        _, latitude = place(where.transform, where.grid.width / 2, where.grid.height / 2)
        east, north = (float(length) for length in metres_per_degree(latitude))
    return math.hypot(cell.a * east, cell.d * north), math.hypot(cell.b * east, cell.e * north)


def round_length(longest: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not above a length.

    Example:
        >>> round_length(730.0), round_length(0.31)
        (500.0, 0.2)
    """
    power = math.floor(math.log10(longest))
    return max(
        float(f"{step}e{exponent}")
        for exponent in (power - 1, power)
        for step in (1, 2, 5)
        if float(f"{step}e{exponent}") <= longest
    )


def _draw(
    where: Place,
    image: npt.NDArray[np.float64],
    name: str,
    words: str,
    entries: Sequence[Patch],
    above_entries: str | None,
) -> Figure:
    cells, (cell_width, cell_height) = where.grid.cells, cell_metres(where)
    width_m, height_m = cells[1] * cell_width, cells[0] * cell_height
    # A map much longer than wide would leave no room for its names.
    wide, high = (max(1.6, _INCHES * side / max(width_m, height_m)) for side in (width_m, height_m))
    left, below, above, beside = 0.3, 0.75, 0.75, 3.4
    tall = max(high, 0.21 * (len(entries) + 2))
    figure = Figure(figsize=(left + wide + beside, below + tall + above), facecolor="white")
    size = np.array([*figure.get_size_inches()] * 2)
    axes = figure.add_axes(tuple(np.array([left, below + tall - high, wide, high]) / size))
    axes.imshow(image, extent=(0, width_m, height_m, 0), interpolation="nearest", aspect="equal")
    axes.set(xticks=[], yticks=[])
    top = below + tall
    figure.text(left / size[0], (top + 0.45) / size[1], shortened(name, 70), fontsize=12, weight="bold")
    figure.text(left / size[0], (top + 0.18) / size[1], words, color="#444444")
    figure.legend(
        handles=entries,
        loc="upper left",
        bbox_to_anchor=((left + wide + 0.1) / size[0], top / size[1]),
        borderaxespad=0,
        frameon=False,
        title=above_entries,
        alignment="left",
    )
    _scale_bar(axes, width_m, height_m, high)
    _north(axes, where, high, wide)
    return figure


def _legend(rasters: FinishedRasters) -> tuple[list[Patch], bool]:
    """Return an entry for each class that was found, the largest first, and whether some found no room."""
    classes, ground = rasters.contract.classes, rasters.areas[""]
    colours = dict(zip(classes, class_colours(classes), strict=True))
    found = sorted(
        (name for name in classes if rasters.areas[name] > 0), key=lambda name: -rasters.areas[name]
    )
    entries = [
        Patch(
            facecolor=_share(colours[name]),
            label=f"{shortened(name, 24)}  {_hectares(rasters.areas[name])}"
            + (f" ({_percent(rasters.areas[name] / ground)})" if ground else ""),
        )
        for name in found[:MOST_CLASSES]
    ]
    if not rasters.contract.exclusive:
        entries.append(Patch(facecolor=_NONE, label="none of the classes"))
    entries.append(Patch(facecolor="white", edgecolor="#999999", label="no data"))
    return entries, len(found) > MOST_CLASSES


def _hectares(area: float) -> str:
    """Return an area in words, never as a power of ten.

    >>> _hectares(1137182.4), _hectares(59.8765), _hectares(0.01)
    ('1,137,182 ha', '59.88 ha', '0.01 ha')
    """
    return f"{area:,.0f} ha" if area >= 1000 else f"{area:.4g} ha"


def _share(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255


def _percent(share: float) -> str:
    return "<1%" if share < 0.01 else f"{share:.0%}"


def _scale_bar(axes: Any, width_m: float, height_m: float, high: float) -> None:
    """Draw a bar of a round length below the map, and its length beside it."""
    length = round_length(width_m * 0.4)
    y, tick = height_m * (1 + 0.25 / high), height_m * 0.06 / high
    axes.plot([0, 0, length, length], [y - tick, y, y, y - tick], color="black", lw=1.5, clip_on=False)
    words = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    axes.annotate(words, (length, y), (6, 0), textcoords="offset points", va="center", annotation_clip=False)
    axes.set(xlim=(0, width_m), ylim=(height_m, 0))


def _north(axes: Any, where: Place, high: float, wide: float) -> None:
    """Draw an arrow to the north of the coordinate system; scenes are mapped, and shown, as they lie."""
    cell, (width, height) = where.cell_transform, cell_metres(where)
    # The way one goes in cells to go north, in metres on the picture; rows run down.
    right, down = -cell.b / cell.determinant * width, cell.a / cell.determinant * height
    right, down = right / math.hypot(right, down), down / math.hypot(right, down)
    reach, middle = 0.16, (1 - 0.2 / wide, -0.3 / high)
    axes.annotate(
        "",
        (middle[0] + reach * right / wide, middle[1] - reach * down / high),
        (middle[0] - reach * right / wide, middle[1] + reach * down / high),
        xycoords="axes fraction",
        textcoords="axes fraction",
        arrowprops={"arrowstyle": "-|>", "color": "black", "lw": 1.2},
        annotation_clip=False,
    )
    axes.text(
        middle[0] - 0.2 / wide,
        middle[1],
        "N",
        transform=axes.transAxes,
        ha="center",
        va="center",
        clip_on=False,
    )
