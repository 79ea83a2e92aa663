"""Ways to lose labels or get them wrong, for experiments on scenes whose truth is known.

Each way is a short text, so that it can stand on a command line and in a run's record:

- `single-positive-random`: one present class per scene, all equally likely, is kept
- `single-positive-dominant`: the present class with the largest area is kept
- `single-positive-dominant-simulated`: a stand-in for it where no areas are known, see :func:`lose`
- `keep-positives:2`: two present classes per scene, all equally likely, are kept
- `keep-share:0.3`: each known label is kept with probability 0.3
- `full-per-context:5`: all labels of 5 fully known scenes of each context are kept, and no others
- `flip-uniform:0.2`: each known label is wrong with probability 0.2
- `flip-pair:0.2`: the same, always to the next class (if exclusive)
- `flip-class:0.2`: the same on average; each class has rates of its own
- `weak-uniform:0.05/0.2/0.5`: a reliable source for 5 % of the scenes, and two weak ones
- `weak-pair:0.05/0.2/0.5`: the same; the weak ones give the next class where they err (if exclusive)
- `weak-class:0.05/0.2/0.5`: the same; the weak ones have rates of each class's own
- `annotators:0.4/0.9/0.7/0.5`: three annotators, each for 40 % of the scenes, right as often as stated

Several are joined by ``+`` and happen in that order; sources and annotators come last. What is unknown stays
unknown, whatever is stored there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.errors import LabelError, UnknownNameError
from swath.labels.candidates import full_per_context
from swath.labels.flipping import class_rates, flip, pair_rates, uniform_rates
from swath.labels.simulating import annotators, weak_sources
from swath.labels.states import PRESENT, UNKNOWN, is_known, is_present
from swath.labels.table import LabelTable
from swath.randomness import stream

__all__ = ["check_way", "lose", "loss_record"]

Areas = npt.NDArray[np.floating[Any]]
Numbers = tuple[float, ...]
Step = Callable[[LabelTable, Numbers, np.random.Generator, Areas | None], LabelTable]


def lose(table: LabelTable, how: str, seed: int, *, area: Areas | None = None) -> LabelTable:
    """Return the table with labels lost or wrong, as ``how`` says.

    Keeping one positive per scene follows Cole et al. (arXiv 2106.09708): the kept label is the only thing
    known of a scene, and a scene without a present class is wholly unknown. ``keep-positives:K`` keeps up to K;
    with K = 1 it is the same in distribution.
    ``single-positive-dominant-simulated`` is ours: it keeps a present class with probability proportional to
    the share of scenes that it is present in, because classes that cover much ground are mostly the frequent
    ones. It is a simulation, and no substitute for areas.

    Between exclusive classes a flip names another class; among other labels it swaps present and absent.
    After ``keep-share`` on exclusive classes a scene keeps its class or is wholly unknown.

    Weak sources and annotators are described in :mod:`swath.labels.simulating`. They give the table votes. All
    other ways work on the states, and remove the votes there may have been: those would still tell what was lost.

    Args:
        table: What is known, such as the complete truth of the training scenes.
        how: One of the texts above, or several joined by ``+``.
        seed: The run's seed; the same table, text and seed give the same result.
        area: (scenes, classes) share of the scene that each class covers, in [0, 1]. Only for
            ``single-positive-dominant``.

    Returns:
        A new table; confidence and source stay as they were.

    Raises:
        UnknownNameError: There is no such way.
        LabelError: A number is missing, superfluous or out of range, a way stands after sources, or areas are
            missing or do not fit.

    Example:
        >>> truth = LabelTable(("water", "forest"), np.array([[1, 1], [0, 1], [0, 0]]))
        >>> lose(truth, "single-positive-random", seed=0).state.tolist()[1:]
        [[-1, 1], [-1, -1]]
    """
    for position, (name, numbers) in enumerate(check_way(how)):
        table = dataclasses.replace(table, votes=None)
        table = _WAYS[name].step(table, numbers, stream(seed, "label draw", position), area)
    return table


def check_way(how: str) -> list[tuple[str, Numbers]]:
    """Return the steps that a text names, each with its numbers; raise as :func:`lose` does if it names none.

    Example:
        >>> check_way("keep-share:0.3+weak-uniform:0.05/0.5")
        [('keep-share', (0.3,)), ('weak-uniform', (0.05, 0.5))]
    """
    steps = [_parse(part.strip()) for part in how.split("+")]
    for name, _ in steps[:-1]:
        if _WAYS[name].gives_votes:
            raise LabelError(
                f"{name} says who gave each label, which later ways could not follow; given {how!r}. Put it last."
            )
    return steps


def loss_record(before: LabelTable, after: LabelTable, how: str, seed: int) -> dict[str, str | int]:
    """Return what became of the labels, as plain values for a run's record.

    Args:
        before: The table that was given to :func:`lose`.
        after: What it returned.
        how: The text it was given.
        seed: The seed it was given.

    Returns:
        ``how``, ``seed`` and counts: ``scenes``, ``scenes_without_known`` (after), ``present_before``,
        ``present_after``, ``absent_before``, ``absent_after``, ``unknown_before``, ``unknown_after``, and
        ``wrong`` (known before and after, and different). Where sources spoke, ``scenes_of:NAME`` and
        ``wrong_scenes_of:NAME`` for each: how many it labelled, and in how many it was wrong about something.

    Example:
        >>> truth = LabelTable(("water", "forest"), np.array([[1, 1], [0, 1], [0, 0]]))
        >>> draw = "single-positive-random"
        >>> loss_record(truth, lose(truth, draw, 0), draw, 0)["scenes_without_known"]
        1
    """
    record: dict[str, str | int] = {"how": how, "seed": seed, "scenes": len(after)}
    record["scenes_without_known"] = int((~is_known(after.state).any(axis=1)).sum())
    record["wrong"] = int(_wrong(before.state, after.state).sum())
    for moment, table in (("before", before), ("after", after)):
        for state, counts in table.counts().items():
            record[f"{state}_{moment}"] = int(counts.sum())
    if after.votes is not None:
        for source, said in zip(after.sources, after.votes.swapaxes(0, 1), strict=True):
            record[f"scenes_of:{source}"] = int(is_known(said).any(axis=1).sum())
            record[f"wrong_scenes_of:{source}"] = int(_wrong(before.state, said).any(axis=1).sum())
    return record


def _wrong(truth: npt.NDArray[np.int8], said: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    return is_known(truth) & is_known(said) & (truth != said)  # type: ignore[no-any-return]


def _keep_best(table: LabelTable, preference: npt.NDArray[np.floating[Any]], most: int = 1) -> LabelTable:
    """Keep the present classes that are preferred, up to ``most`` of a scene."""
    present = is_present(table.state)
    order = np.argsort(np.where(present, -preference, np.inf), axis=1, kind="stable")[:, :most]
    state = np.full_like(table.state, UNKNOWN)
    np.put_along_axis(state, order, PRESENT, axis=1)
    return table.with_state(np.where(present, state, UNKNOWN))


def _single_random(
    table: LabelTable, _: Numbers, random: np.random.Generator, __: Areas | None
) -> LabelTable:
    return _keep_best(table, random.random(table.state.shape))


def _keep_positives(
    table: LabelTable, numbers: Numbers, random: np.random.Generator, _: Areas | None
) -> LabelTable:
    return _keep_best(table, random.random(table.state.shape), int(numbers[0]))


def _single_dominant(
    table: LabelTable, _: Numbers, __: np.random.Generator, area: Areas | None
) -> LabelTable:
    if area is None:
        raise LabelError(
            "single-positive-dominant needs the area of each class in each scene; these scenes come without. "
            "Use the stand-in single-positive-dominant-simulated, or single-positive-random."
        )
    area = np.asarray(area)
    if area.shape != table.state.shape:
        raise LabelError(
            f"Areas of shape {area.shape} were given for label states of shape {table.state.shape}."
        )
    if not np.isfinite(area[is_present(table.state)]).all():
        raise LabelError("Areas of present classes must be numbers; some are NaN or infinite.")
    return _keep_best(table, area)


def _single_simulated(
    table: LabelTable, _: Numbers, random: np.random.Generator, __: Areas | None
) -> LabelTable:
    frequency = is_present(table.state).mean(axis=0) if len(table) else np.zeros(len(table.classes))
    # The largest of log(weight) + Gumbel noise is a draw with probability proportional to the weight.
    return _keep_best(table, np.log(np.maximum(frequency, 1e-300)) + random.gumbel(size=table.state.shape))


def _keep_share(
    table: LabelTable, numbers: Numbers, random: np.random.Generator, _: Areas | None
) -> LabelTable:
    labels = (len(table), 1) if table.exclusive else table.state.shape
    return table.with_state(np.where(random.random(labels) < numbers[0], table.state, UNKNOWN))


def _full_per_context(
    table: LabelTable, numbers: Numbers, random: np.random.Generator, _: Areas | None
) -> LabelTable:
    return full_per_context(table, int(numbers[0]), random)


def _flip_uniform(
    table: LabelTable, numbers: Numbers, random: np.random.Generator, _: Areas | None
) -> LabelTable:
    return flip(table, uniform_rates(table, numbers[0]), random)


def _flip_pair(
    table: LabelTable, numbers: Numbers, random: np.random.Generator, _: Areas | None
) -> LabelTable:
    return flip(table, pair_rates(table, numbers[0]), random)


def _flip_class(
    table: LabelTable, numbers: Numbers, random: np.random.Generator, _: Areas | None
) -> LabelTable:
    return flip(table, class_rates(table, numbers[0], random), random)


def _weak_uniform(
    table: LabelTable, numbers: Numbers, random: np.random.Generator, _: Areas | None
) -> LabelTable:
    matrices = [uniform_rates(table, rate) for rate in numbers[1:]]
    return weak_sources(table, numbers[0], matrices, random)


def _weak_pair(
    table: LabelTable, numbers: Numbers, random: np.random.Generator, _: Areas | None
) -> LabelTable:
    matrices = [pair_rates(table, rate) for rate in numbers[1:]]
    return weak_sources(table, numbers[0], matrices, random)


def _weak_class(
    table: LabelTable, numbers: Numbers, random: np.random.Generator, _: Areas | None
) -> LabelTable:
    matrices = [class_rates(table, rate, random) for rate in numbers[1:]]
    return weak_sources(table, numbers[0], matrices, random)


def _annotators(
    table: LabelTable, numbers: Numbers, random: np.random.Generator, _: Areas | None
) -> LabelTable:
    matrices = [class_rates(table, 1 - skill, random) for skill in numbers[1:]]
    return annotators(table, numbers[0], matrices, random)


@dataclass(frozen=True)
class _Way:
    """What a way does, and which numbers its text carries.

    Args:
        step: The work.
        needs: The numbers in words, for messages; empty if there are none.
        example: A text that is right.
        fits: Whether numbers are as ``needs`` says.
        gives_votes: Whether the result says who gave each label.
    """

    step: Step
    needs: str = ""
    example: str = ""
    fits: Callable[[Numbers], bool] = lambda numbers: not numbers
    gives_votes: bool = False


def _one_share(numbers: Numbers) -> bool:
    return len(numbers) == 1 and 0 <= numbers[0] <= 1


def _one_count(numbers: Numbers) -> bool:
    return len(numbers) == 1 and 1 <= numbers[0] < 2**31 and numbers[0].is_integer()


def _shares(numbers: Numbers) -> bool:
    return len(numbers) >= 2 and all(0 <= number <= 1 for number in numbers)


def _weak(numbers: Numbers) -> bool:
    return _shares(numbers) and numbers[0] > 0


_COUNT = "a whole number from 1 up"
_RATE = "a number from 0 to 1"
_WEAK = "a reliable share above 0 and one error rate for each weak source, numbers from 0 to 1 with / between"
_CROWD = "the share that each annotator labels and one skill for each, numbers from 0 to 1 with / between"
_WAYS: dict[str, _Way] = {
    "single-positive-random": _Way(_single_random),
    "single-positive-dominant": _Way(_single_dominant),
    "single-positive-dominant-simulated": _Way(_single_simulated),
    "keep-positives": _Way(_keep_positives, _COUNT, "keep-positives:2", _one_count),
    "keep-share": _Way(_keep_share, _RATE, "keep-share:0.2", _one_share),
    "full-per-context": _Way(_full_per_context, _COUNT, "full-per-context:5", _one_count),
    "flip-uniform": _Way(_flip_uniform, _RATE, "flip-uniform:0.2", _one_share),
    "flip-pair": _Way(_flip_pair, _RATE, "flip-pair:0.2", _one_share),
    "flip-class": _Way(_flip_class, _RATE, "flip-class:0.2", _one_share),
    "weak-uniform": _Way(_weak_uniform, _WEAK, "weak-uniform:0.05/0.2/0.5", _weak, gives_votes=True),
    "weak-pair": _Way(_weak_pair, _WEAK, "weak-pair:0.05/0.2/0.5", _weak, gives_votes=True),
    "weak-class": _Way(_weak_class, _WEAK, "weak-class:0.05/0.2/0.5", _weak, gives_votes=True),
    "annotators": _Way(_annotators, _CROWD, "annotators:0.4/0.9/0.7/0.5", _shares, gives_votes=True),
}


def _parse(text: str) -> tuple[str, Numbers]:
    name, colon, given = text.partition(":")
    if name not in _WAYS:
        raise UnknownNameError("way to lose labels", name, _WAYS)
    way = _WAYS[name]
    if not way.needs:
        if colon:
            raise LabelError(f"{name} takes no number; given {text!r}.")
        return name, ()
    try:
        numbers = tuple(float(number) for number in given.split("/"))
        fits = way.fits(numbers)
    except ValueError:
        fits = False
    if not fits:
        raise LabelError(f"{name} needs {way.needs}, such as {way.example}; given {text!r}.")
    return name, numbers
