"""LARS: stochastic gradient descent with layer-wise adaptive learning rates, for large batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from super_selfish.errors import ConfigurationError


class LARS(torch.optim.Optimizer):
    """Stochastic gradient descent with momentum and layer-wise adaptive rate scaling.

    ``v ← μ·v + lr · q · (g + λ·w)`` and ``w ← w - v``, with ``q = η·‖w‖ / ‖g + λ·w‖``, or 1 where either norm is 0.

    Args:
        params: Parameters or parameter groups to optimize. In a group with ``adapt=False``, q is 1.
        lr: Learning rate, above 0.
        momentum: Momentum factor μ, in [0, 1).
        weight_decay: Weight decay coefficient λ, at least 0.
        trust: Trust coefficient η, above 0.

    Raises:
        ConfigurationError: If an argument is out of range.

    Examples:
        >>> weight = torch.nn.Parameter(torch.full((2, 2), 3.0))
        >>> weight.grad = torch.ones(2, 2)
        >>> LARS([weight], lr=1.0, trust=0.5).step()
        >>> weight[0, 0].item()
        1.5

    References:
        You, Gitman and Ginsburg, "Large Batch Training of Convolutional Networks", 2017, algorithm 1. Norms and biases
        are excluded from the adaptation as in Grill et al., "Bootstrap Your Own Latent", 2020, appendix J.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.2,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": True}
        ranges = {"lr": lr > 0, "momentum": 0 <= momentum < 1, "weight_decay": weight_decay >= 0, "trust": trust > 0}
        for name, is_valid in ranges.items():
            if not is_valid:
                raise ConfigurationError(
                    f"`{name}` is out of range.",
                    expected="lr and trust above 0, momentum in [0, 1), weight_decay of at least 0",
                    received=f"{name}={defaults[name]!r}",
                )
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Perform one optimization step on all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)
        return loss

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if group["weight_decay"]:
            gradient = gradient.add(weight, alpha=group["weight_decay"])
        rate: Tensor | float = group["lr"]
        if group["adapt"]:
            weight_norm, gradient_norm = weight.norm(), gradient.norm()
            adaptive = group["trust"] * weight_norm / gradient_norm
            both_positive = (weight_norm > 0) & (gradient_norm > 0)
            rate = rate * torch.where(both_positive, adaptive, torch.ones_like(weight_norm))
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        velocity = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient * rate)
        weight.sub_(velocity)
