"""Losing labels: what is kept, how often, and that nothing stored under unknown matters."""

import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from swath.errors import LabelError, SwathError, UnknownNameError
from swath.labels import LabelTable, flip_classes, is_absent, is_known, is_present, lose, loss_record

CLASSES = tuple("abcdef")
MULTI = ["single-positive-random", "single-positive-dominant", "single-positive-dominant-simulated"]
RATES = ["keep-share:0.4", "flip-uniform:0.3", "flip-class:0.3"]
ALL = [*MULTI, *RATES, "flip-pair:0.3"]


def multi(scenes: int = 4000, unknown: float = 0.0, seed: int = 0) -> LabelTable:
    random = np.random.default_rng(seed)
    state = (random.random((scenes, 6)) < [0.6, 0.5, 0.3, 0.2, 0.1, 0.02]).astype(np.int8)
    state[random.random(state.shape) < unknown] = -1
    return LabelTable(CLASSES, state)


def exclusive(scenes: int = 6000, unknown: float = 0.0, seed: int = 0) -> LabelTable:
    random = np.random.default_rng(seed)
    index = random.integers(0, 6, scenes)
    index[random.random(scenes) < unknown] = -1
    return LabelTable.from_class_index(CLASSES, index)


def area_of(table: LabelTable) -> np.ndarray:
    return np.random.default_rng(9).random(table.state.shape)


states = st.lists(st.lists(st.integers(-3, 1), min_size=6, max_size=6), min_size=1, max_size=12)


@hypothesis.given(
    state=states, how=st.sampled_from(ALL[:-1]), seed=st.integers(0, 99), junk=st.integers(-128, -1)
)
def test_unknown_stays_unknown_and_what_is_stored_there_changes_nothing(
    state: list[list[int]], how: str, seed: int, junk: int
) -> None:
    given = np.array(state, np.int8)
    table = LabelTable(CLASSES, given)
    area = np.random.default_rng(seed).random(given.shape)
    after = lose(table, how, seed, area=area)
    assert not (is_known(after.state) & ~is_known(table.state)).any()
    # Other codes, areas, confidences and sources under unknown.
    unknown = given < 0
    other = LabelTable(
        CLASSES,
        np.where(unknown, junk, given),
        confidence=np.where(unknown, np.nan, 0.5),
        source=np.where(unknown, -9, 0),
        sources=("somebody",),
    )
    again = lose(other, how, seed, area=np.where(unknown, np.nan, area))
    np.testing.assert_array_equal(after.state, again.state)


@hypothesis.given(index=st.lists(st.integers(-4, 5), min_size=1, max_size=30), how=st.sampled_from(ALL))
def test_exclusive_tables_stay_exclusive_and_unknown_scenes_unknown(index: list[int], how: str) -> None:
    table = LabelTable.from_class_index(CLASSES, index)
    after = lose(table, how, 3, area=area_of(table))
    assert after.exclusive
    assert (is_present(after.state).sum(axis=1) <= 1).all()
    assert (after.class_index[np.array(index) < 0] == -1).all()
    whole = is_known(after.state).all(axis=1) | ~is_known(after.state).any(axis=1)
    assert whole.all()


@pytest.mark.parametrize("how", MULTI)
def test_single_positive_keeps_one_true_positive_and_nothing_else(how: str) -> None:
    truth = multi()
    after = lose(truth, how, 1, area=area_of(truth))
    some = is_present(truth.state).any(axis=1)
    assert 0 < some.sum() < len(truth)
    np.testing.assert_array_equal(is_present(after.state).sum(axis=1), some)
    assert not is_absent(after.state).any()
    assert is_present(truth.state)[is_present(after.state)].all()
    record = loss_record(truth, after, how, 1)
    assert record["scenes_without_known"] == (~some).sum()
    assert record["present_after"] == some.sum()
    assert record["wrong"] == 0


def test_random_positives_are_all_equally_likely() -> None:
    truth = LabelTable(CLASSES, np.tile(np.array([1, 0, 1, 1, -1, 1], np.int8), (20_000, 1)))
    kept = is_present(lose(truth, "single-positive-random", 0).state).mean(axis=0)
    np.testing.assert_allclose(kept, [0.25, 0, 0.25, 0.25, 0, 0.25], atol=0.015)


def test_dominant_is_the_largest_present_class() -> None:
    truth = multi()
    area = area_of(truth)
    after = lose(truth, "single-positive-dominant", 0, area=area)
    for scene in np.flatnonzero(is_present(truth.state).any(axis=1))[:500]:
        present = [number for number in range(6) if truth.state[scene, number] == 1]
        assert after.state[scene].argmax() == max(present, key=lambda number: area[scene, number])


def test_simulated_dominance_follows_how_frequent_classes_are() -> None:
    truth = multi(40_000)
    frequency = is_present(truth.state).mean(axis=0)
    after = lose(truth, "single-positive-dominant-simulated", 0)
    for first, second in ((0, 2), (1, 3), (0, 4)):
        others = [number for number in range(6) if number not in (first, second)]
        both = is_present(truth.state)[:, [first, second]].all(axis=1)
        both &= ~is_present(truth.state)[:, others].any(axis=1)
        share = is_present(after.state[both, first]).mean()
        expected = frequency[first] / (frequency[first] + frequency[second])
        assert abs(share - expected) < 4 * np.sqrt(0.25 / both.sum())


def test_dominance_without_areas_names_the_stand_in() -> None:
    with pytest.raises(LabelError, match="single-positive-dominant-simulated"):
        lose(multi(), "single-positive-dominant", 0)
    with pytest.raises(LabelError, match="shape"):
        lose(multi(), "single-positive-dominant", 0, area=np.ones((3, 6)))
    with pytest.raises(LabelError, match="NaN"):
        lose(multi(), "single-positive-dominant", 0, area=np.full((4000, 6), np.nan))


def test_keep_share_keeps_that_share_as_it_was() -> None:
    for truth in (multi(unknown=0.3), exclusive(unknown=0.3)):
        after = lose(truth, "keep-share:0.3", 0)
        kept = is_known(after.state)
        np.testing.assert_array_equal(after.state[kept], truth.state[kept])
        assert abs(kept.sum() / is_known(truth.state).sum() - 0.3) < 0.02
        assert not is_known(lose(truth, "keep-share:0", 0).state).any()
        np.testing.assert_array_equal(lose(truth, "keep-share:1", 0).state, truth.state)


@pytest.mark.parametrize("how", ["flip-uniform", "flip-class"])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.8, 1.0])
def test_flips_are_as_frequent_as_asked_and_lose_nothing(how: str, rate: float) -> None:
    for truth in (multi(unknown=0.2), exclusive(unknown=0.2)):
        rates = []
        for seed in range(20):
            after = lose(truth, f"{how}:{rate}", seed)
            known = is_known(truth.state)
            np.testing.assert_array_equal(is_known(after.state), known)
            wrong = after.state != truth.state
            rates.append(
                wrong.any(axis=1)[known.any(axis=1)].mean() if truth.exclusive else wrong[known].mean()
            )
        # Class-dependent rates vary between draws; their mean is what was asked for.
        assert abs(np.mean(rates) - rate) < (0.01 if how == "flip-uniform" else 0.06)


def test_uniform_flips_reach_all_other_classes_alike() -> None:
    truth = exclusive(30_000)
    after = lose(truth, "flip-uniform:0.5", 0)
    moved = np.zeros((6, 6))
    np.add.at(moved, (truth.class_index, after.class_index), 1)
    moved /= moved.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.diag(moved), 0.5, atol=0.03)
    np.testing.assert_allclose(moved[~np.eye(6, dtype=bool)], 0.1, atol=0.02)


def test_pair_flips_go_to_the_next_class() -> None:
    truth = exclusive()
    after = lose(truth, "flip-pair:0.3", 0)
    step = (after.class_index - truth.class_index) % 6
    assert set(step.tolist()) == {0, 1}
    assert abs((step == 1).mean() - 0.3) < 0.02
    with pytest.raises(LabelError, match="flip-uniform"):
        lose(multi(), "flip-pair:0.3", 0)


def test_class_dependent_flips_differ_between_classes() -> None:
    truth = exclusive(30_000)
    after = lose(truth, "flip-class:0.3", 4)
    wrong = after.class_index != truth.class_index
    rates = [wrong[truth.class_index == number].mean() for number in range(6)]
    assert max(rates) - min(rates) > 0.1


def test_flips_follow_a_given_matrix() -> None:
    matrix = np.random.default_rng(0).dirichlet(np.ones(6), 6)
    truth = exclusive(60_000)
    after = flip_classes(truth, matrix, 0)
    moved = np.zeros((6, 6))
    np.add.at(moved, (truth.class_index, after.class_index), 1)
    np.testing.assert_allclose(moved / moved.sum(axis=1, keepdims=True), matrix, atol=0.02)
    rates = np.random.default_rng(1).random((6, 2))
    labels = multi(20_000)
    after = flip_classes(labels, rates, 0)
    for number in range(5):
        for column, where in enumerate((is_present(labels.state), is_absent(labels.state))):
            chosen = where[:, number]
            wrong = (after.state[chosen, number] != labels.state[chosen, number]).mean()
            assert abs(wrong - rates[number, column]) < 0.05


@pytest.mark.parametrize("matrix", [np.eye(5), np.ones((6, 6)), -np.eye(6), np.full((6, 6), np.nan)])
def test_matrices_that_are_no_transitions_are_refused(matrix: np.ndarray) -> None:
    with pytest.raises(LabelError):
        flip_classes(exclusive(10), matrix, 0)


@pytest.mark.parametrize("how", ["flip-uniform:0.1", "flip-pair:0.1", "flip-class:0.1"])
def test_a_single_class_has_nothing_to_be_confused_with(how: str) -> None:
    with pytest.raises(LabelError, match="only class"):
        lose(LabelTable.from_class_index(("water",), [0, 0]), how, 0)


def test_ways_are_joined_in_their_order() -> None:
    truth = multi()
    both = lose(truth, "flip-uniform:0.1 + single-positive-random", 5)
    assert (is_known(both.state).sum(axis=1) <= 1).all()
    assert is_absent(truth.state)[is_present(both.state)].any()
    assert lose(truth, "keep-share:0.5+keep-share:0.5", 0).counts()["unknown"].sum() > 0.7 * truth.state.size


def test_the_seed_alone_decides() -> None:
    truth = multi()
    for how in ("single-positive-random", *RATES):
        np.testing.assert_array_equal(lose(truth, how, 7).state, lose(truth, how, 7).state)
        assert (lose(truth, how, 7).state != lose(truth, how, 8).state).any()


def test_the_record_is_plain_and_adds_up() -> None:
    truth = multi(unknown=0.1)
    how = "flip-uniform:0.2+keep-share:0.5"
    record = loss_record(truth, lose(truth, how, 0), how, 0)
    assert json.loads(json.dumps(record)) == record
    for moment in ("before", "after"):
        assert (
            sum(int(record[f"{state}_{moment}"]) for state in ("present", "absent", "unknown"))
            == truth.state.size
        )
    assert record["wrong"] == pytest.approx(0.2 * 0.5 * 0.9 * truth.state.size, rel=0.1)


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("single-positive-randon", UnknownNameError, "Did you mean 'single-positive-random'"),
        ("", UnknownNameError, "Known"),
        ("keep-share:0.5+", UnknownNameError, "Known"),
        ("keep-share", LabelError, "keep-share:0.2"),
        ("keep-share:much", LabelError, "much"),
        ("keep-share:1.5", LabelError, "0 to 1"),
        ("flip-uniform:-0.1", LabelError, "0 to 1"),
        ("flip-uniform:nan", LabelError, "0 to 1"),
        ("single-positive-random:0.5", LabelError, "no number"),
    ],
)
def test_bad_texts_are_named(how: str, kind: type[SwathError], message: str) -> None:
    with pytest.raises(kind, match=message):
        lose(multi(10), how, 0)


def test_no_scenes_lose_nothing() -> None:
    empty = LabelTable(CLASSES, np.empty((0, 6), np.int8))
    for how in ALL[:-1]:
        assert len(lose(empty, how, 0, area=np.empty((0, 6)))) == 0
