"""Tables, targets and learning curves from the results of ``benchmarks/active.py``.

python benchmarks/active_report.py RESULTS.json [CURVES.png]
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

COLOURS = {
    "random": "#777777",
    "entropy": "#b8860b",
    "margin": "#cc6677",
    "coreset": "#117733",
    "badge": "#882255",
    "hssal": "#0b6e99",
}
Arm = tuple[str, bool, str | None]
Curves = dict[Arm, dict[int, list[dict[str, Any]]]]


def read(path: Path) -> tuple[Curves, dict[int, float], dict[str, Any]]:
    """Return the rounds of each arm by seed, the accuracy with all labels by seed, and what was asked for."""
    content = json.loads(path.read_text())
    curves: Curves = defaultdict(dict)
    full: dict[int, float] = {}
    for cell in content["cells"]:
        if cell["by"] == "all labels":
            full[cell["seed"]] = cell["rounds"][0]["overall_accuracy"]
        else:
            curves[cell["by"], cell["self_training"], cell["first"]][cell["seed"]] = cell["rounds"]
    return curves, full, content


def said(values: list[float]) -> str:
    """Return mean and standard deviation over seeds, in percent."""
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{spread}"


def name_of(arm: Arm) -> str:
    """Return an arm in words."""
    by, trained, first = arm
    return by + (", self-training" if trained else "") + (f", first {first}" if first else "")


def at(curves: Curves, arm: Arm, number: int) -> list[float]:
    """Return the accuracies of a round, a seed each."""
    return [rounds[number]["overall_accuracy"] for _, rounds in sorted(curves[arm].items())]


def table(curves: Curves, full: dict[int, float]) -> None:
    """Print accuracy against labels, and the ratio to all labels in the last round, seed by seed."""
    some = next(iter(next(iter(curves.values())).values()))
    print("| asked by | seeds |", " | ".join(f"{row['labels']} labels" for row in some), "| of all labels |")
    print("|---" * (len(some) + 3) + "|")
    for arm in sorted(curves, key=lambda arm: (not arm[1], -np.mean(at(curves, arm, -1)))):
        found = [said(at(curves, arm, number)) for number in range(len(some))]
        ratios = [
            rounds[-1]["overall_accuracy"] / full[seed]
            for seed, rounds in curves[arm].items()
            if seed in full
        ]
        print(
            f"| {name_of(arm)} | {len(curves[arm])} |",
            " | ".join(found),
            f"| {said(ratios) if ratios else ''} |",
        )
    if full:
        print(
            f"| all labels | {len(full)} |",
            " | ".join([""] * (len(some) - 1)),
            f"| {said([*full.values()])} | 100 |",
        )


def targets(curves: Curves, full: dict[int, float], kind: str) -> None:
    """Say of each target whether it is reached."""
    ours: Arm = ("hssal", True, None)
    if ours not in curves:
        return
    rivals: list[tuple[str, Arm, float]] = [("random with self-training", ("random", True, None), 0.02)]
    rivals += [(f"{name_of(arm)} alone", arm, 0.0) for arm in curves if not arm[1] and arm[2] is None]
    print()
    for words, arm, least in rivals:
        both = sorted(set(curves[ours]) & set(curves[arm])) if arm in curves else []
        gains = [
            curves[ours][seed][-1]["overall_accuracy"] - curves[arm][seed][-1]["overall_accuracy"]
            for seed in both
        ]
        if gains:
            verdict = "reached" if np.mean(gains) >= least and np.mean(gains) > 0 else "MISSED"
            print(f"- hssal above {words} (target {100 * least:.0f} points): {said(gains)} points: {verdict}")
    ratios = [
        rounds[-1]["overall_accuracy"] / full[seed] for seed, rounds in curves[ours].items() if seed in full
    ]
    if kind == "eurosat" and ratios:
        print(f"- 95 % of all labels: {said(ratios)}: {'reached' if np.mean(ratios) >= 0.95 else 'MISSED'}")


def draw(curves: Curves, full: dict[int, float], title: str, path: Path) -> None:
    """Draw accuracy against labels."""
    mpl.rcParams.update({"font.size": 9, "svg.hashsalt": "swath"})
    figure, axes = plt.subplots(figsize=(8.4, 4.2), layout="constrained")
    for arm in sorted(curves, key=name_of):
        by, trained, first = arm
        some = next(iter(curves[arm].values()))
        labels = [row["labels"] for row in some]
        means = [100 * np.mean(at(curves, arm, number)) for number in range(len(some))]
        axes.plot(
            labels,
            means,
            "-" if trained else "--",
            color=COLOURS[by],
            marker="o" if first is None else "x",
            markersize=3,
            label=name_of(arm),
        )
    if full:
        axes.axhline(100 * np.mean([*full.values()]), color="#222222", linewidth=0.8, label="all labels")
    axes.set(xlabel="labelled scenes", ylabel="overall accuracy on test scenes (%)", title=title)
    figure.legend(loc="outside right center", fontsize=8, handlelength=4)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Print the table and draw the curves."""
    curves, full, content = read(Path(sys.argv[1]))
    table(curves, full)
    targets(curves, full, content["set"])
    if len(sys.argv) > 2:
        names = {"ucm": "UC Merced, 21 classes", "eurosat": "EuroSAT RGB"}
        draw(curves, full, names[content["set"]], Path(sys.argv[2]))


if __name__ == "__main__":
    main()
