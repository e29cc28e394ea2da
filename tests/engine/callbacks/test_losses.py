"""The training loss at a finer resolution than in the history."""

from __future__ import annotations

import numpy as np
import pytest

from super_selfish.engine.callbacks.losses import Steps
from super_selfish.supervisors import RotateNetSupervisor


def test_points_are_means_since_the_previous_point() -> None:
    class Run:
        class loader:  # noqa: N801 - an attribute
            batches = 4

        losses: list[float] = []  # noqa: RUF012
        steps = finished_epochs = 0

        def mean_loss(self) -> float:
            return sum(self.losses) / len(self.losses)

    run, steps = Run(), Steps(every=2)
    for epoch in ([1.0, 3.0, 5.0, 7.0], [2.0, 4.0, 0.0, 0.0]):
        run.losses = []
        for loss in epoch:
            run.losses.append(loss)
            run.steps += 1
            steps.on_step_end(run)  # type: ignore[arg-type]
        run.finished_epochs += 1
    assert steps.points == [(0.5, 2.0), (1.0, 6.0), (1.5, 3.0), (2.0, 0.0)]


def test_mean_of_the_points_equals_the_history() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
    steps, supervisor = Steps(every=1), RotateNetSupervisor(images, backbone="small_resnet")
    supervisor.supervise(epochs=2, batch_size=4, callbacks=[steps], verbose=False)
    assert [epoch for epoch, _ in steps.points] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    losses = np.array([loss for _, loss in steps.points]).reshape(2, 3).mean(axis=1)
    assert losses == pytest.approx([entry["loss"] for entry in supervisor.history])
