"""Groups of similar scenes, coarse and fine, that hold whatever the features are: equal, few or far apart."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["coarse_groups", "spectral_clusters", "unit_rows"]

Floats = npt.NDArray[np.floating[Any]]
Rows = npt.NDArray[np.int64]

# The neighbour whose distance is a scene's own scale.
_NEIGHBOUR = 7
# Below every real distance and degree; far enough from the smallest number that a division by it stays finite.
_TINY = 1e-200
# A group that single scenes are split off from again and again is cut anywhere in the end.
_MOST_SPLITS = 8


def unit_rows(features: Floats) -> Floats:
    """Return features scaled to length 1, so that distances compare directions; rows of zeros stay.

    Args:
        features: (scenes, d).

    Returns:
        (scenes, d).

    Example:
        >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(length > 0, length, 1))


def coarse_groups(features: Floats, largest: int, random: np.random.Generator) -> list[Rows]:
    """Divide scenes into groups of similar ones, none larger than a given size.

    Mini-batch k-means with as many centres as groups of that size are needed; a group that came out larger is divided
    again, and one that cannot be divided, such as one of equal scenes, is cut anywhere.

    Args:
        features: (scenes, d) finite numbers.
        largest: Most scenes in a group, 1 or more.
        random: Where the first centres come from.

    Returns:
        Rows of each group, ascending; every scene is in one.

    Example:
        >>> groups = coarse_groups(np.array([[0.0], [9.0], [0.1], [9.1]]), 2, np.random.default_rng(0))
        >>> sorted(rows.tolist() for rows in groups)
        [[0, 2], [1, 3]]
    """
    from sklearn.cluster import MiniBatchKMeans

    done: list[Rows] = []
    waiting = [(np.arange(len(features)), 0)] if len(features) else []
    while waiting:
        rows, splits = waiting.pop()
        parts = -(-len(rows) // largest)
        if parts == 1:
            done.append(rows)
            continue
        means = MiniBatchKMeans(parts, n_init=1, batch_size=4096, random_state=int(random.integers(2**31)))
        with _without_warnings():
            label = means.fit_predict(features[rows])
        found = [rows[label == code] for code in np.unique(label)]
        if len(found) == 1 or splits == _MOST_SPLITS:
            done += np.array_split(rows, parts)
        else:
            waiting += [(group, splits + 1) for group in found]
    return sorted(done, key=lambda rows: int(rows[0]))


def spectral_clusters(features: Floats, clusters: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Divide a few scenes (up to some thousand) into clusters along the gaps between them.

    The similarity of two scenes is ``exp(-d_ij^2 / (s_i s_j))`` with each scene's distance to its 7th neighbour as its
    scale, so that dense and thin places count alike and nothing is to be set. The leading eigenvectors of the
    normalised similarities, rows scaled to length 1, are divided by k-means.

    Args:
        features: (scenes, d) finite numbers.
        clusters: How many are wanted, 1 or more.
        random: Where the first centres come from.

    Returns:
        (scenes,) cluster of each scene, from 0. There are fewer than wanted where scenes are equal.

    Source:
        Ng, Jordan and Weiss 2001; the scales are those of Zelnik-Manor and Perona 2004.

    Example:
        >>> found = spectral_clusters(np.array([[0.0], [9.0], [0.1], [9.1]]), 2, np.random.default_rng(0))
        >>> bool(found[0] == found[2] != found[1] == found[3])
        True
    """
    from scipy.linalg import eigh
    from sklearn.cluster import KMeans
    from sklearn.metrics import euclidean_distances

    distinct, same = np.unique(features, axis=0, return_inverse=True)
    if len(distinct) <= clusters or clusters == 1:
        return np.asarray(same if clusters > 1 else np.zeros(len(features)), np.int64).reshape(-1)
    # scikit-learn's SpectralClustering warns where the graph falls apart and its iterative solver may not converge on
    # equal scenes; groups are small, so all eigenvectors are found exactly.
    squared = euclidean_distances(features.astype(np.float64), squared=True)
    np.fill_diagonal(squared, 0)
    place = min(_NEIGHBOUR, len(features) - 1)
    scale = np.sqrt(np.partition(squared, place, axis=1)[:, place])
    similarity = np.exp(-squared / np.maximum(np.outer(scale, scale), _TINY))
    np.fill_diagonal(similarity, 0)
    root = np.sqrt(np.maximum(similarity.sum(axis=1), _TINY))
    first = len(features) - clusters
    _, vectors = eigh(
        similarity / np.outer(root, root), subset_by_index=(first, len(features) - 1), overwrite_a=True
    )
    means = KMeans(clusters, n_init=3, random_state=int(random.integers(2**31)))
    with _without_warnings():
        return np.asarray(means.fit_predict(unit_rows(vectors)), np.int64)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep k-means from telling the user that scenes are equal: callers expect fewer clusters than they asked for."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
