"""Softmax cross-entropy for classes that exclude each other."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from swath.errors import LabelError
from swath.labels import LabelTable, is_present
from swath.methods.base import Batch, Method, register_method

__all__ = ["CrossEntropy", "cross_entropy_loss"]


def cross_entropy_loss(logits: Tensor, state: Tensor) -> Tensor:
    """Cross-entropy of the scenes whose class is known, mean over all scenes of the batch.

    Args:
        logits: (B, C) real numbers.
        state: (B, C) label states with at most one present class a row; rows without one have no gradient.

    Returns:
        A scalar.

    Example:
        >>> round(float(cross_entropy_loss(torch.zeros(1, 4), torch.tensor([[1, 0, 0, 0]]))), 4)
        1.3863
    """
    present = is_present(state).to(logits.dtype)
    loss: Tensor = -(present * torch.log_softmax(logits, dim=1)).sum() / len(logits)
    return loss


@register_method("cross-entropy")
class CrossEntropy(Method):
    """Cross-entropy for single-label scenes.

    Example:
        >>> method = CrossEntropy()
        >>> batch = Batch(image=torch.zeros(1, 2), labels=torch.tensor([[1, 0]]), index=torch.tensor([0]))
        >>> round(float(method.loss(nn.Identity(), batch)), 4)
        0.6931
    """

    exclusive: ClassVar[bool] = True

    def start(self, labels: LabelTable, model: nn.Module) -> None:
        """Refuse tables that name fewer than two classes."""
        named = int(is_present(labels.state).any(axis=0).sum())
        if named < 2:
            raise LabelError(
                f"The {len(labels)} training scenes name {named} class(es); at least two are needed to tell apart."
            )

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of the batch."""
        return cross_entropy_loss(model(batch["image"]), batch["labels"])
