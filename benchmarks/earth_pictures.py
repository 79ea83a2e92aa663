"""Draw the pictures of the synthetic Earth in the documentation.

Run ``python benchmarks/earth_pictures.py docs/images``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import Patch

from swath.scenes.earth import SyntheticEarth

# In the order of the classes.
COLOURS = [
    "#2858c8",
    "#1e8c28",
    "#0a5032",
    "#e6d23c",
    "#a0c828",
    "#96dc82",
    "#966438",
    "#d22828",
    "#3c3c3c",
    "#faebaa",
    "#50b4b4",
]
QUALITY = {"quality": 84}


def composite(image: np.ndarray, bands: tuple[int, int, int], brightest: float) -> np.ndarray:
    """Return (height, width, 3) in [0, 1], brightened as the eye expects."""
    values = image[list(bands)].astype(np.float32) * np.float32(1e-4 / brightest)
    return np.clip(values, 0, 1).transpose(1, 2, 0) ** (1 / 1.6)


def true_colour(image: np.ndarray) -> np.ndarray:
    return composite(image, (2, 1, 0), 0.26)


def false_colour(image: np.ndarray) -> np.ndarray:
    return composite(image, (3, 2, 1), 0.5)


def draw_scene(path: Path) -> None:
    scene = SyntheticEarth.scene(400, 400, season="summer", seed=0, top=3000, left=5000)
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.6), layout="constrained")
    norm = BoundaryNorm(np.arange(len(COLOURS) + 1) - 0.5, len(COLOURS))
    axes[0].imshow(true_colour(scene.image))
    axes[1].imshow(false_colour(scene.image))
    axes[2].imshow(scene.land_cover, cmap=ListedColormap(COLOURS), norm=norm, interpolation="nearest")
    titles = ("true colour (B04, B03, B02)", "false colour (B08, B04, B03)", "truth")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title)
        axis.axis("off")
    handles = [
        Patch(color=colour, label=name) for colour, name in zip(COLOURS, scene.contract.classes, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=11, fontsize=8, frameon=False)
    figure.savefig(path, dpi=110, pil_kwargs=QUALITY)


def draw_patches(path: Path) -> None:
    earth = SyntheticEarth(scenes=2000, seed=0)
    images = earth.read_many(range(24))
    figure, axes = plt.subplots(3, 8, figsize=(12, 5.6), layout="constrained")
    for index, axis in enumerate(axes.flat):
        axis.imshow(true_colour(images[index]))
        present = [n for n, s in zip(earth.labels.classes, earth.labels.state[index], strict=True) if s == 1]
        lines = [", ".join(present[start : start + 2]) for start in range(0, len(present), 2)]
        axis.set_title(earth.columns["domain"][index], fontsize=8)
        axis.set_xlabel("\n".join(lines), fontsize=6)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(path, dpi=100, pil_kwargs=QUALITY)


def draw_seasons(path: Path) -> None:
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.3), layout="constrained")
    for axis, season in zip(axes, ("winter", "spring", "summer", "autumn"), strict=True):
        scene = SyntheticEarth.scene(256, 256, season=season, seed=0, top=3100, left=5150)
        axis.imshow(true_colour(scene.image))
        axis.set_title(season)
        axis.axis("off")
    figure.savefig(path, dpi=100, pil_kwargs=QUALITY)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    folder.mkdir(parents=True, exist_ok=True)
    draw_scene(folder / "earth-scene.jpg")
    draw_patches(folder / "earth-patches.jpg")
    draw_seasons(folder / "earth-seasons.jpg")
