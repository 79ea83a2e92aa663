"""RS-Prune: entropy by the definition, exact budgets, every cluster its share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swath.errors import InputError
from swath.labels import LabelTable
from swath.scenes.contract import BandContract
from swath.scenes.greys import GreyScale
from swath.scenes.memory import ArrayScenes
from swath.scenes.packing import pack
from swath.selection.clusters import cluster, nearest_centres
from swath.selection.entropy import grey_entropy, scene_entropy
from swath.selection.rs_prune import rs_prune
from swath.selection.shares import water_filling


def test_entropy_is_that_of_the_histogram() -> None:
    random = np.random.default_rng(0)
    grey = random.integers(0, 9, (5, 12, 7)).astype(np.uint8)
    grey[0] = 77
    grey[1] = np.arange(84).reshape(12, 7)
    valid = random.random(grey.shape) < 0.7
    valid[4] = False
    for mask in (None, valid):
        found = grey_entropy(grey, mask)
        for scene in range(5):
            values = grey[scene].reshape(-1) if mask is None else grey[scene][mask[scene]]
            counts = np.unique(values, return_counts=True)[1]
            share = counts / max(1, counts.sum())
            assert found[scene] == pytest.approx(-(share * np.log2(share)).sum(), abs=1e-5)
    assert grey_entropy(grey)[0] == 0
    noise = random.integers(0, 256, (1, 512, 512)).astype(np.uint8)
    assert grey_entropy(noise)[0] > 7.99


def test_other_number_types_are_brought_to_256_levels_and_nodata_does_not_count(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    images = random.integers(1000, 3000, (6, 2, 16, 16)).astype(np.uint16)
    images[0] = 1500
    images[1, :, :8] = 0
    images[1, :, 8:] = 2000
    labels = LabelTable(("class",), np.zeros((6, 1), np.int8))
    contract = BandContract(("a", "b"), nodata=0.0)
    store = pack(ArrayScenes(images, labels, contract), None, tmp_path / "store")
    bits = scene_entropy(store, np.arange(6))
    assert bits[0] == 0
    assert bits[1] == 0  # half of it is nodata, the rest is one value
    assert (bits[2:] > 6).all()
    scale = GreyScale.of(store)
    assert (scale.low > 900).all()
    assert (scale.high < 3001).all()
    assert np.array_equal(scene_entropy(store, [3, 0]), bits[[3, 0]])


def test_every_scene_belongs_to_its_nearest_centre() -> None:
    random = np.random.default_rng(2)
    features = random.normal(size=(300, 5)).astype(np.float16)
    found = cluster(features, 7, seed=0)
    distance = np.linalg.norm(features.astype(np.float64)[:, None] - found.centre[None], axis=2)
    assert np.allclose(found.distance, distance.min(axis=1), atol=1e-5)
    assert np.array_equal(found.member, distance.argmin(axis=1))
    again, far = nearest_centres(features, found.centre, np.array([5, 17]))
    assert again.tolist() == found.member[[5, 17]].tolist()
    assert far.tolist() == found.distance[[5, 17]].tolist()


def test_labelled_scenes_of_every_class_start_the_clusters() -> None:
    random = np.random.default_rng(3)
    place = np.repeat([[0.0, 0], [8, 0], [0, 8], [8, 8]], [400, 400, 400, 6], axis=0)
    features = place + random.normal(0, 0.4, place.shape)
    strata = np.full(len(features), -1)
    strata[[1, 401, 801, 1201]] = [0, 1, 2, 3]
    found = cluster(features, 4, seed=0, strata=strata)
    assert len(set(found.member[[1, 401, 801, 1201]].tolist())) == 4
    assert (found.member[1200:] == found.member[1201]).all()


def test_fewer_scenes_than_clusters_are_refused() -> None:
    with pytest.raises(InputError, match="9 clusters were asked for and there are 5 scenes"):
        rs_prune(np.ones((5, 2)), 2, seed=0, clusters=9)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(1, 60),
    st.floats(0, 1),
    st.one_of(st.none(), st.floats(0, 1)),
    st.booleans(),
)
def test_the_budget_is_exact_and_no_cluster_starves(
    seed: int, count: int, spread: float, entropy_share: float | None, with_bits: bool
) -> None:
    random = np.random.default_rng(seed)
    features = random.normal(size=(60, 3))
    bits = random.choice([0.0, 0.5, 3.0, 6.0], 60).astype(np.float32) if with_bits else None
    options = {"bits": bits, "spread": spread, "entropy_share": entropy_share, "clusters": 5}
    if with_bits and entropy_share and 60 - round(entropy_share * (60 - count)) < 5:
        with pytest.raises(InputError, match="clusters"):
            rs_prune(features, count, seed, **options)
        return
    if with_bits and entropy_share is None and max(count, int((bits >= 1).sum())) < 5:
        return
    choice = rs_prune(features, count, seed, **options)
    assert choice.kept.sum() == count
    left = choice.stage != "entropy"
    assert not choice.kept[~left].any()
    assert (choice.cluster[~left] == -1).all()
    sizes = np.bincount(choice.cluster[left], minlength=5)
    assert np.array_equal(np.bincount(choice.cluster[choice.kept], minlength=5), water_filling(sizes, count))
    if with_bits and entropy_share is None and int((bits >= 1).sum()) >= count:
        assert np.array_equal(left, bits >= 1)
    assert np.isfinite(choice.score[choice.kept]).all()
    assert np.isnan(choice.score[~choice.kept]).all()
    again = rs_prune(features, count, seed, **options)
    assert np.array_equal(choice.kept, again.kept)


def test_the_trade_off_leads_from_typical_to_spread_out() -> None:
    random = np.random.default_rng(4)
    features = random.normal(size=(500, 4))
    typical, mixed, wide = (rs_prune(features, 50, 0, clusters=1, spread=share) for share in (0, 0.5, 1))
    distance = np.linalg.norm(features - features.mean(axis=0), axis=1)
    means = [distance[choice.kept].mean() for choice in (typical, mixed, wide)]
    assert means[0] < means[1] < means[2]
    assert (
        np.array_equal(np.sort(distance)[:50], np.sort(distance[typical.kept]))
        or means[0] < distance.mean() / 1.5
    )
    assert (wide.stage == "representative").sum() == 1


def test_a_memory_map_is_read_as_it_is(tmp_path: Path) -> None:
    features = np.random.default_rng(5).normal(size=(200, 6)).astype(np.float16)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    assert np.array_equal(rs_prune(mapped, 30, 0).kept, rs_prune(features, 30, 0).kept)


@pytest.mark.parametrize(
    ("name", "value"), [("clusters", 0), ("spread", 1.5), ("least_bits", 9), ("entropy_share", -1)]
)
def test_constants_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"rs-prune's {name}"):
        rs_prune(np.ones((9, 2)), 3, seed=0, **{name: value})
