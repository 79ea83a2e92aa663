"""Tables of images and labels: every dialect; a message with file, line and column for the rest."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from swath.errors import InputError, LabelError, SceneError, SwathError, UnknownNameError
from swath.scenes import open_scenes
from swath.scenes.table import read_table

PLAIN = "image,water,bare soil\na.png,1,\nb.png,0,1\n"
STATE = [[1, -1], [0, 1]]


def parquet(**columns: object) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace(",", ";").encode(),
        PLAIN.replace(",", "\t").encode(),
        PLAIN.rstrip("\n").encode(),
        PLAIN.encode() + b"\n\n",
        b'"image","water","bare soil"\n"a.png","1",""\n"b.png","0","1"\n',
        b" image , water , bare soil \n a.png , 1 ,  \n b.png , 0 , 1 \n",
        b"image,water,bare soil\na.png,1.0,\nb.png,0.0,1.0\n",
        parquet(image=["a.png", "b.png"], water=[1, 0], **{"bare soil": [None, 1]}),
        parquet(image=["a.png", "b.png"], water=[True, False], **{"bare soil": [None, True]}),
        parquet(image=["a.png", "b.png"], water=[1.0, 0.0], **{"bare soil": [float("nan"), 1.0]}),
        parquet(image=["a.png", "b.png"], water=["1", "0"], **{"bare soil": ["", "1"]}),
    ],
)
def test_one_column_per_class_in_every_dialect(content: bytes) -> None:
    table = read_table(content, "labels.csv")
    assert table.images == ["a.png", "b.png"]
    assert table.labels.classes == ("water", "bare soil")
    assert table.labels.state.tolist() == STATE
    assert not table.labels.exclusive


def test_other_names_of_the_image_column_and_a_chosen_one() -> None:
    for name in ("image", "Path", "file", "FILENAME"):
        assert read_table(f"water,{name}\n1,a.png\n".encode(), "t").images == ["a.png"]
    content = b"id_of_patch,water\na.png,1\n"
    assert read_table(content, "t", image_column="id_of_patch").images == ["a.png"]
    with pytest.raises(
        InputError, match=r"t\.csv has no column of images; its columns are id_of_patch, water"
    ):
        read_table(content, "t.csv")
    with pytest.raises(UnknownNameError, match="Did you mean 'id_of_patch'"):
        read_table(content, "t.csv", image_column="id_of_patches")


def test_lists_of_present_labels_leave_the_rest_unknown_unless_they_are_complete() -> None:
    content = "image,labels\na,water|forest\nb,\nc, forest |été\n".encode()
    table = read_table(content, "t")
    assert table.labels.classes == ("forest", "water", "été")
    assert table.labels.state.tolist() == [[1, 1, -1], [-1, -1, -1], [1, -1, 1]]
    complete = read_table(content, "t", complete=True).labels.state
    assert complete.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 1]]
    listed = read_table(parquet(image=["a", "b"], labels=[["water", "forest"], []]), "t")
    assert listed.labels.state.tolist() == [[1, 1], [-1, -1]]


def test_a_single_class_column_excludes_and_may_be_empty() -> None:
    table = read_table(b"image,class\na,water\nb,\nc,field\n", "t")
    assert table.labels.exclusive
    assert table.labels.classes == ("field", "water")
    assert table.labels.class_index.tolist() == [1, -1, 0]
    numbers = read_table(b"image,label\na,10\nb,9\nc,0\n", "t")
    assert numbers.labels.classes == ("0", "9", "10")
    assert not read_table(b"image,label\na,x|y\nb,x\n", "t").labels.exclusive


def test_columns_that_say_something_else_are_carried() -> None:
    content = b"image,scene,Split,x,y,water\na,beach,train,1.5,2,1\nb,port,test,,-3e2,0\n"
    table = read_table(content, "t")
    assert table.labels.classes == ("water",)
    assert table.columns["scene"].tolist() == ["beach", "port"]
    assert table.columns["split"].tolist() == ["train", "test"]
    np.testing.assert_array_equal(table.columns["x"], [1.5, np.nan])
    np.testing.assert_array_equal(table.columns["y"], [2, -300])
    with pytest.raises(InputError, match=r"t\.csv, line 2, column 'x' holds 'west'; expected a number"):
        read_table(b"image,x,water\na,west,1\n", "t.csv")


def test_chosen_label_columns_leave_the_others_alone() -> None:
    content = b"image,water,clouds,note\na,1,7,hello\nb,,3,\n"
    table = read_table(content, "t", label_columns=["water"])
    assert table.labels.classes == ("water",)
    assert table.columns["note"].tolist() == ["hello", ""]
    assert read_table(b"image,kind\na,x\nb,y\n", "t", label_columns=["kind"]).labels.exclusive
    with pytest.raises(UnknownNameError, match=r"label column in t named 'wate'\. Did you mean 'water'"):
        read_table(content, "t", label_columns=["wate"])


def test_confidence_and_source_of_single_labels() -> None:
    content = b"image,water,water.confidence,water.source,field\na,1,0.25,map,0\nb,,,,1\nc,0,,anna,\n"
    labels = read_table(content, "t").labels
    assert labels.classes == ("water", "field")
    assert labels.confidence is not None
    assert labels.confidence[:, 0].tolist() == [0.25, 1, 1]
    assert labels.source is not None
    assert [labels.sources[code] for code in labels.source[:, 0]] == ["map", "unnamed", "anna"]
    with pytest.raises(InputError, match=r"line 2, column 'water\.confidence' holds '1\.5'; .*\[0, 1\]"):
        read_table(b"image,water,water.confidence\na,1,1.5\n", "t")


@pytest.mark.parametrize("value", ["2", "-1", "yes", "0.5", "NA", "nan", "present", "1 0", "１"])
def test_a_value_that_is_no_label_is_named_with_file_line_and_column(value: str) -> None:
    content = f"image,water,forest\na,1,0\n\nb,0,1\nc,1,{value}\n".encode()
    with pytest.raises(LabelError) as caught:
        read_table(content, "folder/labels.csv")
    message = str(caught.value)
    assert "folder/labels.csv, line 5, column 'forest'" in message
    assert repr(value) in message
    assert "1 (present), 0 (absent) or empty" in message
    assert "label_columns" in message


def test_lines_are_counted_through_quoted_line_ends() -> None:
    content = b'image,scene,water\n"a","two\nlines",1\nb,one,x\n'
    with pytest.raises(LabelError, match="line 4, column 'water' holds 'x'"):
        read_table(content, "t.csv")
    with pytest.raises(LabelError, match="row 2, column 'water' holds '3'"):
        read_table(parquet(image=["a", "b"], water=[1, 3]), "t.parquet")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"image,water\n", r"is empty: it has columns \(image, water\) but no row"),
        (b"image,water,water\na,1,0\n", "several columns named 'water'"),
        (b"image,water,\na,1,0\n", "a column without a name"),
        (b"image,water\na,1\nb\n", "cannot be read as CSV"),
        (b"image,water\na,1,0,0\n", "cannot be read as CSV"),
        (b"image,water\na,1\na,0\n", "names the image 'a' in line 2 and in line 3"),
        (b"image,water\nx/a,1\n./x//a,0\n", r"names the image '\./x//a' in line 2 and in line 3"),
        (b"image,water\n,1\n", "line 2: column 'image' names no image"),
        ("image,water\né,1\n".encode("latin-1"), r"is not UTF-8 text \(line 2"),
        ("image,water\na,1\n".encode("utf-16"), "is not UTF-8 text"),
        (b"image\na\n", "has no label column"),
        (b"image,split\na,train\n", "has no label column"),
        (b"image,class,water\na,beach,1\n", "not clear where the labels are"),
        (b"image,class\na,\n", "names no class in any"),
        (b"PAR1 and nothing more", "cannot be read as Parquet"),
        (b"\x00\x01\x02\x03", "."),
    ],
)
def test_what_is_no_table_is_one_clear_error(content: bytes, said: str) -> None:
    with pytest.raises(SwathError, match=said) as caught:
        read_table(content, "some/labels.csv")
    assert "some/labels.csv" in str(caught.value)


def test_many_rows_and_the_line_of_a_late_mistake() -> None:
    rows = [
        f"images/{row:06}.png," + ",".join("10"[(row >> k) & 1] for k in range(17)) for row in range(100_000)
    ]
    head = "image," + ",".join(f"c{k}" for k in range(17))
    table = read_table("\n".join([head, *rows]).encode(), "t")
    assert table.labels.state.shape == (100_000, 17)
    assert table.labels.state[5].tolist() == [int("10"[(5 >> k) & 1]) for k in range(17)]
    rows[99_998] = rows[99_998][:-1] + "9"
    with pytest.raises(LabelError, match="line 100000, column 'c16' holds '9'"):
        read_table("\n".join([head, *rows]).encode(), "t")


def images(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), len(name)).save(path)


def test_a_folder_with_a_table_and_the_table_itself_are_the_same(tmp_path: Path) -> None:
    images(tmp_path, "images/a b.png", "images/ü.png")
    (tmp_path / "labels.csv").write_text("image,water\nimages/ü.png,1\nimages\\a b.png,0\n", encoding="utf-8")
    by_folder, by_table = open_scenes(tmp_path), open_scenes(tmp_path / "labels.csv")
    assert by_folder.fingerprint() == by_table.fingerprint()
    assert by_folder.labels.state.tolist() == [[1], [0]]
    assert by_folder.read(1).shape == (3, 4, 4)
    assert by_folder.columns["path"].tolist() == ["images/ü.png", "images/a b.png"]


def test_images_in_another_folder_and_absolute_paths(tmp_path: Path) -> None:
    images(tmp_path / "elsewhere", "a.png", "b.png")
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "t.csv").write_text("image,water\na.png,1\nb.png,0\n")
    with pytest.raises(SceneError, match=r"None of the 2 .*tables/a\.png does not exist.*images=FOLDER"):
        open_scenes(tables)
    assert len(open_scenes(tables, images=tmp_path / "elsewhere").read(1)) == 3
    (tables / "t.csv").write_text(
        f"image,water\n{tmp_path / 'elsewhere' / 'a.png'},1\n../elsewhere/b.png,0\n"
    )
    assert [len(open_scenes(tables).read(index)) for index in (0, 1)] == [3, 3]


def test_a_missing_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    (tmp_path / "t.csv").write_text("image,water\na.png,1\ngone.png,0\nbad\0name.png,1\n")
    scenes = open_scenes(tmp_path)
    with pytest.raises(SceneError, match=r"gone\.png does not exist"):
        scenes.read(1)
    with pytest.raises(SceneError, match="cannot be opened"):
        scenes.read(2)
    assert isinstance(scenes.fingerprint(), str)


def test_several_tables_ask_for_one(tmp_path: Path) -> None:
    for name in ("a.csv", "b.parquet"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"holds 2 tables \(a\.csv, b\.parquet\)"):
        open_scenes(tmp_path)


@pytest.mark.real_data
def test_uc_merced_has_17_labels_and_carries_the_scene(real_data: Path) -> None:
    scenes = open_scenes(real_data / "ucm-multilabel")
    assert len(scenes) == 2100
    assert len(scenes.labels.classes) == 17
    assert (scenes.labels.state >= 0).all()
    assert round((scenes.labels.state == 1).sum(axis=1).mean(), 2) == 3.33
    assert len(set(scenes.columns["scene"])) == 21
    assert scenes.read(7).dtype == np.uint8
    assert scenes.read(7).shape == (3, 128, 128)
    assert open_scenes(real_data / "ucm-multilabel" / "labels.csv").fingerprint() == scenes.fingerprint()


@given(
    some.one_of(
        some.binary(max_size=80), some.text(alphabet='image,;\t|"\n01.x é', max_size=80).map(str.encode)
    )
)
@settings(max_examples=400)
def test_any_bytes_are_a_table_or_an_error_of_swath(content: bytes) -> None:
    for head in (b"", b"image,water\n", b"image;labels\n", b"PAR1"):
        try:
            table = read_table(head + content, "t.csv")
        except SwathError:
            continue
        assert len(table.images) == len(table.labels) > 0
