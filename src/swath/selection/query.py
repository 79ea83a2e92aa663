"""Which scenes to have labelled next: strategies on arrays, each with an exact budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.errors import InputError, UnknownNameError
from swath.randomness import stream
from swath.selection.groups import coarse_groups, spectral_clusters, unit_rows
from swath.selection.query_pool import QueryPool, entropy, gradient_norm, margin, residual
from swath.selection.shares import largest_remainder
from swath.selection.spread import farthest_first

__all__ = ["STRATEGIES", "Strategy", "hierarchical", "query"]

Floats = npt.NDArray[np.floating[Any]]
Rows = npt.NDArray[np.int64]
Ask = Callable[[QueryPool, Rows, int, np.random.Generator], Rows]

LARGEST_GROUP = 1000
"""Most scenes that one spectral clustering of ``hssal`` looks at: its matrix then takes 8 MB."""


def query(by: str, pool: QueryPool, budget: int, *, seed: int = 0) -> Rows:
    """Return which scenes to have labelled next.

    The same pool, budget and seed give the same rows. Ties are broken at random, never by the order of the scenes.

    Args:
        by: A name in :data:`STRATEGIES`.
        pool: The scenes.
        budget: How many to ask for, from 1 to the number of scenes that are not labelled.
        seed: The one seed. Each number of labelled scenes has random numbers of its own, so rounds differ.

    Returns:
        (budget,) different rows of the pool, none labelled, in the order in which to ask.

    Raises:
        UnknownNameError: There is no such strategy.
        InputError: The budget is out of its range, or the pool lacks what the strategy needs.

    Example:
        >>> pool = QueryPool(np.zeros(3, bool), probability=np.array([[0.9, 0.1], [0.5, 0.5], [0.7, 0.3]]))
        >>> query("entropy", pool, 2).tolist()
        [1, 2]
    """
    if by not in STRATEGIES:
        raise UnknownNameError("query strategy", by, STRATEGIES)
    candidates = pool.candidates
    if isinstance(budget, bool) or not isinstance(budget, int | np.integer):
        raise InputError(f"A budget of {budget!r} was given; expected a whole number of scenes.")
    if not len(candidates):
        raise InputError(f"All {len(pool)} scenes are labelled; there is none left to ask about.")
    if not 1 <= budget <= len(candidates):
        raise InputError(
            f"A budget of {budget} was given for a pool of {len(pool)} scenes of which {len(candidates)} are not "
            f"labelled; expected from 1 to {len(candidates)}."
        )
    missing = [name for name in STRATEGIES[by].needs if getattr(pool, name) is None]
    if missing:
        able = [name for name in STRATEGIES if not set(STRATEGIES[name].needs) & set(missing)]
        raise InputError(
            f"The strategy {by} needs {' and '.join(missing)} of the scenes, which only a trained network gives. "
            f"Without, use {' or '.join(able)}."
        )
    random = stream(seed, "query", int(pool.labelled.sum()))
    # In a random order, so that what a strategy finds equally good is taken at random.
    return STRATEGIES[by].ask(pool, random.permutation(candidates), int(budget), random)


def hierarchical(
    features: Floats, budget: int, random: np.random.Generator, *, score: Floats | None = None
) -> Rows:
    """Choose scenes that are unlike each other, and in each kind of scene the one with the highest score.

    Features are scaled to length 1. Mini-batch k-means makes coarse groups of at most :data:`LARGEST_GROUP` scenes;
    each gets its share of the budget by largest remainder; spectral clustering divides the group into as many
    clusters; each cluster gives its best scene. Where a group has fewer clusters than its share, because scenes in it
    are equal, the largest clusters give their next best.

    Args:
        features: (scenes, d) of the scenes to choose from.
        budget: How many to choose, from 1 to the number of scenes.
        random: Where clusterings start.
        score: (scenes,) how much a scene's label would tell, such as :func:`gradient_norm`. None prefers scenes near
            the middle of their cluster.

    Returns:
        (budget,) different rows: the highest scores first, or without scores the largest clusters.

    Source:
        HSSAL (arXiv 2511.18058): scalability, diversity, uncertainty, in this order. Sizes, similarities and what is
        done about ties are ours.

    Example:
        >>> features = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> score = np.array([1.0, 3.0, 2.0, 1.0])
        >>> hierarchical(features, 2, np.random.default_rng(0), score=score).tolist()
        [1, 2]
    """
    direction = unit_rows(features)
    groups = coarse_groups(direction, LARGEST_GROUP, random)
    chosen, worth = [], []
    for rows, share in zip(groups, largest_remainder([len(rows) for rows in groups], budget), strict=True):
        if not share:
            continue
        own = direction[rows]
        cluster = spectral_clusters(own, int(share), random)
        size = np.bincount(cluster)[cluster]
        preference = _nearness(own, cluster) if score is None else score[rows]
        best = _best_of_each(cluster, size, preference, int(share))
        chosen.append(rows[best])
        worth.append(size[best] if score is None else preference[best])
    order = np.argsort(-np.concatenate(worth), kind="stable")
    return np.asarray(np.concatenate(chosen)[order])


def _nearness(features: Floats, cluster: npt.NDArray[np.int64]) -> Floats:
    """Return how near each scene is to the mean of its cluster, as a negative distance."""
    total = np.zeros((int(cluster.max()) + 1, features.shape[1]))
    np.add.at(total, cluster, features)
    mean = total / np.maximum(np.bincount(cluster), 1)[:, None]
    return np.asarray(-np.linalg.norm(features - mean[cluster], axis=1))


def _best_of_each(
    cluster: npt.NDArray[np.int64], size: npt.NDArray[np.int64], preference: Floats, wanted: int
) -> Rows:
    """Return the best of each cluster, and if these are too few, next the second best of the largest clusters."""
    inside = np.lexsort((-preference, cluster))
    place = np.empty(len(cluster), np.int64)
    first = np.r_[0, np.flatnonzero(np.diff(cluster[inside])) + 1]
    place[inside] = np.arange(len(cluster)) - np.repeat(first, np.diff(np.r_[first, len(cluster)]))
    return np.lexsort((-preference, -size, place))[:wanted]


def _random(pool: QueryPool, candidates: Rows, budget: int, random: np.random.Generator) -> Rows:
    return candidates[:budget]


def _entropy(pool: QueryPool, candidates: Rows, budget: int, random: np.random.Generator) -> Rows:
    unsure = entropy(_given(pool.probability)[candidates], exclusive=pool.exclusive)
    return candidates[np.argsort(-unsure, kind="stable")[:budget]]


def _margin(pool: QueryPool, candidates: Rows, budget: int, random: np.random.Generator) -> Rows:
    ahead = margin(_given(pool.probability)[candidates], exclusive=pool.exclusive)
    return candidates[np.argsort(ahead, kind="stable")[:budget]]


def _coreset(pool: QueryPool, candidates: Rows, budget: int, random: np.random.Generator) -> Rows:
    """Greedy k-centre: always the scene that is furthest from all that are labelled or chosen."""
    own = np.concatenate([np.flatnonzero(pool.labelled), candidates])
    taken = np.arange(len(own) - len(candidates))
    return own[farthest_first(_given(pool.features)[own], budget, taken=taken)[0]]


def _badge(pool: QueryPool, candidates: Rows, budget: int, random: np.random.Generator) -> Rows:
    """Seeds of k-means++ among gradients, whose products factorise: none of (classes x d) numbers is ever made."""
    answer = residual(_given(pool.probability)[candidates], exclusive=pool.exclusive)
    features = _given(pool.features)[candidates]
    length = np.square(answer).sum(axis=1, dtype=np.float64) * np.square(features).sum(
        axis=1, dtype=np.float64
    )
    distance = np.full(len(candidates), np.inf)
    free = np.ones(len(candidates), bool)
    chosen = np.empty(budget, np.int64)
    for position in range(budget):
        pick = int(length.argmax()) if position == 0 else _drawn(np.where(free, distance, 0), free, random)
        product = (answer @ answer[pick]).astype(np.float64) * (features @ features[pick])
        distance = np.minimum(distance, np.maximum(length + length[pick] - 2 * product, 0))
        chosen[position], free[pick] = pick, False
    return candidates[chosen]


def _drawn(weight: Floats, free: npt.NDArray[np.bool_], random: np.random.Generator) -> int:
    """Return a row drawn in proportion to weights, or any free one where all weights are 0."""
    ends = np.cumsum(weight)
    if not ends[-1] > 0:
        return int(random.choice(np.flatnonzero(free)))
    drawn = np.searchsorted(ends, random.random() * ends[-1], side="right")
    return int(min(drawn, np.flatnonzero(weight)[-1]))


def _hssal(pool: QueryPool, candidates: Rows, budget: int, random: np.random.Generator) -> Rows:
    """Coarse groups, clusters, gradients; before the first training, which has no gradients, middles of clusters."""
    features = _given(pool.features)[candidates]
    score = None
    if pool.probability is not None:
        score = gradient_norm(features, pool.probability[candidates], exclusive=pool.exclusive)
    return candidates[hierarchical(features, budget, random, score=score)]


def _given(values: Floats | None) -> Floats:
    if values is None:
        raise InputError("The pool lacks what this strategy needs; ask through swath.selection.query.")
    return values


@dataclass(frozen=True)
class Strategy:
    """A way to choose what to ask.

    Args:
        summary: What it prefers, in a few words.
        needs: What of a pool it cannot do without: ``features``, ``probability``.
        ask: The work.
    """

    summary: str
    needs: tuple[str, ...]
    ask: Ask


STRATEGIES: dict[str, Strategy] = {
    "random": Strategy("any scenes", (), _random),
    "entropy": Strategy("scenes the network is least sure of", ("probability",), _entropy),
    "margin": Strategy(
        "scenes whose second answer is nearly as likely as the first", ("probability",), _margin
    ),
    "coreset": Strategy("scenes furthest from all that are labelled", ("features",), _coreset),
    "badge": Strategy("scenes whose gradients are large and differ", ("features", "probability"), _badge),
    "hssal": Strategy("of each kind of scene, the one with the largest gradient", ("features",), _hssal),
}
"""The strategies by name. ``hssal`` uses probabilities where there are any."""
