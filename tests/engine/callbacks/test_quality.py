"""History on disk, the quality of features every epoch, and a score now and then."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from super_selfish.engine.callbacks.quality import Probe, altered, images_to_watch
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.models import SmallResNet
from super_selfish.supervisors import RotateNetSupervisor

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
QUIET: dict[str, Any] = {"batch_size": 4, "verbose": False}


def rotate(images: Any = IMAGES) -> RotateNetSupervisor:
    torch.manual_seed(0)
    return RotateNetSupervisor(images, backbone=SmallResNet(width=4), predictor=nn.Linear(32, 4))


def test_the_history_is_a_table() -> None:
    supervisor = rotate().supervise(epochs=3, watch=8, **QUIET)
    rows = list(csv.DictReader(Path("store/base.history.csv").read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == [entry["loss"] for entry in supervisor.history]
    assert {"effective_rank", "uniformity", "alignment", "consistency", "std"} <= set(rows[0])
    supervisor.supervise(epochs=1, **QUIET)
    assert len(Path("store/base.history.csv").read_text().splitlines()) == 5


def test_watching_changes_nothing() -> None:
    first = rotate().supervise(epochs=2, watch=8, evaluate=Probe((IMAGES, np.arange(12) % 2), every=1), **QUIET)
    second = rotate().supervise(epochs=2, watch=0, **QUIET)
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())
    assert set(second.history[0]) < set(first.history[0])


def test_small_data_sets_are_not_watched_unasked() -> None:
    assert images_to_watch(rotate(), None) == 0
    assert images_to_watch(rotate(np.zeros((2000, 8, 8, 3), np.uint8)), None) == 100
    assert images_to_watch(rotate(), 500) == 12


def test_an_even_network_is_consistent() -> None:
    supervisor = RotateNetSupervisor(IMAGES, backbone=nn.Flatten(), predictor=nn.Linear(32 * 32 * 3, 4))
    supervisor.supervise(epochs=1, watch=12, **QUIET)
    entry = supervisor.history[0]
    assert 1 < entry["effective_rank"] <= 12
    assert 0 <= entry["consistency"] <= 1
    assert 0 < entry["alignment"] < 4


def test_altered_images_are_mirrored() -> None:
    ramp = torch.linspace(0, 1, 20).expand(1, 1, 20, 20)
    assert altered(ramp).shape == ramp.shape
    assert altered(ramp)[0, 0, 0, 0] > altered(ramp)[0, 0, 0, -1]


def test_scores_every_few_epochs() -> None:
    probe = Probe((IMAGES, np.arange(12) % 2), (IMAGES[:4], np.arange(4) % 2), every=2)
    history = rotate().supervise(epochs=3, evaluate=probe, **QUIET).history
    assert ["knn" in entry for entry in history] == [False, True, True]
    assert all(0 <= history[2][key] <= 1 for key in ("knn", "probe"))
    plain = rotate().supervise(epochs=1, evaluate=(IMAGES, np.arange(12) % 2), **QUIET)
    assert "probe" in plain.history[0]


def test_mistakes_are_told_before_training() -> None:
    supervisor = rotate()
    with pytest.raises(DataError, match="labels"):
        supervisor.supervise(evaluate=IMAGES, **QUIET)
    assert supervisor.cursor.step == 0
    with pytest.raises(ConfigurationError, match="watch"):
        supervisor.supervise(watch=-1, **QUIET)
    with pytest.raises(ConfigurationError, match="every"):
        Probe(IMAGES, every=0)


def test_advice_comes_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    rotate().supervise(epochs=4, batch_size=4, lr=1e-9)
    assert "without an upright" in capsys.readouterr().err
