"""One loop for every method, on one or many devices, that goes on exactly where it was killed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from swath.errors import InputError, RunError
from swath.files import append_line, write_text
from swath.labels import LabelTable
from swath.methods import Batch, Method
from swath.randomness import stream
from swath.training.augmentation import augment
from swath.training.checkpoint import Checkpoint, load_module, read_tensors, write_tensors
from swath.training.progress import EpochBar, json_line
from swath.training.settings import Settings

__all__ = ["ReadBatch", "Rows", "fit", "make_accelerator"]

Rows = npt.NDArray[np.int64]
# Normalised images (len(rows), bands, H, W) float32 by row, a whole batch at a time.
ReadBatch = Callable[[Rows], Tensor]


class _Learner(nn.Module):
    """Model and method as one module, so that a method may use the model as often as it likes in one step."""

    def __init__(self, model: nn.Module, method: Method) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(self, batch: Batch) -> Tensor:
        return self.method.loss(self.model, batch)


def make_accelerator(precision: str = "no") -> Accelerator:
    """Return the Accelerate front for this process: device, mixed precision, other processes."""
    # Buffers hold memory of each process's own scenes; copying rank 0's over them would lose it.
    keep_buffers = DistributedDataParallelKwargs(broadcast_buffers=False)
    return Accelerator(mixed_precision=precision, kwargs_handlers=[keep_buffers])


def fit(
    model: nn.Module,
    method: Method,
    read: ReadBatch,
    rows: Rows,
    labels: LabelTable,
    settings: Settings,
    folder: Path,
    *,
    accelerator: Accelerator | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    on_epoch: Callable[[Method, nn.Module, dict[str, Any]], None] | None = None,
    domain: npt.NDArray[np.int64] | None = None,
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train a model by a method, and go on from ``folder``'s checkpoint if there is one.

    Args:
        model: The network to train.
        method: Owns the loss and its state.
        read: Gives normalised images by row.
        rows: (n,) row, for ``read``, of each training scene.
        labels: What is known of the n training scenes, in the order of ``rows``.
        settings: Epochs, rates, augmentation, seed.
        folder: Where the checkpoint and ``progress.jsonl`` are kept.
        accelerator: The Accelerate front, if the caller has made one.
        validate: Scores the network that would be kept; the best epoch is kept then, otherwise the last.
        on_epoch: Called at each epoch's end with method, network and the epoch's record, which it may add to.
        domain: (n,) domain of each training scene, for methods that use it.

    Returns:
        The network to keep, on its device and in evaluation mode, and one record per epoch.

    Raises:
        LabelError: The method cannot learn from these labels.
        RunError: The loss is no longer finite, or the checkpoint does not fit.
        OutputError: A checkpoint cannot be written; the older one is still there.
    """
    accelerator = accelerator or make_accelerator(settings.precision)
    device, world, rank = accelerator.device, accelerator.num_processes, accelerator.process_index
    steps = math.ceil(len(rows) / settings.batch_size)
    if len(rows) < 2 * world:
        raise InputError(f"{len(rows)} training scenes were given; expected at least {2 * world}.")
    method.seed, method.epochs = settings.seed, settings.epochs
    model.to(device)
    method.start(labels, model)
    method.to(device)
    optimizer = torch.optim.AdamW(_parameter_groups(model, method, settings), fused=True)
    scales = [group["lr_scale"] for group in optimizer.param_groups]
    learner, optimizer = accelerator.prepare(_Learner(model, method), optimizer)
    history: list[dict[str, Any]] = []
    state: dict[str, Any] = {"epoch": 0, "best": None, "best_epoch": None}
    checkpoint = Checkpoint(model, method, getattr(optimizer, "optimizer", optimizer), history, state)
    if (folder / "checkpoint.safetensors").exists():
        checkpoint.restore(folder / "checkpoint.safetensors")
    if accelerator.is_main_process:
        # Lines of an epoch that was cut short before its checkpoint would otherwise stand twice.
        write_text(folder / "progress.jsonl", "".join(json_line(record) + "\n" for record in history))
    tensors = {
        key: None if value is None else torch.from_numpy(value) for key, value in _per_scene(labels, domain)
    }

    with (
        EpochBar(settings.epochs, steps, shown=accelerator.is_main_process) as bar,
        ThreadPoolExecutor(1) as pool,
    ):
        while state["epoch"] < settings.epochs and not _out_of_patience(state, settings):
            epoch = state["epoch"]
            method.epoch = epoch
            learner.train()
            started, total_loss = time.perf_counter(), torch.zeros((), device=device)
            owned = np.zeros(len(rows), bool)
            batches = _prefetch(
                pool, read, rows, _epoch_order(len(rows), steps, settings.seed, epoch), world, rank
            )
            for position, (indices, whole, first, images) in enumerate(batches):
                method.step = epoch * steps + position
                owned[indices] = True
                rate = settings.rate(method.step, steps)
                for group, scale in zip(optimizer.param_groups, scales, strict=True):
                    group["lr"] = rate * scale
                # Dropout and the like: the same numbers again after a resume, others on each process.
                torch.manual_seed(int(stream(settings.seed, "torch", method.step, rank).integers(2**62)))
                changed = augment(
                    images.to(device, non_blocking=True),
                    settings.augment,
                    stream(settings.seed, "augmentation", method.step),
                    total=whole,
                    first=first,
                )
                index = torch.from_numpy(indices)
                batch = Batch(image=changed, index=index.to(device))
                batch.update(
                    {key: value[index].to(device) for key, value in tensors.items() if value is not None}
                )
                loss = learner(batch)
                # Processes average their gradients; parts may differ in size by one scene.
                accelerator.backward(loss * (len(indices) * world / whole))
                if settings.clip_norm is not None:
                    accelerator.clip_grad_norm_(learner.parameters(), settings.clip_norm)
                optimizer.step()
                optimizer.zero_grad()
                method.after_step(model)
                total_loss += loss.detach() * (len(indices) / len(rows))
                bar.step()
            total_loss = accelerator.reduce(total_loss, reduction="sum")
            _make_processes_agree(accelerator, model, method, owned)
            seconds = time.perf_counter() - started
            record: dict[str, Any] = {
                "epoch": epoch,
                "step": method.step + 1,
                "train_loss": float(total_loss),
                "learning_rate": rate,
                "seconds": round(seconds, 3),
                "scenes_per_second": round(len(rows) / seconds, 1),
            }
            if not math.isfinite(record["train_loss"]):
                raise RunError(
                    f"The loss became {record['train_loss']} in epoch {epoch}. Lower the learning rate "
                    f"(now {settings.learning_rate:g}) or set clip_norm; the checkpoint of the epoch before is in {folder}."
                )
            history.append(record)
            back_to = method.after_epoch(epoch, history)
            kept = accelerator.unwrap_model(method.deployed(model))
            if validate is not None:
                record["validation_score"] = score = validate(kept)
                if state["best"] is None or score > state["best"]:
                    state["best"], state["best_epoch"] = score, epoch
                    if accelerator.is_main_process:
                        write_tensors(folder / "best.safetensors", kept.state_dict(), {"epoch": epoch})
            if on_epoch is not None:
                on_epoch(method, kept, record)
            state["epoch"] = epoch + 1
            if accelerator.is_main_process:
                if method.rolls_back:
                    checkpoint.save(folder / "epochs" / f"{epoch}.safetensors")
                if back_to is not None:
                    _roll_back(checkpoint, folder, back_to)
                checkpoint.save(folder / "checkpoint.safetensors")
                append_line(folder / "progress.jsonl", json_line(record))
            accelerator.wait_for_everyone()
            if back_to is not None and not accelerator.is_main_process:
                _roll_back(checkpoint, folder, back_to)
            bar.epoch(record)
    kept = accelerator.unwrap_model(method.deployed(model))
    if validate is not None:
        best, _ = read_tensors(folder / "best.safetensors")
        load_module(kept, best, what="best.safetensors")
    kept.eval()
    return kept, history


def _epoch_order(scenes: int, steps: int, seed: int, epoch: int) -> list[Rows]:
    """Return the epoch's batches: every scene once, sizes that differ by at most one, so none is tiny."""
    return np.array_split(stream(seed, "order", epoch).permutation(scenes), steps)


def _prefetch(
    pool: ThreadPoolExecutor, read: ReadBatch, rows: Rows, order: list[Rows], world: int, rank: int
) -> Iterator[tuple[Rows, int, int, Tensor]]:
    """Yield this process's part of each batch (indices, whole batch size, position, images), one ahead."""
    parts = [np.array_split(batch, world) for batch in order]
    mine = [part[rank] for part in parts]
    coming = pool.submit(read, rows[mine[0]])
    for position, indices in enumerate(mine):
        images = coming.result()
        if position + 1 < len(mine):
            coming = pool.submit(read, rows[mine[position + 1]])
        yield indices, len(order[position]), sum(map(len, parts[position][:rank])), images


def _parameter_groups(model: nn.Module, method: Method, settings: Settings) -> list[dict[str, Any]]:
    """Group parameters by their learning-rate scale; biases and norms are not decayed."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    seen: set[int] = set()
    for parameter in [*model.parameters(), *method.parameters()]:
        if parameter.requires_grad and id(parameter) not in seen:
            seen.add(id(parameter))
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((float(getattr(parameter, "lr_scale", 1.0)), decay), []).append(parameter)
    return [
        {"params": parameters, "lr": settings.learning_rate, "weight_decay": decay, "lr_scale": scale}
        for (scale, decay), parameters in groups.items()
    ]


def _per_scene(labels: LabelTable, domain: npt.NDArray[np.int64] | None) -> list[tuple[str, Any]]:
    return [
        ("labels", labels.state),
        ("confidence", labels.confidence),
        ("source", labels.source),
        ("domain", domain),
    ]


def _make_processes_agree(
    accelerator: Accelerator, model: nn.Module, method: Method, owned: npt.NDArray[np.bool_]
) -> None:
    """Give every process the same memory of every scene, and the same running statistics."""
    if accelerator.num_processes == 1:
        return
    per_scene = set(method.per_scene)
    mine = torch.from_numpy(owned).to(accelerator.device)
    for name, buffer in method.named_buffers():
        if name in per_scene:
            # Each scene was on exactly one process, so the sum of the owned rows is the whole.
            own = torch.where(mine.view(-1, *[1] * (buffer.ndim - 1)), buffer, torch.zeros_like(buffer))
            buffer.copy_(accelerator.reduce(own, reduction="sum"))
        elif buffer.is_floating_point():
            buffer.copy_(accelerator.reduce(buffer, reduction="mean"))
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.copy_(accelerator.reduce(buffer, reduction="mean"))


def _roll_back(checkpoint: Checkpoint, folder: Path, epoch: int) -> None:
    """Bring model, method and optimiser back to an epoch's end; epoch count and history go on."""
    history, extra = list(checkpoint.history), dict(checkpoint.extra)
    method = cast(Method, checkpoint.method)
    decided = {name: method.get_buffer(name).clone() for name in method.survives_roll_back}
    checkpoint.restore(folder / "epochs" / f"{epoch}.safetensors")
    checkpoint.history[:] = history
    checkpoint.extra.clear()
    checkpoint.extra.update(extra)
    for name, value in decided.items():
        method.get_buffer(name).copy_(value)


def _out_of_patience(state: dict[str, Any], settings: Settings) -> bool:
    if settings.patience is None or state["best_epoch"] is None:
        return False
    return bool(state["epoch"] - 1 - state["best_epoch"] >= settings.patience)
