"""Every selector keeps exactly its budget, the same by the same seed, and looks at known labels only."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from swath.errors import InputError, LabelError, UnknownNameError
from swath.labels import LabelTable, is_present
from swath.selection.pool import Pool, best
from swath.selection.selectors import SELECTORS, choose
from swath.training.dynamics import Dynamics

SCENES = 120


def pool(*, exclusive: bool = True, seed: int = 0) -> Pool:
    """Four classes of 60, 40, 15 and 5 scenes; the dynamics lack some scenes."""
    random = np.random.default_rng(seed)
    index = np.repeat([0, 1, 2, 3], [60, 40, 15, 5])
    if exclusive:
        labels = LabelTable.from_class_index("abcd", np.where(random.random(SCENES) < 0.1, -1, index))
    else:
        state = (random.random((SCENES, 4)) < [0.5, 0.3, 0.1, 0.03]).astype(np.int8)
        labels = LabelTable(tuple("abcd"), np.where(random.random(state.shape) < 0.2, -1, state))
    drawn = random.random((SCENES, 12)) < 0.9
    drawn[7] = False

    def column() -> np.ndarray:
        return np.where(drawn, random.random((SCENES, 12)), np.nan).astype(np.float16)

    dynamics = Dynamics(
        *(column() for _ in range(4)), np.where(drawn, random.integers(0, 2, drawn.shape), -1).astype(np.int8)
    )
    features = random.normal(size=(SCENES, 5)) + 3 * np.eye(5)[index]
    bits = random.uniform(0, 8, SCENES).astype(np.float32)
    return Pool(SCENES, labels, features, bits, dynamics, random.integers(0, 7, SCENES))


@pytest.mark.parametrize("count", [1, 12, 60, 119, 120])
@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_budgets_are_exact_and_the_seed_decides(name: str, count: int) -> None:
    if name == "rs-prune" and count == 1:
        count = 2
    choice = choose(name, pool(), count, seed=1)
    assert choice.kept.sum() == count
    assert all(len(getattr(choice, field)) == SCENES for field in ("score", "stage", "cluster"))
    again = choose(name, pool(), count, seed=1)
    assert np.array_equal(choice.kept, again.kept)
    np.testing.assert_array_equal(choice.score, again.score)
    if name in ("random", "balanced", "strata", "ccs") and 1 < count < 119:
        assert not np.array_equal(choice.kept, choose(name, pool(), count, seed=2).kept)


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_several_labels_a_scene(name: str) -> None:
    if SELECTORS[name].single_label:
        with pytest.raises(LabelError, match=f"{name} compares each scene with its own class"):
            choose(name, pool(exclusive=False), 12)
        return
    assert choose(name, pool(exclusive=False), 12).kept.sum() == 12


def test_balance_is_over_known_classes_and_unknown_scenes_come_last() -> None:
    given = pool()
    assert given.labels is not None
    index = given.labels.class_index
    choice = choose("balanced", given, 40)
    counts = np.bincount(index[choice.kept], minlength=4)
    rare = int((index == 3).sum())
    assert counts[3] == rare
    assert counts[:3].max() - counts[:3].min() <= 1
    known = int((index >= 0).sum())
    everyone = choose("balanced", given, known + 3)
    assert (index[everyone.kept] < 0).sum() == 3


def test_balance_of_several_labels_serves_the_rarest_class() -> None:
    given = pool(exclusive=False)
    assert given.labels is not None
    present = is_present(given.labels.state)
    balanced, plain = (present[choose(name, given, 24).kept].sum(axis=0) for name in ("balanced", "random"))
    assert balanced[3] == min(24, present[:, 3].sum())
    assert balanced.min() >= plain.min()
    assert balanced.max() - balanced.min() < plain.max() - plain.min()


def test_what_stands_under_unknown_changes_nothing() -> None:
    for exclusive in (True, False):
        given = pool(exclusive=exclusive)
        assert given.labels is not None
        state = np.where(given.labels.state < 0, -7, given.labels.state)
        other = dataclasses.replace(given, labels=given.labels.with_state(state))
        for name in ("balanced", "rs-prune", "herding"):
            assert np.array_equal(choose(name, given, 20).kept, choose(name, other, 20).kept)


def test_herding_brings_the_mean_closest_step_by_step() -> None:
    points = np.random.default_rng(1).normal(5, 1, (30, 3))
    choice = choose("herding", Pool(30, features=points), 10)
    order = np.argsort(-np.nan_to_num(choice.score, nan=-1))[:10]
    taken: list[int] = []
    for row in order:
        free = [other for other in range(30) if other not in taken]
        distance = [
            np.linalg.norm(points[[*taken, other]].mean(axis=0) - points.mean(axis=0)) for other in free
        ]
        assert distance[free.index(int(row))] == pytest.approx(min(distance), abs=1e-4)
        taken.append(int(row))


def test_moderate_keeps_what_is_nearest_to_the_median_distance_in_proportion() -> None:
    given = pool()
    assert given.labels is not None
    index = given.labels.class_index
    choice = choose("moderate", given, 30)
    for kind in np.unique(index):
        points = np.asarray(given.features)[index == kind]
        distance = np.linalg.norm(points - np.median(points, axis=0), axis=1)
        off = np.abs(distance - np.median(distance))
        kept = choice.kept[index == kind]
        assert abs(kept.sum() - 30 * len(points) / SCENES) < 1
        assert off[kept].max(initial=0) <= off[~kept].min(initial=np.inf) + 1e-6


def test_ccs_cuts_the_hardest_and_covers_the_rest_evenly() -> None:
    random = np.random.default_rng(2)
    margin = np.concatenate([np.linspace(-1, 0, 20), random.uniform(0, 0.1, 100), random.uniform(0.9, 1, 80)])
    half = np.tile(margin[:, None], (1, 3)).astype(np.float16)
    given = Pool(200, dynamics=Dynamics(half, half, half, half, np.ones((200, 3), np.int8)))
    choice = choose("ccs", given, 20, options={"strata": 10, "cut": 0.05})
    assert (choice.stage == "cut").sum() == 10
    assert set(np.flatnonzero(choice.stage == "cut")) == set(range(10))
    # Ten strata of equal width over what is left, from -0.47 to 1: shares as even as they have scenes.
    edges = np.linspace(*(np.sort(-margin[10:].astype(np.float16).astype(float))[[0, -1]]), 11)
    stratum = np.clip(np.searchsorted(edges, -half[10:, 0].astype(float), "right") - 1, 0, 9)
    sizes, kept = np.bincount(stratum, minlength=10), np.bincount(stratum[choice.kept[10:]], minlength=10)
    assert kept[(sizes > 0) & (sizes < 3)].tolist() == sizes[(sizes > 0) & (sizes < 3)].tolist()
    full = kept[sizes > 5]
    assert full.max() - full.min() <= 1
    assert choose("ccs", given, 20).notes["cut"] == pytest.approx(0.3)
    assert choose("ccs", given, 40).notes["cut"] == pytest.approx(0.2)
    assert choose("ccs", given, 100).notes["cut"] == 0


def test_equals_are_drawn_not_taken_in_their_order() -> None:
    rows = best(np.zeros(1000), 100, seed=0)
    assert 350 < rows.mean() < 650
    assert best([np.nan, -np.inf, 1, np.inf], 4, seed=0).tolist() == [3, 2, 1, 0]


def test_what_cannot_work_is_refused() -> None:
    given = pool()
    with pytest.raises(UnknownNameError, match="Did you mean 'k-centre'"):
        choose("k-center", given, 5)
    with pytest.raises(UnknownNameError, match="option of rs-prune named 'cluster'"):
        choose("rs-prune", given, 5, options={"cluster": 3})
    with pytest.raises(InputError, match="rs-prune's clusters is 'many'"):
        choose("rs-prune", given, 5, options={"clusters": "many"})
    with pytest.raises(InputError, match="needs features"):
        choose("k-centre", Pool(5), 2)
    for count in (0, 121):
        with pytest.raises(InputError, match="expected from 1 to 120"):
            choose("random", given, count)
    features = np.array(given.features)
    features[33, 2] = np.nan
    with pytest.raises(InputError, match="row 33 hold NaN or infinity"):
        choose("k-centre", dataclasses.replace(given, features=features), 5)
    with pytest.raises(InputError, match="Features of 119 scenes were given for 120"):
        choose("k-centre", dataclasses.replace(given, features=np.asarray(given.features)[1:]), 5)
    with pytest.raises(InputError, match="121 clusters were asked for and there are"):
        choose("rs-prune", given, 5, options={"clusters": 121})
