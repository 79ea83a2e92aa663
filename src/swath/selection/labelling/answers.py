"""The log of answers: one line for each, on disk before anybody sees the next scene, and never rewritten."""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Self

import filelock

from swath.errors import InputError, LabelError, OutputError
from swath.labels import ABSENT, PRESENT

__all__ = ["Answer", "AnswerLog", "Mode", "check_labels", "now"]

Mode = Literal["one-class", "one-positive", "full"]
FORMAT: Final = 1


@dataclass(frozen=True)
class Answer:
    """What one person said of one scene.

    Args:
        id: Made by the page, so that an answer that is sent twice counts once.
        scene: The scene's name in its data set.
        user: Who said it.
        labels: State of each class that was spoken of: 1 present, 0 absent.
        unclear: Whether the person said that it cannot be told; there are then no labels.
        round: The round it was asked in, from 1.
        at: When, ISO 8601 in UTC.
        seconds: How long the scene was looked at.
        suggested: Classes with their probability that the page showed, or None if it showed none.
        bytes: Size of the image's file, by which another data set is told apart.
    """

    id: str
    scene: str
    user: str
    labels: Mapping[str, int]
    unclear: bool
    round: int
    at: str
    seconds: float
    suggested: Sequence[tuple[str, float]] | None = None
    bytes: int = -1

    def record(self) -> dict[str, Any]:
        """Return the answer as a line of the log holds it."""
        suggested = None if self.suggested is None else [list(pair) for pair in self.suggested]
        return {
            "event": "answer",
            "id": self.id,
            "scene": self.scene,
            "user": self.user,
            "labels": dict(self.labels),
            "unclear": self.unclear,
            "round": self.round,
            "at": self.at,
            "seconds": self.seconds,
            "suggested": suggested,
            "bytes": self.bytes,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read a line of the log.

        Raises:
            LabelError: Something is missing, or is not what it should be.
        """
        try:
            suggested = record["suggested"]
            seconds = float(record["seconds"])
            answer = cls(
                id=_text(record["id"]),
                scene=_text(record["scene"]),
                user=_text(record["user"]),
                labels={_text(name): _state(state) for name, state in record["labels"].items()},
                unclear=bool(record["unclear"]),
                round=int(record["round"]),
                at=datetime.fromisoformat(record["at"]).isoformat(timespec="milliseconds"),
                seconds=seconds,
                suggested=None
                if suggested is None
                else [(_text(name), float(probability)) for name, probability in suggested],
                bytes=int(record["bytes"]),
            )
        except KeyError as error:
            raise LabelError(f"it is no answer: {error} is missing") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise LabelError(f"it is no answer: {error}") from error
        if not math.isfinite(seconds):
            raise LabelError(f"it took {seconds} seconds")
        return answer


def check_labels(labels: Mapping[str, int], *, unclear: bool, classes: Sequence[str], mode: Mode) -> None:
    """Check that labels are an answer of a kind of labelling.

    Raises:
        LabelError: A class is not known, a state is none, or there are too few or too many.

    Example:
        >>> check_labels({"water": 1}, unclear=False, classes=["water", "forest"], mode="one-class")
        >>> try:
        ...     check_labels({}, unclear=False, classes=["water"], mode="full")
        ... except LabelError as error:
        ...     print(error)
        it says nothing; mark a class, or say that it cannot be told
    """
    strange = [name for name in labels if name not in classes]
    if strange:
        raise LabelError(f"it names the class {strange[0]!r}, and the classes are {', '.join(classes)}")
    if any(state not in (PRESENT, ABSENT) for state in labels.values()):
        raise LabelError(f"its labels are {dict(labels)}; a label is 1 (present) or 0 (absent)")
    if unclear and labels:
        raise LabelError("it says that the scene cannot be told, and labels it as well")
    if unclear:
        return
    if not labels:
        raise LabelError("it says nothing; mark a class, or say that it cannot be told")
    if mode != "full" and list(labels.values()) != [PRESENT]:
        raise LabelError(f"it labels {dict(labels)}, where exactly one class is present")


class AnswerLog:
    """A file of JSON lines that only grows. One process writes it at a time; each line is on disk before it counts.

    A last line that a crash cut short is cut off, after the file as it was has been copied beside it.

    Args:
        path: The file; its folder is made if it is missing.

    Raises:
        InputError: Another process writes it, or a line that is not the last holds no JSON object.
        OutputError: It cannot be opened for writing.

    Attributes:
        lines: What stood in the file when it was opened, one object a line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = filelock.FileLock(f"{path}.lock", thread_local=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - stays open until close
        except filelock.Timeout as error:
            raise InputError(
                f"{path} is being written by another `swath label`. Use that page (several people can, each under "
                f"their own name), or stop it first."
            ) from error
        except OSError as error:
            self._lock.release()
            raise OutputError(
                f"Cannot write {path}: {error.strerror or error}. Check permissions of {path.parent}."
            ) from error
        try:
            self.lines: list[dict[str, Any]] = self._read()
        except BaseException:
            self.close()
            raise

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line and wait until it is on disk.

        Raises:
            OutputError: The disk is full or gone. Nothing of the line stays in the file.
        """
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        size = os.fstat(self._file.fileno()).st_size
        try:
            view = memoryview(line)
            while view:
                view = view[self._file.write(view) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            # Half a line would spoil the next one.
            os.ftruncate(self._file.fileno(), size)
            raise OutputError(
                f"Cannot write {self.path}: {error.strerror or error}. The answer is not kept; make room and give it "
                f"again."
            ) from error

    def close(self) -> None:
        """Let another process write; a log in which nothing was ever written leaves no file behind."""
        if not self._file.closed and not os.fstat(self._file.fileno()).st_size:
            self.path.unlink(missing_ok=True)
        self._file.close()
        self._lock.release()

    def _read(self) -> list[dict[str, Any]]:
        content = self.path.read_bytes()
        pieces = content.split(b"\n")
        records: list[dict[str, Any]] = []
        good = 0
        for number, piece in enumerate(pieces, 1):
            if not piece.strip():
                good += len(piece) + 1
                continue
            record = _parsed(piece)
            if record is not None:
                records.append(record)
                good += len(piece) + 1
                if number == len(pieces):  # an editor took the last line's end away
                    self._file.write(b"\n")
            elif not any(rest.strip() for rest in pieces[number:]):
                self._cut(min(good, len(content)), number)
                break
            else:
                raise InputError(
                    f"{self.path}, line {number} is not a JSON object: {_shown(piece)}. It was not written by swath; "
                    f"correct or remove the line, or name another file with --out. Nothing was changed."
                )
        return records

    def _cut(self, size: int, line: int) -> None:
        number = 1
        while (kept := self.path.with_name(f"{self.path.name}.torn-{number}")).exists():
            number += 1
        shutil.copyfile(self.path, kept)
        os.ftruncate(self._file.fileno(), size)
        os.fsync(self._file.fileno())
        warnings.warn(
            f"The last line of {self.path} (line {line}) is not whole, as after a crash; it was cut off. The file as "
            f"it was is {kept}.",
            stacklevel=4,
        )


def now() -> str:
    """Return the time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _parsed(piece: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(piece)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _shown(piece: bytes) -> str:
    return repr(piece[:80].decode("utf-8", "replace"))


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} is no text")
    return value


def _state(value: object) -> int:
    if value not in (PRESENT, ABSENT) or not isinstance(value, int):
        raise TypeError(f"{value!r} is neither 1 (present) nor 0 (absent)")
    return int(value)
