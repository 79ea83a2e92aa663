"""Whether probabilities can be taken at their word: of the labels given 0.8, are four in five there?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from swath.labels import LabelTable, is_known, is_present

__all__ = ["BINS", "Bins", "calibration_error", "reliability", "scene_bins"]

BINS = 15
"""Number of bins of equal width between probability 0 and 1."""


class Bins(NamedTuple):
    """Sums for each bin of probability; (..., bins) each."""

    entries: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]
    hits: npt.NDArray[np.float64]


def scene_bins(labels: LabelTable, probability: npt.NDArray[np.floating], bins: int = BINS) -> Bins:
    """Sort the known labels of each scene into bins of probability.

    With several labels a scene, every known label is an entry and a hit if present. With classes that exclude
    each other, a scene is one entry with its largest probability and a hit if that class is the true one.

    Args:
        labels: What is known.
        probability: (scenes, classes) in [0, 1].
        bins: Number of bins of equal width.

    Returns:
        (scenes, bins) sums: entries, their probabilities, and hits.
    """
    known: npt.NDArray[np.bool_]
    hit: npt.NDArray[np.bool_]
    if labels.exclusive:
        known = np.asarray(labels.class_index >= 0)[:, None]
        top = probability.argmax(axis=1)[:, None]
        hit = top == labels.class_index[:, None]
        probability = np.take_along_axis(probability, top, axis=1)
    else:
        known, hit = np.asarray(is_known(labels.state)), np.asarray(is_present(labels.state))
    scenes = len(probability)
    row, column = np.nonzero(known)
    value = probability[row, column].astype(np.float64)
    cell = row * bins + np.minimum((value * bins).astype(np.int64), bins - 1)

    def sums(weight: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64]:
        counted = np.bincount(cell, weights=weight, minlength=scenes * bins)
        return counted.astype(np.float64).reshape(scenes, bins)

    return Bins(sums(None), sums(value), sums(hit[row, column].astype(np.float64)))


def reliability(labels: LabelTable, probability: npt.NDArray[np.floating], bins: int = BINS) -> Bins:
    """Return the sums over all scenes; (bins,) each.

    Args:
        labels: What is known.
        probability: (scenes, classes) in [0, 1].
        bins: Number of bins of equal width.

    Returns:
        Entries, their probabilities added up, and hits, for each bin.

    Example:
        >>> labels = LabelTable(("a",), np.array([[1], [1], [0], [-1]]))
        >>> bins = reliability(labels, np.array([[0.9], [0.9], [0.9], [0.1]]), bins=2)
        >>> bins.entries.tolist(), (bins.hits / bins.entries.clip(1)).round(2).tolist()
        ([0.0, 3.0], [0.0, 0.67])
    """
    return Bins(*(part.sum(axis=0) for part in scene_bins(labels, probability, bins)))


def calibration_error(bins: Bins) -> npt.NDArray[np.float64]:
    """Return the expected calibration error: |mean probability - share of hits|, averaged over all entries.

    Source: Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.

    Args:
        bins: Sums for each bin; (..., bins).

    Returns:
        (...) in [0, 1]; NaN where no bin holds an entry.

    Example:
        >>> round(float(calibration_error(Bins(np.array([4.0]), np.array([3.2]), np.array([2.0])))), 3)
        0.3
    """
    total = np.asarray(bins.entries.sum(axis=-1))
    gap = np.asarray(np.abs(bins.confidence - bins.hits).sum(axis=-1))
    return np.asarray(np.divide(gap, total, out=np.full(total.shape, np.nan), where=total > 0))
