"""Measures of how well probabilities agree with what is known. What is unknown counts for and against nothing.

Every measure is a function of one weight for each scene. The plain value has weight 1 everywhere; a bootstrap
draw has the number of times each scene was drawn. A value and its interval therefore come from the same
formula.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swath.errors import InputError
from swath.evaluation.calibration import Bins, calibration_error, scene_bins
from swath.evaluation.ranking import PrecisionCurve, scene_ranks
from swath.labels import UNKNOWN, LabelTable, is_absent, is_present

__all__ = ["FROM_POSITIVES", "HEADLINES", "ClassCounts", "Measures", "average_precision", "confusion"]

Floats = npt.NDArray[np.float64]

FROM_POSITIVES = ("positive_recall", "positive_rank")
"""Names of the measures that need no label known to be absent."""

HEADLINES = (
    "map_macro",
    "map_micro",
    "f1_macro",
    "f1_micro",
    "overall_accuracy",
    "average_accuracy",
    "kappa",
    "coverage_error",
    "ranking_loss",
    "calibration_error",
    *FROM_POSITIVES,
)
"""Names of the measures of a whole set, in the order in which people read them."""


def average_precision(state: npt.ArrayLike, score: npt.ArrayLike) -> Floats:
    """Return the average precision of each class over the scenes where it is known.

    The sum over thresholds of precision times gained recall, without interpolation, scenes of equal score
    sharing one threshold: the definition of scikit-learn's ``average_precision_score``, for all classes at
    once and quick enough to be called after every epoch.

    Args:
        state: (scenes, classes) integer label states; any negative code is unknown and left out.
        score: (scenes, classes) finite numbers, larger where the class is more likely; logits or
            probabilities.

    Returns:
        (classes,) in [0, 1]; NaN for a class without both a present and an absent known label, because its
        value would say nothing about the scores.

    Raises:
        InputError: The shapes differ, or a score is not finite.

    Example:
        >>> average_precision([[1, 1], [0, -1], [1, -1]], [[0.9, 0.2], [0.8, 0.4], [0.7, 0.1]]).round(3)
        array([0.833,   nan])
    """
    states, scores = _checked(state, score)
    once = np.ones((1, len(states)), np.int32)
    curves = [PrecisionCurve(states[:, column], scores[:, column]) for column in range(states.shape[1])]
    return np.array([curve.average_precision(once)[0] for curve in curves], dtype=np.float64)


def confusion(labels: LabelTable, probability: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Count which class is the most probable in the scenes of each true class.

    Args:
        labels: What is known, of classes that exclude each other; scenes of unknown class are left out.
        probability: (scenes, classes).

    Returns:
        (classes, classes) counts, true classes in rows and predicted ones in columns.

    Example:
        >>> labels = LabelTable(("a", "b"), np.array([[1, 0], [0, 1], [-1, -1]]), exclusive=True)
        >>> confusion(labels, [[0.9, 0.1], [0.8, 0.2], [0.5, 0.5]]).tolist()
        [[1, 0], [1, 0]]
    """
    _, scores = _checked(labels.state, probability)
    known = labels.class_index >= 0
    classes = len(labels.classes)
    cell = labels.class_index[known] * classes + scores[known].argmax(axis=1)
    return np.bincount(cell, minlength=classes**2).reshape(classes, classes)


class ClassCounts(NamedTuple):
    """How many known labels of each class are found, wrongly claimed and missed; (..., classes) each.

    Example:
        >>> counts = ClassCounts(np.array([3.0, 0.0]), np.array([1.0, 2.0]), np.array([1.0, 0.0]))
        >>> counts.precision.tolist(), counts.recall.tolist(), counts.f1.tolist()
        ([0.75, 0.0], [0.75, nan], [0.75, nan])
    """

    found: Floats
    wrong: Floats
    missed: Floats

    @property
    def precision(self) -> Floats:
        """Share of the claims that are right; NaN where nothing is claimed."""
        return _ratio(self.found, self.found + self.wrong)

    @property
    def recall(self) -> Floats:
        """Share of the present labels that are found; NaN where none is present."""
        return _ratio(self.found, self.found + self.missed)

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall (0 where nothing is found); NaN where no label is present."""
        f1 = _ratio(2 * self.found, 2 * self.found + self.wrong + self.missed)
        return np.where(self.found + self.missed > 0, f1, np.nan)


class Measures:
    """All headline measures of a set of probabilities, for any weights of the scenes.

    Where labels of one kind only are known (one positive a scene, say), no claim can be wrong, and accuracy, F1
    and calibration would be good for every model that claims enough. They are not defined there; what still is
    are ``positive_recall`` and ``positive_rank``.

    What the weights do not change (sorting, comparing, binning) is done once, here.

    Args:
        labels: What is known; ``labels.exclusive`` says whether the classes exclude each other. Then a scene
            without a present class is left out whole.
        probability: (scenes, classes) in [0, 1].
        threshold: From which probability on a label counts as claimed, in [0, 1]. Where classes exclude each
            other the most probable one is claimed, whatever the threshold.

    Attributes:
        claimed: (scenes, classes) booleans, what the probabilities say is present.
        compared: (classes,) booleans, the classes that macro averages are taken over: those with both a
            present and an absent known label.

    Raises:
        InputError: The shapes differ, or a number does not lie in [0, 1].

    Example:
        >>> labels = LabelTable(("a", "b"), np.array([[1, 0], [0, 1], [1, -1]]))
        >>> measures = Measures(labels, np.array([[0.9, 0.2], [0.3, 0.6], [0.4, 0.9]]))
        >>> round(measures.value()["f1_macro"], 3)
        0.833
    """

    def __init__(self, labels: LabelTable, probability: npt.ArrayLike, threshold: float = 0.5) -> None:
        state, scores = _checked(labels.state, probability)
        if scores.size and not (scores.min() >= 0 and scores.max() <= 1):
            raise InputError(
                f"Probabilities must lie in [0, 1]; given {scores.min():g} to {scores.max():g}. Apply a "
                f"sigmoid (several labels a scene) or a softmax (one label a scene) to logits first."
            )
        if not 0 <= threshold <= 1:
            raise InputError(f"The threshold must lie in [0, 1]; given {threshold}.")
        self.exclusive = labels.exclusive
        self.claimed = scores >= threshold
        if labels.exclusive:
            state = np.where(is_present(state).any(axis=1, keepdims=True), state, np.int8(UNKNOWN))
            self.claimed = scores.argmax(axis=1)[:, None] == np.arange(state.shape[1])
        self.state: npt.NDArray[np.int8] = state
        present, absent = is_present(state), is_absent(state)
        self.compared = np.asarray(present.any(axis=0) & absent.any(axis=0))
        self._present, self._absent = present.astype(np.float64), absent.astype(np.float64)
        self._found = (present & self.claimed).astype(np.float64)
        self._wrong = (absent & self.claimed).astype(np.float64)
        self._curves = [
            PrecisionCurve(state[:, column], scores[:, column]) for column in range(state.shape[1])
        ]
        scene = np.repeat(np.arange(len(state)), state.shape[1])
        self._pooled = PrecisionCurve(state.ravel(), scores.ravel(), scene)
        self._ranks = scene_ranks(state, scores)
        self._bins = scene_bins(labels, scores)

    def counts(self, weight: npt.NDArray[Any]) -> ClassCounts:
        """Return the counts of each class, (draws, classes), under (draws, scenes) weights."""
        found = weight @ self._found
        return ClassCounts(found, weight @ self._wrong, weight @ self._present - found)

    def at(self, weight: npt.NDArray[np.integer]) -> dict[str, Floats]:
        """Return every headline measure under each row of weights.

        Args:
            weight: (draws, scenes) how often each scene counts, whole numbers of 0 and more.

        Returns:
            (draws,) for each name of :data:`HEADLINES`; NaN where the measure is not defined.
        """
        real = weight.astype(np.float64)
        counts = self.counts(real)
        present, absent = real @ self._present, real @ self._absent
        known = present.sum(axis=1) + absent.sum(axis=1)
        precision = np.stack([curve.average_precision(weight) for curve in self._curves], axis=1)
        pooled = ClassCounts(*(part.sum(axis=1) for part in counts))
        measured = {
            "map_macro": _mean(precision),
            "map_micro": self._pooled.average_precision(weight),
            "f1_macro": _mean(np.where(self.compared, counts.f1, np.nan)),
            "f1_micro": pooled.f1,
            "overall_accuracy": _ratio(known - pooled.wrong - pooled.missed, known),
            "average_accuracy": np.full(len(weight), np.nan),
            "kappa": np.full(len(weight), np.nan),
            "coverage_error": _weighted(real, self._ranks.coverage),
            "ranking_loss": _weighted(real, self._ranks.loss),
            "calibration_error": calibration_error(Bins(*(real @ part for part in self._bins))),
            "positive_recall": pooled.recall,
            "positive_rank": _ratio(real @ np.nan_to_num(self._ranks.present_rank), present.sum(axis=1)),
        }
        if self.exclusive:
            scenes = present.sum(axis=1)
            agreement = _ratio(pooled.found, scenes)
            chance = _ratio((present * (counts.found + counts.wrong)).sum(axis=1), scenes**2)
            measured |= {
                "overall_accuracy": agreement,
                "average_accuracy": _mean(counts.recall),
                "kappa": _ratio(agreement - chance, 1 - chance),
            }
        else:
            both = (present.sum(axis=1) > 0) & (absent.sum(axis=1) > 0)
            for name in set(HEADLINES).difference(FROM_POSITIVES):
                measured[name] = np.where(both, measured[name], np.nan)
        return measured

    def value(self) -> dict[str, float]:
        """Return every headline measure with each scene counted once; NaN where it is not defined."""
        measured = self.at(np.ones((1, len(self.state)), np.int32))
        return {name: float(value[0]) for name, value in measured.items()}


def _checked(state: npt.ArrayLike, score: npt.ArrayLike) -> tuple[npt.NDArray[np.int8], npt.NDArray[Any]]:
    states, scores = np.asarray(state), np.asarray(score)
    if states.ndim != 2 or states.shape != scores.shape:
        raise InputError(
            f"Label states of shape {states.shape} and scores of shape {scores.shape} were given; both must "
            f"be (scenes, classes)."
        )
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)
    bad = ~np.isfinite(scores)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            f"Scores must be finite numbers; {int(bad.sum())} are not, the first in row {row}, column "
            f"{column} ({scores[row, column]}). The training probably diverged: lower the learning rate."
        )
    return states, scores


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Floats:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))


def _mean(values: Floats) -> Floats:
    """Return the mean over the last axis of the numbers that are defined."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing defined: NaN is the answer
        return np.asarray(np.nanmean(values, axis=-1))


def _weighted(weight: Floats, values: Floats) -> Floats:
    defined = ~np.isnan(values)
    return _ratio(weight @ np.where(defined, values, 0.0), weight @ defined.astype(np.float64))
