"""The rounds behind ``swath active``: reveal, train, judge, ask; what is done already is not done again."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from swath.errors import InputError, LabelError, RunError, UnknownNameError
from swath.files import write_json
from swath.labels import is_present
from swath.randomness import stream
from swath.scenes.source import SceneSource
from swath.selection.asking import labelled_scenes, next_scenes
from swath.selection.query import STRATEGIES
from swath.selection.shares import kept_of, largest_remainder
from swath.tasks.cells import FIGURES, data_identity, refuse_changed, run_cell
from swath.tasks.job import check_options, new_model
from swath.tasks.labelled import only_labelled, read_labelled, write_labelled
from swath.tasks.prepare import Prepared, open_source, prepare
from swath.tasks.train import option_defaults
from swath.training.run import load_run

__all__ = ["Experiment"]


@dataclass(frozen=True)
class Experiment:
    """A closed loop on one data set, in one folder.

    Args:
        folder: Where everything lies.
        options: The options of every round's training, but for ``labelled``.
        settings: What else decides the result: strategies, one positive or all labels.
        levels: Labelled scenes in each round.
        prepared: The data, with its parts.
        identity: Of the data, as for the cells of a comparison.
    """

    folder: Path
    options: Mapping[str, Any]
    settings: Mapping[str, Any]
    levels: Sequence[int]
    prepared: Prepared
    identity: Mapping[str, str]

    @classmethod
    def begin(
        cls,
        data: str | os.PathLike[str] | SceneSource,
        folder: Path,
        options: Mapping[str, Any],
        *,
        by: str,
        first: str | None,
        start: str | int | float,
        stop: str | int | float,
        rounds: int,
        one_positive: bool,
    ) -> Experiment:
        """Check all that can be wrong before the first training, and what lies in the folder against it.

        Raises:
            InputError: An option is out of its range, or the folder holds another experiment.
            LabelError: The data set cannot answer every question.
        """
        first = _checked_first(by, first)
        source = None if isinstance(data, str | os.PathLike) else data
        where = str(data) if source is None else source.name
        where = os.path.abspath(where) if os.path.exists(where) else where
        every = {**option_defaults(), **options, "data": where}
        check_options(every)
        source = open_source(every) if source is None else source
        if one_positive and source.labels.exclusive:
            raise InputError(
                f"{source.name} has one class a scene, so an answer is that class. Leave one_positive out."
            )
        prepared = prepare(every, source)
        silent = int((~labelled_scenes(prepared.labels)).sum())
        if silent:
            raise LabelError(
                f"{silent} of the {len(prepared.labels)} training scenes of {source.name} have no label, so they could "
                f"not answer. Leave them out of the data; to ask about them in earnest, use `swath ask`."
            )
        levels = _levels(start, stop, rounds, len(prepared.labels))
        settings = {"by": by, "first": first, "one_positive": one_positive, "levels": levels}
        identity = data_identity(source)
        experiment = cls(folder, every, settings, levels, prepared, identity)
        experiment._refuse_other()
        return experiment

    def run(self, *, full: bool) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """Run what is left of all rounds, and keep ``rounds.json`` up to date.

        Args:
            full: Whether to train with all labels too, first of all, so that each round can be held against it.

        Returns:
            A row for each round, and the figures with all labels, or None.
        """
        reference, rows = self._train_on_all() if full else None, list[dict[str, Any]]()
        for number in range(len(self.levels)):
            rows.append(self._round(number, reference))
            content = {"settings": dict(self.settings), "full": reference, "rows": rows}
            write_json(self.folder / "rounds.json", content)
            said = f"round {number + 1}/{len(self.levels)}  {rows[-1]['labels']} labels: {self.figure} "
            print(f"{said}{_percent(rows[-1][self.figure])} %", file=sys.stderr, flush=True)
        return rows, reference

    def _train_on_all(self) -> dict[str, Any]:
        method = "cross-entropy" if self.prepared.labels.exclusive else "all-known"
        options = {**self.options, "method": method, "method_options": None}
        refuse_changed(self.folder / "full", options, self.identity)
        return self._train("full", options)

    def _round(self, number: int, reference: Mapping[str, Any] | None) -> dict[str, Any]:
        """Reveal what was asked for, train, judge, and return the row; the rounds before it are finished."""
        table = self._labelled(number)
        options = {**self.options, "labelled": os.path.abspath(self._table_path(number))}
        found = self._train(f"round-{number}", options)
        value, whole = found[self.figure], None if reference is None else reference[self.figure]
        return {
            "round": number,
            "labels": len(table),
            "share": len(table) / len(self.prepared.labels),
            "by": self.settings["by"] if number else self.settings["first"],
            **{figure: found[figure] for figure in FIGURES},
            "ratio": value / whole if whole and value is not None else None,
            "classes": self._shown(table),
            "seconds": found["seconds"],
            "run": f"round-{number}",
        }

    @property
    def figure(self) -> str:
        """The figure that is compared."""
        return "overall_accuracy" if self.prepared.labels.exclusive else "map_macro"

    def table(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """Return rows as text for people."""
        columns = {
            "round": [row["round"] for row in rows],
            "labels": [row["labels"] for row in rows],
            "% of training": [f"{100 * row['share']:.2f}" for row in rows],
            "chosen by": [row["by"] for row in rows],
            self.figure: [_percent(row[self.figure]) for row in rows],
            "% of all labels'": [_percent(row["ratio"]) for row in rows],
        }
        return pd.DataFrame(columns).to_string(index=False)

    def _train(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        found = run_cell(self.folder / name, options, self.identity, self.prepared.source)
        if found["error"]:
            raise RunError(f"{self.folder / name} cannot be trained: {found['error']}")
        return found

    def _labelled(self, number: int) -> pd.DataFrame:
        """Return the scenes labelled in a round; if nobody asked yet, ask, and write the table before it is used."""
        path, source = self._table_path(number), self.prepared.source
        if path.exists():
            table = read_labelled(path, source)
            if len(table) != self.levels[number]:
                raise InputError(
                    f"{path} names {len(table)} scenes; round {number} has {self.levels[number]}. Somebody changed it: "
                    f"name another --out, or restore it."
                )
            return table
        before = self._labelled(number - 1) if number else None
        rows = self._asked(
            number, np.zeros(0, np.int64) if before is None else before["row"].to_numpy(np.int64)
        )
        new = pd.DataFrame(
            {
                "row": rows,
                "scene": [source.describe(int(row)) for row in rows],
                "round": number,
                "order": range(1, len(rows) + 1),
            }
        )
        if self.settings["one_positive"]:
            new["class"] = [self._one_class(int(row)) for row in rows]
        table = new if before is None else pd.concat([before, new], ignore_index=True)
        write_labelled(path, table)
        return table

    def _asked(self, number: int, before: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        source, train = self.prepared.source, self.prepared.store.kept[self.prepared.parts["train"]]
        labelled, among = np.zeros(len(source), bool), np.zeros(len(source), bool)
        labelled[before], among[train] = True, True
        by = self.settings["by"] if number else self.settings["first"]
        if number:
            model = load_run(self.folder / f"round-{number - 1}").model
        else:
            model = new_model(self.options, self.prepared.contract)
        return next_scenes(
            model if STRATEGIES[by].needs else None,
            source,
            labelled,
            self.levels[number] - len(before),
            by=by,
            seed=self.options["seed"],
            among=among,
            untrained=not number,
            skip_unreadable=self.options["skip_unreadable"],
        ).rows

    def _one_class(self, row: int) -> str:
        """Return the present class that the oracle names of a scene: always the same one, whenever it is asked."""
        labels = self.prepared.source.labels
        present = np.flatnonzero(is_present(labels.state[row]))
        if not len(present):
            return ""
        return labels.classes[int(stream(self.options["seed"], "one positive", row).choice(present))]

    def _shown(self, table: pd.DataFrame) -> dict[str, int]:
        labels, kept = self.prepared.labels, self.prepared.store.kept
        known = only_labelled(labels, kept[self.prepared.parts["train"]], table, [])
        return dict(zip(labels.classes, known.counts()["present"].tolist(), strict=True))

    def _table_path(self, number: int) -> Path:
        return self.folder / f"labelled-{number}.csv"

    def _refuse_other(self) -> None:
        path = self.folder / "active.json"
        asked = {"settings": dict(self.settings), "data": dict(self.identity)}
        if path.exists():
            try:
                before = json.loads(path.read_text(encoding="utf-8"))
                there = {**before["settings"], **before["data"]}
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise RunError(f"{path} cannot be read: {error}. Name another --out.") from error
            wanted = {**asked["settings"], **asked["data"]}
            differing = [name for name in wanted if there.get(name) != wanted[name]]
            if differing:
                said = ", ".join(f"{name} = {there.get(name)!r}, now {wanted[name]!r}" for name in differing)
                raise InputError(f"{self.folder} holds an experiment with {said}. Name another --out.")
        for number in range(len(self.levels)):
            options = {**self.options, "labelled": os.path.abspath(self._table_path(number))}
            refuse_changed(self.folder / f"round-{number}", options, self.identity)
        write_json(path, asked)


def _checked_first(by: str, first: str | None) -> str:
    for name in filter(None, (by, first)):
        if name not in STRATEGIES:
            raise UnknownNameError("query strategy", name, STRATEGIES)
    able = [name for name in STRATEGIES if "probability" not in STRATEGIES[name].needs]
    if first is not None and first not in able:
        raise InputError(
            f"first is {first!r}, which needs a trained network; expected one of {', '.join(able)}."
        )
    return first or (by if by in able else "random")


def _levels(start: str | int | float, stop: str | int | float, rounds: int, scenes: int) -> list[int]:
    least, most = kept_of(start, scenes), kept_of(stop, scenes)
    if rounds < 1 or most - least < rounds - 1 or (rounds == 1 and most != least):
        raise InputError(
            f"{rounds} rounds from {least} to {most} labelled scenes were asked for; expected 1 or more, and at least "
            f"one new scene in each round after the first (so one round needs start = stop)."
        )
    if rounds == 1:
        return [least]
    steps = largest_remainder(np.ones(rounds - 1), most - least)
    return [least, *(least + np.cumsum(steps)).tolist()]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
