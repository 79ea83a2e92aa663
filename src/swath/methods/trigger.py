"""When to stop believing that unknown means absent: the end of early learning, read from the memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from swath.errors import InputError

__all__ = ["EarlyLearningTrigger", "unknown_confidence"]

REASONS = ("waiting", "peak", "latest")


def unknown_confidence(probability: Tensor, unknown: Tensor) -> float:
    """Return how sure a network is, on average over scenes, of its best guess among the unknown classes.

    Assumed negatives first teach what classes look like, so present classes rise in every scene, also where
    nobody named them. Then the network memorises which labels were given, and the others fall. The measure
    needs no clean label.

    Args:
        probability: (n, C) averaged predictions of the training scenes, in [0, 1].
        unknown: (n, C) where the label is unknown.

    Returns:
        The mean, over scenes with an unknown class, of the largest probability among those; 0 without any.

    Example:
        >>> unknown_confidence(torch.tensor([[0.9, 0.25, 0.1]]), torch.tensor([[False, True, True]]))
        0.25
    """
    rows = unknown.any(dim=1)
    if not bool(rows.any()):
        return 0.0
    return float(probability.masked_fill(~unknown, 0.0)[rows].amax(dim=1).double().mean())


class EarlyLearningTrigger(nn.Module):
    """Fires once a signal that rose while the network was learning has begun to fall, or when time is up.

    The signal is smoothed over a few epochs; its peak is the end of its largest rise, because predictions start
    near a half and sink before anything is learned. All state lies in buffers, so a resumed run decides
    as an uninterrupted one would.

    Args:
        epochs: Length of the run.
        earliest: Share of the run before which it never fires.
        latest: Share of the run at which it fires whatever the signal does.
        window: Epochs over which the signal is averaged.
        patience: Epochs without a new peak after which it fires.

    Raises:
        InputError: A number is out of its range.

    Example:
        >>> trigger = EarlyLearningTrigger(epochs=20)
        >>> for signal in [0.5, 0.1, 0.2, 0.3, 0.3, 0.3, 0.2, 0.2, 0.1]:
        ...     fired_now = trigger.update(signal)
        >>> trigger.reason, trigger.fired
        ('peak', True)
    """

    signal: Tensor
    length: Tensor
    fired_after: Tensor
    reason_code: Tensor

    def __init__(
        self, epochs: int, *, earliest: float = 0.1, latest: float = 0.5, window: int = 3, patience: int = 3
    ) -> None:
        super().__init__()
        if epochs < 1 or window < 1 or patience < 1 or not 0 <= earliest <= latest <= 1:
            raise InputError(
                f"The trigger was given epochs {epochs}, window {window}, patience {patience}, earliest "
                f"{earliest} and latest {latest}; expected counts of 1 or more and 0 <= earliest <= latest "
                f"<= 1."
            )
        self.epochs, self.window, self.patience = epochs, window, patience
        self.earliest = max(1, math.ceil(earliest * epochs))
        self.latest = max(1, math.ceil(latest * epochs))
        self.register_buffer("signal", torch.zeros(epochs, dtype=torch.float32))
        self.register_buffer("length", torch.zeros((), dtype=torch.int64))
        self.register_buffer("fired_after", torch.tensor(-1))
        self.register_buffer("reason_code", torch.tensor(0))

    @property
    def fired(self) -> bool:
        """Whether it has fired, in this epoch or before."""
        return int(self.fired_after) >= 0

    @property
    def reason(self) -> str:
        """Why it fired: ``peak`` (the signal fell) or ``latest`` (time was up); ``waiting`` if it has not."""
        return REASONS[int(self.reason_code)]

    @property
    def starts_at(self) -> int | None:
        """The first epoch (from 0) after it fired, or None."""
        return int(self.fired_after) + 1 if self.fired else None

    def smoothed(self) -> list[float]:
        """Return the signal until it fired or now, each epoch averaged with those just before it."""
        end = int(self.fired_after) + 1 if self.fired else int(self.length)
        seen = self.signal[:end].double().tolist()
        parts = (seen[max(0, end - self.window) : end] for end in range(1, len(seen) + 1))
        return [sum(part) / len(part) for part in parts]

    def peak(self) -> int | None:
        """Return the epoch (from 0) that ends the largest rise of the smoothed signal, None if it never rose."""
        highest, rise, lowest = None, 0.0, math.inf
        for epoch, value in enumerate(self.smoothed()):
            lowest = min(lowest, value)
            if value - lowest > rise:
                highest, rise = epoch, value - lowest
        return highest

    def update(self, value: float) -> bool:
        """Take one epoch's signal and say whether the trigger fires now.

        Args:
            value: The signal at the end of the epoch, a finite number.

        Returns:
            True in the one epoch in which it fires.

        Raises:
            InputError: The signal is not finite, or more epochs were given than the run has.
        """
        if not math.isfinite(value) or int(self.length) >= self.epochs:
            raise InputError(
                f"The trigger was given the signal {value} after {int(self.length)} of {self.epochs} epochs; "
                f"expected a finite number for each epoch of the run."
            )
        self.signal[int(self.length)] = value
        self.length += 1
        if self.fired:
            return False
        done = int(self.length)
        peak = self.peak()
        if peak is not None and done >= self.earliest and done - 1 - peak >= self.patience:
            self._fire("peak")
        elif done >= self.latest:
            self._fire("latest")
        return self.fired

    def _fire(self, reason: str) -> None:
        self.fired_after.fill_(int(self.length) - 1)
        self.reason_code.fill_(REASONS.index(reason))
