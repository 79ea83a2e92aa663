"""Asking in earnest, and the closed loop: exact budgets, nothing revealed that was not asked, rounds that go on."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import swath
from swath.errors import InputError, LabelError, RunError, UnknownNameError
from swath.tasks.ask import ask

TINY: dict[str, Any] = {"encoder": "small_resnet", "size": 16, "epochs": 1, "batch_size": 16}
LOOP: dict[str, Any] = {**TINY, "start": 6, "stop": 18, "rounds": 3}


def without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def loop(class_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> swath.tasks.active.ActiveLearning:
    return swath.active_learning(
        class_folder, out=tmp_path_factory.mktemp("active") / "loop", full=True, **LOOP
    )


def test_rounds_have_exact_budgets_and_repeat_nothing(loop) -> None:  # type: ignore[no-untyped-def]
    assert [row["labels"] for row in loop.rows] == [6, 12, 18]
    assert [row["by"] for row in loop.rows] == ["hssal"] * 3
    tables = [pd.read_csv(loop.folder / f"labelled-{number}.csv") for number in range(3)]
    for earlier, later in itertools.pairwise(tables):
        pd.testing.assert_frame_equal(later.head(len(earlier)), earlier)
    assert tables[2]["row"].is_unique
    assert tables[2]["round"].tolist() == [0] * 6 + [1] * 6 + [2] * 6
    stored = json.loads((loop.folder / "rounds.json").read_text())
    assert stored["rows"] == loop.rows
    for row in loop.rows:
        assert row["ratio"] == pytest.approx(row["overall_accuracy"] / stored["full"]["overall_accuracy"])
        assert sum(row["classes"].values()) == row["labels"]
        assert f"{100 * row['overall_accuracy']:.1f}" in loop.table


def test_a_round_knows_the_labels_that_were_asked_for_and_no_others(loop, class_folder: Path) -> None:  # type: ignore[no-untyped-def]
    truth = swath.open_scenes(class_folder).labels.state
    parts = []
    for number in range(3):
        run = swath.load_run(loop.folder / f"round-{number}")
        asked = pd.read_csv(loop.folder / f"labelled-{number}.csv")["row"].to_numpy()
        given = run.scenes.filter(like="label:").to_numpy()
        assert (run.scenes["part"].iloc[asked] == "train").all()
        np.testing.assert_array_equal(given[asked], truth[asked])
        others = np.setdiff1d(np.arange(len(given)), asked)
        assert (given[others] == -1).all()
        parts.append(run.scenes["part"].tolist())
        # The test is judged on complete labels all the same, now and when the run is judged again.
        assert run.evaluation["known"] == 3 * parts[0].count("test")
        assert swath.evaluate(run.folder).evaluation["known"] == run.evaluation["known"]
        assert "labels of" in (run.folder / "report.html").read_text()
    assert parts[0] == parts[1] == parts[2] == swath.load_run(loop.folder / "full").scenes["part"].tolist()


def test_called_again_it_takes_what_is_there_and_refuses_another_experiment(loop, class_folder: Path) -> None:  # type: ignore[no-untyped-def]
    weights = loop.folder / "round-2" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = swath.active_learning(class_folder, out=loop.folder, full=True, **LOOP)
    assert again.rows == loop.rows
    assert weights.stat().st_mtime_ns == before
    for changed, words in (
        ({"by": "random"}, "by = 'hssal', now 'random'"),
        ({"stop": 20}, "levels"),
        ({"epochs": 2}, "epochs = 1"),
        ({"seed": 1}, "seed = 0"),
    ):
        with pytest.raises(InputError, match=words):
            swath.active_learning(class_folder, out=loop.folder, **{**LOOP, **changed})


@pytest.mark.slow
def test_a_killed_loop_goes_on_and_ends_as_if_nothing_had_happened(
    loop,  # type: ignore[no-untyped-def]
    class_folder: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "loop"
    words = [f"--{name.replace('_', '-')}={value}" for name, value in LOOP.items()]
    line = [
        sys.executable,
        "-m",
        "swath",
        "active",
        str(class_folder),
        "--full",
        "--out",
        str(folder),
        *words,
    ]
    for moment in ("labelled-1.csv", "round-2/config.yaml"):  # after a question, and while a round is trained
        process = subprocess.Popen(
            line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ.copy()
        )
        deadline = time.monotonic() + 600
        while not (folder / moment).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, said
    assert not (folder / "round-2" / "report.html").exists()
    again = swath.active_learning(class_folder, out=folder, full=True, **LOOP)
    assert without_seconds(again.rows) == without_seconds(loop.rows)
    for number in range(3):
        name = f"labelled-{number}.csv"
        assert (folder / name).read_bytes() == (loop.folder / name).read_bytes()


def test_test_scenes_choose_nothing(class_folder: Path, tmp_path: Path) -> None:
    tables = []
    for name, shift in (("as it is", 0), ("test labels turned", 1)):
        source = swath.open_scenes(class_folder)
        split = np.where(np.arange(len(source)) % 4 == 0, "test", "train")
        source.columns = {"split": split}
        turned = np.roll(source.labels.state, shift, axis=1)
        source.labels = source.labels.with_state(
            np.where((split == "test")[:, None], turned, source.labels.state)
        )
        options = {**LOOP, "rounds": 2, "by": "badge"}
        found = swath.active_learning(source, out=tmp_path / name, **options)
        tables.append(pd.read_csv(found.folder / "labelled-1.csv"))
        assert [row["by"] for row in found.rows] == ["random", "badge"]
    pd.testing.assert_frame_equal(*tables)


def test_one_positive_reveals_one_present_class_and_nothing_else(table_folder: Path, tmp_path: Path) -> None:
    options = {**LOOP, "start": "10%", "stop": "25%", "rounds": 2}
    found = swath.active_learning(
        table_folder, out=tmp_path / "one", method="adagc", one_positive=True, **options
    )
    assert [row["labels"] for row in found.rows] == [7, 18]
    table = pd.read_csv(found.folder / "labelled-1.csv")
    scenes, run = swath.open_scenes(table_folder), swath.load_run(found.folder / "round-1")
    given = run.scenes.filter(like="label:").to_numpy()
    for row, name in zip(table["row"], table["class"], strict=True):
        column = scenes.labels.classes.index(name)
        assert scenes.labels.state[row, column] == 1
        assert given[row, column] == 1
        assert (np.delete(given[row], column) == -1).all()
    assert (given >= 0).sum() == 18
    assert table["class"].nunique() > 1
    with pytest.raises(
        RunError, match=r"only.*adagc"
    ):  # both kinds of labels are needed; the message names what fits
        swath.active_learning(
            table_folder, out=tmp_path / "wrong", method="fixmatch", one_positive=True, **options
        )


def test_options_that_make_no_experiment_are_refused(class_folder: Path, tmp_path: Path) -> None:
    for changed, words in (
        ({"rounds": 0}, "0 rounds"),
        ({"rounds": 1}, "one round needs start = stop"),
        ({"rounds": 14}, "at least one new scene"),
        ({"start": 18, "stop": 6}, "18 to 6"),
        ({"start": 0}, "expected from 1 to"),
        ({"stop": "200%"}, "expected from 1 to"),
        ({"stop": "much"}, "expected a percentage"),
        ({"first": "badge"}, "needs a trained network"),
        ({"one_positive": True}, "one class a scene"),
        ({"epochs": 0}, "epochs"),
    ):
        with pytest.raises(InputError, match=words):
            swath.active_learning(class_folder, out=tmp_path / "none", **{**LOOP, **changed})
    for changed in ({"by": "hsal"}, {"first": "hsal"}, {"method": "fixmach"}):
        with pytest.raises(UnknownNameError):
            swath.active_learning(class_folder, out=tmp_path / "none", **{**LOOP, **changed})
    silent = swath.open_scenes(class_folder)
    silent.labels = silent.labels.with_state(np.where(np.arange(60)[:, None] % 5, silent.labels.state, -1))
    with pytest.raises(LabelError, match="have no label, so they could not answer"):
        swath.active_learning(silent, out=tmp_path / "none", **LOOP)
    assert not (tmp_path / "none").exists()


def test_ask_lists_unlabelled_scenes_with_what_the_network_believes(
    loop, class_folder: Path, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    source = swath.open_scenes(class_folder)
    open_ = np.arange(60) % 3 > 0
    source.labels = source.labels.with_state(np.where(open_[:, None], -1, source.labels.state))
    run = loop.folder / "round-2"
    for name, budget, expected in (("a.csv", 7, 7), ("a.parquet", "10%", 6)):
        asked = ask(source, run=run, budget=budget, out=tmp_path / name)
        assert len(asked) == expected
        assert open_[asked["row"]].all()
        assert asked["scene"].tolist() == [source.describe(row) for row in asked["row"]]
        assert set(asked["suggested"]) <= set(source.labels.classes)
        assert asked["probability"].between(1 / 3, 1).all()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv").head(0), asked.head(0), check_dtype=False)
    for options, words in (
        ({"budget": 41, "by": "random"}, "40 are not labelled"),
        ({"budget": 0, "by": "random"}, "expected from 1 to 60"),
        ({"budget": "many", "by": "random"}, "expected a percentage"),
        ({"budget": 3}, "hssal needs features"),
    ):
        with pytest.raises(InputError, match=words):
            ask(source, out=tmp_path / "no.csv", **options)
    with pytest.raises(InputError, match=r"\.csv or \.parquet"):
        ask(source, by="random", budget=3, out=tmp_path / "no.txt")
    assert not list(tmp_path.glob("no.*"))
    with pytest.raises(InputError, match="would take it for the table of the data set"):
        ask(class_folder, by="random", budget=3, out=class_folder / "next.csv")
    assert not (class_folder / "next.csv").exists()


def test_what_a_process_left_that_was_killed_at_its_first_file_is_in_nobodys_way(
    class_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config-abcdefgh.yaml").write_text("half")
    run = swath.train(class_folder, out=tmp_path / "run", method="cross-entropy", size=16, epochs=1)
    assert (run.folder / "report.html").exists()
