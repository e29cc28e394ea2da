"""Construction of optimizers; torch's fused implementation is used where only the speed differs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from super_selfish.distributed import world
from super_selfish.engine.optim.schedules import SchedulerFactory
from super_selfish.errors import ConfigurationError

OptimizerFactory = Callable[..., torch.optim.Optimizer]
"""Called as ``factory(parameters, lr=lr)``."""

_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad)
IMPLEMENTATION_ARGUMENTS = {"fused", "foreach", "differentiable", "capturable"}
_DEVICES = {"cpu", "cuda"}


def listed_groups(groups: Iterable[Any]) -> list[Any]:
    """Return parameters or parameter groups in lists, so that they can be read several times.

    Args:
        groups: As torch's optimizers take them: parameters, ``(name, parameter)`` pairs or groups. Generators such as
            ``module.parameters()`` are allowed, also within groups.

    Raises:
        ConfigurationError: If there are no parameters.

    Examples:
        >>> layer = torch.nn.Linear(2, 1)
        >>> [len(group["params"]) for group in listed_groups([{"params": layer.parameters()}])]
        [2]
    """
    found: list[Any] = []
    for group in groups:
        if isinstance(group, Mapping):
            params = group["params"]
            found.append({**group, "params": [params] if isinstance(params, torch.Tensor) else _unnamed(params)})
        else:
            found += _unnamed([group])
    if not any(group["params"] if isinstance(group, dict) else True for group in found):
        raise ConfigurationError(
            "There are no parameters to train.",
            expected="at least one parameter that requires a gradient",
            received="no parameters, or all are frozen",
            fix="Set `requires_grad_(True)` on the parameters to train.",
        )
    return found


def _unnamed(params: Iterable[Any]) -> list[Any]:
    return [each[1] if isinstance(each, tuple) else each for each in params]


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

    Raises:
        ConfigurationError: If the factory returns something else than an optimizer.
    """
    optimizer_class, arguments = factory, {}
    if isinstance(factory, functools.partial):
        optimizer_class, arguments = factory.func, factory.keywords
    parameters = [each for group in groups for each in (group["params"] if isinstance(group, dict) else [group])]
    supported = all(each.dtype == torch.float32 and each.device.type in _DEVICES for each in parameters)
    chosen = IMPLEMENTATION_ARGUMENTS & set(arguments)
    fused = {"fused": True} if optimizer_class in _FUSED and supported and not scaled and not chosen else {}
    made = factory(groups, lr=lr, **fused)
    if not isinstance(made, torch.optim.Optimizer):
        raise ConfigurationError(
            "`optimizer` does not create an optimizer of torch.",
            expected="a factory that returns a torch.optim.Optimizer",
            received="None" if made is None else type(made).__name__,
            fix="Return the optimizer. One that wraps another is derived from torch.optim.Optimizer too.",
        )
    return made


def make_schedule(factory: SchedulerFactory, optimizer: torch.optim.Optimizer) -> Any:
    """Call a scheduler factory.

    Raises:
        ConfigurationError: If it returns None.
    """
    made = factory(optimizer)
    if made is None:
        raise ConfigurationError(
            "`lr_scheduler` returned None.",
            expected="a factory that returns a scheduler",
            received=f"lr_scheduler={factory!r}",
            fix="Return the scheduler, or pass lr_scheduler=None for a constant learning rate.",
        )
    return made


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


_NEED_ARGUMENTS = {
    "optimizer": (torch.optim.LBFGS, "Override `_update`, which calls step()."),
    "lr_scheduler": (
        torch.optim.lr_scheduler.ReduceLROnPlateau,
        "Override `_update`, or call `self._update(loss, optimizer, None)` and step() with the metric in `_epochs`.",
    ),
}


def steppable(optimizer: Any, lr_scheduler: Any) -> tuple[list[Any], list[Any]]:
    """Return the optimizers and the schedules in lists, after checking that their ``step()`` needs no argument.

    Args:
        optimizer: An optimizer, or several.
        lr_scheduler: A schedule, several, or None.

    Raises:
        ConfigurationError: If ``step()`` of one of them needs an argument.
    """
    for name, made in (("optimizer", optimizer), ("lr_scheduler", lr_scheduler)):
        kind, fix = _NEED_ARGUMENTS[name]
        for each in flat(made):
            if isinstance(each, kind):
                raise ConfigurationError(
                    f"`{name}` is a {type(each).__name__}, whose step() needs an argument.",
                    expected="a class whose step() needs no argument, such as Adam, SGD or CosineAnnealingLR",
                    received=type(each).__name__,
                    fix=f"Use such a class. {fix}",
                )
            if not callable(getattr(each, "step", None)):
                raise ConfigurationError(
                    f"`{name}` creates something without a step() method.",
                    expected="a factory of a torch.optim.lr_scheduler.LRScheduler",
                    received=repr(each),
                )
    return flat(optimizer), flat(lr_scheduler)


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


def stored_optimizers(module: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """Return optimizers among the attributes of a module, including lists, tuples and dictionaries of optimizers."""
    found: list[Any] = []
    for value in vars(module).values():
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
        found += [each for each in inner if isinstance(each, torch.optim.Optimizer)]
    return found
