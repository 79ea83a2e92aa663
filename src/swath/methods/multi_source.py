"""Several sources of which one is reliable: what the others say counts by how often they are wrong about it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from swath.errors import InputError, LabelError, UnknownNameError
from swath.labels import RELIABLE, LabelTable, is_absent, is_known, is_present
from swath.labels.transitions import (
    check_said,
    check_transition,
    confusion_counts,
    estimated_rows,
    read_transitions,
    transition_shape,
)
from swath.methods.base import Batch, Method, register_method
from swath.methods.sources import log_likelihood, said_in

__all__ = ["MultiSource", "gradient_weights", "multi_source_loss"]

FEWEST = 10  # overlapping scenes of a class: with ten the standard error of a rate is up to 0.16
SINGULAR = 0.1  # smallest singular value under which a matrix hardly tells classes apart


def multi_source_loss(logits: Tensor, said: Tensor, transition: Tensor, q: float = 0.0) -> Tensor:
    """Cross-entropy of what the sources said, each seen through its own errors.

    The sum over all that was said, divided by the scenes of the batch (and by the classes, if they do not exclude
    each other): a scene that two sources labelled counts twice. With the identity as matrix and one source it is
    plain (binary) cross-entropy.

    Args:
        logits: (B, C) real numbers.
        said: (B, S, C) states; any negative code is unknown.
        transition: (S, C, C) or (S, C, 2, 2) probability of what is said (last axis) given what is true; the second
            for classes that do not exclude each other, with absent and present.
        q: 0 for the logarithm, else the exponent of generalised cross-entropy ``(1 - P^q) / q``, in (0, 1].

    Returns:
        A scalar.

    Source:
        arXiv 2510.05760, our reading of it; generalised cross-entropy: arXiv 1805.07836.

    Example:
        >>> said = torch.tensor([[[1, 0], [-1, -1]]])
        >>> round(float(multi_source_loss(torch.zeros(1, 2), said, torch.eye(2).expand(2, 2, 2))), 4)
        0.6931
    """
    value, _ = log_likelihood(logits, said, transition.log())
    terms = -value if q == 0 else -torch.expm1(q * value) / q
    return terms.sum() / (len(logits) if transition.ndim == 3 else logits.numel())


def gradient_weights(probability: Tensor, embedded: Tensor, q: float = 0.0) -> Tensor:
    """Return how strongly one statement pushes each class: its gradient by logit c is ``p_c * weight_c``.

    With t_c the probability of the statement if c is true, the weight is ``1 - t_c / sum_k p_k t_k``: negative, so
    that the logit rises, for classes under which the statement is likelier than the network expects, and never
    more than 1. With generalised cross-entropy all are multiplied by ``(sum_k p_k t_k)^q``, which is small where
    statement and network contradict each other. With an identity matrix ``p_c * weight_c`` is p minus the one-hot
    label, as in cross-entropy.

    Args:
        probability: (..., C) of the network; rows sum to 1. (absent, present) if classes do not exclude each other.
        embedded: (..., C) t, the column of the source's matrix that belongs to what it said.
        q: As in :func:`multi_source_loss`.

    Returns:
        (..., C) weights.

    Source:
        arXiv 2510.05760, our reading of it.

    Example:
        >>> gradient_weights(torch.tensor([0.5, 0.5]), torch.tensor([0.75, 0.25])).tolist()
        [-0.5, 0.5]
    """
    expected = (probability * embedded).sum(dim=-1, keepdim=True)
    return (1 - embedded / expected) * expected**q


@register_method("multi-source")
class MultiSource(Method):
    """Learn from a small reliable source and weak ones, whose errors are estimated where they overlap.

    Args:
        reliable: Name of the source that is right; None takes the one named ``reliable``.
        transition: Matrices that are known: a path (JSON or CSV, see
            :func:`swath.labels.transitions.read_transitions`), a mapping from source to matrix, or one matrix for
            each source in order. Sources that a mapping leaves out are estimated.
        q: 0 for the logarithm; 0.7 is the published generalised cross-entropy.

    Raises:
        InputError: A number is out of its range.

    Source:
        arXiv 2510.05760; the form of the loss is our reading, see the docs.

    Example:
        >>> votes = np.array([[[1, 0], [1, 0]], [[0, 1], [1, 0]], [[-1, -1], [0, 1]]])
        >>> labels = LabelTable(
        ...     ("a", "b"), votes[:, 1], True, sources=("reliable", "map"), votes=votes
        ... )
        >>> method = MultiSource()
        >>> with warnings.catch_warnings(action="ignore"):  # so few scenes say little
        ...     method.start(labels, nn.Identity())
        >>> batch = Batch(image=torch.zeros(3, 2), votes=torch.from_numpy(votes), index=torch.arange(3))
        >>> method.loss(nn.Identity(), batch).shape
        torch.Size([])
    """

    exclusive: ClassVar[bool | None] = None
    needs: ClassVar[Sequence[str]] = ("sources",)
    transition: Tensor
    figures: Mapping[str, Any]

    def __init__(
        self,
        *,
        reliable: str | None = None,
        transition: str | Mapping[str, Any] | Sequence[Any] | None = None,
        q: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= q <= 1:
            raise InputError(
                f"multi-source's q is {q}; expected a number from 0 (logarithm) to 1 (mean absolute error); "
                f"published: 0.7."
            )
        self.reliable, self.given, self.q = reliable, transition, q
        self.figures = {}

    def start(self, labels: LabelTable, model: nn.Module) -> None:
        """Estimate and check the matrices; warn of those that say little."""
        _check_learnable(labels)
        given = {
            name: check_transition(matrix, transition_shape(labels), name)
            for name, matrix in self._given(labels).items()
        }
        reliable = self._reliable(labels, given)
        matrices, overlap, doubts = [], {}, []
        counts = None if reliable is None else confusion_counts(labels, reliable)
        for position, name in enumerate(labels.sources):
            if name in given:
                matrix = given[name]
            elif position == reliable:
                matrix = np.broadcast_to(
                    np.eye(2 if not labels.exclusive else len(labels.classes)), transition_shape(labels)
                )
            else:
                if counts is None or reliable is None or not counts[position].sum():
                    raise self._no_overlap(labels, name, reliable)
                seen = counts[position].sum(axis=-1)
                overlap[name] = int(seen.sum() if labels.exclusive else seen.sum(axis=-1).max())
                doubts += _few(labels, name, seen)
                matrix = estimated_rows(counts[position])
            check_said(labels, position, matrix)
            matrices.append(matrix)
        stacked = np.stack(matrices)
        smallest = np.linalg.svd(stacked, compute_uv=False)[..., -1]
        doubts += _near_singular(labels, smallest)
        for doubt in doubts:
            warnings.warn(doubt, stacklevel=2)
        self.figures = {
            "reliable": None if reliable is None else labels.sources[reliable],
            "overlap": overlap,
            "right": dict(
                zip(
                    labels.sources,
                    np.diagonal(stacked, axis1=-2, axis2=-1).reshape(len(stacked), -1).mean(axis=1).tolist(),
                    strict=True,
                )
            ),
            "warnings": doubts,
        }
        self.register_buffer("transition", torch.from_numpy(stacked).float())

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss over all that was said of the batch's scenes."""
        logits = model(batch["image"]).float()
        return multi_source_loss(logits, said_in(batch, len(self.transition)), self.transition, self.q)

    def report(self) -> Mapping[str, Any]:
        """Return the reliable source, overlaps, how often each source is right on average over classes, warnings."""
        return self.figures

    def _given(self, labels: LabelTable) -> Mapping[str, Any]:
        given = self.given
        if given is None:
            return {}
        if isinstance(given, str | Path):
            given = read_transitions(given, labels)
        if not isinstance(given, Mapping):
            if len(given) != len(labels.sources):
                raise InputError(
                    f"{len(given)} transition matrices were given for {len(labels.sources)} sources "
                    f"({', '.join(labels.sources)}). Give one for each in this order, or a mapping from names."
                )
            given = dict(zip(labels.sources, given, strict=True))
        for name in given:
            if name not in labels.sources:
                raise UnknownNameError("source", name, labels.sources)
        return given

    def _reliable(self, labels: LabelTable, given: Mapping[str, Any]) -> int | None:
        if self.reliable is None and RELIABLE not in labels.sources:
            if set(given) == set(labels.sources):
                return None
            raise LabelError(
                f"None of the sources is named {RELIABLE!r}; there are {', '.join(labels.sources)}. Say which one is "
                f"right with the option `reliable`, or give the matrices of all with `transition`."
            )
        name = RELIABLE if self.reliable is None else self.reliable
        if name not in labels.sources:
            raise UnknownNameError("source", name, labels.sources)
        return labels.sources.index(name)

    @staticmethod
    def _no_overlap(labels: LabelTable, name: str, reliable: int | None) -> LabelError:
        silent = not is_known(labels.said()[:, labels.sources.index(name)]).any()
        if silent:
            why = f"it says nothing about any of the {len(labels)} training scenes. Leave it out of the table"
        else:
            why = "no scene was labelled by both. Label some scenes of it reliably"
        source = "the reliable one" if reliable is None else repr(labels.sources[reliable])
        return LabelError(
            f"The errors of source {name!r} cannot be estimated from its overlap with {source}: {why}, or give its "
            f"matrix with the option `transition`."
        )


def _check_learnable(labels: LabelTable) -> None:
    said = labels.said()
    if labels.exclusive:
        named = int(is_present(said).any(axis=(0, 1)).sum())
        if named < 2:
            raise LabelError(
                f"The sources name {named} class(es) in {len(labels)} training scenes; at least two are needed to "
                f"tell apart."
            )
    elif not is_present(said).any() or not is_absent(said).any():
        kind = "absent" if is_present(said).any() else "present"
        raise LabelError(
            f"No source says of any class that it is {kind} in one of the {len(labels)} training scenes, so only a "
            f"constant answer could be learned. Use a method for single positives on what they agree on, such as adagc."
        )


def _few(labels: LabelTable, name: str, seen: np.ndarray[Any, Any]) -> list[str]:
    """Return a warning if a source's matrix rests on few scenes; seen (C,) or (C, 2) counts."""
    fewest = seen if labels.exclusive else seen.min(axis=1)
    few = [f"{labels.classes[row]} {int(fewest[row])}" for row in np.flatnonzero(fewest < FEWEST)]
    if not few:
        return []
    kind = "" if labels.exclusive else " (present or absent, whichever is rarer)"
    return [
        f"The overlap of source {name!r} with the reliable one is small: {len(few)} of {len(labels.classes)} classes "
        f"have fewer than {FEWEST} scenes{kind}: {', '.join(few[:5])}{', ...' if len(few) > 5 else ''}. Its errors "
        f"there are guesses; label more scenes reliably."
    ]


def _near_singular(labels: LabelTable, smallest: np.ndarray[Any, Any]) -> list[str]:
    """Return warnings for matrices that hardly tell classes apart; smallest (S,) or (S, C) singular values."""
    doubts = []
    for name, values in zip(labels.sources, smallest.reshape(len(labels.sources), -1), strict=True):
        low = np.flatnonzero(values < SINGULAR)
        if len(low):
            which = "" if labels.exclusive else f" for {', '.join(labels.classes[row] for row in low[:5])}"
            doubts.append(
                f"The transition matrix of source {name!r} is close to singular{which} (smallest singular value "
                f"{values.min():.3g}, below {SINGULAR}): it says nearly the same whatever is true, so little can be "
                f"learned from it there."
            )
    return doubts
