"""Making the optimizer of a run: the fast form of those of torch, where nothing but the speed differs."""

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
_OWN_CHOICE = {"fused", "foreach", "differentiable", "capturable"}
_DEVICES = {"cpu", "cuda"}


def make_optimizer(
    factory: OptimizerFactory, groups: list[Any], lr: float, scaled: bool = False
) -> torch.optim.Optimizer:
    """Call a factory as ``factory(groups, lr=lr)``, asking for one kernel for all of a step where torch has it.

    On two CPU cores a step of Adam over EfficientNet-B0 takes a quarter of the time so. It is asked for of Adam, AdamW,
    SGD and Adagrad themselves, also in a ``functools.partial``, for float32 weights, unless the user chose a form.

    Args:
        factory: Called as ``factory(groups, lr=lr)``.
        groups: Parameters, or groups of them.
        lr: Learning rate.
        scaled: Whether losses are scaled, or may be by the user's own update: steps are left out then, which a fused
            step decides for itself, unseen.
    """
    plain, given = factory, {}
    if isinstance(factory, functools.partial):
        plain, given = factory.func, factory.keywords
    parameters = [each for group in groups for each in (group["params"] if isinstance(group, dict) else [group])]
    suits = all(each.dtype == torch.float32 and each.device.type in _DEVICES for each in parameters)
    if plain in _FUSED and suits and not scaled and not _OWN_CHOICE & set(given):
        return factory(groups, lr=lr, fused=True)
    return factory(groups, lr=lr)


def lay_out_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Give gradients the memory layout of their weights where a fused step would mix them up.

    Gradients that autograd makes have it; those that somebody puts there need not.
    """
    for group in optimizer.param_groups:
        if group.get("fused"):
            for weight in group["params"]:
                strided = weight.grad is not None and weight.grad.layout == torch.strided
                if strided and weight.grad.stride() != weight.stride():
                    weight.grad = torch.empty_like(weight).copy_(weight.grad)


def refuse_closure(given: Sequence[Any] = (), named: Mapping[str, Any] | None = None) -> None:
    """Refuse ``optimizer.step(closure)`` in several processes, whose gradients are exchanged before the step.

    Args:
        given: Arguments of the step.
        named: The others, by name.

    Raises:
        ConfigurationError: If there is a closure among them.
    """
    if world() > 1 and any(map(callable, [*given, *(named or {}).values()])):
        raise ConfigurationError(
            "Of several processes, gradients are exchanged before `optimizer.step()`.",
            expected="a step without a closure",
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
