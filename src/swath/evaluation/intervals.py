"""How far a measure would move if other scenes of the same kind had been drawn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swath.errors import InputError
from swath.evaluation.metrics import Measures
from swath.randomness import stream

__all__ = ["LEVEL", "bootstrap_intervals"]

LEVEL = 0.95
"""Share of the bootstrap draws that lie inside an interval."""

# Bounds the memory for weights (a draw of 100,000 scenes takes 0.4 MB as whole numbers and 0.8 MB as floats).
_WEIGHTS_AT_ONCE = 4_000_000


def bootstrap_intervals(
    measures: Measures, *, draws: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float] | None]:
    """Return the percentile bootstrap interval of every headline measure, scenes drawn with replacement.

    It says how much the choice of test scenes matters, not how much another training run would: for that,
    train with several seeds. Draws in which a measure is not defined (no scene of any class left) are left
    out.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
        measures: Labels and probabilities of the scenes.
        draws: Number of bootstrap draws, at least 1.
        seed: Seed of the draws, 0 or larger.

    Returns:
        Lower and upper end for each measure (95 %); None where the measure is not defined for the scenes as
        given.

    Raises:
        InputError: ``draws`` is below 1.

    Example:
        >>> from swath.labels import LabelTable
        >>> labels = LabelTable(("a",), np.array([[1], [0], [1], [0]]))
        >>> measures = Measures(labels, np.array([[0.9], [0.2], [0.7], [0.1]]))
        >>> bootstrap_intervals(measures, draws=50)["f1_macro"]
        (1.0, 1.0)
    """
    if draws < 1:
        raise InputError(f"{draws} bootstrap draws were asked for; at least 1 is needed (1000 is usual).")
    scenes = len(measures.state)
    value = measures.value()
    generator = stream(seed, "bootstrap")
    parts: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in value}
    done = 0
    while done < draws and scenes:
        # The draws do not depend on how they are grouped: the generator goes on where it stopped.
        now = min(draws - done, max(1, _WEIGHTS_AT_ONCE // scenes))
        weight = np.stack(
            [np.bincount(generator.integers(scenes, size=scenes), minlength=scenes) for _ in range(now)]
        ).astype(np.int32)
        for name, drawn in measures.at(weight).items():
            parts[name].append(drawn)
        done += now
    tails = (50 * (1 - LEVEL), 100 - 50 * (1 - LEVEL))
    intervals: dict[str, tuple[float, float] | None] = {}
    for name, centre in value.items():
        drawn = np.concatenate(parts[name]) if parts[name] else np.empty(0)
        drawn = drawn[~np.isnan(drawn)]
        if np.isnan(centre) or not drawn.size:
            intervals[name] = None
        else:
            low, high = np.percentile(drawn, tails)
            intervals[name] = (float(low), float(high))
    return intervals
