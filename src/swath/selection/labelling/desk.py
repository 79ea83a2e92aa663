"""Everything behind the labelling page, opened together and closed together."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from swath.errors import InputError, LabelError, SwathError
from swath.labels import LabelTable, is_known
from swath.scenes.files import FileScenes
from swath.selection.labelling.answers import Answer, AnswerLog, Mode, now
from swath.selection.labelling.children import Children
from swath.selection.labelling.job import Job, at_random
from swath.selection.labelling.pictures import Neighbourhood, Pictures
from swath.selection.labelling.rounds import Rounds, training_options
from swath.selection.labelling.session import Session
from swath.selection.labelling.suggestions import Suggestions, model_classes
from swath.selection.labelling.table import FROM_DATA, LabelFile, check_classes

__all__ = ["Desk", "checked_user", "log_path", "open_desk"]

SAVE_SECONDS: Final = 30
"""How often the label table is made anew while answers come in; the answers themselves are on disk at once."""
COMPARED: Final = 200
"""Labelled images whose size is compared with what it was, to tell another data set of the same names."""


@dataclass(frozen=True)
class Desk:
    """What the page talks to.

    Args:
        source: The data set.
        session: What is asked and answered.
        labels: Writes the table.
        pictures: Of the scenes.
        neighbourhood: Of the ground around them.
        suggestions: Of a model.
        rounds: Goes from round to round.
        children: What runs beside.
        user: Name of the person, where the page does not say another.
        stopped: Set at the end.
    """

    source: FileScenes
    session: Session
    labels: LabelFile
    pictures: Pictures
    neighbourhood: Neighbourhood
    suggestions: Suggestions
    rounds: Rounds
    children: Children
    user: str
    stopped: threading.Event

    def view(self, client: str, user: str) -> dict[str, Any]:
        """Return all that one page shows; see :meth:`Session.view`."""
        user = checked_user(user)
        self.suggestions.use(self.rounds.latest_run())
        seen = self.session.view(client, user)
        self.suggestions.look_ahead(self.session.coming)
        for scene in seen["scenes"]:
            scene["suggestions"] = self.suggestions.of(scene["position"])
            scene["around"] = bool(self.neighbourhood.near(scene["position"]))
        seen["suggesting"] = self.suggestions.run is not None
        if self.suggestions.message:
            seen["messages"].append(self.suggestions.message)
        if seen["phase"] == "full":
            seen["rounds"] = self.rounds.state()
        return seen

    def answer(self, client: str, said: Mapping[str, Any]) -> None:
        """Keep what a page sent: id, scene (its name), user, labels, unclear, seconds and suggested."""
        position = self.session.position(said["scene"])
        path = self.source.image_path(position)
        size = -1
        with contextlib.suppress(OSError):  # an image that is gone can still be called unclear
            size = -1 if path is None else path.stat().st_size
        user = checked_user(said["user"])
        answer = Answer(
            id=said["id"],
            scene=said["scene"],
            user=user,
            labels=dict(said["labels"]),
            unclear=said["unclear"],
            round=self.session.round.number,
            at=now(),
            seconds=round(min(max(said["seconds"], 0.0), 86_400.0), 3),
            suggested=said["suggested"],
            bytes=size,
        )
        self.session.answer(client, answer)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep the table up to date until the block ends, then end what runs beside and write the table."""
        self.neighbourhood.start(self.stopped)
        keeper = threading.Thread(target=self._keep_table, daemon=True)
        keeper.start()
        try:
            yield
        finally:
            self.stopped.set()
            self.children.close()
            keeper.join()
            try:
                self.labels.write()
            finally:
                self.session.log.close()

    def _keep_table(self) -> None:
        told = False
        while not self.stopped.wait(SAVE_SECONDS):
            try:
                self.labels.write()
                told = False
            except SwathError as error:
                if not told:
                    self.session.tell(f"{error} The answers are safe in {self.session.log.path}.")
                told = True


def log_path(out: Path) -> Path:
    """Return where the answers behind a label table are kept.

    Example:
        >>> log_path(Path("labels.parquet")).as_posix()
        'labels.answers.jsonl'
    """
    return out.with_suffix(".answers.jsonl")


def open_desk(
    source: FileScenes,
    log: AnswerLog,
    out: Path,
    *,
    mode: Mode,
    user: str,
    run: Path | None = None,
    ask: str = "random",
    budget: int | None = None,
    twice: float = 0.0,
    seed: int = 0,
    train: Mapping[str, Any] | None = None,
    unlabelled: bool = False,
) -> Desk:
    """Open everything that a labelling needs.

    Args:
        source: The data set; its classes are those that are labelled.
        log: The answers so far.
        out: The label table.
        mode: How scenes are labelled.
        user: Name of the person before the page.
        run: A trained run that suggests, or None.
        ask: How the scenes of a round are chosen once there is a model; the first round is random.
        budget: Scenes in a round; None for all in one.
        twice: Share of scenes that two people are asked.
        seed: Seed of orders.
        train: Options of the trainings between rounds.
        unlabelled: Whether the classes were named, and labels of the data set are not looked at.

    Raises:
        InputError: Something does not fit.
    """
    user = checked_user(user)
    classes, names = source.labels.classes, [str(name) for name in source.columns["path"]]
    check_classes(classes, mode)
    _refuse_unreadable_names(names)
    if budget is not None and budget < 1:
        raise InputError(
            f"budget is {budget}; expected 1 scene a round or more, or none for all in one round."
        )
    if not 0 <= twice <= 1:
        raise InputError(f"twice is {twice}; expected a share of the scenes, from 0 to 1.")
    known = is_known(source.labels.state).any(axis=1)
    if known.all():
        raise InputError(
            f"All {len(known)} scenes of {source.name} have labels already. To label them anew, without looking at "
            f"those, name the classes: --classes {','.join(classes)}"
        )
    if run is not None and not set(model_classes(run)) & set(classes):
        raise InputError(
            f"The model of {run} knows {', '.join(model_classes(run)[:20])}, and none of the classes that are "
            f"labelled: {', '.join(classes)}. Leave --run out, or name its classes with --classes."
        )
    options = training_options(mode, run, train or {})
    children = Children()
    randomly = at_random(seed)
    job = Job(source.name, names, classes, mode, known, budget, twice, seed, unlabelled)
    session = Session(job, log, randomly)
    _refuse_other_images(session, source)
    data = LabelTable(classes, source.labels.state, exclusive=mode == "one-class")
    labels = LabelFile(out, source, data, session)
    folder = out.with_suffix(".rounds")
    rounds = Rounds(folder, session, labels, randomly, ask, options, children, run)
    pictures = Pictures(source)
    return Desk(
        source,
        session,
        labels,
        pictures,
        Neighbourhood(source, pictures),
        Suggestions(source, classes, children),
        rounds,
        children,
        user,
        threading.Event(),
    )


def checked_user(name: str) -> str:
    """Return a person's name as it is kept.

    Raises:
        LabelError: It is empty, too long, or stands for something else.

    Example:
        >>> checked_user("  Anna ")
        'Anna'
    """
    name = " ".join(name.split())
    if not name or len(name) > 60 or not name.isprintable() or name == FROM_DATA:
        raise LabelError(
            f"{name[:60]!r} cannot be the name of a person; expected 1 to 60 letters, and not {FROM_DATA!r}."
        )
    return name


def _refuse_unreadable_names(names: Sequence[str]) -> None:
    for name in names:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"The file name {name!r} is not UTF-8, and a label table cannot hold it. Rename the file."
            ) from error


def _refuse_other_images(session: Session, source: FileScenes) -> None:
    """Refuse images of the same names as those that were labelled, but of other sizes."""
    answers = session.answers()
    for position in sorted(answers)[:COMPARED]:
        path = source.image_path(position)
        try:
            size = -1 if path is None else os.stat(path).st_size
        except OSError:
            warnings.warn(f"{path} was labelled before and cannot be read now.", stacklevel=3)
            continue
        for answer in answers[position].values():
            if answer.bytes not in (-1, size):
                raise InputError(
                    f"{path} has {size} bytes, and had {answer.bytes} when it was labelled in {session.log.path}. "
                    f"This is another data set, or its images were changed. Restore them, or begin anew with "
                    f"another --out."
                )
