"""What a selector is given, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.errors import InputError
from swath.labels import LabelTable, is_present
from swath.randomness import stream
from swath.training.dynamics import Dynamics

__all__ = ["Choice", "Pool", "best", "check_features"]

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]

_CHUNK = 16384  # rows; 384 numbers each are 24 MiB


@dataclass(frozen=True, eq=False)
class Pool:
    """The scenes to choose from, and what is known of them; what is None is not known.

    Args:
        size: How many there are.
        labels: What is known of each.
        features: (scenes, features) of any encoder, float16 or float32, in memory or memory-mapped.
        bits: (scenes,) entropy of each picture.
        dynamics: What a training recorded of each.
        strata: (scenes,) code of the stratum (theme, climate, season) that each lies in.
    """

    size: int
    labels: LabelTable | None = None
    features: Floats | None = None
    bits: npt.NDArray[np.float32] | None = None
    dynamics: Dynamics | None = None
    strata: Rows | None = None

    def needed(self, what: str) -> Any:
        """Return one of these, or say that it is missing.

        Args:
            what: ``labels``, ``features``, ``dynamics`` or ``strata``.

        Raises:
            InputError: It is not known.
        """
        found = getattr(self, what)
        if found is None:
            raise InputError(f"The selector needs {what} of the scenes, and the pool has none.")
        return found

    @property
    def groups(self) -> Rows:
        """(scenes,) the class of each scene, -1 where it is unknown; all 0 where classes do not exclude each other."""
        if self.labels is None or not self.labels.exclusive:
            return np.zeros(self.size, np.int64)
        return self.labels.class_index

    @property
    def multi_label(self) -> bool:
        """Whether there are labels, and several may hold in a scene."""
        return self.labels is not None and not self.labels.exclusive

    @property
    def named(self) -> npt.NDArray[np.bool_]:
        """(scenes, classes) which classes are known to be present; one column of True without labels."""
        return np.ones((self.size, 1), bool) if self.labels is None else is_present(self.labels.state)


@dataclass(frozen=True, eq=False)
class Choice:
    """Which scenes of a pool are kept, and why.

    Args:
        kept: (scenes,) whether the scene is kept.
        score: (scenes,) the higher, the sooner it is kept; NaN where there is no score.
        stage: (scenes,) the step that decided, a word.
        cluster: (scenes,) the cluster, class or stratum whose budget it was; -1 where there is none.
        notes: Constants that were used, plain JSON values.
    """

    kept: npt.NDArray[np.bool_]
    score: npt.NDArray[np.float32]
    stage: npt.NDArray[np.str_]
    cluster: Rows
    notes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        size: int,
        rows: npt.ArrayLike,
        *,
        stage: str,
        score: npt.ArrayLike | None = None,
        cluster: npt.ArrayLike | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Choice:
        """Return the choice of some rows, all decided by one step.

        Args:
            size: Scenes in the pool.
            rows: Those that are kept, the first one first. Without scores their order becomes the score.
            stage: The step.
            score: (size,) scores, if there are any.
            cluster: (size,) clusters, if there are any.
            notes: Constants that were used.
        """
        rows = np.asarray(rows, np.int64)
        kept = np.zeros(size, bool)
        kept[rows] = True
        if score is None:
            score = np.full(size, np.nan, np.float32)
            score[rows] = 1 - np.arange(len(rows)) / max(1, len(rows))
        return cls(
            kept,
            np.asarray(score, np.float32),
            np.full(size, stage),
            np.full(size, -1) if cluster is None else np.asarray(cluster, np.int64),
            notes or {},
        )


def best(score: npt.ArrayLike, count: int, seed: int) -> Rows:
    """Return the rows with the highest scores, the highest first; equals in random order, NaN last.

    Scenes often lie sorted by class: taking the first of equals would choose classes.

    Args:
        score: (scenes,) numbers, infinities and NaN.
        count: How many.
        seed: Seed of the order of equals.

    Example:
        >>> best([1.0, float("nan"), float("inf"), 2.0], 3, seed=0).tolist()
        [2, 3, 0]
    """
    score = np.asarray(score, np.float64)
    order = stream(seed, "selection ties").permutation(len(score))
    worst_first = np.lexsort((order, score, ~np.isnan(score)))
    return np.asarray(worst_first[::-1][:count], np.int64)


def check_features(features: Floats, scenes: int | None = None) -> Floats:
    """Return features that can be worked with, or say what is wrong; they are read once, piece by piece.

    Args:
        features: What was given.
        scenes: How many scenes they have to be of, if that is known.

    Raises:
        InputError: They are no matrix of real numbers, of another number of scenes, or hold NaN or infinity.
    """
    if (
        not isinstance(features, np.ndarray)
        or features.ndim != 2
        or features.dtype.kind != "f"
        or not features.size
    ):
        what = (
            f"{features.dtype} of shape {features.shape}"
            if isinstance(features, np.ndarray)
            else type(features)
        )
        raise InputError(
            f"Features are {what}; expected one row of real numbers (float16 or float32) for each scene."
        )
    if scenes is not None and len(features) != scenes:
        raise InputError(
            f"Features of {len(features)} scenes were given for {scenes} scenes; expected one row each, in their order."
        )
    for start in range(0, len(features), _CHUNK):
        finite = np.isfinite(features[start : start + _CHUNK]).all(axis=1)
        if not finite.all():
            raise InputError(
                f"The features of row {start + int(finite.argmin())} hold NaN or infinity. Compute them again, in "
                f"float32 if they overflowed, or leave that scene out."
            )
    return features
