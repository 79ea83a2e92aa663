"""Checkpoints: everything a run needs to go on exactly, in one safetensors file, never partial, never a pickle."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from swath.errors import RunError
from swath.files import writing

__all__ = ["Checkpoint", "Shelf", "load_module", "read_tensors", "write_tensors"]


@dataclass
class Checkpoint:
    """The state of a training at an epoch's end.

    Args:
        model: The network.
        method: The method, with all its state.
        optimizer: The optimiser.
        history: One record per ended epoch.
        extra: Further plain JSON values the loop needs.
        made_for: What has to be the same for the training to go on, plain JSON values by name.
    """

    model: nn.Module
    method: nn.Module
    optimizer: torch.optim.Optimizer
    history: list[dict[str, Any]]
    extra: dict[str, Any]
    made_for: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the checkpoint whole or not at all; an older one survives any failure.

        Raises:
            OutputError: It cannot be written.
        """
        tensors = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        tensors |= {f"method.{key}": value for key, value in self.method.state_dict().items()}
        for position, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{position}.{key}": value for key, value in state.items()}
        write_tensors(
            path, tensors, {"history": self.history, "extra": self.extra, "made_for": self.made_for}
        )

    def restore(self, path: Path) -> None:
        """Read a checkpoint back into the same objects; nothing is changed unless all of it fits.

        Raises:
            RunError: The file is missing, damaged, or of another model, method or training.
        """
        tensors, notes = read_tensors(path)
        history, extra = notes.get("history"), notes.get("extra")
        if not isinstance(history, list) or not isinstance(extra, dict) or set(self.extra) - set(extra):
            raise RunError(f"{path} holds weights but no training to go on with; it is no checkpoint.")
        self._check_made_for(notes.get("made_for"), path)
        parts = {
            name: (getattr(self, name), _part(tensors, f"{name}."), f"{path}, {name}")
            for name in ("model", "method")
        }
        for module, part, what in parts.values():
            _check_module(module, part, what=what)
        state = self._optimizer_state(_part(tensors, "optimizer."), path)
        for module, part, _ in parts.values():
            module.load_state_dict(part)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.history[:] = history
        self.extra.clear()
        self.extra.update(extra)

    def _check_made_for(self, found: object, path: Path) -> None:
        mine = json.loads(json.dumps(self.made_for))
        found = found if isinstance(found, dict) else {}
        changed = [
            f"{key} was {found.get(key)!r} and is now {mine.get(key)!r}"
            for key in sorted(mine | found)
            if mine.get(key) != found.get(key)
        ]
        if changed:
            raise RunError(
                f"{path} is of another training: {'; '.join(changed)}. Go on with what it was started with, or "
                f"train in another folder."
            )

    def _optimizer_state(self, tensors: Mapping[str, Tensor], path: Path) -> dict[int, dict[str, Tensor]]:
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            position, _, name = key.partition(".")
            if not position.isdecimal() or int(position) >= len(parameters):
                raise RunError(f"{path}: the optimiser has no place for {key!r}.")
            parameter = parameters[int(position)]
            if name != "step":
                if value.shape != parameter.shape:
                    raise RunError(
                        f"{path}: the optimiser's {key} is {tuple(value.shape)}, expected {tuple(parameter.shape)}."
                    )
                # Fused optimisers walk through memory: what belongs to a parameter has to lie as it does.
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)  # noqa: PLW2901
            state.setdefault(int(position), {})[name] = value
        names = {"step", "exp_avg", "exp_avg_sq"}
        for number, values in state.items():
            if set(values) != names:
                raise RunError(
                    f"{path}: the optimiser's state {number} has {sorted(values)}, not {sorted(names)}."
                )
        return state


# What `swath.files.writing` calls the files of a run before they are whole, and what safetensors calls its own drafts.
_DRAFTS = (
    ".[0-9]*-*.safetensors",
    ".best-*.safetensors",
    ".checkpoint-*.safetensors",
    ".model-*",
    ".progress-*.jsonl",
    ".scenes-*.parquet",
    ".evaluation-*.json",
    ".report-*.html",
    ".config-*.yaml",
    ".dynamics-*.safetensors",
    ".tmp??????",
)


class Shelf:
    """Where a training keeps its checkpoints: the latest, the best epoch's network, epochs to go back to.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.latest = folder / "checkpoint.safetensors"
        self._epochs = folder / "epochs"

    def epoch(self, epoch: int) -> Path:
        """Return the path of one epoch's checkpoint."""
        return self._epochs / f"{epoch}.safetensors"

    def keep_best(self, epoch: int, network: nn.Module) -> None:
        """Write the best network so far; the one before stays until :meth:`tidy`, for a resume from before."""
        write_tensors(self._best(epoch), network.state_dict(), {"epoch": epoch})

    def load_best(self, epoch: int, network: nn.Module) -> None:
        """Load the best epoch's weights."""
        path = self._best(epoch)
        load_module(network, read_tensors(path)[0], what=str(path))

    def tidy(self, *, oldest: int | None, best: int | None) -> None:
        """Remove what no resume can need: epochs before ``oldest`` (all if None), and all but the best network."""
        for path in self._epochs.glob("*.safetensors"):
            if path.stem.isdecimal():
                needed = oldest is not None and int(path.stem) >= oldest
            else:
                needed = path == (self._best(best) if best is not None else None)
            if not needed:
                path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a killed process left half-written, in the run's folder too."""
        for folder in (self.latest.parent, self._epochs):
            for pattern in _DRAFTS:
                for path in folder.glob(pattern):
                    path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all checkpoints and half-written files, once the run has what it was made for."""
        self.latest.unlink(missing_ok=True)
        shutil.rmtree(self._epochs, ignore_errors=True)
        self.sweep()

    def _best(self, epoch: int) -> Path:
        return self._epochs / f"best-{epoch}.safetensors"


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], notes: dict[str, Any]) -> None:
    """Write tensors and plain JSON values into one safetensors file, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    # Copies, because safetensors refuses tensors that share memory, as tied weights do.
    copies = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    with writing(path) as temporary:
        try:
            save_file(copies, temporary, metadata={"swath": json.dumps(notes, allow_nan=False)})
        except SafetensorError as error:
            # A full disk arrives as an error of the format's own kind.
            raise OSError(str(error)) from error


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
            if not isinstance(notes, dict):
                raise ValueError("its notes are no JSON object")
            return {key: file.get_tensor(key) for key in file.keys()}, notes  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise RunError(
            f"{path} cannot be read as a safetensors file of swath. {_kind_of(path)} ({error})"
        ) from error


def load_module(module: nn.Module, tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Copy tensors into a module, checking names, shapes and that every number is finite.

    Raises:
        RunError: Something does not fit; the message says what, and the module is as it was.
    """
    _check_module(module, tensors, what=what)
    module.load_state_dict(dict(tensors))


def _check_module(module: nn.Module, tensors: Mapping[str, Tensor], *, what: str) -> None:
    mine = module.state_dict()
    missing, strange = sorted(set(mine) - set(tensors)), sorted(set(tensors) - set(mine))
    differing = [
        f"{key} is {tensors[key].dtype} {tuple(tensors[key].shape)}, expected {mine[key].dtype} "
        f"{tuple(mine[key].shape)}"
        for key in mine
        if key in tensors and (tensors[key].shape, tensors[key].dtype) != (mine[key].shape, mine[key].dtype)
    ]
    if missing or strange or differing:
        parts = [f"missing {', '.join(missing[:5])}"] if missing else []
        parts += [f"not expected {', '.join(strange[:5])}"] if strange else []
        parts += differing[:5]
        raise RunError(
            f"{what}: the weights do not fit, {'; '.join(parts)}. They are of another encoder, other bands, other "
            f"classes or other scenes."
        )
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise RunError(f"{what}: {key} holds values that are NaN or infinite, so the file is not usable.")


def _kind_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        return f"It cannot be opened: {error.strerror}."
    # A zip archive (torch.save) or the first bytes of a pickle, protocol 2 to 5.
    if start == b"PK" or (start[:1] == b"\x80" and start[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        return "It looks like a pickle or torch.save file, which swath never opens, because opening one runs code."
    return "It is truncated, damaged or not written by swath."


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
