"""Two scenes of one place: brought onto the same pixels, and how far their ground lies apart on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import fft

from swath.errors import SceneError
from swath.mapping.bands import Reading
from swath.mapping.compute import SceneFiles
from swath.mapping.header import PixelGrid, place
from swath.mapping.raster import RasterReader, RasterScene, bounded_cache
from swath.scenes.contract import BandContract

__all__ = ["Registration", "offset_between", "register"]

SAME_PLACE: Final = 0.01
"""Grids whose corners lie less than this many pixels apart count as the same."""
PATCHES: Final = 3
"""Patches along each axis that are compared to find the offset, at most."""
MOST_BANDS: Final = 12
"""Bands that are compared, at most."""
DISTINCT: Final = 12.0
"""The offset's peak must stand this many standard deviations above the rest; unrelated scenes reach 10."""
ALONE: Final = 1.5
"""It must be so many times as high as any other; ground that repeats itself, such as like fields, has several."""

_PATCH_PIXELS: Final = 512
_BYTES: Final = 2**27


@dataclass(frozen=True)
class Registration:
    """How two scenes lie to each other.

    Args:
        pixels: The first scene's, on which both are mapped.
        brought: Whether the second has others and must be brought onto them.
        offset: Rows (down) and columns (right) by which ground lies further in the second than in the first, in
            pixels; None if it cannot be told.
        shifted: Whether that is more than half a cell.
        notes: What a user should know.
    """

    pixels: PixelGrid
    brought: bool
    offset: tuple[float, float] | None
    shifted: bool
    notes: tuple[str, ...]


def register(
    before: SceneFiles, after: SceneFiles, contract: BandContract, reading: Reading, stride: int
) -> Registration:
    """Check that two scenes show the same ground, choose common pixels, and measure their offset.

    Nothing is shifted: what is measured is for the user to judge.

    Args:
        before: The first scene, whose pixels are kept.
        after: The second.
        contract: The model's band contract.
        reading: How both are read.
        stride: Edge of a cell of the map, in pixels.

    Returns:
        The grid for the second, the offset, and notes.

    Raises:
        SceneError: They do not overlap, or are in different coordinate systems and no ``crs`` is given.
    """
    first = RasterScene(before.paths, contract, reading, before.bands)
    second = RasterScene(after.paths, contract, reading, after.bands)
    if first.crs != second.crs:
        raise SceneError(
            f"{first.what} and {second.what} are in different coordinate systems ({_short(first)}, {_short(second)}). "
            f"Name the one to map both in with --crs EPSG:NUMBER."
        )
    corners = _corners(second.grid, first.grid)
    here = _corners(first.grid, first.grid)
    rows, columns = (
        slice(max(0, math.floor(corners[axis].min())), min(side, math.ceil(corners[axis].max())))
        for axis, side in enumerate((first.height, first.width))
    )
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise SceneError(
            f"{first.what} and {second.what} do not overlap, so nothing can have changed between them. Give two scenes "
            f"of the same ground."
        )
    notes = []
    same_size = (first.height, first.width) == (second.height, second.width)
    brought = not same_size or bool(np.abs(corners - here).max() > SAME_PLACE)
    if brought:
        second = RasterScene(after.paths, contract, replace(reading, grid=first.grid), after.bands)
        covered = (rows.stop - rows.start) * (columns.stop - columns.start) / (first.height * first.width)
        notes.append(
            f"{after.name} is brought onto the pixels of {before.name}, of which its frame covers {covered:.0%}."
        )
    offset, patches = _measure(first, second, rows, columns)
    shifted = offset is not None and max(map(abs, offset)) > stride / 2
    if offset is None:
        notes.append(
            "The offset between the dates cannot be told: what they show has too little in common, or too little of it "
            "is data. Check in a viewer that the same ground lies at the same place."
        )
    else:
        said = _said(offset, first.gsd_m, patches, after.name, before.name)
        more = f" That is more than half a cell ({stride / 2:g} px): what looks changed may only be shifted."
        notes.append(f"Warning: {said}{more} Align the scenes first." if shifted else said)
    return Registration(first.grid, brought, offset, shifted, tuple(notes))


def offset_between(
    pairs: Sequence[tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]],
) -> tuple[float, float] | None:
    """Return by how much the second image of each pair is shifted against the first, or None if that is not clear.

    Phase correlation (Kuglin and Hines 1975): the cross-power spectra of all pairs, each number brought to length
    1, are added and transformed back, which leaves a peak at the offset. Fine detail, which is mostly noise, counts
    less (a Gaussian of 0.2 cycles per pixel: our choice). Around the peak the transform is computed in steps of
    1/20 pixel (Guizar-Sicairos, Thurman and Fienup 2008).

    Args:
        pairs: Images of one size, (rows, columns), 0 on average and 0 where there is no data.

    Returns:
        Rows and columns.

    Example:
        >>> scene = np.random.default_rng(0).normal(size=(80, 90))
        >>> offset_between([(scene[5:69, 5:69], scene[2:66, 9:73])])
        (3.0, -4.0)
    """
    height, width = pairs[0][0].shape
    taper = np.outer(*(np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in (height, width)))
    total = np.zeros((height, width), np.complex128)
    for before, after in pairs:
        cross = np.conj(fft.fft2(before * taper)) * fft.fft2(after * taper)
        length = np.abs(cross)
        total += np.divide(cross, length, out=np.zeros_like(cross), where=length > 1e-9 * length.max())
    y, x = fft.fftfreq(height)[:, None], fft.fftfreq(width)[None]
    total *= np.exp(-(y**2 + x**2) / (2 * 0.2**2))
    surface = fft.ifft2(total).real
    row, column = np.unravel_index(surface.argmax(), surface.shape)
    rolled = np.roll(surface, (8 - row, 8 - column), (0, 1))
    rest = np.concatenate([rolled[17:].ravel(), rolled[:17, 17:].ravel()])
    if not (rest.size and surface.max() > DISTINCT * rest.std() and surface.max() > ALONE * rest.max()):
        return None
    steps = np.arange(-1, 1.01, 0.05)
    rows, columns = _signed(row, height) + steps, _signed(column, width) + steps
    near = np.exp(2j * np.pi * rows[:, None] * y.T) @ total @ np.exp(2j * np.pi * x.T * columns[None])
    best = np.unravel_index(near.real.argmax(), near.shape)
    return round(float(rows[best[0]]), 2) + 0.0, round(float(columns[best[1]]), 2) + 0.0


def _signed(place_: np.integer, side: int) -> int:
    return int(place_) - side if place_ > side // 2 else int(place_)


def _measure(
    first: RasterScene, second: RasterScene, rows: slice, columns: slice
) -> tuple[tuple[float, float] | None, int]:
    """Return the offset on the common ground of two scenes, and of how many patches it is known."""
    bands = len(first.mapping.names)
    edge = _PATCH_PIXELS
    while edge > 64 and edge * edge * bands * 8 > _BYTES:
        edge //= 2
    high, wide = min(edge, rows.stop - rows.start), min(edge, columns.stop - columns.start)
    if min(high, wide) < 24:
        return None, 0
    chosen = np.unique(np.linspace(0, bands - 1, min(bands, MOST_BANDS)).astype(int))
    found: list[tuple[float, list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]]] = []
    with bounded_cache(), first.reading() as mine, second.reading() as theirs:
        for top in _starts(rows, high):
            for left in _starts(columns, wide):
                part = slice(top, top + high), slice(left, left + wide)
                share, pairs = _patch(mine, theirs, *part, chosen)
                if share >= 0.5:
                    found.append((share, pairs))
    # The border of what is data lies at the same place in both, and speaks against any offset.
    whole = [entry for entry in found if entry[0] > 0.99] or found
    pairs = [pair for _, of_patch in whole for pair in of_patch]
    return (offset_between(pairs), len(whole)) if pairs else (None, 0)


def _patch(
    mine: RasterReader, theirs: RasterReader, rows: slice, columns: slice, chosen: npt.NDArray[np.intp]
) -> tuple[float, list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]]:
    (before, valid), (after, also) = mine.read(rows, columns), theirs.read(rows, columns)
    valid &= also
    if not valid.any():
        return 0.0, []
    pairs = []
    for band in chosen:
        centred = [np.where(valid, image[band] - image[band][valid].mean(), 0) for image in (before, after)]
        if all(image.any() for image in centred):
            pairs.append((centred[0], centred[1]))
    return float(valid.mean()), pairs


def _starts(part: slice, size: int) -> list[int]:
    room = part.stop - part.start - size
    places = np.linspace(part.start, part.start + room, min(PATCHES, 1 + room // size))
    return [int(place) for place in np.unique(places)]


def _corners(of: PixelGrid, on: PixelGrid) -> npt.NDArray[np.float64]:
    """Return rows and columns, on one grid, of the corners of another."""
    x, y = place(of.transform, np.array([0, of.width, 0, of.width]), np.array([0, 0, of.height, of.height]))
    columns, rows = place(~on.transform, x, y)
    return np.array([rows, columns])


def _said(offset: tuple[float, float], gsd_m: float, patches: int, after: str, before: str) -> str:
    down, right = offset
    return (
        f"Offset of {after} against {before}, by phase correlation of {patches} "
        f"{'patch' if patches == 1 else 'patches'}: {abs(down):g} px {'up' if down < 0 else 'down'} and "
        f"{abs(right):g} px {'left' if right < 0 else 'right'} ({math.hypot(down, right) * gsd_m:.3g} m)."
    )


def _short(scene: RasterScene) -> str:
    return str(scene.crs.to_string())[:60]
