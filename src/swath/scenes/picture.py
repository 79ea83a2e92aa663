"""Pictures of scenes for people: true colour where the bands have it, stretched where the numbers are no colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["display_bands", "stretched"]


def display_bands(names: Sequence[str]) -> list[int]:
    """Return which three bands to show as red, green and blue; the first ones where no band is called so.

    Example:
        >>> display_bands(["B02", "B03", "B04", "B08"]), display_bands(["VV"])
        ([2, 1, 0], [0, 0, 0])
    """
    for wanted in (("red", "green", "blue"), ("B04", "B03", "B02"), ("B4", "B3", "B2")):
        if all(name in names for name in wanted):
            return [list(names).index(name) for name in wanted]
    return [0, 1, 2] if len(names) >= 3 else [0, 0, 0]


def stretched(
    picture: npt.NDArray[np.floating],
    valid: npt.NDArray[np.bool_],
    mean: npt.ArrayLike,
    std: npt.ArrayLike,
) -> npt.NDArray[np.uint8]:
    """Return a picture whose black and white lie two standard deviations around the mean.

    With the statistics of many scenes, dark scenes stay dark.

    Args:
        picture: (3, height, width) in any units.
        valid: (3, height, width) or (height, width); what is not valid is black.
        mean: (3,) in the same units.
        std: (3,), above 0.

    Returns:
        (height, width, 3).

    Example:
        >>> stretched(np.full((3, 1, 1), 7.0), np.ones((1, 1), bool), [7, 7, 5], [1, 1, 1]).tolist()
        [[[127, 127, 255]]]
    """
    middle, spread = (np.asarray(values, np.float64)[:, None, None] for values in (mean, std))
    scaled = (picture - (middle - 2 * spread)) / (4 * spread)
    scaled = np.where(valid, np.nan_to_num(scaled), 0)
    return np.ascontiguousarray((255 * scaled.clip(0, 1)).transpose(1, 2, 0)).astype(np.uint8)
