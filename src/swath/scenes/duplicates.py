"""Scenes that are in two parts of a split at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from swath.scenes.packed import PackedScenes

__all__ = ["exact_duplicates"]


def exact_duplicates(store: PackedScenes, parts: Sequence[npt.ArrayLike]) -> list[npt.NDArray[np.int64]]:
    """Return groups of pixel-for-pixel equal scenes that lie in more than one part of a split.

    A test scene that was also trained on makes the figures too good. Images are compared as they were
    decoded, before they were resized; files may differ (name, compression, metadata).

    Args:
        store: The packed scenes.
        parts: Rows of the store in each part, such as training, validation and test rows.

    Returns:
        Rows of each group, ascending; groups by their first row. Empty if no scene crosses the split.
    """
    rows = np.concatenate([np.asarray(part, np.int64).reshape(-1) for part in parts])
    part_of = np.repeat(np.arange(len(parts)), [np.size(part) for part in parts])
    _, group, size = np.unique(store.digests[rows], axis=0, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    order = np.flatnonzero(size[group] > 1)
    order = order[np.lexsort((rows[order], group[order]))]
    starts = np.flatnonzero(np.diff(group[order])) + 1
    crossing = [rows[members] for members in np.split(order, starts) if len(np.unique(part_of[members])) > 1]
    return sorted(crossing, key=lambda members: int(members[0]))
