"""Small data sets on disk that the tasks' tests share."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

CLASSES = ("water", "forest", "roof")
COLOURS = np.array([[30, 60, 140], [40, 110, 40], [170, 90, 80]])


@pytest.fixture(scope="session")
def table_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety images whose quadrants show their classes, with a complete table of labels."""
    folder = tmp_path_factory.mktemp("data") / "quadrants"
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    rows = []
    for number in range(90):
        quadrants = random.integers(0, 3, 4)
        image = COLOURS[quadrants].reshape(2, 2, 3).repeat(8, axis=0).repeat(8, axis=1)
        image = np.clip(image + random.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
        name = f"images/{number:03d}.png"
        Image.fromarray(image).save(folder / name)
        rows.append({"image": name, **{label: int(k in quadrants) for k, label in enumerate(CLASSES)}})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images in one folder per class."""
    folder = tmp_path_factory.mktemp("data") / "classes"
    random = np.random.default_rng(1)
    for k, label in enumerate(CLASSES):
        (folder / label).mkdir(parents=True)
        for number in range(20):
            image = np.clip(COLOURS[k] + random.normal(0, 25, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / label / f"{number:02d}.png")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep packed stores out of the user's cache; all tests share them."""
    monkeypatch.setenv("SWATH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def finished_run(table_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the table, made once; tests copy it before they change it."""
    import swath

    folder = tmp_path_factory.mktemp("runs") / "run"
    swath.train(
        table_folder,
        out=folder,
        method="assume-negative",
        size=16,
        epochs=2,
        seed=3,
        draw="single-positive-random",
    )
    return folder
