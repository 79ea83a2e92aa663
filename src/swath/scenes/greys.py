"""Grey pictures of scenes of any bands and number type, for what looks at brightness alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swath.scenes.packed import PackedScenes

__all__ = ["GreyScale", "grey_pieces"]

# Of scenes that are not 8-bit, so many are looked at to find the range of their values.
_SAMPLE = 256


@dataclass(frozen=True)
class GreyScale:
    """The range of values in each band that 256 grey levels stand for.

    Args:
        low: (bands,) stored value that becomes 0.
        high: (bands,) stored value that becomes 255.

    Example:
        >>> scale = GreyScale(np.zeros(2), np.array([255.0, 1000.0]))
        >>> scale.levels(np.array([[[[100]], [[500]]]], np.uint16)).tolist()
        [[[114]]]
    """

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @classmethod
    def of(cls, store: PackedScenes) -> GreyScale:
        """Return the scale of a store: 0 to 255 for 8-bit scenes, else all but the outermost 0.1 % of each band.

        The range comes from up to 256 scenes spread evenly over the store, so it is the same each time.
        """
        bands = len(store.contract.names)
        if store.dtype == np.uint8:
            return cls(np.zeros(bands), np.full(bands, 255.0))
        rows = np.unique(np.linspace(0, len(store) - 1, _SAMPLE).astype(np.int64))
        low, high = np.zeros(bands), np.ones(bands)
        images = store.read(rows)
        valid = store.contract.valid(images)
        for band in range(bands):
            values = images[:, band][valid[:, band]]
            if values.size:
                low[band], high[band] = np.quantile(values.astype(np.float64), (0.001, 0.999))
        return cls(low, high)

    def levels(self, images: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
        """Return grey levels (scenes, H, W) of images (scenes, bands, H, W): the mean over bands of 8-bit values."""
        grey = np.zeros((len(images), *images.shape[2:]), np.float32)
        for band, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            step = np.float32(255 / (high - low) if high > low else 0)
            values = images[:, band].astype(np.float32)
            grey += np.clip((np.nan_to_num(values) - np.float32(low)) * step, 0, 255)
        levels: npt.NDArray[np.uint8] = np.rint(grey / images.shape[1]).astype(np.uint8)
        return levels


def grey_pieces(
    store: PackedScenes, rows: npt.ArrayLike
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]]:
    """Yield grey levels and valid pixels, both (scenes, H, W), of some scenes, piece by piece.

    Args:
        store: The packed scenes.
        rows: Rows of the store.

    Yields:
        Levels from 0 to 255, and which pixels hold data in every band.
    """
    scale = GreyScale.of(store)
    for images in store.pieces(rows, at_most_bytes=4 * 2**20):
        yield scale.levels(images), np.asarray(store.contract.valid(images).all(axis=1))
