"""Tables in which several sources label the same images, and tables with another model's scores."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from swath.errors import InputError, LabelError, SwathError
from swath.labels import consensus
from swath.scenes.table import read_table

LONG = b"""image,class,source,split
a.png,water,anna,train
b.png,field,anna,test
a.png,field,ben,train
./a.png,water,carl,
c.png,,,train
b.png,water,ben,test
"""


def test_one_row_for_each_source_of_an_image_becomes_votes() -> None:
    table = read_table(LONG, "t.csv")
    labels = table.labels
    assert table.images == ["a.png", "b.png", "c.png"]
    assert labels.exclusive
    assert labels.classes == ("field", "water")
    assert labels.sources == ("anna", "ben", "carl")
    assert labels.source is None
    unsaid = [-1, -1]
    assert labels.votes is not None
    assert labels.votes.tolist() == [
        [[0, 1], [1, 0], [0, 1]],
        [[1, 0], [0, 1], unsaid],
        [unsaid, unsaid, unsaid],
    ]
    # Two of three say water; one against one is a tie; nobody spoke.
    assert labels.class_index.tolist() == [1, -1, -1]
    assert table.columns["split"].tolist() == ["train", "test", "train"]
    assert "source" not in table.columns


def test_a_source_named_reliable_decides() -> None:
    table = read_table(LONG.replace(b"ben", b"reliable"), "t.csv").labels
    assert table.class_index.tolist() == [0, 1, -1]


def test_one_column_per_class_keeps_what_each_said_of_each() -> None:
    content = b"image,water,forest,annotator\na,1,,2\na,0,1,10\na,0,0,1\nb,1,0,2\n"
    labels = read_table(content, "t").labels
    assert labels.sources == ("1", "2", "10")
    assert labels.votes is not None
    assert labels.votes[0].tolist() == [[0, 0], [1, -1], [0, 1]]
    assert labels.votes[1].tolist() == [[-1, -1], [1, 0], [-1, -1]]
    assert labels.state.tolist() == [[0, -1], [1, 0]]
    file = io.BytesIO()
    columns = {"image": ["a", "a"], "water": [1, 0], "source": [7, 8]}
    pyarrow.parquet.write_table(pa.table(columns), file)
    assert read_table(file.getvalue(), "t").labels.sources == ("7", "8")


def test_lists_of_labels_may_come_from_several_sources() -> None:
    content = b"image,labels,source\na,water|field,x\na,water,y\n"
    labels = read_table(content, "t").labels
    assert labels.state.tolist() == [[1, 1]]
    labels = read_table(content, "t", complete=True).labels
    assert labels.classes == ("field", "water")
    assert labels.state.tolist() == [[-1, 1]]


def test_one_source_per_image_stays_beside_its_labels() -> None:
    labels = read_table(b"image,class,source\na,x,map\nb,y,eye\nc,,\n", "t").labels
    assert labels.votes is None
    assert labels.sources == ("eye", "map")
    assert labels.source is not None
    assert labels.source[:2].tolist() == [[1, 1], [0, 0]]
    assert labels.class_index.tolist() == [0, 1, -1]
    # Said in either way, it is the same.
    assert labels.said().tolist() == [[[-1, -1], [1, 0]], [[0, 1], [-1, -1]], [[-1, -1], [-1, -1]]]


def test_unnamed_is_a_source_only_where_a_label_has_no_other() -> None:
    labels = read_table(b"image,water,water.source\na,1,map\nb,,\nc,0,eye\n", "t").labels
    assert labels.sources == ("eye", "map")
    assert labels.source is not None
    assert labels.source[[0, 2], 0].tolist() == [1, 0]
    labels = read_table(b"image,water,water.source\na,1,map\nb,0,\n", "t").labels
    assert labels.sources == ("unnamed", "map")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"image,class,source\na,x,anna\nb,y,anna\n./a,y,anna\n",
            r"names the image '\./a' in line 2 and in line 4, both times with the source 'anna'",
        ),
        (b"image,class,source\na,x,anna\na,y,\n", "line 3, column 'source' does not say who"),
        (b"image,class,source\na,x,\nb,y,\n", r"line 2, .*does not say who .*\(2 such rows\)"),
        (
            b"image,class,source\na,x,one\na,,\na,,\n",
            "in line 3 and in line 4, both times with the source ''",
        ),
        (b"image,class,source,annotator\na,x,map,anna\n", "'source' and 'annotator'"),
        (b"image,water,water.source,source\na,1,map,anna\n", r"columns such as 'water\.source'"),
        (b"image,water,water.confidence,source\na,1,0.5,x\na,0,,y\n", "confidences and several rows"),
        (
            b"image,class,source,city\na,x,anna,Rome\na,x,ben,Oslo\n",
            "column 'city' says 'Rome' of the image 'a' in line 2 and 'Oslo' in line 3",
        ),
        (b"image,source\na,anna\n", "has no label column"),
        (b"image,class,source\n,x,anna\n", "line 2: column 'image' names no image"),
        (b"image,class\na,x\na,y\n", "add a column 'source' that says who"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(content: bytes, said: str) -> None:
    with pytest.raises((LabelError, InputError), match=said) as caught:
        read_table(content, "some/labels.csv")
    assert "some/labels.csv" in str(caught.value)


def test_a_column_that_differs_in_every_row_is_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swath.scenes.rows.MOST_VOTES", 1000)
    rows = "".join(f"{k % 20},{'xy'[k % 2]},file-{k}\n" for k in range(40))
    with pytest.raises(LabelError, match="names 40 sources of 20 images"):
        read_table(f"image,class,source\n{rows}".encode(), "t")


def test_a_class_may_be_called_source_if_it_is_named() -> None:
    table = read_table(b"image,source,sink\na,1,0\nb,0,1\n", "t", label_columns=["source", "sink"])
    assert table.labels.classes == ("source", "sink")
    assert table.labels.source is None
    # Named label columns leave the column of sources in its place.
    labels = read_table(b"image,kind,annotator\na,x,1\na,y,2\nb,x,1\n", "t", label_columns=["kind"]).labels
    assert labels.votes is not None


def test_scores_stand_beside_every_form_of_labels() -> None:
    for head, row in (("water,field", "1,"), ("labels", "water"), ("class", "water")):
        second = "0,1" if head == "water,field" else "field"
        content = f"image,{head},water.score,field.score,note.score\na,{row},0.25,-3,7\nb,{second},1,1e3,8\n"
        table = (
            read_table(content.encode(), "t")
            if "," not in head
            else read_table(
                content.replace(",note.score", "").replace(",7\n", "\n").replace(",8\n", "\n").encode(), "t"
            )
        )
        scores = table.labels.scores
        assert scores is not None
        assert scores[:, table.labels.classes.index("water")].tolist() == [0.25, 1]
        assert scores[:, table.labels.classes.index("field")].tolist() == [-3, 1000]
        assert set(table.columns) == (set() if "," in head else {"note.score"})


def test_scores_of_several_rows_agree() -> None:
    content = b"image,class,source,x.score,y.score\na,x,1,0.5,0.1\na,y,2,,0.1\nb,y,1,2,3\n"
    labels = read_table(content, "t").labels
    assert labels.scores is not None
    np.testing.assert_allclose(labels.scores, [[0.5, 0.1], [2, 3]])
    with pytest.raises(InputError, match=r"'x\.score' says '0\.5' .* in line 2 and '0\.6' in line 3"):
        read_table(content.replace(b"2,,0.1", b"2,0.6,0.1"), "t")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"image,water,field,water.score\na,1,0,2\n", r"scores for 1 of 2 classes; .*'field\.score'"),
        (b"image,water,water.score\na,1,2\nb,0,\n", r"no finite number for the image 'b' \(1 such images\)"),
        (b"image,water,water.score\na,1,inf\nb,0,1e300\n", r"image 'a' \(2 such images\)"),
        (b"image,water,water.score\na,1,much\n", r"line 2, column 'water\.score' holds 'much'"),
    ],
)
def test_scores_are_whole_and_finite(content: bytes, said: str) -> None:
    with pytest.raises((LabelError, InputError), match=said):
        read_table(content, "t")


@given(
    some.lists(
        some.tuples(
            some.sampled_from("abc"), some.sampled_from("xyz"), some.sampled_from(["u", "v", "w", ""])
        ),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=200)
def test_votes_are_what_stands_in_the_rows(rows: list[tuple[str, str, str]]) -> None:
    content = "image,class,source\n" + "".join(f"{image},{name},{who}\n" for image, name, who in rows)
    try:
        table = read_table(content.encode(), "t")
    except SwathError:
        repeated = len({(image, who) for image, _, who in rows}) < len(rows)
        assert repeated or any(not who for _, _, who in rows)
        return
    said = table.labels.said()
    for image, name, who in rows:
        vote = said[table.images.index(image), table.labels.sources.index(who)]
        assert table.labels.classes[vote.argmax()] == name
    assert (said == 1).sum() == len(rows)
    state = consensus(said, table.labels.sources, exclusive=True)
    np.testing.assert_array_equal(state, table.labels.state)
