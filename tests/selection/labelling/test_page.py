"""The page in a real browser, before a real server: people label by keyboard, and nothing they said is lost."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swath.scenes.open import open_scenes

pytestmark = pytest.mark.browser
HOSTILE = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "{{ 7 * 7 }}")
NAMES = ("<b>x.png", "a&quot;'\".png", "{{ 7 * 7 }}.png", "%2e%2e.png", "水 #?.png")


@pytest.fixture
def person(browser: Any) -> Any:
    """Return an opener of browsers of their own, each with what went wrong in it."""
    contexts = []

    def open_page(address: str, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(240_000)
        page.problems = []
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("dialog", lambda dialog: page.problems.append(dialog.message))
        # Nothing but this server is ever asked.
        base = address.partition("?")[0]
        page.on(
            "request",
            lambda request: request.url.startswith((base, "data:")) or page.problems.append(request.url),
        )
        go(page, address)
        return page

    yield open_page
    for context in contexts:
        context.close()  # once more does no harm


def go(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("body[data-ready]")


def until(page: Any, expression: str) -> None:
    """Wait for something to become true; asked from outside, because the page allows no script to be made of text."""
    end = time.monotonic() + 240
    while not page.evaluate(f"Boolean({expression})"):
        assert time.monotonic() < end, expression
        time.sleep(0.02)


def press(page: Any, key: str) -> str:
    """Press a key and wait for what the server says to it; return the scene that was shown."""
    until(page, "!busy && (view.phase !== 'labelling' || document.body.dataset.shown === scene.name)")
    name, turns = page.evaluate("[document.body.dataset.shown, turn]")
    page.keyboard.press(key)
    until(page, f"turn > {turns} && !busy")
    return str(name)


def said(log: Path) -> dict[str, dict[str, Any]]:
    """What stands in the log, by scene and person, taking back what was taken back."""
    answers: dict[str, Any] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["event"] == "answer":
            answers[record["id"]] = record
        if record["event"] == "undo":
            del answers[record["id"]]
    found: dict[str, dict[str, Any]] = {}
    for record in answers.values():
        found.setdefault(record["scene"], {})[record["user"]] = record
    return found


def test_fifty_scenes_by_keyboard_with_undo_reload_kill_and_two_people(
    images: Callable[..., Path], serve: Callable[..., Any], person: Any, tmp_path: Path
) -> None:
    log, out = tmp_path / "labels.answers.jsonl", tmp_path / "labels.parquet"
    options = ("--classes", "water,forest,field", "--exclusive", "--out", out, "--user", "anna")
    server = serve(images(60), *options)
    anna = person(server.address)
    assert anna.url == f"{server.base}/", "the token does not stay in the address"
    wanted: dict[str, str] = {}
    keys = {"1": "water", "2": "forest", "3": "field"}
    for place in range(25):
        key = "123"[place % 3]
        shown = press(anna, key)
        # It is on disk before the next scene shows.
        assert said(log)[shown]["anna"]["labels"] == {keys[key]: 1}
        wanted[shown] = keys[key]
    # Undo shows the scene again with what was said; then it is said otherwise.
    press(anna, "Backspace")
    again = anna.evaluate("scene.name")
    assert anna.locator(".class.before .label").all_inner_texts() == [wanted[again]]
    assert again not in said(log)
    assert press(anna, "2") == again
    wanted[again] = "forest"
    unclear = press(anna, "0")
    assert said(log)[unclear]["anna"]["unclear"]
    # A reload shows the same scene and goes on.
    before = anna.evaluate("scene.name")
    go(anna, f"{server.base}/")
    assert anna.evaluate("scene.name") == before
    # A second person, at the same time, gets other scenes.
    ben = person(server.address)
    ben.click("#who")
    ben.fill("#user", "ben")
    ben.keyboard.press("Enter")
    until(ben, "user === 'ben' && view && scene && document.body.dataset.shown === scene.name")
    for _ in range(6):
        assert anna.evaluate("scene.name") != ben.evaluate("scene.name")
        wanted[press(ben, "3")] = "field"
        wanted[press(anna, "1")] = "water"
    assert not [problem for page in (anna, ben) for problem in page.problems]
    # The server is killed and started again, and it goes on. Ben stays away: his scenes are nobody's again.
    anna.context.close()
    ben.context.close()
    server.kill()
    server = serve(tmp_path / "images", "--out", out, "--user", "anna")
    anna = person(server.address)
    assert anna.inner_text("#count").startswith("38 of")
    while anna.evaluate("view.phase") == "labelling":
        wanted[press(anna, "2")] = "forest"
    assert len(wanted) >= 50
    assert anna.inner_text("#between-title") == "All scenes are labelled"
    assert server.stop() == 0
    found = said(log)
    assert len(found) == 60
    for name, by in found.items():
        assert len(by) == 1
        record = next(iter(by.values()))
        assert record["labels"] == ({} if name == unclear else {wanted[name]: 1})
        assert record["seconds"] >= 0
        assert record["suggested"] is None
    labels = open_scenes(out)
    column = dict(zip(labels.columns["path"], labels.labels.class_index, strict=True))
    for name, label in wanted.items():
        assert labels.labels.classes[column[f"images/{name}"]] == label
    assert not anna.problems


def test_full_labels_hostile_names_search_and_a_phone(
    images: Callable[..., Path], serve: Callable[..., Any], person: Any, tmp_path: Path
) -> None:
    out, log = tmp_path / "labels.parquet", tmp_path / "labels.answers.jsonl"
    classes = [*HOSTILE, *(f"class {letter}" for letter in "abcdefghijklmnop")]
    server = serve(images(names=NAMES), "--classes", ",".join(classes), "--out", out)
    page = person(server.address, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator(".class .label").all_inner_texts() == classes
    names = {scene["name"] for scene in page.evaluate("view.scenes")}
    assert names <= set(NAMES)
    assert page.inner_text("#name") in NAMES
    for key, wanted in (("1", "1"), ("2", "1"), ("2", "0"), ("3", "1"), ("3", "0"), ("3", "")):
        page.keyboard.press(key)
        assert page.locator(".class").nth(int(key) - 1).get_attribute("data-state") == wanted
    # A class by its name: Enter takes the first that is left.
    page.keyboard.press("/")
    page.keyboard.type("Class N")
    assert page.locator(".class:visible .label").all_inner_texts() == ["class n"]
    page.keyboard.press("Enter")
    page.keyboard.press("-")
    shown = press(page, "Enter")
    labels = next(iter(said(log)[shown].values()))["labels"]
    assert {name for name, state in labels.items() if state == 1} == {HOSTILE[0], "class n"}
    assert set(labels) == set(classes)
    # Touch works too.
    page.locator(".class").nth(4).click()
    page.click("#next")
    until(page, "view.round.done === 2")
    page.keyboard.press("?")
    page.wait_for_selector("#figures table")
    page.keyboard.press("Escape")
    assert not page.problems
    server.stop()
    table = open_scenes(out)
    assert set(table.labels.classes) == set(classes)
    assert {path.removeprefix("images/") for path in table.columns["path"]} == set(NAMES)


def test_the_server_is_away_for_a_while_and_the_answer_arrives(
    images: Callable[..., Path], serve: Callable[..., Any], person: Any, tmp_path: Path
) -> None:
    server = serve(
        images(4), "--classes", "water,forest", "--exclusive", "--out", tmp_path / "labels.parquet"
    )
    page = person(server.address)
    shown = page.evaluate("document.body.dataset.shown")
    page.context.set_offline(True)
    page.keyboard.press("1")
    page.wait_for_selector("#banner:not([hidden])")
    assert "sent again" in page.inner_text("#banner")
    assert page.evaluate("document.body.dataset.shown") == shown, "no next scene before the answer is on disk"
    page.context.set_offline(False)
    until(page, "!busy && view.round.done === 1")
    assert page.locator("#banner").is_hidden()
    assert list(said(tmp_path / "labels.answers.jsonl")) == [shown]
    # Another address, or none, does not open the page.
    stranger = page.context.browser.new_page()
    assert "Open the address" in stranger.goto(server.base).text()
    stranger.close()
