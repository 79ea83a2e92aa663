"""Several methods and seeds in one table, that goes on where it was."""

import json
from pathlib import Path

import pytest

import swath
from swath.errors import InputError, UnknownNameError

OPTIONS = {"methods": "all-known,assume-negative", "seeds": "0,1", "size": 16, "epochs": 1}


def test_the_table_has_a_row_for_each_method_and_seed(table_folder: Path, tmp_path: Path) -> None:
    comparison = swath.compare(table_folder, out=tmp_path, **OPTIONS)
    rows = json.loads((tmp_path / "summary.json").read_text())["rows"]
    assert rows == comparison.rows
    assert {(row["method"], row["seed"]) for row in rows} == {
        (method, seed) for method in ("all-known", "assume-negative") for seed in (0, 1)
    }
    assert all({"map_macro", "f1_macro", "overall_accuracy", "seconds"} <= row.keys() for row in rows)
    assert comparison.report.is_file()
    for method in ("all-known", "assume-negative"):
        assert method in comparison.table


def test_the_ceiling_knows_all_labels_and_the_floor_one_a_scene(table_folder: Path, tmp_path: Path) -> None:
    swath.compare(table_folder, out=tmp_path, **OPTIONS)
    for method, known in (("all-known", 3), ("assume-negative", 1)):
        scenes = swath.load_run(tmp_path / f"{method}-0").scenes
        states = scenes.loc[
            scenes["part"] == "train", ["label:water", "label:forest", "label:roof"]
        ].to_numpy()
        assert set((states >= 0).sum(axis=1)) == {known}
    parts = [
        swath.load_run(tmp_path / f"{method}-0").scenes["part"] for method in ("all-known", "assume-negative")
    ]
    assert parts[0].equals(parts[1])  # the same split for all


def test_finished_runs_are_kept_and_other_options_are_refused(table_folder: Path, tmp_path: Path) -> None:
    swath.compare(table_folder, out=tmp_path, **OPTIONS)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")}
    assert len(before) == 4
    rows = swath.compare(table_folder, out=tmp_path, **{**OPTIONS, "seeds": "0,1,2"}).rows
    assert len(rows) == 6
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(InputError, match="was made with epochs = 1; this comparison asks for 2"):
        swath.compare(table_folder, out=tmp_path, **{**OPTIONS, "epochs": 2})


def test_wrong_names_and_seeds_are_said_before_anything_is_trained(
    table_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'assume-negative'"):
        swath.compare(table_folder, out=tmp_path / "c", methods="all-known,asume-negative")
    with pytest.raises(InputError, match="whole numbers"):
        swath.compare(table_folder, out=tmp_path / "c", seeds="0,one")
    with pytest.raises(InputError, match="at least one"):
        swath.compare(table_folder, out=tmp_path / "c", seeds="")
    assert not (tmp_path / "c").exists()
