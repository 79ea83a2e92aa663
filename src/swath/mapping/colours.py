"""A colour for each class, the same in every product of a map."""

from __future__ import annotations

import colorsys
import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["class_colours"]

Colour = tuple[int, int, int]

# What land-cover maps agree on: water is blue, forest green. Beginnings of words; up to three letters the whole word.
_USUAL = {
    "1f78b4": "water sea lake ocean reservoir",
    "6baed6": "river stream canal",
    "1b7837": "forest wood woodland tree mangrove",
    "7fbf7b": "grass pasture meadow herbaceous rangeland",
    "9c9a3c": "shrub scrub chaparral heath moor",
    "edc948": "crop field agricultur farm arable cultivated orchard vineyard rice",
    "5ab4ac": "wetland marsh swamp bog peat",
    "d7301f": "residential building built urban artificial house home settlement",
    "8e5ea2": "industrial commercial factory",
    "636363": "road highway street pavement runway parking motorway rail",
    "d8b98a": "bare sand soil beach desert rock barren dune",
    "d6eef8": "snow ice glacier",
}
_WORDS = {word: colour for colour, words in _USUAL.items() for word in words.split()}
# For all others: Tableau's ten, which people with any colour vision can tell apart better than most.
_OTHERS = ("f28e2b", "b07aa1", "76b7b2", "ff9da7", "9c755f", "4e79a7", "e15759", "59a14f", "bab0ac", "edc948")
_APART = 40  # between two colours, as a distance in red, green and blue


def class_colours(classes: Sequence[str]) -> list[Colour]:
    """Return red, green and blue (0 to 255) of each class: the usual one if its name says what it is.

    Of two classes with the same usual colour the second gets another shade. Classes whose names say nothing get
    colours that no other class has.

    Args:
        classes: Their names, in any language; what is usual is known for English ones.

    Example:
        >>> class_colours(["SeaLake", "forest", "x"])
        [(31, 120, 180), (27, 120, 55), (242, 142, 43)]
    """
    return list(_class_colours(tuple(classes)))


@functools.lru_cache
def _class_colours(classes: tuple[str, ...]) -> tuple[Colour, ...]:
    usual = [_usual(name) for name in classes]
    found: dict[int, Colour] = {}
    # First those that have a colour of their own, whatever their place: no other class may take it away.
    for number in sorted(range(len(classes)), key=lambda number: (usual[number] is None, number)):
        wanted = usual[number]
        shades = [] if wanted is None else _shades(wanted)
        found[number] = _first_free(np.array([*shades, *_others()]), [*found.values()])
    return tuple(found[number] for number in range(len(classes)))


def _usual(name: str) -> str | None:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    for word in reversed([word.lower() for word in words]):  # the last word is what it is: "rice field"
        for known, colour in _WORDS.items():
            if word == known or (len(known) > 3 and word.startswith(known)):
                return colour
    return None


def _shades(text: str) -> list[Colour]:
    """Return a colour, and then darker and lighter ones."""
    base = np.array(_parts(text))
    ends = [(0, 0.0), (0, 0.3), (255, 0.45), (0, 0.5), (255, 0.7)]
    return [_colour(base + (end - base) * share) for end, share in ends]


@functools.cache
def _others() -> tuple[Colour, ...]:
    # Steps of the golden angle never come back to the same hue.
    turned = [
        colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.35 + 0.2 * (number % 4), 0.95 - 0.2 * (number % 3))
        for number in range(1000)
    ]
    return (*map(_parts, _OTHERS), *(_colour(255 * np.array(colour)) for colour in turned))


def _first_free(colours: npt.NDArray[np.int64], taken: list[Colour]) -> Colour:
    """Return the first of (n, 3) colours that is apart from all that are taken, or else the farthest from them."""
    if not taken:
        return _colour(colours[0])
    apart = np.linalg.norm(colours[:, None] - np.array(taken), axis=2).min(axis=1)
    return _colour(colours[int((apart >= _APART).argmax() if (apart >= _APART).any() else apart.argmax())])


def _parts(text: str) -> Colour:
    return int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)


def _colour(values: npt.NDArray[Any]) -> Colour:
    red, green, blue = (round(float(value)) for value in values)
    return red, green, blue
