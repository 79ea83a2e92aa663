"""What is known about the scenes: one row per scene, one column per class, three states."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from swath.errors import LabelError, UnknownNameError
from swath.labels.states import PRESENT, UNKNOWN, is_absent, is_known, is_present, is_unknown

__all__ = ["LabelTable"]


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Label states of many scenes, with who said it and how sure they were.

    Args:
        classes: Class names, all different.
        state: (scenes, classes) int8; 1 present, 0 absent, any negative code unknown (stored as -1).
        exclusive: Whether the classes exclude each other (single-label). Then a present class makes the
            others absent, and a scene without one is wholly unknown.
        confidence: (scenes, classes) float32 in [0, 1], or None if nobody said how sure they were. What stands
            under an unknown label means nothing.
        source: (scenes, classes) int16 index into ``sources``, or None.
        sources: Names of who said it.

    Raises:
        LabelError: Shapes do not fit, a code is larger than 1, names repeat, or an exclusive row holds two
            present classes.

    Example:
        >>> table = LabelTable(("water", "forest"), np.array([[1, -1], [0, 1]]))
        >>> table.counts()["unknown"].tolist()
        [0, 1]
    """

    classes: tuple[str, ...]
    state: npt.NDArray[np.int8]
    exclusive: bool = False
    confidence: npt.NDArray[np.float32] | None = None
    source: npt.NDArray[np.int16] | None = None
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check shapes and codes; bring unknown codes to -1."""
        classes = tuple(str(name) for name in self.classes)
        state = np.asarray(self.state)
        if not classes:
            raise LabelError("A label table without classes was given; at least one class name is needed.")
        twice = sorted({name for name in classes if classes.count(name) > 1})
        if twice:
            raise LabelError(
                f"Class names are given more than once: {', '.join(twice)}. Rename or merge them."
            )
        if state.ndim != 2 or state.shape[1] != len(classes):
            raise LabelError(
                f"Label states of shape {state.shape} were given for {len(classes)} classes; expected "
                f"(scenes, {len(classes)})."
            )
        if state.dtype.kind not in "iub" or (state.size and int(state.max()) > PRESENT):
            raise LabelError(
                f"Label states must be the integers 1 (present), 0 (absent) or -1 (unknown); given "
                f"{state.dtype} up to {state.max() if state.size else 'nothing'}."
            )
        state = np.where(is_unknown(state), UNKNOWN, state).astype(np.int8)
        if self.exclusive:
            state = _exclusive_rows(state)
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "state", state)
        for name, dtype in (("confidence", np.float32), ("source", np.int16)):
            value = getattr(self, name)
            if value is not None:
                value = np.asarray(value, dtype=dtype)
                if value.shape != state.shape:
                    raise LabelError(
                        f"{name} has shape {value.shape}; expected {state.shape}, as the states."
                    )
                object.__setattr__(self, name, value)
        if self.confidence is not None:
            known = self.confidence[is_known(state)]
            if not np.all((known >= 0) & (known <= 1)):
                raise LabelError("Confidences of known labels must lie in [0, 1] and be numbers.")
        if self.source is not None:
            known_source = self.source[is_known(state)]
            if known_source.size and not (known_source.min() >= 0 and known_source.max() < len(self.sources)):
                raise LabelError(f"Label sources must index the {len(self.sources)} names in `sources`.")

    @classmethod
    def from_class_index(cls, classes: Sequence[str], index: npt.ArrayLike) -> Self:
        """Make a single-label table.

        Args:
            classes: Class names.
            index: (scenes,) class of each scene; negative where nobody said.

        Returns:
            An exclusive table.
        """
        index = np.asarray(index)
        state = np.full((len(index), len(classes)), UNKNOWN, np.int8)
        known = is_known(index)
        state[known] = 0
        state[known, index[known]] = PRESENT
        return cls(tuple(classes), state, exclusive=True)

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.state)

    @property
    def class_index(self) -> npt.NDArray[np.int64]:
        """The class of each scene of an exclusive table, -1 where unknown."""
        present = is_present(self.state)
        return np.where(present.any(axis=1), present.argmax(axis=1), UNKNOWN)

    def counts(self) -> dict[str, npt.NDArray[np.int64]]:
        """Return how many scenes are present, absent and unknown, for each class."""
        return {
            "present": is_present(self.state).sum(axis=0),
            "absent": is_absent(self.state).sum(axis=0),
            "unknown": is_unknown(self.state).sum(axis=0),
        }

    def take(self, rows: npt.ArrayLike) -> Self:
        """Return the table of the given rows (indices or a boolean mask), in that order."""
        rows = np.asarray(rows)

        def part(values: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
            return None if values is None else values[rows]

        return dataclasses.replace(
            self, state=self.state[rows], confidence=part(self.confidence), source=part(self.source)
        )

    def with_state(self, state: npt.ArrayLike) -> Self:
        """Return the same table with other states (confidence and source stay)."""
        return dataclasses.replace(self, state=np.asarray(state))

    def column(self, name: str) -> npt.NDArray[np.int8]:
        """Return the states of one class by its name."""
        if name not in self.classes:
            raise UnknownNameError("class", name, self.classes)
        return self.state[:, self.classes.index(name)]


def _exclusive_rows(state: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    present = is_present(state)
    several = np.flatnonzero(present.sum(axis=1) > 1)
    if several.size:
        raise LabelError(
            f"Row {several[0]} names {int(present[several[0]].sum())} present classes, but the classes exclude "
            f"each other ({several.size} such rows). Use a multi-label table, or keep one class a row."
        )
    filled = state.copy()
    decided = present.any(axis=1)
    filled[decided] = present[decided]
    return filled
