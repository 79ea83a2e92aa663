"""Showing how far a training is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import json
import sys
from types import TracebackType
from typing import Any, Self

from swath.errors import InputError

__all__ = ["EpochBar", "json_line"]


def json_line(record: dict[str, Any]) -> str:
    """Return one strict-JSON line for ``progress.jsonl``.

    Raises:
        InputError: A method or a caller added what JSON cannot hold.
    """
    try:
        return json.dumps(record, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The record of epoch {record.get('epoch')} holds what JSON cannot: {error}. Give plain, finite numbers "
            f"(None where there is none); it holds {record}."
        ) from error


class EpochBar:
    """A rich progress bar over all steps; off the terminal one line for about every tenth of the epochs.

    Args:
        epochs: Planned epochs.
        steps: Steps in an epoch.
        shown: Whether this process shows anything.
    """

    def __init__(self, epochs: int, steps: int, *, shown: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._epochs, self._steps = epochs, steps
        self._lines = shown and not console.is_terminal
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
            transient=True,
        )
        self._task = self._bar.add_task("", total=epochs * steps)

    def __enter__(self) -> Self:
        """Start the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the bar."""
        self._bar.stop()

    def step(self) -> None:
        """Count one step."""
        self._bar.advance(self._task)

    def epoch(self, record: dict[str, Any]) -> None:
        """Show an epoch's record."""
        done = record["epoch"] + 1
        text = f"epoch {done}/{self._epochs}  loss {record['train_loss']:.4f}"
        if "validation_score" in record:
            text += f"  validation {record['validation_score']:.4f}"
        self._bar.update(self._task, description=text, completed=done * self._steps)
        if self._lines and (done % max(1, self._epochs // 10) == 0 or done == self._epochs):
            print(f"{text}  {record['scenes_per_second']:.0f} scenes/s", file=sys.stderr, flush=True)
