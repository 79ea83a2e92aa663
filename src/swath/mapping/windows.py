"""One chunk of a scene: its pixels read once, normalised once, and the probability of each of its windows.

A chunk is a pure function of scene, chunk, model and settings. Nothing is shared between chunks, and how many
windows go through the model at a time changes nothing, so that it does not matter who computes which chunk when.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from swath.encoders import SceneModel
from swath.errors import ContractError, RunError
from swath.mapping.grid import Chunk, WindowGrid
from swath.mapping.raster import RasterReader, RasterScene
from swath.mapping.settings import MapSettings
from swath.mapping.shared import SharedFeatures, pool_windows

__all__ = ["ChunkValues", "Tile", "predict_windows", "read_tile", "tile_pixels", "usable_windows"]

_TILE_BYTES: Final = 2**28
_CACHED_BYTES: Final = 3 * 2**20 + 2**18
_MOST_WINDOWS: Final = 16  # at a time on a CPU: the last ones of a chunk are made up to as many
_PIXEL_BYTES: Final = 16  # stored numbers, normalised ones and their copy in another order


@dataclass(frozen=True)
class Tile:
    """The pixels of a chunk.

    Args:
        image: (height, width, bands) float32, normalised, 0 where invalid, mirrored behind the scene's border.
        valid: (height, width) which pixels are data.
        cells: (rows, columns) valid pixels in each of the chunk's cells, uint32.
    """

    image: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    cells: npt.NDArray[np.uint32]


@dataclass(frozen=True)
class ChunkValues:
    """What is known of a chunk.

    Args:
        probability: (classes, rows, columns) float32 of each window, 0 for windows with too little valid ground;
            no row and column at all if no window has enough.
        valid: (rows, columns) valid pixels in each window, uint32.
        cells: (rows, columns) valid pixels in each cell, uint32.
    """

    probability: npt.NDArray[np.float32]
    valid: npt.NDArray[np.uint32]
    cells: npt.NDArray[np.uint32]


def tile_pixels(tile: int, bands: int, shared: SharedFeatures | None = None) -> int:
    """Return how many pixels along a side of what is read at a time.

    As asked, or fewer if there are many bands. Windows that share feature maps come in blocks of one size, whatever
    is asked.
    """
    largest = math.isqrt(_TILE_BYTES // (_PIXEL_BYTES * bands))
    return min(tile, largest) if shared is None else shared.block_pixels(largest)


def read_tile(
    reader: RasterReader, scene: RasterScene, model: SceneModel, grid: WindowGrid, chunk: Chunk
) -> Tile:
    """Read and normalise the pixels of a chunk.

    Raises:
        SceneError: The file is damaged there.
        ContractError: The model's contract has no statistics.
    """
    rows, columns = grid.rows.mirrored(chunk.rows.seen), grid.columns.mirrored(chunk.columns.seen)
    top, left = int(rows.min()), int(columns.min())
    values, valid = reader.read(slice(top, int(rows.max()) + 1), slice(left, int(columns.max()) + 1))
    factor, shift = _normalisation(scene, model)
    invalid = ~valid
    for band, (scale, offset) in enumerate(zip(factor, shift, strict=True)):
        values[band] *= scale
        values[band] += offset
        values[band][invalid] = 0
    image = np.ascontiguousarray(values.transpose(1, 2, 0))
    row_edges = grid.rows.cell_edges(chunk.rows.cells) - top
    column_edges = grid.columns.cell_edges(chunk.columns.cells) - left
    cells = _count_cells(valid, row_edges, column_edges)
    if (len(rows), len(columns)) != valid.shape:
        mirrored = np.ix_(rows - top, columns - left)
        image, valid = image[mirrored], valid[mirrored]
    return Tile(image, valid, cells)


def predict_windows(
    tile: Tile,
    model: SceneModel,
    grid: WindowGrid,
    chunk: Chunk,
    settings: MapSettings,
    *,
    batch_size: int = 64,
    check: Callable[[], None] = lambda: None,
) -> ChunkValues:
    """Return the probability of every window of a chunk that has enough valid ground.

    Args:
        tile: The chunk's pixels.
        model: In evaluation mode, its weights in memory as channels last.
        grid: All windows.
        chunk: Which windows.
        settings: How much valid ground is enough, and whether windows share feature maps.
        batch_size: Windows at a time on a GPU; a CPU takes as many as suit its cache, and results do not depend on it.
        check: Called now and then; what it raises ends the work.

    Raises:
        RunError: The model's answer is not finite.
    """
    tops = grid.rows.starts[chunk.rows.windows] - chunk.rows.seen.start
    lefts = grid.columns.starts[chunk.columns.windows] - chunk.columns.seen.start
    valid = _count_windows(tile.valid, tops, lefts, grid.size)
    usable = usable_windows(valid, grid, settings)
    classes = len(model.contract.classes)
    if not usable.any():
        return ChunkValues(np.zeros((classes, 0, 0), np.float32), valid, tile.cells)
    if settings.shared is not None:
        logits = pool_windows(model, tile.image, tops, lefts, settings.shared)
        probability = np.where(usable, model.to_probability(logits, dim=0).cpu().numpy(), np.float32(0))
    else:
        probability = _one_by_one(tile, model, tops, lefts, usable, batch_size, check)
    if not np.isfinite(probability).all():
        raise RunError(
            "The model's probabilities are not finite on this scene: its weights, its statistics or the scene's scale "
            "are wrong. Check the scale (--scale) and the training."
        )
    return ChunkValues(probability, valid, tile.cells)


def _one_by_one(
    tile: Tile,
    model: SceneModel,
    tops: npt.NDArray[np.int64],
    lefts: npt.NDArray[np.int64],
    usable: npt.NDArray[np.bool_],
    batch_size: int,
    check: Callable[[], None],
) -> npt.NDArray[np.float32]:
    rows, columns = np.nonzero(usable)
    size = model.size
    probability = np.zeros((len(model.contract.classes), *usable.shape), np.float32)
    # Channels lie last in memory, which is how models are trained; a window's row is then one run of memory.
    step = _at_once(model, min(batch_size, len(rows)), tile)
    room = np.zeros((step, size, size, tile.image.shape[2]), np.float32)
    with torch.inference_mode():
        for start in range(0, len(rows), step):
            check()
            some = slice(start, start + step)
            chosen = zip(tops[rows[some]].tolist(), lefts[columns[some]].tolist(), strict=True)
            count = 0
            for top, left in chosen:
                room[count] = tile.image[top : top + size, left : left + size]
                count += 1
            # Always as many: libraries choose their routines by the size of a batch, and these round differently. What
            # is left over from the windows before is computed for nothing.
            batch = torch.from_numpy(room).permute(0, 3, 1, 2)
            found = model.to_probability(model(batch.to(next(model.parameters()).device))[:count])
            probability[:, rows[some], columns[some]] = found.cpu().numpy().T
    return probability


def _at_once(model: SceneModel, batch_size: int, tile: Tile) -> int:
    """Return how many windows go through the model at a time: on a CPU what its cache holds, whatever is asked for.

    With ``scene_mixer`` pieces of 16 windows of 64 px and 12 bands take five sixths of the time of 64. Two at least: a
    single row is multiplied by another routine.
    """
    if next(model.parameters()).device.type != "cpu":
        return batch_size
    window = int(model.size**2 * tile.image.shape[2] * tile.image.itemsize)
    return max(2, min(_MOST_WINDOWS, _CACHED_BYTES // window))


def usable_windows(
    valid: npt.NDArray[np.uint32], grid: WindowGrid, settings: MapSettings
) -> npt.NDArray[np.bool_]:
    """Return which windows saw enough valid ground."""
    enough: npt.NDArray[np.bool_] = valid >= max(1, settings.min_valid * grid.size**2)
    return enough


def _normalisation(
    scene: RasterScene, model: SceneModel
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    contract = model.contract
    if not contract.mean or not contract.std:
        raise ContractError(
            "The model's band contract has no mean and standard deviation, so its input cannot be made. Train it with "
            "`swath train`."
        )
    # stored * scale + offset - mean, over std, is one multiplication and one addition.
    std = np.asarray(contract.std)
    factor = np.asarray(scene.mapping.scale) / std
    shift = (np.asarray(scene.mapping.offset) - np.asarray(contract.mean)) / std
    return factor.astype(np.float32), shift.astype(np.float32)


def _count_cells(
    valid: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint32]:
    inside = valid[: rows[-1], : columns[-1]]
    by_row = np.add.reduceat(inside, rows[:-1], axis=0, dtype=np.uint32)
    return np.add.reduceat(by_row, columns[:-1], axis=1, dtype=np.uint32)


def _count_windows(
    valid: npt.NDArray[np.bool_], tops: npt.NDArray[np.int64], lefts: npt.NDArray[np.int64], size: int
) -> npt.NDArray[np.uint32]:
    sums = np.zeros((valid.shape[0] + 1, valid.shape[1] + 1), np.int64)
    np.cumsum(np.cumsum(valid, axis=0, dtype=np.int64), axis=1, out=sums[1:, 1:])
    below, right = tops + size, lefts + size
    counts = (
        sums[np.ix_(below, right)]
        - sums[np.ix_(tops, right)]
        - sums[np.ix_(below, lefts)]
        + sums[np.ix_(tops, lefts)]
    )
    return counts.astype(np.uint32)
