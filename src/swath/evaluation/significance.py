"""Is a method better, or was it lucky? Tests over seeds on one setting, and ranks over several settings."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from swath.errors import InputError

__all__ = [
    "FEWEST_PAIRS",
    "LEVEL",
    "PairedTest",
    "Ranking",
    "against_best",
    "critical_difference",
    "holm",
    "paired_p",
    "rank_methods",
]

LEVEL = 0.05
"""Below this corrected probability a difference is called significant."""

FEWEST_PAIRS = 3
"""With fewer pairs of runs no test is made: their spread cannot be estimated."""


@dataclass(frozen=True)
class PairedTest:
    """How one method compares with the best one.

    Args:
        method: The method.
        best: The method with the best mean of those with the most runs.
        pairs: Runs that the two have in common (the same seed and split).
        difference: Mean over pairs of the method's figure minus the best one's.
        interval: Ends of the 95 % interval of that mean, by the same t-distribution, not corrected for the number of
            methods; None where there is no test. A wide one says that a tie is not a proof of equality.
        p: Two-sided probability of such a difference by chance; None for the best one itself and with too few pairs.
        corrected: The same after Holm's correction for the number of methods.
        tied: Whether it is tied for first: the best, or not significantly worse than it. None if that is open.
    """

    method: str
    best: str
    pairs: int
    difference: float
    interval: tuple[float, float] | None
    p: float | None
    corrected: float | None
    tied: bool | None


def against_best(values: Mapping[str, Mapping[Hashable, float]]) -> list[PairedTest]:
    """Test every method against the one with the best mean, over pairs of runs, with Holm's correction.

    The test is the paired t-test. Wilcoxon's signed-rank test asks less of the differences, but with five pairs its
    smallest possible two-sided probability is 0.0625: with the handful of seeds that people can afford it would call
    everything a tie. A figure of a whole test set is a mean over many scenes, so that the differences between two
    methods are close enough to a normal distribution.

    Args:
        values: For each method its figure by what pairs runs, such as (seed, split). Larger is better.

    Returns:
        One entry for each method that has any value, the best first, by falling mean.

    Source:
        Student 1908 (scipy.stats.ttest_rel); Holm 1979.

    Example:
        >>> tests = against_best({
        ...     "good": {0: 0.80, 1: 0.82, 2: 0.81},
        ...     "close": {0: 0.81, 1: 0.80, 2: 0.81},
        ...     "poor": {0: 0.60, 1: 0.61, 2: 0.60},
        ... })
        >>> [(test.method, test.tied) for test in tests]
        [('good', True), ('close', True), ('poor', False)]
    """
    means = {name: float(np.mean(list(runs.values()))) for name, runs in values.items() if runs}
    order = sorted(means, key=lambda name: -means[name])
    if not order:
        return []
    # A method that lacks runs may have lost the hard ones, so it is not what others are measured by.
    most = max(len(values[name]) for name in order)
    best = next(name for name in order if len(values[name]) == most)
    order = [best, *(name for name in order if name != best)]
    pairs = {name: [key for key in values[name] if key in values[best]] for name in order}
    differences = {
        name: np.array([values[name][key] - values[best][key] for key in keys])
        for name, keys in pairs.items()
    }
    tested = [name for name in order if name != best and len(pairs[name]) >= FEWEST_PAIRS]
    p = {name: paired_p(differences[name]) for name in tested}
    corrected = dict(zip(tested, holm([p[name] for name in tested]), strict=True))

    def tied(name: str) -> bool | None:
        if name == best:
            return True
        return None if name not in p else corrected[name] >= LEVEL or float(differences[name].mean()) >= 0

    return [
        PairedTest(
            name,
            best,
            len(pairs[name]),
            float(differences[name].mean()) if len(pairs[name]) else math.nan,
            _interval(differences[name]) if name in p else None,
            p.get(name),
            corrected.get(name),
            tied(name),
        )
        for name in order
    ]


def paired_p(differences: npt.ArrayLike) -> float:
    """Return the two-sided probability of the paired t-test that the differences have mean 0.

    Args:
        differences: (pairs,) finite numbers, at least two. If all are equal the answer is 1 (all 0) or 0.

    Example:
        >>> round(paired_p([0.1, 0.2, 0.3]), 4)
        0.0742
    """
    given = np.asarray(differences, np.float64)
    if given.ndim != 1 or len(given) < 2 or not np.isfinite(given).all():
        raise InputError(
            f"Differences of shape {given.shape} were given; expected two or more finite numbers."
        )
    # The test divides by the spread; rounding alone must not make one.
    if np.ptp(given) <= 1e-12 * max(1.0, float(np.abs(given).max())):
        return 1.0 if abs(float(given.mean())) <= 1e-12 else 0.0
    return float(stats.ttest_1samp(given, 0.0).pvalue)


def _interval(differences: npt.NDArray[np.float64]) -> tuple[float, float]:
    mean, pairs = float(differences.mean()), len(differences)
    half = float(stats.t.ppf(1 - LEVEL / 2, pairs - 1) * differences.std(ddof=1) / math.sqrt(pairs))
    return mean - half, mean + half


def holm(p: Sequence[float]) -> list[float]:
    """Return probabilities corrected for how many there are, by Holm's step-down rule.

    Example:
        >>> [round(value, 3) for value in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    corrected, largest = [0.0] * len(p), 0.0
    for position, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - position) * p[index]))
        corrected[index] = largest
    return corrected


@dataclass(frozen=True)
class Ranking:
    """Ranks of methods over settings.

    Args:
        ranks: Mean rank of each method, best (lowest) first; 1 is best.
        settings: Number of settings.
        p: Probability, by Friedman's test, of ranks that differ so much if all methods were alike.
        critical_difference: Mean ranks that differ by more are different (Nemenyi).
        groups: The largest sets of methods that are not told apart, each from its best to its worst, in the order of
            ``ranks``; sets of one are left out.
    """

    ranks: Mapping[str, float]
    settings: int
    p: float
    critical_difference: float
    groups: Sequence[tuple[str, ...]]


def rank_methods(methods: Sequence[str], values: npt.ArrayLike) -> Ranking:
    """Rank methods in each setting and ask whether the ranks differ by more than chance.

    Args:
        methods: Names, at least three.
        values: (settings, methods) one figure each, such as the mean over seeds; larger is better. Settings should
            be different tasks (data, label budgets, kinds of noise), not seeds of one. At least two.

    Returns:
        Mean ranks with Friedman's test and Nemenyi's critical difference.

    Raises:
        InputError: There are fewer than three methods or two settings, or a figure is missing.

    Source:
        Friedman 1937; Nemenyi 1963; Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, 2006.

    Example:
        >>> ranking = rank_methods(["a", "b", "c"], [[0.9, 0.8, 0.7], [0.8, 0.6, 0.7], [0.9, 0.8, 0.7]])
        >>> ranking.ranks["a"], round(ranking.p, 3), ranking.groups
        (1.0, 0.097, [('a', 'b', 'c')])
    """
    table = np.asarray(values, np.float64)
    if (
        table.ndim != 2
        or table.shape[0] < 2
        or table.shape[1] != len(methods)
        or len(methods) < 3
        or not np.isfinite(table).all()
    ):
        raise InputError(
            f"Figures of shape {table.shape} were given for {len(methods)} methods; expected finite numbers of at "
            f"least two settings and three methods."
        )
    ranks = stats.rankdata(-table, axis=1).mean(axis=0)
    alike = bool((table == table[:, :1]).all())
    p = 1.0 if alike else float(stats.friedmanchisquare(*table.T).pvalue)
    order = np.argsort(ranks, kind="stable")
    difference = critical_difference(len(methods), len(table))
    groups: list[tuple[str, ...]] = []
    reached = 0
    for first, position in enumerate(order):
        last = max(
            other for other in range(first, len(order)) if ranks[order[other]] - ranks[position] <= difference
        )
        if last > first and last > reached:
            groups.append(tuple(methods[index] for index in order[first : last + 1]))
            reached = last
    return Ranking(
        {methods[index]: float(ranks[index]) for index in order}, len(table), p, difference, groups
    )


def critical_difference(methods: int, settings: int, level: float = LEVEL) -> float:
    """Return Nemenyi's critical difference of mean ranks.

    Example:
        >>> round(critical_difference(4, 14), 3)
        1.254
    """
    quantile = float(stats.studentized_range.ppf(1 - level, methods, math.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * settings))
