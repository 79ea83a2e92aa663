"""Scenes that are arrays already."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.errors import ContractError, InputError
from swath.labels.table import LabelTable
from swath.scenes.contract import BandContract
from swath.scenes.images import band_names, check_pixels
from swath.scenes.source import SceneSource

__all__ = ["ArrayScenes"]


class ArrayScenes(SceneSource):
    """Scenes from arrays in memory, for your own reader and for tests.

    Args:
        images: (scenes, bands, height, width), or a sequence of (bands, height, width) of several sizes.
        labels: One row per scene.
        contract: What the bands mean; if None, ``red, green, blue`` for three 8-bit bands, else ``band_1``...
        columns: What else is known of each scene, one value per scene; see :class:`SceneSource`.
        area: (scenes, classes) share of the scene that each class covers, or None.
        name: A short name for people and reports.

    Raises:
        InputError: Images, labels and columns do not count the same scenes, or an image has no three axes.
        ContractError: Images have other numbers of bands than the contract, or several number types.

    Example:
        >>> labels = LabelTable.from_class_index(["field", "water"], [0, 1])
        >>> scenes = ArrayScenes(np.ones((2, 4, 8, 8), np.uint16), labels)
        >>> scenes.read(1).shape, scenes.contract.names
        ((4, 8, 8), ('band_1', 'band_2', 'band_3', 'band_4'))
    """

    def __init__(
        self,
        images: npt.NDArray[Any] | Sequence[npt.NDArray[Any]],
        labels: LabelTable,
        contract: BandContract | None = None,
        *,
        columns: Mapping[str, npt.ArrayLike] | None = None,
        area: npt.ArrayLike | None = None,
        name: str = "arrays",
    ) -> None:
        if len(images) != len(labels):
            raise InputError(f"{len(images)} images were given with labels for {len(labels)} scenes.")
        wrong = next((row for row, image in enumerate(images) if np.ndim(image) != 3), None)
        if not len(images) or wrong is not None:
            given = "no image" if wrong is None else f"image {wrong} of shape {np.shape(images[wrong])}"
            raise InputError(f"At least one image of (bands, height, width) is needed; given {given}.")
        kinds = {(len(image), str(image.dtype)) for image in images}
        bands, dtype = next(iter(kinds))
        if contract is None:
            names = band_names(bands, dtype)
            display = names == ("red", "green", "blue")
            contract = BandContract(
                names, (1 / 255,) * 3 if display else (), unit="display" if display else ""
            )
        if len(kinds) > 1 or bands != len(contract.names):
            found = ", ".join(f"{bands} bands of {dtype}" for bands, dtype in sorted(kinds))
            raise ContractError(
                f"All images need the {len(contract.names)} bands {', '.join(contract.names)} and one number "
                f"type; given {found}."
            )
        self.name = name
        self.images = images
        self.labels = labels
        self.contract = contract.with_classes(labels.classes, labels.exclusive)
        self.columns = {key: np.asarray(values) for key, values in (columns or {}).items()}
        self.area = None if area is None else np.asarray(area, np.float32)
        for key, values in self.columns.items():
            if values.shape != (len(labels),):
                raise InputError(f"Column {key!r} has shape {values.shape}; expected ({len(labels)},).")
        if self.area is not None and self.area.shape != labels.state.shape:
            raise InputError(
                f"area has shape {self.area.shape}; expected {labels.state.shape}, as the labels."
            )

    def read(self, index: int) -> npt.NDArray[Any]:
        """Return one image; see :meth:`SceneSource.read`."""
        image = np.asarray(self.images[index])
        check_pixels(image, self.contract.nodata, self.describe(index))
        return image

    def describe(self, index: int) -> str:
        """Return the image's number, with its path if a column says it."""
        return str(self.columns["path"][index]) if "path" in self.columns else f"{self.name}[{index}]"

    def fingerprint(self) -> str:
        """Return a hash of all pixels."""
        digest = hashlib.blake2b(digest_size=16)
        for image in self.images:
            digest.update(f"{image.dtype.str}{image.shape}".encode())
            digest.update(np.ascontiguousarray(image).data)
        return digest.hexdigest()
