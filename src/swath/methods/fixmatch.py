"""FixMatch: what the network is sure of in a scene has to hold when the scene is strongly changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from swath.errors import LabelError
from swath.labels import LabelTable
from swath.methods.base import Batch, register_method
from swath.methods.semi_supervised import SemiSupervised, logits_of_views, supervised_loss, unanswered
from swath.methods.thresholds import Thresholds
from swath.scenes.augmentation import strong_view

__all__ = ["FixMatch", "fairness_term", "self_training_loss"]


def self_training_loss(outcomes: Tensor, guess: Tensor, accepted: Tensor, unanswered: Tensor) -> Tensor:
    """Cross-entropy of accepted guesses, mean over all questions without an answer, accepted or not.

    Args:
        outcomes: (B, 1, C) or (B, C, 2) logarithms of probabilities on the strong view.
        guess: (B, 1) or (B, C) answers guessed on the weak view.
        accepted: Which of them are learned from.
        unanswered: The questions without an answer.

    Returns:
        A scalar; 0 if there is no such question.

    Source:
        FixMatch (arXiv 2001.07685).

    Example:
        >>> outcomes = torch.full((2, 1, 4), 0.25).log()
        >>> guess, accepted = torch.tensor([[3], [0]]), torch.tensor([[True], [False]])
        >>> round(float(self_training_loss(outcomes, guess, accepted, torch.ones(2, 1))), 4)
        0.6931
    """
    entries = -outcomes.gather(2, guess[:, :, None])[:, :, 0]
    loss: Tensor = (entries * accepted).sum() / unanswered.sum().clamp_min(1)
    return loss


def fairness_term(probability: Tensor, accepted: Tensor, mean: Tensor, histogram: Tensor) -> Tensor:
    """Return FreeMatch's term that keeps accepted scenes from falling into few classes: lower is more even.

    ``sum_c a_c log b_c`` with ``a = normalised(mean / histogram)`` and ``b = normalised(mean of the strong views'
    probabilities / their histogram)``; classes that no strong view falls into have b = 0.

    Args:
        probability: (B, C) of the strong views.
        accepted: (B,) which scenes count.
        mean: (C,) running average of the weak views' probabilities.
        histogram: (C,) running average of how often each class was guessed.

    Returns:
        A scalar, 0 or below; 0 if no scene counts.

    Source:
        FreeMatch (arXiv 2205.07246), with the sign and constants of its released code.

    Example:
        >>> even = torch.full((4,), 0.25)
        >>> round(float(fairness_term(torch.eye(4), torch.ones(4, dtype=torch.bool), even, even)), 4)
        -1.3863
    """
    counted = accepted.to(probability.dtype)[:, None]
    number = counted.sum()
    once = torch.zeros_like(probability).scatter_(1, probability.argmax(dim=1, keepdim=True), 1)
    strong_mean = (counted * probability).sum(dim=0) / number.clamp_min(1)
    strong_histogram = (counted * once).sum(dim=0) / number.clamp_min(1)
    weak, strong = _ratio(mean, histogram), _ratio(strong_mean, strong_histogram)
    term = ((weak / weak.sum()) * (strong / strong.sum().clamp_min(TINY) + TINY).log()).sum()
    return torch.where(number > 0, term, torch.zeros_like(term))


TINY = 1e-12


def _ratio(mean: Tensor, histogram: Tensor) -> Tensor:
    return torch.where(histogram > 0, mean / histogram.clamp_min(TINY), 0)


@register_method("fixmatch")
class FixMatch(SemiSupervised):
    """Self-training from weakly to strongly changed scenes, for few labels and many scenes.

    For scenes whose classes exclude each other, and for scenes with several labels of which some are unknown.

    Args:
        thresholds: ``fixed``, or adapting to each class: ``flexmatch`` or ``freematch``.
        level: How sure a guess has to be, above 0.5 and below 1; ``flexmatch`` counts by it, ``freematch`` needs none.
        weight: How much the guesses count; with 0 only scenes with labels are looked at.
        unlabelled_ratio: Scenes without any label for each one with labels in a batch, on average, at most.
        average_decay: Share of the averaged weights, which are deployed, that a step keeps.
        threshold_decay: Share of ``freematch``'s running averages that a step keeps.
        fairness: Weight of ``freematch``'s term against falling into few classes; 0 leaves it out.

    Raises:
        InputError: A number is out of its range, or options do not go together.

    Source:
        FixMatch (arXiv 2001.07685), FlexMatch (2110.08263), FreeMatch (2205.07246).

    Example:
        >>> import numpy as np
        >>> state = np.array([[1, 0], [0, 1], [-1, -1], [-1, -1]])
        >>> model, method = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), FixMatch()
        >>> method.start(LabelTable(("water", "forest"), state, exclusive=True), model)
        >>> batch = Batch(image=torch.rand(4, 3, 4, 4), labels=torch.from_numpy(state), index=torch.arange(4))
        >>> method.loss(model, batch).shape
        torch.Size([])
    """

    thresholds: Thresholds
    accepted_share: Tensor
    asked: Tensor
    taken: Tensor

    def __init__(
        self,
        *,
        thresholds: Literal["fixed", "flexmatch", "freematch"] = "fixed",
        level: float = 0.95,
        weight: float = 1.0,
        unlabelled_ratio: float = 7.0,
        average_decay: float = 0.999,
        threshold_decay: float = 0.999,
        fairness: float = 0.0,
    ) -> None:
        super().__init__(weight=weight, unlabelled_ratio=unlabelled_ratio, average_decay=average_decay)
        rules = ("fixed", "flexmatch", "freematch")
        self._check("thresholds", thresholds, thresholds in rules, f"one of {', '.join(rules)}")
        self._check("level", level, 0.5 < level < 1, "above 0.5 and below 1")
        self._check("threshold_decay", threshold_decay, 0 <= threshold_decay < 1, "at least 0 and below 1")
        self._check(
            "fairness",
            fairness,
            fairness == 0 or (thresholds == "freematch" and 0 < fairness < math.inf),
            "0, or with thresholds 'freematch' a number above 0",
        )
        self.rule, self.level = thresholds, level
        self.threshold_decay, self.fairness = threshold_decay, fairness

    @property
    def per_scene(self) -> Sequence[str]:  # type: ignore[override]  # what there is depends on the rule
        """The guesses that ``flexmatch`` counts."""
        return ("thresholds.guessed",) if self.rule == "flexmatch" else ()

    def start(self, labels: LabelTable, model: nn.Module) -> None:
        """Make the thresholds' state beside the average."""
        super().start(labels, model)
        if self.fairness and not labels.exclusive:
            raise LabelError(
                "FixMatch's option `fairness` compares classes that exclude each other, and these do not. Leave it out."
            )
        questions = unanswered(torch.from_numpy(labels.state), exclusive=labels.exclusive)
        answers = len(labels.classes) if labels.exclusive else 2
        self.thresholds = Thresholds(
            self.rule, self.level, self.threshold_decay, questions, answers, exclusive=labels.exclusive
        )
        self.register_buffer("asked", torch.zeros(()))
        self.register_buffer("taken", torch.zeros(()))
        self.register_buffer("accepted_share", torch.zeros(()))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of known labels, on the weak view, and of accepted guesses, on the strong one."""
        images, questions = batch["image"], self.unanswered(batch)
        if not self.any_unanswered:
            return supervised_loss(self.outcomes(model(images)), batch["labels"])
        if not self.weight:
            # Nothing is learned from the others, not even by what normalises a batch.
            rows = self.labelled[batch["index"]]
            # One scene alone cannot be normalised.
            rows = rows if rows.sum() > 1 else torch.ones_like(rows)
            return supervised_loss(self.outcomes(model(images[rows])), batch["labels"][rows])
        with torch.no_grad():
            probability = self.outcomes(model(images)).exp()
        # Older versions of PyTorch would use weights that were cast without gradients again in the next pass.
        torch.clear_autocast_cache()
        guess, accepted = self.thresholds.accept(probability, questions, batch["index"])
        self._note(accepted, questions)
        strong = strong_view(images, self.generator("strong view"))
        # A scene is seen strongly changed if there is something to guess in it.
        outcomes = self.outcomes(logits_of_views(model, images, strong, questions.any(dim=1)))
        loss = supervised_loss(outcomes, batch["labels"])
        loss = loss + self.weight * self_training_loss(outcomes, guess, accepted, questions)
        if self.fairness:
            mean, histogram = self.thresholds.mean[0], self.thresholds.histogram[0]
            loss = loss + self.fairness * fairness_term(outcomes[:, 0].exp(), accepted[:, 0], mean, histogram)
        return loss

    def after_epoch(self, epoch: int, history: list[dict[str, Any]]) -> int | None:
        """Count guesses over all scenes, and record what share of them passed in this epoch."""
        self.thresholds.recount()
        self.accepted_share.copy_(self.taken / self.asked.clamp_min(1))
        self.taken.zero_()
        self.asked.zero_()
        history[-1]["accepted_share"] = float(self.accepted_share)
        return None

    def report(self) -> Mapping[str, Any]:
        """Return the rule, the share of guesses that passed in the last epoch, and the range of thresholds."""
        now = torch.as_tensor(self.thresholds.now())
        return {
            "thresholds": self.rule,
            "accepted_share": float(self.accepted_share),
            "lowest_threshold": float(now.min()),
            "highest_threshold": float(now.max()),
        }

    def _note(self, accepted: Tensor, questions: Tensor) -> None:
        self.taken += accepted.sum()
        self.asked += questions.sum()
