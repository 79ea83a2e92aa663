"""Killed at any moment and resumed, a training ends with the weights of an uninterrupted one, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EPOCHS = 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"), [("assume-negative", {}), ("adagc", {}), ("adagc", {"roll_back": True})]
)
def test_killed_at_twenty_random_moments_the_weights_are_the_same(tmp_path, name, options):
    script = Path(__file__).with_name("killed.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), name, json.dumps(options), "7"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["differing"] == []
    assert found["same_names"]
    assert found["killed"] == 20
    assert found["before_first"] >= 1
    for part in ("whole", "broken"):
        lines = [json.loads(line) for line in (tmp_path / part / "progress.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == list(range(EPOCHS))
    left = {path.relative_to(tmp_path / "broken").as_posix() for path in (tmp_path / "broken").rglob("*")}
    best = {"epochs", "epochs/best-11.safetensors"} if name == "assume-negative" else {"epochs"} & left
    assert left - best == {"checkpoint.safetensors", "final.safetensors", "progress.jsonl"}
