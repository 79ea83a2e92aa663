"""Tasks are drawn as the protocol says, and the classifiers do what they claim on them."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from swath.errors import InputError, LabelError
from swath.few_shot import draw_episode, episode_accuracy, nearest_neighbour, nearest_prototype, transductive

CLASSES = np.repeat(np.arange(8), 100)


def features_of(spread=1.0, seed=0, width=32):
    random = np.random.default_rng(seed)
    return 1 + random.normal(size=(8, width))[CLASSES] + spread * random.normal(size=(800, width))


def task(features, seed=0, **options):
    episode = draw_episode(CLASSES, np.random.default_rng(seed), **options)
    return (
        features[episode.support],
        episode.support_classes,
        features[episode.queries],
        episode.query_classes,
    )


@pytest.mark.parametrize("concentration", [None, 2.0])
def test_tasks_have_their_numbers_and_no_scene_twice(concentration):
    sizes = []
    for seed in range(30):
        episode = draw_episode(CLASSES, np.random.default_rng(seed), shots=5, concentration=concentration)
        rows = np.concatenate([episode.support, episode.queries])
        assert len(np.unique(rows)) == len(rows) == 100
        assert np.bincount(episode.support_classes).tolist() == [5] * 5
        # one class of the data for each class of the task
        pairs = {
            (mine, int(CLASSES[row]))
            for mine, row in zip(
                np.concatenate([episode.support_classes, episode.query_classes]).tolist(), rows, strict=True
            )
        }
        assert len(pairs) == 5
        sizes.append(np.bincount(episode.query_classes, minlength=5))
    uneven = np.ptp(sizes, axis=1)
    assert (uneven == 0).all() if concentration is None else (uneven.mean() > 10)


def test_scenes_without_a_class_and_classes_with_too_few_scenes_are_never_drawn():
    classes = CLASSES.copy()
    classes[CLASSES == 3] = -1
    classes[700:790] = -1  # leaves ten scenes of class 7
    for seed in range(20):
        episode = draw_episode(classes, np.random.default_rng(seed))
        assert not np.isin(classes[np.concatenate([episode.support, episode.queries])], [-1, 7]).any()


def test_baselines_are_those_of_scikit_learn():
    features = features_of(1.5)
    support, classes, queries, _ = task(features, shots=5)

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    expected = KNeighborsClassifier(1).fit(unit(support), classes).predict(unit(queries))
    np.testing.assert_array_equal(nearest_neighbour(support, classes, queries), expected)
    expected = NearestCentroid().fit(unit(support), classes).predict(unit(queries))
    np.testing.assert_array_equal(nearest_prototype(support, classes, queries), expected)


def test_baselines_look_at_each_query_alone_and_transduction_does_not():
    features = features_of(2.0)
    support, classes, queries, _ = task(features)
    for classify in (nearest_neighbour, nearest_prototype):
        alone = [classify(support, classes, query[None])[0] for query in queries]
        np.testing.assert_array_equal(classify(support, classes, queries), alone)
    order = np.random.default_rng(1).permutation(len(queries))
    together = transductive(support, classes, queries)
    # the order of the queries is nothing it may use
    assert (transductive(support, classes, queries[order]) == together[order]).mean() > 0.97


def test_balance_is_kept_where_it_is_assumed():
    support, classes, queries, _ = task(features_of(1.5))
    counts = np.bincount(transductive(support, classes, queries), minlength=5)
    assert abs(counts - 15).max() <= 4


def test_the_assumption_of_balance_helps_where_it_holds_and_costs_where_it_does_not():
    features = features_of(1.5)
    even = episode_accuracy(features, CLASSES, episodes=25)
    uneven = episode_accuracy(features, CLASSES, episodes=25, concentration=0.5)

    def gain(table):
        return table["transductive, balanced"]["accuracy"] - table["transductive, any balance"]["accuracy"]

    assert gain(uneven) < 0 <= gain(even)
    assert even["transductive, balanced"]["accuracy"] > even["nearest-prototype"]["accuracy"]


def test_tasks_follow_from_the_seed_and_intervals_from_their_spread():
    features, seen = features_of(), []

    def spy(support, classes, queries):
        seen.append(queries)
        return np.arange(len(queries)) % 5 if len(seen) % 2 else np.zeros(len(queries), int)

    table = episode_accuracy(features, CLASSES, episodes=4, classifiers={"spy": spy})
    assert table["spy"]["accuracy"] == pytest.approx(0.2)
    first = list(seen)
    seen.clear()
    again = episode_accuracy(features, CLASSES, episodes=4, classifiers={"spy": spy})
    assert all(np.array_equal(one, other) for one, other in zip(first, seen, strict=True))
    assert again == table
    values = iter([15, 30, 45, 60])

    def right(support, classes, queries):
        count = next(values)
        return np.where(np.arange(75) < count, np.repeat(np.arange(5), 15), 9)

    half = episode_accuracy(features, CLASSES, episodes=4, classifiers={"r": right})["r"]["half_width"]
    assert half == pytest.approx(1.96 * np.std([0.2, 0.4, 0.6, 0.8], ddof=1) / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": 9}, "8 classes have the 16 scenes"),
        ({"shots": 90}, "0 classes have the 105 scenes"),
        ({"ways": 1}, "2 ways or more"),
        ({"concentration": 0.0}, "above 0"),
        ({"episodes": 1}, "expected 2"),
    ],
)
def test_tasks_that_cannot_be_drawn_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        episode_accuracy(features_of(), CLASSES, **options)


def test_features_and_classes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="one integer each"):
        episode_accuracy(features_of(), CLASSES[:5])
    with pytest.raises(InputError, match="without a gap"):
        transductive(np.eye(2), [0, 2], np.eye(2))
    with pytest.raises(InputError, match="same number of features"):
        nearest_prototype(np.eye(2), [0, 1], np.eye(3))


def test_an_encoder_is_tested_on_the_scenes_of_a_source(tmp_path, monkeypatch):
    import swath
    from swath.scenes.memory import ArrayScenes
    from swath.tasks.few_shot import few_shot, scene_features

    monkeypatch.setenv("SWATH_CACHE", str(tmp_path))
    random = np.random.default_rng(0)
    index = np.repeat(np.arange(3), 12)
    images = random.integers(0, 10, (36, 3, 16, 16)) + 60 * np.eye(3, dtype=int)[index][:, :, None, None]
    scenes = ArrayScenes(images.astype(np.uint8), swath.LabelTable.from_class_index("abc", index))
    contract = scenes.contract.with_statistics([0.4] * 3, [0.2] * 3)
    model = swath.build_model("small_resnet", contract, size=16).eval()
    features, _ = scene_features(model, scenes, batch_size=5)
    # a scene alone has the features that it has among others
    from torch import from_numpy

    one = model.features(from_numpy((images[7:8] / 255 - 0.4) / 0.2).float()).detach().numpy()
    np.testing.assert_allclose(features[7:8], one, rtol=1e-4, atol=1e-5)
    table = few_shot(model, scenes, ways=3, queries=3, episodes=5)
    assert table["nearest-prototype, decentralised"]["accuracy"] > 0.9
    scenes.labels = swath.LabelTable(("a", "b"), random.integers(0, 2, (36, 2)))
    with pytest.raises(LabelError, match="multi-label"):
        few_shot(model, scenes)
