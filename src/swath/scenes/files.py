"""Scenes that are image files, in a folder or in an archive."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from swath.errors import ContractError, InputError, SceneError
from swath.labels.table import LabelTable
from swath.scenes.folder import Files
from swath.scenes.images import ImageHeader, check_pixels, read_header, read_image
from swath.scenes.source import SceneSource

__all__ = ["FileScenes"]

READER_VERSION: Final = 1
"""Changes when the same files would be read as other numbers, so that packed stores are made again."""


class FileScenes(SceneSource):
    """Image files with labels.

    The band contract is that of the first image that can be read. Every other image is held to it when it is
    read; the first that differs makes all headers be read, so that the message counts what there is.

    Where images are georeferenced, the columns ``x``, ``y`` (centre) and ``crs`` are read from all headers
    the first time that somebody asks for them.

    Args:
        files: Where the images are.
        members: Names of the image files, one per scene.
        labels: One row per scene.
        name: A short name for people and reports.
        columns: What else is known of each scene.
        nodata: Number that marks pixels without data in all images, instead of what the files say; NaN is
            allowed.

        band_names: Names of the bands in all images, instead of what the files say.

    Raises:
        SceneError: No image can be read at all.
        InputError: There is no scene.
    """

    def __init__(
        self,
        files: Files,
        members: Sequence[str],
        labels: LabelTable,
        *,
        name: str,
        columns: Mapping[str, npt.NDArray[Any]] | None = None,
        nodata: float | None = None,
        band_names: Sequence[str] | None = None,
    ) -> None:
        if not members:
            raise InputError(f"{name} holds no scene. At least one image is needed.")
        self.name = name
        self.labels = labels
        self._files = files
        self._members = members
        self._nodata = nodata
        self._band_names = None if band_names is None else tuple(band_names)
        self._format = self._first_format()
        self.contract = self._format.contract.with_classes(labels.classes, labels.exclusive)
        known = {"path": np.array(members), **(columns or {})}
        lazy = ("x", "y", "crs") if self._format.centre and not {"x", "y"} & set(known) else ()
        self.columns = _Columns(known, lazy, lambda: self._coordinates)

    def read(self, index: int) -> npt.NDArray[Any]:
        """Return one image; see :meth:`SceneSource.read`.

        Raises:
            SceneError: It is missing, damaged, too large, has NaN pixels that are not nodata, or no valid
                pixel.
            ContractError: Images differ in bands, number type, scale or nodata.
        """
        name, where = self._members[index], self.describe(index)
        with self._files.open(name) as file:
            image, header = read_image(file, where, self._files.path(name))
        header = self._as_told(header)
        if _kept_format(header) != _kept_format(self._format):
            raise self._difference(index, header)
        check_pixels(image, self.contract.nodata, where)
        return image

    def describe(self, index: int) -> str:
        """Return the image's path."""
        return self._files.where(self._members[index])

    def image_path(self, index: int) -> Path | None:
        """Return an image's own path; None inside an archive."""
        return self._files.path(self._members[index])

    def is_lazy(self, column: str) -> bool:
        """Whether a column has to be read from all images before it can be looked at."""
        return isinstance(self.columns, _Columns) and column in self.columns.lazy

    def fingerprint(self) -> str:
        """Return a hash of names, sizes and times of change of all images; no image is opened."""
        digest = hashlib.blake2b(repr((READER_VERSION, self._nodata)).encode(), digest_size=16)
        for stamp in self._files.stamps(self._members):
            digest.update(repr(stamp).encode())
        return digest.hexdigest()

    def _difference(self, index: int, header: ImageHeader) -> ContractError:
        """Say once, from all headers, how the images differ, with counts and an example of each kind."""
        kinds: dict[str, list[int]] = {_said(header): [index], _said(self._format): []}
        for row, found in enumerate(self._headers):
            if isinstance(found, ImageHeader) and row != index:
                kinds.setdefault(_said(found), []).append(row)
        counted = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
        listed = "; ".join(
            f"{len(rows)} with {said}, such as {self.describe(min(rows))}" for said, rows in counted[:5]
        )
        return ContractError(
            f"The images of {self.name} do not have the same bands: {listed}. Bring them to the same bands, "
            f"number type and nodata value (nodata=NUMBER sets it for all), or open them as separate data "
            f"sets."
        )

    @cached_property
    def _headers(self) -> list[ImageHeader | SceneError]:
        return [self._header(name) for name in self._members]

    @cached_property
    def _coordinates(self) -> dict[str, npt.NDArray[Any]]:
        from swath.scenes.geotiff import common_coordinates

        return common_coordinates(
            [found if isinstance(found, ImageHeader) else None for found in self._headers]
        )

    def _header(self, name: str) -> ImageHeader | SceneError:
        where = self._files.where(name)
        try:
            with self._files.open(name) as file:
                return self._as_told(read_header(file, where, self._files.path(name)))
        except SceneError as error:
            return error

    def _first_format(self) -> ImageHeader:
        first: SceneError | None = None
        for name in self._members:
            found = self._header(name)
            if isinstance(found, ImageHeader):
                return found
            first = first or found
        raise SceneError(
            f"None of the {len(self._members)} images of {self.name} can be read. The first: {first} If the "
            f"images lie in another folder than the table, name it with images=FOLDER."
        ) from first

    def _as_told(self, header: ImageHeader) -> ImageHeader:
        """Return the header with what the source was told instead of what the file says."""
        if self._nodata is not None:
            header = dataclasses.replace(header, nodata=float(self._nodata))
        # Another number of bands stays as it is: it is reported as a difference between images.
        if self._band_names is not None and len(self._band_names) == len(header.names):
            header = dataclasses.replace(header, names=self._band_names)
        return header


class _Columns(Mapping[str, npt.NDArray[Any]]):
    """Columns, some of which are computed when they are first asked for."""

    def __init__(
        self,
        known: Mapping[str, npt.NDArray[Any]],
        lazy: tuple[str, ...],
        compute: Callable[[], Mapping[str, npt.NDArray[Any]]],
    ) -> None:
        self._known = known
        self.lazy = lazy
        self._compute = compute

    def __getitem__(self, key: str) -> npt.NDArray[Any]:
        return self._compute()[key] if key in self.lazy else self._known[key]

    def __iter__(self) -> Iterator[str]:
        yield from self._known
        yield from self.lazy

    def __len__(self) -> int:
        return len(self._known) + len(self.lazy)

    def __contains__(self, key: object) -> bool:
        return key in self.lazy or key in self._known


def _kept_format(header: ImageHeader) -> tuple[object, ...]:
    """Return what all images of a data set share."""
    nodata = "nan" if header.nodata is not None and np.isnan(header.nodata) else header.nodata
    return header.names, header.dtype, header.scale, header.offset, header.unit, nodata


def _said(header: ImageHeader) -> str:
    bands = len(header.names)
    shown = ", ".join(header.names[:16]) + (", ..." if bands > 16 else "")
    text = f"{bands} band{'s' * (bands > 1)} of {header.dtype} ({shown})"
    if header.unit != "display" and ({*header.scale} != {1.0} or {*header.offset} != {0.0}):
        text += f" with scale {_short(header.scale)} and offset {_short(header.offset)}"
    if header.unit and header.unit != "display":
        text += f" in {header.unit}"
    return text + ("" if header.nodata is None else f", nodata {header.nodata:g}")


def _short(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else ", ".join(f"{value:g}" for value in values)
