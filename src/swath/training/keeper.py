"""What a training keeps at each epoch's end, so that it can be killed at any moment and go on exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from swath.errors import InputError
from swath.files import append_line, write_text
from swath.methods import Method
from swath.training.checkpoint import Checkpoint, Shelf
from swath.training.progress import json_line

__all__ = ["Keeper"]


class Keeper:
    """The state of a training that outlives its process, and the one place that writes it.

    Args:
        accelerator: The front; its first process writes, all read.
        model: The network.
        method: The method.
        optimizer: The optimiser, as torch made it.
        folder: The run's folder.
        made_for: What has to be the same for a training to go on.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        method: Method,
        optimizer: torch.optim.Optimizer,
        folder: Path,
        made_for: dict[str, Any],
    ) -> None:
        self._accelerator, self._method, self._folder = accelerator, method, folder
        self._shelf = Shelf(folder)
        self.history: list[dict[str, Any]] = []
        self._state: dict[str, Any] = {"epoch": 0, "best": None, "best_epoch": None, "scaler": None}
        self._checkpoint = Checkpoint(model, method, optimizer, self.history, self._state, made_for)

    @property
    def epoch(self) -> int:
        """How many epochs have ended."""
        return int(self._state["epoch"])

    def resume(self) -> None:
        """Go to where the latest checkpoint was written, if there is one.

        Raises:
            RunError: The checkpoint is damaged, or is of another training.
        """
        scaler = self._accelerator.scaler
        if self._shelf.latest.exists():
            self._checkpoint.restore(self._shelf.latest)
            if scaler is not None:
                scaler.load_state_dict(self._state["scaler"])
        # All have read before the first one goes on to write.
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            self._shelf.sweep()
            # Lines of an epoch that was cut short before its checkpoint would otherwise stand twice.
            lines = "".join(json_line(record) + "\n" for record in self.history)
            write_text(self._folder / "progress.jsonl", lines)

    def judge(self, epoch: int, score: float, network: nn.Module) -> None:
        """Keep the network if its score is the best so far."""
        if self._state["best"] is None or score > self._state["best"]:
            self._state["best"], self._state["best_epoch"] = score, epoch
            if self._accelerator.is_main_process:
                self._shelf.keep_best(epoch, network)

    def epochs_without_gain(self) -> int:
        """Return how many epochs have ended since the best one."""
        best = self._state["best_epoch"]
        return 0 if best is None else self.epoch - 1 - int(best)

    def load_best(self, network: nn.Module) -> None:
        """Load the weights of the best epoch."""
        self._shelf.load_best(int(self._state["best_epoch"]), network)

    def close(self, epoch: int, *, returns: bool, back_to: int | None) -> None:
        """Write the epoch's checkpoint and its line, and go back to an earlier epoch if the method asks for it.

        Args:
            epoch: The epoch that has ended, whose record is the history's last.
            returns: Whether the method could go back when the epoch ended.
            back_to: The epoch to whose end to go back, or None.

        Raises:
            InputError: The method wants back to an epoch that is not kept.
            OutputError: Something cannot be written; the older checkpoint is still there.
        """
        main, line = self._accelerator.is_main_process, json_line(self.history[-1])
        scaler = self._accelerator.scaler
        self._state["epoch"] = epoch + 1
        self._state["scaler"] = None if scaler is None else scaler.state_dict()
        if main and returns:
            self._checkpoint.save(self._shelf.epoch(epoch))
        if back_to is not None:
            if not returns or not 0 <= back_to <= epoch:
                raise InputError(
                    f"{type(self._method).__name__} wants back to epoch {back_to} after epoch {epoch}; expected an "
                    f"epoch from 0 to {epoch}, and `rolls_back` set before."
                )
            self._accelerator.wait_for_everyone()
            self._roll_back(back_to)
        if main:
            self._checkpoint.save(self._shelf.latest)
            append_line(self._folder / "progress.jsonl", line)
        self._accelerator.wait_for_everyone()
        if main:
            oldest = self._method.earliest_return if self._method.rolls_back else None
            self._shelf.tidy(oldest=oldest, best=self._state["best_epoch"])

    def _roll_back(self, epoch: int) -> None:
        """Bring model, method and optimiser back to an epoch's end; epoch count and history go on."""
        history, state = list(self.history), dict(self._state)
        decided = {name: self._method.get_buffer(name).clone() for name in self._method.survives_roll_back}
        self._checkpoint.restore(self._shelf.epoch(epoch))
        self.history[:] = history
        self._state.update(state)
        for name, value in decided.items():
            self._method.get_buffer(name).copy_(value)
