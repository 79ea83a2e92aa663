"""Classification data sets of TorchGeo as scene sources (an extra: ``pip install swath[torchgeo]``)."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.errors import InputError, LabelError, MissingExtraError, SceneError, UnknownNameError
from swath.labels.table import LabelTable
from swath.scenes.contract import BandContract
from swath.scenes.files import FileScenes
from swath.scenes.folder import Folder
from swath.scenes.images import band_names, check_pixels
from swath.scenes.source import SceneSource

__all__ = ["TorchGeoScenes", "open_torchgeo"]


def open_torchgeo(name: str, options: Mapping[str, str]) -> SceneSource:
    """Open one of TorchGeo's classification data sets by its name.

    Args:
        name: Name of a class in ``torchgeo.datasets`` whose samples have an image and a label.
        options: Its arguments as text, such as ``root``, ``split`` or ``bands`` (names joined by ``+``).
            Without ``split`` all splits are opened and named in the column ``split``. Nothing is downloaded
            without ``download=true``.

    Returns:
        The scenes. Where the data set is a folder of class folders, its files are read directly.

    Raises:
        MissingExtraError: TorchGeo is not installed.
        UnknownNameError: It has no such classification data set, or the data set no such option.
        SceneError: The files are not there.
        InputError: The data set refuses an option's value.
    """
    try:
        from torchgeo import datasets
    except ImportError as error:
        raise MissingExtraError("TorchGeo is not installed: pip install 'swath[torchgeo]'.") from error
    known = _classification_data_sets(datasets)
    if name not in known:
        raise UnknownNameError("classification data set in TorchGeo", name, known)
    # Only classes found by walking the module are called: no name is imported.
    parameters = set(inspect.signature(known[name]).parameters) - {"transforms", "checksum"}
    arguments: dict[str, Any] = {}
    for key, value in options.items():
        if key not in parameters:
            raise UnknownNameError(f"option of {name}", key, parameters)
        arguments[key] = _value(key, value)
    splits = _splits(known[name], arguments)
    parts = {split: _made(known[name], {**arguments, "split": split}) for split in splits}
    parts = parts or {str(arguments.get("split", "")): _made(known[name], arguments)}
    files = _as_files(parts, name)
    if files is not None:
        return files
    if len(parts) > 1:
        raise InputError(
            f"TorchGeo's {name} has the splits {', '.join(parts)}, which only TorchGeo itself can read. "
            f"Choose one of them with split=NAME."
        )
    split, data_set = next(iter(parts.items()))
    return TorchGeoScenes(data_set, name=name, split=split)


def _splits(kind: Any, arguments: Mapping[str, Any]) -> list[str]:
    """Return all splits of a data set if it has several and none was chosen."""
    names = getattr(kind, "splits", ())
    chosen = "split" in arguments or "split" not in inspect.signature(kind).parameters
    return [] if chosen or not all(isinstance(name, str) for name in names) else list(names)


def _made(kind: Any, arguments: Mapping[str, Any]) -> Any:
    from torchgeo.datasets import DatasetNotFoundError

    given = ", ".join(f"{key}={value}" for key, value in arguments.items()) or "no options"
    try:
        return kind(**arguments)
    except (DatasetNotFoundError, OSError, RuntimeError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise SceneError(
            f"TorchGeo cannot open {kind.__name__} with {given}: {first} Give its folder as root=FOLDER, or "
            f"let TorchGeo fetch it with download=true."
        ) from error
    except (AssertionError, ValueError, TypeError) as error:
        raise InputError(
            f"TorchGeo's {kind.__name__} does not take {given}: {error or 'a value is not allowed'}."
        ) from error


class TorchGeoScenes(SceneSource):
    """Any TorchGeo data set whose samples are dictionaries with ``image`` and ``label``.

    For data sets made with your own arguments: ``swath.train(TorchGeoScenes(BigEarthNet(...)))``. A label is
    a class number (single-label) or a vector of 0 and 1 (multi-label). Labels are read once from all samples,
    which decodes every image unless the data set lists its ``targets``.

    Args:
        data_set: The data set. It must make no random changes to its images.
        name: A short name for people and reports.
        split: Which part it is; fills the column ``split`` if not empty.

    Raises:
        LabelError: Samples have no label, or the data set does not name its classes.
    """

    def __init__(self, data_set: Any, *, name: str = "", split: str = "") -> None:
        self.name = name or type(data_set).__name__
        self._data_set = data_set
        classes = tuple(map(str, getattr(data_set, "classes", ())))
        if not classes or not len(data_set):
            raise LabelError(
                f"TorchGeo's {self.name} has {len(data_set)} samples and {len(classes)} class names."
            )
        first = self._sample(0)
        if "image" not in first or "label" not in first:
            raise LabelError(
                f"Samples of TorchGeo's {self.name} hold {', '.join(first)}; scenes need 'image' and "
                f"'label'. Data sets for segmentation or detection are not scene sources."
            )
        self.labels = _labels(self, data_set, classes)
        image = np.asarray(first["image"])
        named: Sequence[str] = getattr(data_set, "bands", ())
        fits = not isinstance(named, str) and len(set(named)) == len(named) == len(image)
        names = tuple(map(str, named)) if fits else band_names(len(image), "uint8")
        # TorchGeo does not say what its numbers mean, and nothing is guessed: they stay as they are.
        self.contract = BandContract(names, classes=classes, exclusive=self.labels.exclusive)
        self.columns = {"split": np.full(len(data_set), split)} if split else {}

    def read(self, index: int) -> npt.NDArray[Any]:
        """Return one image; see :meth:`SceneSource.read`."""
        image = np.asarray(self._sample(index)["image"])
        if image.ndim != 3 or len(image) != len(self.contract.names):
            raise SceneError(
                f"{self.describe(index)} has shape {image.shape}; expected {len(self.contract.names)} bands. "
                f"Data sets of image pairs or series are not scene sources."
            )
        check_pixels(image, None, self.describe(index))
        return image

    def describe(self, index: int) -> str:
        """Return the sample's number in the data set."""
        return f"{self.name}[{index}]"

    def fingerprint(self) -> str:
        """Return a hash of the data set's description and of the first and last image.

        TorchGeo has no list of files, so a change in the middle goes unseen; its data sets are fixed
        releases.
        """
        digest = hashlib.blake2b(f"{self.name} {len(self)} {self.contract.names}".encode(), digest_size=16)
        digest.update(f"{self.columns.get('split', [''])[0]} {getattr(self._data_set, 'root', '')}".encode())
        for index in (0, len(self) - 1):
            digest.update(np.ascontiguousarray(self.read(index)).data)
        return digest.hexdigest()

    def _sample(self, index: int) -> dict[str, Any]:
        try:
            sample: dict[str, Any] = self._data_set[index]
        except (OSError, RuntimeError, ValueError, LookupError) as error:
            raise SceneError(f"TorchGeo cannot read {self.name}[{index}]: {error}.") from error
        return sample


def _labels(scenes: TorchGeoScenes, data_set: Any, classes: tuple[str, ...]) -> LabelTable:
    targets = getattr(data_set, "targets", None)
    if targets is None or len(targets) != len(data_set):
        targets = [np.asarray(scenes._sample(index)["label"]) for index in range(len(data_set))]
    state = np.asarray(targets)
    if state.ndim == 1:
        return LabelTable.from_class_index(classes, state.astype(np.int64))
    return LabelTable(classes, state.astype(np.int8))


def _as_files(parts: Mapping[str, Any], name: str) -> FileScenes | None:
    """Read data sets of class folders from their files: faster, with the stored number type and places."""
    for data_set in parts.values():
        samples = getattr(data_set, "samples", None)
        # A data set that reads some of the bands has to do that itself.
        all_bands = getattr(data_set, "bands", None) in (None, getattr(data_set, "all_band_names", None))
        if not samples or not all_bands or not all(isinstance(path, str) for path, _ in samples):
            return None
    first = next(iter(parts.values()))
    bands = getattr(first, "all_band_names", None)
    paths, index = zip(*(sample for part in parts.values() for sample in part.samples), strict=True)
    split = np.repeat(list(parts), [len(part.samples) for part in parts.values()])
    folder = Folder(Path(first.root))
    members = [Path(path).absolute().relative_to(folder.root).as_posix() for path in paths]
    columns = {"split": split} if all(parts) else {}
    labels = LabelTable.from_class_index(first.classes, index)
    return FileScenes(folder, members, labels, name=name, columns=columns, band_names=bands)


def _classification_data_sets(datasets: Any) -> dict[str, type]:
    """Return TorchGeo's data sets that name classes and are indexed by number, by their names."""
    found = {name: getattr(datasets, name) for name in datasets.__all__}
    return {
        name: kind
        for name, kind in found.items()
        if inspect.isclass(kind)
        and issubclass(kind, datasets.NonGeoDataset)
        and not inspect.isabstract(kind)
        and kind is not datasets.NonGeoClassificationDataset
        and (issubclass(kind, datasets.NonGeoClassificationDataset) or _says_label(kind))
    }


def _says_label(kind: Any) -> bool:
    """Whether a data set's samples hold labels: TorchGeo states it nowhere but in its code."""
    try:
        return "'label'" in inspect.getsource(kind.__getitem__)
    except (OSError, TypeError):
        return False


def _value(key: str, text: str) -> object:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if key == "bands" and "+" in text:
        return tuple(text.split("+"))
    return int(text) if text.isdecimal() else text
