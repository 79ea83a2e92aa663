"""A method that stands on another one: it changes which scenes come, or what the network is, and not the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from swath.errors import InputError, LabelError
from swath.labels import LabelTable
from swath.methods.base import Batch, Method, make_method

__all__ = ["Wrapper"]


class Wrapper(Method):
    """Passes every moment, and every name of a buffer, on to a base method.

    Attributes:
        own_per_scene: What the wrapper itself adds to ``per_scene``.
        own_survivors: What it adds to ``survives_roll_back``.

    Args:
        base: Registered name of the method that owns the loss; None takes ``cross-entropy`` where classes exclude each
            other, else ``assume-negative``.
        base_options: The base method's arguments.

    Raises:
        UnknownNameError: There is no such base method, or it has no such argument.
        InputError: Arguments were given for no base method.
    """

    exclusive: ClassVar[bool | None] = None
    own_per_scene: ClassVar[Sequence[str]] = ()
    own_survivors: ClassVar[Sequence[str]] = ()
    base: Method

    def __init__(self, base: str | None, base_options: Mapping[str, Any] | None) -> None:
        super().__init__()
        if base is None and base_options:
            raise InputError(
                f"{type(self).__name__} was given base_options without a base. Name the method they are for."
            )
        if base is not None:
            self.base = make_method(base, base_options or {})

    @property
    def per_scene(self) -> Sequence[str]:  # type: ignore[override]  # the base method's differ from run to run
        """Its own and the base method's."""
        return [*self.own_per_scene, *(f"base.{name}" for name in self.base.per_scene)]

    @property
    def survives_roll_back(self) -> Sequence[str]:  # type: ignore[override]
        """Its own and the base method's."""
        return [*self.own_survivors, *(f"base.{name}" for name in self.base.survives_roll_back)]

    @property
    def shows_scenes(self) -> bool:
        """Whether the base method's logits do; the one that is taken where none was named does."""
        return self.base.shows_scenes if hasattr(self, "base") else True

    @property
    def rolls_back(self) -> bool:
        """Whether the base method may still roll back."""
        return self._led().rolls_back

    @property
    def earliest_return(self) -> int:
        """The base method's."""
        return self._led().earliest_return

    def start(self, labels: LabelTable, model: nn.Module) -> None:
        """Let the base method start, if it can learn from these labels.

        Raises:
            LabelError: It cannot, or this method cannot.
        """
        if not hasattr(self, "base"):
            self.base = make_method("cross-entropy" if labels.exclusive else "assume-negative", {})
        base = self._led()
        for method in (self, base):
            reason = method.refusal(labels)
            if reason is not None:
                raise LabelError(f"{type(method).__name__} cannot learn from these labels: {reason}.")
        base.start(labels, model)

    def draw_weights(self) -> Tensor | None:
        """Return what the base method wants."""
        return self._led().draw_weights()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the base method's loss."""
        return self._led().loss(model, batch)

    def after_step(self, model: nn.Module) -> None:
        """Let the base method move its averages."""
        self._led().after_step(model)

    def after_epoch(self, epoch: int, history: list[dict[str, Any]]) -> int | None:
        """Let the base method look back on the epoch."""
        return self._led().after_epoch(epoch, history)

    def deployed(self, model: nn.Module) -> nn.Module:
        """Return what the base method keeps."""
        return self._led().deployed(model)

    def report(self) -> Mapping[str, Any]:
        """Return the base method's figures."""
        return self._led().report()

    def _led(self) -> Method:
        """Return the base method, which knows as much of the time as this one."""
        base = self.base
        base.seed, base.epoch, base.epochs, base.step = self.seed, self.epoch, self.epochs, self.step
        return base
