"""The synthetic Earth as a source of scenes: patches with complete labels, and whole scenes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from swath.errors import InputError, UnknownNameError
from swath.labels.table import LabelTable
from swath.scenes.contract import BandContract
from swath.scenes.earth.ground import survey
from swath.scenes.earth.noise import Float, Hash, Window, World, hash_lattice, mix_bits
from swath.scenes.earth.sensing import (
    MARGIN,
    SENSORS,
    Acquisition,
    blur,
    blur_of,
    point_spread,
    sense,
    weather,
)
from swath.scenes.earth.spectra import BANDS, CLASSES, SEASONS
from swath.scenes.earth.whole import WholeScene
from swath.scenes.source import SceneSource

__all__ = ["SyntheticEarth"]

_Item = TypeVar("_Item")

_GSD_M = 10.0
_VERSION = 1  # of what the ground looks like; part of the fingerprint
_AT_ONCE = 16  # windows computed together: as many as stay in a core's cache
_NEIGHBOURS = 8  # scenes in one region
_SLOTS = 4  # a region holds _SLOTS x _SLOTS places, of which _NEIGHBOURS are used
_REGION_BITS = 10  # the world has 2^10 x 2^10 regions
_MOST_SCENES = _NEIGHBOURS << (2 * _REGION_BITS)
_LARGEST = 20_000  # longest side of a scene, pixels


class SyntheticEarth(SceneSource):
    """Scenes of a made-up planet, with the truth to the pixel.

    For trying things out, for tests that need the truth, and for machines without data. It never carries a
    claim about a method: real scenes do. A scene is a function of the seed and its index alone: the same in
    any order, batch, process or thread. Eight scenes lie near each other in a region (``columns["group"]``),
    where they share landscape but not pixels; split by group to keep a region on one side.

    Args:
        scenes: Number of scenes.
        size: Height and width of a scene in pixels of 10 m, from 8 to 256; :meth:`scene` makes larger ones.
        bands: Sentinel-2 band names out of B01 ... B12 and B8A.
        seasons: Out of winter, spring, summer and autumn; scenes are spread over them evenly at random.
        sensors: Out of msi-a, msi-b and smallsat, which differ in sharpness, noise, gain and offset.
        seed: Seed of the planet and of the moments, 0 or larger.
        least_share: Share of a scene that a class must cover to count as present.

    Raises:
        InputError: A number is out of range, or a list is empty or repeats a name.
        UnknownNameError: There is no such band, season or sensor.

    Example:
        >>> earth = SyntheticEarth(scenes=4, size=32, seed=1)
        >>> earth.read(2).shape
        (6, 32, 32)
        >>> earth.truth(2).shape, float(earth.area[2].sum())
        ((32, 32), 1.0)
    """

    def __init__(
        self,
        scenes: int = 2000,
        size: int = 64,
        bands: Sequence[str] = ("B02", "B03", "B04", "B08", "B11", "B12"),
        seasons: Sequence[str] = SEASONS,
        sensors: Sequence[str] = tuple(SENSORS),
        seed: int = 0,
        least_share: float = 0.02,
    ) -> None:
        _check_whole("scenes", scenes, 1, _MOST_SCENES)
        _check_whole("size", size, 8, 256)
        _check_whole("seed", seed, 0, 2**63 - 1)
        if not 0 < least_share < 1:
            raise InputError(f"least_share must lie between 0 and 1, both excluded; given {least_share!r}.")
        self.size = int(size)
        self.seed = int(seed)
        self.least_share = float(least_share)
        self.name = f"synthetic Earth (seed {seed})"
        self._bands = _positions("band", bands, BANDS)
        self._world = World(self.seed)
        self.contract = _contract(tuple(bands))
        index = np.arange(scenes)
        self._keys = hash_lattice(index, np.zeros_like(index), self._world.salt("moment"))
        season = _positions("season", seasons, SEASONS)
        sensor = _positions("sensor", sensors, tuple(SENSORS))
        self._season = season[mix_bits(self._keys ^ np.uint32(0x1B873593)) % np.uint32(len(season))]
        self._sensor = sensor[mix_bits(self._keys ^ np.uint32(0xCC9E2D51)) % np.uint32(len(sensor))]
        self._moment = weather(self._keys, self._season, self._sensor)
        self._top, self._left = self._places(index)
        season_names = np.array(SEASONS)[self._season]
        sensor_names = np.array(list(SENSORS))[self._sensor]
        self.columns = {
            "domain": np.array([f"{a}/{b}" for a, b in zip(season_names, sensor_names, strict=True)]),
            "season": season_names,
            "sensor": sensor_names,
            "group": index // _NEIGHBOURS,
            "x": (self._left + self.size / 2) * _GSD_M,
            "y": -(self._top + self.size / 2) * _GSD_M,
        }

    def __len__(self) -> int:
        """Return the number of scenes (without surveying their ground)."""
        return len(self._keys)

    def _places(self, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return world row and column of each scene's corner; no two scenes overlap."""
        region = _shuffle((index // _NEIGHBOURS).astype(np.uint32), self._world.salt("region"))
        # 5 is coprime to the 16 slots, so the slots of a region's scenes differ.
        turn = mix_bits(region ^ self._world.salt("slot")).astype(np.int64)
        slot = ((index % _NEIGHBOURS) * 5 + turn) % _SLOTS**2
        # Twice the scene's size apart, so that one scene does not go on in the next.
        step = max(2 * self.size, 128)
        row = (region.astype(np.int64) >> _REGION_BITS) * _SLOTS + slot // _SLOTS
        column = (region.astype(np.int64) & ((1 << _REGION_BITS) - 1)) * _SLOTS + slot % _SLOTS
        room = step - self.size
        wander = mix_bits(self._keys ^ np.uint32(0x38495AB5)).astype(np.int64)
        return row * step + (wander & 0xFFFF) % room, column * step + (wander >> 16) % room

    def _window(self, rows: NDArray[np.int64]) -> Window:
        return Window(self._top[rows], self._left[rows], self.size, self.size)

    def _moments(self, rows: NDArray[np.int64]) -> Acquisition:
        return Acquisition(
            **{field.name: getattr(self._moment, field.name)[rows] for field in fields(Acquisition)}
        )

    def _index(self, index: int) -> NDArray[np.int64]:
        if not -len(self) <= index < len(self):
            raise InputError(
                f"There is no scene {index}; this synthetic Earth has scenes 0 to {len(self) - 1}."
            )
        return np.array([index % len(self)])

    def read(self, index: int) -> NDArray[np.uint16]:
        """Return one scene, reflectance times 10,000, uint16 (bands, height, width); 0 would be nodata."""
        image: NDArray[np.uint16] = self._read(self._index(index))[0]
        return image

    def read_many(self, indices: Sequence[int]) -> list[NDArray[np.uint16]]:
        """Return several scenes, each as from :meth:`read`; twice as quick as one by one."""
        rows = np.array([self._index(int(index))[0] for index in indices], np.int64)
        chunks = [self._read(rows[start : start + _AT_ONCE]) for start in range(0, len(rows), _AT_ONCE)]
        return [image for chunk in chunks for image in chunk]

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.uint16]:
        window = self._window(rows)
        ground = survey(self._world, window.grown(MARGIN))
        return sense(self._world, window, ground, self._moments(rows), self._bands, _GSD_M)

    def truth(self, index: int) -> NDArray[np.uint8]:
        """Return the class of each pixel of one scene, uint8 (height, width), an index into the classes."""
        truth: NDArray[np.uint8] = self._truths(self._index(index))[0]
        return truth

    def _truths(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        ground = survey(self._world, self._window(rows).grown(MARGIN))
        return ground.land_cover[:, MARGIN:-MARGIN, MARGIN:-MARGIN]

    def abundances(self, index: int) -> Float:
        """Return how much of each pixel's signal comes from each class.

        The class map seen through the optics of the scene's sensor in its 10 m bands: the truth for unmixing.

        Returns:
            float32 (classes, height, width) in [0, 1] that sums to 1 over the classes.
        """
        rows = self._index(index)
        cover = survey(self._world, self._window(rows).grown(MARGIN)).land_cover[0]
        kernel = point_spread(blur_of(self._sensor[rows], np.array([1]), _GSD_M))[0, 0]
        each = (cover[None] == np.arange(len(CLASSES), dtype=np.uint8)[:, None, None]).astype(np.float32)
        return blur(each, kernel)

    @cached_property
    def _area(self) -> Float:
        area = np.empty((len(self), len(CLASSES)), np.float32)

        def fill(start: int) -> None:
            rows = np.arange(start, min(start + _AT_ONCE, len(self)))
            cover = self._truths(rows).reshape(len(rows), -1)
            for row, flat in zip(rows, cover, strict=True):
                area[row] = np.bincount(flat, minlength=len(CLASSES)) / flat.size

        _for_each(fill, range(0, len(self), _AT_ONCE))
        return area

    @property
    def area(self) -> Float:  # type: ignore[override]  # computed when first asked for: it surveys all scenes
        """Share of each scene that each class covers, float32 (scenes, classes)."""
        return self._area

    @cached_property
    def labels(self) -> LabelTable:  # type: ignore[override]  # as above
        """Complete labels: a class is present where it covers at least ``least_share`` of the scene."""
        return LabelTable(CLASSES, (self._area >= np.float32(self.least_share)).astype(np.int8))

    def describe(self, index: int) -> str:
        """Return number, season, sensor and place of one scene."""
        row = int(self._index(index)[0])
        columns = self.columns
        return (
            f"scene {row}: {columns['season'][row]}, {columns['sensor'][row]}, "
            f"x {columns['x'][row]:.0f} m, y {columns['y'][row]:.0f} m"
        )

    def fingerprint(self) -> str:
        """Return a text that changes with anything that changes an image."""
        content = [_VERSION, self.seed, self.size, list(self.contract.names)]
        digest = hashlib.sha256(json.dumps(content).encode())
        digest.update(self._season.tobytes() + self._sensor.tobytes())
        return f"synthetic-earth-{digest.hexdigest()[:32]}"

    @classmethod
    def scene(
        cls,
        height: int,
        width: int,
        bands: Sequence[str] = ("B02", "B03", "B04", "B08", "B11", "B12"),
        season: str = "summer",
        sensor: str = "msi-a",
        seed: int = 0,
        top: int = 0,
        left: int = 0,
    ) -> WholeScene:
        """Return one scene of any size, made in tiles that fit without a seam.

        Args:
            height: Rows, 1 to 20,000.
            width: Columns, 1 to 20,000.
            bands: Sentinel-2 band names.
            season: When; two scenes of the same place in two seasons show the same ground.
            sensor: Which instrument.
            seed: Seed of the planet.
            top: World row of the upper edge: another place on the same planet.
            left: World column of the left edge.

        Returns:
            The scene with its class map.

        Raises:
            InputError: A number is out of range.
            UnknownNameError: There is no such band, season or sensor.

        Example:
            >>> whole = SyntheticEarth.scene(50, 80, season="autumn")
            >>> whole.image.shape, whole.land_cover.shape
            ((6, 50, 80), (50, 80))
        """
        _check_whole("height", height, 1, _LARGEST)
        _check_whole("width", width, 1, _LARGEST)
        _check_whole("seed", seed, 0, 2**63 - 1)
        _check_whole("top", top, -(2**30), 2**30)
        _check_whole("left", left, -(2**30), 2**30)
        band_positions = _positions("band", bands, BANDS)
        world = World(seed)
        season_position = _positions("season", [season], SEASONS)
        sensor_position = _positions("sensor", [sensor], tuple(SENSORS))
        place = np.array([season_position[0] * len(SENSORS) + sensor_position[0]])
        key = hash_lattice(place, place * 0, world.salt("whole scene"))
        moment = weather(key, season_position, sensor_position)
        image = np.empty((len(bands), height, width), np.uint16)
        cover = np.empty((height, width), np.uint8)
        tile = 192

        def fill(corner: tuple[int, int]) -> None:
            row, column = corner
            rows, columns = min(tile, height - row), min(tile, width - column)
            window = Window(np.array([top + row]), np.array([left + column]), rows, columns)
            ground = survey(world, window.grown(MARGIN))
            place = (slice(row, row + rows), slice(column, column + columns))
            image[(slice(None), *place)] = sense(world, window, ground, moment, band_positions, _GSD_M)[0]
            cover[place] = ground.land_cover[0, MARGIN:-MARGIN, MARGIN:-MARGIN]

        _for_each(fill, [(r, c) for r in range(0, height, tile) for c in range(0, width, tile)])
        return WholeScene(image, cover, _contract(tuple(bands)), x=left * _GSD_M, y=-top * _GSD_M)


def _contract(bands: tuple[str, ...]) -> BandContract:
    return BandContract(
        names=bands, scale=(1e-4,) * len(bands), unit="reflectance", nodata=0, gsd_m=_GSD_M, classes=CLASSES
    )


def _for_each(work: Callable[[_Item], None], items: Sequence[_Item]) -> None:
    # NumPy lets go of the interpreter while it computes, so threads are enough.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        list(pool.map(work, items))


def _check_whole(name: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
        raise InputError(f"{name} must be a whole number from {least} to {most}; given {value!r}.")


def _positions(kind: str, given: Sequence[str], known: tuple[str, ...]) -> NDArray[np.int64]:
    """Return where each given name stands among the known ones."""
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in known:
            raise UnknownNameError(kind, str(name), known)
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"At least one {kind} is needed, each once; given {names}. Known: {', '.join(known)}."
        )
    return np.array([known.index(name) for name in names])


def _shuffle(number: Hash, salt: np.uint32) -> Hash:
    """Permute the numbers below 2^(2 * _REGION_BITS): a Feistel network of four rounds."""
    mask = np.uint32((1 << _REGION_BITS) - 1)
    left, right = number >> np.uint32(_REGION_BITS), number & mask
    for turn in range(4):
        left, right = right, left ^ (mix_bits(right + salt + np.uint32(turn * 0x9E37)) & mask)
    return (left << np.uint32(_REGION_BITS)) | right
