"""Trainings of a comparison: length, deadline, evaluation, and one comparison from end to end."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import super_selfish
from super_selfish.comparison.images import Images
from super_selfish.comparison.session import Once
from super_selfish.comparison.trials import Deadline, Trials, length
from super_selfish.engine import tuning
from super_selfish.supervisors import RotateNetSupervisor, all_supervisors

COUNT = 40


def network() -> nn.Module:
    """A network whose updates take milliseconds."""
    layers = [nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 2, stride=2), nn.ReLU()]
    return nn.Sequential(*layers)


def images(count: int = COUNT) -> tuple[Any, Any]:
    """Images with a bright square whose brightness is the class."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    pixels = generator.integers(0, 60, (count, 32, 32, 3)).astype(np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        row, column = generator.integers(0, 16, 2)
        image[row : row + 12, column : column + 12] += np.uint8(60 + 100 * label)
    return pixels, labels


class Clock:
    """A clock that advances by a step whenever it is read."""

    def __init__(self, step: float) -> None:
        self.time, self.step = 0.0, step

    def __call__(self) -> float:
        self.time += self.step
        return self.time


def trials(now: Any = time.monotonic, backbone: Any = None) -> Trials:
    pixels, labels = images()
    data = Images(pixels, pixels[:8], pixels, labels)
    device = torch.device("cpu")
    return Trials(data, np.arange(COUNT), network() if backbone is None else backbone, 8, device, now=now)


def test_a_training_has_whole_epochs_of_about_the_planned_length() -> None:
    assert length(1000, 100, 57) == (1000, 5)
    for images_, batch, updates in [(1000, 100, 1), (1000, 100, 19), (1000, 100, 33), (37, 8, 3), (37, 8, 1000)]:
        count, epochs = length(images_, batch, updates)
        assert batch <= count <= images_
        made = epochs * (count // batch)
        assert 0.8 * updates - 1 <= made <= updates


def test_a_training_ends_at_its_deadline() -> None:
    found = trials(Clock(1.0))
    row = found.run("rotate_net", RotateNetSupervisor, 1, 0, 60.0)
    assert row.problem is None
    assert row.updates >= 1
    assert row.step_seconds is not None
    assert 1.0 <= row.step_seconds < 1.5  # the clock is read once per update, and once more per epoch
    assert row.seconds <= 66


def test_the_deadline_ends_an_epoch_in_the_middle() -> None:
    found, deadline = trials(), Deadline(5.0, Clock(1.0))
    supervisor = found.supervisor(RotateNetSupervisor, images()[0], 0)
    found._supervise(supervisor, 100, 0, deadline)
    assert len(deadline.times) <= 5


def test_an_algorithm_without_time_for_an_update_is_reported() -> None:
    row = trials(Clock(10.0)).run("rotate_net", RotateNetSupervisor, 1, 0, 20.0)
    assert row.problem is not None
    assert "too slow" in row.problem
    assert row.step_seconds is not None  # one update was made to measure the speed
    assert row.step_seconds == 10.0


def test_a_diverging_training_is_reported() -> None:
    class Infinite(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3 * 32 * 32, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.layer(x.flatten(1))
            return out * (float("nan") if self.training else 1.0)

    row = trials(backbone=Infinite()).run("rotate_net", RotateNetSupervisor, 1, 0, 20.0)
    assert row.problem is not None
    assert "NaN" in row.problem


def test_collapsed_features_are_reported() -> None:
    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(x), 4)

    assert trials().reference("own", Constant()).problem == "representation collapse"


def test_messages_pass_once_and_not_while_speed_is_measured() -> None:
    found = Once()
    record = logging.LogRecord("super_selfish", logging.WARNING, "", 0, "m=%g is slow", (0.9,), None)
    found.is_quiet = True
    assert not found.filter(record)
    found.is_quiet = False
    assert found.filter(record)
    assert not found.filter(record)


@pytest.mark.parametrize("name", all_supervisors())
def test_nothing_is_logged_about_arguments_or_the_number_of_images(
    name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_logged_hints", set())  # as in a new process
    found = trials()
    supervisor = found.supervisor(all_supervisors()[name], found.images.train, 0)
    found._supervise(supervisor, 1, 0, Deadline(1e3, most_steps=1))
    assert not caplog.records


def test_the_same_seed_starts_from_the_same_weights_and_others_do_not() -> None:
    found, pixels = trials(backbone="small_resnet"), images()[0]
    weights = [found.supervisor(RotateNetSupervisor, pixels, seed).model.backbone.state_dict() for seed in (0, 0, 1)]
    name = next(name for name, value in weights[0].items() if value.ndim == 4)
    assert torch.equal(weights[0][name], weights[1][name])
    assert not torch.equal(weights[0][name], weights[2][name])


def test_a_custom_network_is_copied_and_nothing_is_left_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    own = network()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    row = trials(Clock(1.0), own).run("rotate_net", RotateNetSupervisor, 2, 0, 60.0)
    assert row.updates > 0
    assert row.score is not None
    assert all(torch.equal(value, own.state_dict()[name]) for name, value in before.items())
    assert not any((tmp_path / "temporary").glob("super-selfish-*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(all_supervisors()))
def test_every_algorithm_is_trained_and_evaluated(name: str) -> None:
    row = trials(Clock(2.0), "small_resnet").run(name, all_supervisors()[name], 1, 0, 60.0)
    assert row.problem in (None, "representation collapse")
    assert row.updates > 0
    assert row.pretext
    assert row.score is not None


@pytest.mark.slow
def test_comparison_from_end_to_end_keeps_its_budget() -> None:
    pixels, labels = images(200)
    begin = time.monotonic()
    names = ["rotate_net", "exemplar_net", "moco"]
    given: dict[str, Any] = {"backbone": network(), "algorithms": names, "batch_size": 16}
    found = super_selfish.compare(pixels, (pixels, labels), "60s", **given)
    assert time.monotonic() - begin <= 1.1 * 60
    assert found.recommended is not None
    assert {row.stage for row in found.rows} == {0, 1, 2}
    assert Path("store/compare.html").is_file()
    begin = time.monotonic()
    again = super_selfish.compare(pixels, (pixels, labels), "60s", **given)
    assert time.monotonic() - begin < 30
    assert [row.name for row in again.rows] == [row.name for row in found.rows]
    assert again.recommended == found.recommended
