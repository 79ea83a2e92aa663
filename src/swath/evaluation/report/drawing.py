"""How a figure gets onto the page: one look, drawn as SVG, inside the page, with words for who cannot see."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = [
    "DARK",
    "LIGHT",
    "MIDDLE",
    "MOST_CLASSES",
    "Picture",
    "draw",
    "name_points",
    "shortened",
    "shown_classes",
]

DARK, MIDDLE, LIGHT = "#12395b", "#d9822b", "#c9dcec"
"""Three colours that stay apart in greyscale too (about 20, 60 and 85 % bright)."""

MOST_CLASSES = 40
"""A figure with more classes than this shows the first and the last ones only; the tables have all."""

WIDTH_INCHES = 4.5  # 430 px: a phone shows it at nearly full size, so that its letters stay readable

_LOOK: dict[Any, Any] = {
    "figure.facecolor": "white",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "hatch.color": "#555555",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",  # letters stay letters: small files, any script
    "svg.hashsalt": "swath",  # the same data give the same file
    "text.parse_math": False,  # a class may be called "$x$"
}


@dataclass(frozen=True)
class Picture:
    """A figure as the page needs it."""

    source: str
    alt: str
    caption: str
    wide: bool = False


def draw(
    paint: Callable[[Figure], None],
    *,
    height: float,
    alt: str,
    caption: str,
    width: float = WIDTH_INCHES,
) -> Picture:
    """Draw a figure without touching matplotlib's global state.

    Args:
        paint: Fills an empty figure.
        height: Height in inches.
        alt: What the figure shows, in words.
        caption: How to read it.
        width: Width in inches.

    Returns:
        The figure as an SVG inside a data URI.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(_LOOK), warnings.catch_warnings():
        # The browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    source = "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(source, alt, caption, wide=width > WIDTH_INCHES)


def shortened(name: str, length: int = 22) -> str:
    """Return a class name that fits beside a figure, on one line."""
    name = " ".join(name.split())
    return name if len(name) <= length else name[: length - 1] + "…"


def shown_classes(order: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], str]:
    """Return the classes a figure shows, and the words that say so if these are not all.

    Args:
        order: (classes,) positions in the order of the figure.

    Returns:
        At most :data:`MOST_CLASSES` positions, and a sentence or nothing.
    """
    positions = np.asarray(order, np.int64)
    if len(positions) <= MOST_CLASSES:
        return positions, ""
    half = MOST_CLASSES // 2
    note = f" Of {len(positions)} classes the first and the last {half} are shown; the table has all."
    return np.concatenate([positions[:half], positions[-half:]]), note


def name_points(
    axes: Axes, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], names: Sequence[str]
) -> None:
    """Write names beside points where they do not cover each other; a name without room is left out.

    Args:
        axes: Axes whose limits are final.
        x: (points,) in data units.
        y: (points,) in data units.
        names: One for each point, the most important first.
    """
    figure = axes.figure
    pixels_per_point = figure.dpi / 72
    spots = axes.transData.transform(np.column_stack([x, y]))
    frame = axes.get_window_extent()
    taken = [(px - 3, py - 3, px + 3, py + 3) for px, py in spots]
    for (px, py), name in zip(spots, names, strict=True):
        width, height = 5.2 * len(name) * pixels_per_point, 9 * pixels_per_point
        for dx, dy in ((5, 0), (-5, 0), (0, 8), (0, -8), (5, 8), (-5, 8), (5, -8), (-5, -8)):
            left = px + dx * pixels_per_point - (width if dx < 0 else width / 2 if dx == 0 else 0)
            low = py + dy * pixels_per_point - height / 2
            box = (left, low, left + width, low + height)
            inside = frame.x0 <= box[0] and box[2] <= frame.x1 and frame.y0 <= box[1] and box[3] <= frame.y1
            if inside and not any(_overlap(box, other) for other in taken):
                side = "right" if dx < 0 else "center" if dx == 0 else "left"
                spot = (px + dx * pixels_per_point, py + dy * pixels_per_point)
                x_data, y_data = axes.transData.inverted().transform(spot)
                axes.annotate(name, (x_data, y_data), ha=side, va="center", fontsize=8)
                taken.append(box)
                break


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
