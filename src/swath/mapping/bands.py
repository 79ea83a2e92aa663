"""Which bands of a scene's files are the model's bands, and how their numbers become the model's units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from swath.errors import ContractError, InputError
from swath.mapping.header import PixelGrid, RasterFile
from swath.scenes.contract import BandContract

__all__ = ["BandMapping", "Reading", "map_bands"]


@dataclass(frozen=True)
class Reading:
    """How to read a scene where its files say nothing, or something else than is meant.

    Args:
        bands: Names of the files' bands, in their order, if the files do not name them. If they do, and the names
            are not the model's: the files' bands that take the place of the model's, in the model's order.
        scale: Factor from stored numbers to the model's unit: one for all bands, or one for each of the model's.
        offset: Added after scaling, in the same way; what the files say, or 0, if empty.
        nodata: Stored number that marks pixels without data (NaN is allowed), ``"none"`` if nothing does; None to
            believe the files.
        crs: Coordinate system to map in, such as ``"EPSG:32632"``; that of the files if empty.
        grid: Pixels to map on, such as another scene's; those that follow from the files and the model if None.

    Raises:
        InputError: A number is not finite, or a scale is 0.
    """

    bands: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    nodata: float | str | None = None
    crs: str = ""
    grid: PixelGrid | None = None

    @classmethod
    def of_words(
        cls, bands: str | None, scale: str | None, offset: str | None, nodata: str | None, crs: str | None
    ) -> Reading:
        """Return what was typed: names and numbers with commas between; None for what the files say.

        Raises:
            InputError: A number is none.

        Example:
            >>> Reading.of_words("B04, B03", "1e-4", None, "none", None).scale
            (0.0001,)
        """
        marks: float | str | None = nodata
        if nodata is not None and nodata != "none":
            try:
                marks = float(nodata)
            except ValueError as error:
                raise InputError(f"nodata is {nodata!r}; expected a number, nan or none.") from error
        return cls(_words(bands), _numbers(scale, "scale"), _numbers(offset, "offset"), marks, crs or "")

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not all(map(math.isfinite, [*self.scale, *self.offset])) or 0 in self.scale:
            raise InputError(
                f"scale is {self.scale} and offset {self.offset}; expected finite numbers, and scales other than 0."
            )
        if isinstance(self.nodata, str) and self.nodata != "none":
            raise InputError(f"nodata is {self.nodata!r}; expected a number, nan or none.")


@dataclass(frozen=True)
class BandMapping:
    """Where each of the model's bands is.

    Args:
        names: The model's bands.
        sources: For each, the position of its file and its position among that file's bands.
        scale: For each, the factor from stored numbers to the model's unit.
        offset: For each, what is added after scaling.
        notes: What a user should know.
    """

    names: tuple[str, ...]
    sources: tuple[tuple[int, int], ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    notes: tuple[str, ...]


def map_bands(
    files: Sequence[RasterFile], contract: BandContract, reading: Reading, what: str
) -> BandMapping:
    """Find the model's bands in files, by name, or as the user says.

    Args:
        files: The files' headers.
        contract: The model's.
        reading: What the user says.
        what: How to call the files in messages.

    Returns:
        Where the bands are and what their numbers mean.

    Raises:
        ContractError: Bands are missing, or units or scales differ from the model's.
        InputError: ``reading`` names another number of bands or scales than there are.
    """
    places = [(number, band) for number, file in enumerate(files) for band in range(len(file.names))]
    names = [files[number].names[band] for number, band in places]
    notes: list[str] = []
    wanted = contract.names
    if reading.bands:
        names, wanted = _told(names, all(file.described for file in files), contract, reading.bands, what)
        if wanted != contract.names:
            pairs = ", ".join(
                f"{mine} = {theirs}" for mine, theirs in zip(contract.names, wanted, strict=True)
            )
            notes.append(f"As told, the model's bands are the scene's: {pairs}.")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ContractError(
            f"{what} has more than one band named {', '.join(twice)}. Give them with --bands."
        )
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ContractError(
            f"{what} does not have the bands that the model needs. Missing: {', '.join(missing)}. Found: "
            f"{', '.join(names)}. Needed: {', '.join(wanted)}. Say with --bands which bands these are."
        )
    sources = tuple(places[names.index(name)] for name in wanted)
    chosen = [(files[number], band) for number, band in sources]
    count = len(wanted)
    offset = _for_each(reading.offset, count, "offset") or tuple(file.offset[band] for file, band in chosen)
    scale = _for_each(reading.scale, count, "scale")
    if not scale:
        units = {file.unit for file, _ in chosen}
        scale = tuple(file.scale[band] for file, band in chosen)
        data = BandContract(contract.names, scale, offset, unit=units.pop() if len(units) == 1 else "")
        try:
            contract.check_fits(data, what=what)
        except ContractError as error:
            raise ContractError(
                f"{error} If the files are right, say what their numbers are in the model's unit: --scale FACTOR."
            ) from error
    return BandMapping(contract.names, sources, scale, offset, tuple(notes))


def _told(
    names: list[str], described: bool, contract: BandContract, told: tuple[str, ...], what: str
) -> tuple[list[str], tuple[str, ...]]:
    """Return the names of the files' bands, and those of them that are the model's bands, in its order."""
    # Names that the files do not know are meant as names for all of their bands.
    if not described or not set(told) <= set(names):
        if len(told) != len(names):
            raise InputError(
                f"--bands names {len(told)} bands ({', '.join(told)}); {what} has {len(names)}: {', '.join(names)}. "
                f"Name each of them, in their order."
            )
        names = list(told)
    if set(contract.names) <= set(told):
        return names, contract.names
    if len(told) != len(contract.names):
        raise ContractError(
            f"--bands names {', '.join(told)}; the model has {len(contract.names)} bands: "
            f"{', '.join(contract.names)}. Name the scene's band for each of them, in this order."
        )
    return names, told


def _for_each(values: tuple[float, ...], count: int, what: str) -> tuple[float, ...]:
    if len(values) not in (0, 1, count):
        raise InputError(
            f"{len(values)} values of {what} were given; expected one, or one for each of {count} bands."
        )
    return values * count if len(values) == 1 else values


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (word.strip() for word in (text or "").split(","))))


def _numbers(text: str | None, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in _words(text))
    except ValueError as error:
        raise InputError(
            f"{option} is {text!r}; expected a number, or one for each of the model's bands with commas between."
        ) from error
