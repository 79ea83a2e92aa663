"""What methods for few labels and many scenes have in common: two kinds of labels, who is drawn, the average."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from swath.errors import InputError, LabelError
from swath.labels import LabelTable, is_absent, is_known, is_present, is_unknown
from swath.methods.averaging import averaged_copy, move_average
from swath.methods.base import Batch, Method

__all__ = ["SemiSupervised", "log_outcomes", "logits_of_views", "supervised_loss", "unanswered", "view_of"]


def log_outcomes(logits: Tensor, *, exclusive: bool) -> Tensor:
    """Return the logarithm of the probability of every answer to every question about a scene.

    With classes that exclude each other there is one question, "which class?", with C answers. Otherwise there are
    C questions, "is this class there?", with the answers no and yes. Everything else is the same for both.

    Args:
        logits: (B, C) real numbers.
        exclusive: Whether the classes exclude each other (softmax) or not (sigmoid).

    Returns:
        (B, 1, C) or (B, C, 2) in float32 or wider.

    Example:
        >>> tuple(log_outcomes(torch.zeros(5, 3), exclusive=True).shape)
        (5, 1, 3)
        >>> tuple(log_outcomes(torch.zeros(5, 3), exclusive=False).shape)
        (5, 3, 2)
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if exclusive:
        return torch.log_softmax(logits, dim=1)[:, None]
    return torch.stack([functional.logsigmoid(-logits), functional.logsigmoid(logits)], dim=2)


def unanswered(state: Tensor, *, exclusive: bool) -> Tensor:
    """Return the questions that no label answers, (B, 1) or (B, C) as in :func:`log_outcomes`."""
    asked: Tensor = ~is_present(state).any(dim=1, keepdim=True) if exclusive else is_unknown(state)
    return asked


def supervised_loss(outcomes: Tensor, state: Tensor) -> Tensor:
    """Cross-entropy of the questions that are answered, mean over those in the batch; 0 if there is none.

    Args:
        outcomes: What :func:`log_outcomes` returned.
        state: (B, C) label states.

    Returns:
        A scalar.

    Example:
        >>> outcomes = log_outcomes(torch.zeros(3, 2), exclusive=True)
        >>> round(float(supervised_loss(outcomes, torch.tensor([[1, 0], [-1, -1], [-1, -1]]))), 4)
        0.6931
    """
    present = is_present(state)
    exclusive = outcomes.shape[1] == 1 and outcomes.shape[2] == state.shape[1]
    answers = present[:, None] if exclusive else torch.stack([is_absent(state), present], dim=2)
    answers = answers.to(outcomes.dtype)
    loss: Tensor = -(answers * outcomes).sum() / answers.sum().clamp_min(1)
    return loss


class SemiSupervised(Method):
    """Draws enough scenes with labels into each batch, averages the weights and keeps the average.

    Args:
        weight: How much the term of the unknown labels counts, 0 or more.
        unlabelled_ratio: Scenes without any label for each one with labels in a batch, on average, at most; above
            0. Where the data has fewer, scenes come as they are.
        average_decay: Share of the averaged weights that a step keeps, in [0, 1).
    """

    exclusive: ClassVar[bool | None] = None
    average: nn.Module
    labelled: Tensor
    single_label: bool
    any_unanswered: bool

    def __init__(self, *, weight: float, unlabelled_ratio: float, average_decay: float) -> None:
        super().__init__()
        self._check("weight", weight, 0 <= weight < math.inf, "0 or more")
        self._check("unlabelled_ratio", unlabelled_ratio, 0 < unlabelled_ratio < math.inf, "a number above 0")
        self._check("average_decay", average_decay, 0 <= average_decay < 1, "at least 0 and below 1")
        self.weight, self.unlabelled_ratio, self.average_decay = weight, unlabelled_ratio, average_decay

    def start(self, labels: LabelTable, model: nn.Module) -> None:
        """Copy the network as average, note who has labels, refuse those that teach a constant answer."""
        self._refuse_constant(labels)
        self.single_label = labels.exclusive
        known = is_present(labels.state) if labels.exclusive else is_known(labels.state)
        questions = known.any(axis=1) if labels.exclusive else known
        self.any_unanswered = not bool(questions.all())
        self.register_buffer("labelled", torch.from_numpy(np.asarray(known.any(axis=1))), persistent=False)
        self.average = averaged_copy(model)

    def draw_weights(self) -> Tensor | None:
        """Draw scenes with labels more often where batches would hold too few of them."""
        share = float(self.labelled.double().mean())
        wanted = 1 / (1 + self.unlabelled_ratio)
        if share >= wanted:
            return None
        return torch.where(self.labelled, wanted / share, (1 - wanted) / (1 - share))

    def train(self, mode: bool = True) -> SemiSupervised:
        """Set the mode of everything but the average, which predicts as it will when it is deployed."""
        super().train(mode)
        if hasattr(self, "average"):
            self.average.eval()
        return self

    def outcomes(self, logits: Tensor) -> Tensor:
        """Return :func:`log_outcomes` for the kind of labels that training started with."""
        return log_outcomes(logits, exclusive=self.single_label)

    def unanswered(self, batch: Batch) -> Tensor:
        """Return the questions that no label of the batch answers."""
        return unanswered(batch["labels"], exclusive=self.single_label)

    def after_step(self, model: nn.Module) -> None:
        """Move the averaged weights."""
        move_average(self.average, model, decay=self.average_decay, step=self.step)

    def deployed(self, model: nn.Module) -> nn.Module:
        """Return the averaged network."""
        return self.average

    def _check(self, name: str, value: object, fits: bool, expected: str) -> None:
        if not fits:
            raise InputError(f"{type(self).__name__}'s {name} is {value}; expected {expected}.")

    def _refuse_constant(self, labels: LabelTable) -> None:
        present, absent = is_present(labels.state), is_absent(labels.state)
        if labels.exclusive and int(present.any(axis=0).sum()) < 2:
            raise LabelError(
                f"The {len(labels)} training scenes name {int(present.any(axis=0).sum())} class(es); at least two are "
                f"needed to tell apart."
            )
        if not labels.exclusive and not (present.any() and absent.any()):
            kind = "absent" if present.any() else "present"
            raise LabelError(
                f"None of the {len(labels)} training scenes has a label that is {kind}, so guesses could only confirm "
                f"a constant answer. If each scene has positives only, use adagc or assume-negative."
            )


def logits_of_views(model: nn.Module, images: Tensor, other: Tensor, rows: Tensor) -> Tensor:
    """Return the logits of scenes, some of them in another view.

    Views that differ much have other statistics, so each is normalised by its own where the network normalises
    batches. Running averages, which the deployed network uses, are left alone: they are of the scenes as they are,
    from the pass that makes the guesses.

    Args:
        model: The network.
        images: (B, bands, H, W), as they are.
        other: The same scenes in the other view.
        rows: (B,) which of them are seen in the other view.

    Returns:
        (B, C).
    """
    parts: list[Tensor] = []
    with _running_averages_kept(model):
        if 1 in (rows.sum(), (~rows).sum()):
            # One scene alone cannot be normalised.
            logits: Tensor = model(view_of(images, other, rows))
            return logits
        if not rows.all():
            parts.append(model(images[~rows]))
        if rows.any():
            parts.append(model(other[rows]))
    order = torch.cat([torch.nonzero(~rows), torch.nonzero(rows)])[:, 0]
    return torch.cat(parts)[order.argsort()]


@contextlib.contextmanager
def _running_averages_kept(model: nn.Module) -> Iterator[None]:
    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.modules.batchnorm._NormBase) and layer.track_running_stats
    ]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def view_of(images: Tensor, other: Tensor, rows: Tensor) -> Tensor:
    """Return the images, with those of some rows replaced by another view of them."""
    return torch.where(rows.view(-1, 1, 1, 1), other, images)
