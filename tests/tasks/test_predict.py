"""Predicting images that nobody has labelled."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import swath
from swath.errors import ContractError, InputError, OutputError, SceneError
from swath.tasks.prepare import prepare_run
from swath.training.predict import probabilities


def test_files_folders_and_patterns_name_the_same_images(finished_run: Path, table_folder: Path) -> None:
    images = table_folder / "images"
    whole = swath.predict(finished_run, [images])
    assert len(whole) == 90
    assert list(whole.columns) == ["image", "water", "forest", "roof"]
    by_pattern = swath.predict(finished_run, [str(images / "*.png")])
    by_file = swath.predict(finished_run, sorted(images.iterdir()))
    pd.testing.assert_frame_equal(whole, by_pattern)
    pd.testing.assert_frame_equal(whole, by_file)


def test_the_batch_size_changes_nothing(finished_run: Path, table_folder: Path) -> None:
    columns = ["water", "forest", "roof"]
    reference = swath.predict(finished_run, [table_folder / "images"])[columns]
    for batch_size in (1, 7):
        again = swath.predict(finished_run, [table_folder / "images"], batch_size=batch_size)[columns]
        np.testing.assert_allclose(again, reference, atol=1e-5)


def test_predictions_are_those_of_the_evaluation(finished_run: Path, table_folder: Path) -> None:
    run = swath.load_run(finished_run)
    prepared = prepare_run(run)
    expected = probabilities(run.model, prepared.read, np.arange(90))
    found = swath.predict(finished_run, [table_folder / "images"])[["water", "forest", "roof"]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_tables_are_written_whole(finished_run: Path, table_folder: Path, tmp_path: Path, name: str) -> None:
    table = swath.predict(finished_run, [table_folder / "images" / "000.png"], out=tmp_path / name)
    read = pd.read_csv if name.endswith("csv") else pd.read_parquet
    np.testing.assert_allclose(read(tmp_path / name)["water"], table["water"], rtol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_wrong_images_are_refused_by_name(finished_run: Path, table_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"nowhere\.png"):
        swath.predict(finished_run, [tmp_path / "nowhere.png"])
    with pytest.raises(InputError, match=r"csv or \.parquet"):
        swath.predict(finished_run, [table_folder / "images"], out=tmp_path / "table.xlsx")
    Image.new("L", (16, 16), 7).save(tmp_path / "grey.png")
    with pytest.raises(ContractError, match="Missing: red, green, blue"):
        swath.predict(finished_run, [tmp_path / "grey.png"])


def test_an_unreadable_image_stops_or_gets_an_empty_row(
    finished_run: Path, table_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(table_folder / "images" / "000.png", tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SceneError, match=r"b\.png"):
        swath.predict(finished_run, [tmp_path])
    table = swath.predict(finished_run, [tmp_path], skip_unreadable=True)
    assert table["water"].isna().tolist() == [False, True]
    assert table["unreadable"].str.len().gt(0).tolist() == [False, True]


def test_a_folder_that_cannot_be_written_is_named(
    finished_run: Path, table_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=str(tmp_path / "file")):
        swath.predict(finished_run, [table_folder / "images"], out=tmp_path / "file" / "table.csv")
