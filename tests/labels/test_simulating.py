"""Several sources, simulated: who speaks where, how often they err, and what they agree on."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from swath.errors import LabelError
from swath.labels import LabelTable, consensus, is_absent, is_known, is_present, lose, loss_record
from swath.labels.losing import check_way

CLASSES = tuple("abcde")
WEAK = ["weak-uniform:0.1/0.2/0.5", "weak-class:0.1/0.2/0.5"]
SEVERAL = [*WEAK, "annotators:0.4/0.9/0.7/0.5"]


def single(scenes: int = 6000, unknown: float = 0.0) -> LabelTable:
    random = np.random.default_rng(0)
    index = random.integers(0, 5, scenes)
    index[random.random(scenes) < unknown] = -1
    return LabelTable.from_class_index(CLASSES, index)


def multi(scenes: int = 6000, unknown: float = 0.0) -> LabelTable:
    random = np.random.default_rng(1)
    state = (random.random((scenes, 5)) < 0.4).astype(np.int8)
    state[random.random(state.shape) < unknown] = -1
    return LabelTable(CLASSES, state)


@pytest.mark.parametrize("truth", [single(), multi()], ids=["single", "multi"])
@pytest.mark.parametrize("how", WEAK)
def test_weak_sources_share_the_rest_and_all_label_the_reliable_scenes(truth: LabelTable, how: str) -> None:
    given = lose(truth, how, 3)
    assert given.sources == ("reliable", "weak-1", "weak-2")
    assert given.votes is not None
    heard = is_known(given.votes).any(axis=2)
    reliable = heard[:, 0]
    assert reliable.sum() == 600
    assert heard[reliable].all()
    assert (heard[~reliable, 1:].sum(axis=1) == 1).all()
    assert abs(int(heard[:, 1].sum()) - int(heard[:, 2].sum())) <= 1
    np.testing.assert_array_equal(given.votes[reliable, 0], truth.state[reliable])
    # The pooled label: the reliable one where there is one, else the weak one.
    np.testing.assert_array_equal(given.state[reliable], truth.state[reliable])
    for source in (1, 2):
        alone = heard[:, source] & ~reliable
        np.testing.assert_array_equal(given.state[alone], given.votes[alone, source])


@pytest.mark.parametrize("truth", [single(20_000), multi(20_000)], ids=["single", "multi"])
def test_uniform_sources_err_as_often_as_asked(truth: LabelTable) -> None:
    given = lose(truth, "weak-uniform:0.1/0.2/0.5", 3)
    assert given.votes is not None
    for source, rate in ((1, 0.2), (2, 0.5)):
        said = given.votes[:, source]
        wrong = (
            (is_known(said) & (said != truth.state)).any(axis=1) if truth.exclusive else said != truth.state
        )
        heard = is_known(said).any(axis=1) if truth.exclusive else is_known(said)
        assert abs(wrong[heard].mean() - rate) < 0.02


def test_pair_sources_give_the_next_class_where_they_err() -> None:
    truth = single(20_000)
    given = lose(truth, "weak-pair:0.1/0.2/0.5", 3)
    assert given.votes is not None
    for source, rate in ((1, 0.2), (2, 0.5)):
        said = given.votes[:, source]
        heard = is_present(said).any(axis=1)
        step = (said.argmax(axis=1) - truth.class_index)[heard] % len(CLASSES)
        assert set(step) == {0, 1}
        assert abs((step == 1).mean() - rate) < 0.02
    with pytest.raises(LabelError, match="exclude each other"):
        lose(multi(100), "weak-pair:0.1/0.2", 0)


def test_class_dependent_sources_differ_between_classes_and_draws() -> None:
    truth, means = single(), []
    for seed in range(30):
        votes = lose(truth, "weak-class:0.1/0.3", seed).votes
        assert votes is not None
        said = votes[:, 1]
        wrong = [(~is_present(said[truth.class_index == k, k])).mean() for k in range(5)]
        assert max(wrong) - min(wrong) > 0.05
        means.append(np.mean(wrong))
    assert abs(np.mean(means) - 0.3) < 0.05


def test_annotators_cover_what_they_should_and_every_scene_has_one() -> None:
    truth = single(20_000)
    skills = []
    for seed in range(12):
        given = lose(truth, "annotators:0.3/0.9/0.6", seed)
        assert given.sources == ("annotator-1", "annotator-2")
        assert given.votes is not None
        heard = is_known(given.votes).any(axis=2)
        assert heard.any(axis=1).all()
        # 0.3, and half of the scenes that nobody chose.
        np.testing.assert_allclose(heard.mean(axis=0), 0.3 + 0.7**2 / 2, atol=0.02)
        right = is_present(given.votes) & is_present(truth.state)[:, None]
        skills.append(right.any(axis=2).sum(axis=0) / heard.sum(axis=0))
    np.testing.assert_allclose(np.mean(skills, axis=0), [0.9, 0.6], atol=0.08)
    alone = lose(truth, "annotators:0/0.5/0.5/0.5", 0)
    assert alone.votes is not None
    assert (is_known(alone.votes).any(axis=2).sum(axis=1) == 1).all()
    everyone = lose(truth, "annotators:1/1/1", 0)
    np.testing.assert_array_equal(everyone.state, truth.state)


@pytest.mark.parametrize("how", SEVERAL)
@pytest.mark.parametrize("truth", [single(400, 0.3), multi(400, 0.5)], ids=["single", "multi"])
def test_nobody_says_anything_of_what_is_unknown(truth: LabelTable, how: str) -> None:
    given = lose(truth, how, 0)
    assert given.votes is not None
    hidden = ~is_known(truth.state)
    assert not is_known(given.votes.swapaxes(1, 2)[hidden]).any()
    assert not is_known(given.state[hidden]).any()
    again = lose(truth, how, 0)
    assert again.votes is not None
    np.testing.assert_array_equal(again.votes, given.votes)
    other = lose(truth, how, 1)
    assert other.votes is not None
    assert (other.votes != given.votes).any()


@pytest.mark.parametrize("how", SEVERAL)
@pytest.mark.parametrize("scenes", [0, 1, 3])
def test_very_few_scenes_are_no_problem(how: str, scenes: int) -> None:
    for truth in (single(scenes), multi(scenes)):
        given = lose(truth, how, 0)
        assert len(given) == scenes
        assert loss_record(truth, given, how, 0)["scenes"] == scenes


def test_the_record_counts_what_each_source_said() -> None:
    truth = single(1000)
    how = "weak-uniform:0.1/1"
    record = loss_record(truth, lose(truth, how, 0), how, 0)
    assert record["scenes_of:reliable"] == 100
    assert record["wrong_scenes_of:reliable"] == 0
    assert record["scenes_of:weak-1"] == 1000
    assert record["wrong_scenes_of:weak-1"] == 1000
    assert record["scenes_without_known"] == 0


def test_votes_do_not_tell_what_was_lost_afterwards() -> None:
    given = lose(single(100), "annotators:1/0.9/0.9", 0)
    assert lose(given, "keep-share:0.2", 0).votes is None
    for how in ("annotators:1/0.9+keep-share:0.5", "weak-class:0.1/0.5+annotators:1/0.5"):
        with pytest.raises(LabelError, match="Put it last"):
            check_way(how)
    assert check_way("keep-share:0.5 + annotators:1/0.5")[1] == ("annotators", (1.0, 0.5))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("weak-uniform", "weak-uniform:0.05/0.2/0.5"),
        ("weak-uniform:0.1", "one error rate for each weak source"),
        ("weak-class:0/0.5", "above 0"),
        ("weak-class:0.1/1.5", "from 0 to 1"),
        ("weak-class:0.1/nan", "from 0 to 1"),
        ("weak-class:0.1//0.2", "from 0 to 1"),
        ("annotators:0.5", "one skill for each"),
        ("annotators:-1/0.5", "from 0 to 1"),
        ("keep-positives", "whole number"),
        ("keep-positives:0", "whole number"),
        ("keep-positives:1.5", "whole number"),
        ("keep-positives:1/2", "whole number"),
        ("keep-positives:inf", "whole number"),
        ("flip-uniform:0.1/0.2", "0 to 1"),
    ],
)
def test_bad_numbers_are_named(how: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        check_way(how)


def test_budgets_keep_as_many_positives_and_nothing_else() -> None:
    truth = multi()
    for budget in (1, 2, 3, 99):
        kept = lose(truth, f"keep-positives:{budget}", 0).state
        assert is_present(truth.state)[is_present(kept)].all()
        assert not is_absent(kept).any()
        expected = np.minimum(is_present(truth.state).sum(axis=1), budget)
        np.testing.assert_array_equal(is_present(kept).sum(axis=1), expected)
    # Which ones is left to chance, and evenly.
    same = LabelTable(CLASSES, np.tile(np.array([1, 1, 0, 1, -1], np.int8), (20_000, 1)))
    share = is_present(lose(same, "keep-positives:2", 0).state).mean(axis=0)
    np.testing.assert_allclose(share, [2 / 3, 2 / 3, 0, 2 / 3, 0], atol=0.015)
    one = is_present(lose(same, "keep-positives:1", 5).state).mean(axis=0)
    random = is_present(lose(same, "single-positive-random", 6).state).mean(axis=0)
    np.testing.assert_allclose(one, random, atol=0.02)
    whole = single(50)
    np.testing.assert_array_equal(lose(whole, "keep-positives:1", 0).state, whole.state)


votes = st.lists(
    st.lists(st.lists(st.integers(-3, 1), min_size=3, max_size=3), min_size=4, max_size=4),
    min_size=1,
    max_size=6,
)


@hypothesis.given(votes=votes, order=st.permutations(range(4)), junk=st.integers(-128, -1))
def test_consensus_asks_who_and_not_in_which_order(
    votes: list[list[list[int]]], order: list[int], junk: int
) -> None:
    given, names = np.array(votes, np.int8), ("w", "x", "y", "z")
    state = consensus(given, names, exclusive=False)
    np.testing.assert_array_equal(consensus(given[:, order], names, exclusive=False), state)
    np.testing.assert_array_equal(
        consensus(np.where(given < 0, junk, given).astype(np.int8), names, exclusive=False), state
    )
    for scene, said in enumerate(votes):
        for column in range(3):
            present = sum(one[column] == 1 for one in said)
            absent = sum(one[column] == 0 for one in said)
            expected = 1 if present > absent else 0 if absent > present else -1
            assert state[scene, column] == expected
    reliable = consensus(given, ("w", "x", "reliable", "z"), exclusive=False)
    spoke = given[:, 2] >= 0
    np.testing.assert_array_equal(reliable[spoke], given[:, 2][spoke])
    np.testing.assert_array_equal(reliable[~spoke], state[~spoke])


@hypothesis.given(st.lists(st.lists(st.integers(-1, 3), min_size=5, max_size=5), min_size=1, max_size=8))
def test_consensus_on_exclusive_classes_is_the_class_named_most_often(chosen: list[list[int]]) -> None:
    index = np.array(chosen)
    given = np.where(index[..., None] >= 0, index[..., None] == np.arange(4), -1).astype(np.int8)
    state = consensus(given, tuple("vwxyz"), exclusive=True)
    for scene, said in enumerate(chosen):
        counts = [said.count(k) for k in range(4)]
        decided = max(counts) > 0 and counts.count(max(counts)) == 1
        expected = [int(k == counts.index(max(counts))) for k in range(4)] if decided else [-1] * 4
        assert state[scene].tolist() == expected
    LabelTable(tuple("abcd"), state, exclusive=True, votes=given, sources=tuple("vwxyz"))
