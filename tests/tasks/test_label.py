"""`swath label`: what it refuses, and a round that ends in a training."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swath.errors import InputError, LabelError, RunError, SwathError, UnknownNameError
from swath.tasks.label import label

pytest.importorskip("fastapi", reason="no server: install swath[label]")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images, dark and light in turn, without labels."""
    random, root = np.random.default_rng(0), tmp_path / "images"
    root.mkdir()
    for number in range(12):
        pixels = np.clip(random.normal(60 + 120 * (number % 2), 10, (16, 16, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{number:02d}.png")
    return root


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({}, InputError, "--classes water,forest"),
        ({"classes": "a,b", "out": "labels.csv"}, InputError, "end in .parquet"),
        ({"classes": "a,,b"}, LabelError, "expected names"),
        ({"classes": "a,a"}, LabelError, "more than once"),
        ({"classes": "a,b", "exclusive": True, "one_positive": True}, InputError, "leave --one-positive out"),
        ({"classes": "a,b", "budget": 0}, InputError, "budget is 0"),
        ({"classes": "a,b", "twice": 1.5}, InputError, "twice is 1.5"),
        ({"classes": "a,b", "ask": "crystal-ball", "budget": 2}, UnknownNameError, "query strategy"),
        ({"classes": "a,b", "ask": "hssal"}, InputError, "say how many with --budget"),
        ({"classes": "a,b", "run": "nowhere"}, RunError, "no trained model"),
        ({"classes": "a,b", "port": 99999}, InputError, "port is 99999"),
        ({"classes": "a,b", "host": "192.0.2.1"}, InputError, "Cannot listen on 192.0.2.1"),
        ({"classes": "a,b", "tls_key": "key.pem"}, InputError, "belong together"),
        ({"classes": "a,b", "user": "data"}, LabelError, "name of a person"),
        ({"classes": "a,b", "train_options": {"draw": "x"}}, InputError, "decided by the labelling"),
        ({"classes": "a,b", "out": "images/labels.parquet"}, InputError, "read as its table"),
        ({"data": "nowhere", "classes": "a,b"}, SwathError, "no file or folder"),
        ({"data": "earth:scenes=4,size=16"}, InputError, "no image files of its own"),
    ],
)
def test_what_cannot_be_used_is_said(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    error: type[Exception],
    reason: str,
) -> None:
    monkeypatch.chdir(folder.parent)
    options = {"data": "images", "out": "labels.parquet", "no_browser": True, **options}
    with pytest.raises(error, match=re.escape(reason)):
        label(**options)
    assert os.listdir() in (["images"], ["images", "labels.answers.jsonl.lock"]), "nothing is left behind"


def test_a_taken_port_a_foreign_table_and_labelled_scenes_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.chdir(folder.parent)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="perhaps another `swath label`"):
            label("images", out="labels.parquet", classes="a,b", port=taken.getsockname()[1])
    Path("other.parquet").write_bytes(b"somebody's work")
    with pytest.raises(InputError, match="exists, without the answers"):
        label("images", out="other.parquet", classes="a,b")
    Path("labels.csv").write_text("image,class\nimages/00.png,dark\nimages/01.png,light\n")
    with pytest.raises(InputError, match=r"All 2 scenes of .* have labels already.*--classes dark,light"):
        label("labels.csv", out="labels.parquet")


class Server:
    """`swath label` in a process of its own, and its page's calls."""

    def __init__(self, folder: Path, *options: str) -> None:
        environment = {**os.environ, "SWATH_CACHE": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}
        words = [sys.executable, "-m", "swath", "label", "images", "--out", "labels.parquet", "--port", "0"]
        self.log = folder / "server.txt"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*words, "--no-browser", *options], cwd=folder, env=environment, stdout=output, stderr=output
            )
        self._until(lambda: "token=" in self.log.read_text())
        address = re.search(r"http://\S+", self.log.read_text())
        assert address
        self.base = address.group().partition("/?token=")[0]
        with urllib.request.urlopen(address.group(), timeout=240) as reply:
            self.cookie = reply.headers["Set-Cookie"].partition(";")[0]

    def _until(self, done: Any) -> None:
        end = time.monotonic() + 580
        while not done():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)

    def call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Cookie": self.cookie, "Origin": self.base, "Content-Type": "application/json"}
        content = None if body is None else json.dumps({"client": "c", "user": "anna", **body}).encode()
        request = urllib.request.Request(self.base + path, content, headers)
        with urllib.request.urlopen(request, timeout=240) as reply:
            return dict(json.loads(reply.read()))

    def state(self) -> dict[str, Any]:
        return self.call("/api/state?client=c&user=anna")

    def label_round(self) -> None:
        while scenes := self.state()["scenes"]:
            name = scenes[0]["name"]
            labels = {("dark", "light")[int(name[:2]) % 2]: 1}
            answer = {"id": name, "scene": name, "labels": labels, "unclear": False, "seconds": 1.0}
            self.call("/api/answer", answer | {"suggested": scenes[0]["suggestions"]})

    def wait_for(self, phase: str) -> dict[str, Any]:
        self._until(lambda: self.state()["phase"] == phase)
        return self.state()


@pytest.mark.slow
def test_a_round_a_training_that_is_killed_and_the_next_round_with_suggestions(folder: Path) -> None:
    root = folder.parent
    options = ["--classes", "dark,light", "--exclusive", "--budget", "8", "--train-options.size", "16"]
    options += ["--train-options.epochs", "2", "--train-options.test_share", "0.25"]
    server = Server(root, *options)
    try:
        server.label_round()
        assert server.state()["phase"] == "full"
        server.call("/api/round", {"train": True})
        server._until(lambda: server.state()["rounds"]["begun"])
        server.process.kill()
        server.process.wait()
        server = Server(root, *options)
        state = server.state()
        assert state["phase"] == "full"
        assert state["labelled"] == 8
        server.call("/api/round", {"train": True})
        state = server.wait_for("labelling")
        assert state["round"] == {"number": 2, "size": 4, "done": 0}
        run = root / "labels.rounds" / "round-1"
        assert (run / "report.html").exists()
        server._until(lambda: server.state()["scenes"][0]["suggestions"])
        for scene in server.state()["scenes"]:
            if scene["suggestions"]:
                assert {name for name, _ in scene["suggestions"]} == {"dark", "light"}
                assert sum(value for _, value in scene["suggestions"]) == pytest.approx(1, abs=1e-3)
        server.label_round()
        assert server.state()["phase"] == "finished"
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=240) == 0
    finally:
        server.process.kill()
        server.process.wait()
    import pyarrow.parquet as pq

    table = pq.read_table(root / "labels.parquet").to_pydict()
    assert table["class"] == ["dark", "light"] * 6
    assert sorted(table["answer.round"]) == [1] * 8 + [2] * 4
    assert sum(text is not None for text in table["answer.suggested"]) >= 1


@pytest.mark.slow
def test_a_training_that_fails_says_why_and_the_page_goes_on(folder: Path) -> None:
    options = ["--classes", "dark,light", "--exclusive", "--budget", "6", "--train-options.method", "no-such"]
    server = Server(folder.parent, *options)
    try:
        server.label_round()
        server.call("/api/round", {"train": True})
        server._until(lambda: server.state()["rounds"]["step"] == "failed")
        assert "no method named 'no-such'" in server.state()["rounds"]["message"]
        server.call("/api/round", {"train": False})
        assert server.wait_for("labelling")["round"]["number"] == 2
    finally:
        server.process.kill()
        server.process.wait()
