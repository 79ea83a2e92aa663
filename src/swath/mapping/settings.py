"""What can be chosen about a map and changes its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swath.errors import InputError
from swath.mapping.shared import SharedFeatures

__all__ = ["MapSettings"]


@dataclass(frozen=True)
class MapSettings:
    """How windows are laid over a scene and put together. Everything here changes the map; nothing else does.

    Args:
        stride: Distance of neighbouring windows and edge of the map's cells, in pixels.
        blend: How windows that cover the same cell are weighed: ``flat`` all the same, ``hann`` those most whose
            centre is near.
        edges: What the last window of a row or column does: ``shift`` moves it back to the scene's border,
            ``reflect`` leaves it in step and mirrors the scene at its border. Scenes smaller than a window are
            always mirrored.
        min_valid: Share of a window's pixels that must be valid, in [0, 1]; at least one always has to be.
        threshold: Probability from which a class counts as present, where classes may hold together.
        shared: Of a model whose overlapping windows are to share feature maps; None to compute each by itself.

    Raises:
        InputError: A number is out of its range.
    """

    stride: int
    blend: Literal["flat", "hann"] = "hann"
    edges: Literal["shift", "reflect"] = "shift"
    min_valid: float = 0.5
    threshold: float = 0.5
    shared: SharedFeatures | None = None

    def __post_init__(self) -> None:
        """Check every value."""
        if self.stride < 1:
            raise InputError(
                f"stride is {self.stride}; expected the distance of windows in pixels, 1 or more."
            )
        for name, choices in (("blend", ("flat", "hann")), ("edges", ("shift", "reflect"))):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}.")
        for name in ("min_valid", "threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected a share between 0 and 1.")
