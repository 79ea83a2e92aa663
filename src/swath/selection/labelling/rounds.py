"""From one round to the next: training on what was answered, and choosing what is asked then."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import yaml

from swath.errors import InputError, SwathError
from swath.files import write_text, writing
from swath.selection.labelling.answers import Mode
from swath.selection.labelling.children import Children
from swath.selection.labelling.job import Ask
from swath.selection.labelling.session import Session
from swath.selection.labelling.table import LabelFile

__all__ = ["Rounds", "training_options"]

SELF_TRAINING: Final = ("fixmatch", "mean-teacher")
"""Methods that also learn from scenes without labels; for all others these are left out, which saves their time."""
_METHODS: Final[dict[str, str]] = {"one-class": "cross-entropy", "one-positive": "adagc", "full": "all-known"}
_TAKEN_OVER: Final = (
    "method",
    "encoder",
    "size",
    "epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "schedule",
    "warmup_epochs",
    "clip_norm",
    "augment",
    "precision",
    "pretrained",
    "encoder_from",
    "method_options",
    "seed",
)


def training_options(mode: Mode, run: Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the trainings between rounds.

    Args:
        mode: How the scenes are labelled, which decides the method if nothing else does.
        run: A run whose options are taken over, or None.
        given: Options that come before all others.

    Raises:
        InputError: A given option is decided by the labelling itself.

    Example:
        >>> options = training_options("one-positive", None, {"epochs": 5})
        >>> options["method"], options["epochs"]
        ('adagc', 5)
    """
    own = sorted({"data", "out", "model", "draw", "images", "image_column", "label_columns"} & set(given))
    if own:
        raise InputError(
            f"The option {own[0]} of the trainings between rounds is decided by the labelling itself. Leave it out."
        )
    options: dict[str, Any] = {"method": _METHODS[mode], "epochs": 100, "skip_unreadable": True}
    if run is not None:
        content = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        options |= {name: content[name] for name in _TAKEN_OVER if name in content}
    return options | dict(given)


@dataclass
class _State:
    step: str = "idle"  # idle, training, choosing, failed
    message: str = ""
    epochs: int = 0


class Rounds:
    """Goes from a finished round to the next one in the background.

    Args:
        folder: Where trainings are kept: ``round-N.parquet``, ``round-N.yaml`` and the run ``round-N``.
        session: What is asked and answered.
        labels: Writes the answers as a table.
        ask: Chooses the scenes of a round at random: that is what is left where ``by`` cannot choose.
        by: How the scenes of a round are chosen once there is a model: ``random``, or what ``swath ask`` knows.
        options: Options of ``swath train``.
        children: Runs it.
        run: The run that was there before the first round, or None.
    """

    def __init__(
        self,
        folder: Path,
        session: Session,
        labels: LabelFile,
        ask: Ask,
        by: str,
        options: Mapping[str, Any],
        children: Children,
        run: Path | None = None,
    ) -> None:
        self._folder, self._session, self._labels = folder, session, labels
        self._ask, self._by, self._options, self._children = ask, by, options, children
        self._first_run = run
        self._state = _State()
        self._lock = threading.Lock()

    def latest_run(self) -> Path | None:
        """Return the newest finished run, or the one that was there before the first round."""
        for number in range(self._session.round.number, 0, -1):
            if _finished(self._run(number)):
                return self._run(number)
        return self._first_run

    def state(self) -> dict[str, Any]:
        """Return what is happening between rounds: the step, the epoch that is done, and what went wrong."""
        number, state = self._session.round.number, self._state
        found: dict[str, Any] = {"step": state.step, "message": state.message}
        found["begun"] = (self._run(number) / "config.yaml").exists()
        if state.step == "training":
            found |= {"epochs": state.epochs, **_progress(self._run(number))}
        return found

    def go_on(self, *, train: bool) -> None:
        """Begin the next round, after a training on all answers or without one. Does nothing while that is going on.

        Raises:
            InputError: The round is not full.
        """
        with self._lock:
            if self._state.step in ("training", "choosing"):
                return
            if not self._session.full:
                raise InputError(
                    f"Round {self._session.round.number} is not finished; label its scenes first."
                )
            # Who goes on without a training after something failed wants to go on, whatever else may fail.
            by = "random" if self._state.step == "failed" and not train else self._by
            self._state = _State("training" if train else "choosing", epochs=int(self._options["epochs"]))
            threading.Thread(target=self._work, args=(train, by), daemon=True).start()

    def _work(self, train: bool, by: str) -> None:
        try:
            if train:
                self._train(self._session.round.number)
                self._state = _State("choosing")
            session = self._session
            budget = session.next_budget()
            if budget:
                session.begin_round(self._chosen(by, budget, session.round.number + 1))
            self._state = _State()
        except (SwathError, OSError, KeyError, IndexError, ValueError) as error:
            self._state = _State("failed", str(error))

    def _chosen(self, by: str, budget: int, number: int) -> npt.NDArray[np.int64]:
        """Return the scenes of the next round; with a model and a strategy those that `swath ask` names."""
        import pandas as pd  # not before it is needed: the page is to be there at once

        run, labelled = self.latest_run(), self._session.labelled
        if by == "random" or run is None:
            return self._ask(labelled, budget, number)
        self._folder.mkdir(parents=True, exist_ok=True)
        table, out = self._folder / f"asked-{number}.from.parquet", self._folder / f"asked-{number}.csv"
        with writing(table) as temporary:
            self._labels.write_to(temporary, self._folder)  # its scenes stand in the order of the data set
        # Scenes that cannot be told have no label and would be asked again: so many more are asked for.
        known = self._labels.known_scenes()
        wanted = budget + int((labelled & ~known).sum())
        options = {
            "data": str(table),
            "by": by,
            "budget": wanted,
            "run": str(run),
            "seed": self._session.job.seed,
        }
        config = self._folder / f"asked-{number}.yaml"
        content = {**options, "out": str(out), "skip_unreadable": True}
        write_text(config, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        self._children.run(["ask", "--config", str(config)], self._folder / f"asked-{number}.log")
        rows = pd.read_csv(out)["row"].to_numpy(np.int64)
        return np.asarray(rows[~labelled[rows]][:budget], np.int64)

    def _train(self, number: int) -> None:
        """Train on the answers so far, or go on with a training that was killed."""
        run, log = self._run(number), self._folder / f"round-{number}.log"
        if _finished(run):
            return
        if (run / "config.yaml").exists():
            self._children.run(["train", "--resume", str(run)], log)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        table, config = self._folder / f"round-{number}.parquet", self._folder / f"round-{number}.yaml"
        learns_from_all = self._options["method"] in SELF_TRAINING
        with writing(table) as temporary:
            # A copy that stays as it is: the table itself changes as people go on.
            self._labels.write_to(temporary, self._folder, only_known=not learns_from_all)
        content = {"data": str(table), **self._options}
        write_text(config, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        self._children.run(["train", "--config", str(config), "--out", str(run)], log)

    def _run(self, number: int) -> Path:
        return self._folder / f"round-{number}"


def _finished(run: Path) -> bool:
    return (run / "report.html").exists() and (run / "model.safetensors").exists()


def _progress(run: Path) -> dict[str, Any]:
    """Return how many epochs are done and the loss of the last one, from the run's own record."""
    try:
        lines = (run / "progress.jsonl").read_text(encoding="utf-8").splitlines()
        last = json.loads(lines[-1])
        return {"epoch": int(last["epoch"]) + 1, "loss": float(last["train_loss"])}
    except (OSError, ValueError, KeyError, IndexError, TypeError):  # not yet, or just being written
        return {"epoch": 0, "loss": None}
