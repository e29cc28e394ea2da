"""Monitors: spread of embeddings, feature metrics, scores."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from super_selfish.engine.callbacks.monitors import mirrored_crop, monitored_count, spread
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.models import SequentialUpTo, SmallResNet
from super_selfish.supervisors import (
    BYOLSupervisor,
    MomentumContrastSupervisor,
    RotateNetSupervisor,
    all_supervisors,
)
from super_selfish.training import Probe

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
LABELS = np.arange(12) % 2
QUIET: dict[str, Any] = {"batch_size": 4, "verbose": False}
SMALL: dict[str, dict[str, Any]] = {
    "exemplar_net": {"n_classes": 64, "n_trans": 1},
    "contrastive_predictive_coding": {"patch_size": 8},
}


def tinted(count: int = 64) -> np.ndarray:
    generator = np.random.default_rng(0)
    tints = generator.integers(0, 256, (count, 1, 1, 3))
    return np.clip(tints + generator.normal(0, 30, (count, 32, 32, 3)), 0, 255).astype(np.uint8)


def train(supervisor: Any, **settings: Any) -> Any:
    return supervisor.supervise(**{"epochs": 2, "batch_size": 16, "checkpoint_every": 0, "verbose": False} | settings)


def rotate(images: Any = IMAGES) -> RotateNetSupervisor:
    torch.manual_seed(0)
    return RotateNetSupervisor(images, backbone=SmallResNet(width=4), predictor=nn.Linear(32, 4))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Collapse warnings."""
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return [message for message in messages if "collapsed" in message]


def test_spread_is_one_minus_mean_cosine_similarity() -> None:
    rows = nn.functional.normalize(torch.randn(50, 8), dim=1)
    assert spread(7 * rows) == pytest.approx(1 - (rows @ rows.T).mean().item(), abs=1e-6)
    assert spread(torch.ones(5, 8)) == pytest.approx(0, abs=1e-12)


def test_collapse_of_byol_without_a_predictor(caplog: pytest.LogCaptureFixture) -> None:
    projector = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32))
    heads = SequentialUpTo(projector, nn.Identity())
    supervisor = BYOLSupervisor(tinted(), backbone=SmallResNet(width=4), embedding_size=32, predictor=heads)
    train(supervisor)
    [warning] = warnings_of(caplog)
    assert "predictor" in warning
    assert supervisor.history[0]["spread"] < 0.2


def test_collapse_of_moco_with_a_high_temperature(caplog: pytest.LogCaptureFixture) -> None:
    train(MomentumContrastSupervisor(tinted(), backbone=SmallResNet(width=4), t=10.0))
    [warning] = warnings_of(caplog)
    assert "t=10" in warning


def test_collapse_of_a_custom_head(caplog: pytest.LogCaptureFixture) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.randn(32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bias + 1e-3 * x[:, :1]

    heads = SequentialUpTo(nn.Sequential(nn.Linear(32, 32), Constant()), nn.Sequential(nn.Linear(32, 32)))
    supervisor = BYOLSupervisor(tinted(), backbone=SmallResNet(width=4), embedding_size=32, predictor=heads)
    train(supervisor, lr=1e-6, epochs=14)
    assert len(warnings_of(caplog)) == 1
    assert [entry["epoch"] for entry in supervisor.history if entry.get("collapsed")] == [13]  # after 50 steps


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("byol", "momentum_contrast", "pirl") else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted(all_supervisors())
    ],
)
def test_no_collapse_warning_with_default_settings(name: str, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    train(all_supervisors()[name](tinted(), backbone=SmallResNet(width=4), **SMALL.get(name, {})))
    assert warnings_of(caplog) == []


def test_spread_is_measured_for_algorithms_that_compare_embeddings() -> None:
    moco = train(MomentumContrastSupervisor(tinted(), backbone=SmallResNet(width=4)))
    assert all(0 <= entry["spread"] <= 1 for entry in moco.history)
    assert "spread" not in train(RotateNetSupervisor(tinted(), backbone=SmallResNet(width=4))).history[0]


def test_no_collapse_warning_for_custom_losses(caplog: pytest.LogCaptureFixture) -> None:
    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nn.functional.nll_loss(logits, target)

    train(MomentumContrastSupervisor(tinted(), backbone=SmallResNet(width=4), t=10.0, loss=loss))
    assert warnings_of(caplog) == []


def test_monitors_do_not_influence_the_training() -> None:
    first = rotate().supervise(epochs=2, watch=8, evaluate=Probe((IMAGES, LABELS), every=1), **QUIET)
    second = rotate().supervise(epochs=2, watch=0, **QUIET)
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())
    assert set(second.history[0]) < set(first.history[0])


@pytest.mark.parametrize(
    ("images", "asked", "count"), [(12, None, 0), (2000, None, 100), (9999, None, 256), (12, 500, 12)]
)
def test_number_of_monitored_images(images: int, asked: int | None, count: int) -> None:
    assert monitored_count(images, asked) == count


def test_metrics_of_raw_pixels_are_in_range() -> None:
    supervisor = RotateNetSupervisor(IMAGES, backbone=nn.Flatten(), predictor=nn.Linear(32 * 32 * 3, 4))
    entry = supervisor.supervise(epochs=1, watch=12, **QUIET).history[0]
    assert 1 < entry["effective_rank"] <= 12
    assert 0 <= entry["consistency"] <= 1
    assert 0 < entry["alignment"] < 4


def test_mirrored_crop_keeps_the_size() -> None:
    ramp = torch.linspace(0, 1, 20).expand(1, 1, 20, 20)
    mirrored = mirrored_crop(ramp)
    assert mirrored.shape == ramp.shape
    assert mirrored[0, 0, 0, 0] > mirrored[0, 0, 0, -1]


def test_probe_evaluates_every_few_epochs_and_the_last() -> None:
    probe = Probe((IMAGES, LABELS), (IMAGES[:4], LABELS[:4]), every=2)
    history = rotate().supervise(epochs=3, evaluate=probe, **QUIET).history
    assert ["knn" in entry for entry in history] == [False, True, True]
    assert all(0 <= history[2][key] <= 1 for key in ("knn", "probe"))


def test_evaluate_accepts_labelled_images() -> None:
    assert "probe" in rotate().supervise(epochs=1, evaluate=(IMAGES, LABELS), **QUIET).history[0]


def test_invalid_arguments_raise_before_training() -> None:
    supervisor = rotate()
    with pytest.raises(DataError, match="labels"):
        supervisor.supervise(evaluate=IMAGES, **QUIET)
    assert supervisor.train_state.step == 0
    with pytest.raises(ConfigurationError, match="watch"):
        supervisor.supervise(watch=-1, **QUIET)
    with pytest.raises(ConfigurationError, match="every"):
        Probe(IMAGES, every=0)
