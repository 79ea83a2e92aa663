"""One seed per run; one independent stream of random numbers per purpose.

Streams are keyed by what they are for (split, label draw, augmentation, tile ...), so adding a random choice in
one place changes no other, and an interrupted run draws the same numbers when it goes on. They are drawn on the
CPU with NumPy, so the device does not change them.
"""

from __future__ import annotations

import zlib

import numpy as np

__all__ = ["stream"]


def stream(seed: int, purpose: str, *keys: int) -> np.random.Generator:
    """Return the generator for one purpose.

    Args:
        seed: The run's seed, 0 or larger.
        purpose: What the numbers are for, such as ``"split"``.
        *keys: Where in the work they are used, such as epoch and step.

    Returns:
        A generator that depends on nothing but the arguments.

    Example:
        >>> bool(stream(0, "split").random() == stream(0, "split").random())
        True
        >>> bool(stream(0, "split").random() == stream(0, "label draw").random())
        False
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *keys])
