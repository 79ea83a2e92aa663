"""Scores of training scenes from what a training recorded of them: the higher, the harder or the more telling."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from swath.errors import InputError
from swath.training.dynamics import Dynamics

__all__ = ["aum", "contradicted", "el2n", "forgetting", "prediction_entropy", "tdds"]

Scores = npt.NDArray[np.float32]
_Matrix = npt.NDArray[np.floating[Any]]


def tdds(dynamics: Dynamics, *, epochs: int = 10, window: int = 10, decay: float = 0.9) -> Scores:
    """How much a scene's prediction fluctuates from epoch to epoch, over windows of which the newest counts most.

    With T epochs and windows of J: ``R_k`` is the L2 norm of the J - 1 differences of window k about their mean, and
    the score is ``sum_k decay (1 - decay)^(T-J-k) R_k`` for k from 0 to T - J. With T = J there is one window.

    Args:
        dynamics: What the training recorded.
        epochs: T, the first epochs that count.
        window: J, 3 or more.
        decay: Above 0, up to 1.

    Returns:
        (scenes,) the higher, the more it is kept; NaN where fewer than two differences of each window are known.

    Raises:
        InputError: Fewer epochs were recorded, or a constant is out of its range.

    Source:
        TDDS (arXiv 2311.13613), with the constants of its released code.

    Example:
        >>> half = np.array([[np.nan, 0, 1, 0], [np.nan, 1, 1, 1]], np.float16)
        >>> shown = Dynamics(half, half, half, half, np.ones((2, 4), np.int8))
        >>> tdds(shown, epochs=4, window=4).round(3).tolist()
        [0.7350000143051147, 0.0]
    """
    if not 3 <= window <= epochs or not 0 < decay <= 1:
        raise InputError(
            f"tdds was asked for {epochs} epochs, windows of {window} and a decay of {decay}; expected windows of 3 or "
            f"more, no longer than the epochs, and a decay above 0 and up to 1."
        )
    if dynamics.epochs < epochs:
        raise InputError(
            f"tdds looks at {epochs} epochs and the run recorded {dynamics.epochs}. Train longer with "
            f"--record-dynamics, or look at fewer: --by-options.epochs {dynamics.epochs} --by-options.window "
            f"{max(3, min(window, dynamics.epochs))}"
        )
    # Column t holds the difference between epochs t - 1 and t, so a window's own begin one further on.
    difference = dynamics.difference[:, 1:epochs].astype(np.float64)
    total, weight = np.zeros(len(dynamics)), np.zeros(len(dynamics))
    for first in range(epochs - window + 1):
        part = difference[:, first : first + window - 1]
        enough = np.isfinite(part).sum(axis=1) >= 2
        spread = np.sqrt(np.nansum((part - _mean(part)[:, None]) ** 2, axis=1))
        share = decay * (1 - decay) ** (epochs - window - first)
        total += np.where(enough, share * spread, 0)
        weight += np.where(enough, share, 0)
    return _float32(np.where(weight > 0, total, np.nan))


def el2n(dynamics: Dynamics, *, epochs: int = 10) -> Scores:
    """How far the prediction is from the label, the mean over the first epochs; higher is harder.

    Args:
        dynamics: What the training recorded.
        epochs: The first epochs that count; fewer if fewer were recorded.

    Source:
        EL2N (arXiv 2107.07075); ten epochs of one training, as in CCS's code.
    """
    if epochs < 1:
        raise InputError(f"el2n's epochs is {epochs}; expected 1 or more.")
    return _float32(_mean(dynamics.el2n[:, :epochs].astype(np.float64)))


def aum(dynamics: Dynamics) -> Scores:
    """How small the margin of the label is, minus the mean over all epochs; higher is harder, or mislabelled.

    Source:
        AUM (arXiv 2001.10528), of probabilities, as in CCS's code (2210.15809).
    """
    return _float32(-_mean(dynamics.margin.astype(np.float64)))


def forgetting(dynamics: Dynamics) -> Scores:
    """How often a scene went from right to wrong; infinite for scenes that never were right.

    Epochs that did not draw the scene are passed over. NaN for scenes that were never drawn or have no known label.

    Source:
        Toneva et al. (arXiv 1812.05159), with never-learned scenes set to infinity as they say.

    Example:
        >>> half, right = np.zeros((3, 4), np.float16), np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, -1, 0]], np.int8)
        >>> forgetting(Dynamics(half, half, half, half, right)).tolist()
        [2.0, inf, 1.0]
    """
    known = dynamics.correct >= 0
    # The latest epoch up to each one that drew the scene.
    latest = np.maximum.accumulate(np.where(known, np.arange(dynamics.epochs), -1), axis=1)
    state = np.take_along_axis(dynamics.correct, np.maximum(latest, 0), axis=1)
    events = ((state[:, :-1] == 1) & (state[:, 1:] == 0)).sum(axis=1).astype(np.float64)
    learned = (dynamics.correct == 1).any(axis=1)
    events[~learned] = np.inf
    return _float32(np.where(known.any(axis=1), events, np.nan))


def prediction_entropy(dynamics: Dynamics) -> Scores:
    """How unsure the prediction is in the last epoch that drew the scene, in nats; higher is kept first."""
    known = np.isfinite(dynamics.entropy)
    last = dynamics.epochs - 1 - known[:, ::-1].argmax(axis=1)
    value = np.take_along_axis(dynamics.entropy, last[:, None], axis=1)[:, 0].astype(np.float64)
    return _float32(np.where(known.any(axis=1), value, np.nan))


def contradicted(dynamics: Dynamics) -> npt.NDArray[np.bool_]:
    """Return the scenes whose label was contradicted in each of the last three epochs that drew them.

    They are hard, or their labels are wrong. False where that is not known: never drawn, or no known label.

    Source:
        Ours; docs/selection.md has what it finds of flipped labels.

    Example:
        >>> half, right = np.zeros((3, 4), np.float16), np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, -1, -1]], np.int8)
        >>> contradicted(Dynamics(half, half, half, half, right)).tolist()
        [True, False, False]
    """
    known = dynamics.correct >= 0
    # Counted from the end; epochs that did not draw the scene count for nothing.
    latest = known[:, ::-1].cumsum(axis=1)[:, ::-1] <= 3
    learned = ((dynamics.correct == 1) & latest).any(axis=1)
    return np.asarray(known.any(axis=1) & ~learned, bool)


def _mean(values: _Matrix) -> npt.NDArray[np.float64]:
    """Return the mean of what is known in each row, NaN where nothing is, without a warning."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _float32(values: npt.NDArray[np.float64]) -> Scores:
    return values.astype(np.float32)
