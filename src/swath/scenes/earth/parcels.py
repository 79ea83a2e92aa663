"""How people divide the land: blocks between ways, and the parcels inside a block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swath.scenes.earth.noise import Float, Hash, Window, World, hash_lattice, mix_bits, unit

__all__ = ["Blocks", "Parcels", "find_blocks", "split_block"]

# Part of a block's lattice cell, from its edge, in which no block centre lies.
_CLEAR = 0.12
_REACH = 8  # borders are bent by less than this, pixels
# Squared distances in (1/8 pixel)^2 and a centre's number share 31 bits: enough for windows of 266 pixels.
_STEPS = 8
_NUMBER_BITS = 6
_NUMBER_MASK = np.int32((1 << _NUMBER_BITS) - 1)


@dataclass(frozen=True)
class Blocks:
    """Which block of land each pixel belongs to; every field has shape (batch, height, width).

    Args:
        key: Hash that names the block.
        east: Pixels east of the block's centre.
        south: Pixels south of the block's centre.
        edge: Distance to the border with the next block, in pixels.
        border: Hash that names that border, the same from both sides.
    """

    key: Hash
    east: Float
    south: Float
    edge: Float
    border: Hash


def find_blocks(world: World, window: Window, warp: tuple[Float, Float], spacing: int) -> Blocks:
    """Divide the land into blocks: the Voronoi cells of scattered centres, with bent borders.

    Args:
        world: The planet.
        window: Where.
        warp: How far borders are bent east and south, in pixels, in steps of 1/8 so that distances are exact.
        spacing: Mean distance between centres in pixels.
    """
    batch = len(window.top)
    first_row = (window.top - _REACH) // spacing - 1
    first_column = (window.left - _REACH) // spacing - 1
    rows = (first_row[:, None] + np.arange((window.height + 2 * _REACH) // spacing + 4))[:, :, None]
    columns = (first_column[:, None] + np.arange((window.width + 2 * _REACH) // spacing + 4))[:, None, :]
    keys = hash_lattice(rows, columns, world.salt("blocks"))
    inside, offset = spacing * (1 - 2 * _CLEAR), int(spacing * _CLEAR)
    south_of = (
        rows * spacing + offset + (unit(keys, 0, 12) * inside).astype(np.int64) - window.top[:, None, None]
    )
    east_of = (
        columns * spacing
        + offset
        + (unit(keys, 12, 12) * inside).astype(np.int64)
        - window.left[:, None, None]
    )
    near, south_of, east_of = _near_centres(south_of, east_of, window, spacing)
    keys = np.take_along_axis(keys.reshape(batch, -1), near, axis=1)

    x = np.arange(window.width, dtype=np.float32)[None, None, :] + warp[0]
    y = np.arange(window.height, dtype=np.float32)[None, :, None] + warp[1]
    fine_x, fine_y = (x * _STEPS).astype(np.int32), (y * _STEPS).astype(np.int32)
    # The squared distance with the centre's number in its low bits: one minimum finds both.
    nearest = np.full(x.shape, np.iinfo(np.int32).max, np.int32)
    second = nearest.copy()
    for candidate in range(near.shape[1]):
        coded = fine_x - east_of[:, candidate, None, None] * np.int32(_STEPS)
        coded *= coded
        south = fine_y - south_of[:, candidate, None, None] * np.int32(_STEPS)
        south *= south
        coded += south
        coded <<= _NUMBER_BITS
        coded |= candidate
        np.minimum(second, np.maximum(nearest, coded), out=second)
        np.minimum(nearest, coded, out=nearest)

    step = (np.arange(batch, dtype=np.int32) * near.shape[1])[:, None, None]
    which = (nearest & _NUMBER_MASK) + step
    runner_up = (second & _NUMBER_MASK) + step
    further = ((second >> _NUMBER_BITS) - (nearest >> _NUMBER_BITS)).astype(np.float32) / np.float32(
        _STEPS**2
    )
    flat_east, flat_south = east_of.ravel().astype(np.float32), south_of.ravel().astype(np.float32)
    here_east, here_south = flat_east.take(which), flat_south.take(which)
    between = np.hypot(here_east - flat_east.take(runner_up), here_south - flat_south.take(runner_up))
    here, there = keys.ravel().take(which), keys.ravel().take(runner_up)
    return Blocks(
        key=here,
        east=x - here_east,
        south=y - here_south,
        edge=further / (2 * np.maximum(between, 1)),
        border=mix_bits(here ^ there),
    )


def _near_centres(
    south_of: NDArray[np.int64], east_of: NDArray[np.int64], window: Window, spacing: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Return number, row and column of the centres that can be a pixel's nearest or second."""
    batch = len(window.top)
    south_of, east_of = south_of.reshape(batch, -1), east_of.reshape(batch, -1)
    outside_y = np.maximum(np.maximum(-_REACH - south_of, south_of - window.height - _REACH), 0)
    outside_x = np.maximum(np.maximum(-_REACH - east_of, east_of - window.width - _REACH), 0)
    away = outside_y**2 + outside_x**2
    # The centres are so evenly spread that a pixel's two nearest lie within 1.25 times their mean distance.
    count = int((away <= (1.25 * spacing) ** 2).sum(axis=1).max())
    # In the order of the lattice, so that equal distances are told apart in the same way from every window.
    near = np.sort(np.argsort(away, axis=1)[:, :count], axis=1)
    south_near, east_near = np.take_along_axis(south_of, near, 1), np.take_along_axis(east_of, near, 1)
    return near, south_near.astype(np.int32), east_near.astype(np.int32)


@dataclass(frozen=True)
class Parcels:
    """Which parcel of its block each pixel belongs to; every field has shape (batch, height, width).

    Args:
        key: Hash that names the parcel.
        along: Coordinate along the parcel's rows, in pixels.
        across: Coordinate across them.
        edge: Distance to the parcel's border in pixels.
    """

    key: Hash
    along: Float
    across: Float
    edge: Float


def _cut(position: Float, key: Hash, length: Float) -> tuple[NDArray[np.int64], Float]:
    """Cut a line into unequal pieces; return each position's piece and its distance to the next cut."""
    scaled = position / length
    cell = np.floor(scaled)
    share = scaled - cell
    number = cell.astype(np.int64)

    def cut_after(index: NDArray[np.int64]) -> Float:
        return unit(mix_bits(key + index.astype(np.uint32) * np.uint32(0x9E3779B1))) * np.float32(
            0.6
        ) + np.float32(0.2)

    # The cut of cell i lies at 0.2 to 0.8 of it; pieces run from one cell's cut to the next cell's.
    own = cut_after(number)
    before = share < own
    piece = number - before
    other = np.where(before, number - 1, number + 1)
    distance = np.minimum(np.abs(share - own), np.abs(share - (cut_after(other) + (other - number)))) * length
    return piece, distance.astype(np.float32)


def split_block(blocks: Blocks) -> Parcels:
    """Split each block into strips and the strips into parcels, turned the way the block lies."""
    key = blocks.key
    angle = unit(key, 3, 10) * np.float32(np.pi)
    cosine, sine = np.cos(angle), np.sin(angle)
    along = blocks.east * cosine + blocks.south * sine
    across = blocks.south * cosine - blocks.east * sine
    depth = 17 + 22 * unit(key, 13, 8)
    strip, strip_edge = _cut(across, key, depth)
    strip_key = mix_bits(key ^ (strip.astype(np.uint32) * np.uint32(0x85EBCA77)))
    length = 26 + 40 * unit(strip_key, 4, 8)
    piece, piece_edge = _cut(along, strip_key, length)
    return Parcels(
        key=mix_bits(strip_key + piece.astype(np.uint32) * np.uint32(0xC2B2AE3D)),
        along=along,
        across=across,
        edge=np.minimum(np.minimum(strip_edge, piece_edge), blocks.edge),
    )
