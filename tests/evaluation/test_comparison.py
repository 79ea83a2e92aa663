"""A comparison over several settings: what it says, what it draws, and what it says of cells that failed."""

import base64
import re

import pytest

from swath.evaluation.report import comparison_findings, comparison_table, write_comparison

SCORES = {"all-known": 0.9, "assume-negative": 0.7, "adagc": 0.8, "role": 0.795, "wan": 0.65}
NOISE = {"all-known": 0.0, "assume-negative": 0.003, "adagc": -0.002, "role": 0.004, "wan": 0.001}


def rows(draws=("single-positive-random", "keep-positives:2", None), seeds=range(4)):  # type: ignore[no-untyped-def]
    made = []
    for number, draw in enumerate(draws):
        for seed in seeds:
            for method, score in SCORES.items():
                figure = score + number / 50 + seed / 100 + NOISE[method] * (-1) ** seed
                made.append(
                    {"method": method, "seed": seed, "draw": draw, "split_seed": None, "kind": "multi-label",
                     "map_macro": figure, "f1_macro": figure - 0.1, "seconds": 60.0, "error": None,
                     "seconds_per_epoch": 2.0 if method == "adagc" else 1.0, "peak_memory_mb": 700.0,
                     "run": f"runs/{method}-{seed}"}
                )  # fmt: skip
    return made


def test_the_table_names_what_was_lost_only_where_that_differs() -> None:
    assert comparison_table(rows(draws=[None])).splitlines()[0].split()[0] == "method"
    lines = comparison_table(rows()).splitlines()
    assert lines[0].split()[:2] == ["labels", "method"]
    assert len(lines) == 1 + 3 * len(SCORES)
    assert lines[-1].startswith("all labels")


def test_the_tests_are_said_for_each_setting_and_the_ceiling_takes_part_only_where_it_knows_no_more() -> None:
    said = comparison_findings(rows())
    assert (
        "mAP, keep-positives:2: adagc is first, tied with role (-0.5); significantly worse: assume-negative, wan "
        "(paired t-test over 4 runs, Holm-corrected, 5 %)." in said
    )
    assert sum(sentence.startswith("mAP, all labels: all-known is first") for sentence in said) == 1
    ranks = next(sentence for sentence in said if sentence.startswith("Mean ranks in mAP over 3 settings"))
    assert "adagc 1.00, role 2.00, assume-negative 3.00, wan 4.00" in ranks
    assert "all-known" not in ranks


def test_two_seeds_are_said_to_prove_nothing() -> None:
    said = comparison_findings(rows(draws=[None], seeds=range(2)))
    assert (
        "of the methods with 2 runs. No test is possible: at least 3 seeds of each method are needed."
        in said[0]
    )
    assert not any("significantly" in sentence for sentence in said)


def test_a_failed_cell_has_its_reason_and_leaves_the_others(tmp_path) -> None:  # type: ignore[no-untyped-def]
    lost = rows()
    for row in lost:
        if row["method"] == "role" and row["draw"] is None:
            row |= {"map_macro": None, "f1_macro": None, "seconds": None, "error": "the loss became <nan>"}
    said = comparison_findings(lost)
    assert (
        "role failed (all labels, seed 0; all labels, seed 1; all labels, seed 2; all labels, seed 3): "
        in said[-1]
    )
    assert "role is not ranked: it has no mAP in some settings." in said
    text = write_comparison(tmp_path, lost).read_text(encoding="utf-8")
    assert "the loss became &lt;nan&gt;" in text
    assert "nan %" not in text
    assert text.count('runs/role-0/report.html"') == 2  # a failed run has no report


def test_the_page_has_tests_ranks_costs_and_the_recovery(tmp_path) -> None:  # type: ignore[no-untyped-def]
    curves = [
        {"method": "adagc", "draw": "single-positive-random", "seed": seed, "epochs": [0, 1, 2],
         "recovered": [0.2, 0.5, 0.6], "moment": 1 if seed else None}
        for seed in range(2)
    ]  # fmt: skip
    text = write_comparison(tmp_path, rows(), curves=curves).read_text(encoding="utf-8")
    assert "wan lies below assume-negative by" in text
    assert re.search(r">adagc</th><td>2\.00</td><td>2\.00</td><td>700</td>", text)
    assert text.count("each method against") == 6
    alts = re.findall(r'alt="([^"]+)"', text)
    assert sum(alt.startswith("mAP by method") for alt in alts) == 3
    assert any(alt.startswith("Mean ranks in mAP, best first: adagc 1.00") for alt in alts)
    assert "at the end: adagc 60.0 %. Calibration begins at epoch 1." in next(
        a for a in alts if "memory" in a
    )
    for source in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", text):
        assert base64.b64decode(source).startswith(b"<?xml")
    assert "://" not in re.sub(r"base64,[^\"]+", "", text)


def test_single_label_sets_are_tested_on_their_accuracy() -> None:
    made = [
        {**row, "kind": "single-label", "overall_accuracy": 1 - row["map_macro"]}
        for row in rows(draws=[None])
    ]
    assert comparison_findings(made)[0].startswith("overall accuracy, all labels: wan is first")


@pytest.mark.browser
def test_a_page_of_many_settings_fits_a_phone(tmp_path, page) -> None:  # type: ignore[no-untyped-def]
    path = write_comparison(tmp_path, rows())
    for width in (360, 1200):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_frequent_and_rare_classes_are_shown_apart_where_both_are():
    row = {"method": "plt-mlc", "seed": 0, "map_macro": 0.6, "map_head": 0.8, "map_medium": None}
    assert "head" not in comparison_table([row]).splitlines()[0]
    heading, line = comparison_table([{**row, "map_tail": 0.4}]).splitlines()
    assert "mAP, head  mAP, tail" in heading
    assert line.split()[-2:] == ["80.0", "40.0"]
