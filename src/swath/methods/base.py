"""The contract every method keeps: six moments, and all state in buffers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from swath.errors import MissingKeyError, UnknownNameError
from swath.labels import LabelTable
from swath.randomness import stream
from swath.registry import Registry

__all__ = ["METHODS", "Batch", "Method", "make_method", "register_method"]

METHODS: Registry[type[Method]] = Registry("method")
register_method = METHODS.register


class Batch(dict[str, Tensor]):
    """A batch of scenes: a plain dict with fixed keys; a missing key is an error that names it.

    Keys: ``image`` (B, bands, H, W) float32, ``labels`` (B, C) int8 states, ``index`` (B,) int64 row in the
    training label table, and where the data has them ``confidence``, ``source``, ``scores`` (B, C), ``votes``
    (B, sources, C), ``domain`` and ``context`` (B,), as in :class:`swath.labels.LabelTable`.
    """

    def __missing__(self, key: str) -> Tensor:
        """Raise with the keys there are."""
        raise MissingKeyError(f"The batch has no {key!r}; it has {', '.join(sorted(self)) or 'nothing'}.")


class Method(nn.Module):
    """How to learn from what the labels say.

    A method owns the loss and any state (averaged networks, memory per scene, trigger, weights). All of it lives
    in buffers and parameters, so it is saved, restored exactly and the same on several processes. They hold finite
    numbers: a NaN or an infinity is never stored, because in a checkpoint it means damage.

    The loop calls the moments in this order: ``start`` once; before each epoch ``draw_weights``; for each step ``loss``
    and ``after_step``; after each epoch ``after_epoch``; at the end ``deployed``. Parameters of the method are trained
    with the model's; a parameter with an attribute ``lr_scale`` gets the learning rate times that number.

    Attributes:
        exclusive: Whether the method is for single-label (True) or multi-label (False) tables; None: for both.
        needs: What the labels have to bring: any of ``sources`` (who said what), ``scores``, ``domain``, ``context``.
        per_scene: Names of buffers with one row per training scene. A process changes only rows of the scenes it
            is given; the loop makes them the same on every process at an epoch's end, before ``after_epoch``.
        survives_roll_back: Names of buffers that a roll-back leaves as they are, such as "the trigger has fired".
        seed: Set by the loop before ``start``.
        epoch: The running epoch, counted from 0, set by the loop.
        epochs: The planned number of epochs, set by the loop before ``start``.
        step: Optimiser steps done since the start, set by the loop before ``loss``.
    """

    exclusive: ClassVar[bool | None] = False
    needs: ClassVar[Sequence[str]] = ()
    per_scene: ClassVar[Sequence[str]] = ()
    survives_roll_back: ClassVar[Sequence[str]] = ()
    seed: int = 0
    epoch: int = 0
    epochs: int = 1
    step: int = 0

    @classmethod
    def refusal(cls, labels: LabelTable) -> str | None:
        """Return why the method is not for such labels, or None if it is."""
        if cls.exclusive is not None and cls.exclusive != labels.exclusive:
            return f"it is for {_kind(cls.exclusive)} classes, and these are {_kind(labels.exclusive)}"
        brought = {"sources": labels.votes is not None or labels.source is not None}
        brought |= {"scores": labels.scores is not None} | dict.fromkeys(labels.columns, True)
        missing = [name for name in cls.needs if not brought.get(name)]
        return f"it needs {' and '.join(_NEEDS[name] for name in missing)}" if missing else None

    @property
    def shows_scenes(self) -> bool:
        """Whether the first logits of a step, one row a scene, are those of its scenes: unmixed, nothing drawn in them.

        What records training dynamics needs that.
        """
        return True

    @property
    def rolls_back(self) -> bool:
        """Whether ``after_epoch`` may still return an epoch to go back to; the loop keeps epochs only while it may."""
        return False

    @property
    def earliest_return(self) -> int:
        """The first epoch that ``after_epoch`` may still return; it only grows, and older ones are not kept."""
        return 0

    def start(self, labels: LabelTable, model: nn.Module) -> None:
        """Size the state for these scenes, estimate priors, refuse labels that the method cannot use.

        Args:
            labels: What is known of the training scenes; row i belongs to batches with ``index`` i.
            model: The network, on its device.

        Raises:
            LabelError: The method cannot learn from these labels.
        """

    def draw_weights(self) -> Tensor | None:
        """Return how often each training scene is to come in the epoch that begins, or None: each once.

        As many scenes are drawn as there are, whatever the weights, so an epoch keeps its number of steps. The
        same scene can come several times, and not at all with a weight of 0. The weights have to follow
        from buffers and ``epoch`` alone, so that a resumed run draws the same scenes.

        Returns:
            (n,) numbers of 0 or more on any scale, or None.
        """
        return None

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return one step's loss, a scalar, the mean over the batch; may call the model more than once."""
        raise NotImplementedError

    def after_step(self, model: nn.Module) -> None:
        """Move averages after the optimiser's step."""

    def after_epoch(self, epoch: int, history: list[dict[str, Any]]) -> int | None:
        """Watch for the trigger, relabel, reweight.

        Args:
            epoch: The epoch that has ended, counted from 0.
            history: One record per ended epoch, as in ``progress.jsonl``; a method may add figures of its own to
                the last one.

        Returns:
            None, or (if ``rolls_back``) the epoch to whose end model, method and optimiser go back.
        """

    def deployed(self, model: nn.Module) -> nn.Module:
        """Return what the run keeps: the network, or its average."""
        return model

    def generator(self, purpose: str) -> np.random.Generator:
        """Return the random stream of this step for a purpose; the same again after a resume."""
        return stream(self.seed, f"method: {purpose}", self.step)

    def report(self) -> Mapping[str, Any]:
        """Return figures for the run's report, plain JSON values, such as the trigger's epoch and why it fired."""
        return {}


def make_method(name: str, options: Mapping[str, Any]) -> Method:
    """Make a registered method.

    Args:
        name: A registered name.
        options: Its arguments.

    Raises:
        UnknownNameError: There is no such method, or it has no such argument.
        InputError: An argument is out of its range.
    """
    kind = METHODS[name]
    known = inspect.signature(kind.__init__).parameters.keys() - {"self", "args", "kwargs"}
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of {name}", option, known)
    return kind(**options)


_NEEDS = {
    "sources": "to know who gave each label (a column `source`, or `<class>.source`)",
    "scores": "another model's scores (columns `<class>.score`)",
    "domain": "each scene's domain (a column `domain`, or the one named by --domain-column)",
    "context": "each scene's own class (a column `context`, or the one named by --context-column)",
}


def _kind(exclusive: bool) -> str:
    return "single-label (exclusive)" if exclusive else "multi-label"
