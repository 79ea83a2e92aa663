"""RS-Prune: what carries little goes first; then every kind of scene keeps its share, typical ones and far ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from swath.errors import InputError
from swath.selection.clusters import cluster
from swath.selection.pool import Choice, Rows, best
from swath.selection.shares import water_filling
from swath.selection.spread import farthest_first

__all__ = ["rs_prune"]


def rs_prune(
    features: npt.NDArray[np.floating[Any]],
    count: int,
    seed: int,
    *,
    bits: npt.NDArray[np.float32] | None = None,
    strata: Rows | None = None,
    clusters: int | None = None,
    spread: float = 0.5,
    least_bits: float = 1.0,
    entropy_share: float | None = None,
) -> Choice:
    """Choose scenes in two stages, without training: by the entropy of the picture, then evenly over clusters.

    Stage 1 removes pictures that carry little. Stage 2 divides the others into clusters and the budget among these as
    evenly as they have scenes; in each cluster a part is taken next to the centre and the rest farthest from all that
    is taken already.

    Args:
        features: (scenes, features) of a frozen encoder.
        count: How many to keep, exactly.
        seed: Of the sample, of k-means and of equals.
        bits: (scenes,) entropy of each picture; None leaves stage 1 out.
        strata: (scenes,) class of each labelled reference scene, -1 for the others; None without labels.
        clusters: How many; None takes the square root of the number of scenes, at least one for each class and at most
            1,000.
        spread: Share of each cluster's budget that is taken farthest-first; 0 takes what is typical only.
        least_bits: Stage 1 removes pictures below it.
        entropy_share: Stage 1 instead removes the pictures of lowest entropy, this share of all that has to go. The
            published method does so; it removes whole classes that are plain, such as water.

    Returns:
        The choice: ``stage`` is ``entropy`` (removed in stage 1), ``representative`` or ``spread`` (kept), or
        ``cluster`` (the cluster's budget was full).

    Raises:
        InputError: A constant is out of its range, or there are fewer scenes than clusters.

    Source:
        RS-Prune (arXiv 2512.23239), from its abstract. The paper's thresholds, numbers of clusters and scores were not
        found: the constants, the water filling and the mix in a cluster are our choice.

    Example:
        >>> random = np.random.default_rng(0)
        >>> features = np.concatenate([random.normal(0, 1, (90, 4)), random.normal(9, 1, (10, 4))])
        >>> choice = rs_prune(features, 10, seed=0, clusters=2)
        >>> int(choice.kept.sum()), int(choice.kept[90:].sum())
        (10, 5)
    """
    scenes = len(features)
    _check(clusters, spread, least_bits, entropy_share)
    stage, member = np.full(scenes, "cluster", "U14"), np.full(scenes, -1)
    score = np.full(scenes, np.nan, np.float32)
    rows = np.arange(scenes)
    if bits is not None:
        rows = _informative(bits, count, seed, least_bits, entropy_share)
        stage[np.setdiff1d(np.arange(scenes), rows)] = "entropy"
    classes = 0 if strata is None else len(np.unique(strata[strata >= 0]))
    number = clusters or min(len(rows), max(classes, min(1000, round(np.sqrt(len(rows))))))
    found = cluster(features, number, seed, rows=rows, strata=strata)
    member[rows] = found.member
    budgets = water_filling(np.bincount(found.member, minlength=number), count)
    by_cluster = np.lexsort((found.distance, found.member))
    ends = np.cumsum(np.bincount(found.member, minlength=number))
    kept = np.zeros(scenes, bool)
    for begin, end, budget in zip(np.r_[0, ends[:-1]], ends, budgets, strict=True):
        if not budget:
            continue
        inside = rows[by_cluster[begin:end]]  # nearest to the centre first
        near = max(1, int(budget) - round(spread * int(budget)))
        order = np.arange(near)
        if near < budget:
            far, _ = farthest_first(_in_order(features, inside), int(budget) - near, taken=order)
            order = np.concatenate([order, far])
        chosen = inside[order]
        kept[chosen] = True
        stage[chosen] = np.where(np.arange(len(chosen)) < near, "representative", "spread")
        score[chosen] = 1 - np.arange(len(chosen)) / len(chosen)
    notes = {"clusters": number, "spread": spread, "removed by entropy": int((stage == "entropy").sum())}
    notes["entropy"] = "not used: no images" if bits is None else _rule(least_bits, entropy_share)
    return Choice(kept, score, stage, member, notes)


def _check(clusters: int | None, spread: float, least_bits: float, entropy_share: float | None) -> None:
    for name, value, fits, expected in (
        ("clusters", clusters, clusters is None or clusters >= 1, "1 or more"),
        ("spread", spread, 0 <= spread <= 1, "a share from 0 to 1"),
        ("least_bits", least_bits, 0 <= least_bits <= 8, "bits from 0 to 8"),
        (
            "entropy_share",
            entropy_share,
            entropy_share is None or 0 <= entropy_share <= 1,
            "a share from 0 to 1",
        ),
    ):
        if not fits:
            raise InputError(f"rs-prune's {name} is {value}; expected {expected}.")


def _informative(
    bits: npt.NDArray[np.float32], count: int, seed: int, least_bits: float, entropy_share: float | None
) -> Rows:
    """Return the rows that stage 1 leaves, ascending; never fewer than the budget."""
    left = len(bits) - round(entropy_share * (len(bits) - count)) if entropy_share is not None else 0
    if entropy_share is None:
        left = max(count, int((bits >= least_bits).sum()))
    return np.sort(best(bits, left, seed))


def _rule(least_bits: float, entropy_share: float | None) -> str:
    if entropy_share is None:
        return f"pictures below {least_bits:g} bits"
    return f"the plainest pictures, {entropy_share:.0%} of what had to go"


def _in_order(features: npt.NDArray[np.floating[Any]], rows: Rows) -> npt.NDArray[np.floating[Any]]:
    """Read scattered rows in the order of the file, which a memory map is faster at, and return them in their own."""
    order = np.argsort(rows)
    part = np.empty((len(rows), features.shape[1]), features.dtype)
    part[order] = features[rows[order]]
    return part
