"""One loop for every method, on one or many devices, that goes on exactly where it was killed."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from swath.errors import InputError, RunError
from swath.labels import LabelTable
from swath.methods import Batch, Method
from swath.randomness import stream
from swath.scenes.augmentation import augment
from swath.training.keeper import Keeper
from swath.training.order import batches_of_epoch
from swath.training.processes import agree, floating_tensors, make_accelerator, same_for_all
from swath.training.progress import EpochBar
from swath.training.settings import Settings

__all__ = ["ReadBatch", "Rows", "fit", "make_accelerator"]

Rows = npt.NDArray[np.int64]
# Normalised images (len(rows), bands, H, W) float32 by row, a whole batch at a time.
ReadBatch = Callable[[Rows], Tensor]


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
    on_last: Callable[[nn.Module], None] | None = None,
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
        on_last: Called with the last epoch's network, before the best epoch's takes its place.

    Returns:
        The network to keep, on its device and in evaluation mode, and one record per epoch.

    Raises:
        InputError: There are too few scenes for the processes, or numbers of rows and labels differ.
        LabelError: The method cannot learn from these labels.
        RunError: The loss is no longer finite, or the checkpoint does not fit.
        OutputError: A checkpoint cannot be written; the older one is still there.

    Example:
        >>> import tempfile
        >>> from swath.encoders import build_model
        >>> from swath.methods import METHODS
        >>> images, labels = torch.rand(8, 3, 16, 16), LabelTable(("water",), np.ones((8, 1), np.int8))
        >>> model = build_model("scene_mixer", ("red", "green", "blue"), labels.classes, size=16)
        >>> _, history = fit(model, METHODS["assume-negative"](), lambda rows: images[rows], np.arange(8), labels,
        ...                  Settings(epochs=2, batch_size=4), Path(tempfile.mkdtemp()))
        >>> [record["epoch"] for record in history]
        [0, 1]
    """
    accelerator = accelerator or make_accelerator(settings.precision)
    _check_sizes(rows, labels, settings, accelerator.num_processes)
    method.seed, method.epochs = settings.seed, settings.epochs
    # Convolutions run up to twice as fast on CPU and GPU when channels lie beside each other.
    model.to(device=accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    method.start(labels, model)
    method.to(accelerator.device)
    epochs = _Epochs(accelerator, model, method, read, rows, labels, settings)
    keeper = Keeper(accelerator, model, method, epochs.optimizer, folder, _identity(rows, labels, settings))
    keeper.resume()
    history = keeper.history
    patience = math.inf if settings.patience is None else settings.patience
    cuda = [accelerator.device] if accelerator.device.type == "cuda" else []
    with (
        EpochBar(settings.epochs, epochs.steps, shown=accelerator.is_main_process) as bar,
        ThreadPoolExecutor(1) as pool,
        torch.random.fork_rng(cuda),
    ):
        while keeper.epoch < settings.epochs and keeper.epochs_without_gain() < patience:
            epoch = method.epoch = keeper.epoch
            record = epochs.run(epoch, pool, bar)
            _check_finite(record, model, method, settings, folder)
            history.append(record)
            returns = method.rolls_back
            back_to = method.after_epoch(epoch, history)
            kept = method.deployed(model)
            if validate is not None:
                record["validation_score"] = _score(validate, kept, accelerator)
                keeper.judge(epoch, record["validation_score"], kept)
            if on_epoch is not None:
                on_epoch(method, kept, record)
            keeper.close(epoch, returns=returns, back_to=back_to)
            bar.epoch(record)
    kept = method.deployed(model).eval()
    if on_last is not None:
        on_last(kept)
    if validate is not None:
        keeper.load_best(kept)
    return kept, history


class _Learner(nn.Module):
    """Model and method as one module, so that a method may use the model as often as it likes in one step."""

    def __init__(self, model: nn.Module, method: Method) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(self, batch: Batch) -> Tensor:
        return self.method.loss(self.model, batch)


class _Epochs:
    """The steps of an epoch, and what they have in common."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        method: Method,
        read: ReadBatch,
        rows: Rows,
        labels: LabelTable,
        settings: Settings,
    ) -> None:
        self._accelerator, self._model, self._method = accelerator, model, method
        self._read, self._rows, self._settings = read, rows, settings
        # Batches differ in size by at most one, and each process gets at least two scenes of each: batch
        # normalisation cannot work with one.
        fewest = 2 * accelerator.num_processes
        self.steps = max(1, min(math.ceil(len(rows) / settings.batch_size), len(rows) // fewest))
        optimizer = torch.optim.AdamW(_parameter_groups(model, method, settings), fused=True)
        self._scales = [group["lr_scale"] for group in optimizer.param_groups]
        with warnings.catch_warnings():
            # PyTorch renames broadcast_buffers; Accelerate knows only the old name.
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
            self._learner, self._stepper = accelerator.prepare(_Learner(model, method), optimizer)
        self.optimizer: torch.optim.Optimizer = getattr(self._stepper, "optimizer", optimizer)
        columns = {
            "labels": labels.state,
            "confidence": labels.confidence,
            "source": labels.source,
            "votes": labels.votes,
            "scores": labels.scores,
            **labels.columns,
        }
        self._columns = {
            name: torch.from_numpy(values) for name, values in columns.items() if values is not None
        }

    def run(self, epoch: int, pool: ThreadPoolExecutor, bar: EpochBar) -> dict[str, Any]:
        """Train for one epoch, bring the processes together, and return the epoch's record."""
        accelerator, method, settings = self._accelerator, self._method, self._settings
        scenes, rate = len(self._rows), 0.0
        self._learner.train()
        started, total_loss = time.perf_counter(), torch.zeros((), device=accelerator.device)
        owned = np.zeros(scenes, bool)
        for position, (indices, whole, first, images) in enumerate(self._batches(epoch, pool)):
            method.step = epoch * self.steps + position
            owned[indices] = True
            rate = settings.rate(method.step, self.steps)
            for group, scale in zip(self._stepper.param_groups, self._scales, strict=True):
                group["lr"] = rate * scale
            loss = self._learner(self._batch(indices, whole, first, images))
            # Processes average their gradients; parts may differ in size by one scene.
            accelerator.backward(loss * (len(indices) * accelerator.num_processes / whole))
            if settings.clip_norm is not None:
                accelerator.clip_grad_norm_(self._learner.parameters(), settings.clip_norm)
            self._stepper.step()
            self._stepper.zero_grad()
            method.after_step(self._model)
            total_loss += loss.detach() * (len(indices) / scenes)
            bar.step()
        total_loss = accelerator.reduce(total_loss, reduction="sum")
        agree(accelerator, self._model, method, owned)
        train_loss = float(total_loss)  # waits for the device, so before the clock is read
        seconds = time.perf_counter() - started
        return {
            "epoch": epoch,
            "step": method.step + 1,
            "train_loss": train_loss,
            "learning_rate": rate,
            "seconds": round(seconds, 3),
            "scenes_per_second": round(scenes / seconds, 1),
        }

    def _batch(self, indices: Rows, whole: int, first: int, images: Tensor) -> Batch:
        """Return this process's part of a step's batch, augmented, on the device."""
        device, seed, step = self._accelerator.device, self._settings.seed, self._method.step
        # Dropout and the like: the same numbers again after a resume, others on each process.
        rank = self._accelerator.process_index
        torch.manual_seed(int(stream(seed, "torch", step, rank).integers(2**62)))
        changed = augment(
            images.to(device, non_blocking=True),
            self._settings.augment,
            stream(seed, "augmentation", step),
            total=whole,
            first=first,
        )
        index = torch.from_numpy(indices)
        changed = changed.contiguous(memory_format=torch.channels_last)
        batch = Batch(image=changed, index=index.to(device))
        batch.update({name: values[index].to(device) for name, values in self._columns.items()})
        return batch

    def _batches(self, epoch: int, pool: ThreadPoolExecutor) -> Iterator[tuple[Rows, int, int, Tensor]]:
        """Yield this process's part of each batch (indices, whole batch size, position, images), one ahead."""
        world, rank = self._accelerator.num_processes, self._accelerator.process_index
        weights = self._method.draw_weights()
        if weights is not None:  # the first process decides: all have to draw the same scenes
            weights = same_for_all(self._accelerator, weights.detach().cpu().double()).cpu()
        drawn = batches_of_epoch(
            len(self._rows),
            self.steps,
            seed=self._settings.seed,
            epoch=epoch,
            weights=None if weights is None else weights.numpy(),
        )
        parts = [np.array_split(batch, world) for batch in drawn]
        coming = pool.submit(self._read, self._rows[parts[0][rank]])
        for position, part in enumerate(parts):
            images = coming.result()
            if position + 1 < self.steps:
                coming = pool.submit(self._read, self._rows[parts[position + 1][rank]])
            yield part[rank], sum(map(len, part)), sum(map(len, part[:rank])), images


def _check_sizes(rows: Rows, labels: LabelTable, settings: Settings, world: int) -> None:
    if len(rows) != len(labels):
        raise InputError(
            f"{len(rows)} rows were given with labels of {len(labels)} scenes; expected as many."
        )
    for name, value in (("training scenes", len(rows)), ("scenes in a batch", settings.batch_size)):
        if value < 2 * world:
            raise InputError(
                f"{value} {name} were given; expected at least {2 * world}, two for each of {world} process(es)."
            )


def _identity(rows: Rows, labels: LabelTable, settings: Settings) -> dict[str, Any]:
    """Return what has to be the same for a training to go on: its settings, scenes and labels."""
    scenes = hashlib.sha256()
    further = [labels.columns[name] for name in sorted(labels.columns)]
    for part in (rows, labels.state, labels.confidence, labels.source, labels.votes, labels.scores, *further):
        scenes.update(b"" if part is None else np.ascontiguousarray(part).tobytes())
    return {**dataclasses.asdict(settings), "scenes and labels": scenes.hexdigest()[:16]}


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


def _check_finite(
    record: dict[str, Any], model: nn.Module, method: Method, settings: Settings, folder: Path
) -> None:
    """Stop before numbers that are none reach a checkpoint."""
    broken = [] if math.isfinite(record["train_loss"]) else [f"the loss became {record['train_loss']}"]
    broken += [
        f"{name} holds NaN or infinity"
        for name, value in floating_tensors(model, method)
        if not bool(torch.isfinite(value).all())
    ]
    if broken:
        raise RunError(
            f"In epoch {record['epoch']} {broken[0]}. Lower the learning rate (now {settings.learning_rate:g}) or "
            f"set clip_norm; the checkpoint of the epoch before, if there was one, is in {folder}."
        )


def _score(validate: Callable[[nn.Module], float], kept: nn.Module, accelerator: Accelerator) -> float:
    # One process looks for all, so that all stop at the same epoch.
    found = torch.tensor(validate(kept) if accelerator.is_main_process else 0.0, dtype=torch.float64)
    score = float(same_for_all(accelerator, found))
    if not math.isfinite(score):
        raise RunError(
            f"The validation score is {score}, so no epoch can be chosen by it. Give more validation scenes, with "
            f"known labels of every kind, or train without validation."
        )
    return score
