"""Scenes that show nearly the same: proposed by a perceptual hash, confirmed by correlation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from swath.errors import InputError
from swath.scenes.greys import grey_pieces
from swath.scenes.packed import PackedScenes

__all__ = ["difference_hash", "groups_of_pairs", "joined_groups", "near_duplicates", "small_greys"]

Rows = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Small = npt.NDArray[np.float32]

_SIDE = 32  # of the small grey pictures that hash and correlation are taken from
_BITS = 4  # of 64 that may differ
# Two hashes that differ in at most 4 bits are equal in at least one of 5 pieces: only such pairs are compared.
_PIECES = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))
_PAIRS = 2**21  # compared at a time


def near_duplicates(
    store: PackedScenes,
    rows: npt.ArrayLike | None = None,
    *,
    correlation: float = 0.95,
    contrast: float = 2.0,
) -> list[Rows]:
    """Return groups of scenes that show nearly the same, also if one is flipped or turned by quarters.

    Two scenes are proposed where their difference hashes of 64 bits differ in at most 4, the smallest over the 8 flips
    and turns, and confirmed where their small grey pictures correlate. Pixel-for-pixel equal scenes belong together
    whatever they show. Groups are chains: the first and the last of a group may differ more than two neighbours do.

    Args:
        store: The packed scenes.
        rows: Rows of the store to look at; None for all.
        correlation: From which on two scenes are taken to be the same, above 0, up to 1.
        contrast: Scenes whose grey levels have a smaller standard deviation (of 255) look like each other and are not
            compared: water, sand, snow.

    Returns:
        Rows of each group of two or more, ascending; groups by their first row.

    Raises:
        InputError: A constant is out of its range.

    Source:
        The difference hash is that of the packages imagehash and dhash; the eight turns, the floor for flat scenes and
        the confirmation are ours.
    """
    if not 0 < correlation <= 1 or not 0 <= contrast <= 255:
        raise InputError(
            f"Near-duplicates were asked for with a correlation of {correlation} and a contrast of {contrast}; "
            f"expected above 0 and up to 1, and from 0 to 255."
        )
    rows = np.arange(len(store)) if rows is None else np.asarray(rows, np.int64)
    small = small_greys(store, rows)
    different = np.flatnonzero(small.std(axis=(1, 2)) >= contrast)
    pairs = [_equal_pairs(store.digests[rows])]
    for one, other, turn in _proposed(small[different]):
        same = _correlation(small[different], one, other, turn) >= correlation
        pairs.append(np.stack([different[one[same]], different[other[same]]]))
    return groups_of_pairs(np.concatenate(pairs, axis=1), rows)


def difference_hash(small: Small) -> Hashes:
    """Return 64 bits for each picture: whether brightness rises from each of 9 columns to the next, in 8 rows.

    Args:
        small: (scenes, side, side) grey pictures.

    Returns:
        (scenes,) hashes.

    Example:
        >>> int(difference_hash(np.tile(np.arange(32.0, dtype=np.float32), (1, 32, 1)))[0]) == 2**64 - 1
        True
    """
    side = small.shape[1]
    cells = _boxes(side, 8) @ small @ _boxes(side, 9).T
    rises = np.diff(cells, axis=2) > 0
    return np.packbits(rises.reshape(len(small), 64), axis=1).view(np.uint64)[:, 0]


def joined_groups(scenes: int, found: Sequence[npt.ArrayLike], groups: npt.ArrayLike | None = None) -> Rows:
    """Return a group number for each scene, so that near-duplicates share one, and all of their own groups with them.

    Args:
        scenes: How many there are.
        found: Groups of rows, as from :func:`near_duplicates`.
        groups: (scenes,) a value that scenes which must stay together have in common already, or None.

    Returns:
        (scenes,) for ``groups`` of :func:`swath.scenes.splits.split_rows`.

    Example:
        >>> joined_groups(5, [[0, 3]], ["a", "a", "b", "b", "c"]).tolist()
        [0, 0, 0, 0, 1]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    own = (
        np.arange(scenes)
        if groups is None
        else np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    )
    first = np.concatenate(
        [
            np.zeros(0, np.int64),
            *(np.repeat(own[members[0]], len(members)) for members in map(np.asarray, found)),
        ]
    )
    all_ = np.concatenate([np.zeros(0, np.int64), *(own[np.asarray(members)] for members in found)])
    count = int(own.max(initial=-1)) + 1
    edges = coo_array((np.ones(len(first), bool), (first, all_)), shape=(count, count))
    return np.asarray(connected_components(edges, directed=False)[1][own], np.int64)


def groups_of_pairs(pairs: Rows, rows: Rows) -> list[Rows]:
    """Return the rows of each chain of pairs.

    Args:
        pairs: (2, n) positions in ``rows``.
        rows: What is at these positions, ascending.

    Returns:
        Rows of each group of two or more, ascending; groups by their first row.

    Example:
        >>> groups_of_pairs(np.array([[0, 1], [3, 0]]), np.array([10, 11, 12, 13]))
        [array([10, 11, 13])]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(pairs.shape[1], bool), tuple(pairs)), shape=(len(rows), len(rows)))
    label = connected_components(edges, directed=False)[1]
    order = np.argsort(label, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    groups = [np.sort(rows[part]) for part in parts if len(part) > 1]
    return sorted(groups, key=lambda members: int(members[0]))


def small_greys(store: PackedScenes, rows: Rows, side: int = _SIDE) -> Small:
    """Return (rows, side, side) grey pictures; pixels without data have the mean of the others."""
    parts = [np.zeros((0, side, side), np.float32)]
    for grey, valid in grey_pieces(store, rows):
        levels = grey.astype(np.float32)
        if not valid.all():
            count = np.maximum(valid.sum(axis=(1, 2)), 1)
            mean = np.where(valid, levels, 0).sum(axis=(1, 2)) / count
            levels = np.where(valid, levels, mean[:, None, None]).astype(np.float32)
        small = _boxes(grey.shape[1], side) @ levels @ _boxes(grey.shape[2], side).T
        parts.append(small.astype(np.float32, copy=False))
    return np.concatenate(parts)


def _boxes(given: int, wanted: int) -> Small:
    """Return (wanted, given) weights: each new cell is the mean of what it covers of the old ones."""
    edges, old = np.linspace(0, given, wanted + 1), np.arange(given)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    weights = np.maximum(overlap, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _turned(small: Small, turn: int) -> Small:
    turned = np.rot90(small, turn % 4, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if turn >= 4 else turned)


def _equal_pairs(digests: npt.NDArray[np.uint8]) -> Rows:
    group = np.unique(digests, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(group, kind="stable")
    same = group[order[1:]] == group[order[:-1]]
    return np.stack([order[:-1][same], order[1:][same]])


def _proposed(small: Small) -> Iterator[tuple[Rows, Rows, int]]:
    """Yield pairs (turned scene, scene, turn) whose hashes differ in few bits."""
    plain = difference_hash(small)
    for turn in range(8):
        turned = plain if turn == 0 else difference_hash(_turned(small, turn))
        for first, width in _PIECES:
            mask = np.uint64((1 << width) - 1)
            mine, other = (turned >> np.uint64(first)) & mask, (plain >> np.uint64(first)) & mask
            order = np.argsort(other, kind="stable")
            begin = np.searchsorted(other[order], mine, "left")
            count = np.searchsorted(other[order], mine, "right") - begin
            for one, place in _ranges(begin, count):
                two = order[place]
                near = (np.bitwise_count(turned[one] ^ plain[two]) <= _BITS) & (one != two)
                if near.any():
                    yield one[near], two[near], turn


def _ranges(begin: Rows, count: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Yield (scene, place) for all places ``begin .. begin + count`` of each scene, a bounded number at a time."""
    ends = np.cumsum(count)
    start = 0
    while start < len(count):
        base = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, base + _PAIRS, "right")))
        scene = np.repeat(np.arange(start, stop), count[start:stop])
        offset = np.arange(len(scene)) - np.repeat(
            ends[start:stop] - count[start:stop] - base, count[start:stop]
        )
        yield scene, begin[scene] + offset
        start = stop


def _correlation(small: Small, one: Rows, other: Rows, turn: int) -> Small:
    found = np.empty(len(one), np.float32)
    for start in range(0, len(one), 4096):
        part = slice(start, start + 4096)
        a, b = _turned(small[one[part]], turn), small[other[part]]
        a, b = (values - values.mean(axis=(1, 2), keepdims=True) for values in (a, b))
        norm = np.sqrt((a**2).sum(axis=(1, 2)) * (b**2).sum(axis=(1, 2)))
        found[part] = (a * b).sum(axis=(1, 2)) / np.maximum(norm, 1e-12)
    return found
