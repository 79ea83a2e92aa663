"""Joining a Ray cluster as the process that gives its machines tasks, and what all of them must have in common."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import platform
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from swath.errors import InputError, MissingExtraError, SwathError

__all__ = ["RETRIES", "fetched", "first_ready", "join", "processors", "refuse_other_versions", "versions"]

RETRIES: Final = 16
"""How often a task is computed again when its worker is lost; one that ends its worker must not do so for ever."""


_REACH_SECONDS: Final = 5
_JOIN_SECONDS: Final = 30
_ALONE_SECONDS: Final = 30


def join(address: str, stack: contextlib.ExitStack) -> Any:
    """Join the cluster as the process that gives the tasks; leave it when the stack closes.

    Args:
        address: ``HOST:PORT`` of the cluster's head, or ``auto`` for the cluster this machine belongs to.
        stack: What leaves the cluster.

    Returns:
        The module ``ray``, connected.

    Raises:
        InputError: The address is none, or this process is connected to a cluster already.
        MissingExtraError: Ray is not installed.
        SwathError: Nothing answers at the address, or this machine cannot join.
    """
    if not re.fullmatch(r"auto|[\w.-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", address):
        raise InputError(
            f"ray is {address!r}; expected HOST:PORT of the cluster's head, such as 10.0.0.1:6379, or auto. Call swath "
            f"on a machine that belongs to the cluster."
        )
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("Work on a cluster needs Ray: pip install 'swath[ray]'.") from error
    if ray.is_initialized():
        raise InputError("This process is connected to a Ray cluster already. Call ray.shutdown() first.")
    _try(address)
    if threading.current_thread() is threading.main_thread():
        # Ray takes SIGTERM for itself and keeps it.
        stack.callback(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    # Ray prints what it says of lost machines to where the table goes.
    stack.enter_context(contextlib.redirect_stdout(sys.stderr))
    stack.callback(ray.shutdown)
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    if processors(ray) < 1:
        stack.close()
        raise SwathError(
            f"The cluster at {address} has no machine with a processor for swath. Add one: ray start."
        )
    return ray


def processors(ray: Any) -> int:
    """Return how many processors the cluster has at present."""
    return int(ray.cluster_resources().get("CPU", 0))


def _try(address: str) -> None:
    """Join and leave the cluster in another process: Ray waits for minutes where no cluster answers."""
    what = f"No Ray cluster can be joined at {address}"
    hint = "Call swath on a machine where `ray start` has joined the cluster; check with `ray status`."
    if address != "auto":
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise SwathError(f"{what}: {error}. {hint}") from error
    program = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", program, address],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_JOIN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SwathError(f"{what}: no answer within {_JOIN_SECONDS} seconds. {hint}") from error
    if "InvalidAuthToken" in tried.stderr:
        raise SwathError(
            f"{what}: it asks for a token. Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as for `ray start`."
        )
    if tried.returncode:
        raise SwathError(f"{what}: {_reason(tried.stderr)}. {hint}")


def versions() -> dict[str, str]:
    """Return what decides the last bits of the values."""
    packages = ("swath", "torch", "timm", "numpy", "rasterio")
    return {
        **{name: importlib.metadata.version(name) for name in packages},
        "machine": platform.machine(),
    }


def first_ready(
    ray: Any, pending: Iterable[Any], *, check: Callable[[], None] = lambda: None, kept: str = ""
) -> list[Any]:
    """Wait until some tasks are computed. Their values stay where they are until they are fetched.

    Args:
        ray: From :func:`join`.
        pending: References of tasks.
        check: Called each second; what it raises ends the waiting.
        kept: What has become of the work so far, for the message.

    Returns:
        References of those that are ready, one or more.

    Raises:
        SwathError: The cluster has been without a processor for a while.
    """
    alone, ready = 0, list[Any]()
    while not ready:
        check()
        ready, _ = ray.wait(list(pending), timeout=1, fetch_local=False)
        alone = 0 if processors(ray) >= 1 else alone + 1
        if not ready and alone > _ALONE_SECONDS:
            raise SwathError(f"The cluster has no machine left with a processor for swath. {kept}".rstrip())
    return ready


def fetched(ray: Any, reference: Any, wanted: dict[str, str], *, smaller: str, kept: str = "") -> Any:
    """Return what a task computed.

    Args:
        ray: From :func:`join`.
        reference: Of the task.
        wanted: :func:`versions` of this machine.
        smaller: What needs less memory, for the message.
        kept: What has become of the work so far, for the message.

    Raises:
        SwathError: The task raised one, could not run, or its worker was lost again and again.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, SwathError):
            raise error.cause from None
        said = ", ".join(f"{name} {version}" for name, version in wanted.items())
        raise SwathError(
            f"A machine of the cluster could not compute: {_reason(error)}. Install the same swath there ({said}). "
            f"{kept}".rstrip()
        ) from error
    except ray.exceptions.RayError as error:
        raise SwathError(
            f"The cluster lost a task's worker {RETRIES + 1} times: {_reason(error)}. If its memory ran out, give "
            f"{smaller} or fewer processors to Ray. {kept}".rstrip()
        ) from error


def _reason(said: object) -> str:
    """Return what a traceback ends with, on one line."""
    text = str(said).strip()
    last = [found.start() for found in re.finditer(r"^[\w.]*(Error|Exception)\b", text, re.MULTILINE)]
    return " ".join(text[last[-1] if last else 0 :].split()).rstrip(".") or "it does not say why"


def refuse_other_versions(wanted: dict[str, str], *, kept: str = "") -> None:
    """Refuse to compute on this machine of the cluster if it could give other values.

    Args:
        wanted: :func:`versions` of the machine that gives the tasks.
        kept: What has become of the work so far, for the message.

    Raises:
        SwathError: Something differs.
    """
    mine = versions()
    changed = [
        f"{name} {mine[name]} instead of {wanted[name]}" for name in mine if mine[name] != wanted[name]
    ]
    if changed:
        raise SwathError(
            f"{socket.gethostname()} of the cluster has {', '.join(changed)}, which could change the result. Install "
            f"the same on all machines and start Ray there anew. {kept}".rstrip()
        )
