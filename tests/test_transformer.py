"""Features as a step of a scikit-learn pipeline."""

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


def through_joblib(thing: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(thing, file)
    file.seek(0)
    return joblib.load(file)


def through_pickle(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


def small_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2))


def fitted(algorithm: str = "rotate_net", **arguments: Any) -> SelfSupervisedFeatures:
    return SelfSupervisedFeatures(algorithm, epochs=1, batch_size=6, **arguments).fit(IMAGES)


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


@pytest.mark.parametrize(
    "algorithm",
    [name if name in DAILY else pytest.param(name, marks=pytest.mark.slow) for name in sorted(all_supervisors())],
)
def test_a_fitted_one_can_be_stored(algorithm: str) -> None:
    features = fitted(algorithm, arguments=SMALL.get(algorithm))
    expected, labels = features.transform(IMAGES), np.arange(12) % 2
    for copied in (through_pickle, through_joblib, copy.deepcopy):
        twin = copied(features)
        assert np.array_equal(twin.transform(IMAGES), expected), copied
        assert np.array_equal(features.transform(IMAGES), expected), "the first is as before"
        assert twin.get_params() == features.get_params()
        assert twin.supervisor_.history == features.supervisor_.history
        pipeline = make_pipeline(twin, LogisticRegression().fit(expected, labels))
        assert np.array_equal(copied(pipeline).predict(IMAGES), pipeline.predict(IMAGES))
    again = make_pipeline(through_pickle(features), LogisticRegression()).fit(IMAGES, labels)
    assert np.array_equal(again[0].transform(IMAGES), expected), "it can be fitted, with the same seed"


def test_one_without_training_can_be_stored() -> None:
    twin = through_pickle(SelfSupervisedFeatures("pirl", epochs=3))
    assert twin.get_params() == SelfSupervisedFeatures("pirl", epochs=3).get_params()
    with pytest.raises(NotFittedError):
        twin.transform(IMAGES)


@pytest.mark.parametrize("copied", [through_pickle, through_joblib, copy.deepcopy])
def test_own_networks_are_stored_too(copied: Any) -> None:
    features = fitted(
        backbone=small_network(), arguments={"predictor": nn.Linear(32, 4), "loss": nn.CrossEntropyLoss()}
    )
    twin = copied(features)
    assert np.array_equal(twin.transform(IMAGES), features.transform(IMAGES))
    assert twin.backbone is twin.supervisor_.model.backbone, "as in the first"
    assert twin.arguments["predictor"] is twin.supervisor_.model.predictor
    assert twin.backbone is not features.backbone


def test_what_cannot_be_rebuilt_is_told_when_it_is_stored() -> None:
    class Local(nn.Sequential):
        """Pickle finds no class within a function."""

    features = fitted(backbone=Local(small_network()))
    with pytest.raises(ConfigurationError, match=r"`backbone` cannot be pickled.*Received: test_what.*\.Local\."):
        pickle.dumps(features)
    assert np.array_equal(copy.deepcopy(features).transform(IMAGES), features.transform(IMAGES))
    with pytest.raises(ConfigurationError, match=r"`loss` cannot be pickled.*<lambda>"):
        pickle.dumps(fitted(arguments={"loss": lambda logits, labels: logits.square().mean()}))
    features = fitted(backbone=small_network())
    features.supervisor_.model.predictor = nn.Linear(32, 4)
    with pytest.raises(ConfigurationError, match="could not be rebuilt"):
        pickle.dumps(features)


def test_a_device_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    features = fitted().set_params(device="cuda:99")
    with caplog.at_level(logging.WARNING):
        twin = through_pickle(features)
    assert "'cuda:99' cannot be used here" in caplog.text
    assert np.array_equal(twin.transform(IMAGES), features.transform(IMAGES))


@pytest.mark.parametrize(("device", "moved"), [("auto", True), (None, True), ("cpu", False)])
def test_cpu_means_the_cpu_and_auto_a_gpu_if_there_is_one(
    device: str | None, moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    twin = through_pickle(features)
    assert (moves == [torch.device("cuda")]) == moved
    assert twin.get_params()["device"] == device
    assert clone(features).get_params()["device"] == device
