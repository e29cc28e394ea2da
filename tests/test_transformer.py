"""Self-supervised features as a scikit-learn transformer."""

from __future__ import annotations

import copy
import io
import logging
import pickle
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from super_selfish.errors import ConfigurationError
from super_selfish.supervisors import Supervisor, all_supervisors
from super_selfish.transformer import SelfSupervisedFeatures

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
DAILY = ("rotate_net", "momentum_contrast")
SMALL: dict[str, dict[str, Any]] = {"contrastive_predictive_coding": {"embedding_size": 16, "patch_size": 8}}


def joblib_round_trip(thing: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(thing, file)
    file.seek(0)
    return joblib.load(file)


def pickle_round_trip(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


def small_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2))


def fitted(algorithm: str = "rotate_net", **arguments: Any) -> SelfSupervisedFeatures:
    return SelfSupervisedFeatures(algorithm, epochs=1, batch_size=6, **arguments).fit(IMAGES)


def test_pipeline() -> None:
    features = SelfSupervisedFeatures("rotate_net", epochs=1, batch_size=64)
    pipeline = make_pipeline(clone(features), LogisticRegression())
    pipeline.fit(IMAGES, np.arange(12) % 2)
    assert pipeline.predict(IMAGES[:3]).shape == (3,)
    step = pipeline[0]
    assert step.transform(IMAGES).shape == (12, step.n_features_out_)
    assert len(step.get_feature_names_out()) == step.n_features_out_
    assert features.get_params()["epochs"] == 1


def test_features_are_reproducible() -> None:
    first, second = (SelfSupervisedFeatures("rotate_net", epochs=1, seed=3).fit_transform(IMAGES) for _ in range(2))
    assert np.array_equal(first, second)


def test_unfitted_transformer_or_unknown_algorithm_raises() -> None:
    with pytest.raises(NotFittedError):
        SelfSupervisedFeatures().transform(IMAGES)
    with pytest.raises(ConfigurationError, match="rotate_net"):
        SelfSupervisedFeatures("rotatenet").fit(IMAGES)


@pytest.mark.parametrize(
    "algorithm",
    [name if name in DAILY else pytest.param(name, marks=pytest.mark.slow) for name in sorted(all_supervisors())],
)
def test_fitted_transformer_can_be_pickled(algorithm: str) -> None:
    features = fitted(algorithm, arguments=SMALL.get(algorithm))
    expected, labels = features.transform(IMAGES), np.arange(12) % 2
    for round_trip in (pickle_round_trip, joblib_round_trip, copy.deepcopy):
        copied = round_trip(features)
        assert np.array_equal(copied.transform(IMAGES), expected), round_trip
        assert np.array_equal(features.transform(IMAGES), expected), "the original is unchanged"
        assert copied.get_params() == features.get_params()
        assert copied.supervisor_.history == features.supervisor_.history
        pipeline = make_pipeline(copied, LogisticRegression().fit(expected, labels))
        assert np.array_equal(round_trip(pipeline).predict(IMAGES), pipeline.predict(IMAGES))
    again = make_pipeline(pickle_round_trip(features), LogisticRegression()).fit(IMAGES, labels)
    assert np.array_equal(again[0].transform(IMAGES), expected), "it can be fitted again, with the same seed"


def test_unfitted_transformer_can_be_pickled() -> None:
    copied = pickle_round_trip(SelfSupervisedFeatures("pirl", epochs=3))
    assert copied.get_params() == SelfSupervisedFeatures("pirl", epochs=3).get_params()
    with pytest.raises(NotFittedError):
        copied.transform(IMAGES)


@pytest.mark.parametrize("round_trip", [pickle_round_trip, joblib_round_trip, copy.deepcopy])
def test_custom_networks_are_pickled(round_trip: Any) -> None:
    features = fitted(
        backbone=small_network(), arguments={"predictor": nn.Linear(32, 4), "loss": nn.CrossEntropyLoss()}
    )
    copied = round_trip(features)
    assert np.array_equal(copied.transform(IMAGES), features.transform(IMAGES))
    assert copied.backbone is copied.supervisor_.model.backbone, "shared, as in the original"
    assert copied.arguments["predictor"] is copied.supervisor_.model.predictor
    assert copied.backbone is not features.backbone


def test_unpicklable_networks_raise() -> None:
    class Local(nn.Sequential):
        """A local class, which cannot be pickled."""

    features = fitted(backbone=Local(small_network()))
    with pytest.raises(ConfigurationError, match=r"backbone.*\.Local\."):
        pickle.dumps(features)
    assert np.array_equal(copy.deepcopy(features).transform(IMAGES), features.transform(IMAGES))
    with pytest.raises(ConfigurationError, match=r"loss.*<lambda>"):
        pickle.dumps(fitted(arguments={"loss": lambda logits, labels: logits.square().mean()}))
    features = fitted(backbone=small_network())
    features.supervisor_.model.predictor = nn.Linear(32, 4)
    with pytest.raises(ConfigurationError, match="rebuilt"):
        pickle.dumps(features)


def test_unavailable_device_falls_back_to_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    features = fitted().set_params(device="cuda:99")
    with caplog.at_level(logging.WARNING):
        copied = pickle_round_trip(features)
    assert "cuda:99" in caplog.text
    assert np.array_equal(copied.transform(IMAGES), features.transform(IMAGES))


@pytest.mark.parametrize(("device", "moved"), [("auto", True), (None, True), ("cpu", False)])
def test_device(device: str | None, moved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[torch.device] = []
    to = Supervisor.to

    def recording(supervisor: Supervisor, target: torch.device | str) -> Supervisor:
        if str(target) == "cuda":
            moves.append(torch.device(target))
            return supervisor
        return to(supervisor, target)

    monkeypatch.setattr("super_selfish.distributed.placement.available_gpu", lambda: torch.device("cuda"))
    monkeypatch.setattr(Supervisor, "to", recording)
    features = fitted(device=device)
    assert (moves == [torch.device("cuda")]) == moved
    moves.clear()
    copied = pickle_round_trip(features)
    assert (moves == [torch.device("cuda")]) == moved
    assert copied.get_params()["device"] == device
    assert clone(features).get_params()["device"] == device
