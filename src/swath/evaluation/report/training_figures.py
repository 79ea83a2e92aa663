"""Figures of what went in: what is known about the training scenes, how training went, what it recovered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from swath.evaluation.metrics import ClassCounts
from swath.evaluation.report.drawing import DARK, LIGHT, MIDDLE, Picture, draw, shortened, shown_classes
from swath.evaluation.report.evidence import Evidence
from swath.labels import is_absent, is_present, is_unknown

__all__ = ["curves", "recovery_bars", "state_bars"]

# In every record, and no measure of learning.
_NOT_DRAWN = {"epoch", "step", "seconds", "scenes_per_second", "learning_rate", "train_loss"}
_STYLES = ("-", "--", "-.", ":")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


def state_bars(evidence: Evidence) -> Picture:
    """Draw for each class in how many training scenes it is known present, known absent and unknown."""
    state = evidence.train_state
    present, absent = is_present(state).sum(axis=0), is_absent(state).sum(axis=0)
    unknown = is_unknown(state).sum(axis=0)
    order, note = shown_classes(np.argsort(-present, kind="stable"))
    truth = None if evidence.train_truth is None else is_present(evidence.train_truth).sum(axis=0)
    hidden = truth is not None and bool((truth != present).any())

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        y = np.arange(len(order))
        axes.barh(y, present[order], color=DARK, label="known present")
        if absent.any():
            axes.barh(y, absent[order], left=present[order], color=LIGHT, label="known absent")
        left = (present + absent)[order]
        axes.barh(
            y,
            unknown[order],
            left=left,
            color="white",
            edgecolor="#777777",
            hatch="////",
            lw=0.6,
            label="unknown",
        )
        if hidden and truth is not None:
            axes.plot(truth[order], y, "D", color=MIDDLE, mec="black", ms=5, label="truly present")
        axes.set_yticks(y, [shortened(evidence.classes[column]) for column in order])
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.set_xlim(0, max(len(state), 1))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("training scenes")
        # Bars first, in the order in which they stand.
        handles, names = axes.get_legend_handles_labels()
        figure.legend(
            handles[hidden:] + handles[:hidden],
            names[hidden:] + names[:hidden],
            loc="outside upper left",
            ncols=2,
        )

    total = max(state.size, 1)
    alt = (
        f"Bars of label states for {len(evidence.classes)} classes over {len(state)} training scenes: "
        f"{present.sum() / total:.0%} known present, {absent.sum() / total:.0%} known absent, "
        f"{unknown.sum() / total:.0%} unknown."
    )
    caption = "What the method was told about the training scenes." + (
        " Diamonds: in how many scenes the class really is; the method did not know that." if hidden else ""
    )
    return draw(paint, height=1.2 + 0.21 * len(order), alt=alt, caption=caption + note)


def curves(progress: Sequence[Mapping[str, Any]], method: Mapping[str, Any]) -> Picture | None:
    """Draw loss and scores by epoch, with the moment at which the method changed its mind."""
    series = _series(progress)
    loss = series.pop("train_loss", None)
    shares = {
        name: line for name, line in series.items() if np.nanmin(line[1]) >= 0 and np.nanmax(line[1]) <= 1
    }
    others = {name: line for name, line in series.items() if name not in shares}
    panels = [
        (title, lines)
        for title, lines in (
            ("training loss", {"train_loss": loss} if loss else {}),
            ("share or score", dict(list(shares.items())[:8])),
            ("other figures of the method", dict(list(others.items())[:8])),
        )
        if lines
    ]
    if not panels:
        return None
    trigger = method.get("calibrating_from")
    moment = trigger if isinstance(trigger, int | float) and math.isfinite(trigger) else None

    def paint(figure: Figure) -> None:
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (title, lines) in zip(grid, panels, strict=True):
            for number, (name, (epoch, value)) in enumerate(lines.items()):
                axes.plot(
                    epoch,
                    value,
                    color=(DARK, MIDDLE, "#666666")[number % 3],
                    ls=_STYLES[number % 4],
                    marker=_MARKS[number % 8],
                    markevery=max(1, len(epoch) // 8),
                    ms=4,
                    label=name.replace("_", " "),
                )
            if len(lines) == 1:
                axes.set_ylabel(next(iter(lines)).replace("_", " ").replace("train loss", "training loss"))
            else:
                axes.set_ylabel(title)
                # Above the lines, not on them; above the trigger's name, too.
                axes.legend(loc="lower left", bbox_to_anchor=(0, 1.1 if axes is grid[0] else 1.0), ncols=2)
            if moment is not None:
                axes.axvline(moment, color="black", ls=(0, (4, 2)), lw=1.2)
        if moment is not None:
            grid[0].annotate(
                f"trigger, epoch {moment:g}",
                (moment, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
            )
        grid[-1].set_xlabel("epoch, counted from 0")

    names = [name for _, lines in panels for name in lines]
    alt = f"Training curves over {len(progress)} epochs: {', '.join(names)}."
    if loss is not None:
        alt += f" The loss goes from {loss[1][0]:.3g} to {loss[1][-1]:.3g}."
    caption = "How training went, epoch by epoch."
    if moment is not None:
        alt += f" The trigger is at epoch {moment:g}."
        caption += (
            " Dashed: the moment from which on unknown labels are no longer taken for absent; the loss has other "
            "terms from there on, so it may jump."
        )
    return draw(paint, height=0.7 + 1.7 * len(panels), alt=alt, caption=caption)


def _series(progress: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[float], list[float]]]:
    """Return (epochs, values) of every figure that is a number, with a gap where training went back."""
    series: dict[str, tuple[list[float], list[float]]] = {}
    for position, record in enumerate(progress):
        now = float(record.get("epoch", position))
        for name, value in record.items():
            drawn = name == "train_loss" or name not in _NOT_DRAWN
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if drawn and number and math.isfinite(value):
                epochs, values = series.setdefault(name, ([], []))
                if epochs and now <= epochs[-1]:
                    epochs.append(math.nan)
                    values.append(math.nan)
                epochs.append(now)
                values.append(float(value))
    return series


def recovery_bars(evidence: Evidence, counts: ClassCounts) -> Picture:
    """Draw for each class how many hidden labels were found and missed, and how many claims are wrong."""
    hidden = counts.found + counts.missed
    order, note = shown_classes(np.argsort(-hidden, kind="stable"))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        y = np.arange(len(order))
        axes.barh(y, counts.found[order], color=DARK, label="✓ recovered")
        axes.barh(
            y,
            counts.missed[order],
            left=counts.found[order],
            color="white",
            edgecolor="#555555",
            hatch="....",
            lw=0.6,
            label="? missed",
        )
        axes.barh(
            y,
            -counts.wrong[order],
            color=MIDDLE,
            edgecolor="black",
            hatch="xxx",
            lw=0.6,
            label="× wrongly claimed",
        )
        axes.axvline(0, color="black", lw=0.8)
        axes.set_yticks(y, [shortened(evidence.classes[column]) for column in order])
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        axes.set_xlabel("unknown labels of training scenes")
        figure.legend(loc="outside upper left", ncols=3, columnspacing=1.0, handlelength=1.4)

    alt = (
        f"Bars for each class: of {hidden.sum():.0f} hidden present labels {counts.found.sum():.0f} were "
        f"recovered and {counts.missed.sum():.0f} missed; {counts.wrong.sum():.0f} claims are wrong."
    )
    caption = "Right: labels that are there and were hidden from the method. Left: claims that are wrong."
    return draw(paint, height=1.2 + 0.21 * len(order), alt=alt, caption=caption + note)
