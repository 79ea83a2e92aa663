"""Several methods side by side, over several seeds: means, spreads, and every single run."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from matplotlib.figure import Figure

from swath.errors import InputError
from swath.evaluation.metrics import FROM_POSITIVES
from swath.evaluation.report.drawing import DARK, LIGHT, MIDDLE, Picture, draw, shortened
from swath.evaluation.report.page import render
from swath.files import write_text

__all__ = ["comparison_table", "write_comparison"]

# Name in the rows, heading, and whether it is a share to be shown in per cent.
_COLUMNS = (
    ("map_macro", "mAP", True),
    ("f1_macro", "mF1", True),
    ("overall_accuracy", "overall accuracy", True),
    ("average_accuracy", "average accuracy", True),
    ("kappa", "kappa", False),
    ("calibration_error", "calibration error", True),
    ("positive_recall", "recall of known positives", True),
    ("positive_rank", "rank of known positives", False),
    ("seconds", "seconds", False),
)
_CEILING, _FLOOR = "all-known", "assume-negative"

Row = Mapping[str, Any]


def comparison_table(rows: Sequence[Row]) -> str:
    """Return a comparison as text: one line per method, mean ± standard deviation over its runs.

    Args:
        rows: One for each run, with ``method``, ``seed`` and figures such as ``map_macro`` (None where
            undefined).

    Returns:
        Lines of text without a line break at the end; shares in per cent.

    Raises:
        InputError: There are no rows, or a row lacks its method.

    Example:
        >>> print(comparison_table([
        ...     {"method": "adagc", "seed": 0, "map_macro": 0.84, "seconds": 60.0},
        ...     {"method": "adagc", "seed": 1, "map_macro": 0.82, "seconds": 62.0},
        ... ]))
        method  runs         mAP     seconds
        adagc      2  83.0 ± 1.4  61.0 ± 1.4
    """
    table = _table(rows)
    lines = [table["head"], *table["body"]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table["head"]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def write_comparison(
    folder: str | os.PathLike[str], rows: Sequence[Row], *, title: str = "Comparison"
) -> Path:
    """Write ``comparison.html`` into a folder: table, bars with every run as a dot, and all figures.

    Args:
        folder: Where the page goes.
        rows: One for each run, as for :func:`comparison_table`; a key ``run``, the run's folder,
            makes a link to its report.
        title: Heading of the page.

    Returns:
        The path of the page, which loads nothing from anywhere.

    Raises:
        InputError: There are no rows, or a row lacks its method.
        OutputError: The folder cannot be written.

    Example:
        >>> import tempfile
        >>> write_comparison(tempfile.mkdtemp(), [{"method": "adagc", "seed": 0, "map_macro": 0.84}]).name
        'comparison.html'
    """
    path = Path(folder) / "comparison.html"
    columns = [column for column in _present(rows) if column[0] != "seconds"]
    content = {
        "title": title,
        "table": _table(rows),
        "seeds": sorted({row["seed"] for row in rows if row.get("seed") is not None}),
        "spread": any(len(runs) > 1 for runs in _methods(rows).values()),
        "pictures": [_bars(rows, key, heading, share) for key, heading, share in columns],
        "gap": _gap_closed(rows),
        "runs": [
            {
                "method": row["method"],
                "seed": row.get("seed", "–"),
                "report": _link(path.parent, row["run"]) if row.get("run") else "",
                "cells": [_cell(_finite([row.get(key)]), share) for key, _, share in _present(rows)],
            }
            for row in rows
        ],
        "columns": [heading for _, heading, _ in _present(rows)],
    }
    write_text(path, render("comparison.html.j2", content))
    return path


def _link(folder: Path, run: str | os.PathLike[str]) -> str:
    """Return the address of a run's report as seen from the folder; quoted, so that no name becomes a protocol."""
    return quote((Path(os.path.relpath(run, folder)) / "report.html").as_posix())


def _present(rows: Sequence[Row]) -> list[tuple[str, str, bool]]:
    if not rows or any("method" not in row for row in rows):
        raise InputError(
            f"{len(rows)} runs were given to compare; expected at least one, each with its method."
        )
    columns = [column for column in _COLUMNS if _finite(row.get(column[0]) for row in rows)]
    # What positives alone can say is second best: shown where nothing else is defined.
    others = {key for key, _, _ in columns}.difference(FROM_POSITIVES, {"seconds"})
    return [column for column in columns if not others or column[0] not in FROM_POSITIVES]


def _methods(rows: Sequence[Row]) -> dict[str, list[Row]]:
    methods: dict[str, list[Row]] = {}
    for row in rows:
        methods.setdefault(str(row["method"]), []).append(row)
    return methods


def _table(rows: Sequence[Row]) -> dict[str, Any]:
    columns = _present(rows)
    return {
        "head": ["method", "runs", *(heading for _, heading, _ in columns)],
        "body": [
            [
                method,
                str(len(runs)),
                *(_cell(_finite(run.get(key) for run in runs), share) for key, _, share in columns),
            ]
            for method, runs in _methods(rows).items()
        ],
    }


def _finite(values: Iterable[Any]) -> list[float]:
    return [float(value) for value in values if value is not None and math.isfinite(value)]


def _cell(values: Sequence[float], share: bool) -> str:
    if not values:
        return "–"
    values = [100 * value for value in values] if share else values
    digits = 3 if not share and max(map(abs, values)) <= 1 else 1
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def _gap_closed(rows: Sequence[Row]) -> list[str]:
    """Say how much of the way from floor to ceiling each other method goes, on the mean over its runs."""
    methods = _methods(rows)
    if _CEILING not in methods or _FLOOR not in methods:
        return []
    said = []
    for method in methods:
        if method in (_CEILING, _FLOOR):
            continue
        parts, below = [], []
        for key, heading, _ in _COLUMNS[:2]:
            low, high, here = (
                statistics.fmean(values) if values else math.nan
                for values in (
                    _finite(run.get(key) for run in methods[name]) for name in (_FLOOR, _CEILING, method)
                )
            )
            if not high > low or math.isnan(here):
                continue
            if here < low:
                below.append(f"{100 * (low - here):.1f} points in {heading}")
            else:
                parts.append(f"{100 * (here - low) / (high - low):.0f} % in {heading}")
        if parts:
            said.append(f"{method} goes {' and '.join(parts)} of the way from {_FLOOR} to {_CEILING}.")
        if below:
            said.append(f"{method} lies below {_FLOOR} by {' and '.join(below)}.")
    return said


def _bars(rows: Sequence[Row], key: str, heading: str, share: bool) -> Picture:
    scale = 100 if share else 1
    values = {
        method: [scale * value for value in _finite(run.get(key) for run in runs)]
        for method, runs in _methods(rows).items()
    }
    names = list(values)
    means = [statistics.fmean(values[name]) if values[name] else math.nan for name in names]
    several = any(len(runs) > 1 for runs in values.values())
    spreads = [statistics.stdev(values[name]) if len(values[name]) > 1 else 0.0 for name in names]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        y = np.arange(len(names))
        axes.barh(
            y,
            means,
            xerr=spreads if several else None,
            height=0.62,
            color=LIGHT,
            edgecolor=DARK,
            error_kw={"capsize": 4, "lw": 1.4},
        )
        for position, name in enumerate(names):
            runs = values[name]
            if several:
                axes.plot(
                    runs, np.full(len(runs), position - 0.2), "o", color=MIDDLE, mec="black", mew=0.6, ms=4
                )
            axes.annotate(
                _cell([value / scale for value in runs], share),
                (max([*runs, means[position] + spreads[position]], default=0.0), position),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_yticks(y, [shortened(name) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.32)
        axes.set_xlim(left=min(0.0, *(value for runs in values.values() for value in runs)))
        if share:
            axes.set_xticks([tick for tick in axes.get_xticks() if tick <= 100])
        axes.set_xlabel(f"{heading}, %" if share else heading)

    alt = f"{heading} by method: " + "; ".join(
        f"{name} {_cell([value / scale for value in values[name]], share)}" for name in names
    )
    caption = f"{heading}: one run of each method. Several seeds would show how far runs differ."
    if several:
        caption = f"{heading}: mean over seeds, its standard deviation as a whisker, every run as a dot."
    return draw(paint, height=0.8 + 0.42 * len(names), alt=alt + ".", caption=caption)
