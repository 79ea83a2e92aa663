"""Transition matrices: counted by hand, read from files, and refused when they are none."""

import json
from pathlib import Path

import numpy as np
import pytest

from swath.errors import InputError, LabelError, SwathError, UnknownNameError
from swath.labels import LabelTable, lose
from swath.labels.flipping import class_rates
from swath.labels.transitions import (
    check_said,
    check_transition,
    confusion_counts,
    estimated_rows,
    read_transitions,
    transition_shape,
)

SINGLE = LabelTable.from_class_index(("field", "water"), [0, 1])
MULTI = LabelTable(("field", "water"), np.array([[1, 0]]))


def test_counts_are_those_of_a_loop() -> None:
    random = np.random.default_rng(0)
    index = random.integers(-1, 3, (60, 4))
    votes = np.where(index[..., None] >= 0, index[..., None] == np.arange(3), -1).astype(np.int8)
    names = ("p", "q", "r", "s")
    table = LabelTable(tuple("abc"), votes[:, 0], True, votes=votes, sources=names)
    counts = confusion_counts(table, 2)
    expected = np.zeros((4, 3, 3))
    for row in index:
        for source in range(4):
            if row[2] >= 0 and row[source] >= 0:
                expected[source, row[2], row[source]] += 1
    np.testing.assert_array_equal(counts, expected)
    states = random.integers(-2, 2, (60, 4, 3)).astype(np.int8)
    several = LabelTable(tuple("abc"), states[:, 0], votes=states, sources=names)
    expected = np.zeros((4, 3, 2, 2))
    for scene in states:
        for source in range(4):
            for column in range(3):
                true, said = scene[1, column], scene[source, column]
                if true >= 0 and said >= 0:
                    expected[source, column, true, said] += 1
    np.testing.assert_array_equal(confusion_counts(several, 1), expected)


def test_the_overlap_shows_the_errors_that_were_simulated() -> None:
    truth = LabelTable.from_class_index(tuple("abcd"), np.random.default_rng(0).integers(0, 4, 20_000))
    given = lose(truth, "weak-class:0.5/0.4", 7)
    from swath.randomness import stream

    simulated = class_rates(truth, 0.4, stream(7, "label draw", 0))
    estimated = estimated_rows(confusion_counts(given, 0)[1])
    np.testing.assert_allclose(estimated, simulated, atol=0.03)
    np.testing.assert_allclose(estimated.sum(axis=1), 1)


def drawn_counts(rates: np.ndarray, scenes: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.stack([random.multinomial(scenes, row) for row in rates]).astype(float)


def test_rows_that_err_alike_are_estimated_from_all_of_them() -> None:
    classes, scenes = 10, 21
    alike = np.full((classes, classes), 0.5 / 9)
    np.fill_diagonal(alike, 0.5)
    differing = class_rates(
        LabelTable.from_class_index(tuple("abcdefghij"), np.arange(10)), 0.5, np.random.default_rng(0)
    )
    for rates, at_most in ((alike, 0.3), (differing, 1.05)):
        ours, plain = 0.0, 0.0
        for seed in range(20):
            counts = drawn_counts(rates, scenes, seed)
            ours += np.abs(estimated_rows(counts) - rates).sum()
            plain += np.abs(counts / scenes - rates).sum()
        assert ours < at_most * plain


def test_the_weight_of_what_rows_share_is_the_most_probable_one() -> None:
    counts = drawn_counts(np.array([[0.9, 0.05, 0.05], [0.3, 0.6, 0.1], [0.1, 0.2, 0.7]]), 40, 0)
    found, total = estimated_rows(counts), counts.sum()
    share = (np.trace(counts) + 1 / 3) / (total + 1)
    prior = np.full((3, 3), (1 - share) / 2) + (share - (1 - share) / 2) * np.eye(3)
    # The weight that explains each entry: found = (count + a prior) / (row + a).
    weight = (counts - found * counts.sum(axis=1, keepdims=True)) / (found - prior)
    a = float(np.median(weight))
    np.testing.assert_allclose(weight, a, rtol=1e-6)

    def evidence(value: float) -> float:
        # Row by row as a chain of single draws (Polya's urn), without any gamma function.
        log = 0.0
        for row, rates in zip(counts, prior, strict=True):
            drawn = 0
            for count, rate in zip(row, rates, strict=True):
                for already in range(int(count)):
                    log += np.log((value * rate + already) / (value + drawn))
                    drawn += 1
        return log

    assert all(evidence(a) > evidence(other) for other in (0.5 * a, 0.9 * a, 1.1 * a, 2 * a))


def test_rows_without_scenes_get_what_the_others_share_and_many_scenes_speak_for_themselves() -> None:
    rows = estimated_rows(np.array([[80.0, 20.0, 0.0], [0.0, 0.0, 0.0], [10.0, 0.0, 90.0]]))
    assert rows[1].argmax() == 1
    assert 0.6 < rows[1, 1] < 0.9
    assert (rows > 0).all()
    many = np.array([[9e6, 1e6], [4e6, 6e6]])
    np.testing.assert_allclose(estimated_rows(many), [[0.9, 0.1], [0.4, 0.6]], atol=1e-3)
    both = estimated_rows(np.array([[[90.0, 10.0], [30.0, 70.0]], [[8.0, 2.0], [0.0, 0.0]]]))
    np.testing.assert_allclose(both.sum(axis=-1), 1)
    assert both[1, 1, 1] == pytest.approx(0.7, abs=0.02)  # from the other class' row for present


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1, 0]], r"shape \(2, 2\) .*given one of shape \(1, 2\)"),
        ([[1, 0], [1]], "lists that are none"),
        ([["1", "0"], ["0", "1"]], "lists that are none"),
        ([[True, False], [False, True]], "lists that are none"),
        ({"a": 1}, "lists that are none"),
        (None, "lists that are none"),
        ([[1.1, -0.1], [0, 1]], r"\[-0.1\]"),
        ([[float("nan"), 1], [0, 1]], "nan"),
        ([[float("inf"), 1], [0, 1]], "infinity"),
        ([[0.9, 0.2], [0, 1]], "row 0 sums to 1.1"),
        ([[1, 0], [0.5, 0.4]], "row 1 sums to 0.9"),
    ],
)
def test_what_is_no_transition_matrix_is_refused(matrix: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_transition(matrix, (2, 2), "map")
    assert "'map'" in str(caught.value)


def test_rounded_rows_are_made_to_sum_to_one() -> None:
    thirds = check_transition([[0.333, 0.333, 0.333]] * 3, (3, 3), "map")
    np.testing.assert_allclose(thirds, 1 / 3)
    with pytest.raises(InputError, match=r"row 1, 0 sums to 0\.8"):
        check_transition([[[1, 0], [0, 1]], [[0.7, 0.1], [0, 1]]], (2, 2, 2), "map")


def test_files_are_read_as_data(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"map": [[0.9, 0.1], [0.2, 0.8]]}))
    found = read_transitions(path, SINGLE)
    assert check_transition(found["map"], transition_shape(SINGLE), "map")[1, 0] == pytest.approx(0.2)
    table = tmp_path / "m.csv"
    table.write_text(
        "source,true,said,probability\nmap,water,water,0.75\nmap,water,field,0.25\nmap,field,field,1\n"
    )
    matrix = check_transition(read_transitions(table, SINGLE)["map"], (2, 2), "map")
    assert matrix.tolist() == [[1, 0], [0.25, 0.75]]
    table.write_text(
        "source,class,true,said,probability\n"
        + "".join(f"map,{name},{k},{k},1\n" for name in ("field", "water") for k in (0, 1))
    )
    matrix = check_transition(read_transitions(table, MULTI)["map"], (2, 2, 2), "map")
    np.testing.assert_array_equal(matrix, [np.eye(2)] * 2)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("m.json", b"{", InputError),
        ("m.json", b"[1]", InputError),
        ("m.json", b"[" * 100_000, InputError),
        ("m.json", b"\xff\xfe\x00", InputError),
        ("m.csv", b"", InputError),
        ("m.csv", b"source,true,said\nmap,water,water\n", InputError),
        ("m.csv", b"source,true,said,probability\nmap,water,sea,1\n", UnknownNameError),
        ("m.csv", b"source,true,said,probability\nmap,water\n", SwathError),
        ("m.csv", b"source,true,said,probability\nmap,water,water,much\n", InputError),
        (
            "m.csv",
            b"source,true,said,probability\nmap,water,water,1\nmap,water,water,1\n",
            InputError,
        ),
        ("m.csv", b"source,true,said,probability\nmap,wa\0ter,water,1\n", SwathError),
    ],
)
def test_broken_files_are_one_clear_error(
    tmp_path: Path, name: str, content: bytes, kind: type[SwathError]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(kind, match=r"m\.(json|csv)"):
        read_transitions(path, SINGLE)
    with pytest.raises(InputError, match="cannot be read"):
        read_transitions(tmp_path / "gone.json", SINGLE)


def test_a_source_cannot_have_said_what_its_matrix_excludes() -> None:
    votes = np.array([[[1, 0]], [[0, 1]]], np.int8)
    single = LabelTable(("field", "water"), votes[:, 0], True, votes=votes, sources=("map",))
    check_said(single, 0, np.eye(2))
    with pytest.raises(LabelError, match="never says what it says of water"):
        check_said(single, 0, np.array([[1.0, 0], [1, 0]]))
    several = LabelTable(("field", "water"), votes[:, 0], votes=votes, sources=("map",))
    check_said(several, 0, np.stack([np.eye(2)] * 2))
    with pytest.raises(LabelError, match="of field"):
        check_said(several, 0, np.stack([[[0.0, 1], [0, 1]], np.eye(2)]))
