"""Agreement against an independent calculation."""

import numpy as np
import pytest

from swath.randomness import stream
from swath.selection.labelling.agreement import agreement, cohen_kappa
from swath.selection.labelling.answers import Answer

CLASSES = ("water", "forest", "field")


def said(scene: int, user: str, labels: dict[str, int] | None) -> Answer:
    return Answer(f"{scene}{user}", str(scene), user, labels or {}, labels is None, 1, "", 1.0)


def test_kappa_is_scikit_learns() -> None:
    from sklearn.metrics import cohen_kappa_score

    random = stream(0, "kappa test")
    for classes in (2, 3, 7):
        one = random.integers(classes, size=50)
        two = np.where(random.random(50) < 0.7, one, random.integers(classes, size=50))
        assert cohen_kappa(one, two, classes) == pytest.approx(cohen_kappa_score(one, two))


def test_kappa_has_no_value_where_chance_explains_all() -> None:
    assert cohen_kappa([1, 1], [1, 1], 3) is None
    assert cohen_kappa([], [], 3) is None


def test_exclusive_classes() -> None:
    answers = [
        {"anna": said(0, "anna", {"water": 1}), "ben": said(0, "ben", {"water": 1})},
        {"anna": said(1, "anna", {"water": 1}), "ben": said(1, "ben", {"forest": 1})},
        {"anna": said(2, "anna", {"forest": 1}), "ben": said(2, "ben", {"forest": 1})},
        {"anna": said(3, "anna", None), "ben": said(3, "ben", {"field": 1})},  # not compared
        {"anna": said(4, "anna", {"field": 1})},
    ]
    found = agreement(answers, CLASSES, "one-class")
    assert found is not None
    assert found["scenes"] == 3
    assert found["share"] == pytest.approx(2 / 3)
    assert found["pairs"] == [
        {"users": ["anna", "ben"], "scenes": 3, "share": pytest.approx(2 / 3), "kappa": pytest.approx(0.4)}
    ]
    assert found["classes"] == [
        {"name": "water", "compared": 2, "share": 0.5},
        {"name": "forest", "compared": 2, "share": 0.5},
    ]


def test_full_labels_compare_only_what_both_spoke_of() -> None:
    answers = [
        {
            "anna": said(0, "anna", {"water": 1, "forest": 0}),
            "ben": said(0, "ben", {"water": 0, "field": 1}),
            "carl": said(0, "carl", {"water": 1, "forest": 0}),
        }
    ]
    found = agreement(answers, CLASSES, "full")
    assert found is not None
    # water: anna-ben differ, anna-carl agree, ben-carl differ; forest: anna-carl agree.
    assert found["classes"] == [
        {"name": "water", "compared": 3, "share": pytest.approx(1 / 3)},
        {"name": "forest", "compared": 1, "share": 1.0},
    ]
    assert found["share"] == 0.5
    assert [pair["kappa"] for pair in found["pairs"]] == [None, None, None]


def test_nothing_in_common_is_no_agreement() -> None:
    assert agreement([{"anna": said(0, "anna", {"water": 1})}], CLASSES, "full") is None
