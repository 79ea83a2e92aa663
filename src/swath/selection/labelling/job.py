"""What is labelled and how, and the round that is asked at present."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swath.randomness import stream
from swath.selection.labelling.answers import Mode

__all__ = ["Ask", "Job", "Round", "asked_twice", "at_random", "names_digest"]

Ask = Callable[[npt.NDArray[np.bool_], int, int], npt.NDArray[np.int64]]
"""``ask(labelled, budget, round)``: the scenes to ask for next, positions in the data set, none of them labelled."""


@dataclass(frozen=True)
class Job:
    """What is labelled, and how.

    Args:
        data: Name of the data set, for messages.
        scenes: Names of its scenes, all different.
        classes: The classes.
        mode: One class a scene, one that is present, or the state of each.
        known: (scenes,) bool: of which the data set knows labels already; these are not asked.
        unlabelled: Whether the classes were named, and labels of the data set are not looked at.
        budget: Scenes in a round, or None for all of them in one.
        twice: Share of a round's scenes that two people are asked.
        seed: Seed of the order and of which scenes are asked twice.
    """

    data: str
    scenes: Sequence[str]
    classes: tuple[str, ...]
    mode: Mode
    known: npt.NDArray[np.bool_]
    budget: int | None = None
    twice: float = 0.0
    seed: int = 0
    unlabelled: bool = False


@dataclass
class Round:
    """The scenes that are asked at present.

    Args:
        number: From 1.
        positions: The scenes in the order in which they are asked.
        twice: Those that two people are asked.
    """

    number: int
    positions: npt.NDArray[np.int64]
    twice: frozenset[int]
    first_open: int = 0  # all before this one have been answered as often as wanted


def at_random(seed: int) -> Ask:
    """Return the strategy that asks for scenes at random.

    Args:
        seed: The seed; each round has a stream of its own.

    Example:
        >>> ask = at_random(seed=0)
        >>> labelled = np.array([True, False, True, False])
        >>> sorted(ask(labelled, 2, 1).tolist())
        [1, 3]
    """

    def ask(labelled: npt.NDArray[np.bool_], budget: int, number: int) -> npt.NDArray[np.int64]:
        order = stream(seed, "label", number).permutation(len(labelled))
        return np.asarray(order[~labelled[order]][:budget], np.int64)

    return ask


def asked_twice(positions: npt.NDArray[np.int64], share: float, seed: int, number: int) -> frozenset[int]:
    """Return which scenes of a round two people are asked."""
    some = stream(seed, "label twice", number).permutation(len(positions))[: round(share * len(positions))]
    return frozenset(positions[some].tolist())


def names_digest(scenes: Sequence[str]) -> str:
    """Return a short text that differs where names or their order differ."""
    return hashlib.blake2b("\0".join(scenes).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
