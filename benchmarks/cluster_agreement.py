"""How far the clusters of RS-Prune, mini-batch k-means on a sample, are from k-means that always sees all scenes.

    python benchmarks/cluster_agreement.py eurosat-rgb.zip RUN --sample 10000

Compared are the inertia (sum of squared distances to the nearest centre), the adjusted Rand index between runs of two
seeds, and the share of scenes whose class is the commonest of their cluster.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

import swath
from swath.scenes.packing import pack
from swath.selection.clusters import cluster
from swath.selection.measuring import measure


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("run", type=Path)
    parser.add_argument("--sample", type=int, default=10_000, help="scenes that the sampled k-means sees")
    given = parser.parse_args()
    source = swath.open_scenes(given.data)
    store = pack(source, swath.load_run(given.run).config["size"])
    features = measure(store, np.arange(len(store)), given.run).features
    assert features is not None
    classes, count = source.labels.take(store.kept).class_index, round(len(store) ** 0.5)

    def sides(seed: int) -> dict[str, tuple[float, Any]]:
        exact = KMeans(count, n_init=1, random_state=seed).fit(features)
        found = {"k-means": (float(exact.inertia_), exact.labels_)}
        for name, size in (("mini-batch", len(store)), (f"mini-batch, {given.sample} scenes", given.sample)):
            ours = cluster(features, count, seed, sample=size)
            found[name] = (float((ours.distance.astype(np.float64) ** 2).sum()), ours.member)
        return found

    runs = [sides(seed) for seed in (0, 1)]
    said = {}
    for name in runs[0]:
        member = runs[0][name][1]
        pure = sum(np.bincount(classes[member == number]).max() for number in np.unique(member))
        said[name] = {
            "inertia over k-means": float(np.mean([run[name][0] / run["k-means"][0] for run in runs])),
            "rand index with k-means of the other seed": float(
                np.mean(
                    [
                        adjusted_rand_score(a[name][1], b["k-means"][1])
                        for a, b in itertools.permutations(runs)
                    ]
                )
            ),
            "scenes of their cluster's class": float(pure / len(store)),
        }
    print(json.dumps({"scenes": len(store), "clusters": count, **said}, indent=1))


if __name__ == "__main__":
    main()
