"""A schedule of the library covers the whole run, for every algorithm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from super_selfish.engine.core.callback import Callback
from super_selfish.engine.optim.schedules import Schedule
from super_selfish.errors import ConfigurationError
from super_selfish.supervisors import RotateNetSupervisor, Supervisor

RUN = {"batch_size": 4, "watch": 0, "verbose": False, "checkpoint_every": 0}
LR = 1e-3
COSINE = [LR * (1 + math.cos(math.pi * step / 6)) / 2 for step in range(1, 7)]  # after each of six steps


class Rates(Callback):
    """The learning rates after each step, by parameter group."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def on_step_end(self, run: Any) -> None:
        self.rates.append([group["lr"] for group in run.optimizer.param_groups])

    def check(self, expected: list[float]) -> None:
        """Compare the rates of every group."""
        assert len(self.rates) == len(expected)
        for rates, value in zip(self.rates, expected, strict=True):
            assert rates == pytest.approx([value] * len(rates), abs=1e-9)


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_cosine_covers_the_run(make: Callable[..., Supervisor], images: Any, interval: str) -> None:
    rates, schedule = Rates(), Schedule("cosine")
    make(images(12)).supervise(
        lr=LR, epochs=2, lr_scheduler=schedule, scheduler_interval=interval, callbacks=[rates], **RUN
    )
    rates.check(COSINE if interval == "step" else [LR] * 2 + [LR / 2] * 3 + [0])
    assert schedule.total is None  # the next run has its own length


class Stop(Callback):
    def on_epoch_end(self, run: Any) -> None:
        raise KeyboardInterrupt


def rotate(cls: type[RotateNetSupervisor] = RotateNetSupervisor, count: int = 12) -> RotateNetSupervisor:
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    return cls(images, backbone=torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten()))


@pytest.mark.parametrize("epochs", [2, 4])
def test_a_resumed_run_has_the_schedule_of_its_epochs(epochs: int) -> None:
    rates, settings = Rates(), {"lr": LR, "lr_scheduler": Schedule("cosine"), **RUN, "checkpoint_every": None}
    with pytest.raises(KeyboardInterrupt):
        rotate().supervise(epochs=2, callbacks=[Stop()], **settings)
    used: list[float] = []

    class Own(RotateNetSupervisor):
        def _update(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer, lr_scheduler: Any) -> None:
            used.append(optimizer.param_groups[0]["lr"])
            super()._update(loss, optimizer, lr_scheduler)

    rotate(Own).supervise(epochs=epochs, resume=True, callbacks=[rates], **settings)
    steps = range(3, 3 * epochs)
    expected = [LR * (1 + math.cos(math.pi * step / (3 * epochs))) / 2 for step in [*steps, 3 * epochs]]
    rates.check(expected[1:])
    assert used == pytest.approx(expected[:-1])


class OwnLoader(RotateNetSupervisor):
    """Trains on a loader of its own, with other batches than `supervise` was given."""

    def _init_data_optimizer(self, optimizer: Any, *_: Any, **__: Any) -> Any:
        made = torch.optim.SGD(self.trainable_parameters(), lr=LR)
        return DataLoader(TensorDataset(torch.rand(12, 3, 32, 32), torch.arange(12) % 4), 2), made, self.schedule(made)

    def schedule(self, optimizer: torch.optim.Optimizer) -> Any:
        assert self.settings is not None
        return self.settings.lr_scheduler(optimizer)


class OwnSchedule(OwnLoader):
    def schedule(self, optimizer: torch.optim.Optimizer) -> Any:
        return Schedule("cosine", warm_up=0.5)(optimizer)


class TwoOptimizers(RotateNetSupervisor):
    def _init_data_optimizer(self, *given: Any, **named: Any) -> Any:
        loader, optimizer, _ = super()._init_data_optimizer(*given, **named)
        self.other = torch.optim.SGD(self.model.predictor.parameters(), lr=LR)
        schedule = Schedule("cosine")
        self.schedules = [schedule(optimizer), schedule(self.other)]
        return loader, optimizer, self.schedules

    def _update(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer, lr_scheduler: Any) -> None:
        loss.backward()
        for each in (optimizer, self.other):
            each.step()
        for each in lr_scheduler:
            each.step()


def test_the_length_is_that_of_a_custom_loader() -> None:
    rates = Rates()
    rotate(OwnLoader).supervise(epochs=1, lr_scheduler=Schedule("cosine"), callbacks=[rates], **RUN)
    rates.check(COSINE)


def test_a_schedule_made_in_the_stage_has_the_length_of_the_run() -> None:
    rates = Rates()
    rotate(OwnSchedule).supervise(epochs=1, callbacks=[rates], **RUN)
    assert [round(step[0] / LR, 4) for step in rates.rates] == [0.5, 0.75, 1.0, 0.75, 0.25, 0.0]


def test_two_optimizers_have_the_length_of_the_run() -> None:
    rates = Rates()
    own = rotate(TwoOptimizers).supervise(epochs=2, lr=LR, callbacks=[rates], **RUN)
    rates.check(COSINE)
    assert own.other.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_a_given_length_stays() -> None:
    rates = Rates()
    rotate().supervise(epochs=2, lr=LR, lr_scheduler=Schedule("cosine", total=12, batches=6), callbacks=[rates], **RUN)
    rates.check([LR * (1 + math.cos(math.pi * step / 12)) / 2 for step in range(1, 7)])


def test_without_a_run_the_length_is_needed() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = Schedule("cosine")(optimizer)
    optimizer.step()
    with pytest.raises(ConfigurationError, match="total="):
        scheduler.step()
    with pytest.raises(ConfigurationError, match="curve"):
        Schedule("cosin")
    Schedule()(optimizer).step()  # a constant needs none
