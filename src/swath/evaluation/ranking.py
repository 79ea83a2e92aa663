"""What an order of scores is worth: precision along it, and how labels of one scene stand in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from swath.labels import is_known, is_present

__all__ = ["PrecisionCurve", "SceneRanks", "scene_ranks"]

# Bounds the temporary arrays (2 MB each, about a processor's cache) whatever the number of scenes.
_COUNTS_AT_ONCE = 500_000


class PrecisionCurve:
    """The known labels of one class in the order of their scores, ready for any weights of the scenes.

    Args:
        state: (entries,) label states.
        score: (entries,) finite scores.
        scene: (entries,) the scene each entry belongs to; by default entry i belongs to scene i.
    """

    def __init__(
        self,
        state: npt.NDArray[np.int8],
        score: npt.NDArray[np.floating],
        scene: npt.NDArray[np.int64] | None = None,
    ) -> None:
        known = np.flatnonzero(is_known(state))
        order = known[np.argsort(-score[known], kind="stable")]
        ordered = score[order]
        # Entries of equal score share a threshold: all of them are counted once the threshold reaches it.
        ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(order) else order
        self.scene = order if scene is None else scene[order]
        self.present = np.flatnonzero(is_present(state[order]))
        self.end = ends[np.searchsorted(ends, self.present)]
        self.found_at_end = np.searchsorted(self.present, self.end, side="right") - 1
        self.defined = 0 < len(self.present) < len(order)

    def average_precision(self, weight: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Return the average precision under each row of weights.

        Args:
            weight: (draws, scenes) how often each scene counts, whole numbers.

        Returns:
            (draws,) in [0, 1]; NaN where no present or no absent label has a weight.
        """
        value = np.full(len(weight), np.nan)
        if not self.defined:
            return value
        step = max(1, _COUNTS_AT_ONCE // len(self.scene))
        for start in range(0, len(weight), step):
            part = slice(start, start + step)
            counts = np.ascontiguousarray(weight[part].T)[self.scene]
            present = counts[self.present]
            counted = counts.cumsum(axis=0, dtype=np.int32)
            found = present.cumsum(axis=0, dtype=np.int32)
            precision = found[self.found_at_end] / np.maximum(counted[self.end], 1)
            total = found[-1]
            defined = (total > 0) & (total < counted[-1])
            value[part] = np.where(defined, (present * precision).sum(axis=0) / np.maximum(total, 1), np.nan)
        return value


class SceneRanks(NamedTuple):
    """How the known labels of each scene stand in the order of scores; (scenes,) each, NaN if undefined."""

    coverage: npt.NDArray[np.float64]
    loss: npt.NDArray[np.float64]
    present_rank: npt.NDArray[np.float64]


def scene_ranks(state: npt.NDArray[np.int8], score: npt.NDArray[np.floating]) -> SceneRanks:
    """Return how far down its list each scene's labels lie, and how many pairs stand the wrong way.

    Args:
        state: (scenes, classes) label states.
        score: (scenes, classes) finite scores.

    Returns:
        ``coverage``: the number of known labels down to the last present one (NaN without a present label);
        ``loss``: the share of (present, absent) pairs in which the absent label scores as high or higher (NaN
        without such a pair);
        ``present_rank``: the ranks of the present labels among all labels that are not known to be present,
        added up (1 is the first; the last place on equal scores; NaN without a present label). It alone looks
        at the scores of unknown labels.

    Source: the filtered rank of Bordes et al., Translating Embeddings for Modeling Multi-relational Data,
    NeurIPS 2013.
    """
    present, known = is_present(state), is_known(state)
    lowest = np.where(present, score, np.inf).min(axis=1, initial=np.inf)
    coverage = (known & (score >= lowest[:, None])).sum(axis=1).astype(np.float64)
    # Absent labels before a present one on equal scores, so that a tie counts as wrong; unknown ones nowhere.
    order = np.lexsort((present, -score), axis=1)
    ordered = np.take_along_axis(present, order, axis=1)
    absent = np.take_along_axis(known & ~present, order, axis=1)
    wrong = np.where(ordered, absent.cumsum(axis=1), 0).sum(axis=1)
    pairs = ordered.sum(axis=1) * absent.sum(axis=1)
    ranks = np.where(ordered, 1 + (~ordered).cumsum(axis=1), 0).sum(axis=1)
    return SceneRanks(
        np.where(present.any(axis=1), coverage, np.nan),
        np.divide(wrong, pairs, out=np.full(len(state), np.nan), where=pairs > 0),
        np.where(present.any(axis=1), ranks, np.nan),
    )
