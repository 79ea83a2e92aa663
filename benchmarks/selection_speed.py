"""How long selections of large pools take, and how much memory: RS-Prune of a million, exact k-centre against reading.

    python benchmarks/selection_speed.py RESULTS.json --scenes 1000000 --points 100000 --picks 1000

RS-Prune gets float16 features of 384 numbers in a memory-mapped file (made once beside RESULTS, 768 MB for a
million), a random entropy of each picture, and keeps 15 %. k-centre is held against streaming: the same matrix read
once for each pick as a matrix-vector product that does nothing else. Both run with the threads that the environment
allows (OMP_NUM_THREADS, OPENBLAS_NUM_THREADS). Memory is the largest resident size, pages of the mapped file included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from swath.randomness import stream
from swath.selection.pool import check_features
from swath.selection.rs_prune import rs_prune
from swath.selection.spread import farthest_first
from swath.training.memory import peak_memory

KINDS, CHUNK = 200, 50_000


def made(path: Path, scenes: int, width: int) -> np.ndarray[Any, Any]:
    """Return features of kinds of very different sizes, written piece by piece."""
    if not path.exists():
        random = stream(0, "selection speed")
        centre = random.normal(0, 1, (KINDS, width)).astype(np.float32)
        share = random.dirichlet(np.full(KINDS, 0.3))
        draft = path.with_suffix(".part")
        mapped = np.lib.format.open_memmap(draft, "w+", np.float16, (scenes, width))
        for start in range(0, scenes, CHUNK):
            count = min(CHUNK, scenes - start)
            kind = random.choice(KINDS, count, p=share)
            noise = random.standard_normal((count, width), np.float32)
            mapped[start : start + count] = centre[kind] + 0.7 * noise
        mapped.flush()
        del mapped
        draft.rename(path)
    return np.load(path, mmap_mode="r")


def pruned(features: np.ndarray[Any, Any], keep: float) -> dict[str, Any]:
    """Time RS-Prune, with the check that the features are finite, as a user's call has it."""
    bits = stream(0, "selection speed bits").uniform(0, 8, len(features)).astype(np.float32)
    with peak_memory(torch.device("cpu")) as memory:
        started = time.perf_counter()
        count = round(keep * len(check_features(features)))
        choice = rs_prune(features, count, 0, bits=bits)
        seconds = time.perf_counter() - started
        peak = memory()
    if int(choice.kept.sum()) != count:
        raise SystemExit("the budget was missed")
    return {
        "scenes": len(features),
        "kept": count,
        "seconds": round(seconds, 1),
        "peak_mib": peak,
        **choice.notes,
    }


def centred(points: int, picks: int, width: int, repeats: int) -> dict[str, Any]:
    """Time k-centre and the reading, in turn."""
    matrix = stream(0, "selection speed centres").standard_normal((points, width), np.float32)
    ratios, found = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        out = np.empty(points, np.float32)
        for row in range(picks):
            np.dot(matrix, matrix[row], out=out)
        streaming = time.perf_counter() - started
        started = time.perf_counter()
        farthest_first(matrix, picks)
        seconds = time.perf_counter() - started
        found.append({"streaming_seconds": round(streaming, 2), "seconds": round(seconds, 2)})
        ratios.append(seconds / streaming)
    return {
        "points": points,
        "picks": picks,
        "width": width,
        "runs": found,
        "ratio_median": round(float(np.median(ratios)), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--scenes", type=int, default=1_000_000)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--picks", type=int, default=1000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--keep", type=float, default=0.15)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    results: dict[str, Any] = {"machine": platform.platform(), "cores": os.cpu_count(), "threads": threads}
    features = made(
        given.results.parent / f"features-{given.scenes}x{given.width}.npy", given.scenes, given.width
    )
    results["rs-prune"] = pruned(features, given.keep)
    print(results["rs-prune"], flush=True)
    results["k-centre"] = centred(given.points, given.picks, given.width, given.repeats)
    print(results["k-centre"], flush=True)
    given.results.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
