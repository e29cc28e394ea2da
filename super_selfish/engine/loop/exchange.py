"""Synchronisation of processes, once per step: mean gradients, mean loss, and whether to stop."""

from __future__ import annotations

from collections.abc import Sequence
from signal import Signals

import torch

from super_selfish.distributed import mean_of_ranks, world
from super_selfish.distributed.tensors import communication_device
from super_selfish.engine.loop.losses import EpochLosses
from super_selfish.engine.loop.signals import Stop
from super_selfish.engine.optim.optimizers import parameters_of


class Exchange:
    """Averages gradients over processes, once per step and parameter.

    Attributes:
        agreed: Whether all processes have received the request to stop.
    """

    def __init__(self) -> None:
        self.agreed = False
        self._exchanged: set[int] = set()

    def begin(self) -> None:
        """Start the next step."""
        self._exchanged.clear()

    def mean(self, optimizers: Sequence[torch.optim.Optimizer], losses: EpochLosses, stop: Stop) -> None:
        """Replace gradients and pending loss by their means over processes; no effect in a single process.

        Args:
            optimizers: Optimizers of the gradients. Gradients already averaged in this step are left out.
            losses: The losses of the epoch.
            stop: Receives the request to stop of any process.
        """
        if world() == 1:
            return
        parameters = [weight for each in optimizers for weight in parameters_of(each)]
        parameters = [weight for weight in parameters if id(weight) not in self._exchanged]
        if not parameters:
            return
        gradients = [weight.grad for weight in parameters if weight.grad is not None]
        device = gradients[0].device if gradients else torch.device("cpu")
        asked = torch.tensor([float(stop.received is not None)], device=communication_device(device))
        pending = None if self._exchanged else losses.pending
        loss = torch.zeros((), device=device) if pending is None else pending.clone()
        mean_of_ranks([asked, *gradients, loss])
        if pending is not None:
            losses.replace_pending(loss)
        self._exchanged |= set(map(id, parameters))
        if float(asked) > 0:
            self.agreed = True
            stop.received = stop.received or Signals.SIGTERM
