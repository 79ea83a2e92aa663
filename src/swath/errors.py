"""Every exception that swath raises on purpose.

A message says what was given, what was expected and what to do next. Each class also inherits the built-in
exception it resembles, so that code which knows nothing of swath can still catch it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ContractError",
    "InputError",
    "LabelError",
    "MissingExtraError",
    "MissingKeyError",
    "OutputError",
    "RunError",
    "SceneError",
    "SwathError",
    "UnknownNameError",
]


class SwathError(Exception):
    """Base of every error that swath raises on purpose."""

    def __str__(self) -> str:
        """Return the message as it was written (a KeyError would quote it)."""
        return str(self.args[0]) if self.args else ""


class InputError(SwathError, ValueError):
    """An argument or an input file is not what the function can work with."""


class LabelError(InputError):
    """Labels are malformed, or are not enough for what was asked."""


class ContractError(InputError):
    """Bands, classes, units or statistics do not match what a model or data set expects."""


class SceneError(SwathError, OSError):
    """A scene cannot be read: missing, truncated, no image, too large, or without valid pixels."""


class OutputError(SwathError, OSError):
    """Something cannot be written: the disk is full, the folder read-only, or the target exists."""


class RunError(SwathError, OSError):
    """A run folder or one of its files is missing, damaged or does not fit."""


class MissingKeyError(SwathError, KeyError):
    """A batch lacks a key that a method needs."""


class MissingExtraError(SwathError, ImportError):
    """An optional dependency is needed and not installed."""


class UnknownNameError(SwathError, LookupError):
    """A name (of a method, encoder, class, option ...) that nothing answers to.

    Args:
        kind: What the name should have named, such as ``"method"``.
        name: The name that was given.
        known: The names that exist.

    Example:
        >>> print(UnknownNameError("method", "adacg", ["adagc", "assume-negative"]))
        There is no method named 'adacg'. Did you mean 'adagc'? Known: adagc, assume-negative.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
        super().__init__(f"There is no {kind} named {name!r}.{hint} Known: {listed or 'none'}.")
        self.name = name
