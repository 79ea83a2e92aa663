"""Who is asked what: nothing twice unless wanted, nothing lost, and the log alone brings all of it back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swath.errors import InputError, LabelError
from swath.selection.labelling.answers import Answer
from swath.selection.labelling.job import at_random
from swath.selection.labelling.session import HOLD_SECONDS, Session

Make = Callable[..., Session]
Say = Callable[..., Answer]


def first(session: Session, client: str = "a", user: str = "anna") -> str:
    return str(session.view(client, user)["scenes"][0]["name"])


def state(session: Session) -> dict[str, Any]:
    """All that a restart has to bring back; which page held which scene is forgotten on purpose."""
    view = session.view("other", "zoe")
    return {
        "said": {
            position: {user: answer.record() for user, answer in by.items()}
            for position, by in session.answers().items()
        },
        "labelled": session.labelled.tolist(),
        "round": session.round.number,
        "queue": session.round.positions.tolist(),
        "twice": sorted(session.round.twice),
        "view": {key: value for key, value in view.items() if key not in ("scenes", "phase")},
    }


def test_each_scene_is_asked_once_and_the_round_ends(session: Make, said: Say) -> None:
    one = session(5)
    asked = []
    for _ in range(5):
        asked.append(first(one))
        one.answer("a", said(asked[-1], {"water": 1}))
    assert sorted(asked) == [f"{place:03d}.png" for place in range(5)]
    view = one.view("a", "anna")
    assert view["phase"] == "finished"
    assert view["scenes"] == []
    assert view["round"] == {"number": 1, "size": 5, "done": 5}


def test_the_order_follows_from_the_seed(session: Make) -> None:
    order = session(30, seed=3).round.positions
    assert sorted(order.tolist()) == list(range(30))
    np.testing.assert_array_equal(order, at_random(3)(np.zeros(30, bool), 30, 1))
    assert order.tolist() != at_random(4)(np.zeros(30, bool), 30, 1).tolist()


def test_pages_hold_different_scenes(session: Make) -> None:
    one = session(9)
    held = [
        {scene["name"] for scene in one.view(client, user)["scenes"]}
        for client, user in (("a", "anna"), ("b", "ben"), ("c", "anna"))
    ]
    assert [len(names) for names in held] == [3, 3, 3]
    assert len(set.union(*held)) == 9
    assert one.view("d", "dora")["phase"] == "waiting"
    # Asking again changes nothing.
    assert {scene["name"] for scene in one.view("b", "ben")["scenes"]} == held[1]


def test_a_silent_page_loses_its_hold_and_its_late_answer_still_counts(session: Make, said: Say) -> None:
    time = [0.0]
    one = session(2, clock=lambda: time[0])
    held = [scene["name"] for scene in one.view("a", "anna")["scenes"]]
    assert one.view("b", "ben")["phase"] == "waiting"
    time[0] += HOLD_SECONDS + 1
    assert [scene["name"] for scene in one.view("b", "ben")["scenes"]] == held
    one.answer("b", said(held[0], {"water": 1}, user="ben"))
    one.answer("a", said(held[0], {"forest": 1}))
    assert {user: answer.labels for user, answer in one.answers()[one.position(held[0])].items()} == {
        "anna": {"forest": 1},
        "ben": {"water": 1},
    }


def test_an_answer_that_is_sent_twice_counts_once(session: Make, said: Say, tmp_path: Path) -> None:
    one = session(3)
    answer = said(first(one), {"water": 1})
    for _ in range(3):
        one.answer("a", answer)
    lines = (tmp_path / "labels.answers.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["event"] == "answer" for line in lines) == 1


def test_undo_brings_the_scene_back_with_what_was_said(session: Make, said: Say) -> None:
    one = session(4)
    names = []
    for label in ("water", "forest"):
        names.append(first(one))
        one.answer("a", said(names[-1], {label: 1}))
    last = one.view("a", "anna")["undo"]
    assert one.undo("a", "anna", last)
    assert not one.undo("a", "anna", last), "a call that is sent twice counts once"
    view = one.view("a", "anna")
    assert view["scenes"][0]["name"] == names[1]
    assert view["scenes"][0]["before"] == {"labels": {"forest": 1}, "unclear": False}
    assert one.undo("a", "anna", view["undo"])
    assert [scene["name"] for scene in one.view("a", "anna")["scenes"]][:2] == names
    assert one.view("a", "anna")["undo"] is None
    assert one.answers() == {}
    one.answer("a", said(names[0], {"field": 1}))
    assert one.view("a", "anna")["scenes"][0]["name"] == names[1]
    assert not one.undo("b", "ben", one.view("a", "anna")["undo"]), (
        "nobody takes back what another person said"
    )


def test_taking_back_a_changed_mind_brings_back_what_was_said_first(session: Make, said: Say) -> None:
    one = session(3)
    name = first(one)
    one.answer("a", said(name, {"water": 1}))
    second = said(name, {"forest": 1})
    one.answer("tab", second)
    one.undo("a", "anna", second.id)
    assert one.answers()[one.position(name)]["anna"].labels == {"water": 1}


def test_a_restart_brings_everything_back(session: Make, said: Say) -> None:
    options: dict[str, Any] = {"budget": 6, "twice": 0.5, "seed": 4}
    one = session(20, **options)
    for place in range(9):
        user = ("anna", "ben")[place % 2]
        scenes = one.view(user, user)["scenes"]
        if not scenes:
            break
        one.answer(user, said(scenes[0]["name"], {"water": 1} if place % 3 else None, user=user))
        if place == 4:
            one.undo(user, user, one.view(user, user)["undo"])
    before = state(one)
    assert before["said"]
    again = session(20, **options)
    assert state(again) == before
    while not again.full:
        again.answer("c", said(first(again, "c", "carl"), {"field": 1}, user="carl"))
    again.begin_round(np.flatnonzero(~again.labelled)[:6])
    before = state(again)
    # The seed of a later start changes nothing that was decided before.
    assert state(session(20, **(options | {"seed": 9}))) == before


def test_all_in_one_round_comes_back_too_after_budgets(session: Make, said: Say) -> None:
    one = session(10, budget=3)
    while not one.full:
        one.answer("a", said(first(one), {"water": 1}))
    two = session(10, budget=None, seed=5)
    two.begin_round(at_random(5)(two.labelled, two.next_budget(), 2))
    assert two.view("a", "anna")["round"] == {"number": 2, "size": 7, "done": 0}
    assert state(session(10, budget=None, seed=8)) == state(two)


def test_two_people_are_asked_the_wanted_share(session: Make, said: Say) -> None:
    one = session(10, twice=0.3)
    assert len(one.round.twice) == 3
    for user in ("anna", "ben"):
        while scenes := one.view(user, user)["scenes"]:
            one.answer(user, said(scenes[0]["name"], {"water": 1}, user=user))
    answers = one.answers()
    assert len(answers) == 10
    assert {position for position, by in answers.items() if len(by) == 2} == set(one.round.twice)
    found = one.agreement()
    assert found is not None
    assert found["scenes"] == 3


def test_what_the_data_knows_is_not_asked(session: Make) -> None:
    known = np.arange(8) % 2 == 0
    one = session(8, known=known)
    assert sorted(one.round.positions.tolist()) == [1, 3, 5, 7]


@pytest.mark.parametrize("positions", [[0, 0], [99], [-1]])
def test_a_strategy_that_chooses_nonsense_is_said_to(session: Make, positions: list[int]) -> None:
    with pytest.raises(InputError, match="mistake of the strategy"):
        session(3, ask=lambda *_: np.array(positions))


def test_unknown_scenes_and_labels_are_refused(session: Make, said: Say) -> None:
    one = session(3)
    with pytest.raises(LabelError, match="no scene"):
        one.position("../../etc/passwd")
    with pytest.raises(LabelError, match="class 'sea'"):
        one.answer("a", said(first(one), {"sea": 1}))
    assert one.answers() == {}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"names": ["x.png", "y.png"]}, r"line \d+ .*not in images"),
        ({"mode": "full"}, "labelled as 'one-class'"),
        ({"classes": ("forest", "field")}, "class 'water'"),
    ],
)
def test_a_log_of_another_labelling_is_refused(
    session: Make, said: Say, changed: dict[str, Any], reason: str
) -> None:
    one = session(3)
    one.answer("a", said(first(one), {"water": 1}))
    with pytest.raises(InputError, match=reason):
        session(3, **changed)


def test_scenes_and_classes_can_be_added(session: Make, said: Say) -> None:
    one = session(3)
    name = first(one)
    one.answer("a", said(name, {"water": 1}))
    more = session(5, classes=("water", "forest", "field", "sea"))
    assert more.answers()[more.position(name)]["anna"].labels == {"water": 1}
    assert int((~more.labelled).sum()) == 4
    more.answer("a", said("004.png", {"sea": 1}))
    assert more.view("a", "anna")["labelled"] == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"event": "answer", "id": "x"}', "no answer"),
        ('{"event": "dance"}', "'dance'"),
        ('{"event": "undo", "id": "nobody", "user": "anna"}', "not that person's last"),
        ('{"event": "round", "round": "two", "seed": 0, "scenes": null}', "ValueError"),
        ('{"no": "event"}', "KeyError"),
    ],
)
def test_lines_edited_into_nonsense_are_named(
    session: Make, said: Say, tmp_path: Path, line: str, reason: str
) -> None:
    one = session(3)
    one.answer("a", said(first(one), {"water": 1}))
    path = tmp_path / "labels.answers.jsonl"
    content = path.read_text() + line + "\n"
    one.log.close()
    path.write_text(content)
    with pytest.raises(InputError, match=f"line 4 cannot be used.*{reason}"):
        session(3)
    assert path.read_text() == content
