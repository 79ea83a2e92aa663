"""What a training shows of each scene, epoch by epoch, at nine bytes a scene and epoch.

The probabilities are those of the training pass itself, on the augmented scene, before the step that learns from it: no
scene goes through the network a second time.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from swath.errors import InputError, RunError
from swath.labels import LabelTable, is_known, is_present
from swath.methods import Batch, Method
from swath.methods.wrapper import Wrapper
from swath.training.checkpoint import read_tensors, write_tensors

__all__ = ["Dynamics", "Recorded", "check_recordable", "has_dynamics", "load_dynamics", "measure"]

FILE = "dynamics.safetensors"
_EPOCHS = "dynamics"  # the folder of single epochs, while the training runs
Probability = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Dynamics:
    """What was recorded of each training scene in each epoch; NaN where an epoch did not draw the scene.

    For classes that exclude each other the probabilities p are a softmax, and what asks for a label is NaN where the
    class is unknown. Otherwise each class is a question of its own, and every figure is about the classes that are
    *known* of the scene, NaN where none is. What stands under an unknown label changes nothing.

    Args:
        difference: (scenes, epochs) float16, TDDS's ``|sum_c p_c (log p_c - log p'_c)|``, p' from the epoch before;
            NaN also if that one did not draw the scene. Multi-label: the mean over known classes of the same for yes
            and no.
        el2n: Distance of the probabilities from the label, ``||p - y||``. Multi-label: the root of the mean square.
        margin: Probability of the label minus the largest other one. Multi-label: the mean of p(label) - p(other).
        entropy: Of the prediction, in nats. Multi-label: the mean.
        correct: (scenes, epochs) int8, 1 where the most probable class is the label (multi-label: all known labels are
            on their side of 0.5), 0 where not, -1 where nobody knows.

    Source:
        TDDS (arXiv 2311.13613), EL2N (2107.07075), AUM (2001.10528; here of probabilities, as in CCS, 2210.15809),
        forgetting (1812.05159). What they mean for several labels a scene is our choice.
    """

    difference: npt.NDArray[np.float16]
    el2n: npt.NDArray[np.float16]
    margin: npt.NDArray[np.float16]
    entropy: npt.NDArray[np.float16]
    correct: npt.NDArray[np.int8]

    def __post_init__(self) -> None:
        """Check that all are of the same scenes and epochs."""
        shapes = {field.name: getattr(self, field.name).shape for field in dataclasses.fields(self)}
        if len(set(shapes.values())) > 1 or len(self.correct.shape) != 2:
            raise InputError(
                f"Training dynamics have shapes {shapes}; expected (scenes, epochs), the same for all."
            )

    @property
    def epochs(self) -> int:
        """How many epochs were recorded."""
        return int(self.correct.shape[1])

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.correct)


def measure(
    probability: Probability,
    before: Probability,
    labels: LabelTable,
    drawn: npt.NDArray[np.bool_],
    drawn_before: npt.NDArray[np.bool_],
) -> Dynamics:
    """Return what one epoch shows, (scenes, 1); see :class:`Dynamics` for the formulas.

    Args:
        probability: (scenes, classes) of this epoch, softmax or sigmoid.
        before: The same of the epoch before.
        labels: What is known of the scenes.
        drawn: (scenes,) which this epoch drew.
        drawn_before: Which the epoch before drew.

    Example:
        >>> labels = LabelTable.from_class_index(("water", "forest"), [0, -1])
        >>> now, both = np.array([[0.7, 0.3], [0.5, 0.5]], np.float32), np.ones(2, bool)
        >>> shown = measure(now, now, labels, both, ~both)
        >>> shown.margin.astype(float).round(2).tolist(), shown.correct.tolist()
        ([[0.4], [nan]], [[1], [-1]])
    """
    p, q = probability.astype(np.float64), before.astype(np.float64)
    single = labels.exclusive
    known, present = is_known(labels.state), is_present(labels.state)
    answered = present.any(axis=1) if single else known.any(axis=1)
    count = np.maximum(known.sum(axis=1), 1)

    def mean(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(np.where(known, values, 0).sum(axis=1) / count)

    if single:
        difference = np.abs(_divergence(p, q).sum(axis=1))
        entropy = _surprise(p).sum(axis=1)
        el2n = np.sqrt(((p - present) ** 2).sum(axis=1))
        own = np.where(present, p, -np.inf).max(axis=1)
        margin = own - np.where(present, -np.inf, p).max(axis=1, initial=0)
        correct = present[np.arange(len(p)), p.argmax(axis=1)]
    else:
        difference = mean(np.abs(_divergence(p, q) + _divergence(1 - p, 1 - q)))
        entropy = mean(_surprise(p) + _surprise(1 - p))
        el2n = np.sqrt(mean((p - present) ** 2))
        margin = mean((2 * p - 1) * np.where(present, 1, -1))
        correct = (((p >= 0.5) == present) | ~known).all(axis=1)
    asked = drawn & answered
    # The entropy and the change of a softmax need no label.
    looked = drawn if single else asked

    def column(values: npt.NDArray[Any], where: npt.NDArray[np.bool_]) -> npt.NDArray[np.float16]:
        return np.where(where, values, np.nan).astype(np.float16)[:, None]

    return Dynamics(
        column(difference, looked & drawn_before),
        column(np.where(asked, el2n, 0), asked),
        column(np.where(asked, margin, 0), asked),
        column(entropy, looked),
        np.where(asked, correct, -1).astype(np.int8)[:, None],
    )


_TINY = 1e-8  # added inside the logarithms, as in TDDS's released code


def _divergence(p: npt.NDArray[Any], q: npt.NDArray[Any]) -> npt.NDArray[Any]:
    terms: npt.NDArray[Any] = p * (np.log(p + _TINY) - np.log(q + _TINY))
    return terms


def _surprise(p: npt.NDArray[Any]) -> npt.NDArray[Any]:
    terms: npt.NDArray[Any] = -p * np.log(np.where(p > 0, p, 1))
    return terms


def check_recordable(method: Method, name: str) -> None:
    """Refuse a method whose training pass does not show the scenes as they are.

    Raises:
        InputError: It mixes scenes or draws features at random.
    """
    if not method.shows_scenes:
        raise InputError(
            f"{name}, with these options, never has the plain probabilities of its scenes in a training step, so there "
            f"are no training dynamics to record. Record them with another method, such as cross-entropy or all-known."
        )


class Recorded(Wrapper):
    """Passes every moment on to a method, and keeps the probabilities that its network gives on the way.

    Probabilities and "drawn" are buffers with a row for each scene: they are in the checkpoint, so that a resumed
    training records the same numbers, and the loop makes them the same on several processes.

    Args:
        base: The method, ready to start.
    """

    exclusive: ClassVar[bool | None] = None
    own_per_scene: ClassVar[Sequence[str]] = ("probability", "before", "drawn", "drawn_before")
    probability: Tensor
    before: Tensor
    drawn: Tensor
    drawn_before: Tensor

    def __init__(self, base: Method) -> None:
        super().__init__(None, None)
        self.base = base
        self.shown: Dynamics | None = None

    def start(self, labels: LabelTable, model: nn.Module) -> None:
        """Start the method, then make room for every scene."""
        super().start(labels, model)
        self._labels = labels
        shape = labels.state.shape
        for name in ("probability", "before"):
            self.register_buffer(name, torch.zeros(shape))
        for name in ("drawn", "drawn_before"):
            self.register_buffer(name, torch.zeros(len(labels), dtype=torch.bool))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the method's loss, and note the first logits of the network that have a row for each scene.

        Raises:
            RunError: The method asked the network for no such logits.
        """
        caught: list[Tensor] = []
        shape = (len(batch["index"]), self.probability.shape[1])

        def catch(module: nn.Module, given: Any, logits: Any) -> None:
            if not caught and isinstance(logits, Tensor) and logits.shape == shape:
                caught.append(logits.detach())

        # Some methods call the encoder and the head themselves.
        watched = [model, head] if isinstance(head := getattr(model, "head", None), nn.Module) else [model]
        hooks = [module.register_forward_hook(catch) for module in watched]
        try:
            loss = super().loss(model, batch)
        finally:
            for hook in hooks:
                hook.remove()
        if not caught:
            raise RunError(
                f"{type(self.base).__name__} asked the network for no logits with one row for each scene, so training "
                f"dynamics cannot be recorded. Train without --record-dynamics."
            )
        logits = caught[0].float()
        self.probability[batch["index"]] = (
            logits.softmax(dim=1) if self._labels.exclusive else logits.sigmoid()
        )
        self.drawn[batch["index"]] = True
        return loss

    def after_epoch(self, epoch: int, history: list[dict[str, Any]]) -> int | None:
        """Measure what the epoch showed; its probabilities become those of the epoch before."""
        parts = [
            getattr(self, name).cpu().numpy() for name in ("probability", "before", "drawn", "drawn_before")
        ]
        self.shown = measure(parts[0], parts[1], self._labels, parts[2], parts[3])
        self.before.copy_(self.probability)
        self.drawn_before.copy_(self.drawn)
        self.drawn.zero_()
        return super().after_epoch(epoch, history)

    def keep(self, folder: Path, epoch: int) -> None:
        """Write what the epoch that has just ended showed; written again after a resume, it is the same."""
        if self.shown is not None:
            _write(folder / _EPOCHS / f"{epoch}.safetensors", self.shown)

    @staticmethod
    def gather(folder: Path, epochs: int) -> None:
        """Bring the epochs of a finished training together in one file of the run."""
        if (folder / _EPOCHS).is_dir():
            parts = [_read(folder / _EPOCHS / f"{epoch}.safetensors") for epoch in range(epochs)]
            whole = {
                field.name: np.concatenate([getattr(part, field.name) for part in parts], axis=1)
                for field in dataclasses.fields(Dynamics)
            }
            _write(folder / FILE, Dynamics(**whole))

    @staticmethod
    def clear(folder: Path) -> None:
        """Remove the files of single epochs, once the run has the whole."""
        shutil.rmtree(folder / _EPOCHS, ignore_errors=True)


def has_dynamics(folder: Path) -> bool:
    """Return whether the run in that folder recorded its dynamics."""
    return (folder / FILE).is_file()


def load_dynamics(folder: Path) -> Dynamics:
    """Read what a run recorded.

    Args:
        folder: The run's folder.

    Raises:
        RunError: The run recorded nothing, or the file is damaged.
    """
    if not has_dynamics(folder):
        raise RunError(
            f"{folder} has no training dynamics. Record them: swath train DATA --record-dynamics --out RUN"
        )
    try:
        return _read(folder / FILE)
    except RunError as error:
        raise RunError(
            f"{error} Train again with --record-dynamics; or remove the file, which only what works on dynamics needs."
        ) from error


def _write(path: Path, shown: Dynamics) -> None:
    tensors = {
        field.name: torch.from_numpy(np.ascontiguousarray(getattr(shown, field.name)))
        for field in dataclasses.fields(Dynamics)
    }
    write_tensors(path, tensors, {"scenes": len(shown), "epochs": shown.epochs})


def _read(path: Path) -> Dynamics:
    tensors, _ = read_tensors(path)
    kinds = {field.name: torch.float16 for field in dataclasses.fields(Dynamics)} | {"correct": torch.int8}
    found = {name: (value.dtype, value.ndim) for name, value in tensors.items()}
    if found != {name: (kind, 2) for name, kind in kinds.items()}:
        raise RunError(f"{path} holds {found}; expected the training dynamics that `swath train` wrote.")
    return Dynamics(**{name: value.numpy() for name, value in tensors.items()})
