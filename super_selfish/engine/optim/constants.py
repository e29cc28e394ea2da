"""Constants of callables, optimizers and schedules, which a resumed run compares with those of its checkpoint.

The name of a lambda, a closure or a class does not change with its constants. Their values do.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import itertools
import math
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from super_selfish.engine.optim.optimizers import IMPLEMENTATION_ARGUMENTS

Constants = dict[str, str]
"""Values as text by path, such as ``{"sigma": "2.0"}``."""

CODE, LITERALS = "code", "literals"
"""Last parts of the paths of constants that are comparable only within one version of Python."""

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_MOST = 1000  # number of constants per callable
_LONGEST = 200  # number of characters of a value; longer ones are hashed
_ELEMENTS = 4096  # number of elements of an array that are hashed
_FEW_ELEMENTS = 8  # arrays up to this size are shown
_MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))


def constants_of(value: object, name: str = "") -> Constants:
    """Return the constants of a callable, module or object as text.

    Lambdas and functions have the values of their closure, default arguments and literals, and of the global variables
    that they read; ``functools.partial`` has its arguments; objects have their attributes; criteria have their settings
    and buffers, and networks only their settings.

    Args:
        value: The callable, module or object.
        name: First part of each path.

    Examples:
        >>> def scaled(factor):
        ...     return lambda x: x * factor
        >>> constants_of(scaled(2.0))["factor"], constants_of(scaled(3.0))["factor"]
        ('2.0', '3.0')
    """
    found: Iterator[tuple[str, str]] = itertools.islice(_walk(value, name, set()), _MOST)
    if isinstance(value, nn.Module) and next(value.parameters(), None) is None:
        buffers = ((f"{name}.{key}".strip("."), _array(part)) for key, part in value.named_buffers())
        found = itertools.chain(found, buffers)
    return {path: text if len(text) <= _LONGEST else f"hash {_hash(text.encode())}" for path, text in found}


def constants_by_argument(arguments: Mapping[str, Any]) -> dict[str, Constants]:
    """Return the constants of user-supplied networks, criteria and callables, by argument; None has none."""
    return {name: constants_of(value) for name, value in arguments.items() if value is not None}


def constructed(optimizers: Sequence[torch.optim.Optimizer], schedulers: Sequence[Any]) -> dict[str, Constants]:
    """Return the constants of new optimizers and schedules, whatever created them.

    Arguments that select an implementation (``fused``, ``foreach``) and the length of the library's schedules, which
    follows that of the run, are left out.

    Args:
        optimizers: Optimizers before the first step.
        schedulers: Schedules before the first step.

    Examples:
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> made = constructed([torch.optim.SGD([weight], lr=0.1, weight_decay=0.5)], [])
        >>> made["optimizer"]["weight_decay"]
        '0.5'
    """
    found: dict[str, Constants] = {}
    for argument, things in (("optimizer", optimizers), ("lr_scheduler", schedulers)):
        for place, thing in enumerate(things):
            found[argument if len(things) == 1 else f"{argument}[{place}]"] = constants_of(thing)
    return found


def differences(here: Mapping[str, Constants], there: object, *, same_python: bool = True) -> list[str]:
    """Describe the constants that differ from stored ones.

    Args:
        here: Constants by argument.
        there: The same of the checkpoint; arguments and constants that it does not contain are not compared.
        same_python: Whether the checkpoint was written by the same version of Python.

    Examples:
        >>> differences({"optimizer": {"weight_decay": "0.5"}}, {"optimizer": {"weight_decay": "0.01"}})
        ['weight_decay of `optimizer` is 0.5 here and 0.01 in the checkpoint']
    """
    stored = there if isinstance(there, dict) else {}
    found: list[str] = []
    for argument, constants in here.items():
        theirs = stored.get(argument)
        theirs = theirs if isinstance(theirs, dict) else {}
        for path in constants:
            kind = path.rpartition(".")[2]
            comparable = path in theirs and (same_python or kind not in (CODE, LITERALS))
            if not comparable or constants[path] == theirs[path]:
                continue
            if kind == CODE and found:
                continue  # the code differs because of a value that is named already
            of = f"{path} of `{argument}`" if path else f"`{argument}`"
            found.append(f"{of} is {constants[path]} here and {theirs[path]} in the checkpoint")
    return found


def _walk(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, str]]:
    if isinstance(value, enum.Enum | torch.dtype | torch.device):
        yield path, str(value)
    elif isinstance(value, _PLAIN):
        yield path, repr(value)
    elif isinstance(value, np.generic):
        yield path, repr(value.item())
    elif isinstance(value, np.ndarray | torch.Tensor):
        yield path, _array(value)
    elif isinstance(value, type | types.BuiltinFunctionType):
        yield path, value.__qualname__
    elif id(value) not in seen:
        seen.add(id(value))
        yield from _parts(value, path, seen)


def _parts(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, str]]:
    parts: Iterator[tuple[str, Any]]
    if isinstance(value, set | frozenset):
        value = sorted(value, key=repr)
    if isinstance(value, torch.optim.Optimizer):
        parts = _of_optimizer(value)
    elif isinstance(value, Mapping):
        parts = ((str(key), part) for key, part in value.items())
    elif isinstance(value, list | tuple) and all(isinstance(part, _PLAIN) for part in value):
        yield path, repr([*value])
        return
    elif isinstance(value, list | tuple):
        parts = ((str(place), part) for place, part in enumerate(value))
    elif isinstance(value, functools.partial):
        parts = iter([("", value.func), ("arguments", value.args), *value.keywords.items()])
    elif isinstance(value, types.MethodType):
        parts = iter([("", value.__self__), ("method", value.__func__)])
    elif isinstance(value, types.FunctionType):
        yield path, value.__qualname__
        parts = _of_function(value)
    else:
        yield path, type(value).__qualname__
        parts = _of_object(value)
    for name, part in parts:
        yield from _walk(part, f"{path}.{name}".strip("."), seen)


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    defaults = function.__defaults__ or ()
    yield from zip(positional[len(positional) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        if cell != types.CellType():  # still empty
            yield name, cell.cell_contents
    if _is_installed(code.co_filename):
        return
    names = _names(code)
    for name in names:
        part = function.__globals__.get(name, types)
        is_own = isinstance(part, types.FunctionType) and not _is_installed(part.__code__.co_filename)
        if is_own or all(isinstance(each, _PLAIN) for each in (part if isinstance(part, tuple | list) else [part])):
            yield name, part
    yield LITERALS, [literal for literal in _literals(code) if literal != function.__doc__]
    yield CODE, _hash(repr(names).encode() + b"".join(each.co_code for each in _codes(code)))


def _of_object(value: Any) -> Iterator[tuple[str, Any]]:
    """Attributes of an object; of classes of installed packages, only the public ones."""
    cls = type(value)
    if dataclasses.is_dataclass(value):
        yield from ((each.name, getattr(value, each.name)) for each in dataclasses.fields(value) if each.compare)
    elif isinstance(value, torch.optim.lr_scheduler.LRScheduler):
        for name, part in sorted(vars(value).items()):
            if name == "optimizer":
                continue
            if name[0] != "_" or (isinstance(part, list | tuple) and not name.endswith("last_lr")):
                yield name, part
    elif isinstance(value, nn.Module):
        own = vars(value).items()
        yield from sorted((key, part) for key, part in own if key not in _MODULE_ATTRIBUTES and key[0] != "_")
        yield from value.named_children()
    elif not isinstance(value, types.ModuleType | torch.utils.data.Dataset):
        installed = _is_installed(str(getattr(sys.modules.get(cls.__module__), "__file__", None) or "installed"))
        slots = [name for base in cls.__mro__ for name in _slots(base) if hasattr(value, name)]
        own = {**{name: getattr(value, name) for name in slots}, **getattr(value, "__dict__", {})}.items()
        shown = ((key, part) for key, part in sorted(own) if not (key[:1] == "_" and installed))
        yield from ((key, part) for key, part in shown if not isinstance(part, torch.optim.Optimizer))


def _of_optimizer(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Any]]:
    groups = optimizer.param_groups
    for key in sorted({key for group in groups for key in group} - {"params", "lr", *IMPLEMENTATION_ARGUMENTS}):
        values = [group.get(key) for group in groups]
        yield key, values[0] if all(repr(value) == repr(values[0]) for value in values) else values
    if not all("initial_lr" in group for group in groups):
        yield "lr", [group["lr"] for group in groups]
    held = {"defaults", "state", "param_groups"}
    yield from ((key, part) for key, part in sorted(vars(optimizer).items()) if key not in held and key[0] != "_")


def _slots(cls: type) -> Sequence[str]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else [name for name in slots if not name.startswith("__")]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _codes(part)


def _literals(code: types.CodeType) -> list[Any]:
    found = (part for each in _codes(code) for part in each.co_consts)
    return [part for part in found if isinstance(part, int | float | complex | str | bytes | tuple)]


def _names(code: types.CodeType) -> list[str]:
    return sorted({name for each in _codes(code) for name in each.co_names})


def _is_installed(file: str) -> bool:
    """Whether code belongs to an installed package or to Python, so that its version is recorded elsewhere."""
    path = Path(file)
    library = Path(__file__).parents[2]
    standard = Path(sysconfig.get_paths()["stdlib"])
    return (
        file == "installed"
        or {"site-packages", "dist-packages"} & set(path.parts) != set()
        or any(folder in path.parents for folder in (library, standard))
    )


def _array(value: np.ndarray[Any, Any] | torch.Tensor) -> str:
    shape, count = tuple(value.shape), math.prod(value.shape)
    every = slice(None, None, max(1, math.ceil(count / _ELEMENTS)))
    chosen = value.detach().reshape(-1)[every] if isinstance(value, torch.Tensor) else np.asarray(value.flat[every])
    if count <= _FEW_ELEMENTS:
        return repr(chosen.tolist())
    return f"{value.dtype} {shape} hash {_hash(repr(chosen.tolist()).encode())}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
