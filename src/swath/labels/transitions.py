"""Which errors a source makes: matrices of what it says given what is true, estimated, checked and read.

A transition matrix has a row for each true class and a column for each class that the source may name; rows sum to 1.
Among classes that do not exclude each other, each class has one of 2 x 2: absent and present.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swath.errors import InputError, LabelError, UnknownNameError
from swath.labels.states import is_known, is_present
from swath.labels.table import LabelTable

__all__ = [
    "check_said",
    "check_transition",
    "confusion_counts",
    "estimated_rows",
    "read_transitions",
    "transition_shape",
]

Floats = npt.NDArray[np.float64]
MOST_BYTES: Final = 64 * 2**20
ROUNDING: Final = 1e-3  # what a row may miss 1 by: numbers in files are rounded


def transition_shape(labels: LabelTable) -> tuple[int, ...]:
    """Return the shape of one source's matrix: (classes, classes), or (classes, 2, 2) for several labels a scene."""
    count = len(labels.classes)
    return (count, count) if labels.exclusive else (count, 2, 2)


def confusion_counts(labels: LabelTable, reliable: int) -> Floats:
    """Count what each source says where a reliable one spoke too.

    Args:
        labels: With votes or sources.
        reliable: Which source is taken as the truth.

    Returns:
        (sources, classes, classes) counts of scenes with the middle axis' class true and the last one's said, or
        (sources, classes, 2, 2) with absent and present, if the classes do not exclude each other.

    Example:
        >>> votes = np.array([[[1, 0], [0, 1]], [[1, 0], [1, 0]], [[0, 1], [-1, -1]]])
        >>> table = LabelTable(("a", "b"), votes[:, 0], True, sources=("map", "eye"), votes=votes)
        >>> confusion_counts(table, reliable=0)[1].tolist()
        [[1.0, 1.0], [0.0, 0.0]]
    """
    votes = labels.said()
    if labels.exclusive:
        one_hot = is_present(votes).astype(np.float64)
        return np.stack([one_hot[:, reliable].T @ one_hot[:, source] for source in range(votes.shape[1])])
    truth, counts = votes[:, reliable], np.zeros((votes.shape[1], len(labels.classes), 2, 2))
    for source in range(votes.shape[1]):
        said = votes[:, source]
        both = is_known(truth) & is_known(said)
        for true in (0, 1):
            for named in (0, 1):
                counts[source, :, true, named] = (both & (truth == true) & (said == named)).sum(axis=0)
    return counts


def estimated_rows(counts: Floats) -> Floats:
    """Return a source's transition matrix from counts of what it said, drawn towards what its rows have in common.

    Each row gets ``a`` scenes of a prior beside its own: the source is right as often as over all rows, and names each
    other class alike. How many scenes that is follows from the counts (the largest probability of all rows together,
    each a multinomial whose rates have a Dirichlet distribution): many where rows differ by chance only, so that a
    few scenes of each class are enough for a source that errs the same everywhere, and few where they truly differ.

    Args:
        counts: (classes, classes) or (classes, 2, 2), 0 or more, true before said. Of the second, all classes' rows
            for absent have a prior in common, and all for present.

    Returns:
        The same shape; numbers above 0, rows sum to 1.

    Source:
        Empirical Bayes for multinomials (Minka 2000, Estimating a Dirichlet distribution), with one free number.

    Example:
        >>> estimated_rows(np.array([[8.0, 2.0], [1.0, 9.0]])).round(2).tolist()  # may well be the same rates
        [[0.83, 0.17], [0.17, 0.83]]
        >>> estimated_rows(np.array([[60.0, 40.0], [10.0, 90.0]])).round(2).tolist()  # are not
        [[0.61, 0.39], [0.11, 0.89]]
    """
    if counts.ndim == 2:
        return _shrunk(counts, np.arange(len(counts)))
    return np.stack([_shrunk(counts[:, true], np.full(len(counts), true)) for true in (0, 1)], axis=1)


def _shrunk(rows: Floats, right: npt.NDArray[np.int64]) -> Floats:
    """Return (rows, said) rates of (rows, said) counts, whose right answers are in the columns ``right``."""
    from scipy.optimize import minimize_scalar
    from scipy.special import gammaln

    each, columns = np.arange(len(rows)), rows.shape[1]
    total = rows.sum(axis=1, keepdims=True)
    # One scene spread evenly, so that nothing is impossible.
    share = (rows[each, right].sum() + 1 / columns) / (total.sum() + 1)
    prior = np.full(rows.shape, (1 - share) / (columns - 1))
    prior[each, right] = share

    def surprise(log_weight: float) -> float:
        alpha = np.exp(log_weight) * prior
        whole = alpha.sum(axis=1, keepdims=True)
        evidence = (gammaln(whole) - gammaln(whole + total)).sum() + (
            gammaln(alpha + rows) - gammaln(alpha)
        ).sum()
        return -float(evidence)

    low, high = np.log(0.1), np.log(1e5)
    weight = np.exp(minimize_scalar(surprise, bounds=(low, high), method="bounded").x)
    rates: Floats = (rows + weight * prior) / (total + weight)
    return rates


def check_transition(matrix: object, shape: tuple[int, ...], source: str) -> Floats:
    """Return a given matrix as numbers, or say what is wrong with it.

    Args:
        matrix: Nested lists or an array.
        shape: What it must have, see :func:`transition_shape`.
        source: Whose it is, for messages.

    Returns:
        The matrix; rows sum to 1 exactly where they did so up to rounding (0.001).

    Raises:
        InputError: Another shape, no numbers, numbers below 0, or rows that do not sum to 1.
    """
    try:
        # Through Python's own types: a text such as "0.5" is no number here.
        values = np.asarray(matrix)
        numbers = values.astype(np.float64) if values.dtype.kind in "iuf" else np.full((), np.nan)
    except ValueError:  # lists of different lengths
        values, numbers = np.empty(0, object), np.full((), np.nan)
    if values.dtype.kind not in "iuf" or numbers.shape != shape:
        given = f"one of shape {numbers.shape}" if values.dtype.kind in "iuf" else "lists that are none"
        raise InputError(
            f"The transition matrix of source {source!r} must hold numbers in the shape {shape} (true, said); given "
            f"{given}."
        )
    if not np.isfinite(numbers).all() or numbers.min() < 0:
        raise InputError(
            f"The transition matrix of source {source!r} holds {numbers[~(numbers >= 0)].tolist()[:3] or 'infinity'}; "
            f"expected probabilities, 0 or more."
        )
    sums = numbers.sum(axis=-1, keepdims=True)
    wrong = np.argwhere(np.abs(sums[..., 0] - 1) > ROUNDING)
    if len(wrong):
        row = tuple(wrong[0])
        raise InputError(
            f"Rows of the transition matrix of source {source!r} must sum to 1, as what it says of scenes of one true "
            f"class; row {', '.join(str(part) for part in row)} sums to {float(sums[row][0]):.6g}."
        )
    return np.asarray(numbers / sums, np.float64)


def read_transitions(path: str | os.PathLike[str], labels: LabelTable) -> Mapping[str, object]:
    """Read the matrices of some sources from a JSON or CSV file; they are data and are checked by the caller.

    JSON: an object with a matrix (nested lists, classes in the labels' order) for each source. CSV: columns
    ``source``, ``true``, ``said`` and ``probability``, one line for each entry that is not 0; for labels that do not
    exclude each other also ``class``, and ``true`` and ``said`` are 0 or 1.

    Args:
        path: The file, at most 64 MiB.
        labels: Whose classes and sources the file is about.

    Returns:
        A matrix for each source that the file names.

    Raises:
        InputError: The file is missing, too large or malformed.
        UnknownNameError: It names a class that the labels do not have.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} is larger than 64 MiB; transition matrices were expected.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The transition matrices {path} cannot be read: {error}. Give a file in UTF-8 that exists."
        ) from error
    if path.suffix.lower() == ".csv":
        return _from_csv(text, str(path), labels)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}. Write an object, source: matrix.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a {type(found).__name__}; expected an object, source: matrix.")
    return found


def _from_csv(text: str, where: str, labels: LabelTable) -> dict[str, object]:
    expected = ["source", *([] if labels.exclusive else ["class"]), "true", "said", "probability"]
    outcomes: Sequence[str] = labels.classes if labels.exclusive else ("0", "1")
    matrices: dict[str, Floats] = {}
    seen: set[tuple[Any, ...]] = set()
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        if sorted(names) != sorted(expected):
            raise InputError(
                f"{where} has the columns {', '.join(names) or 'none'}; expected {', '.join(expected)}."
            )
        reader.fieldnames = names
        for entry in reader:
            place = f"{where}, line {reader.line_num}"
            values = {name: (entry[name] or "").strip() for name in expected}
            at = [_position(values[name], outcomes, f"class in {place}") for name in ("true", "said")]
            if not labels.exclusive:
                at.insert(0, _position(values["class"], labels.classes, f"class in {place}"))
            if (values["source"], *at) in seen:
                raise InputError(f"{place} repeats an entry. Keep one line for each.")
            seen.add((values["source"], *at))
            matrix = matrices.setdefault(values["source"], np.zeros(transition_shape(labels)))
            try:
                matrix[tuple(at)] = float(values["probability"])
            except ValueError:
                raise InputError(
                    f"{place} holds the probability {values['probability']!r}; expected a number."
                ) from None
    except csv.Error as error:
        raise InputError(f"{where} cannot be read as CSV: {error}.") from error
    return dict(matrices)


def _position(name: str, known: Sequence[str], what: str) -> int:
    if name not in known:
        raise UnknownNameError(what, name, known)
    return list(known).index(name)


def check_said(labels: LabelTable, source: int, matrix: Floats) -> None:
    """Refuse a matrix by which a source could not have said what it did.

    Raises:
        LabelError: The matrix has a column of zeros, and the source named that class.
    """
    said = labels.said()[:, source]
    impossible = matrix.max(axis=-2) == 0
    if labels.exclusive:
        wrong = is_present(said).any(axis=0) & impossible
    else:
        named = np.stack([(said == 0).any(axis=0), (said == 1).any(axis=0)], axis=1)
        wrong = (named & impossible).any(axis=1)
    if wrong.any():
        raise LabelError(
            f"By its transition matrix source {labels.sources[source]!r} never says what it says of "
            f"{labels.classes[int(wrong.argmax())]}. Give that column some probability."
        )
