"""Construction of optimizers; torch's fused implementation is used where only the speed differs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from super_selfish.distributed import world
from super_selfish.errors import ConfigurationError

OptimizerFactory = Callable[..., torch.optim.Optimizer]
"""Called as ``factory(parameters, lr=lr)``."""

_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad)
_IMPLEMENTATION_ARGUMENTS = {"fused", "foreach", "differentiable", "capturable"}
_DEVICES = {"cpu", "cuda"}


def make_optimizer(
    factory: OptimizerFactory, groups: list[Any], lr: float, scaled: bool = False
) -> torch.optim.Optimizer:
    """Call an optimizer factory, with ``fused=True`` where torch supports it.

    On two CPU cores, a fused step of Adam over EfficientNet-B0 takes a quarter of the time. The fused implementation is
    used for Adam, AdamW, SGD and Adagrad, also in a ``functools.partial``, if all parameters are float32 and the
    factory does not set the implementation (``fused``, ``foreach``, ``differentiable`` or ``capturable``).

    Args:
        factory: Called as ``factory(groups, lr=lr)``.
        groups: Parameters or parameter groups.
        lr: Learning rate.
        scaled: Whether losses are scaled, or may be scaled by a custom update step. A fused optimizer skips overflowing
            steps internally, where they cannot be counted, so it is not used.
    """
    optimizer_class, arguments = factory, {}
    if isinstance(factory, functools.partial):
        optimizer_class, arguments = factory.func, factory.keywords
    parameters = [each for group in groups for each in (group["params"] if isinstance(group, dict) else [group])]
    supported = all(each.dtype == torch.float32 and each.device.type in _DEVICES for each in parameters)
    chosen = _IMPLEMENTATION_ARGUMENTS & set(arguments)
    if optimizer_class in _FUSED and supported and not scaled and not chosen:
        return factory(groups, lr=lr, fused=True)
    return factory(groups, lr=lr)


def lay_out_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Copy gradients of fused optimizers into the memory layout of their parameters.

    A fused step assumes equal strides. Gradients from autograd have them; gradients that are assigned by hand may not.
    """
    for group in optimizer.param_groups:
        if group.get("fused"):
            for weight in group["params"]:
                strided = weight.grad is not None and weight.grad.layout == torch.strided
                if strided and weight.grad.stride() != weight.stride():
                    weight.grad = torch.empty_like(weight).copy_(weight.grad)


def refuse_closure(given: Sequence[Any] = (), named: Mapping[str, Any] | None = None) -> None:
    """Raise an error for ``optimizer.step(closure)`` in distributed training.

    Gradients are averaged over the processes before the step, so the closure must not compute new ones.

    Args:
        given: Positional arguments of the step.
        named: Keyword arguments of the step.

    Raises:
        ConfigurationError: If an argument is callable and more than one process trains.
    """
    if world() > 1 and any(map(callable, [*given, *(named or {}).values()])):
        raise ConfigurationError(
            "`optimizer.step(closure)` is not supported with several processes: gradients are averaged before it.",
            expected="optimizer.step() without a closure",
            received="optimizer.step(closure)",
        )


def refuse_update_by_hand() -> None:
    """Refuse updates without ``optimizer.step()`` in several processes, whose gradients are exchanged before the step.

    Raises:
        ConfigurationError: If there are several processes.
    """
    if world() > 1:
        raise ConfigurationError(
            "Of several processes, gradients are exchanged before `optimizer.step()`.",
            expected="a step of an optimizer of torch",
            received="stepped()",
        )


def flat(value: Any) -> list[Any]:
    """Several things in lists, tuples and dictionaries as one list; one thing as a list of it, None as an empty one.

    Examples:
        >>> flat({"a": 1, "b": [2, 3]}), flat(4), flat(None)
        ([1, 2, 3], [4], [])
    """
    if value is None:
        return []
    if isinstance(value, Mapping):
        value = list(value.values())
    return [each for part in value for each in flat(part)] if isinstance(value, list | tuple) else [value]


def parameters_of(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """The parameters of all groups of an optimizer."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]
