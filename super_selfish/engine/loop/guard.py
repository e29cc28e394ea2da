"""Handling of losses and gradients that are infinite or NaN."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from super_selfish.distributed.tensors import gather_objects
from super_selfish.engine.core.callback import RunView
from super_selfish.engine.optim.optimizers import parameters_of
from super_selfish.errors import ConfigurationError, NonFiniteLoss

logger = logging.getLogger("super_selfish")

_SHOWN = 16  # maximum number of logged image indices


class Guarded(RunView, Protocol):
    """The interface of a run for the guard."""

    def weights_state(self) -> str:
        """Describe the state of the weights when a step is rejected."""


class Guard:
    """Checks the loss and the gradients before each step, with one device synchronisation per step.

    The forward pass already updates batch norm statistics. If steps may be skipped, the buffers of the last good step
    are saved and restored.

    Args:
        policy: ``"raise"`` an error, ``"skip"`` the step, or ``"ignore"``: do not check.
        limit: Maximum number of skipped steps.
        networks: Networks whose buffers are restored when a step is skipped.

    Attributes:
        skipped: Number of skipped steps.
    """

    def __init__(self, policy: str, limit: int, networks: Sequence[nn.Module] = ()) -> None:
        self.policy = policy
        self.limit = limit
        self.networks = networks
        self.skipped = 0
        self._saved_buffers: list[tuple[Tensor, Tensor]] = []

    def snapshot(self) -> None:
        """Save the buffers of the networks."""
        self._saved_buffers = [(buffer, buffer.clone()) for network in self.networks for buffer in network.buffers()]

    def restore(self) -> None:
        """Restore the buffers saved by the last call of :meth:`snapshot`."""
        for buffer, saved in self._saved_buffers:
            buffer.copy_(saved)

    def passes(self, run: Guarded, optimizer: torch.optim.Optimizer, loss: Tensor | None) -> bool:
        """Return whether an optimizer may step. If the step is skipped, gradients are set to None.

        Args:
            run: The run.
            optimizer: The optimizer that is about to step.
            loss: The loss of the batch; None: unknown.

        Raises:
            ConfigurationError: If the first loss gave no parameter a gradient.
            NonFiniteLoss: If a value is not finite and the policy is ``"raise"``, or too many steps were skipped.
        """
        if run.steps == 0 and loss is not None:
            check_dependence(run.supervisor.parameters())
        if self.policy == "ignore" or _is_finite(optimizer, loss):
            return True
        self._handle_nonfinite(run)
        for weight in parameters_of(optimizer):
            weight.grad = None
        return False

    def check_loss(self, run: Guarded, loss: Tensor | None, *, made: bool = False) -> None:
        """Handle a step whose loss is not finite.

        Args:
            run: The run.
            loss: The loss of the batch; None: unknown.
            made: Whether the weights have already been updated, so that the step cannot be skipped.

        Raises:
            NonFiniteLoss: If the step cannot be skipped, or too many steps were skipped.
        """
        if self.policy != "ignore" and loss is not None and not torch.isfinite(loss):
            self._handle_nonfinite(run, made=made)

    def _handle_nonfinite(self, run: Guarded, *, made: bool = False) -> None:
        indices = [index for part in gather_objects(run.loader.last_indices) for index in part]
        where = (
            f"The loss or its gradients are not finite in epoch {run.train_state.epoch + 1}, batch "
            f"{run.train_state.batch + 1}, step {run.train_state.step + 1} "
            f"(mean loss of the epoch: {run.mean_loss():.4g})"
        )
        images = f"image indices {indices[:_SHOWN]}" + (
            f" and {len(indices) - _SHOWN} more" if len(indices) > _SHOWN else ""
        )
        remedy = "Lower `lr`, or set `clip_grad=1.0`."
        if self.policy == "raise" or made:
            raise NonFiniteLoss(f"{where}.", received=images, fix=f"{run.weights_state()} {remedy}")
        self.skipped += 1
        if self.skipped > self.limit:
            raise NonFiniteLoss(
                f"{where}, and {self.limit} updates were skipped already.",
                received=images,
                fix=f"{run.weights_state()} {remedy} Or raise `nonfinite_limit`.",
            )
        logger.warning("%s: the update is skipped (%d of at most %d). %s.", where, self.skipped, self.limit, images)


def check_dependence(parameters: Iterable[nn.Parameter]) -> None:
    """Check that the loss depends on the weights: that a parameter has a gradient.

    Raises:
        ConfigurationError: If none has one.
    """
    if all(weight.grad is None for weight in parameters):
        raise ConfigurationError(
            "The loss does not depend on the weights: no parameter has a gradient.",
            expected="a loss that is computed from the outputs of the networks",
            received="a loss without a path to the parameters, or gradients that were cleared before the step",
            fix="Remove `.detach()`, `.item()`, `torch.tensor(...)` and `torch.no_grad()` between networks and loss.",
        )


def _is_finite(optimizer: torch.optim.Optimizer, loss: Tensor | None) -> bool:
    gradients = [weight.grad for weight in parameters_of(optimizer) if weight.grad is not None]
    numbers = [torch.nn.utils.get_total_norm(gradients)] if gradients else []
    numbers += [] if loss is None else [loss]
    if not numbers:
        return True
    device = numbers[0].device
    return bool(torch.isfinite(torch.stack([number.detach().float().to(device) for number in numbers]).sum()))
