"""Where the labels of two dates differ, and where that is sure: from two probability maps on the same cells.

With the probability ``a`` of a class before and ``b`` after, in a cell:

- *probability of change*, if the errors of the two dates are independent: ``1 - sum of a b`` over classes that exclude
  each other; ``a (1 - b) + (1 - a) b`` for each class that may hold together with others, and ``1 - product of
  (1 - that)`` for the whole set. An unsure model makes it large, whether anything changed or not.
- *confidence*: the smallest probability of one certain change that agrees with both dates, however their errors depend
  on each other (the Fréchet bound ``P(A and B) >= P(A) + P(B) - 1``): ``a[from] + b[to] - 1`` for the most probable
  classes from and to, and 0 if they can be the same; ``|b - a|`` for each class that may hold together with others,
  and the largest of them for the set. It is small where either date is unsure.

A change counts if its confidence reaches a level. The expected number of false ones among them is then at most the
sum of ``1 - confidence``, if the probabilities of each date are calibrated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from swath.mapping.colours import class_colours
from swath.mapping.naming import change_paths
from swath.mapping.products import SCALE, Place

__all__ = [
    "GAINED",
    "LOST",
    "ONE",
    "Change",
    "ChangeSummary",
    "Changes",
    "DatePair",
    "change_colour",
    "changes_between",
]

ONE: Final = round(1 / SCALE)
"""Probability 1 as it is stored."""
GAINED: Final = 1
LOST: Final = 2
"""How the change of a class is stored that may hold together with others."""


class Changes(NamedTuple):
    """What is known of a block of cells.

    Args:
        probability: (bands, rows, columns) float64: that the label set differs; then, of classes that may hold
            together, that each does.
        confidence: (1 or classes, rows, columns) int32, in steps of ``SCALE``.
        code: (1 or classes, rows, columns) what changes if that is confident enough: ``1 + from * classes + to``, or
            1 for gained and 2 for lost.
    """

    probability: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.int32]
    code: npt.NDArray[np.intp]


class Change(NamedTuple):
    """One kind of change.

    Args:
        before: The class that was there; empty if a class was gained that may hold together with others.
        after: The class that is there now; empty if one was lost.
        cells: How many.
        hectares: Their ground, as far as it is within the scene.
        false_cells: How many of them are expected to be wrong, at most.
        code: Its number in ``changed.tif``.
        band: Its band there, from 0.
    """

    before: str
    after: str
    cells: int
    hectares: float
    false_cells: float
    code: int
    band: int

    def __str__(self) -> str:
        """Return it as words."""
        return (
            f"{self.before} -> {self.after}"
            if self.before and self.after
            else (f"{self.after} gained" if self.after else f"{self.before} lost")
        )


class ChangeSummary(NamedTuple):
    """What was found in two maps.

    Args:
        cells: Cells with data on both dates.
        ground_ha: Their ground, as far as it is within the scene.
        changes: The kinds of change, the largest first.
    """

    cells: int
    ground_ha: float
    changes: list[Change]

    @classmethod
    def restored(cls, stored: Sequence[Any]) -> ChangeSummary:
        """Return a summary that was stored as JSON."""
        cells, ground_ha, changes = stored
        return cls(cells, ground_ha, [Change(*entry) for entry in changes])

    def of_classes(self, classes: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Return the hectares that each class gained and lost."""
        return {
            name: (
                sum(change.hectares for change in self.changes if change.after == name),
                sum(change.hectares for change in self.changes if change.before == name),
            )
            for name in classes
        }


@dataclass(frozen=True)
class DatePair:
    """Two finished maps on the same cells.

    Args:
        folder: Where they are.
        before: Name of the first scene.
        after: Name of the second.
        place: Their grid, transform and coordinate system.
        classes: Class names.
        exclusive: Whether they exclude each other.
        level: Confidence from which a change counts, in (0, 1].
    """

    folder: Path
    before: str
    after: str
    place: Place
    classes: tuple[str, ...]
    exclusive: bool
    level: float

    @property
    def paths(self) -> dict[str, Path]:
        """Every file of the change by kind."""
        return change_paths(self.folder, self.before, self.after)


def changes_between(
    before: npt.NDArray[np.uint16], after: npt.NDArray[np.uint16], exclusive: bool
) -> Changes:
    """Compare stored probabilities of two dates.

    Args:
        before: (classes, rows, columns) in steps of ``SCALE``.
        after: The same.
        exclusive: Whether the classes exclude each other.

    Returns:
        Probability and confidence of change, by the formulas above.

    Example:
        >>> before, after = (np.array(p, np.uint16)[:, None, None] for p in ([9900, 100], [200, 9800]))
        >>> probability, confidence, code = changes_between(before, after, exclusive=True)
        >>> probability.round(4).item(), confidence.item(), code.item()
        (0.9704, 9700, 2)
    """
    if not exclusive:
        a, b = before / ONE, after / ONE
        each = a * (1 - b) + (1 - a) * b
        in_any = 1 - np.prod(1 - each, axis=0, keepdims=True)
        confidence = np.abs(after.astype(np.int32) - before)
        return Changes(np.concatenate([in_any, each]), confidence, np.where(after > before, GAINED, LOST))
    agreement = sum((a / ONE) * (b / ONE) for a, b in zip(before, after, strict=True))
    # Each probability was rounded for itself, so the sums miss 1 by a little.
    sums = [np.maximum(values.sum(axis=0, dtype=np.int64), 1) / ONE for values in (before, after)]
    old, new = before.argmax(axis=0), after.argmax(axis=0)
    most = before.max(axis=0), after.max(axis=0)
    same = ((before == most[0]) & (after == most[1])).any(axis=0)
    confidence = np.where(same, 0, np.maximum(most[0].astype(np.int32) + most[1] - ONE, 0))
    probability = 1 - agreement / sums[0] / sums[1]
    return Changes(probability[None], confidence[None], (1 + old * len(before) + new)[None])


def change_colour(pair: DatePair, code: int, band: int = 0) -> tuple[int, int, int]:
    """Return red, green and blue of a change: the colour of the class that is there now, or of the one gained or lost.

    It is the darker the later in the list of classes the one that was there before, and half as bright for a loss.
    """
    count = len(pair.classes)
    old, new = divmod(code - 1, count) if pair.exclusive else (code == LOST, band)
    light = 1 - 0.5 * old / max(1, count - 1) if pair.exclusive else 1 - 0.5 * old
    red, green, blue = (round(part * light) for part in class_colours(pair.classes)[new])
    return red, green, blue
