"""What to ask next: exact budgets, formulas against independent calculations, hostile pools."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swath.errors import InputError, UnknownNameError
from swath.selection.groups import coarse_groups, spectral_clusters
from swath.selection.query import LARGEST_GROUP, STRATEGIES, hierarchical, query
from swath.selection.query_pool import QueryPool, entropy, gradient_norm, margin


def made(scenes: int = 60, *, labelled: int = 10, exclusive: bool = True, seed: int = 0) -> QueryPool:
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (scenes, 5))
    odds = np.exp(logits)
    probability = odds / odds.sum(axis=1, keepdims=True) if exclusive else odds / (1 + odds)
    mask = np.zeros(scenes, bool)
    mask[random.choice(scenes, labelled, replace=False)] = True
    return QueryPool(mask, np.abs(random.normal(size=(scenes, 8))), probability, exclusive)


def gradients(pool: QueryPool) -> npt.NDArray[np.float64]:
    """The gradient of each scene's loss by the last layer, as a long vector: what the strategies never make."""
    assert pool.features is not None
    assert pool.probability is not None
    found = []
    for h, p in zip(pool.features, pool.probability, strict=True):
        answer = np.eye(len(p))[p.argmax()] if pool.exclusive else (p >= 0.5).astype(float)
        found.append(np.outer(p - answer, h).ravel())
    return np.array(found)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("by", STRATEGIES)
def test_budgets_are_exact_without_repeats_or_labelled_scenes(by: str, exclusive: bool) -> None:
    pool = made(exclusive=exclusive)
    for budget in (1, 7, 49, 50):
        rows = query(by, pool, budget, seed=3)
        assert rows.dtype == np.int64
        assert len(set(rows.tolist())) == len(rows) == budget
        assert not pool.labelled[rows].any()
        np.testing.assert_array_equal(rows, query(by, pool, budget, seed=3))


def test_seeds_and_rounds_draw_anew() -> None:
    pool = made(200, labelled=10)
    later = QueryPool(np.arange(200) < 11)
    assert set(query("random", pool, 20, seed=0)) != set(query("random", pool, 20, seed=1))
    assert query("random", QueryPool(np.arange(200) < 10), 20).tolist() != query("random", later, 20).tolist()


@settings(max_examples=25)
@given(
    st.sampled_from(sorted(STRATEGIES)),
    st.integers(2, 30),
    st.integers(1, 4),
    st.sampled_from(["equal", "two", "zero", "far", "duplicates"]),
    st.data(),
)
def test_degenerate_pools_keep_the_budget_without_a_warning(
    by: str, scenes: int, classes: int, kind: str, data: st.DataObject
) -> None:
    labelled = np.zeros(scenes, bool)
    labelled[: data.draw(st.integers(0, scenes - 1))] = True
    budget = data.draw(st.integers(1, scenes - int(labelled.sum())))
    features = {
        "equal": np.ones((scenes, 3)),
        "two": np.eye(3)[np.arange(scenes) % 2],
        "zero": np.zeros((scenes, 3)),
        "far": np.r_[np.full((1, 3), 1e6), np.ones((scenes - 1, 3))] * np.linspace(1, 1.01, scenes)[:, None],
        "duplicates": np.random.default_rng(0).normal(size=(scenes, 3))[np.arange(scenes) // 3],
    }[kind].astype(np.float32)
    probability = np.full((scenes, classes), 1 / classes, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = query(by, QueryPool(labelled, features, probability), budget)
    assert len(set(rows.tolist())) == budget
    assert not labelled[rows].any()


def test_entropy_and_margin_are_those_of_the_formulas() -> None:
    single, several = made(exclusive=True), made(exclusive=False)
    p, q = single.probability, several.probability
    assert p is not None
    assert q is not None
    np.testing.assert_allclose(entropy(p, exclusive=True), [-(row * np.log(row)).sum() for row in p])
    binary = [np.mean([-x * np.log(x) - (1 - x) * np.log(1 - x) for x in row]) for row in q]
    np.testing.assert_allclose(entropy(q, exclusive=False), binary)
    ahead = [sorted(row)[-1] - sorted(row)[-2] for row in p]
    np.testing.assert_allclose(margin(p, exclusive=True), ahead)
    np.testing.assert_allclose(margin(q, exclusive=False), [min(abs(x - (1 - x)) for x in row) for row in q])
    free = single.candidates
    assert (
        query("entropy", single, 5).tolist()
        == free[np.argsort(-entropy(p, exclusive=True)[free])][:5].tolist()
    )
    assert (
        query("margin", single, 5).tolist() == free[np.argsort(margin(p, exclusive=True)[free])][:5].tolist()
    )
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert entropy(certain, exclusive=True).tolist() == entropy(certain, exclusive=False).tolist() == [0, 0]


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_gradient_norm_is_that_of_the_last_layer(exclusive: bool) -> None:
    import torch
    from torch.nn import functional

    pool = made(exclusive=exclusive)
    assert pool.features is not None
    assert pool.probability is not None
    norm = gradient_norm(pool.features, pool.probability, exclusive=exclusive)
    np.testing.assert_allclose(norm, np.linalg.norm(gradients(pool), axis=1))
    # And against automatic differentiation of the loss under the network's own answer.
    for row in range(5):
        p = torch.tensor(pool.probability[row])
        weight = torch.zeros(5, 8, dtype=torch.float64, requires_grad=True)
        shift = p.log() if exclusive else torch.logit(p)
        logits = weight @ torch.tensor(pool.features[row]) + shift
        if exclusive:
            loss = functional.cross_entropy(logits[None], p.argmax()[None])
        else:
            loss = functional.binary_cross_entropy_with_logits(logits, (p >= 0.5).double(), reduction="sum")
        loss.backward()
        assert weight.grad is not None
        np.testing.assert_allclose(norm[row], float(weight.grad.norm()))


@pytest.mark.parametrize("exclusive", [True, False])
def test_badge_draws_by_distances_of_explicit_gradients(exclusive: bool) -> None:
    pool = made(40, labelled=5, exclusive=exclusive)
    explicit, rows = gradients(pool), query("badge", pool, 12, seed=5)
    assert rows[0] == pool.candidates[np.linalg.norm(explicit[pool.candidates], axis=1).argmax()]
    # The same draws over explicit vectors: the strategy's random numbers, its order of candidates.
    from swath.randomness import stream

    random = stream(5, "query", 5)
    order = random.permutation(pool.candidates)
    chosen = [int(rows[0])]
    for _ in range(11):
        gaps = explicit[order][:, None] - explicit[chosen][None]
        squared = np.square(gaps).sum(axis=2).min(axis=1)
        squared[np.isin(order, chosen)] = 0
        ends = np.cumsum(squared)
        chosen.append(int(order[np.searchsorted(ends, random.random() * ends[-1], side="right")]))
    assert rows.tolist() == chosen


@pytest.mark.parametrize("labelled", [0, 6])
def test_coreset_is_the_greedy_cover(labelled: int) -> None:
    pool = made(80, labelled=labelled)
    assert pool.features is not None
    shifted = QueryPool(
        pool.labelled, (pool.features + 500).astype(np.float32)
    )  # far from the origin, in float32
    rows = query("coreset", pool, 15)
    distances = np.linalg.norm(pool.features[:, None] - pool.features[None], axis=2)
    covered, free = list(np.flatnonzero(pool.labelled)), list(pool.candidates)
    wanted = []
    for _ in range(15):
        if covered:
            pick = max(free, key=lambda row: distances[row, covered].min())
        else:
            centre = pool.features[free].mean(axis=0)
            pick = min(free, key=lambda row: float(np.linalg.norm(pool.features[row] - centre)))
        wanted.append(pick)
        covered.append(pick)
        free.remove(pick)
    assert rows.tolist() == wanted
    assert query("coreset", shifted, 15).tolist() == wanted


def test_hssal_asks_in_every_cluster_for_the_largest_gradient() -> None:
    random = np.random.default_rng(0)
    centres = np.eye(6)[:, :6] * 5
    kind = np.arange(120) % 6
    features = centres[kind] + random.normal(0, 0.05, (120, 6))
    odds = np.exp(random.normal(0, 1, (120, 3)))
    pool = QueryPool(np.arange(120) < 12, features, odds / odds.sum(axis=1, keepdims=True))
    rows = query("hssal", pool, 6)
    norm = gradient_norm(features, pool.probability, exclusive=True)  # type: ignore[arg-type]
    best = [max(np.flatnonzero((kind == k) & ~pool.labelled), key=lambda row: norm[row]) for k in range(6)]
    assert sorted(rows.tolist()) == sorted(best)
    assert (np.diff(norm[rows]) <= 0).all()
    # Before there is a head: one near the middle of each.
    first = query("hssal", QueryPool(pool.labelled, features), 6)
    assert sorted(kind[first]) == list(range(6))
    away = np.linalg.norm(features - centres[kind], axis=1)
    assert all(away[row] <= np.quantile(away[kind == kind[row]], 0.5) for row in first)


def test_groups_share_the_budget_and_no_clustering_sees_more_than_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import swath.selection.query as module

    random, seen = np.random.default_rng(0), []
    real = module.spectral_clusters

    def watched(features, clusters, random):  # type: ignore[no-untyped-def]
        seen.append((len(features), clusters))
        return real(features, clusters, random)

    monkeypatch.setattr(module, "LARGEST_GROUP", 50)
    monkeypatch.setattr(module, "spectral_clusters", watched)
    rows = hierarchical(random.normal(size=(400, 4)), 40, random)
    assert len(set(rows.tolist())) == 40
    assert max(size for size, _ in seen) <= 50
    assert sum(share for _, share in seen) == 40
    assert all(abs(share - size / 10) < 1 for size, share in seen)
    assert LARGEST_GROUP == 1000


@pytest.mark.parametrize("kind", ["spread", "equal", "one apart"])
def test_coarse_groups_hold_every_scene_once_whatever_the_features(kind: str) -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(230, 3)) if kind == "spread" else np.ones((230, 3))
    if kind == "one apart":
        features[100] = 50
    groups = coarse_groups(features, 40, random)
    assert sorted(np.concatenate(groups).tolist()) == list(range(230))
    assert max(map(len, groups)) <= 40
    assert coarse_groups(features[:0], 40, random) == []


def test_spectral_clusters_follow_gaps_where_k_means_cannot() -> None:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    rings = [radius * np.c_[np.cos(angle), np.sin(angle)] for radius in (1.0, 4.0)]
    found = spectral_clusters(np.concatenate(rings), 2, np.random.default_rng(0))
    assert len(set(found[:60])) == len(set(found[60:])) == 1
    assert found[0] != found[60]


def test_unlabelled_rows_decide_nothing_by_their_order() -> None:
    pool = made(50, labelled=0)
    equal = QueryPool(pool.labelled, probability=np.full((50, 2), 0.5))
    taken = {int(query("entropy", equal, 1, seed=seed)[0]) for seed in range(30)}
    assert len(taken) > 10


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (0, "expected from 1 to 50"),
        (-1, "expected from 1 to 50"),
        (51, "60 scenes of which 50 are not labelled"),
        (2.5, "whole number"),
        (True, "whole number"),
        ("7", "whole number"),
        (float("nan"), "whole number"),
    ],
)
def test_budgets_that_are_none_are_refused(budget: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        query("random", made(), budget)


def test_pools_that_are_none_are_refused() -> None:
    mask, features = np.zeros(4, bool), np.ones((4, 2))
    broken = np.where(np.eye(4, 2) > 0, np.nan, 1.0)
    for given_, words in (
        ({"features": broken}, "features of 2 of 4 scenes hold NaN or infinity, first in row 0"),
        ({"features": features[:3]}, r"shape \(3, 2\)"),
        ({"features": np.ones(4)}, r"expected numbers of shape \(4, columns\)"),
        ({"features": np.ones((4, 0))}, "shape"),
        ({"features": np.array([["a"]] * 4)}, "hold <U1"),
        ({"probability": np.full((4, 2), 0.7)}, "row 0 sum to 1.4"),
        ({"probability": np.full((4, 2), [2.0, -1.0])}, "between -1 and 2"),
        ({"probability": np.full((4, 2), np.inf)}, "NaN or infinity"),
    ):
        with pytest.raises(InputError, match=words):
            QueryPool(mask, **given_)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a mask, not a list of rows"):
        QueryPool(np.array([0, 2]), features)  # type: ignore[arg-type]
    assert QueryPool(mask, probability=np.full((4, 2), 0.7), exclusive=False).candidates.tolist() == [
        0,
        1,
        2,
        3,
    ]
    half = np.full((4, 2), 0.5, np.float16)
    assert QueryPool(mask, half, half).features.dtype == np.float32  # type: ignore[union-attr]


def test_what_a_strategy_lacks_is_named_with_what_works_without() -> None:
    with pytest.raises(InputError, match=r"needs features and probability .* use random"):
        query("badge", QueryPool(np.zeros(4, bool)), 1)
    with pytest.raises(InputError, match=r"entropy needs probability .* use random or coreset or hssal"):
        query("entropy", QueryPool(np.zeros(4, bool), np.ones((4, 2))), 1)
    with pytest.raises(UnknownNameError, match="Did you mean 'hssal'"):
        query("hsal", QueryPool(np.zeros(4, bool)), 1)
    with pytest.raises(InputError, match=r"All .* scenes are labelled"):
        query("random", QueryPool(np.ones(4, bool)), 1)
