"""Training from a table of labelled scenes: nothing else is known, and tables of other data or nonsense are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import swath
from swath.errors import InputError, LabelError, UnknownNameError

OPTIONS: dict[str, Any] = {"encoder": "small_resnet", "size": 16, "epochs": 2, "seed": 3}


def written(where: Path, **columns: Any) -> str:
    table = pd.DataFrame(columns)
    if where.suffix == ".parquet":
        table.to_parquet(where, index=False)
    else:
        table.to_csv(where, index=False)
    return str(where)


@pytest.fixture(scope="module")
def train_rows(finished_run: Path) -> list[int]:
    """The rows that are training scenes with this seed."""
    scenes = swath.load_run(finished_run).scenes
    return [int(row) for row in scenes["row"][scenes["part"] == "train"]]


def name(row: int) -> str:
    return f"images/{row:03d}.png"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_only_the_named_scenes_are_known(
    table_folder: Path, train_rows: list[int], tmp_path: Path, kind: str
) -> None:
    rows = train_rows[5:17]
    scenes = swath.open_scenes(table_folder)
    table = written(tmp_path / f"some.{kind}", row=rows, scene=[scenes.describe(row) for row in rows])
    run = swath.train(table_folder, out=tmp_path / "run", method="all-known", labelled=table, **OPTIONS)
    given = run.scenes.filter(like="label:").to_numpy()
    np.testing.assert_array_equal(given[rows], scenes.labels.state[rows])
    assert (given >= 0).sum() == 36
    assert run.card["lost"]["how"] == "labels of 12 scenes"
    assert run.config["labelled"] == table
    # The same run again from its settings; and what is hidden changes nothing.
    source = swath.open_scenes(table_folder)
    state = source.labels.state.copy()
    hidden = np.setdiff1d(train_rows, rows)
    state[hidden] = 1 - state[hidden]
    split = run.scenes["part"].to_numpy().astype(str)
    both = []
    for labels in (source.labels, source.labels.with_state(state)):
        source.labels, source.columns = labels, {**source.columns, "split": split}
        found = swath.train(
            source, out=tmp_path / f"{len(both)}", method="all-known", labelled=table, **OPTIONS
        )
        both.append(load_file(found.folder / "model.safetensors"))
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])


def test_losing_labels_comes_after_it_and_validation_is_as_ignorant(
    table_folder: Path, train_rows: list[int], tmp_path: Path
) -> None:
    scenes = swath.open_scenes(table_folder)
    table = written(tmp_path / "all.csv", row=train_rows, scene=[scenes.describe(row) for row in train_rows])
    options = {**OPTIONS, "method": "assume-negative", "draw": "single-positive-random"}
    run = swath.train(table_folder, out=tmp_path / "a", labelled=table, validation_share=0.2, **options)
    assert run.card["lost"]["how"] == f"labels of {len(train_rows)} scenes + single-positive-random"
    assert (run.scenes.filter(like="label:").to_numpy() == 0).sum() == 0
    validation = [int(row) for row in run.scenes["row"][run.scenes["part"] == "validation"]]
    kept = [row for row in train_rows if row not in validation]
    table = written(tmp_path / "kept.csv", row=kept, scene=[scenes.describe(row) for row in kept])
    with pytest.raises(InputError, match="names none of the 15 validation scenes"):
        swath.train(table_folder, out=tmp_path / "b", labelled=table, validation_share=0.2, **options)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"row": [0]}, "expected at least one row, and the columns row and scene"),
        ({"row": [], "scene": []}, "has 0 rows"),
        ({"row": ["a"], "scene": [name(0)]}, "something else than whole numbers"),
        ({"row": [1.5], "scene": [name(0)]}, "something else than whole numbers"),
        ({"row": [4, 4], "scene": [name(4)] * 2}, "row 4 more than once"),
        ({"row": [4], "scene": [name(5)]}, "of another data set: it names 'images/005.png' in row 4"),
        ({"row": [400], "scene": [name(4)]}, "has only 90 scenes"),
        ({"row": [-1], "scene": [name(89)]}, "has only 90 scenes"),
    ],
)
def test_tables_that_are_none_are_refused(
    table_folder: Path, tmp_path: Path, columns: dict[str, Any], words: str
) -> None:
    table = written(tmp_path / "table.csv", **columns)
    with pytest.raises(InputError, match=words):
        swath.train(table_folder, out=tmp_path / "run", method="all-known", labelled=table, **OPTIONS)
    assert not (tmp_path / "run").exists()


def test_a_test_scene_an_unknown_class_and_a_contradiction_are_refused(
    table_folder: Path, train_rows: list[int], tmp_path: Path
) -> None:
    scenes = swath.open_scenes(table_folder)
    tested = next(row for row in range(90) if row not in train_rows)
    lacking = next(row for row in train_rows if scenes.labels.column("water")[row] == 0)
    options = {**OPTIONS, "method": "adagc"}
    for error, row, more, words in (
        (InputError, tested, {}, "it is a test scene"),
        (UnknownNameError, train_rows[0], {"class": ["watre"]}, "Did you mean 'water'"),
        (LabelError, lacking, {"class": ["water"]}, "says that it is absent"),
        (LabelError, train_rows[0], {"class": [""]}, "nothing to learn from"),
    ):
        table = written(tmp_path / "table.csv", row=[row], scene=[scenes.describe(row)], **more)
        with pytest.raises(error, match=words):
            swath.train(table_folder, out=tmp_path / "run", labelled=table, **options)
    for content in (b"", b"\xff\xfe\x00bad", b"PAR1 not parquet"):
        for kind in ("csv", "parquet"):
            (tmp_path / f"bad.{kind}").write_bytes(content)
            with pytest.raises(InputError):
                swath.train(
                    table_folder, out=tmp_path / "run", labelled=str(tmp_path / f"bad.{kind}"), **options
                )
    with pytest.raises(InputError, match="cannot be read"):
        swath.train(table_folder, out=tmp_path / "run", labelled=str(tmp_path / "nowhere.csv"), **options)
