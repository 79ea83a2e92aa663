"""Where the windows stand on a scene, which cells the map has, and how the work is cut into chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from swath.errors import InputError

__all__ = ["Axis", "Chunk", "Piece", "WindowGrid"]


class Piece(NamedTuple):
    """Part of an axis: windows and cells from a first to before a last, and the pixels the model sees for them.

    Those pixels may lie before the scene's first or behind its last, where the scene is mirrored.
    """

    number: int
    windows: slice
    cells: slice
    seen: slice


class Chunk(NamedTuple):
    """A block of windows that is computed at once."""

    rows: Piece
    columns: Piece

    @property
    def name(self) -> str:
        """A name that no other chunk of the scene has."""
        return f"{self.rows.number:05d}-{self.columns.number:05d}"


@dataclass(frozen=True)
class Axis:
    """Windows along one side of a scene.

    Args:
        length: Pixels of the scene.
        size: Pixels of a window.
        stride: Pixels from window to window; also the edge of a cell.
        edges: ``shift`` or ``reflect``.

    Example:
        >>> Axis(200, size=64, stride=48, edges="shift").starts.tolist()
        [0, 48, 96, 136]
        >>> Axis(200, size=64, stride=48, edges="reflect").starts.tolist()
        [0, 48, 96, 144]
    """

    length: int
    size: int
    stride: int
    edges: Literal["shift", "reflect"]

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """First pixel of each window, rising."""
        # The fewest windows that reach the last pixel.
        count = 1 + max(0, -(-(self.length - self.size) // self.stride))
        starts = np.arange(count, dtype=np.int64) * self.stride
        if self.edges == "shift":
            starts[-1] = min(starts[-1], max(0, self.length - self.size))
        return starts

    @property
    def windows(self) -> int:
        """Number of windows."""
        return len(self.starts)

    @property
    def cells(self) -> int:
        """Number of cells; the last may hold fewer pixels than the others."""
        return -(-self.length // self.stride)

    def cell_edges(self, cells: slice) -> npt.NDArray[np.int64]:
        """Return the first pixel of each cell of a slice, and the pixel after the last."""
        edges = np.arange(cells.start, cells.stop + 1, dtype=np.int64) * self.stride
        return edges.clip(max=self.length)

    @cached_property
    def cell_centres(self) -> npt.NDArray[np.float64]:
        """Middle of each cell's part of the scene, in pixels from the scene's border."""
        edges = self.cell_edges(slice(0, self.cells))
        return (edges[:-1] + edges[1:]) / 2

    def pieces(self, pixels: int, context: int = 0, unit: int = 1) -> list[Piece]:
        """Cut the axis so that a piece's windows reach over at most ``pixels`` pixels (at least one window).

        Args:
            pixels: From a piece's first window to its last.
            context: Pixels that are seen on both sides of that, a multiple of ``unit``.
            unit: What is seen starts and ends at multiples of so many pixels.
        """
        step = max(1, (pixels - self.size) // self.stride + 1)
        found = []
        for number, first in enumerate(range(0, self.windows, step)):
            stop = min(first + step, self.windows)
            last = stop == self.windows
            start = int(self.starts[first]) // unit * unit - context
            end = -(-(int(self.starts[stop - 1]) + self.size) // unit) * unit + context
            cells = slice(first, self.cells if last else stop)
            found.append(Piece(number, slice(first, stop), cells, slice(start, end)))
        return found

    def mirrored(self, seen: slice) -> npt.NDArray[np.int64]:
        """Return the scene's pixel at each place of a stretch; beyond the border the scene is mirrored.

        Example:
            >>> Axis(4, size=2, stride=1, edges="shift").mirrored(slice(-2, 7)).tolist()
            [2, 1, 0, 1, 2, 3, 2, 1, 0]
        """
        places = np.arange(seen.start, seen.stop) % max(1, 2 * (self.length - 1))
        folded: npt.NDArray[np.int64] = np.minimum(places, np.abs(2 * (self.length - 1) - places))
        return folded


@dataclass(frozen=True)
class WindowGrid:
    """Windows over a scene and the cells of its map.

    A cell is a square of ``stride`` pixels; the map's transform is the scene's times ``scale(stride)``, exactly.

    Args:
        height: Rows of the scene.
        width: Columns of the scene.
        size: Height and width of a window in pixels.
        stride: From window to window, in pixels, at most ``size``.
        edges: ``shift`` or ``reflect``.

    Raises:
        InputError: The stride would leave ground uncovered.

    Example:
        >>> grid = WindowGrid(100, 130, size=64, stride=32)
        >>> grid.windows, grid.cells
        ((3, 4), (4, 5))
    """

    height: int
    width: int
    size: int
    stride: int
    edges: Literal["shift", "reflect"] = "shift"

    def __post_init__(self) -> None:
        """Check the stride."""
        if not 1 <= self.stride <= self.size:
            raise InputError(
                f"stride is {self.stride}; the model sees windows of {self.size} x {self.size} px, so a stride "
                f"from 1 to {self.size} covers the whole scene."
            )

    @cached_property
    def rows(self) -> Axis:
        """The vertical axis."""
        return Axis(self.height, self.size, self.stride, self.edges)

    @cached_property
    def columns(self) -> Axis:
        """The horizontal axis."""
        return Axis(self.width, self.size, self.stride, self.edges)

    @property
    def windows(self) -> tuple[int, int]:
        """Rows and columns of windows."""
        return self.rows.windows, self.columns.windows

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the map."""
        return self.rows.cells, self.columns.cells

    def chunks(self, tile: int, context: int = 0, unit: int = 1) -> list[Chunk]:
        """Return blocks of windows that reach over at most ``tile`` x ``tile`` pixels, row by row.

        Args:
            tile: Pixels along a side.
            context: Pixels that are seen around that; see :meth:`Axis.pieces`.
            unit: What is seen starts and ends at multiples of so many pixels.
        """
        columns = self.columns.pieces(tile, context, unit)
        return [Chunk(row, column) for row in self.rows.pieces(tile, context, unit) for column in columns]

    def blocks(self, edge: int) -> Iterator[tuple[slice, slice]]:
        """Yield the map in blocks of ``edge`` x ``edge`` cells, row by row."""
        height, width = self.cells
        for row in range(0, height, edge):
            for column in range(0, width, edge):
                yield slice(row, min(row + edge, height)), slice(column, min(column + edge, width))
