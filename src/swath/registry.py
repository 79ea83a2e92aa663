"""Names for methods and encoders: one decorated class or function, one name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from swath.errors import InputError, UnknownNameError

__all__ = ["Registry"]

Entry = TypeVar("Entry", bound=Callable[..., object])


class Registry(Mapping[str, Entry]):
    """A mapping from registered names to classes or functions.

    Args:
        kind: What is registered, for messages, such as ``"method"``.

    Example:
        >>> methods = Registry("method")
        >>> @methods.register("nothing")
        ... def nothing() -> None:
        ...     '''Do nothing.'''
        >>> methods["nothing"] is nothing
        True
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Return a decorator that registers its argument under ``name``; a name used twice is an error."""

        def add(entry: Entry) -> Entry:
            taken = self._entries.get(name)
            # The same class again is a module that was loaded anew (a notebook's reload), not a clash.
            if taken is not None and _home(taken) != _home(entry):
                raise InputError(
                    f"The {self.kind} name {name!r} is taken by {_home(taken)}. Choose another name."
                )
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> Entry:
        """Return what is registered under ``name``, or raise with the nearest real name."""
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownNameError(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        """Say whether ``name`` is registered."""
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._entries)


def _home(entry: object) -> str:
    return f"{getattr(entry, '__module__', '')}.{getattr(entry, '__qualname__', entry)}"
