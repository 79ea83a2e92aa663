"""The band contract: what is refused, and that differences are spelled out."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from swath.errors import ContractError
from swath.scenes.contract import BandContract

RGB = BandContract(("red", "green", "blue"), scale=(1 / 255,) * 3, unit="display")


def test_scale_and_offset_are_filled_in() -> None:
    contract = BandContract(("a", "b"))
    assert contract.scale == (1.0, 1.0)
    assert contract.offset == (0.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"names": ()}, "without bands"),
        ({"names": ("a", "a")}, "more than once: a"),
        ({"names": ("a", "b"), "scale": (1.0,)}, "1 values of scale were given for 2 bands"),
        ({"names": ("a",), "mean": (math.nan,)}, "mean of bands must be finite"),
        ({"names": ("a",), "scale": (0.0,)}, "must not be 0"),
        ({"names": ("a",), "mean": (0.0,), "std": (0.0,)}, "above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, tuple[object, ...]], said: str) -> None:
    with pytest.raises(ContractError, match=said):
        BandContract(**arguments)  # type: ignore[arg-type]


def test_bands_are_found_by_name_in_any_order_and_missing_ones_are_listed() -> None:
    assert RGB.order_of(["blue", "nir", "red", "green"], what="x") == [2, 3, 0]
    with pytest.raises(ContractError, match=r"scene\.tif .*Missing: blue\. Found: red, nir, green\."):
        RGB.order_of(["red", "nir", "green"], what="scene.tif")


def test_every_difference_is_spelled_out() -> None:
    other = BandContract(
        ("blue", "green", "red"), scale=(1e-4, 1 / 255, 1e-4), offset=(0, 0, 1), unit="reflectance"
    )
    with pytest.raises(ContractError) as caught:
        RGB.check_fits(other, what="scene.tif")
    message = str(caught.value)
    for said in ("scene.tif", "'display'", "'reflectance'", "scale of red", "offset of red", "scale of blue"):
        assert said in message
    assert "green" not in message
    reordered = BandContract(("blue", "green", "red"), scale=(1 / 255,) * 3, unit="display")
    RGB.check_fits(reordered, what="scene.tif")


@given(some.sampled_from([None, 0.0, -9999.0, 255.0, math.nan]), some.integers(0, 2**32 - 1))
def test_valid_pixels_are_those_that_are_neither_nodata_nor_nan(nodata: float | None, seed: int) -> None:
    random = np.random.default_rng(seed)
    contract = BandContract(("a", "b"), nodata=nodata)
    for dtype in (np.uint8, np.int16, np.float32):
        image = random.integers(0, 3, (2, 4, 4)).astype(dtype)
        if nodata is not None and not math.isnan(nodata) and nodata >= 0:
            image[0, 0, 0] = np.asarray(nodata).astype(dtype)
        if dtype == np.float32:
            image[1, 1, 1] = np.nan
        expected = [
            [[not (math.isnan(value) or value == nodata) for value in row] for row in band]
            for band in image.tolist()
        ]
        assert contract.valid(image).tolist() == expected


@pytest.mark.parametrize("nodata", [None, 0.0, math.nan])
def test_a_contract_survives_json(nodata: float | None) -> None:
    contract = BandContract(
        ("a", "b"),
        (1e-4, 2.0),
        (0.5, 0.0),
        "reflectance",
        nodata,
        10.0,
        ("x", "y"),
        True,
        (0.1, 0.2),
        (1.0, 2.0),
    )
    back = BandContract.from_json(json.loads(json.dumps(contract.to_json(), allow_nan=False)))
    assert repr(back) == repr(contract)
    with pytest.raises(ContractError, match="expected"):
        BandContract.from_json({**contract.to_json(), "module": "os"})
    with pytest.raises(ContractError):
        BandContract.from_json({**contract.to_json(), "scale": "1"})
    with pytest.raises(ContractError, match="wrong type"):
        BandContract.from_json({**contract.to_json(), "mean": ["a", "b"]})
    with pytest.raises(ContractError, match="wrong type"):
        BandContract.from_json({**contract.to_json(), "names": 3})
