"""The band contract: what the numbers in an image mean, carried by every data set and every model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from swath.errors import ContractError

__all__ = ["BandContract"]


@dataclass(frozen=True)
class BandContract:
    """Names, units, statistics and nodata of the bands, the ground sampling distance and the classes.

    A value in physical units is ``stored * scale + offset``. A model sees ``(value - mean) / std``, and 0
    where a pixel is invalid. Statistics are computed once, on valid training pixels, and applied once.

    Args:
        names: Band names in the order they are stored, all different, such as ``("B04", "B03", "B02")``.
        scale: Factor from stored numbers to units, one per band; 1 for all if empty.
        offset: Added after scaling, one per band; 0 for all if empty.
        unit: What a scaled value is, such as ``"reflectance"``; empty if nobody said.
        nodata: Stored number that marks a pixel without data (NaN is allowed), or None.
        gsd_m: Ground sampling distance in metres, or None if nobody said.
        classes: Class names, in the order of a model's logits.
        exclusive: Whether the classes exclude each other.
        mean: Mean of the scaled valid training pixels, one per band; empty until computed.
        std: Their standard deviation, one per band; empty until computed.

    Raises:
        ContractError: Lengths do not fit the names, names repeat, or a number is not finite.

    Example:
        >>> contract = BandContract(("red", "green", "blue"), scale=(1 / 255,) * 3)
        >>> contract.scale[0] == contract.scale[2]
        True
    """

    names: tuple[str, ...]
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    unit: str = ""
    nodata: float | None = None
    gsd_m: float | None = None
    classes: tuple[str, ...] = ()
    exclusive: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check lengths and numbers; fill in scale and offset."""
        names = tuple(str(name) for name in self.names)
        if not names:
            raise ContractError("A band contract without bands was given; name at least one band.")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ContractError(f"Band names are given more than once: {', '.join(twice)}.")
        filled: dict[str, tuple[float, ...]] = {
            "scale": tuple(map(float, self.scale)) or (1.0,) * len(names),
            "offset": tuple(map(float, self.offset)) or (0.0,) * len(names),
            "mean": tuple(map(float, self.mean)),
            "std": tuple(map(float, self.std)),
        }
        for name, values in filled.items():
            if values and len(values) != len(names):
                raise ContractError(f"{len(values)} values of {name} were given for {len(names)} bands.")
            if not all(map(math.isfinite, values)):
                raise ContractError(f"The {name} of bands must be finite numbers; given {values}.")
            object.__setattr__(self, name, values)
        if any(value <= 0 for value in filled["std"]) or any(value == 0 for value in filled["scale"]):
            raise ContractError("Band scales must not be 0 and standard deviations must be above 0.")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "classes", tuple(self.classes))

    def with_statistics(self, mean: Sequence[float], std: Sequence[float]) -> Self:
        """Return the contract with the statistics of the valid training pixels, in units."""
        return dataclasses.replace(self, mean=tuple(mean), std=tuple(std))

    def with_classes(self, classes: Sequence[str], exclusive: bool) -> Self:
        """Return the contract for other classes."""
        return dataclasses.replace(self, classes=tuple(classes), exclusive=exclusive)

    def order_of(self, found: Sequence[str], *, what: str) -> list[int]:
        """Return where each band of this contract stands among the bands found, by name.

        Args:
            found: Band names of an image or data set.
            what: What was looked at, for the message, such as a file's path.

        Returns:
            Positions into ``found``, one per band of the contract.

        Raises:
            ContractError: A band is missing; the message names the missing and the found ones.
        """
        missing = [name for name in self.names if name not in found]
        if missing:
            raise ContractError(
                f"{what} does not have the bands that are needed. Missing: {', '.join(missing)}. Found: "
                f"{', '.join(found)}. Needed: {', '.join(self.names)}. Rename the bands if they are the "
                f"same, or choose a model trained on the bands found."
            )
        return [list(found).index(name) for name in self.names]

    def check_fits(self, other: BandContract, *, what: str) -> None:
        """Raise if data under ``other`` cannot be fed to a model under this contract, band order aside.

        Args:
            other: The contract of the data.
            what: What the data is, for the message.

        Raises:
            ContractError: Bands are missing, or units or scales differ; every difference is spelled out.
        """
        order = self.order_of(other.names, what=what)
        differences = []
        # An empty unit means that nobody said, which is no contradiction.
        if self.unit and other.unit and self.unit != other.unit:
            differences.append(f"unit: the model has {self.unit!r}, the data {other.unit!r}")
        for position, name in zip(order, self.names, strict=True):
            mine = self.names.index(name)
            if not math.isclose(self.scale[mine], other.scale[position], rel_tol=1e-6):
                differences.append(f"scale of {name}: {self.scale[mine]:g} / {other.scale[position]:g}")
            if not math.isclose(self.offset[mine], other.offset[position], rel_tol=1e-6, abs_tol=1e-12):
                differences.append(f"offset of {name}: {self.offset[mine]:g} / {other.offset[position]:g}")
        if differences:
            raise ContractError(
                f"{what} does not keep the model's band contract. " + "; ".join(differences) + "."
            )

    def valid(self, image: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return which stored values are data: not nodata and not NaN. Same shape as ``image``."""
        valid = np.ones(image.shape, bool)
        if image.dtype.kind == "f":
            valid &= ~np.isnan(image)
        if self.nodata is not None and not math.isnan(self.nodata):
            valid &= image != self.nodata
        return valid

    def to_json(self) -> dict[str, Any]:
        """Return the contract as plain JSON values (NaN nodata as the string ``"nan"``)."""
        content = dataclasses.asdict(self)
        if self.nodata is not None and math.isnan(self.nodata):
            content["nodata"] = "nan"
        return {key: list(value) if isinstance(value, tuple) else value for key, value in content.items()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote; unknown or missing keys are an error."""
        fields = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(content, dict) or set(content) != fields:
            given = sorted(content) if isinstance(content, dict) else type(content).__name__
            raise ContractError(f"A stored band contract holds {given}; expected {sorted(fields)}.")
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in content.items()
        }
        if values["nodata"] == "nan":
            values["nodata"] = math.nan
        try:
            return cls(**values)
        except ContractError:
            raise
        except (TypeError, ValueError) as error:
            raise ContractError(
                f"A stored band contract holds a value of the wrong type: {error}."
            ) from error
