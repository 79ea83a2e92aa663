"""What every test may use: the folder of real scenes, and a browser."""

import os

# Two test workers on two cores: one thread each. It has to be set before torch is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROJECT = Path(__file__).resolve().parents[1]

# On a busy machine any example may take its time; that says nothing about what is tested.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root."""
    return PROJECT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scenes: $SWATH_DATA, else ../shared/data beside the project."""
    named = os.environ.get("SWATH_DATA")
    folder = Path(named) if named else PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real scenes: {folder} is not a folder (set SWATH_DATA to where they are)")
    return folder


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """The system's chromium, driven by playwright; nothing is downloaded."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no browser: neither chromium nor google-chrome is on the PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: install swath[dev]")
    with playwright.sync_playwright() as driver:
        # Containers run as root and have a small /dev/shm; chromium starts in neither without these.
        started = driver.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield started
        started.close()


@pytest.fixture
def page(browser: "Browser") -> "Iterator[Page]":
    """A fresh page that cannot reach any network, so that a page which needs one fails here."""
    context = browser.new_context(offline=True)
    yield context.new_page()
    context.close()
