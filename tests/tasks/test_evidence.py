"""What a run's report claims about the run itself: the command in it repeats the run."""

import html
import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import swath
from swath.cli import COMMANDS, _parse, _told
from swath.tasks.evidence import _command
from swath.tasks.train import option_defaults, train


def parsed(command: str) -> dict[str, Any]:
    """The options that the real command line makes of a command."""
    words = shlex.split(command)
    assert words[:2] == ["swath", "train"]
    return _parse("train", COMMANDS["train"], train, words[2:])


def test_the_command_in_the_report_repeats_the_run(table_folder: Path, tmp_path: Path) -> None:
    run = swath.train(
        table_folder,
        out=tmp_path / "run of mine",
        method="adagc",
        size=16,
        epochs=2,
        draw="keep-share:0.5",
        learning_rate=2e-5,
        skip_unreadable=True,
        images=str(table_folder.parent / "quadrants"),
        label_columns="water,forest,roof",
        method_options={"trigger": "fixed", "start_epoch": 1} if False else {"start_epoch": 1},
    )
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    found = re.search(r"<pre[^>]*><code>(.*?)</code></pre>", page, re.DOTALL)
    assert found is not None
    config = yaml.safe_load((run.folder / "config.yaml").read_text(encoding="utf-8"))
    assert {**parsed(html.unescape(found[1])), "out": config["out"]} == config


@pytest.mark.parametrize(
    "options",
    [
        {"data": '/some where/it\'s "here" $HOME', "images": "two words", "image_column": "- a: b"},
        {
            "method_options": {
                "strength": 1e-05,
                "roll_back": True,
                "mixup": None,
                "name": "two words",
                "n": -1,
            }
        },
        {"method_options": {}, "complete": True, "tensorboard": True, "pretrained": True},
        {"augment": "", "nodata": -9999.0, "clip_norm": 1.0, "patience": 3, "validation_share": 0.25},
        {"images": "--out", "draw": "[x", "augment": "{y", "label_columns": "1", "warmup_epochs": 0.0},
    ],
)
def test_any_option_survives_the_command_line(options: dict[str, Any]) -> None:
    config = {"data": "DATA", "out": "RUN", **option_defaults(), **options}
    assert parsed(_command(config)) == config


def test_a_run_that_knows_positives_only_is_told_by_what_they_can_say(
    table_folder: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(table_folder / "labels.csv")
    labels = table.columns[1:]
    first = table[labels].to_numpy().argmax(axis=1)
    table[labels] = [[1 if column == one else None for column in range(len(labels))] for one in first]
    table.to_csv(tmp_path / "labels.csv", index=False)
    run = swath.train(
        tmp_path / "labels.csv",
        images=str(table_folder),
        out=tmp_path / "run",
        method="assume-negative",
        size=16,
        epochs=1,
    )
    assert run.evaluation["map_macro"] is None
    told = _told(run)
    assert "positive_recall: " in told
    assert "positive_rank: " in told
    assert "map_macro is not defined: no label is known to be absent" in told
