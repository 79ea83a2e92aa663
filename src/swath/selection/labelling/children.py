"""Commands of swath that run beside the page, so that it answers at once whatever they compute."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from swath.errors import SwathError

__all__ = ["Children"]

# It ends when this process does, however that ends: then nobody holds the other side of its input any more. Read by
# its number: Python's own stdin has a lock, which a thread that still reads would hold when the command is done.
_PROGRAM: Final = """
import os, sys, threading
from swath.cli import main
threading.Thread(target=lambda: (os.read(0, 1), os._exit(3)), daemon=True).start()
sys.exit(main(sys.argv[1:]))
"""


class Children:
    """Runs commands of swath, each in a process of its own; they end with this one."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(self, arguments: Sequence[str], log: Path) -> None:
        """Run one command to its end.

        Args:
            arguments: What stands after ``swath`` on a command line.
            log: File for what it prints; what was there before is replaced.

        Raises:
            SwathError: It failed; the message is its own.
        """
        with log.open("wb") as output:
            with self._lock:
                if self._closed:
                    raise SwathError("Stopped.")
                child = subprocess.Popen(
                    [sys.executable, "-c", _PROGRAM, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, "NO_COLOR": "1"},
                    # Ctrl-C reaches a whole group of processes; these are to end after the page's answers are safe.
                    start_new_session=True,
                )
                self._running.add(child)
            status = child.wait()
        with self._lock:
            self._running.discard(child)
        if status:
            raise SwathError(_last_words(log, arguments[0], status))

    def close(self) -> None:
        """End what is running; nothing can be started after."""
        with self._lock:
            self._closed = True
            for child in self._running:
                child.terminate()


def _last_words(log: Path, command: str, status: int) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    own = [line.removeprefix("swath: ") for line in lines if line.startswith("swath: ")]
    said = own[-1] if own else (lines[-1] if lines else "it said nothing")
    return f"swath {command} ended with status {status}: {said[:2000]} (all it printed: {log})"
