"""The command line, as separate processes, the way a user meets it."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from swath.cli import COMMANDS, _how_to_go_on

SWATH = Path(sys.executable).with_name("swath")


@pytest.fixture
def run_swath(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """Run the installed command and return the finished process."""
    environment = {
        **os.environ,
        "SWATH_CACHE": str(tmp_path_factory.getbasetemp() / "cache"),
        "COLUMNS": "200",
    }

    def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        words = [str(SWATH), *map(str, arguments)]
        done = subprocess.run(
            words, capture_output=True, text=True, env=environment, timeout=300, check=False
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty small images with one of two classes each, in a table."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("cli") / "data"
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = ["image,dark,light"]
    for number in range(60):
        light = number % 2
        image = np.clip(random.normal(60 + 120 * light, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{1 - light},{light}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_the_overview_names_every_command(run_swath) -> None:  # type: ignore[no-untyped-def]
    text = run_swath("--help").stdout
    for name, command in COMMANDS.items():
        assert f"  {name} " in text
        assert command.summary in text
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", run_swath("--version").stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_shows_an_example(run_swath, name: str) -> None:  # type: ignore[no-untyped-def]
    text = " ".join(run_swath(name, "--help").stdout.split())
    assert " ".join(COMMANDS[name].example.split()) in text


def test_the_promised_lines_work_as_they_stand(run_swath, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = tmp_path / "RUN"
    line = (
        f"train {data} --method adagc --encoder scene_mixer --size 16 --epochs 3 --batch-size 16 --seed 0 "
        f"--draw single-positive-random --out {run}"
    )
    told = run_swath(*line.split()).stdout
    assert f"run: {run}" in told
    assert str(run / "report.html") in told
    run_swath("train", "--resume", run)  # a finished run is left as it is
    run_swath("evaluate", run)
    run_swath("evaluate", run, data)
    assert json.loads((run / "evaluation.json").read_text())["scenes"] == 60
    assert (run / "report.html").is_file()
    run_swath("predict", run, data / "0.png", data / "1.png", "--out", tmp_path / "FILE.csv")
    assert list(pd.read_csv(tmp_path / "FILE.csv").columns) == ["image", "dark", "light"]
    again = tmp_path / "AGAIN"
    run_swath("train", "--config", run / "config.yaml", "--epochs", "1", "--out", again)
    assert len((again / "progress.jsonl").read_text().splitlines()) == 1
    folder = tmp_path / "FOLDER"
    line = f"compare {data} --methods all-known,assume-negative,adagc --seeds 0,1 --size 16 --epochs 1 --out {folder}"
    told = run_swath(*line.split()).stdout
    rows = json.loads((folder / "summary.json").read_text())["rows"]
    assert len(rows) == 6
    assert all(row["method"] in told for row in rows)
    assert "adagc" in run_swath("info", run).stdout
    assert "60 scenes" in run_swath("info", data).stdout
    assert "adagc" in run_swath("methods").stdout
    assert "resnet18" in run_swath("encoders", "resnet1*").stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("trian x", "Did you mean 'train'"),
        ("train DATA --metod adagc --out OUT", "Did you mean '--method'"),
        ("train DATA --method adacg --out OUT", "Did you mean 'adagc'"),
        ("train DATA --epochs many --out OUT", "epochs"),
        ("train --out OUT", "DATA is missing"),
        ("train DATA", "out"),
        ("train nowhere --out OUT", "nowhere"),
        ("evaluate nowhere", "does not exist"),
        ("predict nowhere a.png", "does not exist"),
        ("encoders nothing_like_it", "No encoder's name matches"),
        ("info nowhere", "nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    run_swath, data: Path, tmp_path: Path, line: str, words: str
) -> None:  # type: ignore[no-untyped-def]
    arguments = [
        str(data) if word == "DATA" else str(tmp_path / word) if word == "OUT" else word
        for word in line.split()
    ]
    done = run_swath(*arguments, code=1)
    assert done.stderr.startswith("swath: ")
    assert words in done.stderr
    assert not (tmp_path / "OUT").exists()


def test_bare_swath_shows_the_overview_and_fails(run_swath) -> None:  # type: ignore[no-untyped-def]
    assert "usage: swath COMMAND" in run_swath(code=2).stdout


def test_ctrl_c_says_how_to_go_on_and_the_run_goes_on(run_swath, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = tmp_path / "run"
    words = (
        f"train {data} --method assume-negative --size 16 --batch-size 16 --epochs 120 --out {run}".split()
    )
    # A test run that was itself started in the background would hand down an ignored Ctrl-C.
    hear = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    line = [sys.executable, "-c", hear, str(SWATH), *words]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    lines = run / "progress.jsonl"
    while not (lines.exists() and lines.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"swath train --resume {run}" in told
    assert "Traceback" not in told
    before = len(lines.read_text().splitlines())
    assert 0 < before < 120
    run_swath("train", "--resume", run)
    epochs = [json.loads(line)["epoch"] for line in lines.read_text().splitlines()]
    assert epochs == list(range(120))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("train DATA --out runs/a --epochs 3", " Go on with: swath train --resume runs/a"),
        ("train DATA --epochs 3 --out=runs/a", " Go on with: swath train --resume runs/a"),
        ("train DATA --out 'two words'", " Go on with: swath train --resume 'two words'"),
        ("train --resume runs/a", " Call the same command again to go on."),
        ("train DATA --out", ""),
        ("info DATA", ""),
    ],
)
def test_what_is_said_of_going_on_can_be_called(line: str, told: str) -> None:
    name, *rest = shlex.split(line)
    assert _how_to_go_on(name, rest) == told


def test_a_damaged_run_is_one_message(run_swath, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = tmp_path / "run"
    run_swath(*f"train {data} --method all-known --size 16 --epochs 1 --out {run}".split())
    whole = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "truncated, damaged" in run_swath("predict", run, data / "0.png", code=1).stderr
    import pickle

    (run / "model.safetensors").write_bytes(pickle.dumps({"head.weight": [0]}))
    assert "never opens" in run_swath("predict", run, data / "0.png", code=1).stderr
    shutil.rmtree(run)
