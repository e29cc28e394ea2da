"""Polyak averaging: an exponential moving average (EMA) of the weights, which often gives better features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from super_selfish.engine.core.base import SupervisorBase
from super_selfish.models.averages import momentum_copy, update_ema


def averaging(supervisor: SupervisorBase, polyak: float | None) -> Callable[[], None] | None:
    """Create or remove the average of a supervisor; returns the function to call after each step, or None."""
    if polyak is None:
        supervisor.average = None
        return None
    if supervisor.average is None:
        supervisor.average = momentum_copy(supervisor.model)

    def update() -> None:
        average = supervisor.average
        if average is not None:
            done = supervisor._train_state.step
            update_ema(average, supervisor.model, min(polyak, (1 + done) / (10 + done)))
            copy_buffers(average, supervisor.model)

    return update


@torch.no_grad()
def copy_buffers(average: nn.Module, network: nn.Module) -> None:
    """Copy the buffers of a network, such as batch norm statistics, to its average."""
    for own, other in zip(average.buffers(), network.buffers(), strict=True):
        own.copy_(other)
