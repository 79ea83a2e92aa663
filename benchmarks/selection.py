"""Pruning on EuroSAT: every selector at several shares, seeds and rates of wrong labels, with equal optimisation steps.

    python benchmarks/selection.py eurosat-rgb.zip FOLDER --steps 2000
    python benchmarks/selection.py eurosat-rgb.zip FOLDER --report

For each seed and rate of label flips one network is trained on all training scenes and records its dynamics: its
features, dynamics and (wrong) labels are what selectors get. Then each share of each selector is trained from
scratch with the same number of steps (to the nearest epoch) and the same settings. The floor is `random`, drawn several
times, and class-balanced random; `all` is the network on all scenes with as many steps. Test scenes choose nothing.
Selectors run with their defaults, RS-Prune also with the published rule of its first stage (`rs-prune, entropy`), and
CCS over AUM also with a cut that is larger than the share of wrong labels (`ccs:aum, cut 0.25`).

Every cell is a file in FOLDER, so that the command can be interrupted and its parts run apart (--selectors, --seeds,
--shares, --flips); `--report` writes results.json, table.md and curves.png from the cells that are there. A pool with a
long tail of classes is pruned too, without training: what is left of its rare classes is in results.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import swath
from swath.files import write_json, write_text
from swath.scenes.splits import long_tail_rows
from swath.selection.scores import contradicted
from swath.tasks.few_shot import scene_features
from swath.tasks.train import resume
from swath.training.dynamics import load_dynamics

SELECTORS = {
    "random": "random",
    "balanced": "balanced",
    "rs-prune": "rs-prune",
    "rs-prune, entropy": "rs-prune",
    "k-centre": "k-centre",
    "herding": "herding",
    "moderate": "moderate",
    "tdds": "tdds",
    "el2n": "el2n",
    "forgetting": "forgetting",
    "entropy": "entropy",
    "aum": "aum",
    "ccs:aum": "ccs:aum",
    "ccs:aum, cut 0.25": "ccs:aum",
    "ccs:tdds": "ccs:tdds",
}
STYLES = {
    "random": ("black", "o"),
    "balanced": ("#e69f00", "s"),
    "rs-prune": ("#0072b2", "o"),
    "rs-prune, entropy": ("#0072b2", "x"),
    "k-centre": ("#d55e00", "^"),
    "herding": ("#009e73", "D"),
    "moderate": ("#999999", "o"),
    "tdds": ("#cc79a7", "v"),
    "el2n": ("#999999", "v"),
    "forgetting": ("#999999", "s"),
    "entropy": ("#999999", "x"),
    "aum": ("#999999", "^"),
    "ccs:aum": ("#56b4e9", "P"),
    "ccs:aum, cut 0.25": ("#56b4e9", "x"),
    "ccs:tdds": ("#882255", "*"),
}
OPTIONS = {"rs-prune, entropy": {"entropy_share": 0.5}, "ccs:aum, cut 0.25": {"cut": 0.25}}
TRAINING: dict[str, Any] = {
    "method": "cross-entropy",
    "encoder": "small_resnet",
    "size": 64,
    "batch_size": 64,
    "learning_rate": 2e-3,
    "weight_decay": 1e-2,
    "precision": "bf16",
}
TAIL = {"largest": 1500, "power": 6.0}


def base_run(data: str, folder: Path, seed: int, flips: int, epochs: int) -> swath.Run:
    """Return the network on all scenes that recorded its dynamics."""
    out = folder / f"base-{flips}-{seed}"
    if (out / "report.html").exists():
        return swath.load_run(out)
    if (out / "config.yaml").exists():
        return resume(out)
    return swath.train(data, out=out, epochs=epochs, record_dynamics=True, **_options(seed, flips))


def cell(data: str, folder: Path, given: argparse.Namespace, axes: dict[str, Any]) -> dict[str, Any]:
    """Select, train and judge one cell, or read what is there."""
    name = "-".join(str(value).replace(", ", "_").replace(":", "_") for value in axes.values())
    path = folder / "cells" / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text())
    base = base_run(data, folder, axes["seed"], axes["flips"], given.base_epochs)
    scenes, only = int((base.scenes["part"] == "train").sum()), None
    found: dict[str, Any] = dict(axes)
    if axes["by"] == "all":
        found["contradicted"] = _contradicted(base)
    else:
        chosen = swath.select(
            run=str(base.folder),
            keep=f"{axes['share']}%",
            by=SELECTORS[axes["by"]],
            by_options=OPTIONS.get(axes["by"]),
            seed=100 * axes["seed"] + axes["draw"],
            out=folder / "selections" / f"{name}.parquet",
        )
        only, scenes = str(chosen.path), len(chosen.selection.kept)
        found |= _balance(base, chosen.selection.table)
    epochs = max(1, round(given.steps / math.ceil(scenes / TRAINING["batch_size"])))
    out = folder / "runs" / name
    if not (out / "report.html").exists():
        if (out / "config.yaml").exists():
            resume(out)
        else:
            swath.train(
                data,
                out=out,
                only=only,
                epochs=epochs,
                warmup_epochs=epochs / 10,
                **_options(axes["seed"], axes["flips"]),
            )
    run = swath.load_run(out)
    figures = ("overall_accuracy", "average_accuracy", "f1_macro")
    found |= {figure: run.evaluation[figure] for figure in figures}
    found |= {"scenes": scenes, "epochs": epochs, "steps": run.progress[-1]["step"]}
    write_json(path, found)
    return found


def _options(seed: int, flips: int) -> dict[str, Any]:
    return {**TRAINING, "seed": seed, "draw": f"flip-uniform:{flips / 100:g}" if flips else None}


def _balance(base: swath.Run, table: Any) -> dict[str, Any]:
    """Return how even the classes of the kept scenes are, and how many of their labels are wrong."""
    given, truth = _labels(base, table.loc[table["kept"], "index"].to_numpy())
    counts = np.bincount(truth, minlength=len(base.contract.classes))
    return {"class_counts": counts.tolist(), "wrong_labels": float((given != truth).mean())}


def _contradicted(base: swath.Run) -> dict[str, float | None]:
    """Return which share of the wrong and of the right labels the base run contradicted to its end."""
    given, truth = _labels(base, base.scenes.loc[base.scenes["part"] == "train", "row"].to_numpy())
    found, wrong = contradicted(load_dynamics(base.folder)), given != truth
    return {
        "wrong": float(found[wrong].mean()) if wrong.any() else None,
        "right": float(found[~wrong].mean()),
    }


def _labels(base: swath.Run, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the class that the base run was given for scenes, and the one that they have."""
    scenes, names = base.scenes.set_index("row"), [f"label:{name}" for name in base.contract.classes]
    truth = swath.open_scenes(base.config["data"]).labels.class_index[rows]
    return scenes.loc[rows, names].to_numpy().argmax(axis=1), truth


def long_tail(data: str, folder: Path, seed: int, share: int, epochs: int) -> list[dict[str, Any]]:
    """Prune a pool with a long tail of classes, with the features of the clean base run; nothing is trained."""
    path = folder / "cells" / f"tail-{share}-{seed}.json"
    if path.exists():
        return json.loads(path.read_text())
    base, rows = base_run(data, folder, seed, 0, epochs), []
    scenes = swath.open_scenes(data)
    train = base.scenes.loc[base.scenes["part"] == "train", "row"].to_numpy()
    pool = train[long_tail_rows(scenes.labels.take(train), seed, **TAIL)]
    part = np.full(len(scenes), "", "U5")
    part[pool] = "train"
    part[np.setdiff1d(np.arange(len(scenes)), train)[:10]] = "test"
    scenes.columns = {**scenes.columns, "split": part}
    features, _ = scene_features(base, scenes)
    np.save(folder / "tail.npy", features)
    for by, draw in [
        *((by, 0) for by in ("balanced", "rs-prune", "k-centre", "herding")),
        *(("random", d) for d in range(5)),
    ]:
        chosen = swath.select(
            scenes,
            keep=f"{share}%",
            by=by,
            features=str(folder / "tail.npy") if by in ("rs-prune", "k-centre", "herding") else None,
            seed=100 * seed + draw,
            out=folder / "selections" / "tail.parquet",
        )
        counts = np.bincount(
            scenes.labels.class_index[chosen.selection.kept], minlength=len(scenes.labels.classes)
        )
        before = np.bincount(scenes.labels.class_index[pool], minlength=len(counts))
        rows.append(
            {
                "by": by,
                "seed": seed,
                "share": share,
                "draw": draw,
                "before": before.tolist(),
                "kept": counts.tolist(),
            }
        )
    write_json(path, rows)
    return rows


def report(folder: Path) -> None:
    """Write results.json, table.md and curves.png from the cells that are there."""
    cells = [json.loads(path.read_text()) for path in sorted((folder / "cells").glob("*.json"))]
    tails = [row for found in cells if isinstance(found, list) for row in found]
    cells = [found for found in cells if isinstance(found, dict)]
    write_json(folder / "results.json", {"cells": cells, "long_tail": tails})
    shares = sorted({found["share"] for found in cells if found["by"] != "all"})
    flips = sorted({found["flips"] for found in cells})
    lines = []
    for rate in flips:
        lines += [
            "",
            f"{rate} % of the labels flipped: overall accuracy in percent, mean and range over seeds",
            "",
        ]
        lines += [
            "| selector | " + " | ".join(f"{share} %" for share in shares) + " |",
            "|---|" + "---|" * len(shares),
        ]
        for by in SELECTORS:
            found = {share: _by_seed(cells, by, share, rate) for share in shares}
            if any(found.values()):
                lines.append(f"| {by} | " + " | ".join(_said(found[share]) for share in shares) + " |")
        whole = _by_seed(cells, "all", 100, rate)
        if whole:
            lines.append(f"\nAll scenes, as many steps: {_said(whole)}")
    write_text(folder / "table.md", "\n".join(lines) + "\n")
    _draw(cells, shares, flips).savefig(folder / "curves.png", dpi=120)


def _draw(cells: list[dict[str, Any]], shares: list[int], flips: list[int]) -> Figure:
    """Return the curves: accuracy above, and below what a selector is above random, near random."""
    figure = Figure(figsize=(3 + 3.2 * len(flips), 7), layout="constrained")
    axes = figure.subplots(2, len(flips), sharex=True, sharey="row", squeeze=False)
    top = 3.0
    for rate, upper, lower in zip(flips, axes[0], axes[1], strict=True):
        floor = {share: np.mean(_by_seed(cells, "random", share, rate) or np.nan) for share in shares}
        for by, (colour, marker) in STYLES.items():
            means = {share: np.mean(_by_seed(cells, by, share, rate) or np.nan) for share in shares}
            there = [share for share in shares if np.isfinite(means[share])]
            style: dict[str, Any] = {"color": colour, "marker": marker, "linewidth": 1.2, "markersize": 5}
            upper.plot(there, [100 * means[share] for share in there], label=by, **style)
            above = [100 * (means[share] - floor[share]) for share in there]
            lower.plot(there, above, **style)
            top = max([top, *(value + 0.5 for value in above)])
        whole = _by_seed(cells, "all", 100, rate)
        if whole:
            upper.axhline(100 * np.mean(whole), color="black", linestyle=":", label="all scenes, equal steps")
        upper.set(title=f"{rate} % of the labels wrong")
        lower.set(xlabel="scenes kept (%)", xticks=shares)
    axes[0][0].set_ylabel("overall accuracy (%)")
    axes[1][0].set(ylabel="points above random", ylim=(-5, top))
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize=8)
    return figure


def _by_seed(cells: list[dict[str, Any]], by: str, share: int, flips: int) -> list[float]:
    """Return one accuracy for each seed, the mean over draws."""
    found: dict[int, list[float]] = {}
    for entry in cells:
        if (entry["by"], entry["share"], entry["flips"]) == (by, share, flips):
            found.setdefault(entry["seed"], []).append(entry["overall_accuracy"])
    return [float(np.mean(values)) for values in found.values()]


def _said(values: list[float]) -> str:
    if not values:
        return ""
    low, high = 100 * min(values), 100 * max(values)
    return f"{100 * np.mean(values):.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--selectors", default=";".join(SELECTORS), help="separated by ;")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--shares", default="5,10,20,30")
    parser.add_argument("--flips", default="0,10,20")
    parser.add_argument("--draws", type=int, default=5, help="of random")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--base-epochs", type=int, default=15)
    parser.add_argument("--size", type=int, default=64, help="pixels to which scenes are brought")
    parser.add_argument("--report", action="store_true", help="train nothing")
    given = parser.parse_args()
    (given.folder / "cells").mkdir(parents=True, exist_ok=True)
    settings = {"steps": given.steps, "base_epochs": given.base_epochs, "size": given.size}
    kept = given.folder / "settings.json"
    if kept.exists() and json.loads(kept.read_text()) != settings and not given.report:
        raise SystemExit(
            f"{given.folder} was made with {kept.read_text()}; name another folder for {settings}"
        )
    if not given.report:
        write_json(kept, settings)
    TRAINING["size"] = given.size
    if not given.report:
        seeds, shares, flips = (
            [int(word) for word in getattr(given, name).split(",")] for name in ("seeds", "shares", "flips")
        )
        for seed, rate in itertools.product(seeds, flips):
            cell(
                given.data,
                given.folder,
                given,
                {"by": "all", "share": 100, "flips": rate, "seed": seed, "draw": 0},
            )
            for share, by in itertools.product(shares, given.selectors.split(";")):
                for draw in range(given.draws if by == "random" else 1):
                    axes = {"by": by, "share": share, "flips": rate, "seed": seed, "draw": draw}
                    print(axes, cell(given.data, given.folder, given, axes)["overall_accuracy"], flush=True)
        for seed, share in itertools.product(seeds, shares):
            long_tail(given.data, given.folder, seed, share, given.base_epochs)
    report(given.folder)


if __name__ == "__main__":
    main()
