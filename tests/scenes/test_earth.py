"""The synthetic Earth: the same everywhere, true to its own truth, and seamless."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio

from swath.errors import InputError, OutputError, UnknownNameError
from swath.scenes.earth import SyntheticEarth
from swath.scenes.earth.spectra import BANDS, CLASSES, SEASONS

SCENES = 96


@pytest.fixture(scope="module")
def earth():
    return SyntheticEarth(scenes=SCENES, seed=3)


@pytest.fixture(scope="module")
def images(earth):
    return np.stack(earth.read_many(range(SCENES)))


def test_a_scene_is_the_same_alone_in_any_order_and_in_a_longer_or_shorter_source(earth, images):
    order = np.random.default_rng(0).permutation(SCENES)[:40]
    np.testing.assert_array_equal(np.stack(earth.read_many(order)), images[order])
    for index in (0, 17, SCENES - 1):
        np.testing.assert_array_equal(earth.read(index), images[index])
    np.testing.assert_array_equal(SyntheticEarth(scenes=5, seed=3).read(4), images[4])


def test_a_scene_is_the_same_in_threads(earth, images):
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(SyntheticEarth(scenes=SCENES, seed=3).read, range(24)))
    np.testing.assert_array_equal(np.stack(again), images[:24])


@pytest.mark.parametrize("threads", ["1", "4"])
def test_a_scene_is_the_same_in_another_process_with_other_numbers_of_threads(images, threads):
    program = (
        "import sys; import numpy as np; from swath.scenes.earth import SyntheticEarth\n"
        "earth = SyntheticEarth(scenes=40, seed=3)\n"
        "sys.stdout.buffer.write(np.stack(earth.read_many([31, 2, 30])).tobytes())"
    )
    limits = {name: threads for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **limits},
        capture_output=True,
        check=True,
        timeout=120,
    )
    again = np.frombuffer(result.stdout, np.uint16).reshape(3, 6, 64, 64)
    np.testing.assert_array_equal(again, images[[31, 2, 30]])


def test_another_seed_is_another_planet(images):
    other = np.stack(SyntheticEarth(scenes=8, seed=4).read_many(range(8)))
    assert not any(np.array_equal(a, b) for a, b in zip(other, images[:8], strict=True))


def test_no_two_scenes_overlap_and_regions_are_groups():
    earth = SyntheticEarth(scenes=3000, size=64, seed=0)
    x, y, group = (earth.columns[name] for name in ("x", "y", "group"))
    apart = np.maximum(np.abs(x[:, None] - x), np.abs(y[:, None] - y))
    np.fill_diagonal(apart, np.inf)
    assert apart.min() >= 64 * 10
    assert (np.bincount(group) == 8).all()
    for number in range(20):
        inside = group == number
        assert max(np.ptp(x[inside]), np.ptp(y[inside])) < 4 * 128 * 10


def test_areas_labels_and_class_maps_agree(earth):
    for index in range(0, SCENES, 7):
        truth = earth.truth(index)
        counts = np.bincount(truth.ravel(), minlength=len(CLASSES))
        np.testing.assert_allclose(earth.area[index], counts / truth.size, atol=1e-7)
    np.testing.assert_array_equal(earth.labels.state, earth.area >= earth.least_share)
    assert earth.labels.classes == earth.contract.classes == CLASSES


def test_abundances_sum_to_one_and_are_pure_far_from_borders(earth):
    index = int(np.argmin(earth.area.max(axis=1)))
    abundances, truth = earth.abundances(index), earth.truth(index)
    assert abundances.shape == (len(CLASSES), 64, 64)
    np.testing.assert_allclose(abundances.sum(axis=0), 1, atol=1e-5)
    assert abundances.min() >= 0
    pure = np.ones((58, 58), bool)
    for row in range(7):
        for column in range(7):
            pure &= truth[row : row + 58, column : column + 58] == truth[3:61, 3:61]
    mixed = abundances.max(axis=0)[3:61, 3:61]
    np.testing.assert_allclose(mixed[pure], 1, atol=1e-5)
    assert (mixed[~pure] < 0.999).any()


def test_bands_are_a_choice_of_all_bands(images):
    every = SyntheticEarth(scenes=SCENES, seed=3, bands=BANDS)
    some = [BANDS.index(name) for name in ("B02", "B03", "B04", "B08", "B11", "B12")]
    np.testing.assert_array_equal(every.read(9)[some], images[9])
    swapped = SyntheticEarth(scenes=SCENES, seed=3, bands=("B12", "B02"))
    np.testing.assert_array_equal(swapped.read(9), images[9][[5, 0]])
    assert swapped.contract.names == ("B12", "B02")
    assert swapped.fingerprint() != every.fingerprint()


def test_numbers_are_reflectances(images, earth):
    assert images.dtype == np.uint16
    assert images.min() >= 1  # 0 is nodata
    reflectance = images * earth.contract.scale[0]
    assert reflectance.max() < 1.2
    assert 0.02 < np.median(reflectance[:, 0]) < 0.2


def test_land_covers_look_like_themselves():
    earth = SyntheticEarth(scenes=96, seed=1, seasons=("summer",), sensors=("msi-a",))
    values = np.stack(earth.read_many(range(96))) * 1e-4
    truth = np.stack([earth.truth(index) for index in range(96)])
    mean = {
        name: values.transpose(0, 2, 3, 1)[truth == number].mean(axis=0)
        for number, name in enumerate(CLASSES)
    }
    vegetation = {name: (v[3] - v[2]) / (v[3] + v[2]) for name, v in mean.items()}
    assert vegetation["broadleaf-forest"] > 0.6
    assert vegetation["bare-soil"] < 0.35
    assert vegetation["water"] < 0.2
    assert mean["water"][3] < min(v[3] for name, v in mean.items() if name != "water")
    assert mean["conifer-forest"][3] < 0.75 * mean["broadleaf-forest"][3]
    assert mean["sand"][2] > mean["grass"][2]


def test_seasons_and_sensors_are_domains_that_differ():
    earth = SyntheticEarth(scenes=400, seed=0)
    assert set(earth.columns["domain"]) == {
        f"{a}/{b}" for a in SEASONS for b in ("msi-a", "msi-b", "smallsat")
    }
    place = {"height": 160, "width": 160, "seed": 3, "top": 0, "left": 5000}
    seen = {season: SyntheticEarth.scene(season=season, **place) for season in ("winter", "summer")}
    np.testing.assert_array_equal(seen["winter"].land_cover, seen["summer"].land_cover)
    red, infrared = 2, 3
    green = {
        season: (v[infrared] - v[red]) / (v[infrared] + v[red])
        for season, v in ((s, scene.image.astype(float)) for s, scene in seen.items())
    }
    leafy = seen["summer"].land_cover == CLASSES.index("broadleaf-forest")
    assert green["summer"][leafy].mean() > green["winter"][leafy].mean() + 0.15
    rough = {}
    for sensor in ("msi-a", "smallsat"):
        values = SyntheticEarth.scene(sensor=sensor, **place).image.astype(float)
        rough[sensor] = np.abs(np.diff(values[5], n=2, axis=1)).mean()
    assert rough["smallsat"] > 1.2 * rough["msi-a"]


def test_a_whole_scene_is_seamless_and_fits_its_neighbour():
    place = {"season": "spring", "sensor": "msi-b", "seed": 5}
    large = SyntheticEarth.scene(420, 301, **place)
    part = SyntheticEarth.scene(130, 77, top=170, left=150, **place)
    np.testing.assert_array_equal(large.land_cover[170:300, 150:227], part.land_cover)
    np.testing.assert_array_equal(large.image[:, 170:300, 150:227], part.image)


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (193, 192)])
def test_a_whole_scene_has_any_size(shape):
    scene = SyntheticEarth.scene(*shape)
    assert scene.image.shape == (6, *shape)
    assert scene.land_cover.shape == shape
    assert scene.image.min() >= 1


def test_a_written_scene_is_a_georeferenced_raster(tmp_path):
    scene = SyntheticEarth.scene(70, 90, top=100, left=-40)
    scene.write_scene(tmp_path / "scene.tif")
    scene.write_truth(tmp_path / "truth.tif")
    with rasterio.open(tmp_path / "scene.tif", driver="GTiff") as raster:
        np.testing.assert_array_equal(raster.read(), scene.image)
        assert raster.descriptions == scene.contract.names
        assert raster.scales == scene.contract.scale
        assert raster.nodata == 0
        assert raster.res == (10, 10)
        assert raster.crs.to_epsg() == 32632
        assert (raster.transform.c, raster.transform.f) == (500_000 - 400, 5_500_000 - 1000)
    with rasterio.open(tmp_path / "truth.tif", driver="GTiff") as raster:
        np.testing.assert_array_equal(raster.read(1), scene.land_cover)
        assert raster.tags()["CLASSES"].split("|") == list(CLASSES)


def test_a_scene_that_cannot_be_written_is_an_error_with_the_path(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="file"):
        SyntheticEarth.scene(8, 8).write_scene(tmp_path / "file" / "scene.tif")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"scenes": 0}, InputError, "scenes must be a whole number from 1"),
        ({"scenes": 2.5}, InputError, "given 2.5"),
        ({"size": 4}, InputError, "size must be a whole number from 8 to 256"),
        ({"seed": -1}, InputError, "seed"),
        ({"least_share": 0}, InputError, "least_share"),
        ({"bands": ()}, InputError, "At least one band"),
        ({"bands": ("B02", "B02")}, InputError, "each once"),
        ({"bands": ("B2",)}, UnknownNameError, "no band named 'B2'.*Known: B01"),
        ({"seasons": ("sumer",)}, UnknownNameError, "Did you mean 'summer'"),
        ({"sensors": ("landsat",)}, UnknownNameError, "no sensor named 'landsat'"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        SyntheticEarth(**{"scenes": 3, **arguments})


def test_bad_indices_and_sizes_are_named(earth):
    with pytest.raises(InputError, match="scenes 0 to 95"):
        earth.read(SCENES)
    with pytest.raises(InputError, match="height must be"):
        SyntheticEarth.scene(0, 10)


def test_fingerprints_tell_sources_apart(earth):
    assert earth.fingerprint() == SyntheticEarth(scenes=SCENES, seed=3).fingerprint()
    for change in ({"seed": 4}, {"size": 32}, {"seasons": ("summer",)}, {"scenes": SCENES + 1}):
        assert earth.fingerprint() != SyntheticEarth(**{"scenes": SCENES, "seed": 3, **change}).fingerprint()
