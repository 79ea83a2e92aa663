"""Checkpoints: everything a run needs to go on exactly, in one safetensors file, never partial, never a pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from swath.errors import RunError
from swath.files import writing

__all__ = ["Checkpoint", "load_module", "read_tensors", "write_tensors"]


@dataclass
class Checkpoint:
    """The state of a training at an epoch's end.

    Args:
        model: The network.
        method: The method, with all its state.
        optimizer: The optimiser.
        history: One record per ended epoch.
        extra: Further plain JSON values the loop needs.
    """

    model: nn.Module
    method: nn.Module
    optimizer: torch.optim.Optimizer
    history: list[dict[str, Any]]
    extra: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write the checkpoint whole or not at all; an older one survives any failure.

        Raises:
            OutputError: It cannot be written.
        """
        tensors = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        tensors |= {f"method.{key}": value for key, value in self.method.state_dict().items()}
        for position, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{position}.{key}": value for key, value in state.items()}
        write_tensors(path, tensors, {"history": self.history, "extra": self.extra})

    def restore(self, path: Path) -> None:
        """Read a checkpoint back into the same objects.

        Raises:
            RunError: The file is missing, damaged, or of another model or method.
        """
        tensors, notes = read_tensors(path)
        load_module(self.model, _part(tensors, "model."), what=f"{path}, model")
        load_module(self.method, _part(tensors, "method."), what=f"{path}, method")
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _part(tensors, "optimizer.").items():
            position, _, name = key.partition(".")
            state.setdefault(int(position), {})[name] = value
        content = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": state, "param_groups": content["param_groups"]})
        self.history[:] = notes["history"]
        self.extra.clear()
        self.extra.update(notes["extra"])


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], notes: dict[str, Any]) -> None:
    """Write tensors and plain JSON values into one safetensors file, whole or not at all."""
    with writing(path) as temporary:
        contiguous = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
        save_file(contiguous, temporary, metadata={"swath": json.dumps(notes)})


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a safetensors file that :func:`write_tensors` wrote.

    Returns:
        The tensors by name, and the JSON values.

    Raises:
        RunError: The file is missing, is no safetensors file, is truncated, or was not written by swath.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"{path} does not exist; expected the safetensors file of a swath run.")
    try:
        with safe_open(path, framework="pt") as file:
            notes = json.loads((file.metadata() or {})["swath"])
            return {key: file.get_tensor(key) for key in file.keys()}, notes  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        with path.open("rb") as raw:
            start = raw.read(2)
        kind = (
            "It looks like a pickle or torch.save file, which swath never opens, because opening one runs code."
            if start in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
            else "It is truncated, damaged or not written by swath."
        )
        raise RunError(f"{path} cannot be read as a safetensors file of swath. {kind} ({error})") from error


def load_module(module: nn.Module, tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Copy tensors into a module, checking names, shapes and that every number is finite.

    Raises:
        RunError: Something does not fit; the message says what.
    """
    mine = module.state_dict()
    missing, strange = sorted(set(mine) - set(tensors)), sorted(set(tensors) - set(mine))
    shapes = [
        f"{key} is {tuple(tensors[key].shape)}, expected {tuple(mine[key].shape)}"
        for key in mine
        if key in tensors and tensors[key].shape != mine[key].shape
    ]
    if missing or strange or shapes:
        parts = [f"missing {', '.join(missing[:5])}"] if missing else []
        parts += [f"not expected {', '.join(strange[:5])}"] if strange else []
        parts += shapes[:5]
        raise RunError(
            f"{what}: the weights do not fit, {'; '.join(parts)}. They are of another encoder, other bands, other "
            f"classes or other scenes."
        )
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise RunError(f"{what}: {key} holds values that are NaN or infinite, so the file is not usable.")
    module.load_state_dict(dict(tensors))


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
