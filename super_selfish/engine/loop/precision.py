"""Numerical precision of a run: autocasting and loss scaling."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from super_selfish.errors import ConfigurationError, NonFiniteLoss
from super_selfish.models.combined import CombinedNet

logger = logging.getLogger("super_selfish")

PRECISIONS = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}
"""Data types of the network layers. Weights, losses, normalisation, queues and banks are always float32."""

_SMALLEST_SCALE = 1.0


class Precision:
    """Runs networks in float32, bfloat16 or float16; with float16, losses are scaled to avoid gradient underflow.

    If scaled gradients overflow, the step is skipped and the scale halved, as is common in the first steps of a run.

    Args:
        kind: One of :data:`PRECISIONS`.
        device: Device of the networks.
        custom_update: Whether ``_update`` is overridden; an override cannot scale losses.

    Raises:
        ConfigurationError: If the device or the update does not support this precision.

    References:
        Micikevicius et al., "Mixed Precision Training", 2018.
    """

    def __init__(self, kind: str, device: torch.device, *, custom_update: bool = False) -> None:
        self.dtype = PRECISIONS[kind]
        self.scaler = torch.amp.GradScaler(device.type) if self.dtype is torch.float16 else None
        self._made = self._skipped = 0  # steps of the current pass over the data
        if self.dtype is torch.bfloat16 and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ConfigurationError(
                "This GPU does not support bfloat16.",
                expected='precision="16" or "32"',
                received=f'precision="bf16" on {torch.cuda.get_device_name(device)}',
            )
        if self.dtype is not None and not torch.amp.autocast_mode.is_autocast_available(device.type):
            raise ConfigurationError(
                f"Devices of type `{device.type}` support float32 only.",
                expected='precision="32"',
                received=f'precision="{kind}"',
            )
        if self.scaler is not None and custom_update:
            raise ConfigurationError(
                'precision="16" needs the library\'s own `_update`, which scales the loss.',
                expected='precision="bf16", which needs no scaling, or "32"',
                received='precision="16", and an override of `_update`',
            )

    @contextlib.contextmanager
    def applied(self, networks: nn.Module) -> Iterator[None]:
        """Context manager: all instances of :class:`CombinedNet` in a module run in this precision."""
        nets = [part for part in networks.modules() if isinstance(part, CombinedNet)]
        before = [net.lowered_to for net in nets]
        try:
            for net in nets:
                net.lowered_to = self.dtype
            yield
        finally:
            for net, dtype in zip(nets, before, strict=True):
                net.lowered_to = dtype

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a loss, scaled if needed."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Unscale gradients before clipping."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step(self, *optimizers: torch.optim.Optimizer) -> bool:
        """Step the optimizers, and return whether the weights were updated.

        Raises:
            NonFiniteLoss: If gradients overflow even at the smallest scale.
        """
        if self.scaler is None:
            for optimizer in optimizers:
                optimizer.step()
            return True
        done: list[bool] = []
        for optimizer in optimizers:
            handle = optimizer.register_step_post_hook(lambda *_: done.append(True))
            try:
                self.scaler.step(optimizer)
            finally:
                handle.remove()
        self.scaler.update()
        self._made, self._skipped = self._made + bool(done), self._skipped + (not done)
        if not done:
            self._report_skipped_step(self.scaler.get_scale())
        return bool(done)

    def _report_skipped_step(self, scale: float) -> None:
        if scale < _SMALLEST_SCALE:
            raise NonFiniteLoss(
                "Gradients are not finite, however the loss is scaled.",
                fix='The step was not made. Lower `lr`, set `clip_grad=1.0`, or train with precision="bf16".',
            )
        logger.info("Skipped a step whose gradients overflow float16. The loss scale is %g now.", scale)

    def close_pass(self) -> None:
        """Called after a pass over the data: log a warning if all its steps were skipped."""
        if self.scaler is not None and self._skipped and not self._made:
            logger.warning(
                "All %d steps of an epoch were skipped, because their gradients overflow float16. They do not count: "
                "neither the epoch nor the learning rate schedule advances. The loss scale is %g now. If this happens "
                'again, lower `lr`, set `clip_grad=1.0`, or train with precision="bf16".',
                self._skipped,
                self.scaler.get_scale(),
            )
        self._made = self._skipped = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the loss scaler."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of the loss scaler."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(state)
