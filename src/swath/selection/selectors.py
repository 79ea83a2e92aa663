"""Every way to choose scenes by its name, behind one call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from swath.errors import InputError, LabelError, UnknownNameError
from swath.randomness import stream
from swath.selection import scores
from swath.selection.pool import Choice, Pool, Rows, best, check_features
from swath.selection.rs_prune import rs_prune
from swath.selection.shares import largest_remainder, water_filling
from swath.selection.spread import farthest_first
from swath.training.dynamics import Dynamics

__all__ = ["SELECTORS", "Selector", "choose"]


class Selector(NamedTuple):
    """One way to choose.

    Args:
        function: Takes pool, number of scenes and seed, and options by keyword.
        needs: What has to be in the pool: ``features``, ``dynamics``, ``labels``, ``strata``.
        single_label: Whether it makes sense only where classes exclude each other.
        likes: What it uses if it is there: ``images``.
    """

    function: Callable[..., Choice]
    needs: tuple[str, ...] = ()
    single_label: bool = False
    likes: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """Its constants by name, with the values used when nothing is said."""
        entries = inspect.signature(self.function).parameters.values()
        return {entry.name: entry.default for entry in entries if entry.kind is entry.KEYWORD_ONLY}


def choose(
    name: str, pool: Pool, count: int, seed: int = 0, options: Mapping[str, Any] | None = None
) -> Choice:
    """Choose exactly ``count`` scenes of a pool.

    Args:
        name: A name of :data:`SELECTORS`.
        pool: The scenes, with what the selector needs of them.
        count: From 1 to the size of the pool.
        seed: Of all that is drawn.
        options: Constants of the selector.

    Returns:
        Which scenes are kept, with scores, stages and clusters.

    Raises:
        UnknownNameError: There is no such selector, or it has no such option.
        InputError: The pool lacks something, features are not usable, or the budget is no number of scenes.
        LabelError: The selector makes no sense for several labels a scene.

    Example:
        >>> choice = choose("k-centre", Pool(4, features=np.array([[0.0], [1.0], [2.0], [9.0]])), 2)
        >>> choice.kept.tolist()
        [False, False, True, True]
    """
    if name not in SELECTORS:
        raise UnknownNameError("selector", name, SELECTORS)
    selector, given = SELECTORS[name], dict(options or {})
    for option in given:
        if option not in selector.options:
            raise UnknownNameError(f"option of {name}", option, selector.options)
    for option, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise InputError(f"{name}'s {option} is {value!r}; expected a number.")
    if not 1 <= count <= pool.size:
        raise InputError(f"{count} of {pool.size} scenes were asked for; expected from 1 to {pool.size}.")
    for what in selector.needs:
        pool.needed(what)
    if selector.single_label and pool.multi_label:
        raise LabelError(
            f"{name} compares each scene with its own class, and these scenes may have several. Choose another, "
            f"such as k-centre or rs-prune."
        )
    if "features" in selector.needs and pool.features is not None:
        check_features(pool.features, pool.size)
    return selector.function(pool, count, seed, **given)


def _random(pool: Pool, count: int, seed: int) -> Choice:
    """Every scene with the same probability: the floor that others have to beat."""
    rows = stream(seed, "selection random").permutation(pool.size)[:count]
    return Choice.of(pool.size, rows, stage="random", score=np.full(pool.size, np.nan))


def _balanced(pool: Pool, count: int, seed: int) -> Choice:
    """Classes as evenly as they have scenes, at random in each; scenes of which no class is known come last.

    Where several classes hold in a scene, the class with the fewest kept scenes draws the next one.
    """
    named, order = pool.named, stream(seed, "selection random").permutation(pool.size)
    cluster = np.full(pool.size, -1) if pool.multi_label else pool.groups
    if pool.multi_label:
        rows = _by_rarest_class(named, order, count)
    else:
        budget = _evenly(cluster, min(count, int((cluster >= 0).sum())))
        rows = _first_of_each(cluster, order, budget)
    rows = np.concatenate([rows, order[~np.isin(order, rows)][: count - len(rows)]])
    score = np.full(pool.size, np.nan)
    return Choice.of(pool.size, rows, stage="random", score=score, cluster=cluster)


def _strata(pool: Pool, count: int, seed: int) -> Choice:
    """Strata (theme, climate, season) as evenly as they have scenes, at random in each."""
    code = pool.needed("strata")
    order = stream(seed, "selection random").permutation(pool.size)
    rows = _first_of_each(code, order, _evenly(code, count))
    return Choice.of(pool.size, rows, stage="stratum", score=np.full(pool.size, np.nan), cluster=code)


def _by_score(
    score: Callable[..., npt.NDArray[np.float32]], pool: Pool, count: int, seed: int, **options: Any
) -> Choice:
    found = score(pool.needed("dynamics"), **options)
    return Choice.of(pool.size, best(found, count, seed), stage="score", score=found)


def _tdds(
    pool: Pool, count: int, seed: int, *, epochs: int = 10, window: int = 10, decay: float = 0.9
) -> Choice:
    """Scenes whose prediction fluctuates most while the network learns."""
    return _by_score(scores.tdds, pool, count, seed, epochs=epochs, window=window, decay=decay)


def _el2n(pool: Pool, count: int, seed: int, *, epochs: int = 10) -> Choice:
    """Scenes whose early predictions are farthest from their label."""
    return _by_score(scores.el2n, pool, count, seed, epochs=epochs)


def _herding(pool: Pool, count: int, seed: int) -> Choice:
    """Scenes that bring the mean of those taken closest to the mean of all, class by class, in proportion."""
    features, code = pool.needed("features"), pool.groups
    _, group, sizes = np.unique(code, return_inverse=True, return_counts=True)
    rows, position = [], []
    for kind, budget in enumerate(_proportional(sizes, count)):
        inside = np.flatnonzero(group == kind)
        rows.append(inside[_herd(np.array(features[inside], np.float32), int(budget))])
        position.append(np.arange(budget) / max(1, budget))
    score = np.full(pool.size, np.nan)
    score[np.concatenate(rows)] = 1 - np.concatenate(position)
    return Choice.of(pool.size, np.concatenate(rows), stage="herding", score=score, cluster=code)


def _moderate(pool: Pool, count: int, seed: int) -> Choice:
    """Scenes whose distance from their class's median is nearest to the median distance, in proportion to classes."""
    features, code = pool.needed("features"), pool.groups
    kinds, group, sizes = np.unique(code, return_inverse=True, return_counts=True)
    score = np.empty(pool.size)
    for kind in range(len(kinds)):
        inside = np.flatnonzero(group == kind)
        points = np.array(features[inside], np.float32)
        distance = np.linalg.norm(points - np.median(points, axis=0), axis=1)
        score[inside] = -np.abs(distance - np.median(distance))
    rows = _first_of_each(code, best(score, pool.size, seed), _proportional(sizes, count))
    return Choice.of(pool.size, rows, stage="score", score=score, cluster=code)


def _k_centre(pool: Pool, count: int, seed: int) -> Choice:
    """Scenes of which each is the farthest from all before it."""
    rows, _ = farthest_first(pool.needed("features"), count)
    return Choice.of(pool.size, rows, stage="farthest")


def _rs_prune(
    pool: Pool,
    count: int,
    seed: int,
    *,
    clusters: int | None = None,
    spread: float = 0.5,
    least_bits: float = 1.0,
    entropy_share: float | None = None,
) -> Choice:
    """Not the plain pictures; then every cluster its share, half of it near the centre and half far from all taken."""
    return rs_prune(
        pool.needed("features"),
        count,
        seed,
        bits=pool.bits,
        strata=pool.labels.class_index if pool.labels is not None and pool.labels.exclusive else None,
        clusters=clusters,
        spread=spread,
        least_bits=least_bits,
        entropy_share=entropy_share,
    )


def _ccs(
    score: Callable[[Dynamics], npt.NDArray[np.float32]],
    pool: Pool,
    count: int,
    seed: int,
    *,
    cut: float | None = None,
    strata: int = 50,
) -> Choice:
    """Strata of equal width over a score, as evenly as they have scenes, without the hardest: coverage of easy to hard.

    ``cut`` is the share of the pool that is left out at the hard end, where mislabelled scenes gather. If None it
    grows with what is removed: 0 up to 60 %, 0.2 at 80 %, 0.3 at 90 %, as in CCS's commands, and in a line between.
    """
    if strata < 1 or (cut is not None and not 0 <= cut < 1):
        raise InputError(
            f"ccs was given {strata} strata and a cut of {cut}; expected 1 or more, and from 0 to below 1."
        )
    found = score(pool.needed("dynamics"))
    removed = 1 - count / pool.size
    share = max(0.0, removed - 0.6) if cut is None else cut
    left_out = min(round(share * pool.size), pool.size - count)
    scored = int((~np.isnan(found)).sum())
    hardest = best(found, min(left_out, scored), seed)  # what has no score is not hard, and comes last below
    code = np.full(pool.size, -1)
    stays = ~np.isnan(found)
    stays[hardest] = False
    if stays.any():
        # Scenes that were never learned score infinity; those that the cut leaves lie in the hardest stratum.
        finite = found[stays & np.isfinite(found)].astype(np.float64)
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
        width = max(high - low, 1e-12) / strata
        place = np.clip((np.nan_to_num(found[stays], posinf=high) - low) / width, 0, strata - 1)
        code[stays] = place.astype(np.int64)
    order = stream(seed, "selection random").permutation(pool.size)
    rows = _first_of_each(code, order, _evenly(code, min(count, int(stays.sum()))))
    if len(rows) < count:  # too few scenes have a score
        rest = order[(code[order] < 0) & np.isnan(found[order])]
        rows = np.concatenate([rows, rest[: count - len(rows)]])
    choice = Choice.of(
        pool.size, rows, stage="stratum", score=found, cluster=code, notes={"cut": round(share, 4)}
    )
    stage = choice.stage.copy()
    stage[hardest] = "cut"
    return Choice(choice.kept, choice.score, stage, choice.cluster, choice.notes)


def _evenly(code: Rows, count: int) -> dict[int, int]:
    """Divide a budget over the codes from 0 as evenly as they have scenes."""
    kinds, sizes = np.unique(code[code >= 0], return_counts=True)
    return dict(zip(kinds.tolist(), water_filling(sizes, count).tolist(), strict=True))


def _proportional(sizes: Rows, count: int) -> Rows:
    """Divide a budget in proportion; no part can be above its size, because the budget is not above their sum."""
    return largest_remainder(sizes, count)


def _first_of_each(code: Rows, order: Rows, budgets: Mapping[int, int] | Rows) -> Rows:
    """Return the first scenes of each code in an order, as many as its budget says.

    Args:
        code: (scenes,) codes.
        order: All scenes.
        budgets: By code; or an array, one for each different code, ascending.
    """
    if not isinstance(budgets, Mapping):
        budgets = dict(zip(np.unique(code).tolist(), budgets.tolist(), strict=True))
    chosen = []
    by_code = np.argsort(code[order], kind="stable")
    kinds, starts = np.unique(code[order][by_code], return_index=True)
    for kind, start in zip(kinds.tolist(), starts, strict=True):
        chosen.append(order[by_code[start : start + budgets.get(kind, 0)]])
    return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)


def _by_rarest_class(named: npt.NDArray[np.bool_], order: Rows, count: int) -> Rows:
    """Let the class with the fewest kept scenes take the next scene that has it, until there is none or enough."""
    queues = [order[named[order, column]] for column in range(named.shape[1])]
    place, held = np.zeros(len(queues), np.int64), np.zeros(len(queues))
    taken, rows = np.zeros(len(named), bool), list[int]()
    held[[not len(queue) for queue in queues]] = np.inf
    while len(rows) < count and np.isfinite(held).any():
        column = int(held.argmin())
        queue = queues[column]
        while place[column] < len(queue) and taken[queue[place[column]]]:
            place[column] += 1
        if place[column] == len(queue):
            held[column] = np.inf
            continue
        row = int(queue[place[column]])
        taken[row] = True
        held += named[row]
        rows.append(row)
    return np.array(rows, np.int64)


def _herd(points: npt.NDArray[np.float32], count: int) -> Rows:
    mean = points.mean(axis=0, dtype=np.float64)
    half = 0.5 * np.einsum("nd,nd->n", points, points)
    total, rows = np.zeros(points.shape[1]), np.empty(count, np.int64)
    free = np.zeros(len(points), np.float32)
    for position in range(count):
        # |mean (t + 1) - total - x| is smallest where x . (mean (t + 1) - total) - |x|^2 / 2 is largest.
        wanted = (mean * (position + 1) - total).astype(np.float32)
        row = int((points @ wanted - half + free).argmax())
        free[row] = -np.inf
        rows[position] = row
        total += points[row]
    return rows


_FROM_DYNAMICS: Final = {
    "tdds": scores.tdds,
    "el2n": scores.el2n,
    "forgetting": scores.forgetting,
    "entropy": scores.prediction_entropy,
    "aum": scores.aum,
}

SELECTORS: Final[Mapping[str, Selector]] = {
    "random": Selector(_random),
    "balanced": Selector(_balanced, ("labels",)),
    "rs-prune": Selector(_rs_prune, ("features",), likes=("images",)),
    "tdds": Selector(_tdds, ("dynamics",)),
    "el2n": Selector(_el2n, ("dynamics",)),
    "forgetting": Selector(partial(_by_score, scores.forgetting), ("dynamics",)),
    "entropy": Selector(partial(_by_score, scores.prediction_entropy), ("dynamics",)),
    "aum": Selector(partial(_by_score, scores.aum), ("dynamics",)),
    "herding": Selector(_herding, ("features",)),
    "moderate": Selector(_moderate, ("features", "labels"), single_label=True),
    "k-centre": Selector(_k_centre, ("features",)),
    "strata": Selector(_strata, ("strata",)),
    "ccs": Selector(partial(_ccs, scores.aum), ("dynamics",)),
    **{
        f"ccs:{name}": Selector(partial(_ccs, score), ("dynamics",)) for name, score in _FROM_DYNAMICS.items()
    },
}
"""Every selector by its name; ``ccs`` is ``ccs:aum``."""
