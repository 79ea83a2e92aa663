"""How fast an epoch of EuroSAT is read in random order, as normalised float32 batches ready for a model.

Measured in one run, alternating: the packed store; torchvision's ImageFolder with a DataLoader of 2 workers over
the same JPEG files; and copying the same rows out of a plain NumPy memory map and converting them to float32.

    python benchmarks/loading.py benchmarks/results/loading.json --data ../shared/data/eurosat-rgb.zip
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision

import swath
from swath.files import write_json
from swath.scenes.packing import pack
from swath.scenes.statistics import statistics as band_statistics

BATCH = 256
WORKERS = 2


def per_second(epoch: Callable[[], int]) -> float:
    start = time.perf_counter()
    scenes = epoch()
    return scenes / (time.perf_counter() - start)


def image_folder_epoch(folder: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> Callable[[], int]:
    steps = [torchvision.transforms.ToTensor(), torchvision.transforms.Normalize(mean, std)]
    scenes = torchvision.datasets.ImageFolder(str(folder), torchvision.transforms.Compose(steps))

    def epoch() -> int:
        loader = torch.utils.data.DataLoader(scenes, BATCH, shuffle=True, num_workers=WORKERS)
        return sum(len(images) for images, _ in loader)

    return epoch


def spread(values: list[float]) -> dict[str, float | int]:
    ordered = sorted(values)
    return {
        "median": statistics.median(ordered),
        "lowest": ordered[0],
        "highest": ordered[-1],
        "repetitions": len(ordered),
    }


def measure(data: Path, repetitions: int, pairs: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="swath-loading-") as scratch:
        with zipfile.ZipFile(data) as archive:
            archive.extractall(scratch)
        folder = next(path.parent.parent for path in Path(scratch).rglob("*.jpg"))
        start = time.perf_counter()
        store = pack(swath.open_scenes(folder), 64, Path(scratch) / "store")
        packing = len(store) / (time.perf_counter() - start)
        mean, std = band_statistics(store, np.arange(len(store)))
        contract = store.contract.with_statistics(mean, std)
        plain = np.load(store.folder / "images.npy", mmap_mode="r")
        random = np.random.default_rng(0)

        def orders() -> list[np.ndarray]:
            order = random.permutation(len(store))
            return [order[first : first + BATCH] for first in range(0, len(order), BATCH)]

        def packed_epoch() -> int:
            return sum(len(store.batch(rows, contract)) for rows in orders())

        def memory_map_epoch() -> int:
            return sum(len(np.asarray(plain[rows]).astype(np.float32)) for rows in orders())

        folder_epoch = image_folder_epoch(folder, mean, std)
        packed_epoch(), memory_map_epoch()  # both have the file in the system's cache
        rates: dict[str, list[float]] = {"packed": [], "memory_map": [], "image_folder": []}
        to_map: list[float] = []
        to_folder: list[float] = []
        for _ in range(repetitions):
            rates["image_folder"].append(per_second(folder_epoch))
            here: list[float] = []
            for number in range(pairs):
                # Neither is always the first.
                kinds = [("packed", packed_epoch), ("memory_map", memory_map_epoch)]
                measured = {name: per_second(epoch) for name, epoch in (kinds if number % 2 else kinds[::-1])}
                to_map.append(measured["packed"] / measured["memory_map"])
                here.append(measured["packed"])
                for name, rate in measured.items():
                    rates[name].append(rate)
            to_folder.append(statistics.median(here) / rates["image_folder"][-1])
        return {
            "what": "scenes per second, EuroSAT RGB 64 px, random order, normalised float32 batches",
            "scenes": len(store),
            "batch": BATCH,
            "packing_scenes_per_second": packing,
            "scenes_per_second": {name: spread(values) for name, values in rates.items()},
            "packed_over_image_folder": {**spread(to_folder), "wanted": 20},
            "packed_over_memory_map": {**spread(to_map), "wanted": 0.7},
            "machine": {
                "cores": os.cpu_count(),
                "load_average": os.getloadavg()[0],
                "processor": platform.machine(),
                "python": platform.python_version(),
                "numpy": np.__version__,
                "torch": torch.__version__,
                "torchvision": torchvision.__version__,
            },
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path, help="JSON file to write")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/eurosat-rgb.zip"))
    parser.add_argument("--repetitions", type=int, default=3, help="epochs of ImageFolder")
    parser.add_argument("--pairs", type=int, default=7, help="epochs of the two others in each repetition")
    arguments = parser.parse_args()
    result = measure(arguments.data, arguments.repetitions, arguments.pairs)
    write_json(arguments.result, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
