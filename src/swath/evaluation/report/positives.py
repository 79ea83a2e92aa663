"""What can be said where present labels are known and no label is known to be absent."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from swath.evaluation.metrics import Measures
from swath.evaluation.report.drawing import DARK, MIDDLE, Picture, draw, shortened, shown_classes
from swath.evaluation.report.evidence import Evidence
from swath.labels import LabelTable, is_absent, is_present

__all__ = ["found_dots", "limits", "only_positives"]


def only_positives(evidence: Evidence) -> bool:
    """Return whether test labels are known to be present and none is known to be absent."""
    labels = LabelTable(tuple(evidence.classes), evidence.test_state, exclusive=evidence.exclusive)
    return bool(is_present(labels.state).any()) and not bool(is_absent(labels.state).any())


def limits(evidence: Evidence, measures: Measures) -> list[str]:
    """Say in plain words what figures of known positives prove, beside what a model without eyes would reach.

    Returns:
        Paragraphs; none where mAP is defined or no label is known to be present.
    """
    evaluation = evidence.evaluation
    if evaluation["map_macro"] is not None or evaluation["positive_recall"] is None:
        return []
    present = is_present(measures.state).sum(axis=0)
    claimed = measures.claimed.mean(axis=0)
    guessed = float((present * claimed).sum() / present.sum())
    paragraphs = [
        f"mAP is not defined here: {evaluation['undefined']['map_macro']}. What can be said is whether the model "
        f"finds what is known to be there.",
        f"Recall: of {present.sum():,} known present labels, {100 * evaluation['positive_recall']:.1f} % are "
        f"claimed. The model claims {claimed.sum():.1f} labels a scene; claiming each class as often, in scenes drawn "
        f"at random, would find {100 * guessed:.1f} %.",
    ]
    rank = (
        f"Rank: with the {len(evidence.classes)} classes of a scene in the order of their probability, a known present "
        f"label is number {evaluation['positive_rank']:.1f} on average (other known present ones not counted)."
    )
    known = is_present(evidence.train_state).sum(axis=0).astype(np.float64)
    if known.any():
        # One order for all scenes: what is known most often in the training first.
        blind = np.broadcast_to(known / known.max(), measures.state.shape)
        labels = LabelTable(tuple(evidence.classes), measures.state)
        value = Measures(labels, blind).value()["positive_rank"]
        rank += f" Naming the most common classes of the training first, in every scene, gives {value:.1f}."
    return [
        *paragraphs,
        rank,
        "Where a figure beats its guess, the model sees something in the scenes. But neither figure says how many "
        "of the further claims are wrong. A model that claims everything has a recall of 100 %, and a label that "
        "ranks third is no mistake if the two before it are there too and nobody noted them. To learn that, write "
        "down all labels, present and absent, of some of the test scenes.",
    ]


def found_dots(evidence: Evidence, measures: Measures) -> Picture | None:
    """Draw which share of each class's known positives is found, beside how often the class is claimed."""
    present = is_present(measures.state).sum(axis=0)
    drawn = np.flatnonzero(present)
    if not drawn.size:
        return None
    found = (is_present(measures.state) & measures.claimed).sum(axis=0) / np.maximum(present, 1)
    claimed = measures.claimed.mean(axis=0)
    order, note = shown_classes(drawn[np.argsort(-found[drawn], kind="stable")])

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        y = np.arange(len(order))
        axes.hlines(y, claimed[order], found[order], color="#999999", lw=1)
        axes.plot(found[order], y, "o", color=DARK, ms=7, label="found, of those known to be there")
        axes.plot(claimed[order], y, "|", color=MIDDLE, ms=10, mew=2.4, label="claimed, of all test scenes")
        names = [f"{shortened(evidence.classes[column])} ({present[column]})" for column in order]
        axes.set_yticks(y, names)
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        figure.legend(loc="outside upper left", ncols=1)

    alt = (
        f"Share of the known positives that are found, {len(drawn)} classes, best first: from "
        f"{evidence.classes[order[0]]} ({found[order[0]]:.0%}) to {evidence.classes[order[-1]]} "
        f"({found[order[-1]]:.0%})."
    )
    caption = (
        "Each class on the test scenes, with the number of scenes known to show it. Dot at the bar: found no more "
        "often than by chance. Dot right of the bar: the model tells the class from others."
    )
    return draw(paint, height=1.4 + 0.21 * len(order), alt=alt, caption=caption + note)
