"""Names and arguments of supervisor classes, in the form in which they are stored."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
from torch import Tensor, nn

from super_selfish.engine.core.setup import IMAGE_DEFAULTS, ImageOptions

_PACKAGE = "super_selfish."


def library_class(cls: type[nn.Module]) -> type[Any]:
    """The class of this library that ``cls`` is, or derives from."""
    return next(base for base in cls.__mro__ if base.__module__.startswith(_PACKAGE))


def custom_names(cls: type[nn.Module]) -> set[str]:
    """Qualified names of the user-defined classes among ``cls`` and those that it derives from."""
    library = library_class(cls)
    return {base.__qualname__ for base in cls.__mro__ if issubclass(base, library) and base is not library}


def algorithm_name(cls: type[nn.Module]) -> str:
    """The class name in snake case without "Supervisor"."""
    name = library_class(cls).__name__.removesuffix("Supervisor")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() or "supervisor"


def full_signature(cls: type[nn.Module]) -> inspect.Signature:
    """The constructor's signature with the image options written out instead of ``**images``."""
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


def describe(value: Any) -> Any:
    """A network or callable as JSON: None and names as they are, a network or a function by its name.

    Criteria, transforms and recipes, which have no weights, are described by their settings.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, tuple | list):
        return [describe(part) for part in value]
    if isinstance(value, nn.Module) and next(value.parameters(), None) is not None:
        return {"own": type(value).__qualname__}
    said = getattr(value, "__qualname__", None) or " ".join(without_addresses(repr(value)).split())
    if isinstance(value, nn.Module):
        plain = {key: part for key, part in vars(value).items() if isinstance(part, int | float | str)}
        said += "".join(f" {key}={plain[key]!r}" for key in sorted(plain) if key[0] != "_" and key != "training")
    return {"own": said}


def without_addresses(text: str) -> str:
    """A repr that is the same in another process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def as_json(value: Any) -> Any:
    """Plain values as JSON has them: tuples become lists."""
    if isinstance(value, dict):
        return {key: as_json(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | np.generic | Tensor):
        return as_json(value.tolist())
    return [as_json(part) for part in value] if isinstance(value, tuple | list) else value
