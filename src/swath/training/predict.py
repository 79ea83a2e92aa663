"""Probabilities and features of many scenes, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from swath.encoders import SceneModel
from swath.training.loop import ReadBatch, Rows

__all__ = ["features", "features_and_probabilities", "probabilities"]


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
    return _of_all(
        lambda images: model.to_probability(model(images)),
        model,
        read,
        rows,
        batch_size,
        device,
        len(model.contract.classes),
    )


def features(
    model: SceneModel,
    read: ReadBatch,
    rows: Rows,
    *,
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> npt.NDArray[np.float32]:
    """Return each scene's features, what the head of the model works on.

    Args:
        model: The network.
        read: Gives normalised images by row.
        rows: (n,) rows to read.
        batch_size: Scenes at a time; it changes memory, not results.
        device: Where to compute; where the model is, if None.

    Returns:
        (n, features) float32.
    """
    return _of_all(
        lambda images: model.features(images).float(),
        model,
        read,
        rows,
        batch_size,
        device,
        model.head.in_features,
    )


def features_and_probabilities(
    model: SceneModel,
    read: ReadBatch,
    rows: Rows,
    *,
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return what :func:`features` and :func:`probabilities` do, from one pass over the scenes instead of two.

    Args:
        model: The network.
        read: Gives normalised images by row.
        rows: (n,) rows to read.
        batch_size: Scenes at a time; it changes memory, not results.
        device: Where to compute; where the model is, if None.

    Returns:
        (n, features) and (n, classes), float32.
    """
    width = model.head.in_features

    def compute(images: Tensor) -> Tensor:
        hidden = model.features(images)
        # A boosted head works on maps, not on features.
        logits = model.head(hidden) if model.cam_boost == 1 else model(images)
        return torch.cat([hidden.float(), model.to_probability(logits)], dim=1)

    both = _of_all(compute, model, read, rows, batch_size, device, width + len(model.contract.classes))
    return both[:, :width], both[:, width:]


def _of_all(
    compute: Callable[[Tensor], Tensor],
    model: SceneModel,
    read: ReadBatch,
    rows: Rows,
    batch_size: int,
    device: torch.device | str | None,
    width: int,
) -> npt.NDArray[np.float32]:
    device = torch.device(device) if device is not None else next(model.parameters()).device
    was_training = model.training
    model.to(device).eval()
    with torch.inference_mode():
        parts = [
            compute(read(rows[start : start + batch_size]).to(device)).cpu().numpy()
            for start in range(0, len(rows), batch_size)
        ]
    model.train(was_training)
    return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)
