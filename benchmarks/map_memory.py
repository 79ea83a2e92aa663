"""How much memory `swath map` takes: `python benchmarks/map_memory.py` writes benchmarks/results/map_memory.json.

Scenes of 1, 4 and 16 times the pixels are mapped, each in a process of its own, which says how much it had resident at
most, libraries included, and how much when the model was loaded and nothing was mapped yet. With --giant a scene of
20,000 x 20,000 px follows. Scenes are made of a seed, block by block; they have 12 bands of uint16, patches of 16 px
with two bits of noise, so that they can be packed like real ones and the disk suffices.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.windows import Window

import swath
from swath.encoders import build_model
from swath.files import write_json
from swath.scenes import BandContract
from swath.training.memory import peak_memory
from swath.training.run import load_run, save_model

SEED, SIZE, BLOCK, GIANT = 0, 64, 512, 20_000
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
CLASSES = tuple(f"class {number}" for number in range(10))
ALLOWED_MIB = 2048
PLACE = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_500_000)}


def write_scene(path: Path, side: int) -> None:
    """Write a scene a block at a time."""
    unpacked = 2 * len(BANDS) * side**2
    free = shutil.disk_usage(path.parent).free
    if free < unpacked / 2 + 2**30:
        raise SystemExit(
            f"{path.parent} has {free / 2**30:.1f} GiB free and a scene of {side} x {side} px may take "
            f"{unpacked / 2**31:.1f} GiB and a map beside it. Name a folder on another disk with --scratch."
        )
    profile = {
        "driver": "GTiff", "count": len(BANDS), "height": side, "width": side, "dtype": "uint16", "nodata": 0,
        "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "zlevel": 1, "predictor": 2,
        "bigtiff": "if_safer", **PLACE,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as raster:
        raster.descriptions, raster.scales = BANDS, (1e-4,) * len(BANDS)
        raster.units = ("reflectance",) * len(BANDS)
        for row in range(0, side, BLOCK):
            for column in range(0, side, BLOCK):
                random = np.random.default_rng([SEED, row, column])
                patches = random.integers(200, 3800, (len(BANDS), BLOCK // 16, BLOCK // 16), np.uint16)
                pixels = patches.repeat(16, axis=1).repeat(16, axis=2)
                pixels += random.integers(0, 4, pixels.shape, np.uint16)
                height, width = min(BLOCK, side - row), min(BLOCK, side - column)
                raster.write(pixels[:, :height, :width], window=Window(column, row, width, height))


def write_run(folder: Path, encoder: str) -> Path:
    """Write a run with random weights: memory does not depend on them."""
    many = len(BANDS)
    contract = BandContract(
        BANDS, classes=CLASSES, exclusive=True, scale=(1e-4,) * many, unit="reflectance", nodata=0, gsd_m=10.0,
        mean=(0.2,) * many, std=(0.1,) * many,
    )  # fmt: skip
    folder.mkdir()
    (folder / "config.yaml").write_text("method: none\n")
    save_model(build_model(encoder, contract, size=SIZE, seed=SEED), folder, {})
    return folder


def map_in_this_process(run: Path, scene: Path, out: Path, options: dict[str, Any]) -> dict[str, float]:
    """Map a scene and return what this process needed for it."""
    load_run(run)
    with peak_memory(torch.device("cpu")) as memory:
        loaded = memory()
    if loaded is None:
        raise SystemExit("This system does not say what a process had resident at most; it takes Linux.")
    start = time.perf_counter()
    with peak_memory(torch.device("cpu")) as memory:
        entry = swath.map_scenes(run, [scene], out=out, **options).maps[0]
        peak = memory() or float("nan")
    return {
        "windows": entry.windows,
        "model_loaded_mib": loaded,
        "peak_mib": peak,
        "above_model_mib": round(peak - loaded, 1),
        "seconds": round(time.perf_counter() - start, 1),
    }


def measure(run: Path, folder: Path, side: int, options: dict[str, Any]) -> dict[str, Any]:
    """Write a scene, map it in a process of its own, and remove both again."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        scene = Path(scratch) / "scene.tif"
        write_scene(scene, side)
        size = scene.stat().st_size
        with multiprocessing.get_context("spawn").Pool(1) as process:
            found = process.apply(map_in_this_process, (run, scene, Path(scratch) / "map", options))
    return {"pixels": f"{side} x {side}", "file_mib": round(size / 2**20), **found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "map_memory.json")
    parser.add_argument("--side", type=int, default=2048, help="of the smallest scene, px")
    parser.add_argument("--giant", action="store_true", help=f"also {GIANT} x {GIANT} px")
    parser.add_argument("--encoder", default="scene_mixer")
    parser.add_argument("--stride", type=int, default=SIZE // 2)
    parser.add_argument("--shared-features", action="store_true")
    parser.add_argument(
        "--scratch", type=Path, help="folder for the scenes and maps, which are removed again"
    )
    arguments = parser.parse_args()
    options = {"stride": arguments.stride, "shared_features": arguments.shared_features}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="swath-map-memory-", dir=arguments.scratch) as scratch:
        folder = Path(scratch)
        run = write_run(folder / "run", arguments.encoder)
        scenes = [measure(run, folder, factor * arguments.side, options) for factor in (1, 2, 4)]
        giant = measure(run, folder, GIANT, options) if arguments.giant else None
    result = {
        "what": f"resident memory of mapping, {len(BANDS)} bands, uint16, {len(CLASSES)} classes, {arguments.encoder}, "
        f"windows of {SIZE} px, one process; seed {SEED}",
        **options,
        "above_model_allowed_mib": ALLOWED_MIB,
        "scenes": scenes,
        "from_4_to_16_times_the_pixels_mib": round(
            scenes[2]["above_model_mib"] - scenes[1]["above_model_mib"], 1
        ),
        "giant": giant,
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load_before": round(load, 1),
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "rasterio", "numpy")},
        },
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
