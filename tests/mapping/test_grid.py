"""Windows cover the scene, cells tile it, and chunks split both without gaps."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swath.errors import InputError
from swath.mapping.grid import Axis, WindowGrid

axes = st.builds(
    lambda length, size, share, edges: Axis(length, size, max(1, round(share * size)), edges),
    st.integers(1, 500),
    st.integers(1, 80),
    st.floats(0, 1),
    st.sampled_from(["shift", "reflect"]),
)


@given(axes)
def test_every_pixel_is_in_a_window_and_in_one_cell(axis: Axis) -> None:
    seen = np.zeros(axis.length, int)
    for start in axis.starts:
        assert start >= 0
        seen[start : start + axis.size] += 1
    assert seen.min() >= 1
    assert (np.diff(axis.starts) > 0).all()
    if axis.edges == "shift" and axis.length >= axis.size:
        assert axis.starts[-1] + axis.size <= axis.length
    if axis.edges == "reflect":
        assert (np.diff(axis.starts) == axis.stride).all()
    edges = axis.cell_edges(slice(0, axis.cells))
    assert edges[0] == 0
    assert edges[-1] == axis.length
    assert (np.diff(edges)[:-1] == axis.stride).all()
    assert 1 <= np.diff(edges)[-1] <= axis.stride


@given(axes, st.integers(1, 300), st.integers(0, 9), st.integers(1, 7))
def test_pieces_split_windows_and_cells_and_hold_the_pixels_of_both(
    axis: Axis, pixels: int, context: int, unit: int
) -> None:
    context *= unit
    pieces = axis.pieces(pixels, context, unit)
    assert [piece.number for piece in pieces] == list(range(len(pieces)))
    for parts, count in (
        ([piece.windows for piece in pieces], axis.windows),
        ([piece.cells for piece in pieces], axis.cells),
    ):
        assert parts[0].start == 0
        assert parts[-1].stop == count
        assert all(one.stop == other.start for one, other in pairwise(parts))
        assert all(part.stop > part.start for part in parts)
    for piece in pieces:
        first, last = axis.starts[piece.windows][[0, -1]]
        edges = axis.cell_edges(piece.cells)
        assert first - unit < piece.seen.start + context <= min(first, edges[0])
        assert (
            max(edges[-1], last + axis.size)
            <= piece.seen.stop - context
            < max(edges[-1], last + axis.size) + unit
        )
        assert piece.seen.start % unit == piece.seen.stop % unit == 0
        if piece.windows.stop - piece.windows.start > 1:
            assert last + axis.size - first <= pixels


@given(axes, st.integers(0, 200), st.integers(0, 200))
def test_beyond_the_border_the_scene_is_mirrored_as_numpy_pads(axis: Axis, before: int, behind: int) -> None:
    expected = np.pad(np.arange(axis.length), (before, behind), mode="reflect")
    np.testing.assert_array_equal(axis.mirrored(slice(-before, axis.length + behind)), expected)


@pytest.mark.parametrize("stride", [0, -1, 65])
def test_a_stride_that_leaves_gaps_is_refused(stride: int) -> None:
    with pytest.raises(InputError, match="a stride from 1 to 64 covers the whole scene"):
        WindowGrid(100, 100, 64, stride)


def test_blocks_tile_the_map() -> None:
    grid = WindowGrid(100, 130, 16, 3)
    seen = np.zeros(grid.cells, int)
    for rows, columns in grid.blocks(16):
        seen[rows, columns] += 1
    assert (seen == 1).all()
