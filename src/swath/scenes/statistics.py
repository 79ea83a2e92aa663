"""Mean and standard deviation of each band, over valid training pixels."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from swath.errors import SceneError
from swath.scenes.packed import PackedScenes

__all__ = ["statistics"]

# A spread that is smaller than this part of the mean is rounding.
_ROUNDING = 1e-10


def statistics(store: PackedScenes, rows: npt.ArrayLike) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of each band over the valid pixels of some scenes.

    Give the training rows only. A band that is the same everywhere gets a standard deviation of 1, with a
    warning: it is then 0 after normalisation instead of a division by zero.

    Args:
        store: The packed scenes.
        rows: Rows of the store, such as the training rows.

    Returns:
        Mean and standard deviation (of the population), in units (scaled), one per band. For
        :meth:`BandContract.with_statistics`.

    Raises:
        SceneError: A band has no valid pixel in these scenes.
    """
    bands = len(store.contract.names)
    count = np.zeros(bands)
    mean = np.zeros(bands)
    squares = np.zeros(bands)  # sum of squared distances from the mean so far
    for images in store.pieces(rows, at_most_bytes=2**20):
        valid = store.contract.valid(images)
        complete = store.contract.nodata is None or bool(valid.all())
        for band in range(bands):
            values = (images[:, band] if complete else images[:, band][valid[:, band]]).astype(np.float64)
            if not values.size:
                continue
            # Pieces are joined by the update of Chan, Golub and LeVeque (1983), which does not cancel.
            piece_mean = values.mean()
            values -= piece_mean
            total = count[band] + values.size
            step = piece_mean - mean[band]
            mean[band] += step * values.size / total
            squares[band] += np.vdot(values, values) + step**2 * count[band] * values.size / total
            count[band] = total
    empty = [name for name, number in zip(store.contract.names, count, strict=True) if number == 0]
    if empty:
        raise SceneError(
            f"No valid pixel in band {', '.join(empty)} of the {np.size(rows)} scenes that statistics were "
            f"asked for. Check the nodata value ({store.contract.nodata}), or give more scenes."
        )
    spread = np.sqrt(squares / count)
    constant = spread <= _ROUNDING * np.abs(mean)
    if constant.any():
        names = [name for name, same in zip(store.contract.names, constant, strict=True) if same]
        warnings.warn(
            f"Band {', '.join(names)} has the same value in all valid training pixels; its standard "
            f"deviation is set to 1, and it carries no information.",
            stacklevel=2,
        )
    scale = np.asarray(store.contract.scale)
    std = np.where(constant, 1.0, spread * np.abs(scale))
    return tuple((mean * scale + np.asarray(store.contract.offset)).tolist()), tuple(std.tolist())
