"""Curricula over domains on EuroSAT: sensors that see colours differently, some of which are not trained on.

    python benchmarks/curricula.py eurosat-rgb.zip RESULTS.json --seeds 0,1,2,3,4

Every scene is seen by one of seven simulated sensors: each has gains, offsets and a mixing of the bands of its own, and
some blur. Half of the labelled scenes come from the first sensor, the others from three more; the last three are only
tested. What a sensor does is drawn from the seed, so each seed has other sensors, scenes and weights. Cells that
RESULTS holds already are not run again. Last epoch, nothing is chosen.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comparison_tables import together, write
from torch import Tensor

from swath.encoders import build_model
from swath.evaluation.metrics import Measures
from swath.evaluation.report.comparison_rows import Column
from swath.methods import make_method
from swath.randomness import stream
from swath.tasks.prepare import prepare
from swath.tasks.train import option_defaults
from swath.training import Settings, fit
from swath.training.predict import probabilities

METHODS = ("cross-entropy", "entropy-curriculum", "ddsc")
SHARES = (0.5, 1 / 6, 1 / 6, 1 / 6)  # of the labelled scenes, by sensor
SENSORS = 7
TRAINING: dict[str, Any] = {
    "batch_size": 64,
    "learning_rate": 2e-3,
    "weight_decay": 1e-2,
    "warmup_epochs": 2.0,
    "precision": "bf16",
}


class Sensors:
    """What each sensor makes of normalised images.

    Args:
        seed: Decides all of them; the first leaves images as they are.
    """

    def __init__(self, seed: int) -> None:
        random = stream(seed, "curricula benchmark sensors")
        mixing = np.eye(3) * np.exp(random.uniform(-0.5, 0.5, (SENSORS, 1, 3)))
        mixing = mixing + random.uniform(-0.2, 0.2, (SENSORS, 3, 3))
        mixing[0] = np.eye(3)
        offset = random.uniform(-0.7, 0.7, (SENSORS, 3, 1, 1))
        offset[0] = 0
        blurred = random.uniform(0, 1, SENSORS)
        blurred[0] = 0
        self.mixing, self.offset, self.blurred = (
            torch.from_numpy(part).float() for part in (mixing, offset, blurred)
        )

    def __call__(self, images: Tensor, sensor: Tensor) -> Tensor:
        """Return images (B, 3, H, W) as their sensors (B,) see them."""
        smooth = torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
        images = torch.lerp(images, smooth, self.blurred[sensor].view(-1, 1, 1, 1))
        return torch.einsum("bij,bjhw->bihw", self.mixing[sensor], images) + self.offset[sensor]


def run(cell: dict[str, Any], data: str) -> dict[str, Any]:
    """Train one cell and test it on every sensor."""
    seed = cell["seed"]
    options = {**option_defaults(), **TRAINING, "data": data, "size": 32, "seed": seed}
    prepared = prepare(options)
    sensors, random = Sensors(seed), stream(seed, "curricula benchmark scenes")
    # The labelled scenes: as many of each class, in a random order of their own.
    index = prepared.truth.class_index
    by_class = [
        random.permutation(rows)
        for rows in (
            prepared.parts["train"][index[prepared.parts["train"]] == code] for code in np.unique(index)
        )
    ]
    rows = np.concatenate([part[: round(cell["share"] * len(part))] for part in by_class])
    sensor = np.zeros(len(prepared.truth), np.int64)
    sensor[rows] = random.choice(len(SHARES), len(rows), p=SHARES)
    labels = dataclasses.replace(prepared.truth.take(rows), columns={"domain": sensor[rows]})

    def read(wanted: Any) -> Tensor:
        return sensors(prepared.read(wanted), torch.from_numpy(sensor[wanted]))

    method = make_method(
        cell["method"], {} if cell["method"] == "cross-entropy" else {"base": "cross-entropy"}
    )
    model = build_model("small_resnet", prepared.contract, size=32, seed=seed)
    settings = Settings(epochs=cell["epochs"], seed=seed, augment=("flips", "turns"), **TRAINING)
    with tempfile.TemporaryDirectory() as folder:
        network, _ = fit(model, method, read, rows, labels, settings, Path(folder))
    test = prepared.parts["test"]
    truth, accuracy = prepared.truth.take(test), []
    for code in range(SENSORS):
        sensor[test] = code
        accuracy.append(Measures(truth, probabilities(network, read, test)).value()["overall_accuracy"])
    seen = len(SHARES)
    return {
        **cell,
        "main": accuracy[0],
        "seen": float(np.mean(accuracy[1:seen])),
        "unseen": float(np.mean(accuracy[seen:])),
        "accuracy": accuracy,
    }


def main() -> None:
    """Run the cells that are missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--picture", type=Path, help="draw the table here, as SVG")
    given = parser.parse_args()
    torch.set_num_threads(1)
    plan = [
        {"method": method, "share": share, "epochs": epochs, "seed": int(seed)}
        for share, epochs in ((0.05, 60), (0.25, 24))
        for seed in given.seeds.split(",")
        for method in METHODS
    ]
    found = json.loads(given.results.read_text()) if given.results.exists() else []
    for cell in plan:
        if any(all(row[name] == cell[name] for name in cell) for row in found):
            continue
        found.append(run(cell, given.data))
        given.results.write_text("[\n" + ",\n".join(map(json.dumps, found)) + "\n]\n")
        print(found[-1], flush=True)
    print(
        "| labelled | method | first sensor | other sensors seen | sensors not seen |\n|---|---|---|---|---|"
    )
    for share in sorted({cell["share"] for cell in plan}):
        for method in METHODS:
            rows = [row for row in found if row["method"] == method and row["share"] == share]
            columns = [said([100 * row[name] for row in rows]) for name in ("main", "seen", "unseen")]
            print(f"| {100 * share:g} % | {method} |", " | ".join(columns), "|")

    if given.picture:
        places = {"main": "first sensor", "seen": "others seen", "unseen": "not seen"}
        column = Column("overall_accuracy", "overall accuracy", True)
        write(
            together(
                [
                    {**row, "draw": f"{100 * row['share']:g} % labelled, {place}", column.key: row[name]}
                    for name, place in places.items()
                    for row in found
                ],
                column,
            ),
            given.picture,
        )


def said(values: list[float]) -> str:
    """Return mean ± standard deviation over seeds."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


if __name__ == "__main__":
    main()
