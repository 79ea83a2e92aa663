"""What the rows of a comparison say: groups, means, tests, ranks, costs, and the sentences about them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from swath.errors import InputError
from swath.evaluation.metrics import FROM_POSITIVES
from swath.evaluation.significance import (
    FEWEST_PAIRS,
    LEVEL,
    PairedTest,
    Ranking,
    against_best,
    rank_methods,
)

__all__ = [
    "CEILING",
    "FLOOR",
    "Column",
    "Row",
    "by_method",
    "by_setting",
    "cell_text",
    "chief_columns",
    "costs",
    "failures",
    "finite",
    "gap_closed",
    "present_columns",
    "rankings",
    "said_of_ranks",
    "said_of_tests",
    "tests",
]

CEILING, FLOOR = "all-known", "assume-negative"

Row = Mapping[str, Any]


class Column(NamedTuple):
    """A figure of the rows: its key, its heading, and whether it is a share to be shown in per cent."""

    key: str
    heading: str
    share: bool


GROUPS = (
    Column("map_head", "mAP, head", True),
    Column("map_medium", "mAP, medium", True),
    Column("map_tail", "mAP, tail", True),
)
COLUMNS = (
    Column("map_macro", "mAP", True),
    Column("f1_macro", "mF1", True),
    Column("overall_accuracy", "overall accuracy", True),
    *GROUPS,
    Column("map_macro_last", "mAP, last epoch", True),
    Column("f1_macro_last", "mF1, last epoch", True),
    Column("overall_accuracy_last", "overall accuracy, last epoch", True),
    Column("average_accuracy", "average accuracy", True),
    Column("kappa", "kappa", False),
    Column("calibration_error", "calibration error", True),
    Column("positive_recall", "recall of known positives", True),
    Column("positive_rank", "rank of known positives", False),
    Column("seconds", "seconds", False),
    Column("seconds_per_epoch", "s/epoch", False),
    Column("peak_memory_mb", "peak MiB", False),
)
COSTS = ("seconds", "seconds_per_epoch", "peak_memory_mb")


def present_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns that some row has a figure for.

    Raises:
        InputError: There are no rows, or a row lacks its method.
    """
    if not rows or any("method" not in row for row in rows):
        raise InputError(
            f"{len(rows)} runs were given to compare; expected at least one, each with its method."
        )
    columns = [column for column in COLUMNS if finite(row.get(column.key) for row in rows)]
    # Where all classes are of one group its mean is that over all classes.
    if len(set(columns).intersection(GROUPS)) < 2:
        columns = [column for column in columns if column not in GROUPS]
    # What positives alone can say is second best: shown where nothing else is defined.
    others = {column.key for column in columns}.difference(FROM_POSITIVES, COSTS)
    return [column for column in columns if not others or column.key not in FROM_POSITIVES]


def chief_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the figures that methods are tested on, the first the one they are ranked by."""
    single = any(row.get("kind") == "single-label" for row in rows)
    wanted = ("overall_accuracy", "f1_macro") if single else ("map_macro", "f1_macro")
    there = {column.key: column for column in present_columns(rows)}
    chosen = [there[key] for key in wanted if key in there]
    return chosen or [there[key] for key in ("positive_recall",) if key in there]


def by_setting(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each setting: the data, where rows name it, and what was lost of its labels."""
    settings: dict[str, list[Row]] = {}
    for row in rows:
        words = [str(row["data"])] if row.get("data") else []
        words += [row["draw"] or "all labels"] if "draw" in row else []
        settings.setdefault(", ".join(words), []).append(row)
    return settings


def by_method(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each method, in the order of their first."""
    methods: dict[str, list[Row]] = {}
    for row in rows:
        methods.setdefault(str(row["method"]), []).append(row)
    return methods


def finite(values: Iterable[Any]) -> list[float]:
    """Return the values that are numbers."""
    return [float(value) for value in values if value is not None and math.isfinite(value)]


def cell_text(values: Sequence[float], share: bool) -> str:
    """Return mean ± standard deviation, or the one value, or a dash."""
    if not values:
        return "–"
    values = [100 * value for value in values] if share else values
    digits = 3 if not share and max(map(abs, values)) <= 1 else 1
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def tests(rows: Sequence[Row], key: str) -> list[PairedTest]:
    """Test the methods of one setting against the best; the ceiling, which knew more, takes no part."""
    values: dict[str, dict[Any, float]] = {}
    for row in _rivals(rows):
        if finite([row.get(key)]):
            pair = (row.get("seed"), row.get("split_seed"))
            values.setdefault(str(row["method"]), {})[pair] = float(row[key])
    return against_best(values)


def rankings(rows: Sequence[Row], column: Column) -> tuple[Ranking | None, list[str]]:
    """Rank methods over settings by their means, and say why not if that cannot be, and who is left out."""
    means = {
        setting: {
            method: statistics.fmean(values)
            for method, runs in by_method(_rivals(part)).items()
            if (values := finite(run.get(column.key) for run in runs))
        }
        for setting, part in by_setting(rows).items()
    }
    methods = list(dict.fromkeys(method for found in means.values() for method in found))
    whole = [method for method in methods if all(method in found for found in means.values())]
    if len(means) < 2 or len(whole) < 3:
        return None, []
    notes = [
        f"{method} is not ranked: it has no {column.heading} in some settings."
        for method in methods
        if method not in whole and method != CEILING
    ]
    table = np.array([[found[method] for method in whole] for found in means.values()])
    return rank_methods(whole, table), notes


def said_of_tests(rows: Sequence[Row]) -> list[str]:
    """Say for each setting and chief figure who is first, who is tied with it, and who is worse."""
    sentences = []
    for setting, part in by_setting(rows).items():
        for column in chief_columns(part):
            found = tests(part, column.key)
            if len(found) < 2:
                continue
            where = f"{column.heading}, {setting}" if setting else column.heading
            if all(test.tied is None for test in found[1:]):
                most = max(test.pairs for test in found)
                sentences.append(
                    f"{where}: {found[0].method} has the best mean of the methods with {most} run{'s' * (most != 1)}. "
                    f"No test is possible: at least {FEWEST_PAIRS} seeds of each method are needed."
                )
                continue
            best = found[0].method
            scale = 100 if column.share else 1
            tied = [f"{test.method} ({scale * test.difference:+.1f})" for test in found[1:] if test.tied]
            worse = [test.method for test in found if test.tied is False]
            open_ = [test.method for test in found if test.tied is None]
            sentence = f"{where}: {best} is first" + (f", tied with {', '.join(tied)}" if tied else "")
            sentence += (
                f"; significantly worse: {', '.join(worse)}" if worse else "; none is significantly worse"
            )
            sentence += f"; too few runs to say: {', '.join(open_)}" if open_ else ""
            sentences.append(f"{sentence} ({_test_words(found)}).")
    return sentences


def said_of_ranks(rows: Sequence[Row]) -> list[str]:
    """Say how methods rank over several settings."""
    sentences = []
    for column in chief_columns(rows)[:1]:
        ranking, notes = rankings(rows, column)
        if ranking is None:
            continue
        ranks = ", ".join(f"{name} {rank:.2f}" for name, rank in ranking.ranks.items())
        verdict = (
            f"mean ranks that differ by more than {ranking.critical_difference:.2f} (Nemenyi) are different"
            if ranking.p < LEVEL
            else "so no method is proved to differ from another over the settings"
        )
        sentences.append(
            f"Mean ranks in {column.heading} over {ranking.settings} settings: {ranks}. Friedman's test: p = "
            f"{ranking.p:.2g}; {verdict}."
        )
        sentences += notes
    return sentences


def gap_closed(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Say which methods lie below the floor, and how much of the way to the ceiling the others go, in their means."""
    methods = by_method(rows)
    below: list[str] = []
    above: list[str] = []
    for method in methods if FLOOR in methods else ():
        if method in (CEILING, FLOOR):
            continue
        over, under = [], []
        for key, heading, _ in COLUMNS[:2]:
            low, high, here = (
                statistics.fmean(values) if values else math.nan
                for values in (
                    finite(run.get(key) for run in methods.get(name, ())) for name in (FLOOR, CEILING, method)
                )
            )
            if here < low:
                under.append(f"{100 * (low - here):.1f} points in {heading}")
            elif high > low and not math.isnan(here):
                over.append(f"{100 * (here - low) / (high - low):.0f} % in {heading}")
        if over:
            above.append(f"{method} goes {' and '.join(over)} of the way from {FLOOR} to {CEILING}.")
        if under:
            below.append(f"{method} lies below {FLOOR} by {' and '.join(under)}.")
    return below, above


def costs(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return for each method the median seconds of an epoch, how often the floor's, and the largest memory."""
    medians = {
        method: statistics.median(values)
        for method, runs in by_method(rows).items()
        if (values := finite(run.get("seconds_per_epoch") for run in runs))
    }
    floor = medians.get(FLOOR)
    lines = []
    for method, median in medians.items():
        memory = finite(row.get("peak_memory_mb") for row in by_method(rows)[method])
        lines.append(
            {
                "method": method,
                "seconds": f"{median:.2f}",
                "times": f"{median / floor:.2f}" if floor else "–",
                "memory": f"{max(memory):,.0f}" if memory else "–",
            }
        )
    return lines


def failures(rows: Sequence[Row]) -> list[str]:
    """Say which cells have no figures, and why; the same reason is said once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.get("error"):
            place = [str(row["draw"] or "all labels")] if "draw" in row else []
            place += [f"seed {row.get('seed')}"]
            place += [] if row.get("split_seed") is None else [f"split {row['split_seed']}"]
            reasons.setdefault((str(row["method"]), str(row["error"])), []).append(", ".join(place))
    return [f"{method} failed ({'; '.join(places)}): {why}" for (method, why), places in reasons.items()]


def _rivals(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of methods that were told the same."""
    return [row for row in rows if row["method"] != CEILING or row.get("draw", "") is None]


def _test_words(found: Sequence[PairedTest]) -> str:
    pairs = sorted({test.pairs for test in found})
    runs = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    return f"paired t-test over {runs} runs, Holm-corrected, {100 * LEVEL:.0f} %"
