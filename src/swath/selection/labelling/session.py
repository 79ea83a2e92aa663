"""What is asked of whom, what was answered, and what is left: all of it can be rebuilt from the log of answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swath.errors import InputError, LabelError
from swath.selection.labelling.agreement import agreement
from swath.selection.labelling.answers import FORMAT, Answer, AnswerLog, check_labels, now
from swath.selection.labelling.job import Ask, Job, Round, asked_twice, at_random, names_digest

__all__ = ["Session"]

AHEAD: Final = 3
"""Scenes that a page holds: the one it shows, and the next ones, which it loads in advance."""
HOLD_SECONDS: Final = 45
"""A page that was silent for so long no longer holds its scenes. Open pages speak every 15 seconds."""


@dataclass
class _Hold:
    user: str
    seen: float
    scenes: list[int] = field(default_factory=list)
    again: dict[int, Answer] = field(default_factory=dict)


class Session:
    """The state of a labelling; safe to use from several threads.

    Args:
        job: What is labelled.
        log: Where answers are kept; what stands in it is taken up.
        ask: Chooses the scenes of the first round, if there is none in the log.
        clock: Seconds that only grow.

    Raises:
        InputError: The log belongs to another data set or another kind of labelling, or was edited into nonsense.
    """

    def __init__(
        self, job: Job, log: AnswerLog, ask: Ask, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.job = job
        self.log = log
        self._clock = clock
        self._lock = threading.RLock()
        self._place = {name: position for position, name in enumerate(job.scenes)}
        self._said: dict[int, dict[str, Answer]] = {}
        self._history: dict[str, list[Answer]] = {}
        self._ids: set[str] = set()
        self._done = np.zeros(len(job.scenes), bool)
        self._holds: dict[str, _Hold] = {}
        self._twice_said: set[int] = set()
        self.changes = 0
        self.digests: set[str] = set()
        self.messages: list[str] = []
        self.round = Round(0, np.zeros(0, np.int64), frozenset())
        self._replay()
        if not self.round.number:
            self.begin_round(ask(self.labelled, self._wanted_budget(), 1))

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """(scenes,) bool: which are not to be asked again: labelled, not to be told, or known before."""
        with self._lock:
            return self._done | self.job.known

    @property
    def full(self) -> bool:
        """Whether all scenes of the round have an answer."""
        with self._lock:
            return bool(self._done[self.round.positions].all())

    def begin_round(self, positions: npt.NDArray[np.int64]) -> None:
        """Ask for the next scenes.

        Args:
            positions: In the order in which to ask.

        Raises:
            InputError: A scene is labelled already, is none, or comes twice.
        """
        with self._lock:
            number, positions = self.round.number + 1, np.asarray(positions, np.int64)
            inside = positions[(positions >= 0) & (positions < len(self.job.scenes))]
            if (
                len(inside) < len(positions)
                or len(np.unique(positions)) < len(positions)
                or self.labelled[inside].any()
            ):
                raise InputError(
                    f"The scenes of round {number} hold one that is labelled already, comes twice or is not in "
                    f"{self.job.data}. This is a mistake of the strategy that chose them."
                )
            # With all scenes in one round their order follows from the seed; there is nothing to write down.
            listed = (
                None if self.job.budget is None else [self.job.scenes[position] for position in positions]
            )
            choice = {"seed": self.job.seed, "twice": self.job.twice}
            self.log.append({"event": "round", "round": number, "scenes": listed, **choice, "at": now()})
            self.round = Round(
                number, positions, asked_twice(positions, self.job.twice, self.job.seed, number)
            )

    def position(self, scene: str) -> int:
        """Return where a scene stands in the data set.

        Raises:
            LabelError: There is no scene of this name.
        """
        if scene not in self._place:
            raise LabelError(f"There is no scene {scene!r} in {self.job.data}.")
        return self._place[scene]

    def next_budget(self) -> int:
        """Return how many scenes the next round has: the budget, or what is left."""
        with self._lock:
            return self._wanted_budget()

    def view(self, client: str, user: str) -> dict[str, Any]:
        """Return what one page shows: its scenes, the first of them now, and how far the round is.

        Args:
            client: The page; several of one person hold different scenes.
            user: Who sits before it.
        """
        with self._lock:
            hold = self._held(client, user)
            done = int(self._done[self.round.positions].sum())
            size = len(self.round.positions)
            left = int((~self.labelled).sum())
            history = self._history.get(user, [])
            phase = "labelling"
            if not hold.scenes:
                phase = "waiting" if done < size else "full" if left else "finished"
            return {
                "phase": phase,
                "scenes": [
                    {
                        "position": position,
                        "name": self.job.scenes[position],
                        "before": _before(hold.again.get(position)),
                    }
                    for position in hold.scenes
                ],
                "round": {"number": self.round.number, "size": size, "done": done},
                "labelled": int(self._done.sum()),
                "known": int(self.job.known.sum()),
                "total": len(self.job.scenes),
                "users": {name: len(given) for name, given in self._history.items() if given},
                "undo": history[-1].id if history else None,
                "messages": list(self.messages),
            }

    def answer(self, client: str, answer: Answer) -> None:
        """Keep an answer; it is on disk when this returns. One that was kept already is not kept again.

        Raises:
            LabelError: It is not an answer to what is asked.
            OutputError: It cannot be written.
        """
        with self._lock:
            if answer.id in self._ids:
                return
            check_labels(answer.labels, unclear=answer.unclear, classes=self.job.classes, mode=self.job.mode)
            self.log.append(answer.record())
            self._take(answer)
            hold = self._holds.get(client)
            if hold:
                position = self._place[answer.scene]
                hold.scenes = [scene for scene in hold.scenes if scene != position]
                hold.again.pop(position, None)

    def undo(self, client: str, user: str, answer_id: str) -> bool:
        """Take a person's last answer back; the page then shows that scene again.

        Args:
            client: The page.
            user: Who gave it.
            answer_id: Which it is; another one than the last is left alone, so that a call that is sent twice counts
                once.

        Returns:
            Whether it was taken back.
        """
        with self._lock:
            history = self._history.get(user, [])
            if not history or history[-1].id != answer_id:
                return False
            self.log.append({"event": "undo", "id": answer_id, "user": user, "at": now()})
            answer = self._take_back(user)
            hold = self._held(client, user)
            position = self._place[answer.scene]
            hold.scenes = [position, *(scene for scene in hold.scenes if scene != position)]
            hold.again[position] = answer
            return True

    def answers(self) -> dict[int, dict[str, Answer]]:
        """Return what each person said of each labelled scene, as it stands."""
        with self._lock:
            return {position: dict(said) for position, said in self._said.items()}

    def agreement(self) -> dict[str, Any] | None:
        """Return how far people agree where several labelled the same scene; see :func:`agreement`."""
        with self._lock:
            both = [dict(self._said[position]) for position in self._twice_said]
        return agreement(both, self.job.classes, self.job.mode)

    def coming(self, number: int) -> list[int]:
        """Return the next scenes of the round that nobody has answered."""
        with self._lock:
            queue = self.round.positions[self.round.first_open :]
            return [int(position) for position in queue[~self._done[queue]][:number]]

    def note_table(self, digest: str) -> None:
        """Write down what the table of labels that is about to be put in place looks like."""
        with self._lock:
            self.log.append({"event": "table", "digest": digest, "at": now()})

    def tell(self, message: str) -> None:
        """Keep a message that every page shows."""
        with self._lock:
            self.messages.append(message)

    def _held(self, client: str, user: str) -> _Hold:
        """Return what a page holds, filled up from the queue."""
        at = self._clock()
        for other in [other for other, hold in self._holds.items() if at - hold.seen > HOLD_SECONDS]:
            del self._holds[other]
        hold = self._holds.get(client)
        if hold is None or hold.user != user:
            hold = self._holds[client] = _Hold(user, at)
        hold.seen = at
        hold.scenes = [position for position in hold.scenes if self._open_for(position, user, client)]
        queue = (int(position) for position in self.round.positions[self.round.first_open :])
        while len(hold.scenes) < AHEAD:
            position = next(queue, None)
            if position is None:
                break
            if position not in hold.scenes and self._open_for(position, user, client):
                hold.scenes.append(position)
        return hold

    def _open_for(self, position: int, user: str, client: str) -> bool:
        said = self._said.get(position, {})
        if user in said:
            return False
        others = [
            hold.user for name, hold in self._holds.items() if name != client and position in hold.scenes
        ]
        return user not in others and len(said) + len(others) < self._times(position)

    def _times(self, position: int) -> int:
        return 2 if position in self.round.twice else 1

    def _wanted_budget(self) -> int:
        left = int((~self.labelled).sum())
        return left if self.job.budget is None else min(self.job.budget, left)

    def _take(self, answer: Answer) -> None:
        position = self._place[answer.scene]
        self._ids.add(answer.id)
        self._history.setdefault(answer.user, []).append(answer)
        said = self._said.setdefault(position, {})
        said[answer.user] = answer
        if len(said) > 1:
            self._twice_said.add(position)
        self._done[position] = True
        self.changes += 1
        queue, first = self.round.positions, self.round.first_open
        while first < len(queue) and len(self._said.get(int(queue[first]), ())) >= self._times(
            int(queue[first])
        ):
            first += 1
        self.round.first_open = first

    def _take_back(self, user: str) -> Answer:
        answer = self._history[user].pop()
        position = self._place[answer.scene]
        said = self._said[position]
        earlier = next((old for old in reversed(self._history[user]) if old.scene == answer.scene), None)
        if earlier is None:
            del said[user]
        else:
            said[user] = earlier
        if len(said) < 2:
            self._twice_said.discard(position)
        if not said:
            del self._said[position]
        self._done[position] = bool(said)
        self.changes += 1
        place = np.flatnonzero(self.round.positions == position)
        self.round.first_open = min([self.round.first_open, *place.tolist()])
        return answer

    def _replay(self) -> None:
        """Take up what stands in the log."""
        job = self.job
        header = {
            "event": "start",
            "format": FORMAT,
            "data": job.data,
            "scenes": len(job.scenes),
            "names": names_digest(job.scenes),
            "classes": list(job.classes),
            "mode": job.mode,
            "unlabelled": job.unlabelled,
        }
        for number, record in enumerate(self.log.lines, 1):
            try:
                self._replay_line(record)
            except (KeyError, TypeError, ValueError, LabelError) as error:
                said = str(error) if isinstance(error, LabelError) else f"{type(error).__name__}: {error}"
                raise InputError(
                    f"{self.log.path}, line {number} cannot be used: {said}. Correct the line, or name another file "
                    f"with --out. Nothing was changed."
                ) from error
        if not self.log.lines or any(self._started[key] != header[key] for key in ("names", "classes")):
            self.log.append(header)
        self.log.lines = []

    _started: Mapping[str, Any]

    def _replay_line(self, record: Mapping[str, Any]) -> None:
        event, job = record["event"], self.job
        if event == "start":
            self._started = record
            if record["format"] != FORMAT:
                raise LabelError(f"it is of format {record['format']}, and this swath reads format {FORMAT}")
            if record["mode"] != job.mode:
                raise LabelError(f"the scenes were labelled as {record['mode']!r}, now it is {job.mode!r}")
        elif event == "answer":
            answer = Answer.from_record(record)
            if answer.scene not in self._place:
                raise LabelError(
                    f"it labels {answer.scene!r}, which is not in {job.data} (the log was begun for "
                    f"{self._started['data']}, {self._started['scenes']} scenes); give the data set it belongs to"
                )
            check_labels(answer.labels, unclear=answer.unclear, classes=job.classes, mode=job.mode)
            self._take(answer)
        elif event == "undo":
            history = self._history.get(record["user"], [])
            if not history or history[-1].id != record["id"]:
                raise LabelError("it takes back an answer that is not that person's last")
            self._take_back(record["user"])
        elif event == "round":
            self._replay_round(record)
        elif event == "table":
            self.digests.add(str(record["digest"]))
        else:
            raise LabelError(f"it is a {event!r}, which is no event of such a log")

    def _replay_round(self, record: Mapping[str, Any]) -> None:
        number, seed = int(record["round"]), int(record["seed"])
        if record["scenes"] is None:
            positions = at_random(seed)(self.labelled, len(self.job.scenes), number)
        else:
            missing = [name for name in record["scenes"] if name not in self._place]
            if missing:
                raise LabelError(
                    f"it asks for {missing[0]!r}, which is not in {self.job.data} ({len(missing)} such scenes); give "
                    f"the data set it belongs to"
                )
            positions = np.array([self._place[name] for name in record["scenes"]], np.int64)
        self.round = Round(number, positions, asked_twice(positions, float(record["twice"]), seed, number))


def _before(answer: Answer | None) -> dict[str, Any] | None:
    return None if answer is None else {"labels": dict(answer.labels), "unclear": answer.unclear}
