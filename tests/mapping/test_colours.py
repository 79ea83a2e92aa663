"""Classes are told apart by colours that say what they are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from swath.mapping.colours import class_colours

EUROSAT = [
    *("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial"),
    *("Pasture", "PermanentCrop", "Residential", "River", "SeaLake"),
]
UC_MERCED = [
    *(
        "airplane",
        "bare-soil",
        "buildings",
        "cars",
        "chaparral",
        "court",
        "dock",
        "field",
        "grass",
        "mobile-home",
    ),
    *("pavement", "sand", "sea", "ship", "tanks", "trees", "water"),
]


@pytest.mark.parametrize(
    "classes", [EUROSAT, UC_MERCED, [f"class {k}" for k in range(60)], ["forest"] * 12, ["", "水", "<b>"]]
)
def test_every_class_has_a_colour_of_its_own(classes: list[str]) -> None:
    pairs = itertools.combinations(np.array(class_colours(classes)), 2)
    assert min(np.linalg.norm(one - other) for one, other in pairs) >= 20


def test_even_as_many_classes_as_a_map_can_hold_differ() -> None:
    assert len(set(class_colours([f"class {k}" for k in range(255)]))) == 255


@pytest.mark.parametrize("name", ["River", "SeaLake", "open water", "WATER", "inland_water", "lakes"])
def test_water_is_blue(name: str) -> None:
    red, green, blue = class_colours([name, "x"])[0]
    assert blue > green > red


@pytest.mark.parametrize("name", ["Forest", "broadleaf-forest", "trees", "mangrove", "HerbaceousVegetation"])
def test_plants_are_green(name: str) -> None:
    red, green, blue = class_colours([name])[0]
    assert green > red
    assert green > blue


@pytest.mark.parametrize("name", ["street", "season", "office", "rail", "classroom"])
def test_words_that_only_hold_a_usual_one_are_not_taken_for_it(name: str) -> None:
    assert class_colours([name])[0] not in (class_colours(["tree"])[0], class_colours(["sea"])[0])


def test_a_class_keeps_its_usual_colour_whatever_else_there_is() -> None:
    alone = class_colours(["forest"])[0]
    assert class_colours(["x", "y", "forest", "z"])[2] == alone
    assert class_colours(["forest", "wood"])[0] == alone != class_colours(["forest", "wood"])[1]
