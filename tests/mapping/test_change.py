"""What changed between two maps: the formulas, what they promise, and files that say it."""

import csv
import json
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rio_cogeo import cog_validate

from swath.errors import SceneError
from swath.mapping.change import ONE, DatePair, changes_between
from swath.mapping.change_products import change_bytes, write_change
from swath.mapping.grid import WindowGrid
from swath.mapping.naming import CHANGE_SUFFIXES
from swath.mapping.products import SCALED_NODATA, Place, is_map

CLASSES = ("water", "forest", "field")
UTM = rasterio.Affine(10, 0, 500_000, 0, -10, 5_100_000)


def sharp(random: np.random.Generator, shape: tuple[int, ...], exclusive: bool) -> np.ndarray:
    """Random stored probabilities from very sure to very unsure."""
    logits = random.normal(size=shape) * random.choice([0.3, 3, 15], size=(1, *shape[1:]))
    if exclusive:
        odds = np.exp(logits - logits.max(axis=0))
        return np.rint(ONE * odds / odds.sum(axis=0)).astype(np.uint16)
    return np.rint(ONE / (1 + np.exp(-logits))).astype(np.uint16)


def write_probability(path: Path, stored: np.ndarray, transform: rasterio.Affine) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = stored.shape
    options = {"count": count, "height": height, "width": width, "dtype": "uint16", "crs": "EPSG:32633"}
    tiled = {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "pixel"}
    with rasterio.open(
        path, "w", driver="GTiff", nodata=SCALED_NODATA, transform=transform, **tiled, **options
    ) as raster:
        raster.write(stored)


def compare(
    folder: Path,
    before: np.ndarray,
    after: np.ndarray,
    exclusive: bool,
    *,
    level: float = 0.95,
    stride: int = 16,
    classes: tuple[str, ...] = CLASSES,
    cut: int = 5,
) -> tuple[DatePair, Any]:
    """Compare constructed probabilities; the last cells of rows and columns reach ``cut`` pixels over the border."""
    height, width = (side * stride - cut for side in before.shape[1:])
    place = Place(WindowGrid(height, width, 32, stride), UTM, rasterio.crs.CRS.from_epsg(32633))
    for name, stored in (("a", before), ("b", after)):
        write_probability(folder / f"{name}.probability.tif", stored, place.cell_transform)
    pair = DatePair(folder, "a", "b", place, classes, exclusive, level)
    work = folder / ".work"
    work.mkdir(exist_ok=True)
    return pair, write_change(pair, work, {"SWATH_JOB": "{}"}, "swath-job-" + "0" * 32)


@pytest.mark.parametrize("exclusive", [True, False])
def test_every_file_says_what_a_plain_loop_computes(  # noqa: PLR0912
    tmp_path: Path, exclusive: bool
) -> None:
    random = np.random.default_rng(3)
    before, after = (sharp(random, (3, 20, 31), exclusive) for _ in range(2))
    before[:, :10] = np.where(random.random((10, 31)) < 0.5, after[:, :10], before[:, :10])
    before[:, 4, 5:9] = SCALED_NODATA
    after[:, 4, 7:12] = SCALED_NODATA
    pair, summary = compare(tmp_path, before, after, exclusive, level=0.9)
    with rasterio.open(pair.paths["change"]) as raster:
        change, names = raster.read(), raster.descriptions
        assert (raster.nodata, set(raster.scales)) == (SCALED_NODATA, {1e-4})
    with rasterio.open(pair.paths["changed"]) as raster:
        changed, no_code = raster.read(), raster.nodata
    assert names[:2] == ("probability of change", "confidence")
    assert names[2:] == (() if exclusive else tuple(f"change of {name}" for name in CLASSES))
    ground, found, cells = 0.0, dict[tuple[str, str], list[float]](), 0
    for row, column in np.ndindex(20, 31):
        a, b = ([Fraction(int(value), ONE) for value in stored[:, row, column]] for stored in (before, after))
        if a[0] > 1 or b[0] > 1:
            assert (change[:, row, column] == SCALED_NODATA).all()
            assert (changed[:, row, column] == no_code).all()
            continue
        hectares = (11 if row == 19 else 16) * (11 if column == 30 else 16) * 100 / 1e4
        ground, cells = ground + hectares, cells + 1
        claims = []
        if exclusive:
            a, b = ([value / sum(values) for value in values] for values in (a, b))
            probability = [1 - sum(x * y for x, y in zip(a, b, strict=True))]
            old, new = (int(stored[:, row, column].argmax()) for stored in (before, after))
            sure = Fraction(int(before[old, row, column]) + int(after[new, row, column]) - ONE, ONE)
            sure = max(sure, Fraction(0)) if old != new else Fraction(0)
            confidence = sure
            expected = [0]
            if sure >= Fraction(9, 10):
                expected = [1 + 3 * old + new]
                claims = [(CLASSES[old], CLASSES[new], sure)]
        else:
            each = [y * (1 - x) + (1 - y) * x for x, y in zip(a, b, strict=True)]
            neither = Fraction(1)
            for value in each:
                neither *= 1 - value
            probability = [1 - neither, *each]
            confidence = max(abs(y - x) for x, y in zip(a, b, strict=True))
            expected = []
            for name, x, y in zip(CLASSES, a, b, strict=True):
                expected.append(0 if abs(y - x) < Fraction(9, 10) else 1 if y > x else 2)
                if expected[-1]:
                    claims.append(("", name, y - x) if y > x else (name, "", x - y))
        assert abs(int(change[0, row, column]) - float(probability[0] * ONE)) <= 0.5001
        assert change[1, row, column] == confidence * ONE
        for value, wanted in zip(change[2:, row, column], probability[1:], strict=True):
            assert abs(int(value) - float(wanted * ONE)) <= 0.5001
        assert changed[:, row, column].tolist() == expected
        for old_name, new_name, sure in claims:
            entry = found.setdefault((old_name, new_name), [0, 0, 0])
            for place, amount in enumerate((1, hectares, float(1 - sure))):
                entry[place] += amount
    assert len(found) >= 4
    assert (summary.cells, summary.ground_ha) == (cells, pytest.approx(ground))
    assert {(one.before, one.after) for one in summary.changes} == set(found)
    for one in summary.changes:
        wanted = found[one.before, one.after]
        assert [one.cells, one.hectares, one.false_cells] == pytest.approx(wanted, abs=1e-4)
    with pair.paths["table"].open(newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    for name in CLASSES:
        gained = [entry for (_, new), entry in found.items() if new == name]
        lost = [entry for (old, _), entry in found.items() if old == name]
        for way, entries in (("gained", gained), ("lost", lost)):
            for place, what in enumerate(("cells", "ha", "false_cells_at_most")):
                assert float(rows[name][f"{way}_{what}"]) == pytest.approx(
                    sum(entry[place] for entry in entries), abs=1e-3
                )
    assert all(path.stat().st_size for path in pair.paths.values())


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_rasters_are_cogs_on_the_cells_with_names_inside(tmp_path: Path, exclusive: bool) -> None:
    random = np.random.default_rng(1)
    pair, summary = compare(tmp_path, *(sharp(random, (3, 530, 40), exclusive) for _ in range(2)), exclusive)
    for kind in ("change", "changed"):
        valid, errors, warnings = cog_validate(pair.paths[kind], strict=True, quiet=True)
        assert valid, (errors, warnings)
        with rasterio.open(pair.paths[kind]) as raster:
            assert raster.transform == pair.place.cell_transform
            assert raster.crs == pair.place.crs
            assert raster.tags()["CLASSES"] == "|".join(CLASSES)
            assert json.loads(raster.tags()["CHANGES"])[0] == 530 * 40
        assert is_map(pair.paths[kind])
    with rasterio.open(pair.paths["changed"]) as raster:
        tags = raster.tags(1)
        if not exclusive:
            assert raster.descriptions == CLASSES
            assert [tags[f"CLASS_{value}"] for value in range(3)] == ["no change", "gained", "lost"]
            return
        palette = raster.colormap(1)
        for one in summary.changes:
            assert tags[f"CLASS_{one.code}"] == f"{one.before} -> {one.after}"
        assert len({palette[code] for code in (0, 2, 3, 4, 6, 7, 8)}) == 7
        assert palette[255][3] == 0


@pytest.mark.parametrize(("classes", "kind"), [(15, "uint8"), (16, "uint16"), (300, "uint32")])
def test_pairs_of_many_classes_have_numbers_of_their_own(tmp_path: Path, classes: int, kind: str) -> None:
    before, after = (np.zeros((classes, 4, 5), np.uint16) for _ in range(2))
    before[-1], after[-2] = ONE, ONE
    after[:, 0, 0] = 0
    after[-1, 0, 0] = ONE
    names = tuple(f"class {number}" for number in range(classes))
    pair, summary = compare(tmp_path, before, after, True, classes=names)
    with rasterio.open(pair.paths["changed"]) as raster:
        assert raster.dtypes == (kind,)
        codes = raster.read(1)
    assert codes[0, 0] == 0
    assert set(codes.ravel()[1:].tolist()) == {1 + (classes - 1) * classes + classes - 2}
    assert str(summary.changes[0]) == f"class {classes - 1} -> class {classes - 2}"


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_same_map_twice_has_no_change_at_any_level(tmp_path: Path, exclusive: bool) -> None:
    stored = sharp(np.random.default_rng(0), (3, 20, 20), exclusive)
    pair, summary = compare(tmp_path, stored, stored, exclusive, level=1e-9)
    assert summary.changes == []
    with rasterio.open(pair.paths["changed"]) as raster:
        assert (raster.read() == 0).all()
    with rasterio.open(pair.paths["change"]) as raster:
        assert (raster.read(2) == 0).all()


@pytest.mark.parametrize("classes", [2, 10, 60])
def test_no_change_counts_where_a_date_is_unsure(classes: int) -> None:
    random = np.random.default_rng(classes)
    unsure = np.full((classes, 1, 1), ONE // classes, np.uint16)
    sure = np.zeros((classes, 1, 1), np.uint16)
    sure[3 % classes] = ONE
    for before, after in ((unsure, sure), (sure, unsure), (unsure, unsure)):
        # Although independent errors would make a change probable: 0.98 with 60 classes.
        assert changes_between(before, after, True).confidence.max() <= ONE / classes + 1
        assert changes_between(before, after, False).confidence.max() <= max(ONE - ONE // classes, ONE // 2)
    before, after = (sharp(random, (classes, 300, 300), True) for _ in range(2))
    found = changes_between(before, after, True)
    entropy = []
    for stored in (before, after):
        p = np.maximum(stored / stored.sum(axis=0), 1e-300)
        entropy.append(-(p * np.log(p)).sum(axis=0) / np.log(classes))
    high = np.maximum(*entropy) > 0.35
    assert high.sum() > 1000
    assert (found.confidence[0][high] < 0.95 * ONE).all()
    assert (found.confidence[0] >= 0.95 * ONE).any()


@pytest.mark.parametrize("exclusive", [True, False])
def test_time_the_other_way_round_mirrors_the_change(exclusive: bool) -> None:
    random = np.random.default_rng(5)
    before, after = (sharp(random, (4, 50, 50), exclusive) for _ in range(2))
    there, back = changes_between(before, after, exclusive), changes_between(after, before, exclusive)
    np.testing.assert_allclose(there.probability, back.probability, atol=1e-12)
    np.testing.assert_array_equal(there.confidence, back.confidence)
    if exclusive:
        np.testing.assert_array_equal((there.code - 1) // 4, (back.code - 1) % 4)
    order = random.permutation(4)
    shuffled = changes_between(before[order], after[order], exclusive)
    np.testing.assert_allclose(shuffled.probability[0], there.probability[0], atol=1e-12)
    np.testing.assert_array_equal(shuffled.confidence.max(axis=0), there.confidence.max(axis=0))


@pytest.mark.parametrize("dependence", ["independent", "same luck", "opposite luck"])
@pytest.mark.parametrize("exclusive", [True, False])
def test_no_more_changes_are_false_than_promised_however_errors_depend(
    exclusive: bool, dependence: str
) -> None:
    random = np.random.default_rng(11)
    before, after = (sharp(random, (3, 400, 400), exclusive) for _ in range(2))
    found = changes_between(before, after, exclusive)
    claimed = found.confidence >= 0.6 * ONE
    luck = random.random((1 if exclusive else 3, 400, 400))
    other = {"independent": random.random(luck.shape), "same luck": luck, "opposite luck": 1 - luck}[
        dependence
    ]
    truth = []
    for stored, drawn in ((before, luck), (after, other)):
        if exclusive:
            share = np.cumsum(stored / stored.sum(axis=0), axis=0)
            truth.append((drawn[0] >= share[:-1]).sum(axis=0))
        else:
            truth.append(drawn < stored / ONE)
    if exclusive:
        right = (1 + 3 * truth[0] + truth[1] == found.code[0])[None]
    else:
        right = np.where(found.code == 1, ~truth[0] & truth[1], truth[0] & ~truth[1])
    wrong = (claimed & ~right).sum()
    promised = ((ONE - found.confidence[claimed]) / ONE).sum()
    assert claimed.sum() > 1000
    assert wrong <= promised + 4 * np.sqrt(promised)


def test_no_common_ground_is_said_and_nothing_written(tmp_path: Path) -> None:
    stored = np.full((3, 4, 4), ONE // 3, np.uint16)
    before, after = stored.copy(), stored.copy()
    before[:, :, :2] = SCALED_NODATA
    after[:, :, 2:] = SCALED_NODATA
    with pytest.raises(SceneError, match="No cell of a and b has data on both dates"):
        compare(tmp_path, before, after, True)
    assert not list(tmp_path.glob("a--b*"))


def test_memory_does_not_grow_with_the_map(tmp_path: Path) -> None:
    peaks = []
    for side in (1024, 3072):
        stored = sharp(np.random.default_rng(0), (3, 256, 256), True)
        stored = np.tile(stored, (1, side // 256, side // 256))
        write_probability(tmp_path / f"{side}" / "a.probability.tif", stored, UTM)
        write_probability(tmp_path / f"{side}" / "b.probability.tif", stored[:, ::-1], UTM)
        place = Place(WindowGrid(side, side, 8, 1), UTM, rasterio.crs.CRS.from_epsg(32633))
        pair = DatePair(tmp_path / f"{side}", "a", "b", place, CLASSES, True, 0.95)
        del stored
        tracemalloc.start()
        write_change(pair, pair.folder, {"SWATH_JOB": "{}"}, "swath-job-" + "0" * 32)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert sum(path.stat().st_size for path in pair.paths.values()) < change_bytes((side, side), 3, True)
    assert peaks[1] < 1.2 * peaks[0], peaks


def test_a_single_changed_cell_is_seen_in_the_picture_of_a_large_map(tmp_path: Path) -> None:
    from PIL import Image

    from swath.mapping.change import change_colour

    before = np.zeros((2, 1500, 40), np.uint16)
    before[0] = ONE
    after = before.copy()
    after[:, 777, 20] = 0, ONE
    pair, _ = compare(tmp_path, before, after, True, classes=("water", "forest"))
    with Image.open(pair.paths["picture"]) as image:
        pixels = np.asarray(image.convert("RGB"))
    colour = change_colour(pair, 2)
    left_of_the_legend = pixels[:, : pixels.shape[1] - 400]
    assert (left_of_the_legend == colour).all(axis=-1).any()
    assert set(CHANGE_SUFFIXES) == set(pair.paths)
