"""Features as a step of a scikit-learn pipeline."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from super_selfish.errors import ConfigurationError
from super_selfish.transformer import SelfSupervisedFeatures

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)


def test_in_a_pipeline() -> None:
    features = SelfSupervisedFeatures("rotate_net", epochs=1, batch_size=64)
    pipeline = make_pipeline(clone(features), LogisticRegression())
    pipeline.fit(IMAGES, np.arange(12) % 2)
    assert pipeline.predict(IMAGES[:3]).shape == (3,)
    step = pipeline[0]
    assert step.transform(IMAGES).shape == (12, step.n_features_out_)
    assert len(step.get_feature_names_out()) == step.n_features_out_
    assert features.get_params()["epochs"] == 1


def test_the_same_seed_gives_the_same_features() -> None:
    first, second = (SelfSupervisedFeatures("rotate_net", epochs=1, seed=3).fit_transform(IMAGES) for _ in range(2))
    assert np.array_equal(first, second)


def test_mistakes() -> None:
    with pytest.raises(NotFittedError):
        SelfSupervisedFeatures().transform(IMAGES)
    with pytest.raises(ConfigurationError, match="rotate_net"):
        SelfSupervisedFeatures("rotatenet").fit(IMAGES)
