"""Starting real processes that train together on the CPU, as torchrun and `accelerate launch` do."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from swath.errors import RunError

__all__ = ["run_processes", "start_processes"]


def run_processes(file: Path, testers: Sequence[str], folder: Path) -> None:
    """Let testers of a file train in two processes; each leaves its states in ``folder / name``.

    Args:
        file: The Python file that holds the testers.
        testers: Names of classes in it, each with ``run_as_one_of_several``.
        folder: Where to leave the states.

    Raises:
        RunError: A process failed; the message has what it said.
    """
    start_processes([sys.executable, "-m", "swath.testing.processes", str(file), str(folder), *testers])


def start_processes(command: Sequence[str], *, count: int = 2, timeout: float = 300) -> None:
    """Start a command ``count`` times with the environment by which processes find each other, and wait.

    Args:
        command: Program and arguments.
        count: How many processes.
        timeout: Seconds after which it counts as failed.

    Raises:
        RunError: A process failed or took too long; the message has what it said.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "ACCELERATE_USE_CPU": "true",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
    }
    started = [
        subprocess.Popen(
            list(command),
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]
    said = []
    try:
        for process in started:
            said.append(process.communicate(timeout=timeout)[0])
    except subprocess.TimeoutExpired:
        said.append(f"still running after {timeout:g} s")
    finally:
        for process in started:
            process.kill()
            process.wait()
    if len(said) < count or any(process.returncode for process in started):
        raise RunError(f"{count} processes were started and did not all succeed:\n" + "\n".join(said))


def _main(file: str, folder: str, *testers: str) -> None:
    specification = importlib.util.spec_from_file_location("testers", file)
    if specification is None or specification.loader is None:
        raise RunError(f"{file} is no Python file.")
    module = importlib.util.module_from_spec(specification)
    sys.modules["testers"] = module
    specification.loader.exec_module(module)
    for name in testers:
        getattr(module, name)().run_as_one_of_several(Path(folder) / name, int(os.environ["RANK"]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
