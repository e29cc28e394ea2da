"""Synchronisation of processes, once per step: mean gradients, mean loss, and whether to stop."""

from __future__ import annotations

from collections.abc import Sequence
from signal import Signals

import torch
from torch import Tensor, nn

from super_selfish.distributed import mean_of_ranks, world
from super_selfish.distributed.tensors import communication_device
from super_selfish.engine.loop.losses import EpochLosses
from super_selfish.engine.loop.signals import Stop
from super_selfish.engine.optim.optimizers import parameters_of
from super_selfish.errors import ConfigurationError

_SHOWN = 4  # number of parameters in a message


class Exchange:
    """Averages gradients over processes, once per step and parameter.

    Args:
        supervisor: The supervisor that is trained, for the names of its parameters.

    Attributes:
        agreed: Whether all processes have received the request to stop.
        was_requested: Whether :meth:`mean_of` was called for this step.
    """

    def __init__(self, supervisor: nn.Module) -> None:
        self.agreed = self.was_requested = False
        self._exchanged: set[int] = set()
        self._names = {id(weight): name for name, weight in supervisor.named_parameters()}

    def begin(self) -> None:
        """Start the next step."""
        self._exchanged.clear()
        self.was_requested = False

    def mean(self, optimizers: Sequence[torch.optim.Optimizer], losses: EpochLosses, stop: Stop) -> None:
        """Replace gradients and pending loss by their means over processes; no effect in a single process.

        Args:
            optimizers: Optimizers of the gradients. Gradients already averaged in this step are left out.
            losses: The losses of the epoch.
            stop: Receives the request to stop of any process.

        Raises:
            ConfigurationError: If a parameter has a gradient on some ranks only.
        """
        if world() == 1:
            return
        parameters = [weight for each in optimizers for weight in parameters_of(each)]
        parameters = [weight for weight in parameters if id(weight) not in self._exchanged]
        if parameters:
            self._mean(parameters, losses, stop)
            self._exchanged |= set(map(id, parameters))

    def mean_of(self, parameters: Sequence[Tensor], losses: EpochLosses, stop: Stop) -> None:
        """Like :meth:`mean`, for parameters that are updated by hand. Later calls in this step average them again.

        Raises:
            ConfigurationError: If a parameter has a gradient on some ranks only.
        """
        self.was_requested = True
        if world() > 1:
            self._mean(parameters, losses, stop)

    def refuse_local_update(self) -> None:
        """Refuse an update by hand from the gradients of one process.

        Raises:
            ConfigurationError: If there are several processes and :meth:`mean_of` was not called for this step.
        """
        if world() > 1 and not self.was_requested:
            raise ConfigurationError(
                "Each process has updated its weights by hand from its own gradients, so the weights differ.",
                expected="self.sync_gradients() after backward() and before each such update",
                received=f"stepped() on {world()} processes, without sync_gradients()",
            )

    def _mean(self, parameters: Sequence[Tensor], losses: EpochLosses, stop: Stop) -> None:
        used = torch.tensor([float(weight.grad is not None) for weight in parameters])
        gradients = [_gradient(weight) for weight in parameters if weight.requires_grad]
        device = gradients[0].device if gradients else torch.device("cpu")
        asked = torch.tensor([float(stop.received is not None)], device=communication_device(device))
        pending = None if self._exchanged else losses.pending
        loss = torch.zeros((), device=device) if pending is None else pending.clone()
        mean_of_ranks([asked, used := used.to(asked.device), *gradients, loss])
        self._take(parameters, used.tolist())
        if pending is not None:
            losses.replace_pending(loss)
        if float(asked) > 0:
            self.agreed = True
            stop.received = stop.received or Signals.SIGTERM

    def _take(self, parameters: Sequence[Tensor], used: Sequence[float]) -> None:
        """Remove the gradients of parameters that no rank uses.

        Raises:
            ConfigurationError: If some ranks use a parameter and others do not.
        """
        differing = [weight for weight, share in zip(parameters, used, strict=True) if 0.0 < share < 1.0]
        if differing:
            names = [self._names.get(id(weight), f"a tensor of shape {tuple(weight.shape)}") for weight in differing]
            raise ConfigurationError(
                f"Parameters have a gradient on some ranks only: {', '.join(names[:_SHOWN])}"
                + (f" and {len(names) - _SHOWN} more." if len(names) > _SHOWN else "."),
                expected="a loss that depends on the same parameters on all ranks",
                received=f"{len(names)} of {len(parameters)} parameters used by {world()} ranks differently",
                fix="Add 0 · output of the part that is left out to the loss, or use the same parts on all ranks.",
            )
        for weight, share in zip(parameters, used, strict=True):
            if not share:
                weight.grad = None


def _gradient(weight: Tensor) -> Tensor:
    """The gradient of a parameter; zeros, which it gets, if there is none: all ranks exchange the same numbers."""
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad
