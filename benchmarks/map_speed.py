"""How fast `swath map` is: `python benchmarks/map_speed.py` writes benchmarks/results/map_speed.json.

One scene of the synthetic Earth is written to a temporary folder and mapped whole by `swath.map_scenes`: reading,
normalising, the model, blending and every file of the map. It is compared, turn by turn in one process, with

(a) the bare model on batches that lie in memory as tensors, normalised;
(b) the loop a TorchGeo user writes: RasterDataset, GridGeoSampler, DataLoader with 2 workers, stitching, a GeoTIFF of
    the probabilities and one of the labels;
(c) the same loop where both run a model that costs next to nothing, so that only the machinery counts;
(d) itself with --shared-features, at a stride of a quarter window; and how much that changes the map.

All sides run the same network, its weights laid out as swath lays them, with the same threads and batch, on a file in
the system's cache. What a ratio is wanted to be stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler

import swath
from swath.encoders import SceneModel, build_model, register_encoder
from swath.files import write_json
from swath.mapping.compute import ready
from swath.mapping.grid import WindowGrid
from swath.scenes.earth import SyntheticEarth
from swath.training.run import load_model, save_model

SEED, SIZE, BATCH, LOADERS = 0, 64, 64, 2
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
STORED_STEP = 1e-4
IN_MEMORY = 16  # different batches


@register_encoder("band_means")
class BandMeans(nn.Module):
    """The mean of each band over the window: a model that costs next to nothing."""

    def __init__(self, bands: int, size: int) -> None:
        super().__init__()
        self.num_features = bands

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean of each band."""
        return images.mean(dim=(2, 3))


class OneScene(RasterDataset):
    """A GeoTIFF as a TorchGeo data set."""

    filename_glob = "*.tif"
    is_image = True


def torchgeo_loop(model: SceneModel, scene: Path, stride: int, out: Path) -> None:
    """Map a scene as one does with TorchGeo: windows from a grid sampler, summed up where they overlap."""
    contract = model.contract
    scale, mean, std = (
        torch.tensor(values).view(-1, 1, 1) for values in (contract.scale, contract.mean, contract.std)
    )

    def normalise(sample: dict[str, Any]) -> dict[str, Any]:
        sample["image"] = (sample["image"] * scale - mean) / std
        return sample

    dataset = OneScene(scene, transforms=normalise)
    sampler = GridGeoSampler(dataset, size=SIZE, stride=stride)
    loader = DataLoader(dataset, BATCH, sampler=sampler, num_workers=LOADERS, collate_fn=stack_samples)
    with rasterio.open(scene) as raster:
        height, width, transform, crs = raster.height, raster.width, raster.transform, raster.crs
    cells, covers = (height // stride, width // stride), SIZE // stride
    total = np.zeros((len(contract.classes), *cells), np.float32)
    count = np.zeros(cells, np.float32)
    with torch.inference_mode():
        for batch in loader:
            probability = model.to_probability(model(batch["image"])).numpy()
            for values, (x, y, _) in zip(probability, batch["bounds"], strict=True):
                column, row = (round(place / stride) for place in ~transform * (x.start, y.stop))
                total[:, row : row + covers, column : column + covers] += values[:, None, None]
                count[row : row + covers, column : column + covers] += 1
    blended = total / count
    profile = {
        "driver": "GTiff", "height": cells[0], "width": cells[1], "crs": crs, "tiled": True, "compress": "deflate",
        "transform": transform * rasterio.Affine.scale(stride),
    }  # fmt: skip
    stored = np.rint(blended / STORED_STEP).astype(np.uint16)
    with rasterio.open(out / "probability.tif", "w", count=len(stored), dtype="uint16", **profile) as raster:
        raster.write(stored)
    labels = blended.argmax(axis=0)[None] if contract.exclusive else blended >= 0.5
    with rasterio.open(out / "labels.tif", "w", count=len(labels), dtype="uint8", **profile) as raster:
        raster.write(labels.astype(np.uint8))


def bare_model(model: SceneModel, scene: Path, windows: int) -> Callable[[], None]:
    """Return what puts so many windows through the model, from batches of real windows in memory."""
    contract, random = model.contract, np.random.default_rng(SEED)
    mean, std = (np.array(values)[:, None, None] for values in (contract.mean, contract.std))
    batches = []
    with rasterio.open(scene) as raster:
        for _ in range(IN_MEMORY):
            corners = random.integers(0, [raster.height - SIZE, raster.width - SIZE], (BATCH, 2))
            pixels = [
                raster.read(window=((row, row + SIZE), (column, column + SIZE))) for row, column in corners
            ]
            images = (np.stack(pixels) * np.array(contract.scale)[:, None, None] - mean) / std
            batches.append(torch.from_numpy(images.astype(np.float32)).to(memory_format=torch.channels_last))

    def run() -> None:
        with torch.inference_mode():
            for start in range(0, windows, BATCH):
                images = batches[start // BATCH % IN_MEMORY][: windows - start]
                model.to_probability(model(images))

    return run


def seconds(what: Callable[[], object]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def by_turns(sides: dict[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Time each side in each repetition; each goes first as often as the others."""
    names, found = list(sides), {name: [] for name in sides}
    for repetition in range(repetitions):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(seconds(sides[name]))
    return found


def ratio(slow: list[float], quick: list[float], wanted: float) -> dict[str, float | int]:
    """Return how many times as fast the second is, within each repetition."""
    ratios = [one / other for one, other in zip(slow, quick, strict=True)]
    return {
        "median": round(statistics.median(ratios), 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
        "repetitions": len(ratios),
        "wanted": wanted,
    }


def rates(times: dict[str, list[float]], windows: int) -> dict[str, float]:
    return {name: round(windows / statistics.median(values), 1) for name, values in times.items()}


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        values: np.ndarray = raster.read()
        return values


def difference(exact: Path, shared: Path) -> dict[str, float]:
    """Compare two maps of one scene, cell by cell."""
    one, other = (read(folder / "scene.probability.tif").astype(float) for folder in (exact, shared))
    labels = [read(folder / "scene.labels.tif") for folder in (exact, shared)]
    known = (one != 65535).all(axis=0) & (other != 65535).all(axis=0)
    apart = np.abs(one - other)[:, known] * STORED_STEP
    return {
        "probability_mean": round(float(apart.mean()), 4),
        "probability_95_percent": round(float(np.quantile(apart, 0.95)), 4),
        "probability_largest": round(float(apart.max()), 4),
        "same_most_likely_class": round(float((one.argmax(0) == other.argmax(0))[known].mean()), 4),
        "same_labels": round(float((labels[0] == labels[1])[:, known].mean()), 4),
        "cells": int(known.sum()),
    }


class Maps:
    """Maps scenes into ever new folders, since what is mapped already is not mapped again."""

    def __init__(self, run: Path, scene: Path, folder: Path, **options: Any) -> None:
        self.run, self.scene, self.folder, self.options = run, scene, folder, options
        self.count = 0

    @property
    def last(self) -> Path:
        """Where the last map is."""
        return self.folder / str(self.count)

    def __call__(self) -> None:
        """Map the scene once more."""
        self.count += 1
        swath.map_scenes(self.run, [self.scene], out=self.last, batch_size=BATCH, **self.options)


def with_torchgeo(run: Path, scene: Path, folder: Path, stride: int, repetitions: int) -> dict[str, Any]:
    """Compare `swath map` with the bare model and with the loop; the overlapping windows count alike in both."""
    model = ready(load_model(run))
    with rasterio.open(scene) as raster:
        grid = WindowGrid(raster.height, raster.width, SIZE, stride)
    windows = grid.windows[0] * grid.windows[1]
    loop = folder / "loop"
    loop.mkdir(parents=True)
    maps = Maps(run, scene, folder / "maps", stride=stride, blend="flat")
    times = by_turns(
        {
            "bare_model": bare_model(model, scene, windows),
            "swath_map": maps,
            "torchgeo_loop": lambda: torchgeo_loop(model, scene, stride, loop),
        },
        repetitions,
    )
    apart = np.abs(
        read(loop / "probability.tif").astype(int) - read(maps.last / "scene.probability.tif").astype(int)
    )
    return {
        "windows": windows,
        "times": times,
        "windows_per_second": rates(times, windows),
        # Both made the same map, or the comparison would be worth nothing.
        "largest_difference_of_probability": round(float(apart.max() * STORED_STEP), 4),
    }


def shared_against_exact(
    run: Path, scene: Path, folder: Path, stride: int, repetitions: int
) -> dict[str, Any]:
    exact = Maps(run, scene, folder / "exact", stride=stride)
    shared = Maps(run, scene, folder / "shared", stride=stride, shared_features=True)
    times = by_turns({"exact": exact, "shared": shared}, repetitions)
    return {
        "stride": stride,
        "shared_over_exact": ratio(times["exact"], times["shared"], 5),
        "seconds": {name: round(statistics.median(values), 2) for name, values in times.items()},
        "difference": difference(exact.last, shared.last),
    }


def cheap_run(folder: Path, like: SceneModel) -> Path:
    """Write a run whose model costs next to nothing, with another model's contract."""
    folder.mkdir()
    (folder / "config.yaml").write_text("method: none\n")
    save_model(build_model("band_means", like.contract, size=SIZE, seed=SEED), folder, {})
    return folder


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    runs = {}
    for encoder in arguments.shared:
        runs[encoder] = swath.train(
            SyntheticEarth(scenes=arguments.scenes, size=SIZE, bands=BANDS, seed=SEED),
            out=folder / f"run-{encoder}", method="all-known", encoder=encoder, size=SIZE,
            epochs=arguments.epochs, seed=SEED,
        ).folder  # fmt: skip
    run = runs[arguments.shared[0]]
    whole = SyntheticEarth.scene(arguments.pixels, arguments.pixels, BANDS, seed=SEED + 1)
    scene, small = (folder / name / "scene.tif" for name in ("whole", "small"))
    for path, side in ((scene, arguments.pixels), (small, 4 * SIZE)):
        path.parent.mkdir()
        image, cover = whole.image[:, :side, :side], whole.land_cover[:side, :side]
        type(whole)(image, cover, whole.contract, whole.x, whole.y).write_scene(path)
    del whole, image, cover
    stride, overlapping, turns = SIZE // 2, SIZE // 4, arguments.repetitions
    cheap = cheap_run(folder / "run-cheap", load_model(run))
    for number, warm in enumerate((run, cheap)):  # the first time is slower
        with_torchgeo(warm, small, folder / f"warm-{number}", stride, 1)
    network = with_torchgeo(run, scene, folder / "network", stride, turns)
    machinery = with_torchgeo(cheap, scene, folder / "machinery", stride, turns)
    times, cheap_times = network.pop("times"), machinery.pop("times")
    return {
        "what": f"maps of a synthetic scene of {arguments.pixels} x {arguments.pixels} px, {len(BANDS)} bands, uint16, "
        f"windows of {SIZE} px, stride {stride} px, batch {BATCH}; seed {SEED}",
        "swath_map_over_bare_model": ratio(times["bare_model"], times["swath_map"], 0.85),
        "swath_map_over_torchgeo_loop": ratio(times["torchgeo_loop"], times["swath_map"], 1.8),
        "swath_map_over_torchgeo_loop_model_of_no_cost": ratio(
            cheap_times["torchgeo_loop"], cheap_times["swath_map"], 4
        ),
        "encoder": arguments.shared[0],
        "network": network,
        "model_of_no_cost": machinery,
        "shared_features": {
            "trained_on": f"{arguments.scenes} scenes of the synthetic Earth, {arguments.epochs} epochs",
            "encoders": {
                encoder: shared_against_exact(
                    runs[encoder], scene, folder / f"overlap-{encoder}", overlapping, turns
                )
                for encoder in runs
            },
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "map_speed.json")
    parser.add_argument("--pixels", type=int, default=4096, help="side of the scene, a multiple of 128")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--scenes", type=int, default=4000, help="to train on")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument(
        "--shared",
        nargs="+",
        default=["scene_mixer", "small_resnet"],
        help="encoders; the first is used for all",
    )
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="swath-map-speed-") as folder:
        result = measure(arguments, Path(folder))
    result["machine"] = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(load, 1),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchgeo", "rasterio", "numpy")},
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
