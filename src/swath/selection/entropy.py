"""How much a picture holds: the Shannon entropy of its grey levels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swath.scenes.greys import grey_pieces
from swath.scenes.packed import PackedScenes

__all__ = ["grey_entropy", "scene_entropy"]

_LEVELS = 256


def grey_entropy(
    grey: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.float32]:
    """Return the Shannon entropy of the grey levels of each scene, from its histogram of 256 bins.

    A constant picture has 0 bits, uniform noise nearly 8.

    Args:
        grey: (scenes, H, W) levels.
        valid: (scenes, H, W) which pixels count; None for all. A scene without any has 0 bits.

    Returns:
        (scenes,) bits, from 0 to 8.

    Source:
        Stage 1 of RS-Prune (arXiv 2512.23239), in our reading: the paper's exact statistic was not found.

    Example:
        >>> grey_entropy(np.array([[[7, 7]], [[0, 255]]], np.uint8)).tolist()
        [0.0, 1.0]
    """
    scenes = len(grey)
    # One histogram for all scenes: pixels that do not count fall into a bin of their own, which is cut off.
    level = grey.reshape(scenes, -1).astype(np.int64)
    if valid is not None:
        level[~valid.reshape(scenes, -1)] = _LEVELS
    level += (np.arange(scenes) * (_LEVELS + 1))[:, None]
    counts = np.bincount(level.reshape(-1), minlength=scenes * (_LEVELS + 1))
    counts = counts.reshape(scenes, _LEVELS + 1)[:, :_LEVELS]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    bits = -(share * np.log2(np.where(share > 0, share, 1))).sum(axis=1)
    return np.asarray(np.abs(bits), np.float32)  # -0.0 becomes 0.0


def scene_entropy(store: PackedScenes, rows: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return the entropy of some packed scenes, read piece by piece.

    Scenes of several bands are turned to grey first: the mean over bands of values brought to 8 bits. Pixels without
    data do not count.

    Args:
        store: The packed scenes.
        rows: Rows of the store.

    Returns:
        (rows,) bits, from 0 to 8.
    """
    parts = [grey_entropy(grey, valid) for grey, valid in grey_pieces(store, rows)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
