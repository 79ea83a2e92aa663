"""Pictures of scenes and of the ground around them, made when they are asked for."""

from __future__ import annotations

import functools
import io
import threading
import time
from collections import OrderedDict
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from swath.errors import SceneError, SwathError
from swath.randomness import stream
from swath.scenes import geotiff
from swath.scenes.files import FileScenes
from swath.scenes.images import file_kind
from swath.scenes.picture import display_bands, stretched

__all__ = ["Neighbourhood", "Pictures", "encoded"]

LONGEST: Final = 1600
"""Pixels along the longer side of a picture, at most."""
SAMPLE: Final = 24
"""Scenes whose numbers decide what is black and white, where they are no colours."""
KEPT: Final = 64
"""Pictures kept for pages that show the same scenes."""
AROUND: Final = 480
"""Pixels along the longer side of the picture of the ground around a scene."""
MOST_NEIGHBOURS: Final = 40


class Pictures:
    """Pictures of the scenes of a data set, by position.

    Args:
        source: The data set.
    """

    def __init__(self, source: FileScenes) -> None:
        self._source = source
        self._bands = display_bands(source.contract.names)
        self._kept: OrderedDict[int, tuple[bytes, str]] = OrderedDict()
        self._lock = threading.Lock()

    def scene(self, position: int) -> tuple[bytes, str]:
        """Return one scene as an image file, and its media type.

        Raises:
            SwathError: The scene cannot be read.
        """
        with self._lock:
            if position in self._kept:
                self._kept.move_to_end(position)
                return self._kept[position]
        made = encoded(Image.fromarray(self.pixels(position)))
        with self._lock:
            self._kept[position] = made
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return made

    def pixels(self, position: int) -> npt.NDArray[np.uint8]:
        """Return one scene as (height, width, 3)."""
        contract = self._source.contract
        image = self._source.read(position)[self._bands]
        if image.dtype == np.uint8:
            return np.ascontiguousarray(image.transpose(1, 2, 0))
        return stretched(self._in_units(image), contract.valid(image), *self._statistics)

    def _in_units(self, image: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        contract = self._source.contract
        scale, offset = (
            np.asarray(values, np.float32)[self._bands] for values in (contract.scale, contract.offset)
        )
        return image.astype(np.float32) * scale[:, None, None] + offset[:, None, None]

    @functools.cached_property
    def _statistics(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean and standard deviation of the shown bands over some scenes drawn at random."""
        drawn = stream(0, "label stretch").permutation(len(self._source))
        values: list[npt.NDArray[np.float32]] = []
        for position in drawn[: 4 * SAMPLE].tolist():
            try:
                image = self._source.read(position)[self._bands]
            except SwathError:  # it is told when it is shown
                continue
            valid = np.broadcast_to(self._source.contract.valid(image), image.shape).all(axis=0)
            values.append(self._in_units(image)[:, valid])
            if len(values) == SAMPLE:
                break
        if not sum(part.shape[1] for part in values):
            return np.zeros(3), np.ones(3)
        every = np.concatenate(values, axis=1).astype(np.float64)
        return every.mean(axis=1), np.maximum(every.std(axis=1), 1e-12)


class Neighbourhood:
    """Where the scenes of a data set lie on the ground, and what it looks like around one.

    Headers are read in the background, a little at a time: with many files that takes minutes, and nobody waits.

    Args:
        source: The data set.
        pictures: Its pictures.
    """

    def __init__(self, source: FileScenes, pictures: Pictures) -> None:
        self._source = source
        self._pictures = pictures
        self._bounds = np.full((len(source), 4), np.nan)  # left, bottom, right, top
        self._crs = np.full(len(source), -1)
        self._names: dict[str, int] = {}

    def start(self, stopped: threading.Event) -> None:
        """Begin to read where the scenes lie, if the first one says so."""
        self._locate(0)
        if self._crs[0] >= 0:
            threading.Thread(target=self._locate_all, args=(stopped,), daemon=True).start()

    def near(self, position: int) -> list[int]:
        """Return the scenes known to lie within one scene's length around a scene, the farthest first."""
        if self._crs[position] < 0:
            return []
        left, bottom, right, top = self._bounds[position]
        width, height = right - left, top - bottom
        low, high = self._bounds[:, :2], self._bounds[:, 2:]
        close = (self._crs == self._crs[position]) & (high > (left - width, bottom - height)).all(axis=1)
        close &= (low < (right + width, top + height)).all(axis=1)
        close[position] = False
        found = np.flatnonzero(close)
        distance = np.abs(self._bounds[found] - self._bounds[position]).sum(axis=1)
        return [int(row) for row in found[np.argsort(distance, kind="stable")][:MOST_NEIGHBOURS][::-1]]

    def picture(self, position: int) -> tuple[bytes, str] | None:
        """Return the ground around a scene, three times its width and height; None where nothing else is known."""
        near = self.near(position)
        if not near:
            return None
        left, bottom, right, top = self._bounds[position]
        width, height = right - left, top - bottom
        scale = AROUND / (3 * max(width, height))
        canvas = Image.new("RGB", (round(3 * width * scale), round(3 * height * scale)), (128, 128, 128))
        for other in [*near, position]:
            try:
                tile = Image.fromarray(self._pictures.pixels(other))
            except SwathError:  # a hole in the ground around
                continue
            west, south, east, north = self._bounds[other]
            size = (max(1, round((east - west) * scale)), max(1, round((north - south) * scale)))
            if max(size) > 8 * AROUND:
                continue
            place = (round((west - left + width) * scale), round((top + height - north) * scale))
            canvas.paste(tile.resize(size, Image.Resampling.BILINEAR), place)
        return encoded(canvas)

    def _locate_all(self, stopped: threading.Event) -> None:
        for position in range(1, len(self._source)):
            if stopped.is_set():
                return
            self._locate(position)
            time.sleep(0.0005)  # requests come first

    def _locate(self, position: int) -> None:
        path = self._source.image_path(position)
        if path is None:
            return
        try:
            with path.open("rb") as file:
                kind = file_kind(file, str(path))
            if kind == "Pillow":
                return
            with geotiff.opened(path, kind, str(path)) as raster:
                grid, crs = raster.transform, raster.crs
                if crs is None or grid.is_identity or grid.b or grid.d or grid.a <= 0 or grid.e >= 0:
                    return
                bounds = tuple(raster.bounds)
                name = crs.to_string()
        except (SceneError, OSError):  # it is told when it is shown
            return
        if np.isfinite(bounds).all():
            self._bounds[position] = bounds
            self._crs[position] = self._names.setdefault(name, len(self._names))


def encoded(picture: Image.Image, *, lossless_pixels: int = 2**19) -> tuple[bytes, str]:
    """Return an image file of a picture, at most 1,600 pixels long, and its media type.

    Small pictures keep every pixel (PNG); large ones are JPEG, which is quicker to load.

    Example:
        >>> encoded(Image.new("RGB", (8, 8)))[1], encoded(Image.new("RGB", (1600, 1600)))[1]
        ('image/png', 'image/jpeg')
    """
    picture.thumbnail((LONGEST, LONGEST))
    buffer = io.BytesIO()
    if picture.width * picture.height <= lossless_pixels:
        picture.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), "image/png"
    picture.save(buffer, "JPEG", quality=92)
    return buffer.getvalue(), "image/jpeg"
