"""The label table: what was said reads back as exactly that, for `swath train` and for people."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from swath.errors import LabelError
from swath.labels import LabelTable, consensus
from swath.scenes.open import open_scenes
from swath.selection.labelling.answers import Answer
from swath.selection.labelling.session import Session
from swath.selection.labelling.table import LabelFile, check_classes

CLASSES = ("water", "forest", "field")
Make = Callable[..., Session]
Say = Callable[..., Answer]


@pytest.fixture
def label_file(images: Any, session: Make, tmp_path: Path) -> Callable[..., LabelFile]:
    def make(mode: str, state: Any = None, **options: Any) -> LabelFile:
        source = open_scenes(images(6), classes=CLASSES)
        state = np.full((6, 3), -1, np.int8) if state is None else np.array(state, np.int8)
        data = LabelTable(CLASSES, state, exclusive=mode == "one-class")
        names = [str(name) for name in source.columns["path"]]
        known = (state >= 0).any(axis=1)
        one = session(names=names, mode=mode, known=known, **options)
        return LabelFile(tmp_path / "out" / "labels.parquet", source, data, one)  # type: ignore[arg-type]

    return make


def test_one_class_reads_back(label_file: Any, said: Say) -> None:
    file = label_file("one-class")
    file.session.answer("a", said("001.png", {"forest": 1}))
    file.session.answer("a", said("003.png", {"water": 1}))
    file.session.answer("a", said("004.png"))
    assert file.write()
    assert not file.write(), "nothing new"
    scenes = open_scenes(file.path)
    assert len(scenes) == 6
    assert scenes.labels.exclusive
    assert scenes.labels.classes == ("forest", "water")
    assert scenes.labels.class_index.tolist() == [-1, 0, -1, 1, -1, -1]
    assert scenes.labels.sources == ("anna",)
    # The images are found from the table's folder.
    assert scenes.read(1).tobytes() == file.source.read(1).tobytes()


def test_full_labels_read_back_with_unknown_kept_unknown(label_file: Any, said: Say) -> None:
    file = label_file("full")
    file.session.answer("a", said("000.png", {"water": 1, "field": 0}))
    file.session.answer("a", said("005.png", {"forest": 0}))
    file.write()
    scenes = open_scenes(file.path)
    wanted = np.full((6, 3), -1)
    wanted[0] = 1, -1, 0
    wanted[5, 1] = 0
    np.testing.assert_array_equal(scenes.labels.state, wanted)


def test_people_become_votes(label_file: Any, said: Say) -> None:
    file = label_file("one-class")
    for user, labels in (("anna", {"water": 1}), ("ben", {"forest": 1}), ("carl", {"water": 1})):
        file.session.answer("a", said("002.png", labels, user=user))
    file.session.answer("a", said("003.png", {"field": 1}))
    file.write()
    labels = open_scenes(file.path).labels
    assert labels.sources == ("anna", "ben", "carl")
    assert labels.votes is not None
    column = labels.classes.index
    assert labels.votes[2].argmax(axis=1).tolist() == [column("water"), column("forest"), column("water")]
    np.testing.assert_array_equal(
        labels.state, consensus(labels.votes, labels.sources, exclusive=True), "the majority, as everywhere"
    )
    assert labels.class_index[2] == column("water")


def test_what_the_data_knew_stays_with_its_source(label_file: Any, said: Say) -> None:
    state = np.full((6, 3), -1)
    state[0, 1] = 1
    file = label_file("one-positive", state)
    file.session.answer("a", said("001.png", {"water": 1}))
    file.write()
    scenes = open_scenes(file.path)
    np.testing.assert_array_equal(scenes.labels.state[:2], [[-1, 1, -1], [1, -1, -1]])
    assert scenes.labels.sources == ("anna", "data")
    table = pq.read_table(file.path).to_pydict()
    assert table["source"] == ["data", "anna", None, None, None, None]


def test_it_keeps_who_when_how_long_and_what_was_suggested(label_file: Any, said: Say) -> None:
    file = label_file("full")
    answer = said("001.png", {"water": 1}, seconds=2.5, suggested=[("water", 0.75)], round=3)
    file.session.answer("a", answer)
    file.write()
    row = pq.read_table(file.path).to_pylist()[1]
    assert row["source"] == "anna"
    assert row["answer.time"] == answer.at
    assert row["answer.seconds"] == 2.5
    assert row["answer.round"] == 3
    assert json.loads(row["answer.suggested"]) == [["water", 0.75]]
    # None of these is taken for a label.
    assert open_scenes(file.path).labels.classes == CLASSES


def test_only_known_scenes_for_methods_that_need_no_others(
    label_file: Any, said: Say, tmp_path: Path
) -> None:
    file = label_file("one-class")
    file.session.answer("a", said("004.png", {"water": 1}))
    file.session.answer("a", said("001.png"))
    file.write_to(tmp_path / "some.parquet", tmp_path, only_known=True)
    assert pq.read_table(tmp_path / "some.parquet")["image"].to_pylist() == ["images/004.png"]


def test_somebody_elses_table_is_kept(label_file: Any, said: Say, session: Make) -> None:
    file = label_file("one-class")
    file.session.answer("a", said("001.png", {"water": 1}))
    file.write()
    file.session.answer("a", said("002.png", {"water": 1}))
    file.write()
    assert list(file.path.parent.iterdir()) == [file.path], "our own older table is replaced"
    again = label_file("one-class")  # a restart knows what was written before
    again.session.answer("a", said("003.png", {"water": 1}))
    again.write()
    assert list(file.path.parent.iterdir()) == [file.path]
    file.path.write_bytes(b"edited by hand")
    again.session.answer("a", said("004.png", {"water": 1}))
    again.write()
    assert (file.path.parent / "labels.kept-1.parquet").read_bytes() == b"edited by hand"
    assert "labels.kept-1.parquet" in again.session.messages[0]
    assert len(open_scenes(file.path)) == 6


@pytest.mark.parametrize(
    ("classes", "mode", "reason"),
    [
        ([], "full", "expected names"),
        (["water", ""], "one-class", "expected names"),
        (["a", "a"], "one-class", "more than once"),
        (["a|b"], "one-class", "separates classes"),
        (["Image"], "full", "'Image' is not read as a class"),
        (["region"], "one-positive", "'region'"),
        (["answer.time"], "full", "'answer.time'"),
        (["a\x00"], "full", "expected names"),
    ],
)
def test_class_names_that_a_table_cannot_hold(classes: list[str], mode: Any, reason: str) -> None:
    with pytest.raises(LabelError, match=reason):
        check_classes(classes, mode)


def test_any_name_will_do_where_classes_stand_in_one_column() -> None:
    check_classes(["image", "<b>city</b>", "{{ 7 * 7 }}", "水"], "one-class")
