"""Choosing points that lie far from each other: greedy k-centre, exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from swath.errors import InputError

__all__ = ["farthest_first"]


def farthest_first(
    features: npt.NDArray[np.floating[Any]], count: int, *, taken: npt.ArrayLike = ()
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return points of which each is the farthest from all before it (greedy k-centre), exactly.

    Each pick reads the matrix once, as a matrix-vector product: what else it does is on one number for each point.
    The radius that the picks cover is at most twice the smallest possible one.

    Args:
        features: (points, features); a copy in float32 is made.
        count: How many to pick.
        taken: Rows that are taken already, such as labelled scenes: picks lie far from them too. Without any, the
            first pick is the point nearest to the mean.

    Returns:
        (count,) rows in the order of picking, and (count,) the distance of each to what was there before it
        (infinite for the first of all).

    Raises:
        InputError: There are fewer points left than ``count``.

    Source:
        Gonzalez 1985; for active learning, Core-Set (arXiv 1708.00489).

    Example:
        >>> rows, distance = farthest_first(np.array([[0.0], [1.0], [10.0], [6.0]]), 3)
        >>> rows.tolist(), distance.tolist()
        ([3, 0, 2], [inf, 6.0, 4.0])
    """
    taken = np.asarray(taken, np.int64)
    if not 0 <= count <= len(features) - len(taken):
        raise InputError(
            f"{count} points were asked for, and {len(features) - len(taken)} of {len(features)} are not taken."
        )
    points = np.array(features, np.float32)
    # Distances come from squares and products: about the mean, where these are small, less is lost by rounding.
    points -= points.mean(axis=0, dtype=np.float64).astype(np.float32)
    squares = np.einsum("nd,nd->n", points, points)
    nearest = np.full(len(points), np.inf, np.float32)
    product = np.empty_like(nearest)

    def take(row: int) -> None:
        np.dot(points, points[row], out=product)
        np.multiply(product, -2, out=product)
        np.add(product, squares, out=product)
        np.add(product, squares[row], out=product)
        np.minimum(nearest, product, out=nearest)
        nearest[row] = -np.inf  # never again, whatever else lies at the same place

    for row in taken:
        take(int(row))
    rows, distance = np.empty(count, np.int64), np.empty(count, np.float32)
    for position in range(count):
        row = int(nearest.argmax()) if position or len(taken) else int(squares.argmin())
        rows[position], distance[position] = row, np.sqrt(max(nearest[row], 0))
        take(row)
    return rows, distance
