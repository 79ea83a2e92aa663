"""Figures of what came out on the test scenes: each class, what is taken for what, and whom to trust."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from swath.evaluation.calibration import reliability
from swath.evaluation.metrics import Measures
from swath.evaluation.report.drawing import (
    DARK,
    LIGHT,
    MIDDLE,
    Picture,
    draw,
    name_points,
    shortened,
    shown_classes,
)
from swath.evaluation.report.evidence import Evidence
from swath.labels import LabelTable, is_absent, is_known, is_present

__all__ = [
    "class_dots",
    "confusion_matrix_picture",
    "cooccurrence",
    "false_alarms",
    "precision_by_positives",
    "reliability_picture",
]

Floats = npt.NDArray[np.float64]

# More cells than this cannot be told apart; the classes with the most to see are shown.
_MOST_CELLS = 30

# More names than this would cover each other beside their points.
_MOST_NAMED = 24


def precision_by_positives(evidence: Evidence) -> Picture | None:
    """Draw average precision on the test scenes against the known positives of the training."""
    value = _column(evidence, "average_precision")
    positives = is_present(evidence.train_state).sum(axis=0).astype(np.float64)
    drawn = np.flatnonzero(~np.isnan(value))
    if not drawn.size:
        return None
    worst_first = drawn[np.argsort(value[drawn], kind="stable")]
    named = worst_first if len(drawn) <= _MOST_NAMED else np.r_[worst_first[:10], worst_first[-5:]]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(positives[drawn], value[drawn], "o", color=DARK, mec="white", ms=7)
        low, high = positives[drawn].min(), positives[drawn].max()
        if low > 0 and high > 10 * low:
            axes.set_xscale("log")
            _plain_numbers(axes.xaxis)
            axes.set_xlim(low / 1.6, high * 2.2)
        else:
            span = max(high - low, 1)
            axes.set_xlim(low - 0.12 * span, high + 0.25 * span)
        axes.set_ylim(max(0.0, float(value[drawn].min()) - 0.12), 1.04)
        axes.set_xlabel("training scenes in which the class is known to be present")
        axes.set_ylabel("average precision, test")
        figure.draw_without_rendering()
        name_points(axes, positives[named], value[named], [shortened(evidence.classes[c], 18) for c in named])

    alt = (
        f"Scatter of average precision against known positives for {len(drawn)} classes; lowest "
        f"{evidence.classes[worst_first[0]]} ({value[worst_first[0]]:.0%}), highest "
        f"{evidence.classes[worst_first[-1]]} ({value[worst_first[-1]]:.0%})."
    )
    caption = (
        "Is a class known badly because few examples of it were known? Lower left: yes. Lower right: no."
    )
    return draw(paint, height=3.6, alt=alt, caption=caption)


def class_dots(evidence: Evidence) -> Picture | None:
    """Draw average precision, F1 and the chance level of each class."""
    precision, f1 = _column(evidence, "average_precision"), _column(evidence, "f1")
    present, absent = _column(evidence, "present"), _column(evidence, "absent")
    drawn = np.flatnonzero(~np.isnan(precision))
    if not drawn.size:
        return None
    order, note = shown_classes(drawn[np.argsort(-precision[drawn], kind="stable")])
    chance = present / np.maximum(present + absent, 1)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        y = np.arange(len(order))
        axes.hlines(
            y, np.minimum(precision, f1)[order], np.maximum(precision, f1)[order], color="#999999", lw=1
        )
        axes.plot(precision[order], y, "o", color=DARK, ms=7, label="average precision")
        axes.plot(f1[order], y, "s", mfc="white", mec=MIDDLE, mew=1.6, ms=6, label="F1")
        axes.plot(chance[order], y, "|", color="black", ms=9, mew=1.4, label="average precision of a guess")
        axes.set_yticks(y, [shortened(evidence.classes[column]) for column in order])
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        figure.legend(loc="outside upper left", ncols=2)

    worst = order[-1]
    alt = (
        f"Average precision and F1 of {len(drawn)} classes, best first: from {evidence.classes[order[0]]} "
        f"({precision[order[0]]:.0%}) to {evidence.classes[worst]} ({precision[worst]:.0%})."
    )
    caption = "Each class on the test scenes. A square far left of its dot: ranked well, but seldom claimed."
    return draw(paint, height=1.2 + 0.21 * len(order), alt=alt, caption=caption + note)


def confusion_matrix_picture(evidence: Evidence) -> Picture | None:
    """Draw the confusion matrix of classes that exclude each other, each row as shares of its scenes."""
    counts = np.asarray(evidence.evaluation["confusion"], np.float64)
    if not counts.sum():
        return None
    rows = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, rows, out=np.full(counts.shape, np.nan), where=rows > 0)
    errors = counts - np.diag(np.diag(counts))
    return _matrix(
        evidence,
        share,
        interest=errors.sum(axis=0) + errors.sum(axis=1),
        across="predicted class",
        down="true class",
        caption="Of the scenes of a row's class, the share (%) for which the column's class is predicted.",
    )


def false_alarms(
    evidence: Evidence, measures: Measures
) -> tuple[Picture | None, list[tuple[str, str, float, int]]]:
    """Draw what is wrongly claimed beside each true class, and list the most frequent cases.

    Returns:
        The picture, and (true class, wrongly claimed class, share, number of scenes it is taken over) in
        falling order, for pairs seen in at least five scenes.
    """
    present = is_present(measures.state).astype(np.float64)
    absent = is_absent(measures.state)
    chances = present.T @ absent
    share = np.divide(
        present.T @ (absent & measures.claimed),
        chances,
        out=np.full(chances.shape, np.nan),
        where=chances > 0,
    )
    worst = np.argsort(-np.nan_to_num(np.where(chances >= 5, share, 0)), axis=None)[:6]
    pairs = [divmod(int(cell), len(evidence.classes)) for cell in worst]
    listed = [
        (
            evidence.classes[true],
            evidence.classes[claimed],
            float(share[true, claimed]),
            int(chances[true, claimed]),
        )
        for true, claimed in pairs
        if chances[true, claimed] >= 5 and share[true, claimed] > 0
    ]
    if np.isnan(share).all():
        return None, listed
    picture = _matrix(
        evidence,
        share,
        interest=np.nan_to_num(share).sum(axis=0) + np.nan_to_num(share).sum(axis=1),
        across="wrongly claimed class",
        down="truly present class",
        caption="Of the scenes that show a row's class and lack the column's, the share (%) for which the "
        "column's class is claimed all the same.",
    )
    return picture, listed


def cooccurrence(evidence: Evidence, measures: Measures) -> list[Picture]:
    """Draw which classes lie in one scene: in truth, and as claimed."""
    known, present = np.asarray(is_known(measures.state)), np.asarray(is_present(measures.state))
    # Labels known to be present, and no others, would make every pair a certainty.
    if len(evidence.classes) < 2 or not present.any() or not (known & ~present).any():
        return []
    captions = (
        (present, "In truth: of the scenes with a row's class, the share (%) that also have the column's."),
        (
            measures.claimed & known,
            "As the model claims. Darker than in truth: it claims unseen what usually keeps company.",
        ),
    )
    shares = [(_together(has, known), caption) for has, caption in captions]
    return [
        _matrix(
            evidence,
            share,
            interest=present.sum(axis=0).astype(np.float64),
            across="also there",
            down="scenes with",
            caption=caption,
        )
        for share, caption in shares
        if not np.isnan(share).all()
    ]


def _together(has: npt.NDArray[Any], known: npt.NDArray[Any]) -> Floats:
    number = has.astype(np.float64)
    chances = number.T @ known
    share: Floats = np.divide(
        number.T @ number, chances, out=np.full(chances.shape, np.nan), where=chances > 0
    )
    np.fill_diagonal(share, np.nan)
    return share


def _matrix(
    evidence: Evidence,
    values: Floats,
    *,
    interest: Floats,
    across: str,
    down: str,
    caption: str,
) -> Picture:
    classes = np.arange(len(evidence.classes))
    if len(classes) > _MOST_CELLS:
        classes = np.sort(np.argsort(-interest, kind="stable")[:_MOST_CELLS])
        caption += f" The {_MOST_CELLS} of {len(evidence.classes)} classes with the most to see."
    names = [shortened(evidence.classes[column], 16) for column in classes.tolist()]
    cell = 0.23 if len(classes) > 6 else 0.4
    side = 1.5 + cell * len(classes)
    part = values[np.ix_(classes, classes)]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_facecolor("#f3f3f3")
        axes.imshow(np.ma.masked_invalid(part), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        for row, column in np.argwhere(part >= 0.005):
            share = part[row, column]
            colour = "white" if share > 0.55 else "black"
            text = axes.text(
                column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6.5, color=colour
            )
            text.set_in_layout(False)  # inside its cell anyway; asking each for its size is slow
        axes.set_xticks(np.arange(len(names)), names, rotation=90)
        axes.set_yticks(np.arange(len(names)), names)
        axes.grid(visible=False)
        axes.set_xlabel(across)
        axes.set_ylabel(down)

    alt = f"{across} against {down} for {len(classes)} classes, in per cent."
    return draw(paint, width=max(side, 4.0), height=side + 0.1, alt=alt.capitalize(), caption=caption)


def reliability_picture(evidence: Evidence) -> Picture | None:
    """Draw the share of labels that are there against the probability that the model gave them."""
    if evidence.evaluation["calibration_error"] is None:
        return None
    labels = LabelTable(tuple(evidence.classes), evidence.test_state, exclusive=evidence.exclusive)
    bins = reliability(labels, evidence.test_probability)
    filled = bins.entries > 0
    if not filled.any():
        return None
    mean = bins.confidence[filled] / bins.entries[filled]
    share = bins.hits[filled] / bins.entries[filled]
    low, high = _wilson(bins.hits[filled], bins.entries[filled])

    def paint(figure: Figure) -> None:
        axes, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        axes.plot([0, 1], [0, 1], ls="--", color="#777777", lw=1, label="at its word")
        axes.errorbar(
            mean,
            share,
            yerr=(share - low, high - share),
            fmt="o-",
            color=DARK,
            capsize=2,
            ms=5,
            label="this model",
        )
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel("share that is right" if evidence.exclusive else "share that is there")
        axes.legend(loc="lower right")
        edges = np.linspace(0, 1, len(bins.entries) + 1)
        lower.bar(
            edges[:-1], bins.entries, np.diff(edges), align="edge", color=LIGHT, edgecolor="#555555", lw=0.6
        )
        lower.set_yscale("log")
        _plain_numbers(lower.yaxis)
        lower.set_ylabel("labels")
        lower.set_xlabel("probability the model gives")
        lower.set_xlim(0, 1)

    alt = "Reliability curve: " + "; ".join(
        f"given {given:.0%}, found {found:.0%}" for given, found in zip(mean, share, strict=True)
    )
    caption = (
        "Can a probability be taken at its word? Dots below the line: it claims too much; above: too little. "
        "Whiskers: 95 % interval of the share. Bars: how many known labels have such a probability."
    )
    return draw(paint, height=3.9, alt=alt + ".", caption=caption)


def _wilson(hits: Floats, entries: Floats) -> tuple[Floats, Floats]:
    """Return the 95 % interval of a share after Wilson (1927), which stays honest for one hit out of one."""
    z = 1.96
    share = hits / entries
    centre = (share + z**2 / (2 * entries)) / (1 + z**2 / entries)
    half = z / (1 + z**2 / entries) * np.sqrt(share * (1 - share) / entries + z**2 / (4 * entries**2))
    # Rounding must not leave the share itself outside.
    return np.minimum(centre - half, share), np.maximum(centre + half, share)


def _plain_numbers(axis: Axis) -> None:
    """Write 100 and not a power of ten, which needs the formula language that class names must not reach."""
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else "")
    axis.set_minor_formatter(NullFormatter())


def _column(evidence: Evidence, key: str) -> Floats:
    rows: Sequence[dict[str, Any]] = evidence.evaluation["per_class"]
    return np.array([np.nan if row[key] is None else row[key] for row in rows], np.float64)
