"""Names and arguments of supervisor classes, as they are stored in files."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from super_selfish.engine.core.setup import IMAGE_DEFAULTS, ImageOptions

_PACKAGE = "super_selfish."


def library_class(cls: type[nn.Module]) -> type[Any]:
    """Return the class of this library that ``cls`` is or derives from."""
    return next(base for base in cls.__mro__ if base.__module__.startswith(_PACKAGE))


def custom_names(cls: type[nn.Module]) -> set[str]:
    """Return the qualified names of ``cls`` and its base classes, as far as they are user-defined."""
    library = library_class(cls)
    return {base.__qualname__ for base in cls.__mro__ if issubclass(base, library) and base is not library}


def algorithm_name(cls: type[nn.Module]) -> str:
    """Return the class name in snake case without "Supervisor"."""
    name = library_class(cls).__name__.removesuffix("Supervisor")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() or "supervisor"


def full_signature(cls: type[nn.Module]) -> inspect.Signature:
    """Return the signature of the constructor with ``**images`` expanded to the image options."""
    signature = inspect.signature(cls.__init__)
    parameters = []
    for parameter in list(signature.parameters.values())[1:]:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and parameter.name == "images":
            parameters += [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
                for (name, annotation), default in zip(
                    ImageOptions.__annotations__.items(), IMAGE_DEFAULTS, strict=True
                )
            ]
        else:
            parameters.append(parameter)
    return inspect.Signature(parameters)


def recorded(constructor: Callable[..., None]) -> Callable[..., None]:
    """Decorate the constructor of a user-defined class so that its plain arguments are kept in ``own_arguments``."""
    if constructor.__module__.startswith(_PACKAGE):
        return constructor
    signature = inspect.signature(constructor)
    flexible = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

    @functools.wraps(constructor)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        constructor(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        _, *names = (name for name, each in signature.parameters.items() if each.kind not in flexible)
        found = {name: bound.arguments[name] for name in names if is_plain(bound.arguments[name])}
        self.own_arguments = {**self.own_arguments, **found}

    return wrapped


def is_plain(value: Any) -> bool:
    """Whether a value can be stored as JSON and is no path of a file or folder, which may be moved."""
    if isinstance(value, tuple | list):
        return all(map(is_plain, value))
    if isinstance(value, str):
        return not os.path.exists(value)  # noqa: PTH110 - text may be too long for a path
    return value is None or isinstance(value, bool | int | float)


def own_arguments(supervisor: Any) -> dict[str, Any]:
    """Return the plain values of the constructor arguments that only user-defined classes have, by name."""
    known = {*inspect.signature(library_class(type(supervisor)).__init__).parameters, *ImageOptions.__annotations__}
    known |= set(supervisor.user_arguments)
    return {name: value for name, value in supervisor.own_arguments.items() if name not in known}


def library_arguments(supervisor: Any) -> dict[str, Any]:
    """Return the plain values of the constructor arguments that the class of the library has, by name."""
    skipped = {"self", "dataset", "collate_fn", "setup", "model", "discriminator", "loss", "fake_loss"}
    return {
        name: getattr(supervisor, name)
        for name, parameter in inspect.signature(library_class(type(supervisor)).__init__).parameters.items()
        if name not in skipped | set(supervisor.user_arguments) and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def is_default(supervisor: Any, argument: str) -> bool:
    """Whether a constructor argument has the default value of the class of the library."""
    parameters = inspect.signature(library_class(type(supervisor)).__init__).parameters
    return bool(getattr(supervisor, argument) == parameters[argument].default)


def describe(value: Any) -> Any:
    """Describe a network or callable as JSON: None and strings are unchanged, others become their name.

    Criteria, transforms and recipes, which have no weights, are described by their settings.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, tuple | list):
        return [describe(part) for part in value]
    if isinstance(value, nn.Module) and next(value.parameters(), None) is not None:
        return {"own": type(value).__qualname__}
    described = getattr(value, "__qualname__", None) or " ".join(without_addresses(repr(value)).split())
    if isinstance(value, nn.Module):
        plain = {key: part for key, part in vars(value).items() if isinstance(part, int | float | str)}
        described += "".join(f" {key}={plain[key]!r}" for key in sorted(plain) if key[0] != "_" and key != "training")
    return {"own": described}


def without_addresses(text: str) -> str:
    """Remove memory addresses from a repr, which differ between processes."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def as_json(value: Any) -> Any:
    """Convert plain values to JSON types: tuples, arrays and tensors become lists."""
    if isinstance(value, dict):
        return {key: as_json(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | np.generic | Tensor):
        return as_json(value.tolist())
    return [as_json(part) for part in value] if isinstance(value, tuple | list) else value


def is_defined_with(cls: type, name: str, other: str) -> bool:
    """Whether a class or a subclass of it defines ``name`` that defines ``other``, in the method resolution order."""
    first, second = (next(i for i, base in enumerate(cls.__mro__) if each in vars(base)) for each in (name, other))
    return first <= second


def is_mean(criterion: object) -> bool:
    """Whether a criterion of torch or of this library averages over the batch; False: unknown.

    Examples:
        >>> is_mean(nn.CrossEntropyLoss()), is_mean(nn.CrossEntropyLoss(reduction="sum"))
        (True, False)
        >>> is_mean(sum)
        False
    """
    known = str(getattr(criterion, "__module__", "")).startswith(("torch.nn.", "super_selfish."))
    unweighted = getattr(criterion, "weight", None) is None
    return known and unweighted and getattr(criterion, "reduction", "mean") == "mean"
