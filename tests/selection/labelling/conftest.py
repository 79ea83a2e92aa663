"""A labelling of small images, without and with a server around it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swath.selection.labelling.answers import Answer, AnswerLog, now
from swath.selection.labelling.job import Job, at_random
from swath.selection.labelling.session import Session

CLASSES = ("water", "forest", "field")


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of a folder of images; each has a colour of its own."""

    def make(number: int = 12, names: Sequence[str] | None = None, folder: str = "images") -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        for place, name in enumerate(names or [f"{place:03d}.png" for place in range(number)]):
            pixels = np.zeros((8, 8, 3), np.uint8)
            pixels[:] = (20 * place % 256, 255 - 20 * place % 256, 7 * place % 256)
            pixels[0, 0] = place % 256, place // 256, 1
            Image.fromarray(pixels).save(root / name)
        return root

    return make


@pytest.fixture
def said() -> Callable[..., Answer]:
    """Return a maker of answers, each with an id of its own."""

    def make(scene: str, labels: dict[str, int] | None = None, user: str = "anna", **changed: Any) -> Answer:
        values: dict[str, Any] = {
            "id": os.urandom(8).hex(),
            "scene": scene,
            "user": user,
            "labels": {} if labels is None else labels,
            "unclear": labels is None,
            "round": 1,
            "at": now(),
            "seconds": 1.5,
        }
        return Answer(**(values | changed))

    return make


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Callable[..., Session]]:
    """Return a maker of sessions on the same log: each call is a restart."""
    opened: list[AnswerLog] = []

    def make(scenes: int = 12, mode: Any = "one-class", **options: Any) -> Session:
        for log in opened:
            log.close()
        opened[:] = [AnswerLog(tmp_path / "labels.answers.jsonl")]
        names = options.pop("names", [f"{place:03d}.png" for place in range(scenes)])
        known = options.pop("known", np.zeros(len(names), bool))
        clock = options.pop("clock", time.monotonic)
        ask = options.pop("ask", at_random(options.get("seed", 0)))
        classes = options.pop("classes", CLASSES)
        return Session(Job("images", names, classes, mode, known, **options), opened[0], ask, clock=clock)

    yield make
    for log in opened:
        log.close()


class Page:
    """A real server in a process of its own."""

    def __init__(self, arguments: Sequence[object], folder: Path) -> None:
        self.log = folder / "server.txt"
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "SWATH_CACHE": str(folder / "cache")}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "swath", "label", *map(str, arguments), "--port", "0", "--no-browser"],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        end = time.monotonic() + 240
        while not (found := re.search(r"https?://\S+", self.text)):
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"the server did not start: {self.text}")
            time.sleep(0.05)
        self.address = found.group()
        self.base, _, self.token = self.address.partition("/?token=")

    @property
    def text(self) -> str:
        """What it printed so far."""
        return self.log.read_text(errors="replace")

    def stop(self) -> int:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=240)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=60)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Return a starter of servers; whatever still runs at the end is killed."""
    pytest.importorskip("fastapi", reason="no server: install swath[label]")
    started: list[Page] = []

    def start(*arguments: object) -> Page:
        started.append(Page(arguments, tmp_path))
        return started[-1]

    yield start
    for page in started:
        if page.process.poll() is None:
            page.kill()
