"""Assumed negatives: every label that nobody gave counts as absent. The floor that other methods must beat."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from swath.errors import LabelError
from swath.labels import LabelTable, is_present
from swath.methods.base import Batch, Method, register_method

__all__ = ["AssumeNegative", "assume_negative_loss"]


def assume_negative_loss(logits: Tensor, state: Tensor) -> Tensor:
    """Binary cross-entropy in which unknown counts as absent, mean over scenes and classes.

    Args:
        logits: (B, C) real numbers.
        state: (B, C) label states; any negative code is unknown.

    Returns:
        A scalar.

    Source:
        AN loss of Cole et al. 2021 (arXiv 2106.09708).

    Example:
        >>> import torch
        >>> round(float(assume_negative_loss(torch.zeros(1, 2), torch.tensor([[1, -1]]))), 4)
        0.6931
    """
    return functional.binary_cross_entropy_with_logits(logits, is_present(state).to(logits.dtype))


@register_method("assume-negative")
class AssumeNegative(Method):
    """Assumed-negative training for multi-label scenes.

    Example:
        >>> import torch
        >>> method = AssumeNegative()
        >>> batch = Batch(image=torch.zeros(1, 2), labels=torch.tensor([[1, -1]]), index=torch.tensor([0]))
        >>> round(float(method.loss(nn.Identity(), batch)), 4)
        0.6931
    """

    def start(self, labels: LabelTable, model: nn.Module) -> None:
        """Refuse a table in which no class is ever present: every logit would be pushed down for ever."""
        if not is_present(labels.state).any():
            raise LabelError(
                f"None of the {len(labels)} training scenes has a present label, so there is nothing to learn. "
                f"Give at least one positive label."
            )

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the assumed-negative loss of the batch."""
        return assume_negative_loss(model(batch["image"]), batch["labels"])
