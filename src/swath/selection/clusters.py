"""Dividing many features into clusters: centres from a sample or from labelled reference scenes, then all assigned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.errors import InputError
from swath.randomness import stream
from swath.selection.shares import water_filling

__all__ = ["Clusters", "cluster", "nearest_centres"]

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]

SAMPLE = 50_000
"""Scenes that k-means sees at most; all others are assigned to its centres."""

_CHUNK = 8192


@dataclass(frozen=True, eq=False)
class Clusters:
    """Where each scene belongs.

    Args:
        centre: (clusters, features) float32.
        member: (scenes,) the nearest centre of each scene.
        distance: (scenes,) how far it is.
    """

    centre: npt.NDArray[np.float32]
    member: Rows
    distance: npt.NDArray[np.float32]


def cluster(
    features: Floats,
    count: int,
    seed: int,
    *,
    rows: npt.ArrayLike | None = None,
    strata: Rows | None = None,
    sample: int = SAMPLE,
) -> Clusters:
    """Divide scenes into clusters by mini-batch k-means on a stratified sample; then assign every scene.

    Args:
        features: (scenes, features), in memory or memory-mapped.
        count: How many clusters.
        seed: Of the sample and of k-means.
        rows: The scenes to divide; None for all.
        strata: (scenes,) class of each labelled reference scene of ``features``, -1 for the others; the sample then
            holds every class as evenly as there are scenes of it, and k-means starts from the classes' means.
        sample: Scenes that k-means sees at most.

    Returns:
        Centres, and for each of ``rows`` the nearest one and its distance.

    Raises:
        InputError: There are fewer scenes than clusters.

    Source:
        Stage 2 of RS-Prune (arXiv 2512.23239), in our reading.
    """
    from sklearn.cluster import MiniBatchKMeans

    rows = np.arange(len(features)) if rows is None else np.asarray(rows, np.int64)
    if not 1 <= count <= len(rows):
        raise InputError(
            f"{count} clusters were asked for and there are {len(rows)} scenes; expected 1 to that many."
        )
    random = stream(seed, "selection clusters")
    code = np.full(len(rows), -1) if strata is None else strata[rows]
    drawn = _sample(code, max(sample, count), random)
    seen = _float32(features, rows[drawn])
    start = _reference_centres(seen, code[drawn], count, random)
    found = MiniBatchKMeans(
        n_clusters=count,
        init="k-means++" if start is None else start,
        n_init=1,
        batch_size=4096,
        init_size=max(3 * 4096, 3 * count),
        max_iter=20,
        random_state=int(random.integers(2**31)),
    ).fit(seen)
    centre = np.ascontiguousarray(found.cluster_centers_, np.float32)
    member, distance = nearest_centres(features, centre, rows)
    return Clusters(centre, member, distance)


def nearest_centres(
    features: Floats, centre: npt.NDArray[np.float32], rows: Rows
) -> tuple[Rows, npt.NDArray[np.float32]]:
    """Return the nearest centre of some scenes and how far it is, chunk by chunk.

    Args:
        features: (scenes, features).
        centre: (clusters, features).
        rows: The scenes.

    Returns:
        (rows,) number of the centre, and (rows,) Euclidean distance.

    Example:
        >>> near, far = nearest_centres(np.array([[0.0], [4.0]]), np.array([[1.0], [9.0]], np.float32), np.arange(2))
        >>> near.tolist(), far.tolist()
        ([0, 0], [1.0, 3.0])
    """
    member, distance = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    half = 0.5 * np.einsum("kd,kd->k", centre, centre)
    for begin in range(0, len(rows), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        points = _float32(features, rows[part])
        member[part] = (points @ centre.T - half).argmax(axis=1)
        # From the difference itself, not from squares: scenes at the centre have distance 0, not a rounding error.
        points -= centre[member[part]]
        distance[part] = np.sqrt(np.einsum("nd,nd->n", points, points))
    return member, distance


def _sample(code: Rows, size: int, random: np.random.Generator) -> Rows:
    """Return at most ``size`` positions, of every code as evenly as it has scenes; -1 counts as one more."""
    if len(code) <= size:
        return np.arange(len(code))
    order = random.permutation(len(code))
    kinds, group, sizes = np.unique(code[order], return_inverse=True, return_counts=True)
    parts = water_filling(sizes, size)
    drawn = [order[group == kind][: parts[kind]] for kind in range(len(kinds))]
    return np.sort(np.concatenate(drawn))


def _reference_centres(
    seen: npt.NDArray[np.float32], code: Rows, count: int, random: np.random.Generator
) -> npt.NDArray[np.float32] | None:
    """Return where k-means starts if there are reference scenes: the classes' means, and scenes of each class in turn.

    None where nothing is labelled, or where there are more classes than clusters.
    """
    kinds = np.unique(code[code >= 0])
    if not len(kinds) or len(kinds) > count:
        return None
    members = [np.flatnonzero(code == kind) for kind in kinds]
    more = water_filling([len(rows) for rows in members], min(count - len(kinds), sum(map(len, members))))
    start = [seen[rows].mean(axis=0) for rows in members]
    start += [
        seen[row] for rows, part in zip(members, more, strict=True) for row in random.permutation(rows)[:part]
    ]
    # Few reference scenes and many clusters: the rest begins at scenes that nobody labelled.
    others = random.permutation(np.flatnonzero(code < 0))[: count - len(start)]
    start += [seen[row] for row in others]
    return np.stack(start).astype(np.float32)


def _float32(features: Floats, rows: Rows) -> npt.NDArray[np.float32]:
    contiguous = len(rows) and rows[-1] - rows[0] + 1 == len(rows) and bool((np.diff(rows) == 1).all())
    part = features[rows[0] : rows[-1] + 1] if contiguous else features[rows]
    return np.array(part, np.float32)
