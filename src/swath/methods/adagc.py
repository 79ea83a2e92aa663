"""AdaGC: learn from assumed negatives first, then correct the gradient of the negatives that are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from swath.errors import InputError, LabelError
from swath.labels import LabelTable, is_present, is_unknown
from swath.methods.assume_negative import assume_negative_loss
from swath.methods.averaging import averaged_copy, move_average
from swath.methods.base import Batch, Method, register_method
from swath.methods.trigger import EarlyLearningTrigger, unknown_confidence

__all__ = ["AdaGC", "adagc_loss", "calibration_term", "strength_from_memory"]


def calibration_term(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over scenes and classes of ``weight * log(1 - p t)``, which pulls logits up where t is high.

    Its gradient by a logit is ``-weight * t p (1 - p) / (1 - p t)``: no pull where the teacher sees nothing
    (t = 0), a full one where it is sure. With the assumed negative's own gradient p, an unknown class is left
    with ``p * [1 - weight * t (1 - p) / (1 - p t)]``.

    Args:
        logits: (B, C) real numbers; p is their sigmoid.
        target: (B, C) teacher probabilities t in [0, 1]; no gradient flows into them.
        weight: (B, C) strength lambda where the label is unknown, 0 where it is known.

    Returns:
        A scalar, 0 or below.

    Source:
        arXiv 2510.08269; the sign is that of ELR (arXiv 2007.00151).

    Example:
        >>> float(calibration_term(torch.tensor([[0.0]]), torch.tensor([[0.0]]), torch.tensor([[3.0]])))
        0.0
    """
    # log(1 - p t) = softplus(z + log(1 - t)) - softplus(z): no overflow at any logit, and exact at t = 1.
    doubt = torch.log1p(-target.detach())
    return (weight * (functional.softplus(logits + doubt) - functional.softplus(logits))).mean()


def adagc_loss(logits: Tensor, state: Tensor, target: Tensor, strength: Tensor | float) -> Tensor:
    """Assumed-negative loss plus the calibration of its unknown labels, both means over scenes and classes.

    Args:
        logits: (B, C) real numbers.
        state: (B, C) label states; any negative code is unknown. What is known to be absent stays so.
        target: (B, C) teacher probabilities in [0, 1].
        strength: lambda, a number or (B, 1) one for each scene; 0 gives the assumed-negative loss.

    Returns:
        A scalar.

    Source:
        arXiv 2510.08269.

    Example:
        >>> logits, state = torch.zeros(1, 2), torch.tensor([[1, -1]])
        >>> round(float(adagc_loss(logits, state, torch.tensor([[0.0, 0.5]]), 4.0)), 4)
        0.1178
    """
    weight = strength * is_unknown(state).to(logits.dtype)
    return assume_negative_loss(logits, state) + calibration_term(logits, target, weight)


def strength_from_memory(target: Tensor, level: float = 0.5) -> Tensor:
    """Return lambda for each scene from how confident its teacher is: ``1 + 1 / (level * q)``.

    With single positives a present class is named with a probability of 1/k, where k is the number of classes
    in the scene, and that is where a network of assumed negatives puts it. ``q = sum t^2 / sum t`` is the
    mean probability of what the teacher sees: it estimates 1/k, and t / q that a class is present.
    The gradient of an unknown class changes its sign at t = level * q: with a half, where present and absent
    are equally likely. As labels are recovered, q rises to 1 and lambda falls to 3, so it cannot run away.

    Args:
        target: (B, C) teacher probabilities in [0, 1].
        level: Share of q above which an unknown class is pulled up, in (0, 1].

    Returns:
        (B, 1) strengths, larger than 1.

    Example:
        >>> strength_from_memory(torch.tensor([[0.25, 0.25, 0.25, 0.25, 0.0]])).tolist()
        [[9.0]]
    """
    mass = target.sum(dim=1, keepdim=True)
    confidence = target.square().sum(dim=1, keepdim=True) / mass.clamp_min(LEAST)
    return 1 + 1 / (level * confidence.clamp_min(LEAST))


LEAST = 1e-3  # keeps an empty memory from dividing by zero; a teacher's confidence is far above it


@register_method("adagc")
class AdaGC(Method):
    """Adaptive gradient calibration for multi-label scenes of which only some labels are known.

    Until the trigger fires, unknown labels count as absent. After it, a term pulls those up that the teacher
    believes in. The teacher is a running average of the weights, its predictions are averaged again for each
    training scene, and the averaged network is what the run keeps. Nothing is tuned on clean labels: moment
    and strength both come from the memory of predictions.

    Args:
        start_epoch: Epoch (from 0) from which to calibrate; None lets the trigger find it.
        strength: lambda for every scene, above 0; None takes it from each scene's memory.
        level: Share of a scene's typical probability above which an unknown class is pulled up, in (0, 1];
            used where ``strength`` is None.
        teacher_decay: Share of the averaged weights that a step keeps, in [0, 1).
        prediction_decay: Share of the averaged predictions that an epoch keeps, in [0, 1).
        mixup: alpha of the Beta distribution that mixes pairs of scenes while calibrating; 0 mixes none.
        roll_back: Whether to go back to the state of the epoch that the trigger names before calibrating.

    Raises:
        InputError: A number is out of its range.

    Source:
        arXiv 2510.08269. The constants, the trigger's formula and the rule for lambda are ours; see the docs.

    Example:
        >>> import numpy as np
        >>> model, method = nn.Linear(2, 2), AdaGC(start_epoch=0)
        >>> method.start(LabelTable(("water", "forest"), np.array([[1, -1], [-1, 1]])), model)
        >>> batch = Batch(image=torch.eye(2), labels=torch.tensor([[1, -1], [-1, 1]]), index=torch.arange(2))
        >>> method.loss(model, batch).shape
        torch.Size([])
    """

    per_scene: ClassVar[Sequence[str]] = ("memory", "visits")
    survives_roll_back: ClassVar[Sequence[str]] = (
        "trigger.signal",
        "trigger.length",
        "trigger.fired_after",
        "trigger.reason_code",
    )
    teacher: nn.Module
    trigger: EarlyLearningTrigger
    memory: Tensor
    visits: Tensor
    unknown: Tensor

    def __init__(
        self,
        *,
        start_epoch: int | None = None,
        strength: float | None = None,
        level: float = 0.5,
        teacher_decay: float = 0.99,
        prediction_decay: float = 0.9,
        mixup: float = 0.0,
        roll_back: bool = False,
    ) -> None:
        super().__init__()
        for name, value, fits, expected in (
            ("start_epoch", start_epoch, start_epoch is None or start_epoch >= 0, "0 or more, or None"),
            ("strength", strength, strength is None or strength > 0, "a number above 0, or None"),
            ("level", level, 0 < level <= 1, "above 0 and at most 1"),
            ("teacher_decay", teacher_decay, 0 <= teacher_decay < 1, "at least 0 and below 1"),
            ("prediction_decay", prediction_decay, 0 <= prediction_decay < 1, "at least 0 and below 1"),
            ("mixup", mixup, mixup >= 0, "0 or more"),
        ):
            if not fits:
                raise InputError(f"AdaGC's {name} is {value}; expected {expected}.")
        if roll_back and start_epoch is not None:
            raise InputError("AdaGC cannot roll back from a fixed start_epoch; leave one of the two out.")
        self.start_epoch, self.strength, self.level = start_epoch, strength, level
        self.teacher_decay, self.prediction_decay, self.mixup = teacher_decay, prediction_decay, mixup
        self.roll_back = roll_back

    @property
    def rolls_back(self) -> bool:
        """Whether the trigger may still send the training back."""
        return self.roll_back and not self.trigger.fired

    @property
    def earliest_return(self) -> int:
        """The peak so far: the next one can only be later."""
        return (self.trigger.peak() or 0) if self.rolls_back else 0

    def start(self, labels: LabelTable, model: nn.Module) -> None:
        """Copy the network as teacher and make an empty memory of one row for each scene."""
        if not is_present(labels.state).any():
            raise LabelError(
                f"None of the {len(labels)} training scenes has a present label, so there is nothing to "
                f"learn; expected at least one. Name a class in some scenes."
            )
        self.teacher = averaged_copy(model)
        state = torch.from_numpy(labels.state)
        self.register_buffer("unknown", is_unknown(state), persistent=False)
        self.register_buffer("memory", torch.zeros(state.shape))
        self.register_buffer("visits", torch.zeros(len(state), 1))
        self.trigger = EarlyLearningTrigger(self.epochs)

    def train(self, mode: bool = True) -> AdaGC:
        """Set the mode of everything but the teacher, which predicts as it will when it is deployed."""
        super().train(mode)
        if hasattr(self, "teacher"):
            self.teacher.eval()
        return self

    @property
    def shows_scenes(self) -> bool:
        """Whether scenes are never mixed."""
        return self.mixup == 0

    @property
    def calibrating(self) -> bool:
        """Whether the running epoch corrects the gradient of unknown labels."""
        if self.start_epoch is not None:
            return self.epoch >= self.start_epoch
        return self.trigger.fired

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the assumed-negative loss, with the calibration once the trigger has fired."""
        images, state = batch["image"], batch["labels"]
        target = self._remember(images, batch["index"])
        if not self.calibrating:
            return assume_negative_loss(model(images), state)
        strength = strength_from_memory(target, self.level) if self.strength is None else self.strength
        weight = strength * is_unknown(state).to(target.dtype)
        positive = is_present(state).to(target.dtype)
        if self.mixup > 0:
            images, positive, target, weight = self._mix(images, positive, target, weight)
        logits = model(images)
        assumed = functional.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype))
        return assumed + calibration_term(logits, target, weight)

    def after_step(self, model: nn.Module) -> None:
        """Move the averaged weights, and the averaged statistics of batch normalisation."""
        move_average(self.teacher, model, decay=self.teacher_decay, step=self.step)

    def after_epoch(self, epoch: int, history: list[dict[str, Any]]) -> int | None:
        """Show the trigger how sure the memory is of unknown classes; roll back if that is wanted."""
        confidence = unknown_confidence(self.predictions(), self.unknown)
        history[-1]["unknown_confidence"] = confidence
        history[-1]["calibrating"] = self.calibrating
        if self.start_epoch is None and self.trigger.update(confidence) and self.roll_back:
            return self.trigger.peak()
        return None

    def deployed(self, model: nn.Module) -> nn.Module:
        """Return the averaged network."""
        return self.teacher

    def predictions(self) -> Tensor:
        """Return the teacher's averaged probability of each class in each training scene, (n, C)."""
        return _unbias(self.memory, self.visits, self.prediction_decay)

    def report(self) -> Mapping[str, Any]:
        """Return when calibration began and why, and the strengths it would use now."""
        strength = strength_from_memory(self.predictions(), self.level)
        return {
            "calibrating_from": self.start_epoch if self.start_epoch is not None else self.trigger.starts_at,
            "reason": "fixed" if self.start_epoch is not None else self.trigger.reason,
            "strength": self.strength if self.strength is not None else float(strength.mean()),
        }

    @torch.no_grad()
    def _remember(self, images: Tensor, index: Tensor) -> Tensor:
        """Move the scenes' averaged predictions and return them."""
        probability = self.teacher(images).float().sigmoid()
        memory = self.memory[index].lerp(probability, 1 - self.prediction_decay)
        visits = self.visits[index] + 1
        self.memory[index], self.visits[index] = memory, visits
        return _unbias(memory, visits, self.prediction_decay)

    def _mix(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Mix each scene with another by one coefficient: images, labels, targets and weights."""
        random = self.generator("mixup")
        share = float(random.beta(self.mixup, self.mixup))
        partner = torch.from_numpy(random.permutation(len(tensors[0]))).to(tensors[0].device)
        return tuple(share * tensor + (1 - share) * tensor[partner] for tensor in tensors)


def _unbias(memory: Tensor, visits: Tensor, decay: float) -> Tensor:
    # A memory that starts at zero is too small by 1 - decay^visits (as in Adam).
    return memory / (1 - decay**visits).clamp_min(1e-12)
