"""Probabilities of many scenes, a batch at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from swath.encoders import SceneModel
from swath.training.loop import ReadBatch, Rows

__all__ = ["probabilities"]


def probabilities(
    model: SceneModel,
    read: ReadBatch,
    rows: Rows,
    *,
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> npt.NDArray[np.float32]:
    """Return each scene's probability for each class.

    Args:
        model: Its contract says whether classes exclude each other (softmax) or not (sigmoid).
        read: Gives normalised images by row.
        rows: (n,) rows to read.
        batch_size: Scenes at a time; it changes memory, not results.
        device: Where to compute; where the model is, if None.

    Returns:
        (n, classes) float32 in [0, 1].
    """
    device = torch.device(device) if device is not None else next(model.parameters()).device
    was_training = model.training
    model.to(device).eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            logits = model(read(rows[start : start + batch_size]).to(device)).float()
            exclusive = model.contract.exclusive
            parts.append((logits.softmax(dim=1) if exclusive else logits.sigmoid()).cpu().numpy())
    model.train(was_training)
    if not parts:
        return np.zeros((0, len(model.contract.classes)), np.float32)
    return np.concatenate(parts)
