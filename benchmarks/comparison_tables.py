"""Tables in Markdown, pictures and rows to keep from folders that ``swath compare`` wrote.

    python benchmarks/comparison_tables.py FOLDER [FOLDER ...] --name uc-merced-random --images docs/images \
        --results benchmarks/results

Several folders (seeds or methods that were added in another call) make one table. The methods of each setting stand in
the order of their means; the last columns say how far each is from the best, with the 95 % interval, and whether it is
tied with it (paired t-test over seeds, Holm's correction). With ``--together`` one picture shows the first chief figure
of all settings, else each setting and chief figure has its own.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from swath.evaluation.report.comparison_figures import bars, rank_picture, recovery_picture
from swath.evaluation.report.comparison_rows import (
    CEILING,
    Column,
    by_method,
    by_setting,
    cell_text,
    chief_columns,
    finite,
    rankings,
    said_of_ranks,
    said_of_tests,
    tests,
)
from swath.evaluation.report.drawing import DARK, MIDDLE, Picture, draw, shortened
from swath.training.run import load_run

KEPT = ("method", "seed", "draw", "split_seed", "kind", "seconds", "peak_memory_mb", "error")
LAST = {
    "map_macro": Column("map_macro_last", "mAP, last epoch", True),
    "f1_macro": Column("f1_macro_last", "mF1, last epoch", True),
    "overall_accuracy": Column("overall_accuracy_last", "OA, last epoch", True),
}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the Markdown table of one setting."""
    chief = chief_columns(rows)
    shown = [
        *chief,
        *(LAST[column.key] for column in chief if any(LAST[column.key].key in row for row in rows)),
    ]
    found = {test.method: test for test in tests(rows, chief[0].key)}
    methods = by_method(rows)
    order = [name for name in methods if name == CEILING] + list(found)
    lines = [
        "| method | "
        + " | ".join(column.heading for column in shown)
        + f" | {chief[0].heading}, to the best |",
        "|---|" + "---|" * (len(shown) + 1),
    ]
    for name in order:
        cells = [
            cell_text(finite(run.get(column.key) for run in methods[name]), column.share) for column in shown
        ]
        lines.append(f"| {name} | " + " | ".join([*cells, _against(found.get(name))]) + " |")
    return "\n".join(lines)


def _against(test: Any) -> str:
    if test is None:
        return ""
    if test.p is None:
        return "first" if test.method == test.best else f"{100 * test.difference:+.1f}"
    low, high = (100 * end for end in test.interval)
    return f"{100 * test.difference:+.1f} ({low:+.1f} to {high:+.1f})" + ("" if test.tied else ", worse")


def recovery(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the recovery curves of the runs that have one."""
    curves = []
    for row in rows:
        if row["error"] or row["method"] != "adagc":
            continue
        run = load_run(row["run"])
        records = [record for record in run.progress if "recovery_map" in record]
        if records:
            curves.append(
                {
                    "method": row["method"],
                    "epochs": [record["epoch"] for record in records],
                    "recovered": [record["recovery_map"] for record in records],
                    "moment": run.card["method"].get("calibrating_from"),
                }
            )
    return curves


def together(rows: list[dict[str, Any]], column: Column) -> Picture:
    """Draw one figure of all settings: each method's mean with its standard deviation, every run as a dot."""
    scale = 100 if column.share else 1
    settings = by_setting(rows)
    names = list(dict.fromkeys(row["method"] for row in rows))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for number, name in enumerate(names):
            colour, shape = (DARK, MIDDLE, "#666666")[number % 3], "osD^v"[number % 5]
            label = shortened(name)
            for row, part in enumerate(settings.values()):
                runs = [
                    scale * v for v in finite(run.get(column.key) for run in by_method(part).get(name, []))
                ]
                if not runs:
                    continue
                y = row + 0.7 * ((number + 0.5) / len(names) - 0.5)
                spread = statistics.stdev(runs) if len(runs) > 1 else 0.0
                axes.plot(runs, np.full(len(runs), y), "o", color=colour, ms=2.5, alpha=0.6)
                axes.errorbar(
                    statistics.fmean(runs),
                    y,
                    xerr=spread,
                    fmt=shape,
                    color=colour,
                    ms=6,
                    capsize=3,
                    label=label,
                )
                label = "_nolegend_"
        axes.set_yticks(range(len(settings)), [name or "all" for name in settings])
        axes.set_ylim(len(settings) - 0.5, -0.5)
        axes.set_xlabel(f"{column.heading}, %" if column.share else column.heading)
        figure.legend(loc="outside upper left", ncols=3)

    said = "; ".join(
        f"{setting or 'all'}: "
        + ", ".join(
            f"{name} {cell_text(finite(run.get(column.key) for run in runs), column.share)}"
            for name, runs in by_method(part).items()
        )
        for setting, part in settings.items()
    )
    height = 0.9 + len(settings) * max(0.45, 0.16 * len(names))
    return draw(
        paint, height=height, width=6.5, alt=f"{column.heading} by setting: {said}.", caption=column.heading
    )


def write(picture: Picture, path: Path) -> None:
    """Write a picture of the page as a file of its own, and say what it shows."""
    path.write_bytes(base64.b64decode(picture.source.partition(",")[2]))
    print(f"\n![{picture.alt}]({path.name})\n{picture.caption}")


def main() -> None:
    """Print tables and write pictures and rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--together", action="store_true")
    given = parser.parse_args()
    rows = [
        row for folder in given.folders for row in json.loads((folder / "summary.json").read_text())["rows"]
    ]
    for setting, part in by_setting(rows).items():
        print(f"\n### {setting}\n\n{table(part)}\n")
        slug = re.sub(r"[^a-z0-9]+", "-", setting.lower()).strip("-")
        if given.images and not given.together:
            for column in chief_columns(part):
                best = [test.method for test in tests(part, column.key)]
                ranked = sorted(
                    part,
                    key=lambda row, best=best: best.index(row["method"]) if row["method"] in best else -1,
                )
                write(
                    bars(ranked, column),
                    given.images / f"{given.name}-{slug}-{column.key.replace('_', '-')}.svg",
                )
            curves = recovery(part)
            if curves:
                write(recovery_picture(curves), given.images / f"{given.name}-{slug}-recovery.svg")
    if given.images and given.together:
        column = chief_columns(rows)[0]
        write(together(rows, column), given.images / f"{given.name}-{column.key.replace('_', '-')}.svg")
    print("\n".join(["", *said_of_tests(rows), *said_of_ranks(rows)]))
    ranking, _ = rankings(rows, chief_columns(rows)[0])
    if given.images and ranking:
        write(rank_picture(ranking, chief_columns(rows)[0].heading), given.images / f"{given.name}-ranks.svg")
    if given.results:
        kept = [
            {
                name: round(value, 5) if isinstance(value, float) else value
                for name, value in row.items()
                if name in KEPT or name in LAST or name.endswith("_last")
            }
            for row in rows
        ]
        path = given.results / f"{given.name.replace('-', '_')}.json"
        path.write_text("[\n" + ",\n".join(map(json.dumps, kept)) + "\n]\n")


if __name__ == "__main__":
    main()
