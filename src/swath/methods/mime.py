"""MIME: pseudo-positives by rank and class prior, named by a classifier behind an information bottleneck."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from swath.errors import InputError
from swath.labels import LabelTable, is_present, is_unknown
from swath.methods.assume_negative import AssumeNegative
from swath.methods.base import Batch, register_method
from swath.methods.class_priors import class_priors
from swath.methods.model_parts import feature_width

__all__ = ["MIME", "bottleneck_divergence", "highest_unknown", "mime_loss"]

SAMPLES = 10  # draws of the bottleneck whose mean the head sees


def mime_loss(logits: Tensor, state: Tensor, pseudo: Tensor, weight: float = 0.0) -> Tensor:
    """Binary cross-entropy in which unknown labels count as absent, but for pseudo-positives.

    Args:
        logits: (B, C) real numbers.
        state: (B, C) label states; any negative code is unknown.
        pseudo: (B, C) where an unknown label may be present; at known labels it is not read.
        weight: How much a pseudo-positive counts as present; 0 leaves it out.

    Returns:
        A scalar, the mean over scenes and classes.

    Example:
        >>> logits, state = torch.tensor([[2.0, -2.0]]), torch.tensor([[1, -1]])
        >>> round(float(mime_loss(logits, state, torch.tensor([[False, True]]))), 4)
        0.0635
    """
    taken = is_unknown(state) & pseudo
    target = (is_present(state) | taken).to(logits.dtype)
    entries = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return torch.where(taken, weight * entries, entries).mean()


def bottleneck_divergence(mean: Tensor, log_std: Tensor) -> Tensor:
    """Mean over scenes and dimensions of the divergence of N(mean, std^2) from N(0, 1).

    Args:
        mean: (B, F) real numbers.
        log_std: (B, F) logarithms of the standard deviations.

    Returns:
        A scalar, 0 or more.

    Example:
        >>> float(bottleneck_divergence(torch.ones(1, 2), torch.zeros(1, 2)))
        0.5
    """
    return (0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std).mean()


def highest_unknown(scores: Tensor, unknown: Tensor, counts: Tensor) -> Tensor:
    """Mark, class by class, the given number of unknown labels with the highest scores.

    Args:
        scores: (n, C) real numbers.
        unknown: (n, C) where the label is unknown.
        counts: (C,) how many to mark in each class; where fewer are unknown, all of those.

    Returns:
        (n, C) booleans.

    Example:
        >>> scores, unknown = torch.tensor([[0.1], [0.9], [0.5]]), torch.tensor([[True], [False], [True]])
        >>> highest_unknown(scores, unknown, torch.tensor([1]))[:, 0].tolist()
        [False, False, True]
    """
    marked = torch.zeros_like(unknown)
    for number, count in enumerate(counts.tolist()):
        rows = unknown[:, number].nonzero()[:, 0]
        # Stable, so that ties fall the same way on every device.
        order = scores[rows, number].sort(descending=True, stable=True).indices
        marked[rows[order[: int(count)]], number] = True
    return marked


@register_method("mime")
class MIME(AssumeNegative):
    """Mutual label enhancement: a classifier behind a bottleneck names pseudo-positives, and learns from them.

    After a warm-up with assumed negatives, the unknown labels of each class are ranked after every epoch, and as
    many as the class's estimated prior asks for no longer count as absent in the next one. Nothing is kept for good:
    who falls in rank is let go.

    Args:
        warmup: Share of the epochs without pseudo-positives, in [0, 1).
        divergence: Weight of the bottleneck's divergence, 0 or more.
        pseudo_weight: Weight with which a pseudo-positive is trained as present, 0 or more; 0 leaves it out of the
            loss.

    Raises:
        InputError: A number is out of its range, or the model has no features of its own to put the bottleneck on.

    Source:
        Liu et al., ICML 2023. What of it is ours is in the docs.

    Example:
        >>> import numpy as np
        >>> from swath.encoders import build_model
        >>> model, method = build_model("small_resnet", ("red",), ("water", "forest"), size=16), MIME()
        >>> method.start(LabelTable(("water", "forest"), np.array([[1, -1], [-1, 1]])), model)
        >>> batch = Batch(image=torch.ones(2, 1, 16, 16), labels=torch.tensor([[1, -1], [-1, 1]]),
        ...               index=torch.arange(2))
        >>> method.loss(model, batch).shape
        torch.Size([])
    """

    per_scene: ClassVar[Sequence[str]] = ("memory", "pseudo")
    memory: Tensor
    pseudo: Tensor
    unknown: Tensor
    present: Tensor
    log_std: nn.Linear

    def __init__(self, *, warmup: float = 0.2, divergence: float = 1e-4, pseudo_weight: float = 0.0) -> None:
        super().__init__()
        for name, value, fits, expected in (
            ("warmup", warmup, 0 <= warmup < 1, "in [0, 1)"),
            ("divergence", divergence, 0 <= divergence < math.inf, "0 or more"),
            ("pseudo_weight", pseudo_weight, 0 <= pseudo_weight < math.inf, "0 or more"),
        ):
            if not fits:
                raise InputError(f"MIME's {name} is {value}; expected {expected}.")
        self.warmup, self.divergence, self.pseudo_weight = warmup, divergence, pseudo_weight

    @property
    def warmup_epochs(self) -> int:
        """How many epochs have no pseudo-positives: at least one, since a ranking needs scores."""
        return max(1, math.ceil(self.warmup * self.epochs))

    def start(self, labels: LabelTable, model: nn.Module) -> None:
        """Make the bottleneck's spread, and a memory of one row for each scene."""
        super().start(labels, model)
        state = torch.from_numpy(labels.state)
        width = feature_width(model, "MIME")
        with torch.random.fork_rng(devices=[]):
            self.log_std = nn.Linear(width, width)
        for parameter in self.log_std.parameters():  # a spread of 1 everywhere
            nn.init.zeros_(parameter)
        self.register_buffer("unknown", is_unknown(state), persistent=False)
        self.register_buffer("present", is_present(state), persistent=False)
        self.register_buffer("memory", torch.zeros(state.shape))
        self.register_buffer("pseudo", torch.zeros(state.shape, dtype=torch.bool))

    @property
    def shows_scenes(self) -> bool:
        """No: features are drawn at random before the head sees them."""
        return False

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy behind the bottleneck, and the bottleneck's price."""
        mean = model.features(batch["image"])  # type: ignore[operator]
        log_std = self.log_std(mean).clamp(-6, 6)
        # The mean of several draws, in one: the head is linear.
        drawn = mean + torch.randn_like(mean) * log_std.exp() / math.sqrt(SAMPLES)
        logits: Tensor = model.head(drawn)  # type: ignore[operator]
        with torch.no_grad():
            self.memory[batch["index"]] = model.head(mean).float().sigmoid()  # type: ignore[operator]
        pseudo = self.pseudo[batch["index"]]
        price = bottleneck_divergence(mean.float(), log_std.float())
        return mime_loss(logits, batch["labels"], pseudo, self.pseudo_weight) + self.divergence * price

    def after_epoch(self, epoch: int, history: list[dict[str, Any]]) -> None:
        """Rank the unknown labels of each class and take as many as the estimated prior asks for."""
        if epoch + 1 < self.warmup_epochs:
            return
        prior = class_priors(self.memory, self.present).clamp(0, 1)
        counts = (prior * len(self.memory)).long()
        self.pseudo.copy_(highest_unknown(self.memory, self.unknown, counts))
        history[-1]["pseudo_positives"] = int(self.pseudo.sum())

    def report(self) -> Mapping[str, Any]:
        """Return how many pseudo-positives a scene has now, on average."""
        return {"pseudo_positives_per_scene": float(self.pseudo.sum() / len(self.pseudo))}
