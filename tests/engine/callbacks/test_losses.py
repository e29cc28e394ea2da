"""The training loss at a finer resolution than in the history."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from super_selfish.engine.callbacks.losses import Steps
from super_selfish.loading.loader import TrainState
from super_selfish.supervisors import RotateNetSupervisor
from super_selfish.training import Callback


def test_points_are_means_since_the_previous_point() -> None:
    class Run:
        class loader:  # noqa: N801 - an attribute
            batches = 4

        losses: list[float] = []  # noqa: RUF012
        start_epoch = 0
        train_state = TrainState()

        def mean_loss(self) -> float:
            return sum(self.losses) / len(self.losses)

    run, steps = Run(), Steps(every=2)
    for epoch in ([1.0, 3.0, 5.0, 7.0], [2.0, 4.0, 0.0, 0.0]):
        run.losses = []
        for loss in epoch:
            run.losses.append(loss)
            run.train_state.batch += 1
            if run.train_state.batch == 4:
                run.train_state.epoch, run.train_state.batch = run.train_state.epoch + 1, 0
            steps.on_step_end(run)  # type: ignore[arg-type]
    assert steps.points == [(0.5, 2.0), (1.0, 6.0), (1.5, 3.0), (2.0, 0.0)]


def test_mean_of_the_points_equals_the_history() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
    steps, supervisor = Steps(every=1), RotateNetSupervisor(images, backbone="small_resnet")
    supervisor.supervise(epochs=2, batch_size=4, callbacks=[steps], verbose=False)
    assert [epoch for epoch, _ in steps.points] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    losses = np.array([loss for _, loss in steps.points]).reshape(2, 3).mean(axis=1)
    assert losses == pytest.approx([entry["loss"] for entry in supervisor.history])


def test_points_continue_over_a_resume_in_mid_epoch() -> None:
    class Preempted(Exception):
        pass

    class Kill(Callback):
        def on_step_end(self, run: Any) -> None:
            if run.train_state.step == 3:
                raise Preempted

    def train(name: str, *callbacks: Callback) -> list[tuple[float, float]]:
        steps = Steps(every=2)
        torch.manual_seed(0)
        images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), np.uint8)
        supervisor = RotateNetSupervisor(images, backbone="small_resnet")
        run = {"epochs": 2, "batch_size": 4, "watch": 0, "verbose": False, "checkpoint_every": 1, "resume": "auto"}
        try:
            supervisor.supervise(**run, name=name, callbacks=[steps, *callbacks])
        except Preempted:
            steps.points.append((-1.0, 0.0))
        return steps.points

    whole = train("whole")
    assert train("parts", Kill())[0] == whole[0]
    rest = train("parts")
    assert [epochs for epochs, _ in rest] == [1.0, 1.5, 2.0]
    assert rest[1:] == whole[2:]
