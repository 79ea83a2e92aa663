"""From a network and a data set to the scenes to ask about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import swath
from swath.encoders import SceneModel, build_model
from swath.errors import ContractError, InputError
from swath.labels import LabelTable
from swath.scenes.memory import ArrayScenes
from swath.scenes.packing import pack
from swath.selection.asking import labelled_scenes, next_scenes
from swath.selection.query import STRATEGIES, query
from swath.selection.query_pool import QueryPool
from swath.training.predict import features, features_and_probabilities, probabilities


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def scenes(count: int = 24, split: list[str] | None = None) -> ArrayScenes:
    images = np.random.default_rng(0).integers(0, 255, (count, 3, 16, 16), np.uint8)
    labels = LabelTable.from_class_index(
        ("water", "forest"), np.where(np.arange(count) < 6, np.arange(count) % 2, -1)
    )
    return ArrayScenes(images, labels, columns={} if split is None else {"split": np.array(split)})


def network(source: ArrayScenes, *classes: str) -> SceneModel:
    contract = source.contract.with_statistics([0.5] * 3, [0.3] * 3)
    contract = contract.with_classes(classes or source.labels.classes, exclusive=True)
    return build_model("small_resnet", contract, size=16).eval()


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("boost", [1, 5])
def test_one_pass_finds_the_features_and_probabilities_of_two(exclusive: bool, boost: float) -> None:
    source = scenes()
    model = network(source)
    model.contract = model.contract.with_classes(("water", "forest"), exclusive=exclusive)
    model.boost(boost)
    store, rows = pack(source, 16), np.arange(24)
    seen, believed = features_and_probabilities(model, lambda some: store.batch(some, model.contract), rows)
    np.testing.assert_allclose(
        seen, features(model, lambda some: store.batch(some, model.contract), rows), rtol=1e-5
    )
    alone = probabilities(model, lambda some: store.batch(some, model.contract), rows)
    np.testing.assert_allclose(believed, alone, atol=1e-6)


@pytest.mark.parametrize("by", STRATEGIES)
def test_positions_are_those_of_the_query_over_what_the_network_sees(by: str) -> None:
    source = scenes()
    model, labelled = network(source), labelled_scenes(source.labels)
    store = pack(source, 16)
    found = features_and_probabilities(model, lambda some: store.batch(some, model.contract), np.arange(24))
    pool = QueryPool(labelled, *found)
    question = next_scenes(model, source, labelled, 5, by=by, seed=2)
    assert question.rows.tolist() == query(by, pool, 5, seed=2).tolist()
    assert pool.probability is not None
    np.testing.assert_array_equal(question.probability, pool.probability[question.rows])


def test_an_encoder_of_other_classes_gives_features_only() -> None:
    source = scenes()
    labelled, other = labelled_scenes(source.labels), network(source, "roof", "field", "road")
    assert next_scenes(other, source, labelled, 4).probability is None
    with pytest.raises(InputError, match="entropy needs probability"):
        next_scenes(other, source, labelled, 4, by="entropy")
    with pytest.raises(InputError, match="needs probability"):
        next_scenes(network(source), source, labelled, 4, by="margin", untrained=True)
    with pytest.raises(InputError, match=r"hssal needs features .* use random"):
        next_scenes(None, source, labelled, 4)


def test_only_training_scenes_are_asked_about_and_only_they_count() -> None:
    split = ["train"] * 12 + ["test"] * 6 + ["Train", ""] * 3
    source = scenes(split=split)
    allowed = np.char.lower(np.array(split)) == "train"
    labelled = labelled_scenes(source.labels)
    for model in (None, network(source)):
        rows = next_scenes(model, source, labelled, 9, by="random").rows
        assert sorted(rows) == np.flatnonzero(allowed & ~labelled).tolist()
        with pytest.raises(InputError, match="15 scenes of which 9 are not labelled"):
            next_scenes(model, source, labelled, 10, by="random")
    # Nor is a labelled scene outside a centre that others keep away from.
    among, model, other = np.arange(24) >= 4, network(source), labelled.copy()
    other[:4] = False
    found = [
        next_scenes(model, source, mask, 5, by="coreset", among=among).rows for mask in (labelled, other)
    ]
    np.testing.assert_array_equal(*found)


def test_masks_and_bands_that_do_not_fit_are_refused() -> None:
    source = scenes()
    masks: list[Any] = [np.zeros(3, bool), np.arange(24), np.zeros((24, 2), bool)]
    for mask in masks:
        with pytest.raises(InputError, match="one True or False for each of the 24 scenes"):
            next_scenes(None, source, mask, 1, by="random")
    other = ArrayScenes(np.zeros((24, 2, 16, 16), np.uint8) + 1, source.labels)
    with pytest.raises(ContractError):
        next_scenes(network(source), other, np.zeros(24, bool), 1)


def test_scenes_that_cannot_be_read_are_never_asked_about(tmp_path: Path) -> None:
    from PIL import Image

    lines = ["image,water,forest"]
    for number in range(10):
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,,")
    (tmp_path / "3.png").write_bytes(b"no image")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    source = swath.open_scenes(tmp_path)
    contract = source.contract.with_statistics([0.5] * 3, [0.3] * 3)
    model = build_model("small_resnet", contract, size=16).eval()
    question = next_scenes(model, source, np.arange(10) < 1, 8, skip_unreadable=True)
    assert sorted(question.rows) == [1, 2, 4, 5, 6, 7, 8, 9]
