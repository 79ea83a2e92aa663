"""Augmentation as tensor operations on whole batches, with random numbers drawn on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from swath.errors import UnknownNameError

__all__ = ["AUGMENTATIONS", "augment", "check_augmentations"]

AUGMENTATIONS = ("flips", "turns", "shifts", "crops", "jitter")

LARGEST_SHIFT = 0.125  # of the width: our choice, as in 64 px scenes shifted by at most 8 px
SMALLEST_CROP = (
    0.6  # share of the area: our choice; smaller crops lose the small classes that labels speak of
)
JITTER = 0.1  # standard deviation of gain and offset in units of a band's own: our choice


def check_augmentations(names: Sequence[str]) -> None:
    """Raise if a name is not one of :data:`AUGMENTATIONS`."""
    for name in names:
        if name not in AUGMENTATIONS:
            raise UnknownNameError("augmentation", name, AUGMENTATIONS)


def augment(
    images: Tensor, names: Sequence[str], generator: np.random.Generator, *, total: int, first: int
) -> Tensor:
    """Return changed copies of a batch, each scene changed in its own way.

    Random numbers are drawn for the whole batch of all processes and each takes its part, so the number of
    processes does not change what happens to a scene.

    Args:
        images: (B, bands, H, W) normalised images, this process's part of the batch.
        names: Any of ``flips`` (both axes), ``turns`` (quarter turns; only square images), ``shifts`` (up to an
            eighth of the width, reflected at the border), ``crops`` (60 to 100 % of the area, scaled back),
            ``jitter`` (gain and offset for each band).
        generator: The step's random stream.
        total: Scenes in the batch over all processes.
        first: Position of this part in it.

    Returns:
        (B, bands, H, W), same number type.

    Example:
        >>> images = torch.arange(8.0).reshape(1, 2, 2, 2)
        >>> changed = augment(images, ["flips"], np.random.default_rng(0), total=1, first=0)
        >>> sorted(changed.flatten().tolist()) == sorted(images.flatten().tolist())
        True
    """
    part = slice(first, first + len(images))
    shape = (len(images), 1, 1, 1)

    def where(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values[part]).to(images.device).view(shape)

    if "flips" in names:
        images = torch.where(where(generator.random(total) < 0.5), images.flip(-1), images)
        images = torch.where(where(generator.random(total) < 0.5), images.flip(-2), images)
    if "turns" in names and images.shape[-1] == images.shape[-2]:
        # A half turn or not, then a quarter turn or not: all four; with the flips all eight symmetries.
        images = torch.where(where(generator.random(total) < 0.5), images.flip((-1, -2)), images)
        quarter = images.transpose(-1, -2).flip(-1)
        images = torch.where(where(generator.random(total) < 0.5), quarter, images)
    if "shifts" in names or "crops" in names:
        images = _resample(images, names, generator, total=total, part=part)
    if "jitter" in names:
        bands = images.shape[1]
        gain = 1 + JITTER * generator.standard_normal((total, bands, 1, 1), dtype=np.float32)
        offset = JITTER * generator.standard_normal((total, bands, 1, 1), dtype=np.float32)
        gain_part, offset_part = (torch.from_numpy(values[part]).to(images) for values in (gain, offset))
        images = images * gain_part + offset_part
    return images


def _resample(
    images: Tensor, names: Sequence[str], generator: np.random.Generator, *, total: int, part: slice
) -> Tensor:
    height, width = images.shape[-2:]
    affine = np.zeros((total, 2, 3), np.float32)
    scale = np.ones(total)
    if "crops" in names:
        scale = np.sqrt(generator.uniform(SMALLEST_CROP, 1, total))
    affine[:, 0, 0] = affine[:, 1, 1] = scale
    room = (1 - scale)[:, None] * generator.uniform(-1, 1, (total, 2))
    if "shifts" in names:
        # Whole pixels, so that a shift alone copies values.
        pixels = np.rint(generator.uniform(-LARGEST_SHIFT, LARGEST_SHIFT, (total, 2)) * [width, height])
        room = room + 2 * pixels / [width, height]
    affine[:, :, 2] = room
    grid = functional.affine_grid(
        torch.from_numpy(affine[part]).to(images.device), list(images.shape), align_corners=False
    )
    # Rounding leaves whole-pixel positions a hair beside the pixel, where interpolation would mix in a neighbour.
    mode = "bilinear" if "crops" in names else "nearest"
    return functional.grid_sample(
        images, grid.to(images.dtype), mode=mode, padding_mode="reflection", align_corners=False
    )
