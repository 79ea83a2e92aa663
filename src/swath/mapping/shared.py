"""Windows that overlap computed once: their logits are means over maps that the convolutions gave for a whole block.

Convolutions do not know of windows. Run over a block of the scene they give at each place what they would give inside
a window there, except near the window's border, where they see the ground beyond it instead of the network's padding.
That makes it an approximation of windows one by one.

Each place of the maps is computed with all the ground that it depends on, so that the map is that of the whole scene
put through the network at once, and does not show where blocks end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from swath.encoders import SceneModel
from swath.errors import InputError

__all__ = ["SharedFeatures", "pool_windows"]

FARTHEST: Final = 512
"""Pixels around a place beyond which its feature map may not depend on anything."""

BLOCK: Final = 1024
"""Pixels along the side of the windows of one block. It is no option, so that no byte of the map depends on it."""

PART: Final = 384
"""Pixels along the side of what goes through the network at a time, without context; larger leaves the cache."""


@dataclass(frozen=True)
class SharedFeatures:
    """What sharing needs to know of a model.

    Args:
        stride: Pixels from place to place of the feature maps.
        context: Pixels on each side of a place that it depends on, a multiple of ``stride``.
        size: Height and width of the model's windows in pixels.
        encoder: The encoder's name.

    Example:
        >>> from swath.encoders import build_model
        >>> SharedFeatures.of(build_model("scene_mixer", ("red", "green", "blue"), ("water",)))
        SharedFeatures(stride=4, context=32, size=64, encoder='scene_mixer')
    """

    stride: int
    context: int
    size: int
    encoder: str

    @classmethod
    def of(cls, model: SceneModel) -> SharedFeatures:
        """Find out how far the model's feature maps look, by trying it.

        Args:
            model: It is put into evaluation mode.

        Raises:
            InputError: The encoder has no feature maps, or each place depends on the whole image.
        """
        model.eval()
        advice = "Map without --shared-features."
        if not hasattr(model.encoder, "feature_maps"):
            raise InputError(
                f"--shared-features needs an encoder that ends in a global average pool over feature maps, and "
                f"{model.name!r} does not. {advice}"
            )
        found = None
        try:
            with torch.inference_mode():
                found = _probe(model)
        except (RuntimeError, AssertionError, ValueError) as error:
            raise InputError(
                f"--shared-features needs an encoder for images of any size, and {model.name!r} fails on a large one: "
                f"{error}. {advice}"
            ) from error
        if found is None:
            raise InputError(
                f"--shared-features needs feature maps that depend on the ground nearby, and those of {model.name!r} "
                f"depend on the whole image, on the place in it, or on ground more than {FARTHEST} px away (squeeze "
                f"and excitation, group normalisation and position embeddings do, and very deep networks). {advice}"
            )
        return cls(*found, model.size, model.name)

    def check(self, stride: int) -> None:
        """Refuse a distance of windows that does not fall on the feature maps' places.

        Raises:
            InputError: It does not; the message lists those that do.
        """
        if stride % self.stride:
            fitting = ", ".join(map(str, range(self.stride, self.size + 1, self.stride)))
            raise InputError(
                f"stride is {stride}; with --shared-features windows start where the feature maps of {self.encoder!r} "
                f"have a place, every {self.stride} px. "
                + (f"Strides that fit: {fitting}." if fitting else f"None fits windows of {self.size} px.")
            )

    def block_pixels(self, largest: int) -> int:
        """Return the pixels along the side of a block's windows.

        Args:
            largest: Most pixels along a side that may be read at a time, context included.
        """
        return max(self.size, min(BLOCK, largest - 2 * self.context))

    @property
    def part_pixels(self) -> int:
        """Pixels along the side of what goes through the network at a time, without context."""
        # With much context, large enough that most of what is computed is used.
        return max(1, max(PART, 4 * self.context) // self.stride) * self.stride


def pool_windows(
    model: SceneModel,
    image: npt.NDArray[np.float32],
    tops: npt.NDArray[np.int64],
    lefts: npt.NDArray[np.int64],
    known: SharedFeatures,
) -> Tensor:
    """Return the logits of windows as means over the maps of a block.

    A window that begins between two places (the last one of a scene, moved back to its border) takes the part of them
    that it covers.

    Args:
        model: In evaluation mode.
        image: (height, width, bands) normalised pixels of the block with its context around, sides multiples of the
            feature maps' stride.
        tops: First row of each row of windows.
        lefts: First column of each column of windows.
        known: What is known of the model.

    Returns:
        (classes, rows, columns) float64.
    """
    maps = _logit_maps(model, image, known)
    down = _shares(tops - known.context, known, maps.shape[1])
    across = _shares(lefts - known.context, known, maps.shape[2])
    return torch.from_numpy(down @ maps @ across.T)


def _logit_maps(
    model: SceneModel, image: npt.NDArray[np.float32], known: SharedFeatures
) -> npt.NDArray[np.float64]:
    """Return (classes, rows, columns) of a block without its context, computed part by part."""
    context, stride, part = known.context, known.stride, known.part_pixels
    height, width = (side - 2 * context for side in image.shape[:2])
    maps = np.empty((len(model.contract.classes), height // stride, width // stride))
    device = next(model.parameters()).device
    inner = slice(context // stride, -(context // stride) or None)
    with torch.inference_mode():
        for top in range(0, height, part):
            for left in range(0, width, part):
                seen = image[top : top + part + 2 * context, left : left + part + 2 * context]
                images = torch.from_numpy(np.ascontiguousarray(seen)).permute(2, 0, 1)[None]
                found = model.logit_maps(images.to(device))[0, :, inner, inner]
                row, column = top // stride, left // stride
                maps[:, row : row + found.shape[1], column : column + found.shape[2]] = found.cpu().numpy()
    return maps


def _shares(starts: npt.NDArray[np.int64], known: SharedFeatures, places: int) -> npt.NDArray[np.float64]:
    """Return (windows, places): the share that each place has in each window's mean, along one axis."""
    first = np.arange(places) * known.stride
    ends = np.minimum(starts[:, None] + known.size, first + known.stride)
    overlap: npt.NDArray[np.int64] = np.clip(ends - np.maximum(starts[:, None], first), 0, None)
    return overlap / known.size


def _probe(model: SceneModel) -> tuple[int, int] | None:
    """Return stride and context of the feature maps, or None if they depend on too much."""
    bands, device = len(model.contract.names), next(model.parameters()).device

    def maps_of(images: Tensor) -> Tensor:
        maps: Tensor = model.encoder.feature_maps(images.to(device))  # type: ignore[operator]
        return maps.cpu()

    length = 3 * FARTHEST
    stride = round(length / maps_of(torch.zeros(1, bands, model.size, length)).shape[3])
    height, length = (-(-pixels // stride) * stride for pixels in (model.size, length))
    noise = torch.randn(1, bands, height, length, generator=torch.Generator().manual_seed(0))
    reach = 0
    for turned in (False, True):
        image = noise.mT if turned else noise
        along = _along(maps_of(image), turned)
        if along.shape[2:] != (height // stride, length // stride):
            return None
        # Half of the image is not a number, and so is every place that depends on any of it.
        middle = along.shape[3] // 2
        halves = noise.repeat(2, 1, 1, 1)
        halves[0, ..., : middle * stride] = torch.nan
        halves[1, ..., middle * stride :] = torch.nan
        touched = _along(maps_of(_along(halves, turned)), turned).isnan().any(dim=1).any(dim=1).sum(dim=1)
        reach = max(reach, int(touched[0]) - middle, int(touched[1]) - (along.shape[3] - middle))
        if reach * stride > FARTHEST:
            return None
        # A part of the image gives the same as all of it, wherever it lies in the network's input.
        part = slice((middle - reach - 2) * stride, (middle + reach + 2) * stride)
        alone = _along(maps_of(_along(noise[..., part], turned)), turned)
        expected = along[..., middle - 2 : middle + 2]
        if not torch.allclose(
            alone[..., reach : reach + 4], expected, rtol=0, atol=1e-4 * float(expected.abs().max())
        ):
            return None
    return stride, reach * stride


def _along(images: Tensor, turned: bool) -> Tensor:
    return images.mT if turned else images
