"""Random ground without a grid: hashes and smooth noise that are functions of the place.

Everything on the synthetic Earth is a function of a seed and of integer world coordinates. Hence any window
of it can be made alone, in any order and by any process, and two windows agree where they overlap. Smooth
noise is a cubic B-spline over hashed lattice values. Values and weights have so few bits that all sums are
exact: the result does not depend on the order of summation, on the number of threads or on the
linear-algebra library.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swath.randomness import stream

__all__ = ["Float", "Hash", "Window", "World", "hash_lattice", "mix_bits", "unit"]

Float = NDArray[np.float32]
Hash = NDArray[np.uint32]
Coordinates = NDArray[np.int64]

# Noise of short periods is needed often and roughly: 8 + 2 x 8 bits are exact in float32. Contour lines of
# long ones become shores and roads, whose distance needs the slope: 8 + 2 x 20 bits are exact in float64.
_COARSEST_QUICK_PERIOD = 8

# Standard deviation of a cubic B-spline over independent values in [-128, 127], one value per lattice point:
# uniform variance 256^2 / 12, times the mean of the summed squared weights (151 / 315 per axis).
_SPREAD = 256 / np.sqrt(12.0) * (151 / 315)


@dataclass(frozen=True)
class Window:
    """A batch of equally large windows of the world, in pixels; row 0 is north.

    Args:
        top: First world row of each window, shape (batch,).
        left: First world column of each window, shape (batch,).
        height: Rows of each window.
        width: Columns of each window.
    """

    top: Coordinates
    left: Coordinates
    height: int
    width: int

    def grown(self, margin: int) -> Window:
        """Return the windows with a margin on every side."""
        return Window(
            self.top - margin, self.left - margin, self.height + 2 * margin, self.width + 2 * margin
        )

    @cached_property
    def rows(self) -> Coordinates:
        """World rows, shape (batch, height, 1)."""
        return (self.top[:, None] + np.arange(self.height))[:, :, None]

    @cached_property
    def columns(self) -> Coordinates:
        """World columns, shape (batch, 1, width)."""
        return (self.left[:, None] + np.arange(self.width))[:, None, :]


def mix_bits(value: Hash) -> Hash:
    """Return a thoroughly mixed copy of 32-bit numbers (the finaliser of the "lowbias32" integer hash)."""
    mixed = value ^ (value >> np.uint32(16))
    mixed *= np.uint32(0x7FEB352D)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x846CA68B)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def hash_lattice(rows: NDArray[np.int64], columns: NDArray[np.int64], salt: Hash | np.uint32) -> Hash:
    """Return a hash of every (row, column); the three arguments broadcast."""
    across = mix_bits(columns.astype(np.uint32) ^ salt)
    return mix_bits(across + rows.astype(np.uint32) * np.uint32(0x9E3779B1))


def unit(hashed: Hash, shift: int = 0, bits: int = 10) -> Float:
    """Return some bits of a hash as a number in [0, 1): one hash gives several independent numbers."""
    return ((hashed >> np.uint32(shift)) & np.uint32((1 << bits) - 1)).astype(np.float32) / np.float32(
        1 << bits
    )


@lru_cache(maxsize=64)
def _spline_matrices(length: int, period: int) -> NDArray[np.floating[Any]]:
    """Return cubic B-spline weights by position, shape (phase of the first, position, lattice point)."""
    quick = period <= _COARSEST_QUICK_PERIOD
    steps = 2**8 if quick else 2**20
    t = np.arange(period) / period
    exact = (
        np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    )
    weights = np.round(exact * steps)
    weights[np.arange(period), exact.argmax(axis=1)] += steps - weights.sum(axis=1)
    matrices = np.zeros((period, length, (length - 1) // period + 5), np.float32 if quick else np.float64)
    phase, place = np.ogrid[:period, :length]
    cell, within = np.divmod(phase + place, period)
    for tap in range(4):
        matrices[phase, place, cell + tap] = weights[within, tap] / steps
    return matrices


class World:
    """One synthetic planet: a seed, and what follows from it.

    Args:
        seed: Seed of the world, 0 or larger.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._salts: dict[str, np.uint32] = {}

    def salt(self, purpose: str) -> np.uint32:
        """Return the 32-bit key of one purpose."""
        if purpose not in self._salts:
            drawn = stream(self.seed, f"synthetic earth: {purpose}").integers(2**32, dtype=np.uint32)
            self._salts[purpose] = np.uint32(drawn)
        return self._salts[purpose]

    def noise(self, purpose: str, window: Window, period: int, salt: Hash | None = None) -> Float:
        """Return smooth noise with mean 0 and standard deviation about 1.

        Args:
            purpose: Key of the noise; each purpose and period is independent.
            window: Where.
            period: Distance between lattice points in pixels; structures are about twice as large.
            salt: Optional further key for each window, shape (batch,): noise of the moment, not of the place.

        Returns:
            Noise of shape (batch, height, width).
        """
        first_row, row_phase = np.divmod(window.top, period)
        first_column, column_phase = np.divmod(window.left, period)
        down = _spline_matrices(window.height, period)[row_phase]
        across = _spline_matrices(window.width, period)[column_phase]
        rows = (first_row[:, None] - 1 + np.arange(down.shape[2]))[:, :, None]
        columns = (first_column[:, None] - 1 + np.arange(across.shape[2]))[:, None, :]
        key: Hash | np.uint32 = self.salt(f"{purpose} {period}")
        if salt is not None:
            key = mix_bits(key ^ salt)[:, None, None]
        lattice = (hash_lattice(rows, columns, key) >> np.uint32(24)).astype(down.dtype) - 128
        values: NDArray[np.floating[Any]] = np.matmul(np.matmul(down, lattice), across.transpose(0, 2, 1))
        values *= values.dtype.type(1 / _SPREAD)
        return values.astype(np.float32, copy=False)

    def octaves(self, purpose: str, window: Window, parts: dict[int, float]) -> Float:
        """Return a weighted sum of noises, ``parts`` maps period to weight."""
        total = np.zeros((len(window.top), window.height, window.width), np.float32)
        for period, weight in parts.items():
            total += np.float32(weight) * self.noise(purpose, window, period)
        return total
