"""The page of a selection: what was kept and lost of each class, cluster and region, with pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from swath.evaluation.report.gallery import jpeg
from swath.evaluation.report.page import render
from swath.files import write_text
from swath.labels import is_present
from swath.randomness import stream
from swath.selection.places import regions_of

if TYPE_CHECKING:
    from swath.selection.file import Selection
    from swath.selection.pool import Pool
    from swath.tasks.prepare import Prepared

__all__ = ["write_selection_report"]

_MOST_ROWS = 60  # of one table
_PICTURES = 8  # in one strip
_CLUSTERS = 6  # with pictures of their own
_SAID_APART = ("images", "contradicted")  # a fingerprint, and what has a sentence of its own


def write_selection_report(path: Path, selection: Selection, pool: Pool, prepared: Prepared | None) -> Path:
    """Write the page; without a data set it has tables only.

    Args:
        path: The page.
        selection: What was chosen.
        pool: From what.
        prepared: The data set, or None for features alone.

    Returns:
        The page.

    Raises:
        OutputError: It cannot be written.
    """
    table = selection.table
    tables = [_stages(table)]
    if prepared is not None:
        tables.append(_classes(table, pool, prepared))
        regions = regions_of(prepared.source.columns, table["index"].to_numpy())
        if regions is not None:
            tables.append(_rows("Regions", "region", table.assign(region=regions), "region"))
    inside = table[table["cluster"] >= 0]
    if len(inside):
        tables.append(_rows("Clusters", "cluster", inside, "cluster"))
    content = {
        "notes": selection.notes,
        "facts": [
            (name, _plain(value)) for name, value in selection.notes.items() if name not in _SAID_APART
        ],
        "contradicted": selection.notes.get("contradicted"),
        "kept": int(table["kept"].sum()),
        "scenes": len(table),
        "balance": _balance(table, prepared),
        "tables": tables,
        "strips": [] if prepared is None else list(_strips(table, prepared)),
    }
    write_text(path, render("selection.html.j2", content))
    return path


def _rows(title: str, name: str, table: pd.DataFrame, column: str) -> dict[str, Any]:
    """Return a table of how much of each value was kept, the largest first."""
    found = table.groupby(column, observed=True)["kept"].agg(["sum", "size"])
    found = found.sort_values("size", ascending=False, kind="stable")
    rows = [_row(str(value), int(kept), int(size)) for value, (kept, size) in found.iterrows()]
    return {"title": title, "name": name, "rows": rows[:_MOST_ROWS], "more": max(0, len(rows) - _MOST_ROWS)}


def _row(name: str, kept: int, size: int) -> dict[str, Any]:
    return {
        "name": name,
        "size": size,
        "kept": kept,
        "lost": size - kept,
        "share": kept / size if size else 0.0,
    }


def _stages(table: pd.DataFrame) -> dict[str, Any]:
    return _rows("What decided", "stage", table, "stage")


def _classes(table: pd.DataFrame, pool: Pool, prepared: Prepared) -> dict[str, Any]:
    present, kept = pool.named, table["kept"].to_numpy()
    rows = [
        _row(name, int((present[:, column] & kept).sum()), int(present[:, column].sum()))
        for column, name in enumerate(prepared.labels.classes)
    ]
    nobody = ~present.any(axis=1)
    if nobody.any():
        rows.append(_row("no class known to be present", int((nobody & kept).sum()), int(nobody.sum())))
    return {
        "title": "Classes",
        "name": "class",
        "rows": rows[:_MOST_ROWS],
        "more": max(0, len(rows) - _MOST_ROWS),
    }


def _balance(table: pd.DataFrame, prepared: Prepared | None) -> dict[str, Any] | None:
    """Return how many times as frequent the largest class is as the smallest, before and after, and who is gone."""
    if prepared is None:
        return None
    present, kept = is_present(prepared.labels.state), table["kept"].to_numpy()
    before, after = present.sum(axis=0), present[kept].sum(axis=0)
    there = before > 0
    gone = [
        name for name, was, now in zip(prepared.labels.classes, before, after, strict=True) if was and not now
    ]
    if there.sum() < 2:
        return None
    ratio = None if gone else float(after[there].max() / after[there].min())
    return {"before": float(before[there].max() / before[there].min()), "after": ratio, "gone": gone}


def _strips(table: pd.DataFrame, prepared: Prepared) -> Iterator[dict[str, Any]]:
    """Yield rows of pictures: kept and dropped scenes at random, by stage, and of the largest clusters."""
    kept = table["kept"].to_numpy()
    yield _strip("Kept", "Drawn at random from all that is kept.", np.flatnonzero(kept), table, prepared)
    yield _strip(
        "Dropped", "Drawn at random from all that is dropped.", np.flatnonzero(~kept), table, prepared
    )
    stages = table["stage"].to_numpy()
    for stage in sorted(set(stages)):
        rows = np.flatnonzero(stages == stage)
        if len(rows) < len(table):
            yield _strip(f"Decided by {stage}", "Drawn at random.", rows, table, prepared)
    cluster = table["cluster"].to_numpy()
    numbers, sizes = np.unique(cluster[cluster >= 0], return_counts=True)
    if len(numbers) > 1:
        for number in numbers[np.argsort(-sizes, kind="stable")[:_CLUSTERS]]:
            inside = cluster == number
            half = [
                _drawn(np.flatnonzero(inside & (kept == which)), f"{number}")[: _PICTURES // 2]
                for which in (True, False)
            ]
            yield _strip(
                f"Cluster {number}",
                "Four that are kept, four that are not.",
                np.concatenate(half),
                table,
                prepared,
            )


def _drawn(rows: npt.NDArray[np.int64], title: str) -> npt.NDArray[np.int64]:
    return stream(0, f"selection pictures {title}").permutation(rows)[:_PICTURES]


def _strip(
    title: str, rule: str, rows: npt.NDArray[np.int64], table: pd.DataFrame, prepared: Prepared
) -> dict[str, Any]:
    from swath.tasks.evidence import thumbnail

    # A cluster's pictures are in their order already.
    chosen = rows if len(rows) <= _PICTURES else _drawn(rows, title)
    places, labels = prepared.parts["train"], prepared.labels
    cards = []
    for row in chosen:
        named = [labels.classes[column] for column in np.flatnonzero(is_present(labels.state[row]))]
        picture = thumbnail(prepared.store, prepared.contract, int(places[row]))
        line = table.iloc[int(row)]
        cards.append(
            {
                "source": jpeg(picture),
                "scene": line["scene"],
                "classes": named,
                "kept": bool(line["kept"]),
                "score": None if np.isnan(line["score"]) else f"{line['score']:.3g}",
            }
        )
    return {"title": title, "rule": rule, "cards": cards}


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(entry)}" for name, entry in value.items()) or "none"
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
