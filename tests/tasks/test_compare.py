"""Methods, seeds, draws and splits in one table, that goes on where it was and survives what fails in it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import swath
from swath.errors import InputError, RunError, UnknownNameError
from swath.methods import METHODS, Batch, register_method
from swath.methods.assume_negative import AssumeNegative
from swath.tasks.cells import parse_method, plan
from swath.tasks.train import option_defaults

OPTIONS = {"methods": "all-known,assume-negative", "seeds": "0,1", "size": 16, "epochs": 1}


@pytest.fixture(scope="module")
def finished(table_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two methods and seeds; tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("compared") / "out"
    swath.compare(table_folder, out=folder, **OPTIONS)
    return folder


def stamps(folder: Path) -> dict[str, int]:
    """When each model was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}


def test_the_table_has_a_row_for_each_method_and_seed(table_folder: Path, finished: Path) -> None:
    comparison = swath.compare(table_folder, out=finished, **OPTIONS)
    rows = json.loads((finished / "summary.json").read_text())["rows"]
    assert rows == comparison.rows
    assert [(row["method"], row["seed"]) for row in rows] == [
        (method, seed) for seed in (0, 1) for method in ("all-known", "assume-negative")
    ]
    wanted = {"map_macro", "f1_macro", "overall_accuracy", "seconds", "seconds_per_epoch", "peak_memory_mb"}
    wanted |= {"draw", "split_seed", "error", "run"}
    assert all(wanted <= row.keys() for row in rows)
    assert {(row["draw"], row["split_seed"], row["error"]) for row in rows} == {
        ("single-positive-random", None, None)
    }
    assert comparison.report.is_file()
    assert not comparison.findings  # one method and the ceiling: nothing to test
    for method in ("all-known", "assume-negative"):
        assert method in comparison.table


def test_the_ceiling_knows_all_labels_and_the_floor_one_a_scene(finished: Path) -> None:
    for method, known in (("all-known", 3), ("assume-negative", 1)):
        scenes = swath.load_run(finished / f"{method}-0").scenes
        states = scenes.loc[
            scenes["part"] == "train", ["label:water", "label:forest", "label:roof"]
        ].to_numpy()
        assert set((states >= 0).sum(axis=1)) == {known}
    parts = [
        swath.load_run(finished / f"{method}-0").scenes["part"] for method in ("all-known", "assume-negative")
    ]
    assert parts[0].equals(parts[1])  # the same split for all


def test_finished_cells_are_kept_and_other_settings_are_refused(
    table_folder: Path, finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    before = stamps(folder)
    rows = swath.compare(table_folder, out=folder, **{**OPTIONS, "seeds": "0,1,2"}).rows
    assert len(rows) == 6
    after = stamps(folder)
    assert {name: after[name] for name in before} == before
    with pytest.raises(InputError, match="was made with epochs = 1; this comparison asks for 2"):
        swath.compare(table_folder, out=folder, **{**OPTIONS, "epochs": 2})
    with pytest.raises(
        InputError, match=r"made with epochs = 1, learning_rate = 0\.001; .* asks for 2, 0\.1"
    ):
        swath.compare(table_folder, out=folder, **{**OPTIONS, "epochs": 2, "learning_rate": 0.1})
    assert stamps(folder) == after


def test_every_option_of_a_training_that_changes_a_figure_is_in_the_cells_own_file(finished: Path) -> None:
    settings = json.loads((finished / "all-known-0" / "cell.json").read_text())["settings"]
    assert set(settings) == set(option_defaults()) - {"tensorboard", "record_dynamics"} | {"data"}


def test_changed_labels_are_noticed(table_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(table_folder, data)
    options = {**OPTIONS, "methods": "assume-negative", "seeds": "0"}
    swath.compare(data, out=tmp_path / "out", **options)
    table = pd.read_csv(data / "labels.csv")
    table.loc[0, "water"] = 1 - table.loc[0, "water"]
    table.to_csv(data / "labels.csv", index=False)
    with pytest.raises(InputError, match="had other labels"):
        swath.compare(data, out=tmp_path / "out", **options)


def test_wrong_names_and_numbers_are_said_before_anything_is_trained(
    table_folder: Path, tmp_path: Path
) -> None:
    for wrong, error, words in (
        ({"methods": "all-known,asume-negative"}, UnknownNameError, "Did you mean 'assume-negative'"),
        ({"methods": "adagc:strengh=3"}, UnknownNameError, "Did you mean 'strength'"),
        ({"methods": "adagc:strength=-3"}, InputError, "strength is -3"),
        ({"methods": "adagc:strength"}, InputError, "NAME:key=value"),
        ({"methods": "adagc:strength=[1]"}, InputError, "not a single value"),
        ({"methods": "adagc:strength=1 2"}, InputError, "is no value"),
        ({"seeds": "0,one"}, InputError, "seeds are '0,one'; expected whole numbers"),
        ({"splits": "x"}, InputError, "splits are 'x'; expected whole numbers"),
        ({"splits": "-1"}, InputError, "split_seed is -1"),
        ({"seeds": ""}, InputError, "at least one"),
        ({"draws": "none,single-positive-rando"}, UnknownNameError, "Did you mean 'single-positive-random'"),
        ({"workers": 0}, InputError, "workers is 0"),
    ):
        with pytest.raises(error, match=words):
            swath.compare(table_folder, out=tmp_path / "c", **{**OPTIONS, **wrong})
    with pytest.raises(InputError, match="opened before"):
        swath.compare(swath.open_scenes(table_folder), out=tmp_path / "c", workers=2)
    assert not (tmp_path / "c").exists()


def test_cells_of_all_axes_have_folders_of_their_own_that_do_not_depend_on_the_others() -> None:
    methods = ["all-known", "adagc", "adagc:start_epoch=2", "adagc: start_epoch = 3 ;roll_back=false"]
    draws = [None, "single-positive-random", "keep-share:0.5", "keep-share:0.5+flip-uniform:0.1"]
    cells = list(plan(methods, [0, 1], draws, [None, 0], option_defaults()))
    assert len(cells) == 4 * 2 * 4 * 2
    names = {cell.name for cell in cells}
    assert len(names) == 2 * 2 * (3 * 4 + 1)  # the ceiling is trained once for all draws
    for cell in cells:
        alone = next(plan([cell.method], [cell.seed], [cell.draw], [cell.split_seed], option_defaults()))
        assert alone.name == cell.name
        assert not set(cell.name) & set("/\\:;+* ")
    options = next(cell for cell in cells if "roll_back" in cell.method).options
    assert options["method_options"] == {"start_epoch": 3, "roll_back": False}


def test_options_of_options_have_a_dot() -> None:
    label, name, given = parse_method(
        "ddsc:base=fixmatch; base_options.thresholds=flexmatch;base_options.level=0.7"
    )
    assert label == "ddsc:base=fixmatch;base_options.thresholds=flexmatch;base_options.level=0.7"
    assert (name, given) == (
        "ddsc",
        {"base": "fixmatch", "base_options": {"thresholds": "flexmatch", "level": 0.7}},
    )
    for wrong in ("adagc:=1", "adagc:a.b.c=1", "adagc:a=1;a=2", "adagc:a", "adagc:a b=1"):
        with pytest.raises(InputError, match="each key once"):
            parse_method(wrong)


def test_draws_and_splits_and_methods_with_options_are_axes(table_folder: Path, tmp_path: Path) -> None:
    comparison = swath.compare(
        table_folder,
        out=tmp_path,
        methods="all-known,adagc:start_epoch=0;mixup=0.5",
        seeds="0",
        draws="keep-share:0.4,none",
        splits="3,4",
        validation_share=0.2,
        validation_labels="clean",
        size=16,
        epochs=1,
    )
    label = "adagc:start_epoch=0;mixup=0.5"
    assert [(row["method"], row["draw"], row["split_seed"]) for row in comparison.rows] == [
        (method, draw, split)
        for split in (3, 4)
        for draw in ("keep-share:0.4", None)
        for method in ("all-known", label)
    ]
    runs = {
        (row["method"], row["draw"], row["split_seed"]): swath.load_run(row["run"]) for row in comparison.rows
    }
    ours = runs[label, "keep-share:0.4", 3]
    assert ours.config["method_options"] == {"start_epoch": 0, "mixup": 0.5}
    assert (ours.config["draw"], ours.config["validation_labels"]) == ("keep-share:0.4", "clean")
    assert all(0 <= row["map_macro_last"] <= 1 for row in comparison.rows)
    assert "mAP, last epoch" in str(comparison)
    # The only epoch is the best and the last.
    assert all(row["map_macro_last"] == pytest.approx(row["map_macro"]) for row in comparison.rows)
    assert runs["all-known", "keep-share:0.4", 3].folder == runs["all-known", None, 3].folder
    assert list(ours.scenes["part"]) == list(runs["all-known", None, 3].scenes["part"])
    assert list(ours.scenes["part"]) != list(runs[label, None, 4].scenes["part"])
    swath.evaluate(ours.folder, draws=5)  # a run of a comparison finds its data again


class _Failing(AssumeNegative):
    """Fails in the second seed: in the way its name says."""

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        value = super().loss(model, batch)
        if self.seed == 0:
            return value
        return self.fail(value)


@pytest.fixture
def failing_methods() -> Iterator[None]:
    """Three methods that fail in the second seed."""

    def divide(self: _Failing, value: torch.Tensor) -> torch.Tensor:
        return value * (1 / int(value.detach() < 0))

    def interrupt(self: _Failing, value: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    before = set(METHODS)
    for name, fail in (
        ("x-nan", lambda self, value: value * float("nan")),
        ("x-bug", divide),
        ("x-interrupted", interrupt),
    ):
        register_method(name)(type(name, (_Failing,), {"fail": fail}))
    yield
    for name in set(METHODS) - before:
        del METHODS._entries[name]


@pytest.mark.usefixtures("failing_methods")
def test_a_cell_that_fails_says_why_and_does_not_lose_the_others(
    table_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {**OPTIONS, "methods": "x-nan,x-bug,cross-entropy,assume-negative"}
    comparison = swath.compare(table_folder, out=tmp_path, **options)
    rows = {(row["method"], row["seed"]): row for row in comparison.rows}
    assert len(rows) == 8
    why = {place: row["error"] for place, row in rows.items() if row["error"]}
    assert set(why) == {("x-nan", 1), ("x-bug", 1), ("cross-entropy", 0), ("cross-entropy", 1)}
    assert "the loss became nan" in why["x-nan", 1]
    assert why["x-bug", 1] == "ZeroDivisionError: division by zero"
    assert "it is for single-label" in why["cross-entropy", 0]
    assert all(rows[place]["map_macro"] is None and rows[place]["seconds"] is None for place in why)
    assert rows["assume-negative", 1]["map_macro"] is not None
    assert any("x-bug failed (single-positive-random, seed 1)" in said for said in comparison.findings)
    assert "raise" not in "".join(comparison.findings)
    assert "line" in capsys.readouterr().err  # where the unexpected error came from
    assert "ZeroDivisionError" in comparison.report.read_text(encoding="utf-8")
    # Called again, what failed is tried again and what did not is kept.
    before = stamps(tmp_path)
    again = {
        (row["method"], row["seed"]): row for row in swath.compare(table_folder, out=tmp_path, **options).rows
    }
    assert again == rows
    assert stamps(tmp_path) == before


@pytest.mark.usefixtures("failing_methods")
def test_ctrl_c_stops_all_and_what_is_done_stays(table_folder: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "methods": "assume-negative,x-interrupted,all-known"}
    with pytest.raises(KeyboardInterrupt):
        swath.compare(table_folder, out=tmp_path, **options)
    rows = json.loads((tmp_path / "summary.json").read_text())["rows"]
    assert [(row["method"], row["seed"]) for row in rows] == [
        ("assume-negative", 0), ("x-interrupted", 0), ("all-known", 0), ("assume-negative", 1),
    ]  # fmt: skip


def test_a_comparison_in_which_everything_fails_is_an_error(table_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"None of the 2 cells could be trained\. The first: cross-entropy cannot"
    ):
        swath.compare(table_folder, out=tmp_path, **{**OPTIONS, "methods": "cross-entropy"})


@pytest.mark.slow
def test_several_processes_find_the_same_as_one(
    table_folder: Path, finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = swath.compare(table_folder, out=tmp_path, workers=2, **OPTIONS).rows
    alone = json.loads((finished / "summary.json").read_text())["rows"]
    assert [(row["method"], row["seed"]) for row in rows] == [(row["method"], row["seed"]) for row in alone]
    np.testing.assert_allclose(
        [row["map_macro"] for row in rows], [row["map_macro"] for row in alone], atol=1e-6
    )
    assert "Traceback" not in capfd.readouterr().err
    assert "loss" in (tmp_path / "logs" / "all-known-0.txt").read_text()
    before = stamps(tmp_path)
    swath.compare(table_folder, out=tmp_path, **OPTIONS)  # the number of workers changes nothing
    assert stamps(tmp_path) == before


@pytest.mark.slow
def test_a_process_that_is_killed_loses_its_own_cell_only(table_folder: Path, tmp_path: Path) -> None:
    import psutil

    options = {**OPTIONS, "methods": "assume-negative", "seeds": "0,1"}
    places = f"{str(table_folder)!r}, out={str(tmp_path / 'out')!r}"
    code = f"import swath; swath.compare({places}, workers=2, **{options!r})"
    script = tmp_path / "script.py"
    long = code.replace("'epochs': 1", "'epochs': 40")
    script.write_text(f"if __name__ == '__main__':\n    {long}\n")
    environment = {**os.environ, "SWATH_CACHE": os.environ["SWATH_CACHE"]}
    started = subprocess.Popen(
        [sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        progress = tmp_path / "out" / "assume-negative-0" / "progress.jsonl"
        deadline = time.monotonic() + 120
        while not progress.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert progress.exists()
        first = min(_workers(psutil.Process(started.pid)), key=lambda process: process.pid)
        first.kill()
        _, told = started.communicate(timeout=300)
    finally:
        started.kill()
    assert started.returncode == 0, told
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())["rows"]
    failed = [row for row in rows if row["error"]]
    assert len(rows) == 2
    assert len(failed) == 1
    assert "was ended by SIGKILL" in failed[0]["error"]


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_and_the_comparison_goes_on(table_folder: Path, tmp_path: Path) -> None:
    import psutil

    out = tmp_path / "out"
    swath_command = Path(sys.executable).with_name("swath")
    words = f"compare {table_folder} --methods assume-negative --seeds 0,1 --size 16 --epochs 60 --out {out}"
    words += " --workers 2"
    # A test run that was itself started in the background would hand down an ignored Ctrl-C.
    hear = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    line = [sys.executable, "-c", hear, str(swath_command), *words.split()]
    started = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    try:
        lines = [out / f"assume-negative-{seed}" / "progress.jsonl" for seed in (0, 1)]
        deadline = time.monotonic() + 120
        while not any(path.exists() and path.read_text() for path in lines) and time.monotonic() < deadline:
            time.sleep(0.05)
        children = _workers(psutil.Process(started.pid))
        assert len(children) == 2
        started.send_signal(signal.SIGINT)
        _, told = started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == 130
    assert "Call the same command again to go on" in told
    assert "Traceback" not in told
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    done = [len(path.read_text().splitlines()) if path.exists() else 0 for path in lines]
    assert 0 < max(done) < 60
    rows = swath.compare(
        table_folder, out=out, methods="assume-negative", seeds="0,1", size=16, epochs=60
    ).rows
    assert all(row["error"] is None for row in rows)
    for path in lines:
        assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == list(range(60))


def _workers(process):  # type: ignore[no-untyped-def]
    """The processes that train; multiprocessing has one more that cleans up."""
    return [child for child in process.children() if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_about_it(table_folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    options = {**OPTIONS, "workers": 2}
    script.write_text(
        f"import swath\nswath.compare({str(table_folder)!r}, out={str(tmp_path / 'o')!r}, **{options!r})\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "if __name__ == '__main__':" in done.stderr.splitlines()[-1]
