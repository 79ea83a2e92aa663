"""How far people who labelled the same scenes agree."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.selection.labelling.answers import Answer, Mode

__all__ = ["agreement", "cohen_kappa"]


def cohen_kappa(first: npt.ArrayLike, second: npt.ArrayLike, classes: int) -> float | None:
    """Return how far two people agree beyond chance: 1 always, 0 as often as chance would have it.

    Args:
        first: (scenes,) class number that one person gave each scene.
        second: (scenes,) what the other gave.
        classes: Number of classes.

    Returns:
        Cohen's kappa; None where it has no value: both gave every scene the same class, or there is no scene.

    Source:
        Cohen 1960, doi:10.1177/001316446002000104.

    Example:
        >>> cohen_kappa([0, 0, 1, 1], [0, 0, 1, 0], 2)
        0.5
    """
    one, two = np.asarray(first, np.int64), np.asarray(second, np.int64)
    if not len(one):
        return None
    shares = [np.bincount(side, minlength=classes) / len(one) for side in (one, two)]
    chance = float(shares[0] @ shares[1])
    return None if chance >= 1 else (float((one == two).mean()) - chance) / (1 - chance)


def agreement(
    answers: Iterable[Mapping[str, Answer]], classes: Sequence[str], mode: Mode
) -> dict[str, Any] | None:
    """Compare what people said of the scenes that more than one of them labelled.

    Among exclusive classes two answers are the same if they name the same class; "cannot tell" is not compared. With
    one positive a scene both may be right and still differ, so there is no kappa. With full labels each class that
    both spoke of is compared on its own.

    Args:
        answers: For each scene the answer of each person.
        classes: The classes.
        mode: How the scenes are labelled.

    Returns:
        ``scenes`` compared and ``share`` of equal answers; ``pairs`` of people with the same two and, for exclusive
        classes, Cohen's ``kappa``; ``classes`` with how often the class was ``compared`` and the ``share`` of equal
        answers (exclusive classes: of the scenes that either put there, those that both did). None if nobody
        labelled what somebody else did.
    """
    both = [said for said in answers if len(said) > 1]
    pairs: dict[tuple[str, str], list[tuple[Answer, Answer]]] = {}
    for said in both:
        for one, two in itertools.combinations(sorted(said), 2):
            if not said[one].unclear and not said[two].unclear:
                pairs.setdefault((one, two), []).append((said[one], said[two]))
    if not pairs:
        return None
    compare = _compare_full if mode == "full" else _compare_single
    found = [compare(compared, classes) for compared in pairs.values()]
    same, number = (np.sum([one[side] for one in found], axis=0) for side in (0, 1))
    return {
        "scenes": len({answer.scene for compared in pairs.values() for answer, _ in compared}),
        "share": float(same.sum() / max(1, number.sum())) if mode == "full" else _equal(pairs.values()),
        "pairs": [
            {
                "users": list(users),
                "scenes": len(compared),
                "share": float(one[0].sum() / max(1, one[1].sum())) if mode == "full" else _equal([compared]),
                "kappa": _kappa(compared, classes) if mode == "one-class" else None,
            }
            for (users, compared), one in zip(pairs.items(), found, strict=True)
        ],
        "classes": [
            {"name": name, "compared": int(number[column]), "share": float(same[column] / number[column])}
            for column, name in enumerate(classes)
            if number[column]
        ],
    }


Counts = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def _compare_full(compared: Iterable[tuple[Answer, Answer]], classes: Sequence[str]) -> Counts:
    same, number = np.zeros(len(classes), np.int64), np.zeros(len(classes), np.int64)
    for one, two in compared:
        for column, name in enumerate(classes):
            if name in one.labels and name in two.labels:
                number[column] += 1
                same[column] += one.labels[name] == two.labels[name]
    return same, number


def _compare_single(compared: Iterable[tuple[Answer, Answer]], classes: Sequence[str]) -> Counts:
    same, number = np.zeros(len(classes), np.int64), np.zeros(len(classes), np.int64)
    for one, two in compared:
        columns = {classes.index(name) for answer in (one, two) for name in answer.labels}
        number[list(columns)] += 1
        if len(columns) == 1:
            same[list(columns)] += 1
    return same, number


def _equal(pairs: Iterable[Iterable[tuple[Answer, Answer]]]) -> float:
    return float(np.mean([one.labels == two.labels for compared in pairs for one, two in compared]))


def _kappa(compared: Sequence[tuple[Answer, Answer]], classes: Sequence[str]) -> float | None:
    columns = [[classes.index(next(iter(answer.labels))) for answer in pair] for pair in compared]
    first, second = np.array(columns).T
    return cohen_kappa(first, second, len(classes))
