"""Dividing a number of scenes among groups, exactly."""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt

from swath.errors import InputError

__all__ = ["kept_of", "largest_remainder", "water_filling"]

Counts = npt.NDArray[np.int64]


def kept_of(wanted: str | float | int, scenes: int) -> int:
    """Return how many scenes a budget such as ``15%``, ``0.15`` or ``1500`` means.

    Args:
        wanted: A percentage, a share above 0 and below 1, or a whole number from 1.
        scenes: How many there are.

    Raises:
        InputError: It is none of these, or means no scene or more than there are.

    Example:
        >>> kept_of("15%", 200), kept_of(0.15, 200), kept_of(30, 200)
        (30, 30, 30)
    """
    text = str(wanted).strip()
    percent = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text)
    plain = re.fullmatch(r"\d+(?:\.\d+)?", text)
    count = -1.0
    if percent:
        meant = float(percent[1]) / 100 * scenes
        # 101 % of few scenes are not all of them.
        count = round(meant) if meant <= scenes else math.ceil(meant)
    elif plain:
        number = float(text)
        whole = number >= 1 and number == int(number)
        count = number if whole else round(number * scenes) if number < 1 else -1.0
    if count < 0:
        raise InputError(
            f"A budget of {wanted!r} was given; expected a percentage such as 15%, a share such as 0.15, or a whole "
            f"number of scenes."
        )
    if not 1 <= count <= scenes:
        raise InputError(
            f"A budget of {wanted!r} means {count:.0f} of {scenes} scenes; expected from 1 to {scenes}."
        )
    return int(count)


def largest_remainder(weights: npt.ArrayLike, total: int) -> Counts:
    """Divide a whole number in proportion to weights, so that the parts add up to it.

    Each part is rounded down; what is left goes one by one to the largest remainders, the first of equals first.

    Args:
        weights: (groups,) non-negative, not all 0.
        total: What to divide, 0 or more.

    Returns:
        (groups,) whole numbers that sum to ``total``.

    Source:
        Hamilton's method of apportionment.

    Example:
        >>> largest_remainder([5, 3, 1], 4).tolist()
        [2, 1, 1]
    """
    given = np.asarray(weights, np.float64)
    if given.ndim != 1 or not np.isfinite(given).all() or (given < 0).any() or given.sum() <= 0 or total < 0:
        raise InputError(
            f"Weights of shape {given.shape} and a total of {total} were given; expected finite weights, none negative "
            f"and not all 0, and a total of 0 or more."
        )
    exact = given / given.sum() * total
    parts: Counts = np.floor(exact).astype(np.int64)
    left = total - int(parts.sum())
    parts[np.argsort(-(exact - parts), kind="stable")[:left]] += 1
    return parts


def water_filling(sizes: npt.ArrayLike, total: int) -> Counts:
    """Divide a budget as evenly as group sizes allow: small groups whole, the others alike.

    Group k gets ``min(size_k, L)`` with the level L at which the parts sum to the budget. Where L is no whole number
    the larger groups get one more, the first of equals first.

    Args:
        sizes: (groups,) scenes in each.
        total: The budget, from 0 to the sum of sizes.

    Returns:
        (groups,) whole numbers that sum to ``total``, none above its size.

    Example:
        >>> water_filling([2, 10, 10], 13).tolist()
        [2, 6, 5]
    """
    given = np.asarray(sizes, np.int64)
    if given.ndim != 1 or (given < 0).any() or not 0 <= total <= given.sum():
        raise InputError(
            f"A budget of {total} was given for groups of {given.sum()} scenes together; expected from 0 to that."
        )
    ascending = np.sort(given)
    # With the level at a size, every smaller group is full and the others get that size.
    below = np.concatenate([[0], np.cumsum(ascending)[:-1]])
    at = below + ascending * np.arange(len(given), 0, -1)
    full = int(np.searchsorted(at, total, side="left"))
    level = (total - int(below[full])) // (len(given) - full) if full < len(given) else 0
    parts: Counts = np.minimum(given, level)
    left = total - int(parts.sum())
    open_ = np.flatnonzero(given > level)
    parts[open_[np.argsort(-given[open_], kind="stable")[:left]]] += 1
    return parts
