"""The quickstart keeps what the README says of it."""

import json
from pathlib import Path

import pytest

from swath.tasks.quickstart import quickstart


@pytest.mark.slow
def test_adagc_closes_most_of_the_gap_between_floor_and_ceiling(tmp_path: Path) -> None:
    comparison = quickstart(out=tmp_path)
    rows = {row["method"]: row for row in json.loads((tmp_path / "summary.json").read_text())["rows"]}
    floor, ours, ceiling = (rows[method] for method in ("assume-negative", "adagc", "all-known"))
    gap = ceiling["f1_macro"] - floor["f1_macro"]
    assert gap > 0.3
    assert ours["f1_macro"] - floor["f1_macro"] >= 0.6 * gap
    assert ours["map_macro"] > floor["map_macro"]
    assert all((tmp_path / f"{method}-0" / "report.html").is_file() for method in rows)
    assert comparison.report.is_file()
