"""Ending a training when a column of the history no longer improves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from super_selfish import load
from super_selfish.errors import ConfigurationError
from super_selfish.models import SmallResNet
from super_selfish.supervisors import RotateNetSupervisor
from super_selfish.training import Callback, Column, EarlyStopping

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
SCORES = [0.5, 0.6, 0.6, 0.55, 0.9, 0.9]


class Scores(Callback):
    """A column whose values are known, with no value in some epochs."""

    columns = {"score": Column("Score")}  # noqa: RUF012

    def __init__(self, scores: list[float | None]) -> None:
        self.scores = scores

    def on_epoch_end(self, run: Any) -> None:
        value = self.scores[run.resumed_epochs + run.finished_epochs - 1]
        if value is not None:
            run.supervisor.history[-1]["score"] = value


def train(scores: list[float | None], epochs: int = 6, **settings: Any) -> RotateNetSupervisor:
    stopping = EarlyStopping("score", patience=2, mode="max")
    supervisor = RotateNetSupervisor(IMAGES, backbone=SmallResNet(width=4))
    callbacks = [stopping, Scores(scores)][::-1]
    return supervisor.supervise(**{"epochs": epochs, "batch_size": 4, "watch": 0, "callbacks": callbacks} | settings)


@pytest.mark.parametrize(
    ("values", "options", "waited"),
    [
        ([], {}, 0),
        ([3.0], {}, 0),
        ([3.0, 2.0, 1.0], {}, 0),
        ([3.0, 2.0, 2.5, 2.0], {}, 2),
        ([3.0, 2.9, 2.8], {"min_delta": 0.5}, 2),
        ([3.0, 2.6, 2.3], {"min_delta": 0.5}, 0),
        ([0.1, 0.2, 0.15], {"mode": "max"}, 1),
        ([float("nan"), 1.0], {}, 0),
    ],
)
def test_values_without_improvement(values: list[float], options: dict[str, Any], waited: int) -> None:
    assert EarlyStopping(**options).values_without_improvement(values) == waited


def test_training_ends_as_if_complete(capsys: pytest.CaptureFixture[str]) -> None:
    supervisor = train([*SCORES])
    assert [entry["score"] for entry in supervisor.history] == SCORES[:4]
    assert supervisor.train_state.step == 8
    loaded = load("store/base", backbone=SmallResNet(width=4))
    assert loaded.train_state.epoch == 4
    assert not supervisor.training
    text = capsys.readouterr().err
    assert "Training ends after epoch 4 of 6: score has not improved on 0.6 for 2 epochs." in text
    assert "Stored in store/base" in text


def test_epochs_without_a_value_do_not_count() -> None:
    assert len(train([0.5, None, 0.4, None, None, 0.9]).history) == 6
    assert len(train([0.5, None, 0.4, None, 0.3, 0.9]).history) == 5


def test_a_training_that_ended_early_is_complete_when_it_is_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    first = train([*SCORES])
    capsys.readouterr()
    assert train([*SCORES], resume=True).train_state.step == first.train_state.step
    assert "already complete" in capsys.readouterr().err
    again = RotateNetSupervisor(IMAGES, backbone=SmallResNet(width=4))
    assert again.supervise(epochs=6, batch_size=4, resume=True).train_state.epoch == 6  # without the callback


def test_a_column_that_does_not_exist_is_an_error_after_the_first_epoch() -> None:
    supervisor = RotateNetSupervisor(IMAGES, backbone=SmallResNet(width=4))
    with pytest.raises(ConfigurationError, match=r"no column .lossy. to monitor.*Did you mean .loss."):
        supervisor.supervise(epochs=3, batch_size=4, verbose=False, callbacks=[EarlyStopping("lossy")])
    assert supervisor.train_state.epoch == 1


def test_a_request_of_another_process_ends_the_training_too(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = iter([None, None, "another process"])  # before training, and after each epoch
    monkeypatch.setattr("super_selfish.engine.loop.plan.gather_objects", lambda own: [own, next(requests)])
    supervisor = RotateNetSupervisor(IMAGES, backbone=SmallResNet(width=4))
    assert supervisor.supervise(epochs=6, batch_size=4, verbose=False).train_state.epoch == 2


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"min_delta": -1}, {"mode": "lowest"}, {"monitor": ""}])
def test_wrong_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        EarlyStopping(**wrong)
