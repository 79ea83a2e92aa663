"""Land cover of a fifth date: trained on four Sentinel-2 dates, tested on blocks of ground that no date showed.

    python benchmarks/slovenia.py DATA/landcover-slovenia RESULTS.json [--pictures FOLDER]

The scene (101 x 100 px of 10 m) is cut into blocks of 20 px, of which seven are drawn for the test, again and again
until each class has a tenth of its pixels there (the rarest, 11 px, may miss it). Windows that lie wholly in the other
blocks train the model, from the first four dates; a window's class is the commonest of its middle pixels. `swath map`
then maps the fifth date in cells of 2 px, and cells of the test blocks are compared with the commonest class of their
pixels. The baseline is a random forest on single pixels of the same ground and dates.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import cohen_kappa_score

import swath
from swath.labels import LabelTable
from swath.randomness import stream
from swath.scenes import ArrayScenes, BandContract

NAMES = {1: "cultivated", 2: "forest", 3: "grassland", 4: "shrubs", 8: "artificial"}  # 0 is not mapped
BLOCK, WINDOW, MIDDLE, CELL, TESTED = 20, 4, 2, 2, 7
Grid = npt.NDArray[np.int64]


def commonest(codes: Grid, size: int) -> Grid:
    """Return the position of the commonest class in the size x size pixels from each place on, -1 if unmapped."""
    windows = np.lib.stride_tricks.sliding_window_view(codes, (size, size))
    votes = np.stack([(windows == code).sum(axis=(2, 3)) for code in NAMES])
    return np.where(votes.max(axis=0) > 0, votes.argmax(axis=0), -1)


def blocks_of(codes: Grid, seed: int) -> npt.NDArray[np.bool_]:
    """Return (height, width) booleans: the pixels of the test blocks."""
    height, width = codes.shape
    down, across = -(-height // BLOCK), -(-width // BLOCK)
    random = stream(seed, "slovenia benchmark")
    while True:
        chosen = np.zeros(down * across, bool)
        chosen[random.choice(down * across, TESTED, replace=False)] = True
        tested = np.kron(chosen.reshape(down, across), np.ones((BLOCK, BLOCK), bool))[:height, :width]
        shares = [tested[codes == code].mean() for code in NAMES if (codes == code).sum() > 100]
        if min(shares) >= 0.1 and max(shares) <= 0.6:
            return tested


def windows(
    dates: list[npt.NDArray[Any]], bands: tuple[str, ...], codes: Grid, tested: npt.NDArray[np.bool_]
) -> ArrayScenes:
    """Return the windows that lie wholly in training blocks, of every date."""
    free = ~np.lib.stride_tricks.sliding_window_view(tested, (WINDOW, WINDOW)).any(axis=(2, 3))
    margin = (WINDOW - MIDDLE) // 2
    label = commonest(codes, MIDDLE)[margin : margin + free.shape[0], margin : margin + free.shape[1]]
    places = np.argwhere(free & (label >= 0))
    images = [
        date[:, row : row + WINDOW, column : column + WINDOW] for date in dates for row, column in places
    ]
    index = np.tile(label[tuple(places.T)], len(dates))
    return ArrayScenes(
        np.stack(images),
        LabelTable.from_class_index(tuple(NAMES.values()), index),
        BandContract(bands, (1e-4,) * len(bands), gsd_m=10.0),
        name="slovenia",
    )


def judged(truth: Grid, given: Grid) -> dict[str, Any]:
    """Return overall accuracy, kappa, and for each class its cells and the share of them that is right."""
    known = truth >= 0
    truth, given = truth[known], given[known]
    recall = {
        name: {"cells": int((truth == code).sum()), "right": float((given[truth == code] == code).mean())}
        for code, name in enumerate(NAMES.values())
        if (truth == code).any()
    }
    return {
        "overall_accuracy": float((truth == given).mean()),
        "average_accuracy": float(np.mean([entry["right"] for entry in recall.values()])),
        "kappa": float(cohen_kappa_score(truth, given)),
        "classes": recall,
    }


def main() -> None:
    """Train, map and judge, seed by seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--pictures", type=Path, help="keep the first seed's map here")
    given = parser.parse_args()
    paths = sorted(given.data.glob("s2-l1c-*.tif"))
    dates = []
    for path in paths:
        with rasterio.open(path) as raster:
            dates.append(raster.read())
            bands = raster.descriptions
    with rasterio.open(given.data / "landcover.tif") as raster:
        codes = raster.read(1).astype(np.int64)
    found = []
    for seed in map(int, given.seeds.split(",")):
        tested = blocks_of(codes, seed)
        with tempfile.TemporaryDirectory() as folder:
            run = swath.train(
                windows(dates[:-1], bands, codes, tested),
                out=Path(folder) / "run",
                method="cross-entropy",
                encoder="scene_mixer",
                size=WINDOW,
                epochs=given.epochs,
                batch_size=256,
                learning_rate=2e-3,
                test_share=0.1,
                seed=seed,
            )
            maps = swath.map_scenes(run.folder, [paths[-1]], out=Path(folder) / "map", stride=CELL)
            with rasterio.open(maps.maps[0].files["labels"]) as raster:
                mapped = raster.read(1).astype(np.int64)
            if given.pictures and seed == 0:
                shutil.copytree(Path(folder) / "map", given.pictures, dirs_exist_ok=True)
        truth = commonest(codes, CELL)[::CELL, ::CELL]
        cells = np.s_[: truth.shape[0], : truth.shape[1]]
        # Cells whose pixels all lie in test blocks.
        inside = np.lib.stride_tricks.sliding_window_view(tested, (CELL, CELL)).all(axis=(2, 3))[
            ::CELL, ::CELL
        ]
        truth = np.where(inside, truth, -1)
        known = ~tested & np.isin(codes, list(NAMES))
        forest = RandomForestClassifier(200, random_state=seed, n_jobs=2).fit(
            np.concatenate([date[:, known].T for date in dates[:-1]]), np.tile(codes[known], len(dates) - 1)
        )
        single = forest.predict(dates[-1].reshape(len(bands), -1).T).reshape(codes.shape)
        record = {
            "seed": seed,
            "commonest": float(np.bincount(truth[truth >= 0]).max() / (truth >= 0).sum()),
            "swath": judged(truth, mapped[cells]),
            "random forest": judged(truth, commonest(single, CELL)[::CELL, ::CELL]),
        }
        found.append(record)
        print(json.dumps(record), flush=True)
        given.results.write_text("[\n" + ",\n".join(map(json.dumps, found)) + "\n]\n")


if __name__ == "__main__":
    main()
