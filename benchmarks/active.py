"""Asking for labels on real scenes: every strategy with and without self-training, against all labels.

    python benchmarks/active.py ucm DATA RESULTS.json --seeds 0,1,2 --workers 2
    python benchmarks/active.py eurosat eurosat-rgb.zip RESULTS.json --seeds 0,1,2 --workers 2

`ucm` are the 21 scene classes of UC Merced (the column `scene` of its table), 2 to 8 % of the training part in four
rounds; `eurosat` is EuroSAT RGB, 0.5 to 2 %. Self-training is `fixmatch`; without it is `fixmatch` with weight 0, so
that who is drawn, how long and what is averaged stay the same. All arms have the same network, epochs and split of a
seed; with --encoder-from all begin with the encoder of a run instead of from scratch. Runs lie beside RESULTS; the
same command goes on where it was interrupted, cell by cell and round by round. RESULTS holds one set and one choice of
options: with other options name another file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

import swath
from swath.scenes.source import SceneSource
from swath.tasks.train import resume

STRATEGIES = ("random", "hssal", "entropy", "margin", "coreset", "badge")
COMMON = {
    "encoder": "small_resnet",
    "size": 64,
    "batch_size": 64,
    "learning_rate": 2e-3,
    "weight_decay": 1e-2,
    "warmup_epochs": 1.0,
    "precision": "bf16",
    "level": 0.95,
    "thresholds": "fixed",
    "unlabelled_ratio": 7.0,
}
SETS: dict[str, dict[str, Any]] = {
    # 26 steps in an epoch: an average over 1,000 steps would still remember the first epochs at the end.
    "ucm": {**COMMON, "start": "2%", "stop": "8%", "rounds": 4, "epochs": 100, "average_decay": 0.99},
    "eurosat": {**COMMON, "start": "0.5%", "stop": "2%", "rounds": 4, "epochs": 20, "average_decay": 0.999},
}
OF_THE_METHOD = ("level", "thresholds", "unlabelled_ratio", "average_decay")
OF_THE_LOOP = ("start", "stop", "rounds")


def opened(kind: str, data: str) -> SceneSource:
    """Return the data set; UC Merced with the class of each scene in place of what is in it."""
    return swath.open_scenes(data, label_columns=["scene"] if kind == "ucm" else None)


def cells(arms: list[str], firsts: list[str], seeds: list[int]) -> list[dict[str, Any]]:
    """Return what is to be run, all of one seed before the next: all labels, then the strategies' arms."""
    made: list[dict[str, Any]] = []
    for seed in seeds:
        made.append({"by": "all labels", "self_training": False, "first": None, "seed": seed})
        for arm in arms:
            by = arm.removesuffix("-plain")
            for first in firsts:
                chosen = None if first == "own" else first
                made.append({"by": by, "self_training": by == arm, "first": chosen, "seed": seed})
    return made


def key(cell: dict[str, Any]) -> str:
    """Name a cell by all that is asked of it."""
    parts = [
        cell["by"].replace(" ", "-"),
        "self-training" if cell["self_training"] else "plain",
        str(cell["seed"]),
    ]
    return "-".join([*parts, *([f"first-{cell['first']}"] if cell["first"] else [])])


def run(kind: str, data: str, folder: Path, cell: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Run one cell, or what is left of it, and return its rounds."""
    torch.set_num_threads(1)
    scenes = opened(kind, data)
    training = {name: value for name, value in options.items() if name not in (*OF_THE_METHOD, *OF_THE_LOOP)}
    if cell["by"] == "all labels":
        place = folder / key(cell)
        if (place / "report.html").exists():
            found = swath.load_run(place)
        elif (place / "config.yaml").exists():
            found = resume(place, scenes)
        else:
            found = swath.train(scenes, out=place, method="cross-entropy", seed=cell["seed"], **training)
        return {
            **cell,
            "rounds": [{"labels": None, "overall_accuracy": found.evaluation["overall_accuracy"]}],
        }
    method = {name: options[name] for name in OF_THE_METHOD} | {"weight": float(cell["self_training"])}
    loop = {name: options[name] for name in OF_THE_LOOP}
    learned = swath.active_learning(
        scenes,
        out=folder / key(cell),
        by=cell["by"],
        first=cell["first"],
        method="fixmatch",
        method_options=method,
        seed=cell["seed"],
        **loop,
        **training,
    )
    names = ("labels", "share", "by", "overall_accuracy", "average_accuracy", "classes", "seconds")
    return {**cell, "rounds": [{name: row[name] for name in names} for row in learned.rows]}


def main() -> None:
    """Run the cells that are missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("data")
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--arms", default=",".join([*STRATEGIES, *(f"{name}-plain" for name in STRATEGIES)]))
    parser.add_argument(
        "--firsts",
        default="own",
        help="how the first scenes are chosen: own (by the strategy), random, hssal, coreset",
    )
    for name, value in {
        **COMMON,
        "epochs": 0,
        "start": "",
        "stop": "",
        "rounds": 0,
        "average_decay": 0.0,
    }.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), help="in place of the set's own")
    parser.add_argument("--encoder-from", help="a run, on other data, whose encoder all trainings begin with")
    given = parser.parse_args()
    own = {name: getattr(given, name) for name in (*COMMON, *OF_THE_LOOP, "epochs", "average_decay")}
    options = {**SETS[given.set], **{name: value for name, value in own.items() if value is not None}}
    if given.encoder_from:
        options["encoder_from"] = given.encoder_from
    heading = {"set": given.set, "options": options}
    done: dict[str, dict[str, Any]] = {}
    if given.results.exists():
        before = json.loads(given.results.read_text())
        if {name: before[name] for name in heading} != heading:
            raise SystemExit(f"{given.results} was made with {before['options']}; name another file.")
        done = {key(cell): cell for cell in before["cells"]}
    wanted = cells(
        given.arms.split(","), given.firsts.split(","), [int(seed) for seed in given.seeds.split(",")]
    )
    missing = [cell for cell in wanted if key(cell) not in done]
    folder = given.results.parent / f"{given.results.stem}-runs"
    # Started afresh: a process that was forked with threads of torch in it may hang.
    with ProcessPoolExecutor(given.workers, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(run, given.set, given.data, folder, cell, options) for cell in missing]
        for number, future in enumerate(as_completed(waiting), 1):
            row = future.result()
            done[key(row)] = row
            text = json.dumps({**heading, "cells": list(done.values())})
            temporary = given.results.with_suffix(".new")
            temporary.write_text(text.replace('{"by"', '\n{"by"') + "\n")
            temporary.replace(given.results)
            accuracies = ", ".join(f"{100 * entry['overall_accuracy']:.1f}" for entry in row["rounds"])
            print(f"{number}/{len(missing)}  {key(row)}: {accuracies}", flush=True)


if __name__ == "__main__":
    main()
