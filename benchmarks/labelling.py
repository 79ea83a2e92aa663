"""How soon the labelling page is there, and how soon the next scene shows, with many scenes.

    python benchmarks/labelling.py --scenes 100000 --answers 200 --out benchmarks/results/labelling.json

A folder of small images is made in a temporary folder. The server is a process of its own and the page runs in a real
browser; the time of an answer goes from the key to the frame in which the next scene is on the screen, with the answer
on disk in between. ``--no-browser`` measures the same without a browser: answer, fsync, next picture over HTTP.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from swath.files import write_json

# Runs in the page: presses a key and waits until the next scene has been painted.
PRESS = """async key => {
  const before = document.body.dataset.shown, begun = performance.now();
  document.dispatchEvent(new KeyboardEvent("keydown", { key, code: "Digit" + key, bubbles: true }));
  while (document.body.dataset.shown === before) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - begun;
}"""


def make_images(folder: Path, number: int, size: int) -> None:
    """Make JPEG files of noise, a thousand to a folder; each file is a copy of one of a hundred."""
    random = np.random.default_rng(0)
    originals = []
    for place in range(min(100, number)):
        path = folder.parent / f"original-{place}.jpg"
        Image.fromarray(random.integers(0, 255, (size, size, 3)).astype(np.uint8)).save(path)
        originals.append(path.read_bytes())
    for place in range(number):
        path = folder / f"{place // 1000:04d}" / f"{place:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(originals[place % len(originals)])


def start(folder: Path, out: Path) -> tuple[subprocess.Popen[bytes], str, float]:
    """Start the server; return it, its address and the seconds until the page was answered."""
    words = [
        sys.executable,
        "-m",
        "swath",
        "label",
        str(folder),
        "--classes",
        "water,forest,field",
        "--exclusive",
    ]
    begun = time.perf_counter()
    log = out.with_suffix(".txt")
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*words, "--out", str(out), "--port", "0", "--no-browser"], stdout=output, stderr=output
        )
    while not (found := re.search(r"http://\S+", log.read_text())):
        if server.poll() is not None:
            raise SystemExit(log.read_text())
        time.sleep(0.005)
    with urllib.request.urlopen(found.group(), timeout=600) as reply:
        reply.read()
    return server, found.group(), time.perf_counter() - begun


def in_browser(address: str, answers: int) -> list[float]:
    """Return the milliseconds from each key to the next scene on the screen."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = driver.chromium.launch(executable_path=program, args=options)
        page = browser.new_page()
        page.set_default_timeout(600_000)
        page.goto(address)
        page.wait_for_selector("body[data-shown]")
        found = []
        for place in range(answers):
            found.append(page.evaluate(PRESS, "123"[place % 3]))
            time.sleep(0.3)  # nobody answers faster; meanwhile the page loads ahead
        browser.close()
    return found


def over_http(address: str, answers: int) -> list[float]:
    """Return the milliseconds from each answer to the next scene's picture, without a browser."""
    base, _, _ = address.partition("/?")
    with urllib.request.urlopen(address, timeout=600) as reply:
        cookie = reply.headers["Set-Cookie"].partition(";")[0]

    def call(path: str, body: dict[str, Any] | None = None) -> bytes:
        headers = {"Cookie": cookie, "Origin": base, "Content-Type": "application/json"}
        content = None if body is None else json.dumps({"client": "c", "user": "u", **body}).encode()
        with urllib.request.urlopen(
            urllib.request.Request(base + path, content, headers), timeout=600
        ) as reply:
            return bytes(reply.read())

    state, found = json.loads(call("/api/state?client=c&user=u")), []
    for place in range(answers):
        answer = {
            "id": str(place),
            "scene": state["scenes"][0]["name"],
            "labels": {"water": 1},
            "unclear": False,
        }
        begun = time.perf_counter()
        state = json.loads(call("/api/answer", answer | {"seconds": 1.0, "suggested": None}))
        call(f"/scene/{state['scenes'][0]['position']}")
        found.append(1000 * (time.perf_counter() - begun))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scenes", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_images(root / "images", options.scenes, options.size)
        starts = []
        for turn in range(options.starts):
            server, address, seconds = start(root / "images", root / f"labels-{turn}.parquet")
            starts.append(seconds)
            if turn < options.starts - 1:
                server.terminate()
                server.wait()
        try:
            times = (over_http if options.no_browser else in_browser)(address, options.answers)
        finally:
            server.terminate()
            server.wait()
    found = {
        "scenes": options.scenes,
        "image_size": options.size,
        "answers": options.answers,
        "browser": not options.no_browser,
        "start_seconds": {"first": round(starts[0], 3), "median": round(statistics.median(starts), 3)},
        "next_scene_ms": {
            "median": round(statistics.median(times), 1),
            "95th percentile": round(sorted(times)[int(0.95 * len(times))], 1),
            "longest": round(max(times), 1),
        },
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
    }
    print(json.dumps(found, indent=2))
    if options.out:
        write_json(options.out, found)


if __name__ == "__main__":
    main()
