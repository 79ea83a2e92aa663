"""Everything that evaluation.json says about a set of scenes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.evaluation.groups import FEWEST_TESTED, GROUPS, class_groups
from swath.evaluation.intervals import LEVEL, bootstrap_intervals
from swath.evaluation.metrics import FROM_POSITIVES, HEADLINES, Measures, average_precision, confusion
from swath.labels import LabelTable, is_absent, is_present, is_unknown

__all__ = ["chief_figures", "evaluate_probability"]

# Why a measure of the whole set can be null although labels are known that could define it.
_NEEDS = {
    "map_macro": "no class has both a present and an absent known label",
    "f1_macro": "no class has both a present and an absent known label",
    "kappa": "all scenes have one class, and it is always predicted",
    "ranking_loss": "no scene has both a present and an absent known label",
}
_MULTI_LABEL_HAS_NO = ("average_accuracy", "kappa")


def evaluate_probability(
    state: npt.ArrayLike,
    probability: npt.ArrayLike,
    classes: Sequence[str],
    exclusive: bool,
    *,
    threshold: float = 0.5,
    seed: int = 0,
    draws: int = 1000,
    train_present: npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """Compare probabilities with what is known and return the content of ``evaluation.json``.

    What is unknown is left out of every figure. A figure for which nothing is known is None, with the reason
    under ``left_out`` (classes) or ``undefined`` (measures), never 0 or 1.

    Args:
        state: (scenes, classes) integer label states; any negative code is unknown.
        probability: (scenes, classes) in [0, 1].
        classes: Class names, in the order of the columns.
        exclusive: Whether the classes exclude each other; then the most probable class is the prediction, and
            scenes without a present class are left out.
        threshold: From which probability on a label counts as claimed, where classes do not exclude each
            other.
        seed: Seed of the bootstrap draws.
        draws: Number of bootstrap draws for the intervals.
        train_present: (classes,) training scenes in which the method knew each class to be present, for
            ``map_head``, ``map_medium`` and ``map_tail``; None if nobody counted them.

    Returns:
        Plain JSON values (None instead of NaN); ``docs/evidence.md`` describes every key.

    Raises:
        LabelError: States are malformed, or a scene of an exclusive set has two present classes.
        InputError: Shapes differ, or a probability or the threshold is not in [0, 1].

    Example:
        >>> evaluation = evaluate_probability(
        ...     [[1, 0], [0, -1], [1, 1]],
        ...     [[0.9, 0.1], [0.2, 0.7], [0.6, 0.8]],
        ...     ["water", "forest"],
        ...     exclusive=False,
        ...     draws=20,
        ... )
        >>> evaluation["map_macro"], evaluation["known"], evaluation["per_class"][1]["unknown"]
        (1.0, 5, 1)
    """
    labels = LabelTable(tuple(classes), np.asarray(state), exclusive=exclusive)
    measures = Measures(labels, probability, threshold)
    value = measures.value()
    intervals = bootstrap_intervals(measures, draws=draws, seed=seed)
    per_class = _per_class(labels, measures, probability)
    groups = None
    if train_present is not None:
        precision = [_number(row["average_precision"]) for row in per_class]
        groups = class_groups(labels.classes, train_present, [row["present"] for row in per_class], precision)
    by_group = {group["name"]: group["map"] for group in groups or ()}
    group_maps = {f"map_{name}": by_group.get(name) for name in GROUPS}
    return {
        "version": 1,
        "kind": "single-label" if exclusive else "multi-label",
        "scenes": len(labels),
        "known": int((measures.state >= 0).sum()),
        "threshold": None if exclusive else threshold,
        **{name: _plain(value[name]) for name in HEADLINES},
        **group_maps,
        "intervals": {name: None if ends is None else list(ends) for name, ends in intervals.items()},
        "bootstrap": {"draws": draws, "seed": seed, "level": LEVEL},
        "per_class": per_class,
        "groups": groups,
        "confusion": confusion(labels, probability).tolist() if exclusive else None,
        "left_out": [
            {"name": name, "reason": _why_left_out(measures.state[:, column])}
            for column, name in enumerate(labels.classes)
            if not measures.compared[column]
        ],
        "undefined": {name: _why_undefined(name, measures) for name in HEADLINES if math.isnan(value[name])}
        | {name: _why_no_group(groups) for name, mean in group_maps.items() if mean is None},
    }


def chief_figures(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures to name where there is room for a few: those that need positives only if no other is defined.

    Args:
        evaluation: The content of ``evaluation.json``.

    Returns:
        Value by name; empty if nothing is known.

    Example:
        >>> evaluation = evaluate_probability([[1, -1]], [[0.8, 0.9]], ["water", "forest"], False, draws=5)
        >>> chief_figures(evaluation)
        {'positive_recall': 1.0, 'positive_rank': 2.0}
    """
    figures = {}
    single = evaluation.get("kind") == "single-label"
    order = (
        ("overall_accuracy", "f1_macro", "kappa") if single else ("map_macro", "f1_macro", "overall_accuracy")
    )
    for names in (order, FROM_POSITIVES):
        figures = {name: evaluation[name] for name in names if evaluation.get(name) is not None}
        if figures:
            break
    return figures


def _per_class(labels: LabelTable, measures: Measures, probability: npt.ArrayLike) -> list[dict[str, Any]]:
    counts = measures.counts(np.ones((1, len(labels))))
    state = measures.state
    columns = {
        "average_precision": average_precision(state, probability),
        "f1": np.where(measures.compared, counts.f1[0], np.nan),
        "precision": np.where(measures.compared, counts.precision[0], np.nan),
        "recall": counts.recall[0],
    }
    tallies = {"present": is_present(state), "absent": is_absent(state), "unknown": is_unknown(state)}
    return [
        {"name": name}
        | {key: _plain(float(values[column])) for key, values in columns.items()}
        | {key: int(np.asarray(marks)[:, column].sum()) for key, marks in tallies.items()}
        for column, name in enumerate(labels.classes)
    ]


def _why_undefined(name: str, measures: Measures) -> str:
    if not measures.exclusive and name in _MULTI_LABEL_HAS_NO:
        return "defined only where the classes exclude each other"
    present, absent = is_present(measures.state).any(), is_absent(measures.state).any()
    if measures.exclusive and not present:
        return "no scene has a known class"
    if not present and not absent:
        return "no label is known"
    if not present:
        return "no label is known to be present"
    if not absent:
        return "no label is known to be absent, so no claim can be wrong"
    return _NEEDS[name]


def _why_no_group(groups: list[dict[str, Any]] | None) -> str:
    if groups is None:
        return "nobody counted the training scenes of each class"
    return f"no class of this group has {FEWEST_TESTED} test scenes that are known to show it and one that lacks it"


def _why_left_out(state: npt.NDArray[np.int8]) -> str:
    present, absent = is_present(state).any(), is_absent(state).any()
    if not present and not absent:
        return "nothing is known about it in these scenes"
    return "no scene is known to lack it" if present else "no scene is known to show it"


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value
