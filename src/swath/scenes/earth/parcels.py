"""How people divide the land: blocks between ways, and the parcels inside a block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swath.scenes.earth.noise import Float, Hash, Window, World, hash_lattice, mix_bits, unit

__all__ = ["Blocks", "Parcels", "find_blocks", "split_block"]

# Part of a block's lattice cell, from its edge, in which no block centre lies.
_CLEAR = 0.12


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
        warp: How far borders are bent east and south, in pixels, in steps of 1/64 so that sums stay exact.
        spacing: Mean distance between centres in pixels.
    """
    batch = len(window.top)
    reach = 8  # the warp stays below this
    first_row = (window.top - reach) // spacing - 1
    first_column = (window.left - reach) // spacing - 1
    lattice_rows = (window.height + 2 * reach) // spacing + 4
    lattice_columns = (window.width + 2 * reach) // spacing + 4
    rows = (first_row[:, None] + np.arange(lattice_rows))[:, :, None]
    columns = (first_column[:, None] + np.arange(lattice_columns))[:, None, :]
    keys = hash_lattice(rows, columns, world.salt("blocks"))
    inside = spacing * (1 - 2 * _CLEAR)
    offset = int(spacing * _CLEAR)
    centre_row = rows * spacing + offset + np.floor(unit(keys, 0, 12) * inside).astype(np.int64)
    centre_column = columns * spacing + offset + np.floor(unit(keys, 12, 12) * inside).astype(np.int64)
    south_of = (centre_row - window.top[:, None, None]).reshape(batch, -1).astype(np.float32)
    east_of = (centre_column - window.left[:, None, None]).reshape(batch, -1).astype(np.float32)

    x = np.arange(window.width, dtype=np.float32)[None, None, :] + warp[0]
    y = np.arange(window.height, dtype=np.float32)[None, :, None] + warp[1]
    shape = (batch, window.height, window.width)
    nearest = np.full(shape, np.inf, np.float32)
    second = np.full(shape, np.inf, np.float32)
    which = np.zeros(shape, np.int32)
    runner_up = np.zeros(shape, np.int32)
    for candidate in range(south_of.shape[1]):
        east = x - east_of[:, candidate, None, None]
        east *= east
        south = y - south_of[:, candidate, None, None]
        south *= south
        east += south
        closer = east < nearest
        next_best = (east < second) & ~closer
        np.copyto(second, nearest, where=closer)
        np.copyto(runner_up, which, where=closer)
        np.copyto(nearest, east, where=closer)
        np.copyto(which, np.int32(candidate), where=closer)
        np.copyto(second, east, where=next_best)
        np.copyto(runner_up, np.int32(candidate), where=next_best)

    step = (np.arange(batch, dtype=np.int32) * south_of.shape[1])[:, None, None]
    which += step
    runner_up += step
    flat_east, flat_south, flat_keys = east_of.ravel(), south_of.ravel(), keys.ravel()
    here_east, here_south = flat_east.take(which), flat_south.take(which)
    between = np.hypot(here_east - flat_east.take(runner_up), here_south - flat_south.take(runner_up))
    here, there = flat_keys.take(which), flat_keys.take(runner_up)
    return Blocks(
        key=here,
        east=x - here_east,
        south=y - here_south,
        edge=(second - nearest) / (2 * np.maximum(between, 1)),
        border=mix_bits(here ^ there),
    )


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
    depth = 14 + 20 * unit(key, 13, 8)
    strip, strip_edge = _cut(across, key, depth)
    strip_key = mix_bits(key ^ (strip.astype(np.uint32) * np.uint32(0x85EBCA77)))
    length = 20 + 34 * unit(strip_key, 4, 8)
    piece, piece_edge = _cut(along, strip_key, length)
    return Parcels(
        key=mix_bits(strip_key + piece.astype(np.uint32) * np.uint32(0xC2B2AE3D)),
        along=along,
        across=across,
        edge=np.minimum(np.minimum(strip_edge, piece_edge), blocks.edge),
    )
