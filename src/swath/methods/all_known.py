"""Binary cross-entropy on the labels that are known; unknown labels take no part. With all known: the ceiling."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from swath.errors import LabelError
from swath.labels import LabelTable, is_absent, is_known, is_present
from swath.methods.base import Batch, Method, register_method

__all__ = ["AllKnown", "all_known_loss"]


def all_known_loss(logits: Tensor, state: Tensor) -> Tensor:
    """Binary cross-entropy over known labels, mean over all scenes and classes.

    The mean runs over B x C, not over the known entries, so that a scene's weight does not depend on which other
    scenes share its batch.

    Args:
        logits: (B, C) real numbers.
        state: (B, C) label states; any negative code is unknown and has no gradient.

    Returns:
        A scalar.

    Example:
        >>> round(float(all_known_loss(torch.zeros(1, 2), torch.tensor([[1, -1]]))), 4)
        0.3466
    """
    entries = functional.binary_cross_entropy_with_logits(
        logits, is_present(state).to(logits.dtype), reduction="none"
    )
    return torch.where(is_known(state), entries, 0).mean()


@register_method("all-known")
class AllKnown(Method):
    """Binary cross-entropy on known labels for multi-label scenes.

    Example:
        >>> method = AllKnown()
        >>> batch = Batch(image=torch.zeros(1, 2), labels=torch.tensor([[1, 0]]), index=torch.tensor([0]))
        >>> round(float(method.loss(nn.Identity(), batch)), 4)
        0.6931
    """

    def start(self, labels: LabelTable, model: nn.Module) -> None:
        """Refuse tables from which only a constant answer could be learned."""
        if not is_present(labels.state).any() or not is_absent(labels.state).any():
            kind = "absent" if is_present(labels.state).any() else "present"
            raise LabelError(
                f"None of the {len(labels)} training scenes has a label that is {kind}, so `all-known` could only "
                f"learn a constant answer. If each scene has positives only, use adagc or assume-negative."
            )

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss over the known labels of the batch."""
        return all_known_loss(model(batch["image"]), batch["labels"])
