"""What a query may know of the scenes: features, probabilities, and which are labelled already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.errors import InputError

__all__ = ["QueryPool", "entropy", "gradient_norm", "margin", "residual"]

Floats = npt.NDArray[np.floating[Any]]

# Softmax in half precision is off by about this much in sum.
_SUM_TOLERANCE = 1e-2


@dataclass(frozen=True, eq=False)
class QueryPool:
    """The scenes of a pool as arrays. Nothing here is a label: what classes the labelled scenes have is not asked.

    Args:
        labelled: (scenes,) bool, which scenes are labelled already; they are never asked for again.
        features: (scenes, d) finite numbers, or None if no encoder has seen the scenes.
        probability: (scenes, classes) in [0, 1], or None if no head has been trained. Rows sum to 1 where the
            classes exclude each other.
        exclusive: Whether the classes exclude each other (softmax) or not (sigmoid).

    Raises:
        InputError: Lengths differ, a number is not finite or out of its range, or rows of exclusive classes do not
            sum to 1.

    Example:
        >>> pool = QueryPool(np.array([True, False]), probability=np.array([[0.9, 0.1], [0.5, 0.5]]))
        >>> pool.candidates.tolist()
        [1]
    """

    labelled: npt.NDArray[np.bool_]
    features: Floats | None = None
    probability: Floats | None = None
    exclusive: bool = True

    def __post_init__(self) -> None:
        """Check everything once, so that no strategy has to."""
        labelled = np.asarray(self.labelled)
        if labelled.dtype != np.bool_ or labelled.ndim != 1:
            raise InputError(
                f"labelled is an array of {labelled.dtype} of shape {labelled.shape}; expected one True or False for "
                f"each scene (a mask, not a list of rows)."
            )
        object.__setattr__(self, "labelled", labelled)
        for name in ("features", "probability"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _numbers(getattr(self, name), len(labelled), name))
        if self.probability is not None:
            _check_probability(self.probability, self.exclusive)

    def __len__(self) -> int:
        """Return the number of scenes, labelled ones included."""
        return len(self.labelled)

    @property
    def candidates(self) -> npt.NDArray[np.int64]:
        """Rows of the scenes that are not labelled, ascending."""
        return np.flatnonzero(~self.labelled)


def entropy(probability: Floats, *, exclusive: bool) -> Floats:
    """Return how unsure the answer about each scene is, in nats; larger is less sure.

    Where classes do not exclude each other it is the mean over classes of the entropy of "there or not" (ours).

    Args:
        probability: (scenes, classes) in [0, 1].
        exclusive: Whether the classes exclude each other.

    Returns:
        (scenes,) 0 or more.

    Example:
        >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]]), exclusive=True).round(4).tolist()
        [0.6931, 0.0]
    """
    from scipy.special import entr

    if exclusive:
        return np.asarray(entr(probability).sum(axis=1))
    return np.asarray((entr(probability) + entr(1 - probability)).mean(axis=1))


def margin(probability: Floats, *, exclusive: bool) -> Floats:
    """Return how far the first answer is ahead of the second; smaller is less sure.

    Where classes do not exclude each other it is that of the class that is least sure, ``min_c |2 p_c - 1|`` (ours).

    Args:
        probability: (scenes, classes) in [0, 1].
        exclusive: Whether the classes exclude each other.

    Returns:
        (scenes,) in [0, 1].

    Example:
        >>> margin(np.array([[0.5, 0.3, 0.2]]), exclusive=True).round(4).tolist()
        [0.2]
    """
    if not exclusive:
        return np.asarray(np.abs(2 * probability - 1).min(axis=1))
    if probability.shape[1] < 2:
        return np.asarray(probability[:, 0])
    highest = np.partition(probability, -2, axis=1)
    return np.asarray(highest[:, -1] - highest[:, -2])


def residual(probability: Floats, *, exclusive: bool) -> Floats:
    """Return the gradient of the loss by the logits, with its sign changed, if the network's own answer were the label.

    Exclusive classes: ``e_yhat - p`` with the most probable class yhat. Otherwise ``1[p_c >= 0.5] - p_c`` for each
    class: the own answer is then which classes are there (ours).

    Args:
        probability: (scenes, classes) in [0, 1].
        exclusive: Whether the classes exclude each other.

    Returns:
        (scenes, classes) in [-1, 1].

    Source:
        BADGE (arXiv 1906.03671).

    Example:
        >>> residual(np.array([[0.75, 0.25]]), exclusive=True).tolist()
        [[0.25, -0.25]]
    """
    if not exclusive:
        return np.asarray((probability >= 0.5) - probability)
    answer = np.zeros_like(probability)
    np.put_along_axis(answer, probability.argmax(axis=1)[:, None], 1, axis=1)
    return np.asarray(answer - probability)


def gradient_norm(features: Floats, probability: Floats, *, exclusive: bool) -> Floats:
    """Return the norm of the loss's gradient by the last layer's weights, with the network's own answer as label.

    The gradient is the product of :func:`residual` and features, so its norm is the product of theirs:
    ``||p - e_yhat||_2 ||h||_2``.

    Args:
        features: (scenes, d) what the last layer works on.
        probability: (scenes, classes) in [0, 1].
        exclusive: Whether the classes exclude each other.

    Returns:
        (scenes,) 0 or more; larger is less sure.

    Source:
        The closed form of BADGE (arXiv 1906.03671); that HSSAL (2511.18058) means this gradient is our reading.

    Example:
        >>> gradient_norm(np.array([[3.0, 4.0]]), np.array([[0.5, 0.5]]), exclusive=True).round(4).tolist()
        [3.5355]
    """
    sure = np.linalg.norm(residual(probability, exclusive=exclusive), axis=1)
    return np.asarray(sure * np.linalg.norm(features, axis=1))


def _numbers(values: npt.ArrayLike, scenes: int, name: str) -> Floats:
    found = np.asarray(values)
    if found.ndim != 2 or len(found) != scenes or not found.shape[1] or found.dtype.kind not in "fiu":
        raise InputError(
            f"{name} have shape {found.shape} and hold {found.dtype}; expected numbers of shape ({scenes}, columns), "
            f"one row for each scene of the pool."
        )
    # Half precision is for storage: norms and sums overflow in it.
    found = found if found.dtype in (np.float32, np.float64) else found.astype(np.float32)
    broken = ~np.isfinite(found).all(axis=1)
    if broken.any():
        raise InputError(
            f"{name} of {int(broken.sum())} of {scenes} scenes hold NaN or infinity, first in row "
            f"{int(broken.argmax())}. Check the encoder and these scenes; leave them out if they are broken."
        )
    return found


def _check_probability(probability: Floats, exclusive: bool) -> None:
    if probability.size and not (probability.min() >= 0 and probability.max() <= 1):
        raise InputError(
            f"Probabilities lie between {probability.min():g} and {probability.max():g}; expected [0, 1]. Logits need "
            f"a softmax or sigmoid first."
        )
    if exclusive and probability.size:
        off = np.abs(probability.sum(axis=1) - 1)
        if off.max() > _SUM_TOLERANCE:
            row = int(off.argmax())
            raise InputError(
                f"The probabilities of row {row} sum to {probability[row].sum():g}; those of classes that exclude each "
                f"other sum to 1. If several classes may be present, say so: exclusive=False."
            )
