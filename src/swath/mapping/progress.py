"""Showing how far the maps are: bars on a terminal, a line for each scene elsewhere."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["MapBar"]


class MapBar:
    """A rich progress bar over the scenes, and one over the chunks of each scene at hand.

    Args:
        scenes: How many scenes there are.
    """

    def __init__(self, scenes: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._scenes, self._number = scenes, 0
        self._lines = not console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=self._lines,
            transient=True,
        )
        self._all = self._bar.add_task("scenes", total=scenes, visible=scenes > 1)
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()  # several scenes may be at hand

    def __enter__(self) -> Self:
        """Show the bars."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take them away."""
        self._bar.stop()

    def start(self, name: str, chunks: int, done: int) -> None:
        """Begin with a scene of which some chunks are computed."""
        self._tasks[name] = self._bar.add_task(name, total=chunks, completed=done)
        if done and self._lines:
            print(f"{name}: going on, {done} of {chunks} chunks are there", file=sys.stderr, flush=True)

    def step(self, name: str) -> None:
        """Count a chunk of a scene."""
        self._bar.advance(self._tasks[name])

    def end(self, name: str, said: str) -> None:
        """End a scene and say what came of it."""
        task = self._tasks.pop(name, None)
        if task is not None:
            self._bar.remove_task(task)
        self._bar.advance(self._all)
        with self._lock:
            self._number += 1
            if self._lines:
                print(f"{name} ({self._number}/{self._scenes}): {said}", file=sys.stderr, flush=True)
