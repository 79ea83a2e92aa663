"""Measures against scikit-learn and against their definitions; unknown labels change nothing."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as reference

from swath.errors import InputError, LabelError
from swath.evaluation import average_precision, evaluate_probability
from swath.evaluation.calibration import BINS
from swath.evaluation.evaluate import chief_figures
from swath.evaluation.metrics import FROM_POSITIVES, HEADLINES, Measures
from swath.labels import LabelTable


def labels_of(state, exclusive=False):
    return LabelTable(tuple(f"class {i}" for i in range(state.shape[1])), state, exclusive=exclusive)


@pytest.fixture
def multi():
    generator = np.random.default_rng(0)
    state = (generator.random((400, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.4]).astype(np.int8)
    state[state.sum(axis=1) == 0, 0] = 1
    # Two digits make many ties.
    probability = np.clip(generator.normal(0.35 + 0.3 * state, 0.2), 0, 1).round(2)
    return state, probability


@pytest.fixture
def single():
    generator = np.random.default_rng(1)
    index = generator.choice(5, 400, p=[0.4, 0.3, 0.2, 0.07, 0.03])
    logits = generator.normal(0, 1, (400, 5)) + 1.5 * np.eye(5)[index]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.eye(5, dtype=np.int8)[index], probability, index


def test_multi_label_measures_equal_scikit_learn(multi):
    state, probability = multi
    value = Measures(labels_of(state), probability).value()
    claimed = (probability >= 0.5).astype(int)
    assert value["map_macro"] == pytest.approx(reference.average_precision_score(state, probability))
    assert value["map_micro"] == pytest.approx(
        reference.average_precision_score(state, probability, average="micro")
    )
    assert value["f1_macro"] == pytest.approx(reference.f1_score(state, claimed, average="macro"))
    assert value["f1_micro"] == pytest.approx(reference.f1_score(state, claimed, average="micro"))
    assert value["overall_accuracy"] == pytest.approx(1 - reference.hamming_loss(state, claimed))
    assert value["coverage_error"] == pytest.approx(reference.coverage_error(state, probability))
    mixed = (state.sum(axis=1) > 0) & (state.sum(axis=1) < state.shape[1])
    assert value["ranking_loss"] == pytest.approx(
        reference.label_ranking_loss(state[mixed], probability[mixed])
    )


def test_single_label_measures_equal_scikit_learn(single):
    state, probability, index = single
    value = Measures(labels_of(state, exclusive=True), probability).value()
    predicted = probability.argmax(axis=1)
    assert value["overall_accuracy"] == pytest.approx(reference.accuracy_score(index, predicted))
    assert value["average_accuracy"] == pytest.approx(reference.balanced_accuracy_score(index, predicted))
    assert value["kappa"] == pytest.approx(reference.cohen_kappa_score(index, predicted))
    assert value["f1_macro"] == pytest.approx(reference.f1_score(index, predicted, average="macro"))
    assert value["map_macro"] == pytest.approx(reference.average_precision_score(state, probability))
    evaluation = evaluate_probability(state, probability, "abcde", exclusive=True, draws=2)
    np.testing.assert_array_equal(evaluation["confusion"], reference.confusion_matrix(index, predicted))


def test_average_precision_equals_scikit_learn_class_by_class_with_ties_and_unknowns(multi):
    state, probability = multi
    state = np.where(np.random.default_rng(3).random(state.shape) < 0.4, -1, state)
    expected = [
        reference.average_precision_score(state[known, c], probability[known, c])
        for c, known in enumerate((state >= 0).T)
    ]
    np.testing.assert_allclose(average_precision(state, probability), expected, rtol=1e-12)
    np.testing.assert_allclose(
        average_precision(state, np.full(state.shape, 0.5)),
        [(state[:, c] == 1).sum() / (state[:, c] >= 0).sum() for c in range(6)],
    )


def test_calibration_error_equals_its_definition(multi, single):
    state, probability = multi
    p, y = probability.ravel(), state.ravel()
    cell = np.minimum((p * BINS).astype(int), BINS - 1)
    expected = sum(
        (cell == b).mean() * abs(p[cell == b].mean() - y[cell == b].mean()) for b in np.unique(cell)
    )
    assert Measures(labels_of(state), probability).value()["calibration_error"] == pytest.approx(expected)
    state, probability, index = single
    p, y = probability.max(axis=1), probability.argmax(axis=1) == index
    cell = np.minimum((p * BINS).astype(int), BINS - 1)
    expected = sum(
        (cell == b).mean() * abs(p[cell == b].mean() - y[cell == b].mean()) for b in np.unique(cell)
    )
    value = Measures(labels_of(state, exclusive=True), probability).value()
    assert value["calibration_error"] == pytest.approx(expected)


def test_weights_equal_repeated_scenes(multi, single):
    generator = np.random.default_rng(5)
    for state, probability, exclusive in ((*multi, False), (*single[:2], True)):
        weight = generator.integers(0, 4, (3, len(state)))
        drawn = Measures(labels_of(state, exclusive), probability).at(weight)
        for draw, counts in enumerate(weight):
            rows = np.repeat(np.arange(len(state)), counts)
            repeated = Measures(labels_of(state[rows], exclusive), probability[rows]).value()
            for name, value in repeated.items():
                assert drawn[name][draw] == pytest.approx(value, nan_ok=True), name


cases = st.integers(0, 2**32 - 1)


@settings(max_examples=60)
@given(
    state=hnp.arrays(
        np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(-1, 1)
    ),
    seed=cases,
)
def test_what_stands_under_unknown_changes_nothing(state, seed):
    generator = np.random.default_rng(seed)
    probability = generator.random(state.shape).round(1)
    classes = [str(i) for i in range(state.shape[1])]
    plain = evaluate_probability(state, probability, classes, exclusive=False, draws=3)
    other_codes = np.where(state < 0, generator.integers(-128, 0, state.shape), state).astype(np.int8)
    assert evaluate_probability(other_codes, probability, classes, exclusive=False, draws=3) == plain
    # Only the rank of what is known to be present looks at how the model ranks what nobody knows.
    other_probability = np.where(state < 0, generator.random(state.shape), probability)
    other = evaluate_probability(state, other_probability, classes, exclusive=False, draws=3)
    for evaluation in (plain, other):
        del evaluation["positive_rank"], evaluation["intervals"]["positive_rank"]
    assert other == plain


@settings(max_examples=40)
@given(
    index=hnp.arrays(
        np.int64, hnp.array_shapes(min_dims=1, max_dims=1, max_side=9), elements=st.integers(-1, 3)
    ),
    seed=cases,
)
def test_scenes_of_unknown_class_change_nothing_in_exclusive_sets(index, seed):
    generator = np.random.default_rng(seed)
    probability = generator.random((len(index), 4)).round(1)
    state = LabelTable.from_class_index("abcd", index).state
    known = index >= 0
    with_unknown = Measures(labels_of(state, exclusive=True), probability).value()
    # "Not this class" alone does not say which one it is: such a scene is left out whole.
    partly = np.where(known[:, None], state, generator.integers(-9, 1, state.shape)).astype(np.int8)
    without = Measures(labels_of(state[known], exclusive=True), probability[known]).value()
    half = Measures(labels_of(partly, exclusive=True), probability).value()
    for name in HEADLINES:
        assert with_unknown[name] == pytest.approx(without[name], nan_ok=True), name
        assert half[name] == pytest.approx(without[name], nan_ok=True), name


def test_classes_that_cannot_be_compared_are_left_out_by_name():
    state = np.array([[1, 1, 0, -1], [0, 1, 0, -1], [1, -1, -1, -7]], np.int8)
    probability = np.full((3, 4), 0.9)
    evaluation = evaluate_probability(
        state, probability, ["a", "all", "none", "nobody"], exclusive=False, draws=5
    )
    assert [row["name"] for row in evaluation["left_out"]] == ["all", "none", "nobody"]
    assert len({row["reason"] for row in evaluation["left_out"]}) == 3
    assert evaluation["map_macro"] == evaluation["per_class"][0]["average_precision"] == pytest.approx(2 / 3)
    for row in evaluation["per_class"][1:]:
        assert row["average_precision"] is row["f1"] is row["precision"] is None
    assert [row["recall"] for row in evaluation["per_class"]] == [1, 1, None, None]
    assert evaluation["per_class"][3]["unknown"] == 3


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("scenes", [0, 4])
def test_nothing_known_gives_no_figure_but_a_reason(exclusive, scenes):
    state = np.full((scenes, 3), -1, np.int8)
    evaluation = evaluate_probability(state, np.full((scenes, 3), 0.5), "abc", exclusive=exclusive, draws=5)
    for name in HEADLINES:
        assert evaluation[name] is None
        assert evaluation["intervals"][name] is None
        assert evaluation["undefined"][name]


def test_known_positives_alone_give_recall_and_rank_and_nothing_that_flatters():
    generator = np.random.default_rng(4)
    truth = generator.random((60, 5)) < 0.4
    truth[~truth.any(axis=1), 0] = True
    # At most one positive a scene is known, and no absence.
    state = np.full(truth.shape, -1, np.int8)
    for row in range(50):
        state[row, generator.choice(np.flatnonzero(truth[row]))] = 1
    probability = generator.random(truth.shape).round(1)
    rows, columns = np.nonzero(state == 1)
    own = probability[rows, columns]
    evaluation = evaluate_probability(state, probability, "abcde", exclusive=False, draws=200)
    assert evaluation["positive_recall"] == pytest.approx((own >= 0.5).mean())
    ranks = (probability[rows] >= own[:, None]).sum(axis=1)
    assert evaluation["positive_rank"] == pytest.approx(ranks.mean())
    for name in FROM_POSITIVES:
        low, high = evaluation["intervals"][name]
        assert low < evaluation[name] < high
    for name in set(HEADLINES) - set(FROM_POSITIVES):
        assert evaluation[name] is evaluation["intervals"][name] is None
    assert evaluation["undefined"]["f1_micro"] == "no label is known to be absent, so no claim can be wrong"
    assert list(chief_figures(evaluation)) == list(FROM_POSITIVES)
    for column, row in enumerate(evaluation["per_class"]):
        assert row["recall"] == pytest.approx((own[columns == column] >= 0.5).mean())


def test_the_rank_of_a_positive_leaves_other_positives_out(multi):
    state, probability = multi
    expected = []
    for row, column in np.argwhere(state == 1):
        others = np.delete(probability[row], np.flatnonzero(state[row] == 1))
        expected.append(1 + (others >= probability[row, column]).sum())
    value = Measures(labels_of(state), probability).value()
    assert value["positive_rank"] == pytest.approx(np.mean(expected))
    assert value["positive_recall"] == pytest.approx(
        reference.recall_score(state, probability >= 0.5, average="micro")
    )
    assert Measures(labels_of(state), state.astype(float)).value()["positive_rank"] == 1


def test_with_one_class_a_scene_the_recall_of_positives_is_the_accuracy(single):
    state, probability, index = single
    value = Measures(labels_of(state, exclusive=True), probability).value()
    assert value["positive_recall"] == value["overall_accuracy"]
    ranks = (probability >= probability[np.arange(400), index][:, None]).sum(axis=1)
    assert value["positive_rank"] == pytest.approx(ranks.mean())


def test_the_threshold_itself_counts_as_claimed():
    state, probability = np.array([[1], [0]], np.int8), np.array([[0.5], [0.4]])
    assert evaluate_probability(state, probability, ["a"], exclusive=False, draws=2)["f1_macro"] == 1
    strict = evaluate_probability(state, probability, ["a"], exclusive=False, threshold=0.6, draws=2)
    assert strict["f1_macro"] == 0
    assert strict["per_class"][0]["precision"] is None


@pytest.mark.parametrize(
    ("probability", "said"),
    [
        (np.full((2, 2), np.nan), "diverged"),
        (np.full((2, 2), 1.5), "sigmoid"),
        (np.full((2, 3), 0.5), r"\(2, 3\)"),
        (np.full(2, 0.5), "shape"),
    ],
)
def test_bad_probabilities_are_refused(probability, said):
    with pytest.raises(InputError, match=said):
        evaluate_probability(np.zeros((2, 2), np.int8), probability, "ab", exclusive=False)


def test_bad_options_and_labels_are_refused():
    state, probability = np.zeros((2, 2), np.int8), np.full((2, 2), 0.5)
    with pytest.raises(InputError, match="threshold"):
        evaluate_probability(state, probability, "ab", exclusive=False, threshold=50)
    with pytest.raises(InputError, match="draws"):
        evaluate_probability(state, probability, "ab", exclusive=False, draws=0)
    with pytest.raises(LabelError, match="present classes"):
        evaluate_probability(state + 1, probability, "ab", exclusive=True)


def test_measures_load_neither_torch_nor_matplotlib():
    code = "import sys, swath.evaluation as e; e.average_precision; print({'torch', 'matplotlib'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
