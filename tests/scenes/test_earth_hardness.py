"""The synthetic Earth is no exercise in mean colours: classes show in texture, shape and small areas."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from swath.scenes.earth import SyntheticEarth

SCENES = 800


@pytest.fixture(scope="module")
def earth():
    return SyntheticEarth(scenes=SCENES, seed=11)


def test_every_class_is_neither_rare_nor_everywhere(earth):
    share = earth.labels.state.mean(axis=0)
    assert share.min() > 0.08
    assert share.max() < 0.65
    per_scene = earth.labels.state.sum(axis=1)
    assert 2.8 < per_scene.mean() < 4.2
    assert per_scene.min() >= 1


def test_a_linear_model_on_band_means_stays_clearly_below_one_that_sees_texture(earth):
    images = np.stack(earth.read_many(range(SCENES))).astype(np.float32) * np.float32(1e-4)
    means = images.mean(axis=(2, 3))
    # What small filters see: fine and middling contrast, and the brightest and darkest small things.
    features = [means]
    for width in (2, 4):
        smooth = ndimage.uniform_filter(images, (0, 0, width, width))
        features.append(np.log(np.abs(images - smooth).mean(axis=(2, 3)) + 1e-4))
    features.append(
        np.percentile(images, [1, 10, 90, 99], axis=(2, 3)).transpose(1, 2, 0).reshape(SCENES, -1)
    )
    index = (images[:, 3] - images[:, 2]) / (images[:, 3] + images[:, 2])
    features.append(np.percentile(index, [1, 10, 50, 90, 99], axis=(1, 2)).T)
    state = earth.labels.state
    test = earth.columns["group"] % 4 == 0

    def mean_average_precision(values):
        precisions = []
        for column in range(state.shape[1]):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
            model.fit(values[~test], state[~test, column])
            probability = model.predict_proba(values[test])[:, 1]
            precisions.append(average_precision_score(state[test, column], probability))
        return float(np.mean(precisions))

    colours, textures = (
        mean_average_precision(means),
        mean_average_precision(np.concatenate(features, axis=1)),
    )
    assert colours < 0.65
    assert textures > colours + 0.1
