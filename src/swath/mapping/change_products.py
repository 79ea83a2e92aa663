"""The files of what changed between two maps, written block by block: rasters, table and picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

from swath.errors import SceneError
from swath.files import writing
from swath.mapping.change import (
    GAINED,
    ONE,
    Change,
    Changes,
    ChangeSummary,
    DatePair,
    change_colour,
    changes_between,
)
from swath.mapping.cog import block_edge, drafted, finished, publish
from swath.mapping.finished import thumbnail_shape
from swath.mapping.grid import Axis
from swath.mapping.naming import product_paths
from swath.mapping.products import LABEL_NODATA, SCALE, SCALED_NODATA
from swath.mapping.quick_look import draw_changes

__all__ = ["change_bytes", "write_change"]

LONGEST: Final = 800
"""Pixels along the longer side of the map in the picture, at most; it is drawn with more, so that none is left out."""

_SAME: Final = (217, 217, 217)
_COLUMNS: Final = {"ha": "hectares", "cells": "cells", "false_cells_at_most": "false_cells"}


def change_bytes(cells: tuple[int, int], classes: int, exclusive: bool) -> int:
    """Return how much disk the files of a change take while they are made, at most."""
    raster = (4 if exclusive else 2 * classes + 4) + (
        _code_type(classes)[0].itemsize if exclusive else classes
    )
    return int(cells[0] * cells[1] * raster * (1 + 1 / 3 + 4 / 3)) + 4 * LONGEST**2 + 2**20


def write_change(pair: DatePair, work: Path, tags: Mapping[str, str], stamp: str) -> ChangeSummary:
    """Compare two maps block by block and write what changed.

    ``BEFORE--AFTER.change.tif`` holds the probability of change, the confidence, and the probability of each class's
    change if classes may hold together. ``.changed.tif`` holds what counts: one number for each pair of classes (``1
    + from * classes + to``, 0 for no change), or a band for each class with 1 for gained and 2 for lost.

    Args:
        pair: The maps.
        work: Folder for temporary files, on the same disk.
        tags: Further entries for the rasters' metadata.
        stamp: Stands for everything the files depend on; the table and the picture carry it.

    Returns:
        What was found.

    Raises:
        SceneError: No cell is known on both dates.
        OutputError: A file cannot be read or written.
    """
    grid, count = pair.place.grid, len(pair.classes)
    edge = block_edge(count + 2)
    code_type, no_code = _code_type(count) if pair.exclusive else (np.dtype(np.uint8), LABEL_NODATA)
    bands = 1 if pair.exclusive else count
    tally, picture = _Tally(pair), _Picture(pair)
    draft = partial(
        drafted, shape=grid.cells, crs=pair.place.crs, transform=pair.place.cell_transform, edge=edge
    )
    amounts, codes = work / "change.tif", work / "changed.tif"
    with ExitStack() as stack:
        dates = [
            stack.enter_context(finished(product_paths(pair.folder, name)["probability"]))
            for name in (pair.before, pair.after)
        ]
        many = 2 if pair.exclusive else 2 + count
        change = stack.enter_context(draft(amounts, count=many, dtype="uint16", nodata=SCALED_NODATA))
        changed = stack.enter_context(draft(codes, count=bands, dtype=code_type.name, nodata=no_code))
        for rows, columns in grid.blocks(edge):
            window = Window(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
            before, after = (raster.read(window=window) for raster in dates)
            known = (before[0] != SCALED_NODATA) & (after[0] != SCALED_NODATA)
            found = changes_between(before, after, pair.exclusive)
            code = np.where(known & (found.confidence >= _least(pair.level)), found.code, 0)
            change.write(_stored(found, known), window=window)
            changed.write(np.where(known, code, no_code).astype(code_type), window=window)
            tally.add(rows, columns, known, code, found.confidence)
            picture.add(rows, columns, known, code)
        summary = tally.summary()
        if not summary.cells:
            raise SceneError(
                f"No cell of {pair.before} and {pair.after} has data on both dates, so nothing can be compared. Their "
                f"maps are kept in {pair.folder}."
            )
        for raster in (change, changed):
            raster.update_tags(**tags, CLASSES="|".join(pair.classes), CHANGES=json.dumps(summary))
        _describe(change, changed, pair, summary)
    publish(amounts, pair.paths["change"], edge, codes=False)
    publish(codes, pair.paths["changed"], edge, codes=True)
    with writing(pair.paths["table"], folder=work) as temporary:
        temporary.write_text(_table(pair.classes, summary, stamp), encoding="utf-8", newline="")
    with writing(pair.paths["picture"], folder=work) as temporary:
        draw_changes(pair, summary, picture.codes, stamp, temporary)
    return summary


class _Tally:
    """Adds up cells and ground of each change."""

    def __init__(self, pair: DatePair) -> None:
        self._pair, self._of = pair, dict[tuple[int, int], list[float]]()
        self._cells, self._ground_ha = 0, 0.0

    def add(
        self,
        rows: slice,
        columns: slice,
        known: npt.NDArray[np.bool_],
        code: npt.NDArray[np.int64],
        confidence: npt.NDArray[np.int32],
    ) -> None:
        place = self._pair.place
        pixels = np.outer(_pixels(place.grid.rows, rows), _pixels(place.grid.columns, columns))
        hectares = pixels * place.pixel_area_m2(rows, columns) / 1e4
        self._cells += int(known.sum())
        self._ground_ha += float(hectares[known].sum())
        for band, of_band in enumerate(code):
            there = of_band > 0
            for kind in np.unique(of_band[there]).tolist():
                one = of_band == kind
                entry = self._of.setdefault((band, kind), [0, 0.0, 0.0])
                entry[0] += int(one.sum())
                entry[1] += float(hectares[one].sum())
                entry[2] += float((ONE - confidence[band][one]).sum()) / ONE

    def summary(self) -> ChangeSummary:
        """Return what was found, the largest first."""
        found = []
        for (band, kind), (cells, hectares, false_cells) in sorted(self._of.items()):
            classes = self._pair.classes
            if self._pair.exclusive:
                old, new = (classes[number] for number in divmod(kind - 1, len(classes)))
            else:
                old, new = ("", classes[band]) if kind == GAINED else (classes[band], "")
            found.append(Change(old, new, int(cells), hectares, round(false_cells, 4), kind, band))
        found.sort(key=lambda change: -change.hectares)
        return ChangeSummary(self._cells, self._ground_ha, found)


class _Picture:
    """The changes at the size of a picture: a pixel shows a change if any of its cells does."""

    def __init__(self, pair: DatePair) -> None:
        self._pair, self._cells = pair, pair.place.grid.cells
        self.codes = np.full((*thumbnail_shape(self._cells, LONGEST), 2), -1, np.int32)

    def add(
        self, rows: slice, columns: slice, known: npt.NDArray[np.bool_], code: npt.NDArray[np.int64]
    ) -> None:
        down, right = (
            np.arange(part.start, part.stop) * small // large
            for part, small, large in zip((rows, columns), self.codes.shape[:2], self._cells, strict=True)
        )
        band = (code > 0).argmax(axis=0)
        shown = np.take_along_axis(code, band[None], axis=0)[0]
        for part in (known, known & (shown > 0)):  # changes over the rest
            y, x = np.nonzero(part)
            self.codes[down[y], right[x]] = np.stack([shown[y, x], band[y, x]], axis=-1)


def _pixels(axis: Axis, cells: slice) -> npt.NDArray[np.int64]:
    """Return how many of a cell's pixels lie within the scene, along an axis."""
    starts = np.arange(cells.start, cells.stop) * axis.stride
    return np.asarray(np.minimum(axis.stride, axis.length - starts))


def _least(level: float) -> int:
    return max(1, round(level * ONE))


def _code_type(classes: int) -> tuple[np.dtype[Any], int]:
    """Return number type and nodata value of a raster of changes between exclusive classes."""
    kind = np.min_scalar_type(classes**2)
    return kind, int(np.iinfo(kind).max)


def _stored(found: Changes, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint16]:
    probability = np.rint(found.probability.clip(0, 1) * ONE).astype(np.int64)
    bands = np.concatenate([probability[:1], found.confidence.max(axis=0, keepdims=True), probability[1:]])
    return np.where(known, bands, SCALED_NODATA).astype(np.uint16)


def _describe(change: Any, changed: Any, pair: DatePair, summary: ChangeSummary) -> None:
    """Write names, scale and palette into the drafts; they have to be there before they are copied."""
    names = () if pair.exclusive else pair.classes
    change.update_tags(PRODUCT="change")
    change.descriptions = ("probability of change", "confidence", *(f"change of {name}" for name in names))
    change.scales = (SCALE,) * change.count
    change.offsets = (0.0,) * change.count
    changed.update_tags(PRODUCT="changed", CHANGE_CONFIDENCE=pair.level)
    if not pair.exclusive:
        changed.descriptions = pair.classes
        for band in changed.indexes:
            changed.update_tags(band, CLASS_0="no change", CLASS_1="gained", CLASS_2="lost")
        return
    changed.descriptions = ("change",)
    named = {
        f"CLASS_{change.code}": str(change) for change in sorted(summary.changes, key=lambda one: one.code)
    }
    changed.update_tags(1, CLASS_0="no change", **named)
    if changed.dtypes[0] == "uint8":
        count = len(pair.classes)
        all_of_them = (1 + old * count + new for old in range(count) for new in range(count) if old != new)
        colours = {code: (*change_colour(pair, code), 255) for code in all_of_them}
        changed.write_colormap(1, {0: (*_SAME, 255), **colours, LABEL_NODATA: (0, 0, 0, 0)})


def _table(classes: tuple[str, ...], summary: ChangeSummary, stamp: str) -> str:
    """Return what each class gained and lost, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", *(f"{way}_{what}" for way in ("gained", "lost") for what in _COLUMNS), "job"])
    for name in classes:
        row: list[Any] = [name]
        for way in ("after", "before"):
            of_class = [change for change in summary.changes if getattr(change, way) == name]
            row += [round(sum(getattr(change, what) for change in of_class), 4) for what in _COLUMNS.values()]
        writer.writerow([*row, stamp])
    return text.getvalue()
