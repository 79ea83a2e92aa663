"""Ways to lose labels or get them wrong, for experiments on scenes whose truth is known.

Each way is a short text, so that it can stand on a command line and in a run's record:

- `single-positive-random`: one present class per scene, all equally likely, is kept
- `single-positive-dominant`: the present class with the largest area is kept
- `single-positive-dominant-simulated`: a stand-in for it where no areas are known, see :func:`lose`
- `keep-share:0.3`: each known label is kept with probability 0.3
- `flip-uniform:0.2`: each known label is wrong with probability 0.2
- `flip-pair:0.2`: the same, always to the next class (if exclusive)
- `flip-class:0.2`: the same on average; each class has rates of its own

Several are joined by ``+`` and happen in that order. What is unknown stays unknown, whatever is stored there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.errors import LabelError, UnknownNameError
from swath.labels.states import ABSENT, PRESENT, UNKNOWN, is_absent, is_known, is_present
from swath.labels.table import LabelTable
from swath.randomness import stream

__all__ = ["check_way", "flip_classes", "lose", "loss_record"]

Areas = npt.NDArray[np.floating[Any]]
Step = Callable[[LabelTable, float, np.random.Generator, Areas | None], LabelTable]


def lose(table: LabelTable, how: str, seed: int, *, area: Areas | None = None) -> LabelTable:
    """Return the table with labels lost or wrong, as ``how`` says.

    Keeping one positive per scene follows Cole et al. (arXiv 2106.09708): the kept label is the only thing
    known of a scene, and a scene without a present class is wholly unknown.
    ``single-positive-dominant-simulated`` is ours: it keeps a present class with probability proportional to
    the share of scenes that it is present in, because classes that cover much ground are mostly the frequent
    ones. It is a simulation, and no substitute for areas.

    Between exclusive classes a flip names another class; among other labels it swaps present and absent.
    After ``keep-share`` on exclusive classes a scene keeps its class or is wholly unknown.

    Args:
        table: What is known, such as the complete truth of the training scenes.
        how: One of the texts above, or several joined by ``+``.
        seed: The run's seed; the same table, text and seed give the same result.
        area: (scenes, classes) share of the scene that each class covers, in [0, 1]. Only for
            ``single-positive-dominant``.

    Returns:
        A new table; confidence and source stay as they were.

    Raises:
        UnknownNameError: There is no such way.
        LabelError: A number is missing, superfluous or not in [0, 1], or areas are missing or do not fit.

    Example:
        >>> truth = LabelTable(("water", "forest"), np.array([[1, 1], [0, 1], [0, 0]]))
        >>> lose(truth, "single-positive-random", seed=0).state.tolist()[1:]
        [[-1, 1], [-1, -1]]
    """
    for position, (name, amount) in enumerate(check_way(how)):
        table = _WAYS[name][0](table, amount, stream(seed, "label draw", position), area)
    return table


def check_way(how: str) -> list[tuple[str, float]]:
    """Return the steps that a text names, each with its number; raise as :func:`lose` does if it names none.

    Example:
        >>> check_way("keep-share:0.3+flip-uniform:0.1")
        [('keep-share', 0.3), ('flip-uniform', 0.1)]
    """
    return [_parse(part.strip()) for part in how.split("+")]


def loss_record(before: LabelTable, after: LabelTable, how: str, seed: int) -> dict[str, str | int]:
    """Return what became of the labels, as plain values for a run's record.

    Args:
        before: The table that was given to :func:`lose`.
        after: What it returned.
        how: The text it was given.
        seed: The seed it was given.

    Returns:
        ``how``, ``seed`` and counts: ``scenes``, ``scenes_without_known`` (after), ``present_before``,
        ``present_after``, ``absent_before``, ``absent_after``, ``unknown_before``, ``unknown_after``, and
        ``wrong`` (known before and after, and different).

    Example:
        >>> truth = LabelTable(("water", "forest"), np.array([[1, 1], [0, 1], [0, 0]]))
        >>> draw = "single-positive-random"
        >>> loss_record(truth, lose(truth, draw, 0), draw, 0)["scenes_without_known"]
        1
    """
    record: dict[str, str | int] = {"how": how, "seed": seed, "scenes": len(after)}
    both = is_known(before.state) & is_known(after.state)
    record["scenes_without_known"] = int((~is_known(after.state).any(axis=1)).sum())
    record["wrong"] = int((both & (before.state != after.state)).sum())
    for moment, table in (("before", before), ("after", after)):
        for state, counts in table.counts().items():
            record[f"{state}_{moment}"] = int(counts.sum())
    return record


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
    return _flip(table, transition, stream(seed, "label draw"))


def _flip(table: LabelTable, transition: npt.ArrayLike, random: np.random.Generator) -> LabelTable:
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


def _keep_one(table: LabelTable, preference: npt.NDArray[np.floating[Any]]) -> LabelTable:
    present = is_present(table.state)
    kept = np.where(present, preference, -np.inf).argmax(axis=1)
    scenes = np.flatnonzero(present.any(axis=1))
    state = np.full_like(table.state, UNKNOWN)
    state[scenes, kept[scenes]] = PRESENT
    return table.with_state(state)


def _single_random(table: LabelTable, _: float, random: np.random.Generator, __: Areas | None) -> LabelTable:
    return _keep_one(table, random.random(table.state.shape))


def _single_dominant(table: LabelTable, _: float, __: np.random.Generator, area: Areas | None) -> LabelTable:
    if area is None:
        raise LabelError(
            "single-positive-dominant needs the area of each class in each scene; these scenes come without. "
            "Use the stand-in single-positive-dominant-simulated, or single-positive-random."
        )
    area = np.asarray(area)
    if area.shape != table.state.shape:
        raise LabelError(
            f"Areas of shape {area.shape} were given for label states of shape {table.state.shape}."
        )
    if not np.isfinite(area[is_present(table.state)]).all():
        raise LabelError("Areas of present classes must be numbers; some are NaN or infinite.")
    return _keep_one(table, area)


def _single_simulated(
    table: LabelTable, _: float, random: np.random.Generator, __: Areas | None
) -> LabelTable:
    frequency = is_present(table.state).mean(axis=0) if len(table) else np.zeros(len(table.classes))
    # The largest of log(weight) + Gumbel noise is a draw with probability proportional to the weight.
    return _keep_one(table, np.log(np.maximum(frequency, 1e-300)) + random.gumbel(size=table.state.shape))


def _keep_share(table: LabelTable, share: float, random: np.random.Generator, _: Areas | None) -> LabelTable:
    labels = (len(table), 1) if table.exclusive else table.state.shape
    return table.with_state(np.where(random.random(labels) < share, table.state, UNKNOWN))


def _flip_uniform(table: LabelTable, rate: float, random: np.random.Generator, _: Areas | None) -> LabelTable:
    count = len(table.classes)
    if not table.exclusive:
        return _flip(table, np.full((count, 2), rate), random)
    others = np.full((count, count), rate / _others(table))
    np.fill_diagonal(others, 1 - rate)
    return _flip(table, others, random)


def _flip_pair(table: LabelTable, rate: float, random: np.random.Generator, _: Areas | None) -> LabelTable:
    if not table.exclusive:
        raise LabelError(
            "flip-pair gives a scene the next class, which only classes that exclude each other have; these "
            "do not. Use flip-uniform or flip-class."
        )
    _others(table)
    kept = np.eye(len(table.classes))
    return _flip(table, (1 - rate) * kept + rate * np.roll(kept, 1, axis=1), random)


def _flip_class(table: LabelTable, rate: float, random: np.random.Generator, _: Areas | None) -> LabelTable:
    count = len(table.classes)
    # The widest range of rates around the one that was asked for.
    low, high = max(0.0, 2 * rate - 1), min(1.0, 2 * rate)
    if not table.exclusive:
        return _flip(table, random.uniform(low, high, (count, 2)), random)
    _others(table)
    confusions = random.exponential(
        size=(count, count)
    )  # rows divided by their sum: Dirichlet, all equally likely
    np.fill_diagonal(confusions, 0)
    rates = random.uniform(low, high, (count, 1))
    matrix = rates * confusions / confusions.sum(axis=1, keepdims=True)
    np.fill_diagonal(matrix, 1 - rates[:, 0])
    return _flip(table, matrix, random)


def _others(table: LabelTable) -> int:
    if len(table.classes) == 1:
        raise LabelError(f"The only class, {table.classes[0]}, cannot be confused with another. Add a class.")
    return len(table.classes) - 1


# What a way does, and whether its text carries a number.
_WAYS: dict[str, tuple[Step, bool]] = {
    "single-positive-random": (_single_random, False),
    "single-positive-dominant": (_single_dominant, False),
    "single-positive-dominant-simulated": (_single_simulated, False),
    "keep-share": (_keep_share, True),
    "flip-uniform": (_flip_uniform, True),
    "flip-pair": (_flip_pair, True),
    "flip-class": (_flip_class, True),
}


def _parse(text: str) -> tuple[str, float]:
    name, colon, number = text.partition(":")
    if name not in _WAYS:
        raise UnknownNameError("way to lose labels", name, _WAYS)
    if not _WAYS[name][1]:
        if colon:
            raise LabelError(f"{name} takes no number; given {text!r}.")
        return name, 0.0
    try:
        amount = float(number)
    except ValueError:
        amount = float("nan")
    if not 0 <= amount <= 1:
        raise LabelError(f"{name} needs a number from 0 to 1, such as {name}:0.2; given {text!r}.")
    return name, amount
