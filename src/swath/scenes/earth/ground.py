"""What lies where: land cover, material and texture of every pixel of the synthetic Earth.

The ground is laid in layers: farmland in parcels, forest, settlements, water with its banks, ways. Each pixel
gets a land cover (the truth) and is a mixture of two materials with a brightness, which carries the texture:
rows, crowns, furrows, roofs, ripples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swath.scenes.earth.noise import Float, Window, World, mix_bits, unit
from swath.scenes.earth.parcels import Blocks, Parcels, find_blocks, split_block
from swath.scenes.earth.spectra import CLASSES, MATERIALS

__all__ = ["Ground", "survey"]

_CLASS = {name: number for number, name in enumerate(CLASSES)}
_TURN = np.float32(2 * np.pi)
_SPACING = 116  # mean distance between block centres, pixels
Mask = NDArray[np.bool_]


@dataclass
class Ground:
    """The ground in some windows; every array has shape (batch, height, width).

    Args:
        land_cover: Number of the class in ``CLASSES``, uint8.
        material: Main material.
        under: Second material, which shows between plants, rows and crowns.
        share: Share of the main material, in [0, 1].
        brightness: Factor on the reflectance.
        slope_east: Rise of the terrain towards the east, dimensionless.
        slope_south: Rise of the terrain towards the south, dimensionless.
    """

    land_cover: NDArray[np.uint8]
    material: NDArray[np.uint8]
    under: NDArray[np.uint8]
    share: Float
    brightness: Float
    slope_east: Float
    slope_south: Float

    def lay(
        self,
        where: Mask,
        land_cover: str | None,
        material: str | NDArray[np.uint8],
        under: str | NDArray[np.uint8],
        share: NDArray[np.floating[Any]] | float,
        brightness: NDArray[np.floating[Any]] | float,
    ) -> None:
        """Cover some pixels; ``land_cover`` None keeps what lies there as the truth."""
        if land_cover is not None:
            np.copyto(self.land_cover, np.uint8(_CLASS[land_cover]), where=where)
        for target, name in ((self.material, material), (self.under, under)):
            np.copyto(target, np.uint8(MATERIALS[name]) if isinstance(name, str) else name, where=where)
        np.copyto(self.share, share, where=where, casting="same_kind")
        np.copyto(self.brightness, brightness, where=where, casting="same_kind")


def _choose(number: Float, names: tuple[str, ...]) -> NDArray[np.uint8]:
    """Return one of some materials for numbers in [0, 1)."""
    table = np.array([MATERIALS[name] for name in names], np.uint8)
    return table[(number * np.float32(len(names))).astype(np.intp)]


def _distance_to_level(field: Float, level: float) -> Float:
    """Return the distance in pixels to a contour line of a field, positive where the field is lower."""
    south, east = np.gradient(field, axis=(1, 2))
    steepness = np.sqrt(south * south + east * east)
    distance: Float = (np.float32(level) - field) / np.maximum(steepness, np.float32(0.004))
    return distance


def survey(world: World, window: Window) -> Ground:
    """Return the ground in some windows.

    The outermost ring of pixels is less exact (its neighbours are not known); callers add a margin.

    Args:
        world: The planet.
        window: Where.
    """
    shape = (len(window.top), window.height, window.width)
    relief = world.octaves("relief", window, {256: 22.0, 64: 6.0, 16: 0.7})
    slope_south, slope_east = np.gradient(relief / np.float32(10), axis=(1, 2))
    fine = world.noise("fine", window, 2)
    medium = world.noise("medium", window, 4)
    coarse = world.noise("coarse", window, 16)
    # In steps of 1/8 pixel, so that distances are the same from every window.
    warp_east, warp_south = (
        np.round(np.clip(world.octaves(name, window, {32: 1.6, 8: 0.35}), -7, 7) * 8) / np.float32(8)
        for name in ("warp east", "warp south")
    )
    blocks = find_blocks(world, window, (warp_east, warp_south), _SPACING)
    parcels = split_block(blocks)
    ground = Ground(
        land_cover=np.zeros(shape, np.uint8),
        material=np.zeros(shape, np.uint8),
        under=np.zeros(shape, np.uint8),
        share=np.ones(shape, np.float32),
        brightness=np.ones(shape, np.float32),
        slope_east=slope_east,
        slope_south=slope_south,
    )
    _farmland(ground, world, window, blocks, parcels, fine, medium, coarse)
    _forest(ground, world, window, relief, fine, medium)
    town = world.octaves("town", window, {96: 0.9, 32: 0.35, 8: 0.08}) > 1.3
    _settlement(ground, blocks, town, fine, medium)
    water, shore = _water(ground, world, window, fine, medium, coarse)
    _ways(ground, world, window, blocks, town, water, shore, fine)
    return ground


def _farmland(
    ground: Ground,
    world: World,
    window: Window,
    blocks: Blocks,
    parcels: Parcels,
    fine: Float,
    medium: Float,
    coarse: Float,
) -> None:
    """Lay fields, meadows, orchards and ploughed land, each parcel its own."""
    everywhere = np.ones(fine.shape, bool)
    key = parcels.key
    # Neighbours tend to grow the same: most parcels follow their block.
    follows = unit(key, 0, 8) < 0.92
    kind = np.where(follows, unit(mix_bits(blocks.key ^ np.uint32(0x5BD1E995)), 6, 10), unit(key, 8, 10))
    tone = 0.84 + 0.32 * unit(key, 18, 8)
    stage = unit(mix_bits(key ^ np.uint32(0x27D4EB2F)), 3, 8)
    wear = 0.06 * coarse

    sward = _choose(stage, ("grass", "grass", "dry-grass"))
    share = np.clip(0.86 + 2 * wear - 0.12 * stage + 0.06 * medium, 0.3, 1)
    ground.lay(everywhere, "grass", sward, "soil-brown", share, tone * (1 + wear + 0.03 * fine))
    # Lone trees and bushes in meadows are grassland still.
    bush = (medium + 0.5 * fine > 2.3) & (stage > 0.4)
    ground.lay(bush, None, "broadleaf", "grass", 0.8, 0.85)

    period = 2.7 + 1.5 * unit(key, 22, 8)
    row = np.cos(parcels.across * (_TURN / period))
    crop = _choose(
        unit(mix_bits(key ^ np.uint32(0x165667B1)), 4, 10),
        ("winter-cereal", "maize", "rapeseed", "root-crop"),
    )
    share = np.clip(0.55 + 0.35 * stage + 2 * wear + 0.2 * row, 0.05, 1)
    soil = _choose(unit(blocks.key, 21, 8), ("soil-brown", "soil-dark", "soil-light"))
    ground.lay(kind < 0.41, "crop", crop, soil, share, tone + 0.02 * fine + 0.05 * row)

    bare = (kind >= 0.41) & (kind < 0.59)
    moist = np.clip(0.7 + 0.3 * coarse + 0.1 * fine, 0, 1)
    clods = tone * (1 + 0.05 * fine + 0.04 * medium)
    ground.lay(bare, "bare-soil", soil, "soil-dark", moist, clods)

    orchard = (kind >= 0.59) & (kind < 0.77)
    spacing = 3.6 + 1.2 * unit(key, 14, 6)
    tree = np.cos(parcels.across * (_TURN / spacing)) * 0.5 + np.cos(parcels.along * (_TURN / spacing)) * 0.5
    crown = np.clip(0.5 + 0.75 * tree + 0.05 * fine, 0, 1)
    floor = _choose(stage, ("grass", "dry-grass", "soil-brown"))
    ground.lay(orchard, "orchard", "orchard-tree", floor, crown, tone * (1 - 0.12 * tree))

    # Parcels end in a narrow unploughed strip.
    headland = (parcels.edge < 0.55) & (kind < 0.77)
    ground.lay(headland, None, "dry-grass", "soil-brown", 0.7, 0.95)


def _forest(ground: Ground, world: World, window: Window, relief: Float, fine: Float, medium: Float) -> None:
    """Lay forest with ragged edges."""
    density = world.octaves("forest", window, {128: 0.85, 40: 0.42, 8: 0.13, 4: 0.07})
    density += 0.008 * relief
    forest = density > 0.38
    species = world.octaves("species", window, {160: 0.95, 32: 0.28, 8: 0.13}) + 0.012 * relief
    crowns = 0.65 * medium + 0.6 * fine
    broadleaf = forest & (species <= 0.15)
    share = np.clip(0.92 + 0.12 * crowns, 0.3, 1)
    ground.lay(
        broadleaf,
        "broadleaf-forest",
        "broadleaf",
        "forest-floor",
        share,
        np.clip(1 + 0.2 * crowns, 0.4, 1.6),
    )
    conifer = forest & ~broadleaf
    share = np.clip(0.9 + 0.18 * fine, 0.3, 1)
    ground.lay(
        conifer,
        "conifer-forest",
        "conifer",
        "forest-floor",
        share,
        np.clip(1 + 0.34 * fine, 0.3, 1.8),
    )


def _settlement(ground: Ground, blocks: Blocks, town: Mask, fine: Float, medium: Float) -> None:
    """Lay gardens, streets and houses in towns, and farms along the ways."""
    key = blocks.key
    angle = unit(key, 3, 10) * np.float32(np.pi)
    cosine, sine = np.cos(angle), np.sin(angle)
    u = blocks.east * cosine + blocks.south * sine
    v = blocks.south * cosine - blocks.east * sine

    gardens = np.clip(0.75 + 0.15 * medium, 0, 1)
    ground.lay(town, "grass", "grass", "gravel", gardens, 1 + 0.08 * fine)
    tree = town & (medium + fine > 1.5)
    ground.lay(tree, None, "broadleaf", "grass", 0.85, 0.85)

    industry = unit(key, 24, 8) < 0.3
    lot = np.where(industry, np.float32(11), np.float32(6)) + np.float32(2) * unit(key, 13, 8)
    column, row = np.floor(u / lot), np.floor(v / lot)
    house = mix_bits(key + column.astype(np.int64).astype(np.uint32) * np.uint32(0x9E3779B1))
    house = mix_bits(house + row.astype(np.int64).astype(np.uint32) * np.uint32(0x85EBCA77))
    # Half sizes and middle of the house in its lot; streets run between every third row of lots.
    half_u = lot * (0.20 + 0.16 * unit(house, 0, 8))
    half_v = lot * (0.18 + 0.12 * unit(house, 8, 8))
    from_u = u - (column + 0.5) * lot - (unit(house, 16, 4) - 0.5) * 1.2
    from_v = v - (row + 0.5) * lot - (unit(house, 20, 4) - 0.5) * 0.8
    street_v = np.abs(v - np.round(v / (3 * lot)) * 3 * lot)
    street_u = np.abs(u - np.round(u / (7 * lot)) * 7 * lot)
    street = (np.minimum(street_v, street_u) < 0.75) & town
    ground.lay(street, "road", "asphalt", "gravel", 0.85, 1 + 0.05 * fine)

    farms = (
        (blocks.edge < 9)
        & (blocks.edge > 2)
        & (unit(mix_bits(house), 5, 8) < 0.10)
        & (unit(key, 26, 6) < 0.5)
    )
    built = (town & (unit(house, 24, 8) < 0.86)) | farms
    here = built & (np.abs(from_u) < half_u) & (np.abs(from_v) < half_v) & ~street
    # A house throws its shadow to the north, where the sun never stands.
    north_u, north_v = from_u + 1.3 * sine, from_v + 1.3 * cosine
    shadow = built & (np.abs(north_u) < half_u) & (np.abs(north_v) < half_v) & ~here
    np.multiply(ground.brightness, 0.6, out=ground.brightness, where=shadow)
    pick = unit(mix_bits(house ^ np.uint32(0x68E31DA4)), 3, 8)
    roof = np.where(
        industry, _choose(pick, ("metal", "slate", "slate")), _choose(pick, ("tile", "tile", "slate"))
    )
    sunny = np.where(from_v * cosine + from_u * sine > 0, np.float32(1.1), 0.85)
    ground.lay(
        here,
        "buildings",
        roof.astype(np.uint8),
        "asphalt",
        0.95,
        sunny * (0.85 + 0.3 * unit(house, 12, 8)),
    )


def _water(
    ground: Ground, world: World, window: Window, fine: Float, medium: Float, coarse: Float
) -> tuple[Mask, Float]:
    """Lay lakes and rivers with their beaches and wetlands; return where water is and how far it is."""
    basin = world.octaves("basin", window, {192: 0.9, 48: 0.42, 16: 0.08, 8: 0.03})
    lake = -_distance_to_level(basin, 1.42)
    course = world.octaves("course", window, {160: 1.0, 48: 0.22, 16: 0.03})
    flow = world.noise("flow", window, 256)
    half_width = np.clip(1.2 + 1.7 * flow, 0, 6)
    river = half_width - np.abs(_distance_to_level(course, 0.0))
    np.copyto(river, -99, where=half_width <= 0.6)
    depth = np.maximum(lake, river)

    bank = world.octaves("bank", window, {48: 0.9, 16: 0.5, 4: 0.1})
    marsh = (depth > np.minimum(2 + 9 * bank, 14) * -1) & (bank > 0.35)
    pools = np.clip(0.72 + 0.3 * medium + 0.2 * coarse, 0, 1)
    ground.lay(marsh, "wetland", "reed", "water-turbid", pools, 1 + 0.1 * fine)

    dunes = world.octaves("dunes", window, {64: 0.9, 24: 0.4, 8: 0.16, 4: 0.08}) > 1.95
    beach = ((lake > -1.5 + 2.5 * bank) & (bank < -0.3)) | dunes
    beach |= (river > -1.8) & (bank < -1.0)
    ripple = np.cos(
        (window.rows % 4096).astype(np.float32) * 0.9
        + (window.columns % 4096).astype(np.float32) * 0.7
        + 2.2 * coarse
        + medium
    )
    wet = np.clip(-depth / 3, 0, 1)
    ground.lay(beach, "sand", "sand-dry", "sand-wet", wet, 1 + 0.07 * ripple + 0.03 * fine)

    water = depth > 0
    clear = np.clip(depth / 6 + 0.15 * coarse, 0, 1)
    ground.lay(
        water,
        "water",
        "water-clear",
        "water-turbid",
        clear,
        1 + 0.06 * medium + 0.06 * fine,
    )
    return water, -depth


def _ways(
    ground: Ground,
    world: World,
    window: Window,
    blocks: Blocks,
    town: Mask,
    water: Mask,
    shore: Float,
    fine: Float,
) -> None:
    """Lay roads between blocks and trunk roads across everything; they bridge rivers, not lakes."""
    used = unit(blocks.border, 5, 8)
    chance = np.where(town, np.float32(0.9), np.float32(0.42))
    road = (blocks.edge < 0.75 + 0.35 * (used < 0.2)) & (used < chance) & ~water
    trunk_line = world.octaves("trunk", window, {256: 1.0, 128: 0.12})
    busy = world.noise("traffic", window, 256) > 0.55
    trunk = (np.abs(_distance_to_level(trunk_line, 0.0)) < 1.35) & busy & (shore > -8)
    surface = np.clip(np.float32(0.9) - np.float32(0.5) * (used < 0.1) * (~trunk), 0, 1)
    ground.lay(road | trunk, "road", "asphalt", "gravel", surface, 1 + 0.05 * fine)
