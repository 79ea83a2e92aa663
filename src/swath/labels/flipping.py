"""Labels that are wrong: at given rates, at the same rate for all classes, or at rates of each class's own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swath.errors import LabelError
from swath.labels.states import ABSENT, PRESENT, is_absent, is_known, is_present
from swath.labels.table import LabelTable
from swath.randomness import stream

__all__ = ["class_rates", "flip", "flip_classes", "pair_rates", "uniform_rates"]

Rates = npt.NDArray[np.float64]


def flip_classes(table: LabelTable, transition: npt.ArrayLike, seed: int) -> LabelTable:
    """Return the table with labels that are wrong at rates that depend on the class.

    Args:
        table: What is known.
        transition: For exclusive classes (classes, classes): the probability that a scene of the row's
            class is given the column's; rows sum to 1. Otherwise (classes, 2): the probability that a present
            label is given as absent, and that an absent label is given as present.
        seed: The run's seed.

    Returns:
        A new table; what is unknown stays unknown.

    Raises:
        LabelError: The matrix has another shape, or its numbers are not probabilities.

    Example:
        >>> table = LabelTable.from_class_index(("maize", "wheat"), [0, 1, -1])
        >>> flip_classes(table, [[0, 1], [0, 1]], seed=0).class_index.tolist()
        [1, 1, -1]
    """
    return flip(table, transition, stream(seed, "label draw"))


def flip(table: LabelTable, transition: npt.ArrayLike, random: np.random.Generator) -> LabelTable:
    """Return the table with labels that are wrong, drawn from a generator; see :func:`flip_classes`."""
    count = len(table.classes)
    matrix = np.asarray(transition, np.float64)
    shape = (count, count) if table.exclusive else (count, 2)
    if matrix.shape != shape or not np.all((matrix >= 0) & (matrix <= 1)):
        raise LabelError(
            f"Flip rates of shape {matrix.shape} were given; expected probabilities of shape {shape} for "
            f"{count} {'exclusive classes' if table.exclusive else 'classes that do not exclude each other'}."
        )
    if not table.exclusive:
        draw = random.random(table.state.shape)
        present, absent = is_present(table.state), is_absent(table.state)
        wrong = (present & (draw < matrix[:, 0])) | (absent & (draw < matrix[:, 1]))
        return table.with_state(np.where(wrong, PRESENT + ABSENT - table.state, table.state))
    if not np.allclose(matrix.sum(axis=1), 1):
        raise LabelError(
            f"Rows of a transition matrix must sum to 1; given {matrix.sum(axis=1).round(6).tolist()}."
        )
    draw = random.random(len(table))
    index = table.class_index
    known = np.flatnonzero(is_known(index))
    reached = matrix.cumsum(axis=1)[index[known]] > draw[known, None]
    reached[:, -1] = True  # a row may sum to a little less than 1
    state = table.state.copy()
    state[known] = ABSENT
    state[known, reached.argmax(axis=1)] = PRESENT
    return table.with_state(state)


def uniform_rates(table: LabelTable, rate: float) -> Rates:
    """Return flips that are as frequent for every class, in the form of :func:`flip_classes`."""
    count = len(table.classes)
    if not table.exclusive:
        return np.full((count, 2), rate)
    matrix = np.full((count, count), rate / _others(table))
    np.fill_diagonal(matrix, 1 - rate)
    return matrix


def pair_rates(table: LabelTable, rate: float) -> Rates:
    """Return flips to the next class, which only exclusive classes have."""
    if not table.exclusive:
        raise LabelError(
            "flip-pair and weak-pair give a scene the next class, which only classes that exclude each other have; "
            "these do not. Use flip-uniform, flip-class, weak-uniform or weak-class."
        )
    _others(table)
    kept = np.eye(len(table.classes))
    return (1 - rate) * kept + rate * np.roll(kept, 1, axis=1)


def class_rates(table: LabelTable, rate: float, random: np.random.Generator) -> Rates:
    """Return flips whose rates differ between classes, ``rate`` on average, and that prefer some wrong classes."""
    count = len(table.classes)
    # The widest range of rates around the one that was asked for.
    low, high = max(0.0, 2 * rate - 1), min(1.0, 2 * rate)
    if not table.exclusive:
        return random.uniform(low, high, (count, 2))
    _others(table)
    # Rows divided by their sum are from a Dirichlet distribution: all confusions are equally likely.
    confusions = random.exponential(size=(count, count))
    np.fill_diagonal(confusions, 0)
    rates = random.uniform(low, high, (count, 1))
    matrix: Rates = rates * confusions / confusions.sum(axis=1, keepdims=True)
    np.fill_diagonal(matrix, 1 - rates[:, 0])
    return matrix


def _others(table: LabelTable) -> int:
    if len(table.classes) == 1:
        raise LabelError(f"The only class, {table.classes[0]}, cannot be confused with another. Add a class.")
    return len(table.classes) - 1
