"""Features and entropy by shards: the same as all at once, kept, and gone on with after an interruption."""

from pathlib import Path

import numpy as np
import pytest

import swath
from swath.scenes.packed import PackedScenes
from swath.scenes.packing import cache_folder, pack
from swath.selection import measuring
from swath.selection.entropy import scene_entropy
from swath.training.predict import features
from swath.training.run import load_model

SCENES = "earth:scenes=60,size=16"
TRAINING = {"method": "all-known", "size": 16, "epochs": 1, "encoder": "small_resnet"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network."""
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_CACHE", str(folder / "cache"))
        swath.train(SCENES, out=folder / "run", **TRAINING)
    return folder / "run"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackedScenes:
    """Its scenes, and a cache that holds nothing else."""
    monkeypatch.setenv("SWATH_CACHE", str(tmp_path / "cache"))
    return pack(swath.open_scenes(SCENES), 16)


def test_shards_are_what_the_whole_would_be(
    store: PackedScenes, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(0).permutation(len(store))[:50]
    model = load_model(run)
    whole = features(model, lambda some: store.batch(some, model.contract), rows)
    monkeypatch.setattr(measuring, "SHARD", 16)
    found = measuring.measure(store, rows, run, bits=True)
    assert found.features is not None
    np.testing.assert_allclose(found.features, whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.bits, scene_entropy(store, rows))
    assert len(list(cache_folder().glob("measured/*/*.safetensors"))) == 4


def test_what_was_not_asked_for_is_not_computed(store: PackedScenes, run: Path) -> None:
    rows = np.arange(20)
    assert measuring.measure(store, rows, None, bits=True).features is None
    assert measuring.measure(store, rows, run).bits is None


def test_an_interrupted_call_goes_on_and_a_damaged_shard_is_computed_again(
    store: PackedScenes, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "SHARD", 16)
    rows, real, computed = np.arange(40), measuring._values, list[int]()

    def until_second(*arguments, **options):  # type: ignore[no-untyped-def]
        if len(computed) == 1:
            computed.append(0)
            raise KeyboardInterrupt
        computed.append(len(arguments[1]))
        return real(*arguments, **options)

    monkeypatch.setattr(measuring, "_values", until_second)
    with pytest.raises(KeyboardInterrupt):
        measuring.measure(store, rows, run, bits=True)
    first = measuring.measure(store, rows, run, bits=True)
    assert computed == [16, 0, 16, 8]
    (damaged,) = cache_folder().glob("measured/*/16.safetensors")
    damaged.write_bytes(damaged.read_bytes()[:100])
    again = measuring.measure(store, rows, run, bits=True)
    assert computed == [16, 0, 16, 8, 16]
    np.testing.assert_array_equal(first.features, again.features)
    np.testing.assert_array_equal(first.bits, again.bits)


def test_another_network_or_other_images_are_not_mistaken(
    store: PackedScenes, run: Path, tmp_path: Path
) -> None:
    rows = np.arange(20)
    one = measuring.measure(store, rows, run)
    swath.train(SCENES, out=tmp_path / "other", **TRAINING, seed=5)
    assert not np.allclose(one.features, measuring.measure(store, rows, tmp_path / "other").features)
    other = pack(swath.open_scenes(SCENES + ",seed=3"), 16)
    assert not np.allclose(one.features, measuring.measure(other, rows, run).features)
