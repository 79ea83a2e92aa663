"""The three states of a label, and the questions everything else asks of them.

A state is an int8 code: 1 somebody saw it, 0 somebody looked and it is not there, -1 nobody said. Every negative
code reads as unknown, so no stored value can turn "unknown" into "absent" by accident.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["ABSENT", "PRESENT", "UNKNOWN", "is_absent", "is_known", "is_present", "is_unknown"]

PRESENT: Final = 1
ABSENT: Final = 0
UNKNOWN: Final = -1

# A NumPy array or a torch tensor: they compare alike, and naming neither keeps this module free of torch.
Array = Any


def is_present(state: Array) -> Array:
    """Return where somebody saw the class (NumPy array or torch tensor in, the same kind of boolean out)."""
    return state == PRESENT


def is_absent(state: Array) -> Array:
    """Return where somebody looked and the class is not there."""
    return state == ABSENT


def is_unknown(state: Array) -> Array:
    """Return where nobody said: any negative code."""
    return state < 0


def is_known(state: Array) -> Array:
    """Return where somebody said, present or absent."""
    return state >= 0
