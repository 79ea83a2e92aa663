"""Scenes that show the same ground in part: proposed by features, confirmed where their fine structure matches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swath.errors import InputError
from swath.scenes.near_duplicates import Rows, Small, groups_of_pairs, small_greys
from swath.scenes.packed import PackedScenes

__all__ = ["overlapping", "shifted_correlation"]

# Share of a scene's area: less common ground leaves too little to be sure.
_LEAST_OVERLAP = 0.5
# Grey levels of 255: standard deviation of the fine structure of what overlaps.
_CONTRAST = 0.5
# Pixels of the grey pictures whose mean is taken off: fields look alike, their detail does not.
_AROUND = 5
# Pixels along a side of the grey pictures that decide. Pictures of half the side say which pairs are worth making them
# for: ground shifted by half of their pixels correlates less, but seldom below what is promising.
_SIDE = 64
_PROMISING = 0.6
# Pairs at a time: some 300 MB.
_PAIRS = 256


def overlapping(
    store: PackedScenes, features: npt.ArrayLike, *, correlation: float = 0.9, neighbours: int = 10
) -> list[Rows]:
    """Return groups of scenes that show the same ground, shifted by up to half a scene.

    Each scene is held against its nearest neighbours by features. Two are taken to overlap if the fine structure of
    their grey pictures, at 64 x 64 pixels and without the mean of 5 x 5, correlates at some shift. Scenes that are
    turned are not found, nor are flat ones. Groups are chains, as in :func:`near_duplicates`.

    Args:
        store: The packed scenes.
        features: (scenes, d) numbers of any encoder.
        correlation: From which on they are taken to be the same ground, above 0, up to 1.
        neighbours: How many are held against each scene, 1 or more.

    Returns:
        Rows of each group of two or more, ascending; groups by their first row.

    Raises:
        InputError: A constant is out of its range, or there is not one finite row of features for each scene.

    Source:
        Template matching by the correlation coefficient, of all shifts at once by Fourier transforms. Neighbours by
        whitened features, the fine structure and the constants are ours.
    """
    from sklearn.neighbors import NearestNeighbors

    if not 0 < correlation <= 1 or neighbours < 1:
        raise InputError(
            f"Overlapping scenes were asked for with a correlation of {correlation} and {neighbours} neighbours; "
            f"expected above 0 and up to 1, and 1 or more."
        )
    matrix = np.asarray(features, np.float32)
    if matrix.ndim != 2 or len(matrix) != len(store) or not np.isfinite(matrix).all():
        raise InputError(f"Features of shape {matrix.shape} were given; expected {len(store)} finite rows.")
    if len(store) < 2:
        return []
    count = min(neighbours, len(store) - 1)
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(_whitened(matrix))
    near = search.kneighbors(return_distance=False)
    one, other = np.repeat(np.arange(len(store)), count), near.reshape(-1)
    # Each pair once, in whichever direction it was found.
    pairs = np.unique(np.sort(np.stack([one, other]), axis=0), axis=1)
    pairs = _alike(store, pairs, min(correlation, _PROMISING), _SIDE // 2)
    return groups_of_pairs(_alike(store, pairs, correlation, _SIDE), np.arange(len(store)))


def shifted_correlation(one: Small, other: Small) -> npt.NDArray[np.float32]:
    """Return the largest correlation coefficient of what overlaps, over all shifts that leave half of the area.

    Args:
        one: (pairs, side, side) pictures.
        other: The same of their partners.

    Returns:
        (pairs,) in [-1, 1]; -1 where nothing that overlaps has any structure.

    Example:
        >>> ground = np.random.default_rng(0).normal(0, 9, (1, 32, 40)).astype(np.float32)
        >>> round(float(shifted_correlation(ground[:, :, :32], ground[:, :, 8:])[0]), 3)
        1.0
    """
    from scipy import fft

    side = one.shape[1]
    shift = np.arange(1 - side, side)
    area = np.multiply.outer(side - abs(shift), side - abs(shift)).astype(np.float32)
    spectrum = [fft.rfft2(part, (2 * side, 2 * side)) for part in (one, other)]
    product = fft.irfft2(spectrum[0] * spectrum[1].conj(), (2 * side, 2 * side))[:, shift[:, None], shift]
    sums = [_sums(part, sign * shift) for part, sign in ((one, 1), (other, -1))]
    squares = [_sums(part * part, sign * shift) for part, sign in ((one, 1), (other, -1))]
    spread = [np.maximum(square - total**2 / area, 0) for square, total in zip(squares, sums, strict=True)]
    usable = (area >= _LEAST_OVERLAP * side**2) & (np.minimum(*spread) >= _CONTRAST**2 * area)
    scale = np.sqrt(np.where(usable, spread[0] * spread[1], 1))
    found = np.where(usable, (product - sums[0] * sums[1] / area) / scale, -1)
    best: npt.NDArray[np.float32] = found.max(axis=(1, 2)).astype(np.float32)
    return best


def _alike(store: PackedScenes, pairs: Rows, correlation: float, side: int) -> Rows:
    """Return those of (2, n) pairs whose fine structure correlates."""
    needed, place = np.unique(pairs, return_inverse=True)
    fine = _fine(small_greys(store, needed, side))
    one, other = place.reshape(pairs.shape)
    found = [np.zeros(0, bool)]
    for start in range(0, len(one), _PAIRS):
        some = slice(start, start + _PAIRS)
        found.append(shifted_correlation(fine[one[some]], fine[other[some]]) >= correlation)
    return pairs[:, np.concatenate(found)]


def _sums(values: Small, shift: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return (pairs, shifts, shifts) sums over the part of the pictures that a shifted partner covers."""
    side = values.shape[1]
    total = np.zeros((len(values), side + 1, side + 1))
    total[:, 1:, 1:] = values.cumsum(axis=1, dtype=np.float64).cumsum(axis=2)
    low, high = np.maximum(0, shift), np.minimum(side, side + shift)
    rows = total[:, high] - total[:, low]
    return np.asarray(rows[:, :, high] - rows[:, :, low])


def _fine(small: Small) -> Small:
    from scipy.ndimage import uniform_filter

    return np.asarray(small - uniform_filter(small, (0, _AROUND, _AROUND), mode="nearest"), np.float32)


def _whitened(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return features in which each direction counts alike, unit length; directions of next to no spread count less."""
    centred = features - features.mean(axis=0)
    _, spread, directions = np.linalg.svd(centred, full_matrices=False)
    scaled = centred @ (directions.T / np.maximum(spread + 0.1 * spread.mean(), np.finfo(np.float32).tiny))
    return np.asarray(scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12), np.float32)
