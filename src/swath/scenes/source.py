"""What every source of scenes offers: images one by one, what is known of them, and what the bands mean."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.labels.table import LabelTable
from swath.scenes.contract import BandContract

__all__ = ["SceneSource"]


class SceneSource(abc.ABC):
    """Scenes with labels, as they stand on disk or come from a generator.

    Attributes:
        name: A short name for people and reports.
        contract: The band contract, without statistics.
        labels: One row per scene.
        columns: What else is known of each scene, arrays of one value per scene. Used where present: ``split``
            (``"train"``, ``"test"``), ``domain``, ``group``, ``x``, ``y`` (CRS units), ``path``.
        area: (scenes, classes) share of the scene that each class covers, in [0, 1], or None.
    """

    name: str
    contract: BandContract
    labels: LabelTable
    columns: Mapping[str, npt.NDArray[Any]]
    area: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.labels)

    @abc.abstractmethod
    def read(self, index: int) -> npt.NDArray[Any]:
        """Return one scene as (bands, height, width), in the stored number type.

        Raises:
            SceneError: The scene cannot be read.
        """

    def read_many(self, indices: Sequence[int]) -> Sequence[npt.NDArray[Any]]:
        """Return several scenes, each as from :meth:`read`; a source that makes many at once faster overrides it.

        Called from several threads at once, as :meth:`read` is.

        Raises:
            SceneError: At least one of the scenes cannot be read; they are then read one by one.
        """
        return [self.read(index) for index in indices]

    @abc.abstractmethod
    def describe(self, index: int) -> str:
        """Return a name for one scene that helps a person to find it, such as its path."""

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Return a text that changes whenever the images may have changed (not the labels)."""
