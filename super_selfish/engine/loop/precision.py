"""The precision of a run: in which numbers networks compute, and how small gradients survive that."""

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
"""Of the layers of networks; weights, losses, normalisation, queues and banks are float32 in each case."""

_SMALLEST_SCALE = 1.0


class Precision:
    """Networks in float32, bfloat16 or float16; with float16, losses are scaled so that small gradients do not vanish.

    A step whose scaled gradients overflow is left out and the scale halved, which is usual in the first steps of a run.

    Args:
        kind: One of :data:`PRECISIONS`.
        device: Where the networks are.
        custom_update: Whether a user-supplied ``_update`` steps the optimizer; it cannot scale losses.

    Raises:
        ConfigurationError: If the device, or the update, cannot work with it.

    References:
        Micikevicius et al., "Mixed Precision Training", 2018.
    """

    def __init__(self, kind: str, device: torch.device, *, custom_update: bool = False) -> None:
        self.dtype = PRECISIONS[kind]
        self.scaler = torch.amp.GradScaler(device.type) if self.dtype is torch.float16 else None
        if self.dtype is torch.bfloat16 and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ConfigurationError(
                "This GPU does not compute with bfloat16.",
                expected='precision="16" or "32"',
                received=f'precision="bf16" on {torch.cuda.get_device_name(device)}',
            )
        if self.dtype is not None and not torch.amp.autocast_mode.is_autocast_available(device.type):
            raise ConfigurationError(
                f"Networks on `{device.type}` compute in float32 alone.",
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
        """Within the block, all :class:`CombinedNet` in a module compute in this precision."""
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
        """Gradients of a loss, scaled if need be."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Bring gradients to their own scale, before they are clipped."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step(self, *optimizers: torch.optim.Optimizer) -> bool:
        """Update the weights, and tell whether that was done.

        Raises:
            NonFiniteLoss: If gradients overflow though the loss is hardly scaled any more.
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
        if not done:
            self._report_skipped_step(self.scaler.get_scale())
        return bool(done)

    def _report_skipped_step(self, scale: float) -> None:
        if scale < _SMALLEST_SCALE:
            raise NonFiniteLoss(
                "Gradients are not finite, however the loss is scaled.",
                fix='The weights are those before. Lower `lr`, set `clip_grad=1.0`, or train with precision="bf16".',
            )
        logger.info("A step is left out: gradients overflow float16. The loss is scaled by %g from here.", scale)

    def state_dict(self) -> dict[str, Any]:
        """What is stored: the scale, and for how long it has been good."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a stored scale."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(state)
