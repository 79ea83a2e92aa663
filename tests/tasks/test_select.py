"""From a data set to a selection, its report, and a training on what it keeps."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

import swath
from swath.cli import main
from swath.errors import InputError, LabelError, OutputError, RunError, UnknownNameError
from swath.selection.file import read_selection
from swath.tasks.duplicates import duplicates
from swath.training.dynamics import load_dynamics

OPTIONS = {"size": 16, "epochs": 4, "batch_size": 16, "encoder": "small_resnet"}


@pytest.fixture(scope="module")
def recorded(class_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with training dynamics, on 60 scenes of three classes."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    swath.train(class_folder, out=folder, method="cross-entropy", record_dynamics=True, **OPTIONS)
    return folder


def test_the_pool_is_the_training_part_that_the_same_options_make(
    class_folder: Path, recorded: Path, tmp_path: Path
) -> None:
    chosen = swath.select(class_folder, keep="25%", by="balanced", size=16, out=tmp_path / "a.parquet")
    scenes = swath.load_run(recorded).scenes
    train = scenes[scenes["part"] == "train"]
    assert chosen.selection.table["index"].tolist() == train["row"].tolist()
    # The run names scenes by their whole path, the selection by the path inside the data.
    inside = [Path(name).relative_to(class_folder).as_posix() for name in train["scene"]]
    assert chosen.selection.table["scene"].tolist() == inside
    assert len(chosen.selection.kept) == round(0.25 * len(train))
    of_run = swath.select(run=str(recorded), keep=12, by="random", out=tmp_path / "b.parquet")
    assert of_run.selection.table["index"].tolist() == train["row"].tolist()
    moved = swath.select(
        class_folder, keep=12, by="random", size=16, split_seed=9, out=tmp_path / "c.parquet"
    )
    assert moved.selection.table["index"].tolist() != train["row"].tolist()


@pytest.mark.parametrize(
    "by",
    ["rs-prune", "tdds", "el2n", "forgetting", "entropy", "aum", "ccs", "herding", "moderate", "k-centre"],
)
def test_a_run_gives_features_and_dynamics(recorded: Path, tmp_path: Path, by: str) -> None:
    options = {"epochs": 4, "window": 4} if by == "tdds" else None
    chosen = swath.select(run=str(recorded), keep=10, by=by, by_options=options, out=tmp_path / "s.parquet")
    table = read_selection(tmp_path / "s.parquet").table
    assert table["kept"].sum() == 10
    pd.testing.assert_frame_equal(table, chosen.selection.table, check_dtype=False)
    page = chosen.report.read_text()
    assert page.count("<img") >= 16
    assert "http" not in page.split("</style>")[1]


def test_how_many_labels_the_training_contradicted_is_said(
    class_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "s.parquet"
    options = {"method": "cross-entropy", "epochs": 12, "size": 16, "batch_size": 8, "learning_rate": 5e-3}
    options |= {"encoder": "small_resnet", "draw": "flip-uniform:0.2", "record_dynamics": True}
    found = swath.train(class_folder, out=run, **options)
    correct = load_dynamics(run).correct
    contradicted = (correct[:, -3:] == 0).all(axis=1)
    assert 0 < contradicted.mean() < 1
    assert len(correct) == (found.scenes["part"] == "train").sum()
    for by in ("aum", "k-centre"):
        assert main(["select", "--run", str(run), "--keep", "25%", "--by", by, "--out", str(out)]) == 0
        kept = read_selection(out).table["kept"].to_numpy()
        shares = [f"{100 * part.mean():.1f}%" for part in (contradicted[kept], contradicted)]
        said = "hard, or wrongly labelled: {} of what is kept, {} of all".format(*shares)
        assert said in capsys.readouterr().out
        page = out.with_suffix(".html").read_text()
        assert f"for {shares[0].replace('%', chr(160) + '%')} of what is kept" in page
    # Without a record of the training nothing is claimed.
    swath.select(class_folder, keep="25%", by="random", size=16, out=out)
    assert "contradicted" not in out.with_suffix(".html").read_text()


def test_training_on_a_selection_leaves_the_test_scenes_as_they_are(
    recorded: Path, class_folder: Path, tmp_path: Path
) -> None:
    chosen = swath.select(run=str(recorded), keep="50%", by="k-centre", out=tmp_path / "s.parquet")
    run = swath.train(
        class_folder, out=tmp_path / "run", method="cross-entropy", only=str(chosen.path), **OPTIONS
    )
    before, after = swath.load_run(recorded).scenes, run.scenes
    assert (before["part"] == "test").equals(after["part"] == "test")
    trained = after.loc[after["part"] == "train", "row"].tolist()
    assert trained == sorted(chosen.selection.kept.tolist())
    assert run.card["only"]["by"] == "k-centre"
    assert run.card["only"]["trained on"] == len(trained)
    assert "k-centre kept" in run.card["split"]
    again = swath.evaluate(run.folder)
    assert again.evaluation["scenes"] == int((after["part"] == "test").sum())
    # Another split: scenes of the selection that are test scenes now are never trained on.
    other = swath.train(
        class_folder,
        out=tmp_path / "other",
        method="cross-entropy",
        only=str(chosen.path),
        split_seed=5,
        **OPTIONS,
    )
    trained = set(other.scenes.loc[other.scenes["part"] == "train", "row"])
    assert trained < set(chosen.selection.kept.tolist())
    assert not trained & set(other.scenes.loc[other.scenes["part"] == "test", "row"])


def test_labels_are_lost_as_if_all_were_trained_on(class_folder: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "epochs": 1, "draw": "flip-uniform:0.4", "method": "cross-entropy"}
    whole = swath.train(class_folder, out=tmp_path / "whole", **options)
    chosen = swath.select(run=str(whole.folder), keep=20, by="random", out=tmp_path / "s.parquet")
    part = swath.train(class_folder, out=tmp_path / "part", only=str(chosen.path), **options)
    labels = [name for name in whole.scenes if name.startswith("label:")]
    kept = part.scenes["part"] == "train"
    assert kept.sum() == 20
    pd.testing.assert_frame_equal(whole.scenes.loc[kept, labels], part.scenes.loc[kept, labels])


def test_a_selection_of_other_scenes_is_refused(class_folder: Path, tmp_path: Path) -> None:
    swath.select(class_folder, keep=5, by="random", size=16, out=tmp_path / "s.parquet")
    copy = tmp_path / "copy"
    shutil.copytree(class_folder, copy)  # elsewhere, with other times: still the same scenes
    options = {**OPTIONS, "epochs": 1, "method": "cross-entropy", "only": str(tmp_path / "s.parquet")}
    swath.train(copy, out=tmp_path / "same", **options)
    for image in copy.rglob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
    with pytest.raises(InputError, match="had other pixels"):
        swath.train(copy, out=tmp_path / "changed", **options)
    shutil.rmtree(copy / "roof")
    with pytest.raises(InputError, match="made from another data set"):
        swath.train(copy, out=tmp_path / "fewer", **options)
    assert not (tmp_path / "fewer").exists()


def test_a_selection_edited_into_nonsense_is_refused_and_kept(class_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    swath.select(class_folder, keep=5, by="random", size=16, out=path)
    whole = pq.read_table(path)
    broken = {
        "stands in it twice": whole.set_column(0, "index", [[3] * len(whole)]),
        "lacks the column kept": whole.drop_columns("kept"),
        "keeps no scene": whole.set_column(5, "kept", [[False] * len(whole)]),
        "holds string": whole.set_column(0, "index", [["x"] * len(whole)]),
        "empty cells": whole.set_column(5, "kept", [[None, *[True] * (len(whole) - 1)]]),
        "negative": whole.set_column(0, "index", [[-1, *range(1, len(whole))]]),
        "does not say what data": whole.replace_schema_metadata(None),
        "no scene": whole.slice(0, 0),
    }
    for reason, table in broken.items():
        pq.write_table(table, path)
        content = path.read_bytes()
        with pytest.raises(InputError, match=reason):
            swath.train(class_folder, out=tmp_path / "run", only=str(path))
        assert path.read_bytes() == content
    path.write_text("nonsense")
    with pytest.raises(InputError, match="no Parquet file"):
        swath.train(class_folder, out=tmp_path / "run", only=str(path))
    with pytest.raises(InputError, match="There is no selection"):
        swath.train(class_folder, out=tmp_path / "run", only=str(tmp_path / "none.parquet"))


def test_damaged_dynamics_are_said_and_can_be_done_without(recorded: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "s.parquet"
    shutil.copytree(recorded, run)
    damaged = run / "dynamics.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:200])
    for by in ("aum", "k-centre"):
        with pytest.raises(RunError, match=r"damaged.*--record-dynamics; or remove the file"):
            swath.select(run=str(run), keep=10, by=by, out=out)
    assert not out.exists()
    damaged.unlink()
    assert "contradicted" not in swath.select(run=str(run), keep=10, by="k-centre", out=out).selection.notes


def test_what_is_missing_is_named_with_the_command_that_makes_it(
    class_folder: Path, finished_run: Path, tmp_path: Path
) -> None:
    out = {"out": tmp_path / "s.parquet"}
    with pytest.raises(InputError, match="--run RUN"):
        swath.select(class_folder, keep=5, by="k-centre", **out)
    with pytest.raises(
        InputError,
        match=r"swath train DATA --record-dynamics --out RUN\n  swath select --run RUN --by ccs:tdds",
    ):
        swath.select(class_folder, keep=5, by="ccs:tdds", **out)
    with pytest.raises(OSError, match="--record-dynamics"):
        swath.select(run=str(finished_run), keep=5, by="aum", **out)
    with pytest.raises(InputError, match="that training only"):
        swath.select(class_folder, run=str(finished_run), keep=5, by="aum", size=16, **out)
    with pytest.raises(LabelError, match="moderate compares"):
        swath.select(run=str(finished_run), keep=5, by="moderate", **out)
    with pytest.raises(InputError, match="--strata class,season"):
        swath.select(class_folder, keep=5, by="strata", **out)
    with pytest.raises(UnknownNameError, match="selector"):
        swath.select(class_folder, keep=5, by="best", **out)
    with pytest.raises(InputError, match="Name a data set"):
        swath.select(keep=5, by="random", **out)
    for keep in ("0", "0%", "101%", "many", 1000, "nan"):
        with pytest.raises(InputError, match="budget of"):
            swath.select(class_folder, keep=keep, by="random", size=16, **out)
    assert not list(tmp_path.iterdir())


def test_features_of_a_file(class_folder: Path, tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float16)
    np.save(tmp_path / "f.npy", features)
    file, out = str(tmp_path / "f.npy"), tmp_path / "s.parquet"
    with_data = swath.select(class_folder, keep=10, by="k-centre", features=file, size=16, out=out)
    assert with_data.selection.table["kept"].sum() == 10
    alone = swath.select(file, keep="10%", by="rs-prune", out=out)
    assert alone.selection.table["scene"].tolist()[:2] == ["row 0", "row 1"]
    assert alone.selection.table["kept"].sum() == 6
    with pytest.raises(InputError, match="made from another data set"):
        swath.train(class_folder, out=tmp_path / "run", method="cross-entropy", only=str(out), **OPTIONS)
    with pytest.raises(InputError, match="needs labels"):
        swath.select(file, keep=5, by="balanced", out=out)
    np.save(tmp_path / "f.npy", features[:50])
    with pytest.raises(InputError, match="Features of 50 scenes were given for 60"):
        swath.select(class_folder, keep=10, by="k-centre", features=file, size=16, out=out)
    features[5] = np.nan
    np.save(tmp_path / "f.npy", features)
    with pytest.raises(InputError, match="row 5 hold NaN"):
        swath.select(class_folder, keep=10, by="k-centre", features=file, size=16, out=out)
    np.save(tmp_path / "f.npy", np.array(["a", None], object))
    with pytest.raises(InputError, match="cannot be read"):
        swath.select(file, keep=1, by="k-centre", out=out)


def test_names_with_markup_are_text_in_the_report(class_folder: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "data"
    shutil.copytree(class_folder, hostile)
    (hostile / "roof").rename(hostile / "<script>alert(1)<")
    chosen = swath.select(hostile, keep=9, by="balanced", size=16, out=tmp_path / "s.parquet")
    page = chosen.report.read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_command_line_does_the_same(
    class_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "s.parquet")
    assert (
        main(["select", str(class_folder), "--keep", "25%", "--by", "balanced", "--size", "16", "--out", out])
        == 0
    )
    said = capsys.readouterr().out
    assert "12 of 48 scenes kept by balanced" in said
    assert main(["select", str(class_folder), "--keep", "lots", "--by", "random", "--out", out]) == 1
    assert "budget of 'lots'" in capsys.readouterr().err
    notes = json.loads(pq.read_schema(out).metadata[b"swath"])
    assert (notes["by"], notes["keep"], notes["pool"]) == ("balanced", "25%", 48)
    assert main(["duplicates", str(class_folder), "--size", "16"]) == 0
    assert "groups that show nearly the same" in capsys.readouterr().out


def test_an_output_that_cannot_be_written_is_said(class_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        swath.select(class_folder, keep=5, by="random", size=16, out=tmp_path / "file" / "s.parquet")


def _with_copies(class_folder: Path, folder: Path) -> Path:
    """Sixty textured scenes, of which six are turned and noisy copies of others."""
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(0)
    blobs = gaussian_filter(random.normal(size=(60, 3, 32, 32)), (0, 0, 3, 3))
    images = np.clip(blobs * 40 / blobs.std(axis=(2, 3), keepdims=True) + 128, 0, 255)
    for copy, original in zip(range(54, 60), range(6), strict=True):
        images[copy] = np.rot90(images[original], copy % 4, axes=(1, 2)) + random.normal(0, 3, (3, 32, 32))
    for number, image in enumerate(images.clip(0, 255).astype(np.uint8)):
        path = folder / f"class{number % 2}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return folder


def test_near_duplicates_stay_on_one_side(class_folder: Path, tmp_path: Path) -> None:
    data = _with_copies(class_folder, tmp_path / "data")
    found = duplicates(data, out=str(tmp_path / "groups.csv"), size=32)
    assert found.table["group"].nunique() == 6
    assert not found.table["exact"].any()
    assert len(pd.read_csv(tmp_path / "groups.csv")) == 12
    options = {
        "size": 32,
        "epochs": 1,
        "encoder": "small_resnet",
        "method": "cross-entropy",
        "batch_size": 16,
        "test_share": 0.5,
    }
    crossing = {}
    for how in ("ignore", "apart"):
        run = swath.train(data, out=tmp_path / how, near_duplicates=how, **options)
        part = run.scenes.set_index("row")["part"]
        sides = [set(part[members["index"]]) for _, members in found.table.groupby("group")]
        crossing[how] = sum(len(side) > 1 for side in sides)
    assert crossing["apart"] == 0 < crossing["ignore"]
    assert "6 groups of near-duplicates kept apart" in run.card["split"]
    # Where a column says which scenes are for the test, the training scenes go.
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png"))
    number = [int(Path(name).stem) for name in names]
    table = {
        "image": names,
        "class": [f"c{n % 2}" for n in number],
        "split": ["test" if n < 10 else "train" for n in number],
    }
    pd.DataFrame(table).to_csv(data / "labels.csv", index=False)
    run = swath.train(data / "labels.csv", out=tmp_path / "split", near_duplicates="apart", **options)
    trained = run.scenes.loc[run.scenes["part"] == "train", "scene"]
    assert len(trained) == 44
    assert not any(Path(name).stem in {"54", "55", "56", "57", "58", "59"} for name in trained)
    with pytest.raises(InputError, match="near_duplicates is 'maybe'"):
        swath.train(data, out=tmp_path / "x", near_duplicates="maybe", **options)


def test_groups_of_overlapping_scenes_are_listed_and_kept_apart(class_folder: Path, tmp_path: Path) -> None:
    ground = np.kron(np.random.default_rng(3).integers(0, 255, (40, 60, 3)), np.ones((2, 2, 1))).astype(
        np.uint8
    )
    data = tmp_path / "data"
    shutil.copytree(class_folder, data)
    kinds = sorted(path.name for path in data.iterdir() if path.is_dir())
    for kind, left in zip(kinds, (0, 10), strict=False):
        Image.fromarray(ground[:64, left : left + 64]).save(data / kind / "overlap.png")
    options = {
        "size": 64,
        "epochs": 1,
        "encoder": "small_resnet",
        "method": "cross-entropy",
        "test_share": 0.5,
    }
    run = swath.train(data, out=tmp_path / "first", **options)
    table = tmp_path / "groups.csv"
    assert duplicates(data).table.empty
    found = duplicates(data, run=run.folder, out=str(table)).table
    assert found["scene"].str.contains("overlap").sum() == 2
    assert found.loc[found["scene"].str.contains("overlap"), "group"].nunique() == 1
    for seed in range(4):
        again = swath.train(
            data, out=tmp_path / f"apart-{seed}", near_duplicates=str(table), seed=seed, **options
        )
        part = again.scenes.set_index("row")["part"]
        assert all(part[members].nunique() == 1 for _, members in found.groupby("group")["index"])
    table.write_text(table.read_text().replace("overlap", "other"))
    with pytest.raises(InputError, match="is of another data set"):
        swath.train(data, out=tmp_path / "x", near_duplicates=str(table), **options)
    table.write_text("group,scene\n0,a\n")
    with pytest.raises(InputError, match="columns group, index and scene"):
        swath.train(data, out=tmp_path / "x", near_duplicates=str(table), **options)
