"""CCEM and GeoCrowdNet: the network and each annotator's confusions are learned together, from the votes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from swath.errors import InputError
from swath.labels import LabelTable
from swath.labels.annotators import chosen_classes, dawid_skene, soft_votes
from swath.methods.base import Batch, register_method
from swath.methods.sources import CrowdMethod, log_likelihood, said_in

__all__ = ["Crowds", "ccem_loss", "confusion_gap", "prediction_gap"]

LARGEST_GAP = 100.0  # published: a regulariser beyond it is left out for the step


def ccem_loss(logits: Tensor, said: Tensor, log_confusion: Tensor) -> Tensor:
    """Coupled cross-entropy: mean over all votes of ``-log [A_m f(x_n)]`` at the class that was named.

    Args:
        logits: (B, K) real numbers; f is their softmax.
        said: (B, M, K) states, one present class for each annotator who voted; others take no part.
        log_confusion: (M, K, K) logarithm of the probability that annotator m names the last axis' class where the
            middle axis' class is true: A_m transposed.

    Returns:
        A scalar, 0 if nobody voted.

    Source:
        arXiv 2306.03288.

    Example:
        >>> said = torch.tensor([[[1, 0], [0, 1]]])
        >>> confusion = torch.tensor([[[0.9, 0.1], [0.1, 0.9]]]).expand(2, 2, 2)
        >>> round(float(ccem_loss(torch.zeros(1, 2), said, confusion.log())), 4)
        0.6931
    """
    value, known = log_likelihood(logits, said, log_confusion)
    return -value.sum() / known.sum().clamp_min(1)


def prediction_gap(probability: Tensor) -> Tensor:
    """Return how far the predictions of a batch are from naming all classes clearly and equally often, 0 or more.

    It is ``K log(B / K) - log det(F^T F)``: the regulariser F with its bound subtracted, which balanced one-hot
    predictions reach. 0 without gradient if the batch has fewer scenes than classes, where F^T F is singular.

    Args:
        probability: (B, K) F, rows sum to 1.

    Source:
        arXiv 2306.03288; the subtraction is ours, so that a weight means the same for every B and K.

    Example:
        >>> round(float(prediction_gap(torch.eye(3))), 4)
        0.0
    """
    scenes, classes = probability.shape
    if scenes < classes:
        return probability.new_zeros(())
    return _gap(probability, classes * math.log(scenes / classes))


def confusion_gap(confusion: Tensor) -> Tensor:
    """Return how far annotators' confusions are from telling all classes apart, 0 or more.

    It is ``K log M - log det(W^T W)``: the regulariser W with its bound subtracted, which annotators without errors
    reach.

    Args:
        confusion: (M, K, K) probabilities of what is named (last axis) given what is true.

    Source:
        arXiv 2306.03288; the subtraction is ours.

    Example:
        >>> round(float(confusion_gap(torch.eye(3).expand(2, 3, 3))), 4)
        0.0
    """
    annotators, classes, _ = confusion.shape
    stacked = confusion.transpose(1, 2).reshape(-1, classes)  # W: what is named by whom, by what is true
    return _gap(stacked, classes * math.log(annotators))


def _gap(matrix: Tensor, bound: float) -> Tensor:
    # In double precision, and at the identity where it would be none: infinity times 0 has no gradient.
    gram = matrix.double().T @ matrix.double()
    with torch.no_grad():
        gap = bound - torch.linalg.slogdet(gram).logabsdet
        fits = torch.isfinite(gap) & (gap <= max(LARGEST_GAP, 10.0 * len(gram)))
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    determinant = torch.linalg.slogdet(torch.where(fits, gram, identity)).logabsdet
    return torch.where(fits, bound - determinant, 0).to(matrix.dtype)


@register_method("crowds")
class Crowds(CrowdMethod):
    """Learn classes and each annotator's confusion matrix at once, by coupled cross-entropy minimisation.

    Args:
        regularizer: ``none`` for CCEM; ``F`` if some classes have few scenes but annotators are good; ``W`` if
            annotators are few or weak but scenes are plenty.
        weight: lambda of the regulariser, above 0.
        init: Where the matrices start: ``dawid-skene`` at what its algorithm finds in the votes alone, ``mle`` at each
            annotator's confusions with the soft vote, ``identity`` mildly diagonal, as published.
        rate: Learning rate of the matrices, as a multiple of the network's, above 0.

    Raises:
        InputError: An option is out of its range.

    Source:
        arXiv 2306.03288 and its official code.

    Example:
        >>> votes = np.eye(2, dtype=np.int8)[[[0, 0], [1, 1], [0, 1]]]
        >>> labels = LabelTable(
        ...     ("a", "b"), votes[:, 0], True, sources=("anna", "ben"), votes=votes
        ... )
        >>> method = Crowds()
        >>> method.start(labels, nn.Identity())
        >>> batch = Batch(image=torch.zeros(3, 2), votes=torch.from_numpy(votes), index=torch.arange(3))
        >>> method.loss(nn.Identity(), batch).shape
        torch.Size([])
    """

    confusion_logits: nn.Parameter
    names: Sequence[str]

    def __init__(
        self,
        *,
        regularizer: Literal["none", "F", "W"] = "none",
        weight: float = 0.01,
        init: Literal["dawid-skene", "identity", "mle"] = "dawid-skene",
        rate: float = 10.0,
    ) -> None:
        super().__init__()
        for name, value, fits, expected in (
            ("regularizer", regularizer, regularizer in ("none", "F", "W"), "none, F or W"),
            ("weight", weight, 0 < weight < math.inf, "a number above 0"),
            ("init", init, init in ("dawid-skene", "identity", "mle"), "dawid-skene, identity or mle"),
            ("rate", rate, 0 < rate < math.inf, "a number above 0"),
        ):
            if not fits:
                raise InputError(f"crowds' {name} is {value!r}; expected {expected}.")
        self.regularizer, self.weight, self.init, self.rate = regularizer, weight, init, rate
        self.names = ()

    def start(self, labels: LabelTable, model: nn.Module) -> None:
        """Make one matrix for each annotator."""
        chosen, classes = chosen_classes(labels), len(labels.classes)
        self.names = labels.sources
        if self.init == "identity":
            initial = np.broadcast_to(np.eye(classes), (len(self.names), classes, classes))
        elif self.init == "dawid-skene":
            initial = np.log(dawid_skene(chosen, classes).confusion)
        else:
            shares, one_hot = soft_votes(chosen, classes), np.eye(classes)
            counts = np.stack([shares[said >= 0].T @ one_hot[said[said >= 0]] for said in chosen.T])
            initial = np.log((counts + 1 / classes) / (counts.sum(axis=2, keepdims=True) + 1))
        self.confusion_logits = nn.Parameter(torch.from_numpy(initial.copy()).float())
        self.confusion_logits.lr_scale = self.rate  # type: ignore[attr-defined]

    def log_confusion(self) -> Tensor:
        """Return the logarithm of the confusion matrices, (annotators, true, named)."""
        return torch.log_softmax(self.confusion_logits, dim=2)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the coupled cross-entropy of the batch's votes, with the regulariser."""
        logits, log_confusion = model(batch["image"]).float(), self.log_confusion()
        loss = ccem_loss(logits, said_in(batch, len(self.names)), log_confusion)
        if self.regularizer == "F":
            return loss + self.weight * prediction_gap(logits.softmax(dim=1))
        if self.regularizer == "W":
            return loss + self.weight * confusion_gap(log_confusion.exp())
        return loss

    def report(self) -> Mapping[str, Any]:
        """Return how often each annotator is right by what was learned, on average over classes."""
        if not self.names:
            return {}
        skill = self.log_confusion().detach().exp().diagonal(dim1=1, dim2=2).mean(dim=1)
        return {"skill": dict(zip(self.names, skill.tolist(), strict=True))}
