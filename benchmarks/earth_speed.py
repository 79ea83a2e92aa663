"""How many scenes of the synthetic Earth are made each second: 64 px, 6 bands, two worker processes.

Run ``python benchmarks/earth_speed.py``; it prints one JSON object. Each round makes all scenes anew, in parts of
32 that the two workers share. The spread is over the rounds. Where something else runs on the machine, the scenes
for each second of processor time say more than those for each second of the clock.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time

# One thread for each worker: the workers share the cores.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

from swath.scenes.earth import SyntheticEarth

SEED = 0
PART = 32


def make(first: int, scenes: int) -> tuple[int, float]:
    start = time.process_time()
    earth = SyntheticEarth(scenes=scenes, seed=SEED)
    made = len(earth.read_many(range(first, min(first + PART, scenes))))
    return made, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    parts = [(first, arguments.scenes) for first in range(0, arguments.scenes, PART)]
    rates, per_core = [], []
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        pool.starmap(make, parts[: 2 * arguments.workers])  # imports and tables
        for _ in range(arguments.rounds):
            start = time.perf_counter()
            results = pool.starmap(make, parts, chunksize=1)
            made = sum(count for count, _ in results)
            rates.append(made / (time.perf_counter() - start))
            per_core.append(made / sum(seconds for _, seconds in results))
    print(
        json.dumps(
            {
                "what": "scenes of 64 px x 6 bands made each second",
                "workers": arguments.workers,
                "scenes": arguments.scenes,
                "seed": SEED,
                "median": round(statistics.median(rates)),
                "rounds": [round(rate) for rate in rates],
                "per_processor_second": [round(rate) for rate in per_core],
                "load_before": [round(load, 1) for load in os.getloadavg()],
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
